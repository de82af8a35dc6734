# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Detects values in a rationale column that are no rationales: the score itself, a placeholder, the same text again and again."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SHARE = 0.1  # of the rationales: up to here texts that are no rationale are exceptions, beyond it the column is none
SAME_SHARE = 0.5  # of the rationales that may be one and the same text
_RATINGS = 5  # numbers that may be the ratings of one row
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_FEW = 10  # rationales among which a text may repeat by chance
_PLACEHOLDERS = frozenset({"na", "nan", "none", "null", "nil", "empty", "todo", "tbd"})
# Words that say no more than that a number is a score: "Score: 4", "my overall rating is 4 out of 5 stars"
_SCORE_WORDS = frozenset(
    "a an the my your is was of out so overall final score scores scored rating rated grade graded mark marks point points star stars "
    "result".split()
)


class RationaleFault(NamedTuple):
    """
    What is wrong with a column of rationales.

    Attributes:
        same (`bool`): Whether most are one text; else it is that texts are no rationale.
        count, of (`int`): Rationales that have it, of those that are there; of several raters a row has several.
        example (`str`): The text, or the first of them, shortened.
    """

    same: bool
    count: int
    of: int
    example: str

    @property
    def fatal(self) -> bool:
        """Whether such a column is none to train on."""
        return not self.same and self.count > SHARE * self.of

    def __str__(self) -> str:
        """`40 of 40 rationales (100%) are …`."""
        what = "one and the same text" if self.same else "the score itself, or a placeholder, and no rationale"
        return f"{self.count} of {self.of} rationales ({self.count / self.of:.0%}) are {what} ({self.example!r})"


def is_rationale(text: str, labels: Iterable[str] = ()) -> bool:
    """
    Whether a text says anything about why a score is given.

    Args:
        text (`str`):
            The text, without the sentence that gives the score (see [`~real_trl.data.rows.strip_score_sentence`]).
        labels (`Iterable[str]`, *optional*):
            Labels of the scale, for those that are words ("good").
    """
    words = _words(text)
    if "".join(words) in _PLACEHOLDERS:
        return False
    if not any(char.isalpha() for word in words for char in word):
        # A calculation says why; a score, with what it is out of, or those of some raters, does not
        return re.search(r"\d\s*=", text) is not None or len(_NUMBER.findall(text)) > _RATINGS
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
            The rationales; where there is none (`None`, or white space) nothing is looked at.

    Returns:
        `list[RationaleFault]`: The texts that are no rationale, if there is any, and the text that more than half of them are
        (from 10 on).
    """
    labels = tuple(labels)
    given = [text.strip() for text in texts if text is not None and text.strip()]
    faults = []
    if none := [text for text in given if not is_rationale(text, labels)]:
        faults.append(RationaleFault(False, len(none), len(given), _shortened(none[0])))
    text, count = Counter(given).most_common(1)[0] if len(given) >= _FEW else ("", 0)
    if count > SAME_SHARE * len(given) and is_rationale(text, labels):
        faults.append(RationaleFault(True, count, len(given), _shortened(text)))
    return faults


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
