# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Parts that several plots share: an empty figure, a scatter of predicted against true scores, a logged curve."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from real_trl.evaluation.metrics import score_metrics
from real_trl.evaluation.registry import METRICS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart; black and grey are for the truth.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#5B4B8A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches; `ImportError` without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: pip install matplotlib, or install real_trl with its extra `plots`"
        ) from error
    # A bare Figure draws with Agg; pyplot would touch the caller's backend and open figures.
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def logged_values(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Steps and values `(n, 2)` of the entries that have `key`."""
    logged = [(entry["step"], entry[key]) for entry in history if entry.get(key) is not None]
    return np.asarray(logged, dtype=np.float64).reshape(-1, 2)


def running_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over a tenth of the values, over fewer at the ends; NaNs (an undefined correlation) are skipped."""
    valid = np.isfinite(values)
    kernel = np.ones(2 * (len(values) // 20) + 1)
    sums = np.convolve(np.where(valid, values, 0.0), kernel, mode="same")
    counts = np.convolve(valid.astype(np.float64), kernel, mode="same")
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0.5)


def draw_scatter(
    axes: "Axes",
    method: str,
    frame: "pd.DataFrame",
    color: str,
    label: str,
    title: str | None = None,
    crossed: np.ndarray | None = None,
) -> None:
    """
    Expected against true scores, jittered along the true ones, with the mean at each true score if there are few.

    Args:
        axes (`matplotlib.axes.Axes`): Where to draw.
        method (`str`): Whose predictions these are, for errors.
        frame (`pandas.DataFrame`): Has the columns `target` and `expected_score`; rows without the latter are left out.
        color (`str`): Colour of the points.
        label (`str`): Name for the title.
        title (`str`, *optional*): The title's second line. Default: Pearson's r × 100 and the number of rows.
        crossed (`numpy.ndarray`, *optional*): Which rows are drawn as crosses, booleans `(n,)`.

    Raises:
        `ValueError`: If a column is missing.
    """
    for column in ("target", "expected_score"):
        if column not in frame:
            raise ValueError(f"The predictions of {method!r} have no column {column!r}: they have {list(frame)}.")
    target, predicted = (np.asarray(frame[column], dtype=np.float64) for column in ("target", "expected_score"))
    scored = np.isfinite(predicted)
    counted = len(scored) if scored.all() else f"{scored.sum()} of {len(scored)}"
    target, predicted = target[scored], predicted[scored]
    crossed = np.zeros(len(target), dtype=bool) if crossed is None else np.asarray(crossed)[scored]

    levels = np.unique(target)
    gap = np.diff(levels).min() if len(levels) > 1 else 1.0
    jittered = target + np.random.default_rng(0).uniform(-0.25 * gap, 0.25 * gap, size=len(target))
    axes.scatter(jittered[~crossed], predicted[~crossed], s=14, alpha=0.35, color=color, linewidths=0)
    if crossed.any():
        style: dict[str, Any] = {
            "s": 26,
            "color": "black",
            "marker": "x",
            "linewidths": 1.2,
            "label": "malformed answer",
        }
        axes.scatter(jittered[crossed], predicted[crossed], **style)
    if len(levels) <= 20:  # more is a continuous target, with too few rows at each value for a mean
        means = [predicted[target == level].mean() for level in levels]
        axes.plot(levels, means, "o-", color="black", markersize=4, linewidth=1.2, label="mean ŷ at each y*")
    axes.axline((0, 0), slope=1, color="0.3", linestyle="--", linewidth=1, label="ŷ = y*")
    axes.set_aspect("equal")
    if title is None:
        spec = METRICS["pearson"]
        title = f"{spec.unit} = {spec.print(score_metrics(predicted, target)['pearson'])}, n = {counted}"
    axes.set_title(f"{label}\n{title}")
    axes.set_xlabel("true score y* (jittered)")
    axes.grid(alpha=0.25)
