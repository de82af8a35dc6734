# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Checks that the tokens a server returned spell the text beside them; otherwise the score's place in the text does not tell its log-probabilities."""

import re
from collections.abc import Sequence

from real_trl.engines.distribution_checks import NoDistribution

_PART = "\ufffd"  # in the text of a token, bytes that are no whole character
_SPECIAL = re.compile(r"<[^<>\s]+>|\[[A-Z_/]+\]")  # a special token, which a server leaves out of the text
_END = re.compile(rf"(\s*({_SPECIAL.pattern}))+\s*")


def spelled(
    tokens: Sequence[bytes], text: str, *, finished: bool, after_thoughts: bool = False
) -> tuple[int, list[bytes]]:
    """
    The tokens that spell a text, which may lack white space and special tokens that are among them, a character of which they hold
    parts only, and, if the completion is `finished`, what ended it: the end of text, or a stop sequence. With `after_thoughts`, other tokens may
    stand before those of the text.

    Returns:
        How many tokens come before, and the tokens, the last of them cut where the text ends.

    Raises:
        [`NoDistribution`]: if they spell something else.
    """
    joined = b"".join(tokens).decode(errors="replace")
    start = 0
    if after_thoughts:
        start = joined.rfind(text.strip()) if text.strip() else len(joined)
    end = _end_of(text, joined, max(start, 0))
    if start < 0 or end is None or not (finished or not joined[end:].strip() or _END.fullmatch(joined[end:])):
        raise NoDistribution(
            f"the tokens that the server returned, {_shown(joined)}, do not spell its text, {_shown(text)}: it cannot be told where "
            "the score stands"
        )
    kept = list(tokens)
    if joined[end:].strip():
        while kept and len(b"".join(kept[:-1]).decode(errors="replace")) >= end:
            kept.pop()
        excess = len(b"".join(kept).decode(errors="replace")) - end
        if excess > 0:
            kept[-1] = kept[-1].decode(errors="replace")[:-excess].encode()
    skipped = 0
    while skipped < len(kept) and len(b"".join(kept[: skipped + 1]).decode(errors="replace")) <= start and start:
        skipped += 1
    return skipped, kept[skipped:]


def _end_of(text: str, joined: str, start: int) -> int | None:
    """Where `text` ends in `joined` that begins with it from `start` on; `None` if it does not."""
    text, at = text.strip(), start
    place = 0
    while place < len(text):
        if at == len(joined):
            return None
        if joined[at] == text[place]:
            at, place = at + 1, place + 1
        elif joined[at] == _PART:
            while at < len(joined) and joined[at] == _PART:
                at += 1
            while place < len(text) and not text[place].isascii() and text[place] != joined[at : at + 1]:
                place += 1
        elif joined[at].isspace():
            at += 1
        elif special := _SPECIAL.match(joined, at):
            at = special.end()
        else:
            return None
    return at


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:30]} … {text[-30:]}")
