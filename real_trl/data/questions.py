# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which rows are about one question, where nobody said it: those that may depend on each other."""

from collections.abc import Iterable, Mapping, Sequence

from real_trl.data.files import Source
from real_trl.prompts.template import SETTINGS
from real_trl.text.column_names import own_names

_GROUP = "group"
_RESPONSES = frozenset({"response", "response_a", "response_b"})


def question_columns(
    source: Source, columns: Mapping[str, str] | None = None, variables: Iterable[str] = ()
) -> list[str]:
    """
    The columns that rows about one question have in common: `group`, which `real-trl init` writes; else the instruction; else all else that a
    prompt shows beside the response. None of them where a cell is empty, or where they are the same in all rows: that tells nothing.

    Args:
        columns (`Mapping[str, str]`, *optional*): Variable of the prompt → column.
        variables (`Iterable[str]`, *optional*): The variables of the prompt's template.

    Returns:
        `list[str]`, empty where it is not known.
    """
    columns, variables = columns or {}, set(variables) - SETTINGS
    group = _GROUP
    while f"question_{group}" in source.columns:  # init's, beside a column of that name that was there
        group = f"question_{group}"
    candidates = [[group], _read_from(source, columns, ["instruction"])]
    if variables & _RESPONSES:
        candidates.append(_read_from(source, columns, sorted(variables - _RESPONSES)))
    return next((each for each in candidates if each and _tells(source, each)), [])


def _read_from(source: Source, columns: Mapping[str, str], variables: Sequence[str]) -> list[str]:
    """The columns of those variables that there are."""
    found = [
        next((name for name in (columns.get(each), *own_names(each)) if name in source.columns), None)
        for each in variables
    ]
    return list(dict.fromkeys(name for name in found if name is not None))


def _tells(source: Source, columns: Sequence[str]) -> bool:
    if any(column not in source.columns for column in columns):
        return False
    seen = set()
    for row in source.iterate(columns):
        cells = tuple(row[column] for column in columns)
        if not all(isinstance(cell, str | int) and str(cell).strip() for cell in cells):
            return False
        seen.add(cells)
    return len(seen) > 1
