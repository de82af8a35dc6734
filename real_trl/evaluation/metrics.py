# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How well a judge's scores agree with the true ones: correlations and errors. Arrays only, no I/O."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from real_trl.evaluation.calibration import calibrated_rows, calibration_columns, calibration_metrics
from real_trl.evaluation.registry import (
    METRICS,
    Sample,
    finite_vector,
    metric_names,
    pairwise_accuracy,
)
from real_trl.evaluation.rows import MalformedHandling, Rows, column, counted_rows, numbers
from real_trl.evaluation.unscored import UNSCORED, unscored_reasons
from real_trl.evaluation.verdict import find_faults, is_constant


def score_metrics(
    predictions: ArrayLike, targets: ArrayLike, values: Sequence[float] | None = None
) -> dict[str, float | int]:
    """
    Agreement of predicted with true scores.

    Args:
        predictions (`ArrayLike`):
            Predicted scores of shape `(n,)`: decoded labels, or expected scores ŷ.
        targets (`ArrayLike`):
            True scores y* of shape `(n,)`, in the same units.
        values (`Sequence[float]`, *optional*):
            Values of the scale, for metrics that look at the label nearest to a score, ties going to the lower one.

    Returns:
        `dict[str, float | int]`: Those of [`real_trl.evaluation.registry.METRICS`] that need no groups, correlations and shares not times
        100; `n`, the number of rows.

        A correlation is `nan` where it is not defined: with fewer than two rows, or when either input is constant up
        to float64 rounding. So is `qwk` where all predictions and targets have one and the same label. With no rows at
        all every metric is `nan`. SciPy's warnings about these cases are not raised.

    Raises:
        `ValueError`: If an input is not one-dimensional, holds a NaN or an infinity, or differs in length from the
        other one.
    """
    predictions = finite_vector(predictions, "predictions")
    targets = finite_vector(targets, "targets")
    if len(predictions) != len(targets):
        raise ValueError(
            f"`predictions` has {len(predictions)} rows and `targets` has {len(targets)}: pass one of each per row."
        )
    sample = Sample(predictions, targets, np.zeros(len(targets), dtype=bool), values)
    metrics = {name: METRICS[name](sample) for name in metric_names(values, groups=False)}
    return metrics | {"n": len(targets)}


