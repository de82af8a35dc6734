# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Texts that stand where rationales should and are none: the score itself, a placeholder, the same text again and again."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SHARE = 0.1  # of the rows: up to here texts that are no rationale are exceptions, beyond it the column is none
SAME_SHARE = 0.5  # of the rows that may have one and the same text
_FEW = 10  # rows among which a text may repeat by chance
_PLACEHOLDERS = frozenset({"na", "nan", "none", "null", "nil", "empty", "todo", "tbd"})
# Words that say no more than that a number is a score: "Score: 4", "my overall rating is 4 out of 5 stars"
_SCORE_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "my",
        "your",
        "is",
        "was",
        "of",
        "out",
        "so",
        "overall",
        "final",
        "score",
        "scores",
        "scored",
        "rating",
        "rated",
        "grade",
        "graded",
        "mark",
        "marks",
        "point",
        "points",
        "star",
        "stars",
        "result",
    ]
)


class RationaleFault(NamedTuple):
    """What is wrong with a column of rationales: `what` in words, in which `share` of its rows, `example` as it stands there."""

    what: str
    share: float
    example: str


def is_rationale(text: str, labels: Iterable[str] = ()) -> bool:
    """
    Whether a text says anything about why a score is given.

    Args:
        text (`str`):
            The text, without the sentence that gives the score (see [`~real_trl.data_rows.strip_score_sentence`]).
        labels (`Iterable[str]`, *optional*):
            Labels of the scale, for those that are words ("good").
    """
    words = _words(text)
    if not any(char.isalpha() for word in words for char in word) or "".join(words) in _PLACEHOLDERS:
        return False
    named = [f" {' '.join(_words(label))} " for label in labels]
    left = f" {' '.join(words)} "
    for label in sorted(filter(str.strip, named), key=len, reverse=True):
        left = left.replace(label, " 0 ")
    gives_score = any(word[0].isdigit() for word in left.split())
    return not gives_score or any(word not in _SCORE_WORDS and not word[0].isdigit() for word in left.split())


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower().replace("_", " "))


def rationale_faults(texts: Sequence[str | None], labels: Iterable[str] = ()) -> list[RationaleFault]:
    """
    Faults of a column of rationales.

    Args:
        texts (`Sequence[str | None]`):
            The rationale of each row; rows without one (`None`, or white space) are not looked at.
        labels (`Iterable[str]`, *optional*):
            Labels of the scale.

    Returns:
        `list[RationaleFault]`: The texts that are no rationale, if there is any, and the text that more than half of the rows have
        (from 10 rows on).
    """
    labels = tuple(labels)
    given = [text.strip() for text in texts if text is not None and text.strip()]
    faults = []
    if none := [text for text in given if not is_rationale(text, labels)]:
        what = "is the score itself, or a placeholder, and no rationale"
        faults.append(RationaleFault(what, len(none) / len(given), none[0]))
    text, count = Counter(given).most_common(1)[0] if len(given) >= _FEW else ("", 0)
    if count > SAME_SHARE * len(given) and is_rationale(text, labels):
        faults.append(RationaleFault("is one and the same text", count / len(given), text))
    return faults
