# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of RESULTS.md."""

from typing import TYPE_CHECKING

import numpy as np

from experiments.analysis import Reading, Results
from experiments.findings import planned_seeds
from experiments.tables import ABLATIONS, METHODS
from real_trl.report.panels import COLORS, MARKERS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INFERENCES = ("sampled", "greedy", "greedy RAIL", "RAIL", "average of 10")
_PANELS = {
    "rail/pearson": ("r × 100, RAIL", 100.0),
    "rail/rmse": ("RMSE, RAIL", 1.0),
    "mean_tokens": ("tokens per answer", 1.0),
    "entropy": ("entropy (nats per token)", 1.0),
}


def methods(results: Results) -> "Figure":
    """OOD Pearson of every method under every inference, with intervals."""
    names = [run for run in METHODS if results.has(run)]
    figure = new_figure(9, 4.6)
    axes = figure.subplots()
    for place, inference in enumerate(_INFERENCES):
        figures = [results.figure(Reading(run, inference), planned_seeds(results, run)) for run in names]
        means = np.array([100 * each.mean for each in figures])
        errors = [means - [100 * each.low for each in figures], [100 * each.high for each in figures] - means]
        positions = np.arange(len(names)) + 0.14 * (place - len(_INFERENCES) // 2)
        style = {"color": COLORS[place], "marker": MARKERS[place]}
        axes.errorbar(positions, means, errors, linestyle="none", markersize=5, capsize=2, label=inference, **style)
    axes.set_xticks(range(len(names)), [METHODS[run].replace(", ", ",\n") for run in names])
    axes.set_ylabel("out-of-domain r × 100")
    axes.set_title("Every method: 95% intervals over seeds and rows")
    axes.grid(axis="y", alpha=0.25)
    figure.legend(loc="outside lower center", ncols=len(_INFERENCES), fontsize="small")
    return figure


def curves(results: Results) -> "Figure":
    """Fig. 2 and 4: held-out figures during training, mean and range over seeds."""
    figure = new_figure(13, 3.6)
    grid = figure.subplots(1, len(_PANELS))
    seeds = planned_seeds(results, "real", "standard_rl")
    for axes, (key, (title, factor)) in zip(grid, _PANELS.items(), strict=True):
        for place, run in enumerate(("standard_rl", "real")):
            logged = results.training.query("run == @run and seed in @seeds").dropna(subset=[f"judge_eval/ood/{key}"])
            table = factor * logged.pivot_table(index="step", columns="seed", values=f"judge_eval/ood/{key}")
            style = {"color": COLORS[place]}
            axes.plot(
                table.index, table.mean(axis=1), label=METHODS[run], marker=MARKERS[place], markersize=4, **style
            )
            axes.fill_between(table.index, table.min(axis=1), table.max(axis=1), alpha=0.15, linewidth=0, **style)
        axes.set_title(title, fontsize="medium")
        axes.set_xlabel("optimizer step")
        axes.grid(alpha=0.25)
    figure.suptitle(
        f"Out of domain during training: mean and range over {len(seeds)} seeds, 200 rows, one sampled rationale each"
    )
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def ablations(results: Results) -> "Figure":
    """What each change makes of REAL and Standard RL: difference in OOD Pearson under RAIL, with intervals."""
    rows = [
        (
            f"{METHODS[parent]}: {title}",
            results.difference(Reading(run), Reading(parent), planned_seeds(results, run, parent)),
            place,
        )
        for place, (parent, runs) in enumerate(ABLATIONS.items())
        for run, title in runs.items()
        if results.has(run, parent)
    ]
    figure = new_figure(8, 0.6 + 0.3 * max(len(rows), 4))
    axes = figure.subplots()
    for height, (_, difference, place) in enumerate(rows):
        mean = 100 * difference.mean
        error = [[mean - 100 * difference.low], [100 * difference.high - mean]]
        axes.errorbar(mean, height, xerr=error, color=COLORS[place], marker=MARKERS[place], markersize=5, capsize=2)
    axes.axvline(0, color="0.3", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [title for title, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("change in out-of-domain r × 100 (RAIL), 95% interval")
    axes.grid(axis="x", alpha=0.25)
    return figure
