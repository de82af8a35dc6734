# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The learning curves of real scores."""

from typing import TYPE_CHECKING

from experiments.real_scores_data import TASKS
from experiments.real_scores_tables import CURVES, READINGS, RealScores
from real_trl.report.panels import COLORS, MARKERS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVED = ("unseen_questions", "similarity")
_PLACES = {"50": 0, "200": 1, "800": 2, "all": 3}


def curves(scores: RealScores) -> "Figure":
    """r over the number of labels, with intervals, and the other grader as a line."""
    figure = new_figure(10, 4.2)
    panels = figure.subplots(1, len(_CURVED))
    for axes, task in zip(panels, _CURVED, strict=True):
        for place, name in enumerate(CURVES):
            found = {x: scores.figure(task, READINGS[name], "pearson", size) for size, x in _PLACES.items()}
            found = {x: each for x, each in found.items() if each is not None}
            if not found:
                continue
            means = [100 * each.mean for each in found.values()]
            errors = [
                [100 * (each.mean - each.low) for each in found.values()],
                [100 * (each.high - each.mean) for each in found.values()],
            ]
            xs = [x + 0.06 * (place - len(CURVES) // 2) for x in found]
            style = {"color": COLORS[place], "marker": MARKERS[place], "markersize": 5, "capsize": 2}
            axes.errorbar(xs, means, errors, label=name.replace("**", ""), **style)
        if (human := scores.figure(task, READINGS["the other grader"], "pearson")) is not None:
            axes.axhline(100 * human.mean, color="0.3", linestyle="--", linewidth=1, label="the other grader")
        axes.set_title(TASKS[task], fontsize="medium")
        axes.set_xticks(list(_PLACES.values()), list(_PLACES))
        axes.set_xlabel("labels")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("r × 100")
    entries = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=len(entries), fontsize="small")
    return figure
