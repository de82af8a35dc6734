# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Text as it comes from outside: what no tokenizer, file or request can hold is replaced in one place, by one rule."""

REPLACEMENT = "\ufffd"


def well_formed(text: str) -> str:
    r"""
    `text` with every lone surrogate replaced by U+FFFD, and the two halves of a character that stand side by side joined.

    Half of a character is what a cut in the middle of an emoji leaves behind (JavaScript's `slice`), and what JSON can
    write (`"\ud83d"`); UTF-8 cannot, so that tokenizers, files and requests fail on it. The rule is that of
    JavaScript's `toWellFormed` and of every web page. It holds wherever text comes in: data, prompts, `score`, `serve`. Any
    other text comes back as it is.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
