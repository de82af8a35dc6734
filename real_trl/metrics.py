# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How well a judge's scores agree with the true ones: correlations and errors. Arrays only, no I/O."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

MalformedHandling = Literal["force", "drop"]

# A spread below this share of the largest magnitude is float64 rounding (0.1 + 0.2 against 0.3), not a difference.
_CONSTANT_RTOL = 1e-13


def score_metrics(predictions: ArrayLike, targets: ArrayLike) -> dict[str, float | int]:
    """
    Agreement of predicted with true scores.

    Args:
        predictions (`ArrayLike`):
            Predicted scores of shape `(n,)`: decoded labels, or expected scores ŷ.
        targets (`ArrayLike`):
            True scores y* of shape `(n,)`, in the same units.

    Returns:
        `dict[str, float | int]`: `pearson`, `spearman` and `kendall` (τ-b, which corrects for ties), each in [-1, 1];
        `rmse` and `mae` in units of the score; `n`, the number of rows. A correlation is `nan` where it is not
        defined: with fewer than two rows, or when either input is constant up to float64 rounding. With no rows at
        all the errors are `nan` too. SciPy's warnings about these cases are not raised.

    Raises:
        `ValueError`: If an input is not one-dimensional, holds a NaN or an infinity, or differs in length from the
        other one.
    """
    predictions = _finite_vector(predictions, "predictions")
    targets = _finite_vector(targets, "targets")
    if len(predictions) != len(targets):
        raise ValueError(
            f"`predictions` has {len(predictions)} rows and `targets` has {len(targets)}: pass one of each per row."
        )

    n = len(targets)
    errors = predictions - targets
    metrics: dict[str, float | int] = dict.fromkeys(("pearson", "spearman", "kendall", "rmse", "mae"), float("nan"))
    if n > 0:
        metrics["rmse"] = float(np.sqrt(np.mean(errors**2)))
        metrics["mae"] = float(np.mean(np.abs(errors)))
    if n > 1 and not _is_constant(predictions) and not _is_constant(targets):
        metrics["pearson"] = float(stats.pearsonr(predictions, targets).statistic)
        metrics["spearman"] = float(stats.spearmanr(predictions, targets).statistic)
        metrics["kendall"] = float(stats.kendalltau(predictions, targets, variant="b").statistic)
    metrics["n"] = n
    return metrics


def evaluate_predictions(
    rows: "pd.DataFrame | Mapping[str, ArrayLike]", malformed: MalformedHandling = "force"
) -> dict[str, Any]:
    """
    Metrics of one evaluation run, for standard decoding (the score that was sampled) and for RAIL (the expected score
    ŷ = Σ k·p(k) under the distribution read at the score position).

    Args:
        rows (`pandas.DataFrame` or `Mapping[str, ArrayLike]`):
            One row a completion, in the columns `status` (`"ok"`, or why the completion has no score of its own),
            `target`, `sampled_score` and `expected_score`. Other columns are ignored, except that `row`, if there,
            names the row in errors.
        malformed (`str`, *optional*, defaults to `"force"`):
            What was done with rows whose status is not `"ok"`. `"force"`: the marker was appended and the score read
            there, so every row has both scores and counts in both figures. `"drop"`: these rows leave both figures.

    Returns:
        `dict[str, Any]`: `standard` and `rail` ([`score_metrics`] of either inference), `malformed_rate` in [0, 1]
        (over all rows, also the dropped ones), `malformed` (`{status: count}` of the statuses other than `"ok"` that
        occur), `malformed_handling` (the argument) and `n_rows`.

    Raises:
        `ValueError`: If `malformed` is unknown, a column is missing or of another length, there are no rows, or a row
        that counts has no finite target, sampled score or expected score.
    """
    if malformed not in get_args(MalformedHandling):
        raise ValueError(f"`malformed` is {malformed!r}: choose one of {', '.join(get_args(MalformedHandling))}.")

    status = np.asarray(_column(rows, "status"), dtype=object)
    columns = {name: _numbers(rows, name) for name in ("target", "sampled_score", "expected_score")}
    for name, values in columns.items():
        if len(values) != len(status):
            raise ValueError(f"Column `{name}` has {len(values)} rows, `status` has {len(status)}: make them equal.")
    if len(status) == 0:
        raise ValueError("`rows` is empty: there is nothing to evaluate. Check the split that was generated.")

    is_ok = status == "ok"
    counts = np.ones(len(status), dtype=bool) if malformed == "force" else is_ok
    names = _column(rows, "row") if "row" in rows else range(len(status))
    for name, values in columns.items():
        bad = np.flatnonzero(counts & ~np.isfinite(values))
        if len(bad):
            first = bad[0]
            fix = "give every row that counts a finite value"
            if name != "target" and not is_ok[bad].any():
                fix += ', or leave malformed rows out with malformed="drop"'
            raise ValueError(
                f"Row {np.asarray(names)[first]} (status {status[first]!r}) has `{name}` {values[first]} "
                f"({len(bad)} such rows in all): {fix}."
            )

    target = columns["target"][counts]
    reasons, occurrences = np.unique(status[~is_ok].astype(str), return_counts=True)
    return {
        "standard": score_metrics(columns["sampled_score"][counts], target),
        "rail": score_metrics(columns["expected_score"][counts], target),
        "malformed_rate": float(np.mean(~is_ok)),
        "malformed": {str(reason): int(count) for reason, count in zip(reasons, occurrences, strict=True)},
        "malformed_handling": malformed,
        "n_rows": len(status),
    }


def _finite_vector(values: ArrayLike, name: str) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"`{name}` has shape {vector.shape}: pass one dimension, one score a row.")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise ValueError(
            f"`{name}` holds {vector[bad[0]]} at index {bad[0]} ({len(bad)} such values in all): "
            "drop these rows or give them a score first."
        )
    return vector


def _is_constant(values: np.ndarray) -> bool:
    return bool(np.ptp(values) <= _CONSTANT_RTOL * np.max(np.abs(values)))


def _column(rows: "pd.DataFrame | Mapping[str, ArrayLike]", name: str) -> ArrayLike:
    if name not in rows:
        raise ValueError(f"`rows` has no column `{name}`: it has {', '.join(map(str, rows))}.")
    return rows[name]


def _numbers(rows: "pd.DataFrame | Mapping[str, ArrayLike]", name: str) -> np.ndarray:
    """A numeric column as float64; a null becomes NaN, which the caller refuses where the row counts."""
    column = _column(rows, name)
    try:
        return np.asarray(column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Column `{name}` is not numeric ({error}): give every row a number or null.") from error
