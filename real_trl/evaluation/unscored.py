# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows that a judge could not score because its engine gave no answer that can be believed: their status, and why, in groups."""

import re
from collections.abc import Iterable, Sequence

from real_trl.text.shown import first_few

UNSCORED = "unscored"  # status of a judgment that is none; why is in its `error`
# What differs from row to row in a server's words: numbers, request ids, hashes, times
_OWN = re.compile(r"\b(?=\w*\d)[\w-]+(?:[.:,]\d+)*")


def grouped_reasons(errors: Iterable[str]) -> dict[str, int]:
    """
    Reasons and how often each occurs, the most frequent first. Reasons that differ in numbers and ids only are one, by the words
    of the first.
    """
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for error in errors:
        words = first.setdefault(_OWN.sub("#", error), error)
        counts[words] = counts.get(words, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def where_reasons(rows: Sequence[tuple[str, str]]) -> dict[str, str]:
    """As [`grouped_reasons`] of the reasons of `rows`, each with the rows (`"row 3 (line 4), row 7 and 2 more"`)."""
    first: dict[str, str] = {}
    places: dict[str, list[str]] = {}
    for where, error in rows:
        places.setdefault(first.setdefault(_OWN.sub("#", error), error), []).append(where)
    order = sorted(places, key=lambda words: -len(places[words]))
    return {words: first_few(places[words]) for words in order}


def unscored_reasons(statuses: Iterable[object], errors: Iterable[object]) -> dict[str, int]:
    """
    Why rows are unscored, and how many: empty if none is.

    Args:
        errors (`Iterable`):
            Their `error`, `None` or NaN where there is none. Rows that have a score although some of their samples have no answer
            (average-of-N) are not among the unscored.
    """
    pairs = zip(statuses, errors, strict=True)
    return grouped_reasons(str(error) for status, error in pairs if status == UNSCORED)
