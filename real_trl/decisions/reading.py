# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The rows of a file that `real-trl score` wrote, with systems and human scores, as arrays."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from real_trl.data.files import CALIBRATED_SCORES, SCORES, Source
from real_trl.data.scores import ratings_in
from real_trl.decisions.inference import ScoredRows
from real_trl.decisions.units import Units, compare_units
from real_trl.evaluation.unscored import UNSCORED
from real_trl.option_values import FieldError
from real_trl.scale import Scale, as_number
from real_trl.text.cells import is_empty
from real_trl.text.keys import key_of
from real_trl.text.shown import first_few

_CLOSE = 1e-4  # of a score: single precision, and rounding in a file
MAX_SYSTEMS = 50  # more is a column of something else, and more pairs than anyone reads


@dataclass(frozen=True)
class ScoredSystems:
    """
    Attributes:
        names (`list[str]`): The systems, in the order of the file.
        rows ([`ScoredRows`]): The rows that the judge scored.
        places (`np.ndarray`): Which rows of the file these are.
        probabilities (`np.ndarray` of shape `(n, labels)`, *optional*): From the worst label to the best, NaN where not all are known.
        doubt (`np.ndarray` of shape `(n,)`, *optional*): Standard deviation of the judge's distribution.
        lower_is_better (`bool`): Whether the labels are numbers that stand for themselves and fall from the worst to the best.
        has_questions (`bool`): Whether a column says which rows are about one question.
        units ([`~real_trl.decisions.units.Units`]): Whether people and the judge score in the same one.
        notes (`list[str]`): What was left out.
    """

    names: list[str]
    rows: ScoredRows
    places: np.ndarray
    probabilities: np.ndarray | None
    doubt: np.ndarray | None
    lower_is_better: bool
    has_questions: bool
    units: Units
    notes: list[str]


