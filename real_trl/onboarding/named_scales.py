# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Scales that the name of a column states: "Points (0-10)", "score 1 to 5", "rating_1_5", "Note (6-1)" where 1 is the best."""

import re
from collections.abc import Sequence

from real_trl.text.column_names import NAMES, RATERS, key

_NUMBER = r"(?:0|[1-9]\d*)(?:\.\d)?"
# Glued to letters or to a third number it is a version, a date, or an item of a questionnaire
_RANGE = re.compile(
    rf"(?<![^\W_])(?<!\d[-–—/.,])({_NUMBER})[\s_]*(?:[-‐‑–—−]|\.{{2,3}}|…|to|bis)[\s_]*({_NUMBER})(?![^\W_]|[-–—/.,]\d)",
    re.IGNORECASE,
)
_UNDERSCORES = re.compile(r"(.+?)_([01])_([1-9]\d*)")
_USUAL_ENDS = (3, 4, 5, 6, 7, 9, 10, 20, 100)
_LONGEST = 1000  # what is longer is hardly a scale


def stated_range(columns: Sequence[str], others: Sequence[str]) -> tuple[str, str] | None:
    """
    Worst and best score, of the range that the names of all `columns` state; `None` if there is none, several, or one that may
    mean something else.

    Args:
        columns (`Sequence[str]`): The columns with scores.
        others (`Sequence[str]`): All columns: with `rating_2_5` beside it, `rating_1_5` is the first of several.
    """
    found = {_range_in(column, others) for column in columns}
    return found.pop() if len(found) == 1 else None


def _range_in(column: str, others: Sequence[str]) -> tuple[str, str] | None:
    ranges = {match.groups() for match in _RANGE.finditer(column)}
    if len(ranges) == 1:
        low, high = (float(end) for end in ranges.pop())
        return (f"{low:g}", f"{high:g}") if 0 < abs(high - low) <= _LONGEST else None
    match = None if ranges else _UNDERSCORES.fullmatch(column)
    if match is None or int(match[3]) not in _USUAL_ENDS:
        return None
    if key(match[1]) not in NAMES["score"] and not RATERS.search(match[1].lower()):
        return None
    alike = [other for other in others if (it := _UNDERSCORES.fullmatch(other)) and it[1] == match[1]]
    numbered = [other for other in others if re.fullmatch(rf"{re.escape(match[1])}_\d+(_\d+)?", other)]
    return (match[2], match[3]) if alike == numbered == [column] else None
