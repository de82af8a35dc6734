# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of one judge with bootstrap intervals clustered by question, whole and broken down by a column."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from real_trl.evaluation.calibration import calibrated_rows, calibration_columns
from real_trl.evaluation.grouped_scores import GroupedScores
from real_trl.evaluation.metrics import evaluate_predictions
from real_trl.evaluation.registry import metric_names
from real_trl.evaluation.resampling import clustered_intervals, united_blocks
from real_trl.evaluation.rows import CountedRows, MalformedHandling, Rows, column, counted_rows

if TYPE_CHECKING:
    import pandas as pd


def evaluate_with_intervals(
    rows: Rows,
    malformed: MalformedHandling = "force",
    values: Sequence[float] | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    n_bins: int = 10,
    labels: Sequence[str] = (),
) -> dict[str, Any]:
    """
    [`~real_trl.evaluation.metrics.evaluate_predictions`] with bootstrap intervals clustered by group.

    Args:
        rows, malformed, values, n_bins, labels:
            As there.
        n_resamples (`int`, *optional*, defaults to `2000`):
            Bootstrap samples. Each draws as many groups as there are, with replacement, with all their rows; a group
            drawn twice is two groups to `pairwise_accuracy`. Both inferences are computed on the same samples, and so
            is any other judge on the same rows with the same seed.

    Returns:
        `dict[str, Any]`: The result without intervals, and `intervals`: `{"standard" | "rail": {metric: [low, high]}}`
        and `"calibration"` with `overconfidence`, `nll` and `crps` where there is a calibration (`ece` has no
        interval: it comes out too high, by an amount of its own in every resample). See
        [`~real_trl.evaluation.resampling.expanded_bca_interval`]. `[nan, nan]` where the figure is undefined, where there are
        fewer than 6 groups, or where more than half of the resamples have no defined figure; `notes` says so.
    """
    result = evaluate_predictions(rows, malformed, values, n_bins, labels)
    counted = counted_rows(rows, malformed, values)
    result["intervals"] = {}
    blocks, n_blocks = united_blocks(counted.groups, counted.n_groups, seed)
    sampling = {"n_resamples": n_resamples, "level": level, "seed": seed, "notes": result["notes"]}
    for inference, predictions in counted.predictions.items():
        if n_blocks == 0:
            result["intervals"][inference] = {name: [float("nan")] * 2 for name in metric_names(values)}
            continue
        scores = GroupedScores(predictions, counted.targets, counted.compared, values, counted.wrong, blocks)
        result["intervals"][inference] = clustered_intervals(scores.metrics, n_blocks, what=inference, **sampling)
    if values is not None:
        result["intervals"]["calibration"] = _calibration_intervals(rows, counted, malformed, values, labels, sampling)
    return result


def breakdown(
    rows: "pd.DataFrame",
    by: str,
    malformed: MalformedHandling = "force",
    values: Sequence[float] | None = None,
    intervals: bool = False,
    **kwargs: Any,
) -> dict[str, dict[str, Any]]:
    """
    One result for each value of a column.

    Args:
        by (`str`):
            The column, e.g. `"category"`. A row without a value goes under `"(none)"`.
        intervals (`bool`, *optional*, defaults to `False`):
            Whether to add intervals, with `kwargs` for [`evaluate_with_intervals`].

    Returns:
        `dict[str, dict[str, Any]]`: Value as text, sorted (numbers by size) → the result of its rows.

    Raises:
        `ValueError`: If there is no such column, or if it holds lists or dicts.
    """
    cells = list(column(rows, by))
    if any(isinstance(cell, list | dict | np.ndarray) for cell in cells):
        raise ValueError(f"Column `{by}` holds lists or dicts: break down by a column of text or numbers.")
    is_none = np.array([cell is None or cell != cell for cell in cells], dtype=bool)
    labels = np.array(
        ["(none)" if none else str(cell) for cell, none in zip(cells, is_none, strict=True)], dtype=object
    )
    present = [cell for cell, none in zip(cells, is_none, strict=True) if not none]
    try:
        names = [str(cell) for cell in sorted(set(present))]
    except TypeError:  # text and numbers
        names = sorted({str(cell) for cell in present})
    names = list(dict.fromkeys(names + ["(none)"] * bool(is_none.any())))
    evaluate = evaluate_with_intervals if intervals else evaluate_predictions
    return {name: evaluate(rows[labels == name], malformed, values, **kwargs) for name in names}


def _calibration_intervals(
    rows: Rows,
    counted: CountedRows,
    malformed: MalformedHandling,
    values: Sequence[float],
    labels: Sequence[str],
    sampling: dict[str, Any],
) -> dict[str, list[float]]:
    probabilities, counts, _ = calibrated_rows(rows, counted.status, malformed, values, labels)
    counts &= counted.counts
    groups = np.unique(counted.groups[counts[counted.counts]], return_inverse=True)[1]
    if not len(groups):
        return {name: [float("nan")] * 2 for name in ("overconfidence", "nll", "crps")}
    targets = counted.targets[counts[counted.counts]]
    columns = calibration_columns(probabilities[counts], targets, values)
    means = np.column_stack(
        [columns["confidence"] - columns["correct"], columns["nll"], columns["crps"], np.ones(len(groups))]
    )
    blocks, n_blocks = united_blocks(groups, groups.max() + 1, sampling["seed"])
    sums = np.stack([np.bincount(blocks, column, n_blocks) for column in means.T], axis=1)  # (G, 4)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        overconfidence, nll, crps, n = (weights @ sums).T
        return {"overconfidence": overconfidence / n, "nll": nll / n, "crps": crps / n}

    return clustered_intervals(statistic, n_blocks, what="calibration", **sampling)