def read_systems(
    source: Source,
    system: str,
    human: Sequence[str] = (),
    group: str | None = None,
    probability: str | None = None,
    prefix: str = "",
    scale: Scale | None = None,
) -> ScoredSystems:
    """
    Read what is compared.

    Args:
        system (`str`): The column that says which system answered.
        human (`Sequence[str]`, *optional*): Columns of human scores, of which the mean counts; a cell may be a list. Empty where nobody scored.
        group (`str`, *optional*): The column that says which rows are about one question.
        probability (`str`, *optional*): The column with the probability with which a row was chosen for a human score.
        prefix (`str`, *optional*): What the names of the judge's columns begin with.
        scale ([`~real_trl.scale.Scale`], *optional*): The judge's. By default what the labels of its distributions tell of it, which a note says.

    Raises:
        `FieldError`: naming the option, the column and the fix.
    """
    expected = f"{prefix}expected_score"
    if expected not in source.columns:
        fix = "Score the file first (real-trl score), or say what the names of the scores begin with: --prefix."
        raise FieldError("data", source.name, fix, f": {source.name!r} has no column {expected!r}")
    used = [system, *human, *filter(None, (group, probability))]
    options = [
        "--system",
        *["--human"] * len(human),
        *["--group"] * bool(group),
        *["--probability"] * bool(probability),
    ]
    for option, column in zip(options, used, strict=True):
        source.column(option, column)
    if own := [column for column in human if column in {prefix + name for name in (*SCORES, *CALIBRATED_SCORES)}]:
        fix = "Name the column with the scores that people gave."
        raise FieldError("--human", own[0], fix, f": {own[0]!r} holds the judge's own scores")
    own = [prefix + name for name in ("expected_score", "status", "probabilities", "spread")]
    cells = list(source.iterate(list(dict.fromkeys([*used, *(name for name in own if name in source.columns)]))))
    of = {name: [row[name] for row in cells] for name in (cells[0] if cells else ())}
    if not cells:
        raise FieldError("data", source.name, "Give a file with rows.", f": {source.name!r} holds no row")

    names, systems = _systems(source, system, of[system])
    judge = np.array([as_number(cell) for cell in of[expected]])
    status = of.get(f"{prefix}status", ["ok"] * len(cells))
    scored = np.isfinite(judge) & np.array([each != UNSCORED for each in status])
    if not scored.any():
        raise FieldError("data", source.name, "Score the file again.", f": no row has a number in {expected!r}")
    scores = _human(source, human, of)
    chosen = (
        None
        if probability is None
        else _probabilities_of_labels(source, probability, of[probability], scored & np.isfinite(scores))
    )
    notes = []
    if not scored.all():
        lost = int((~scored & np.isfinite(scores)).sum())
        notes.append(
            f"{int((~scored).sum())} of {len(scored)} rows have no score of the judge and count in nothing"
            + (f", {lost} with a human score among them." if lost else ".")
        )
    malformed = sum(each not in ("ok", UNSCORED) and bool(there) for each, there in zip(status, scored, strict=True))
    if malformed:
        notes.append(f"{malformed} answers of the judge were malformed; their scores, read at a forced marker, count.")
    keep = np.flatnonzero(scored)
    missing = [name for index, name in enumerate(names) if not (systems[keep] == index).any()]
    if missing:
        raise FieldError(
            "--system",
            missing[0],
            "Score its rows, or leave them out.",
            f": the judge scored no row of {missing[0]!r}",
        )
    questions = _questions(of[group] if group else [None] * len(cells))[keep]
    judged = _distributions(source, of.get(f"{prefix}probabilities"), judge, scale)
    doubt = np.array([as_number(cell) for cell in of[f"{prefix}spread"]])[keep] if f"{prefix}spread" in of else None
    if doubt is not None and not np.isfinite(doubt).any():
        doubt = None
    units = compare_units(
        source,
        np.where(scored, scores, np.nan),
        np.where(scored, judge, np.nan),
        judged.values,
    )
    return ScoredSystems(
        names,
        ScoredRows(
            systems[keep],
            np.unique(questions, return_inverse=True)[1],
            judge[keep],
            scores[keep],
            None if chosen is None else chosen[keep],
        ),
        keep,
        None if judged.table is None else judged.table[keep],
        None if doubt is None else np.where(np.isfinite(doubt), doubt, np.nanmean(doubt)),
        judged.lower_is_better,
        group is not None,
        units,
        [*notes, *units.notes, *judged.notes],
    )


def _systems(source: Source, column: str, cells: Sequence[Any]) -> tuple[list[str], np.ndarray]:
    keys = [key_of(cell) for cell in cells]
    if empty := [source.where(index) for index, key in enumerate(keys) if key is None]:
        raise FieldError(
            "--system",
            column,
            "Fill in the cells, or remove the rows.",
            f": {column!r} is empty in {first_few(empty)}",
        )
    names = list(dict.fromkeys(key for key in keys if key is not None))
    if len(names) > MAX_SYSTEMS:
        said = f": {column!r} holds {len(names)} different values, and at most {MAX_SYSTEMS} systems are compared"
        raise FieldError("--system", column, "Name the column that says which system answered.", said)
    place = {name: index for index, name in enumerate(names)}
    return names, np.array([place[key] for key in keys if key is not None])


def _human(source: Source, columns: Sequence[str], of: dict[str, list[Any]]) -> np.ndarray:
    """Mean human score of each row, NaN where there is none."""
    scores = np.full(len(next(iter(of.values()))), np.nan)
    wrong = []
    for index in range(len(scores)):
        given = [cell for column in columns for cell in ratings_in(of[column][index]) if not is_empty(cell)]
        numbers = [as_number(cell) for cell in given]
        if bad := [cell for cell, number in zip(given, numbers, strict=True) if not math.isfinite(number)]:
            wrong.append(f"{bad[0]!r:.40} in {source.where(index)}")
        elif numbers:
            scores[index] = math.fsum(numbers) / len(numbers)
    if wrong:
        fix = "Write numbers, and leave cells empty where nobody gave a score."
        raise FieldError("--human", ",".join(columns), fix, f": no number: {first_few(wrong)}")
    return scores


