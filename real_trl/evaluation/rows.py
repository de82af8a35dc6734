# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Which rows of a judge's predictions count in a figure, with which score, and how malformed completions count. Rows whose judgment
is none, because the engine gave no answer (`"unscored"`), count in no figure: they say nothing about the judge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike

from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.evaluation.unscored import UNSCORED
from real_trl.scale import as_number
from real_trl.text.cells import is_missing

if TYPE_CHECKING:
    import pandas as pd

MalformedHandling = Literal["force", "drop", "strict"]
INFERENCES = {"standard": "sampled_score", "rail": "expected_score"}

Column: TypeAlias = "Sequence[Any] | np.ndarray | pd.Series"
Rows: TypeAlias = "pd.DataFrame | Mapping[str, Column]"


@dataclass
class CountedRows:
    """
    The `n` of `N` rows that count.

    Attributes:
        status (`np.ndarray` of shape `(N,)`):
            Status of every row, counted or not.
        counts (`np.ndarray` of shape `(N,)`):
            Which rows count.
        predictions (`dict[str, np.ndarray]`):
            Inference (`"standard"`, `"rail"`) → predicted scores `(n,)`.
        wrong (`np.ndarray` of shape `(n,)`):
            Rows that count as wrong whatever the number in `predictions` (`malformed="strict"`).
        groups (`np.ndarray` of shape `(n,)`):
            Number of each row's group, from 0 to `n_groups - 1`, in the order of the groups' names.
        n_groups (`int`):
            Number of groups that have a row that counts.
        compared (`np.ndarray` of shape `(n,)`):
            Number of what `pairwise_accuracy` compares within: the group, and of rows with several criteria one of these.
    """

    status: np.ndarray
    counts: np.ndarray
    targets: np.ndarray
    predictions: dict[str, np.ndarray]
    wrong: np.ndarray
    groups: np.ndarray
    n_groups: int
    compared: np.ndarray


def counted_rows(
    rows: Rows,
    malformed: MalformedHandling,
    values: Sequence[float] | None = None,
    keep: np.ndarray | None = None,
) -> CountedRows:
    """
    Read the predictions of one judge. Arguments and errors as in [`~real_trl.evaluation.metrics.evaluate_predictions`].

    Args:
        keep (`np.ndarray` of shape `(N,)`, *optional*):
            Rows that may count; by default all of them.
    """
    if malformed not in get_args(MalformedHandling):
        raise ValueError(f"`malformed` is {malformed!r}: choose one of {', '.join(get_args(MalformedHandling))}.")
    if malformed == "strict" and values is None:
        raise ValueError('malformed="strict" needs `values`: a malformed row counts as the far end of the scale.')
    if values is not None and len(values) < 2:
        raise ValueError(f"`values` is {list(values)}: give the value of each label of the scale, at least two.")

    status = np.asarray(column(rows, "status"), dtype=object)
    if len(status) == 0:
        raise ValueError("`rows` is empty: there is nothing to evaluate. Check the split that was generated.")
    columns = {name: numbers(rows, name, len(status)) for name in ("target", *INFERENCES.values())}

    is_ok = status == "ok"
    counts = is_ok.copy() if malformed == "drop" else status != UNSCORED
    counts &= True if keep is None else keep
    wrong = ~is_ok if malformed == "strict" else np.zeros(len(status), dtype=bool)
    for name, scores in columns.items():
        bad = np.flatnonzero(counts & ~np.isfinite(scores) & (~wrong | (name == "target")))
        if len(bad):
            first = bad[0]
            fix = "give every row that counts a finite value"
            if name != "target" and not is_ok[bad].any():
                fix += ', or leave malformed rows out with malformed="drop"'
            raise ValueError(
                f"Row {row_name(rows, first)} (status {status[first]!r}) has `{name}` {scores[first]} "
                f"({len(bad)} such rows in all): {fix}."
            )

    targets = columns["target"][counts]
    predictions = {inference: columns[name][counts] for inference, name in INFERENCES.items()}
    wrong = wrong[counts]
    if values is not None and wrong.any():
        # From the middle both ends are as far, and of a scale of two labels the low one is the middle's nearest label
        farthest = np.where(targets - min(values) > max(values) - targets, min(values), max(values))
        predictions = {inference: np.where(wrong, farthest, scores) for inference, scores in predictions.items()}
    codes = np.unique(group_names(rows, len(status))[counts], return_inverse=True)[1]
    n_groups = int(codes.max(initial=-1)) + 1
    criteria = np.asarray(column(rows, CRITERION_COLUMN, len(status)))[counts] if CRITERION_COLUMN in rows else None
    compared = by_criterion(codes, criteria)
    return CountedRows(status, counts, targets, predictions, wrong, codes, n_groups, compared)


