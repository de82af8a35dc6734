# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The text in a file that may not be in UTF-8."""

import codecs
import re

_MARKED = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_HEAD = 12
_WORD = re.compile(r"\w*[^\W\x00-\x7f]\w*")


def decode(data: bytes, fallback: str | None = "cp1252") -> tuple[str, str | None]:
    """
    The text that `data` are: in UTF-8, or UTF-16 if they begin as such text does; else in the `fallback`, which of
    Windows-1252 has Latin-1 in it but for control characters.

    Returns:
        `tuple[str, str | None]`: the text, and what the user should know if the fallback was taken.

    Raises:
        `ValueError`: if they are text in none of these.
    """
    encoding = next((name for mark, name in _MARKED if data.startswith(mark)), "utf-8")
    if len(data) >= _HEAD and not any(data[1:_HEAD:2]):  # UTF-16 of letters in ASCII, without the mark
        encoding = "utf-16-le"
    elif len(data) >= _HEAD and not any(data[0:_HEAD:2]):
        encoding = "utf-16-be"
    try:
        return data.decode(encoding), None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        first = f"byte {error.start} (line {line})"
    damaged = data.decode("utf-8", "replace")
    # In other encodings, letters beyond ASCII hardly ever make a character of UTF-8
    mostly_utf8 = sum(letter > "\x7f" for letter in damaged) > 2 * damaged.count("\ufffd")
    if encoding != "utf-8" or fallback is None or mostly_utf8 or b"\0" in data:
        raise ValueError(f"not {encoding.removesuffix('-sig').upper()} text at {first}. Save the file as UTF-8.")
    try:
        text = data.decode(fallback)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"neither UTF-8 text at {first} nor Windows-1252 at byte {error.start}. Save the file as UTF-8."
        ) from error
    example = _WORD.search(text)
    shown = f" ({example[0]!r:.40})" if example else ""
    return text, f"not in UTF-8, so read as Windows-1252{shown}; if letters are wrong, save the file as UTF-8"