def evaluate_predictions(
    rows: Rows,
    malformed: MalformedHandling = "force",
    values: Sequence[float] | None = None,
    n_bins: int = 10,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Metrics of one evaluation run, for standard decoding (the score that was sampled) and for RAIL (the expected score
    ŷ = Σ k·p(k) under the distribution read at the score position).

    Args:
        rows (`pandas.DataFrame` or `Mapping[str, ArrayLike]`):
            One row a completion, in the columns `status` (`"ok"`, or why the completion has no score of its own),
            `target`, `sampled_score` and `expected_score`. Read where they are there: `group`, the question that a row
            is about (default: its `id`; without that, each row is a group); `probabilities` of the labels;
            `num_tokens`, `mass` and `missing_mass`, which are averaged; `row`, which names the row in errors.
        malformed (`str`, *optional*, defaults to `"force"`):
            How rows whose status is not `"ok"` count. `"force"`: the marker was appended and the score read there, so
            every row has both scores and counts in both figures. `"drop"`: these rows leave both figures (the
            convention of TRACT). `"strict"`: they count as wrong: their prediction is the end of the scale that is
            farthest from the target, and every pair with one is in the wrong order.
        values (`Sequence[float]`, *optional*):
            Value of each label of the scale, in the order of `probabilities`. Without it there is no accuracy, no
            kappa and no calibration.
        n_bins (`int`, *optional*, defaults to `10`):
            Largest number of bins of the calibration error.
        labels (`Sequence[str]`, *optional*):
            Labels of the scale, by which `probabilities` that are mappings are read in any order of their keys, and a rationale that is nothing but a score is told, also of a scale of words.

    Returns:
        `dict[str, Any]`: In plain numbers and text:

        - `standard` and `rail`: [`score_metrics`] of either inference, `pairwise_accuracy` and `n_pairs` (see
          [`pairwise_accuracy`]).
        - `calibration`: see [`~real_trl.evaluation.calibration.calibration_metrics`]; `None` without `values`. With `"drop"` and
          `"strict"` malformed rows are left out of it.
        - `malformed_rate` in [0, 1] (over all answers, also the dropped ones), `malformed` (`{status: count}` of the
          statuses other than `"ok"` that occur), `malformed_handling` (the argument).
        - `n_rows`, all rows; `n_groups`, the groups of those that count; `n_unscored`, the rows to which the engine gave no
          answer, which count in no figure, and `unscored` (`{reason: count}`), why.
        - `mean_tokens` (tokens generated), `mean_mass` (probability on the labels) and `missing_mass` (probability
          that the engine could not assign), each over all rows that have it, `None` if none has.
        - `baseline`: what always the same answer reaches, see [`baseline_errors`]; `verdict`: what is wrong with
          the figures, see [`~real_trl.evaluation.verdict.Fault`], as dicts.
        - `notes` (`list[str]`): which figure is `nan`, and why; what was left out of the calibration.

    Raises:
        `ValueError`: If `malformed` is unknown, or `"strict"` without `values`; a column is missing or of another
        length, there are no rows, or a row that counts has no group or no finite target, sampled score or expected
        score; or if a row has another number of probabilities than `values`.
    """
    counted = counted_rows(rows, malformed, values)
    answered = counted.status != UNSCORED
    result: dict[str, Any] = {}
    notes: list[str] = []
    for inference, predictions in counted.predictions.items():
        sample = Sample(predictions, counted.targets, counted.wrong, values, counted.compared)
        metrics = {name: METRICS[name](sample) for name in metric_names(values)}
        _, n_pairs = pairwise_accuracy(predictions, counted.targets, counted.compared, counted.wrong)
        result[inference] = metrics | {"n": len(predictions), "n_pairs": n_pairs}
        notes += _undefined_figures(inference, result[inference], predictions, counted.targets, bool(answered.any()))

    result["calibration"] = None
    if values is not None:
        probabilities, counts, why_not = calibrated_rows(rows, counted.status, malformed, values, labels)
        targets = numbers(rows, "target")
        columns = calibration_columns(probabilities[counts], targets[counts], values)
        result["calibration"] = calibration_metrics(columns, n_bins)
        notes += why_not

    is_malformed = answered & (counted.status != "ok")
    reasons, occurrences = np.unique(counted.status[is_malformed].astype(str), return_counts=True)
    unscored = unscored_reasons(counted.status, rows["error"]) if "error" in rows else {}
    if n_unscored := int(np.sum(~answered)):
        whys = (
            "; ".join(f"{count} times: {reason}" for reason, count in unscored.items()) or "the engine gave no answer"
        )
        notes.append(f"{n_unscored} of {len(answered)} rows are unscored and count in no figure ({whys}).")
    wrote = "num_tokens" not in rows or numbers(rows, "num_tokens").any()  # else it is a direct judge
    faults = find_faults(
        counted.status,
        counted.predictions,
        counted.targets,
        values=values,
        **{name: numbers(rows, name) for name in ("mass", "missing_mass") if name in rows},
        rationales=list(column(rows, "rationale")) if "rationale" in rows and wrote else None,
        labels=labels,
    )
    return result | {
        "malformed_rate": float(np.sum(is_malformed) / np.sum(answered)) if answered.any() else float("nan"),
        "malformed": {str(reason): int(count) for reason, count in zip(reasons, occurrences, strict=True)},
        "malformed_handling": malformed,
        "n_rows": len(counted.status),
        "n_unscored": n_unscored,
        "unscored": unscored,
        "n_groups": counted.n_groups,
        "mean_tokens": _mean_if_known(rows, "num_tokens", answered),
        "mean_mass": _mean_if_known(rows, "mass", answered),
        "missing_mass": _mean_if_known(rows, "missing_mass", answered),
        "baseline": baseline_errors(counted.targets),
        "verdict": [fault._asdict() for fault in faults],
        "notes": notes,
    }


def baseline_errors(targets: np.ndarray) -> dict[str, dict[str, float]]:
    """
    What always giving the same answer reaches: `{"mean" | "median": {"value", "n", …}}` with the metrics that are means over rows and need
    nothing but scores. The mean of the labels has the smallest RMSE that a constant can have, their median the smallest MAE. NaN without labels.
    """
    targets, errors = np.asarray(targets, dtype=np.float64), {}
    constants: dict[str, Callable[[np.ndarray], Any]] = {"mean": np.mean, "median": np.median}
    for name, constant in constants.items():
        value = float(constant(targets)) if len(targets) else float("nan")
        sample = Sample(np.full(len(targets), value), targets, np.zeros(len(targets), dtype=bool))
        figures = {each: of(sample) for each, of in METRICS.items() if of.per_row and not of.needs}
        errors[name] = {"value": value, **figures, "n": len(targets)}
    return errors


def _undefined_figures(
    inference: str, metrics: Mapping[str, float], predictions: np.ndarray, targets: np.ndarray, answered: bool
) -> list[str]:
    """Why figures of one inference are `nan`, a sentence each."""
    undefined = [name for name in METRICS if name in metrics and np.isnan(metrics[name])]
    if len(targets) == 0:
        why = "all rows are malformed and dropped" if answered else "the engine answered none of them"
        return [f"{inference}: {', '.join(undefined)} are undefined: {why}."]
    notes = []
    correlations = [name for name in undefined if "spread" in METRICS[name].needs]
    if correlations:
        if len(targets) == 1:
            why = "there is a single row"
        elif is_constant(predictions):
            why = f"all {len(predictions)} predictions are {predictions[0]:g}"
        else:
            why = f"all {len(targets)} targets are {targets[0]:g}"
        notes.append(f"{inference}: {', '.join(correlations)} are undefined: {why}.")
    for name in undefined:
        if METRICS[name].undefined:
            notes.append(f"{inference}: {name} is undefined: {METRICS[name].undefined}.")
    return notes


def _mean_if_known(rows: Rows, name: str, keep: np.ndarray) -> float | None:
    values = numbers(rows, name)[keep] if name in rows else np.empty(0)
    known = values[np.isfinite(values)]
    return float(np.mean(known)) if len(known) else None