def _probabilities_of_labels(source: Source, column: str, cells: Sequence[Any], labelled: np.ndarray) -> np.ndarray:
    chosen = np.array([as_number(cell) for cell in cells])
    wrong = labelled & ~((chosen > 0) & (chosen <= 1))
    if wrong.any():
        bad = [f"{cells[index]!r:.40} in {source.where(index)}" for index in np.flatnonzero(wrong).tolist()]
        fix = "Every row with a human score needs the probability with which it was chosen, above 0 and at most 1."
        raise FieldError("--probability", column, fix, f": {first_few(bad)}")
    return np.where((chosen > 0) & (chosen <= 1), chosen, np.nan)


def _questions(cells: Iterable[Any]) -> np.ndarray:
    """A number for each question; a row that names none is one of its own."""
    names: dict[Any, int] = {}
    keys = [("row", index) if (key := key_of(cell)) is None else key for index, cell in enumerate(cells)]
    return np.array([names.setdefault(key, len(names)) for key in keys])


@dataclass(frozen=True)
class _Judged:
    """The judge's distributions `(n, labels)` from the worst label to the best, the labels' values, and which way they go, as far as it is known."""

    table: np.ndarray | None = None
    values: Sequence[float] = ()
    lower_is_better: bool = False
    notes: Sequence[str] = ()


def _distributions(
    source: Source, cells: Sequence[Any] | None, judge: np.ndarray, scale: Scale | None = None
) -> _Judged:
    """Each row divided by its sum, NaN where a probability is unknown; no table if there is no row with all, or the labels' order is not known."""
    rows = [_mapping(cell) for cell in cells or ()]
    labels = list(scale.labels) if scale else next((list(row) for row in rows if row), [])
    given = np.full((len(rows), len(labels)), np.nan)
    for index, row in enumerate(rows):
        if row and row.keys() == set(labels):
            given[index] = [as_number(row[label]) for label in labels]
        elif row and scale:
            said = f": {source.where(index)} has probabilities of {', '.join(map(repr, list(row)[:8]))}"
            raise FieldError("--score_labels", str(scale), "Give the labels that the judge scored with.", said)
    numbers = np.array([as_number(label) for label in labels], dtype=np.float64)
    values: np.ndarray | None = np.array(scale.values) if scale else numbers
    falls, notes = False, []
    if scale:
        falls = scale.lower_is_better
    elif labels and not np.isfinite(numbers).all():
        values = _told_values(given, judge)
    else:
        falls = len(labels) > 1 and bool((np.diff(numbers) < 0).all())
        if not falls:
            notes.append(
                "Higher scores are taken as better. Where the lowest is the best, give the judge's scale: --score_labels 6-1."
            )
    if values is None:
        note = f"Which of the labels {', '.join(labels)} is better cannot be told: there are no win rates. Give the judge's scale: --score_labels and --score_values."
        return _Judged(notes=[note])
    total = given.sum(axis=1, keepdims=True)
    table = np.where(total > 0, given / np.where(total > 0, total, 1), np.nan)[
        :, np.argsort(-values if falls else values)
    ]
    known = len(labels) > 0 and np.isfinite(table).all(axis=1).any()
    return _Judged(table if known else None, values.tolist(), falls, notes)


def _mapping(cell: Any) -> dict[str, Any] | None:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:  # no distribution is known then
            return None
    return cell if isinstance(cell, dict) else None


def _told_values(given: np.ndarray, judge: np.ndarray) -> np.ndarray | None:
    """What labels that are words stand for, by the scores, which are the means of these values; `None` where rows do not tell it."""
    known = np.isfinite(given).all(axis=1) & np.isfinite(judge)
    if not known.any():
        return None
    values, _, rank, _ = np.linalg.lstsq(given[known], judge[known], rcond=1e-9)
    close = np.abs(given[known] @ values - judge[known]).max() <= _CLOSE * max(1.0, float(np.abs(judge[known]).max()))
    return np.round(values, 4) if rank == given.shape[1] and close else None
