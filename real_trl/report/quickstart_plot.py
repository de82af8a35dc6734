# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The picture of the quickstart: training curves, and predicted against true scores."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from real_trl.evaluation.registry import METRICS
from real_trl.report.panels import draw_scatter, logged_values, new_figure, running_mean

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# log_history key: axis label and factor. The keys are the ones REALTrainer logs.
_CURVES = {
    "reward": ("reward", 1),
    "score/abs_error": ("|ŷ − y*|", 1),
    "score/pearson": (METRICS["pearson"].unit.replace(" × ", "\n× "), METRICS["pearson"].factor),
}


def plot_quickstart(
    log_histories: Mapping[str, Sequence[Mapping[str, Any]]],
    predictions: "Mapping[str, pd.DataFrame]",
    path: str | Path,
    labels: Mapping[str, str] | None = None,
    split: str = "OOD",
) -> Path:
    """
    One PNG: training curves of the RL runs on the left, predicted against true scores on the right.

    Args:
        log_histories (`Mapping[str, Sequence[Mapping[str, Any]]]`):
            Run → `trainer.state.log_history` of an RL trainer, one line each, and dots where it was evaluated on held-out
            prompts. Entries without a key are skipped.
        predictions (`Mapping[str, pandas.DataFrame]`):
            Method → per-row predictions with the columns `target` and `expected_score`, one panel each. Rows without
            an expected score are left out, and the panel's title counts them.
        path (`str` or `Path`):
            Where the PNG goes; the folder is made.
        labels (`Mapping[str, str]`, *optional*):
            Run or method → the name shown for it. Default: the keys themselves. Equal keys share a colour.
        split (`str`, *optional*, defaults to `"OOD"`):
            What `predictions` were made on, for the title.

    Raises:
        `ValueError`: If a run never logged `reward`, `score/abs_error` or `score/pearson`, or a frame lacks a column.
    """
    if not log_histories or not predictions:
        raise ValueError("`log_histories` and `predictions` each need at least one entry: there is nothing to draw.")
    names = list(dict.fromkeys([*log_histories, *predictions]))
    style: dict[str, dict[str, Any]] = {
        name: {"color": f"C{i}", "label": (labels or {}).get(name, name)} for i, name in enumerate(names)
    }

    widths = [4.6, 3.7 * len(predictions)]
    figure = new_figure(sum(widths), 5.0)
    halves: Any = figure.subfigures(1, 2, width_ratios=widths, wspace=0.03)
    left, right = halves

    left.suptitle("RL training (thick: running mean)", fontsize="large")
    curves = left.subplots(len(_CURVES), 1, sharex=True)
    for axes, (key, (label, factor)) in zip(curves, _CURVES.items(), strict=True):
        for run, history in log_histories.items():
            _draw_curve(axes, run, history, key, style[run], factor)
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
    curves[-1].set_xlabel("optimizer step")
    left.align_ylabels()
    left.legend(*curves[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")

    right.suptitle(f"Predicted against true score, {split}", fontsize="large")
    panels = right.subplots(1, len(predictions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (method, frame) in zip(panels, predictions.items(), strict=True):
        draw_scatter(axes, method, frame, **style[method])
    low, high = zip(panels[0].get_xlim(), panels[0].get_ylim(), strict=True)
    panels[0].set(xlim=(min(low), max(high)), ylim=(min(low), max(high)), ylabel="predicted score ŷ (RAIL)")
    right.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return Path(path)


def _draw_curve(
    axes: "Axes", run: str, history: Sequence[Mapping[str, Any]], key: str, style: dict[str, Any], factor: float
) -> None:
    logged = logged_values(history, key)
    if not len(logged):
        raise ValueError(f"The log history of {run!r} has no {key!r}: pass the one of an RL run that logged it.")
    steps, values = logged[:, 0], factor * logged[:, 1]
    axes.plot(steps, values, color=style["color"], alpha=0.25, linewidth=1)
    axes.plot(steps, running_mean(values), linewidth=2, **style)
    held_out = logged_values(history, f"eval_{key}")
    if len(held_out):
        color, label = style["color"], f"{style['label']}, held out"
        axes.plot(
            held_out[:, 0],
            factor * held_out[:, 1],
            color="black",
            markerfacecolor=color,
            marker="o",
            linestyle=":",
            label=label,
        )