def by_criterion(groups: np.ndarray, criteria: ArrayLike | None) -> np.ndarray:
    """Groups, by their numbers `(n,)`, each divided by the criterion of its rows: two criteria of an answer are no two answers."""
    if criteria is None:
        return groups
    codes = np.unique(np.asarray(criteria).astype(str), return_inverse=True)[1]
    return np.unique(np.column_stack([groups, codes]), axis=0, return_inverse=True)[1].reshape(-1)


def column(rows: Rows, name: str, length: int | None = None) -> Column:
    """A column, `ValueError` if there is none or it is not `length` long."""
    if name not in rows:
        raise ValueError(f"`rows` has no column `{name}`: it has {', '.join(map(str, rows))}.")
    if length is not None and len(rows[name]) != length:
        raise ValueError(f"Column `{name}` has {len(rows[name])} rows, `status` has {length}: make them equal.")
    return rows[name]


def numbers(rows: Rows, name: str, length: int | None = None) -> np.ndarray:
    """A numeric column as float64; a null becomes NaN, which the caller refuses where the row counts."""
    given = column(rows, name, length)
    values = np.asarray(given, dtype=object if isinstance(given, (list, tuple)) else None)
    if values.dtype.kind in "fiu":
        return values.astype(np.float64)
    read = np.array([as_number(value) for value in values], dtype=np.float64)
    for index in np.flatnonzero(np.isnan(read)):
        if not is_missing(value := values[index]) and str(value).strip().lower() != "nan":
            raise ValueError(
                f"Column `{name}` is not numeric ({value!r:.60} in row {row_name(rows, index)}): give every row a number or null."
            )
    return read


def probability_matrix(
    rows: Rows, values: Sequence[float], length: int, labels: Sequence[str] = ()
) -> np.ndarray | None:
    """
    Column `probabilities` as `(N, L)` in the order of the scale, NaN in a row without; `None` if there is no such column.

    Args:
        values (`Sequence[float]`), labels (`Sequence[str]`, *optional*):
            The scale. A row is a list in its order, or a mapping from its labels in any order: by their names, or without `labels` by
            the numbers that they are. Only keys that are neither are taken in the order that they have.

    Raises:
        `ValueError`: naming the row, if it has other labels, or another number of them.
    """
    if "probabilities" not in rows:
        return None
    n_labels = len(values)
    matrix = np.full((length, n_labels), np.nan)
    for index, probabilities in enumerate(column(rows, "probabilities", length)):
        if isinstance(probabilities, Mapping):
            probabilities = _in_order(probabilities, values, labels, rows, index)
        if probabilities is None or np.ndim(probabilities) == 0:  # a table without lists in it holds NaN
            continue
        if len(probabilities) != n_labels:
            raise ValueError(
                f"Row {row_name(rows, index)} has {len(probabilities)} `probabilities` for {n_labels} labels: pass the "
                "`values` of the scale that was judged on, one for each label in their order."
            )
        matrix[index] = np.asarray(probabilities, dtype=np.float64)
    return matrix


def _in_order(
    given: Mapping[Any, Any], values: Sequence[float], labels: Sequence[str], rows: Rows, index: int
) -> list[Any]:
    """The probabilities of a mapping in the order of the scale: a file may have sorted its keys."""
    if labels and len(given) == len(labels):
        named = {str(key): probability for key, probability in given.items()}
        if other := [label for label in labels if label not in named]:
            raise ValueError(
                f"Row {row_name(rows, index)} has no probability of the label {other[0]!r} in `probabilities`, but those of "
                f"{', '.join(map(repr, named))}: pass the `labels` of the scale that was judged on."
            )
        return [named[label] for label in labels]
    numbered = {as_number(key): probability for key, probability in given.items()}
    if numbered.keys() == set(map(float, values)):
        return [numbered[float(value)] for value in values]
    return list(given.values())


def row_name(rows: Rows, index: int | np.integer) -> Any:
    """What an error calls the row at a position: its `row`, if it has one."""
    return np.asarray(rows["row"])[index] if "row" in rows else index


def group_names(rows: Rows, length: int) -> np.ndarray:
    """Each row's group as text; without such a column each `id`, or else each row, is a group."""
    name = next((name for name in ("group", "id") if name in rows), None)
    if name is None:
        return np.arange(length)
    groups = np.asarray(column(rows, name, length), dtype=object)
    for index, group in enumerate(groups):
        if group is None or group != group:  # NaN
            raise ValueError(f"Row {row_name(rows, index)} has no `{name}`: name the question that it belongs to.")
    return groups.astype(str)
