# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Columns with scores that are criteria of their own, not raters of one score: which they are, and the rubric of each."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite, nan
from statistics import fmean

from real_trl.data.files import Source
from real_trl.data.scores import ratings_in
from real_trl.option_values import FieldError
from real_trl.scale import as_number
from real_trl.text.cells import is_empty
from real_trl.text.column_names import are_like_raters, key

# Usual names, as `key` writes them, and what is asked about each
_RUBRICS = {
    "helpfulness": "does the response do what the instruction asks for, so that it helps?",
    "correctness": "is what the response says right, and is nothing of importance missing?",
    "accuracy": "is what the response says right?",
    "factuality": "is what the response says true?",
    "truthfulness": "is what the response says true?",
    "honesty": "does the response say how sure it is, and nothing that it does not know?",
    "faithfulness": "is all that the response says supported by the instruction?",
    "consistency": "is all that the response says supported by the instruction, and free of contradictions?",
    "completeness": "does the response have all that the instruction asks for?",
    "relevance": "is the response about what the instruction asks for, and nothing else?",
    "coherence": "is the response in good order, clear, and easy to follow?",
    "fluency": "is the response written in good language?",
    "complexity": "how much knowledge does it take to write the response?",
    "verbosity": "how much detail does the response have, for what is asked?",
    "conciseness": "is the response as short as it can be?",
    "instructionfollowing": "does the response do all that the instruction says?",
    "harmlessness": "is the response free of what could do harm?",
    "safety": "is the response free of what could do harm?",
}


def usual_criteria(columns: Sequence[str]) -> list[str]:
    """`columns`, if there are several and each has the name of a usual criterion (`fluency`, `score_fluency`); else none."""
    return list(columns) if len(columns) > 1 and all(_name(column) in _RUBRICS for column in columns) else []


def default_rubric(column: str) -> str:
    """What is asked by a criterion of which nothing is known but the column."""
    words = re.sub(r"[_\W]+", " ", column.rpartition(".")[2]).strip().capitalize()
    return f"{words}: {_RUBRICS.get(_name(column), 'how good is the response in this alone?')}"


def read_criteria(source: Source, stated: Sequence[str]) -> dict[str, str]:
    """
    Criterion → rubric, of what the command line says.

    Args:
        stated (`Sequence[str]`):
            Each a column, or a column, `=` and its rubric.

    Raises:
        `ValueError`: if a column does not exist, or is named twice.
    """
    criteria: dict[str, str] = {}
    for text in stated:
        column, _, rubric = (text, "", "") if text.strip() in source.columns else text.partition("=")
        column = source.column("--criterion", column)
        if column in criteria:
            raise FieldError("--criterion", text, "Name each column once.", f": {column!r} is there twice")
        criteria[column] = rubric.strip() or default_rubric(column)
    return criteria


def check_alone(criteria: Sequence[str], stated: Mapping[str, str | None], sentence: str | None) -> None:
    """`ValueError` if something else is said of the score or the rubric as well."""
    others = {f"--{role}": stated.get(role) for role in ("score", "rubric", "prompt")} | {"--criteria": sentence}
    for option, value in others.items():
        if criteria and value:
            said = f": got {value!r:.60} beside --criterion {criteria[0]!r}, which says the column of a score and its rubric"
            raise FieldError(option, value, "Leave out one of them.", said)


def notes_on_columns(source: Source, columns: Sequence[str], criteria: Mapping[str, str], guessed: bool) -> list[str]:
    """What several columns with scores were taken for, and what speaks against it."""
    if len(columns) < 2 or (not criteria and are_like_raters(columns)):
        return []
    scores: dict[str, list[list[float]]] = {column: [] for column in columns}
    for row in source.iterate(columns):
        for column in columns:
            cells = ratings_in(row[column], source.without_na)
            scores[column].append([as_number(cell) for cell in cells if not is_empty(cell)])
    names = ", ".join(columns)
    if not criteria:
        means = {column: [*filter(isfinite, chain(*cells))] for column, cells in scores.items()}
        shown = ", ".join(f"{column} {fmean(each):.2f}" for column, each in means.items() if each)
        return [
            f"{names} are taken as raters of one score, whose mean is learnt{f' (on average {shown})' if shown else ''}. If they are criteria of their own: "
            + " ".join(f"--criterion {column}" for column in columns)
            + "."
        ]
    notes = []
    if guessed:
        notes.append(
            f"{names} are taken as criteria of their own, each with a rubric made of its name: read `criteria` in the recipes, or state them: "
            f'--criterion {columns[0]}="…" --criterion {columns[1]}="…". If they are raters of one score: --score {",".join(columns)}.'
        )
    if missing := {column: count for column, cells in scores.items() if (count := cells.count([]))}:
        counts = ", ".join(f"{count} by {column}" for column, count in missing.items())
        notes.append(f"Scores that are missing are left out ({counts}); the row's others stay.")
    highest = {c: top for c, cells in scores.items() if isfinite(top := max(chain(*cells), default=nan))}
    if highest and max(highest.values()) >= 2 * min(highest.values()):
        shown = ", ".join(f"{column} {top:g}" for column, top in highest.items())
        notes.append(
            f"All criteria are on one scale, but their highest scores differ ({shown}): bring them to one scale, or make a judge of each."
        )
    return notes


def _name(column: str) -> str:
    return re.sub("^(score|rating)|(score|rating)$", "", key(column.rpartition(".")[2]))
