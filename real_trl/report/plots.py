# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of an evaluation, from its results and its predictions. Figures of matplotlib; nothing is shown or saved."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from real_trl.evaluation.registry import CALIBRATION, METRICS, is_undefined, nearest_values
from real_trl.evaluation.unscored import UNSCORED
from real_trl.report.cells import is_doubtful
from real_trl.report.notation import INFERENCES, MARK
from real_trl.report.panels import COLORS, MARKERS, draw_scatter, new_figure
from real_trl.report.tables import Evaluation, breakdown_sheet

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_MAX_TICKS = 11


def plot_predictions(evaluation: Evaluation, dataset: str, frames: "Mapping[str, pd.DataFrame]") -> "Figure":
    """
    Expected against true scores, one panel a judge.

    Args:
        evaluation (`Mapping`):
            What `evaluation.json` holds; the correlation in a panel's title is the one in its results.
        frames (`Mapping[str, pandas.DataFrame]`):
            Judge → predictions, with the columns `target`, `expected_score` and `status`. Rows that the convention for
            malformed answers drops are not drawn; other malformed ones are crosses.

    Raises:
        `ValueError`: If a frame lacks a column.
    """
    columns = min(len(frames), 4)
    rows = -(-len(frames) // columns)
    figure = new_figure(max(5.0, 3.6 * columns), 4.3 * rows + 0.5)
    figure.suptitle(f"{dataset}: predicted against true score")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (judge, frame), color in zip(panels, frames.items(), _cycle(COLORS), strict=False):
        result = evaluation["results"][dataset][judge]
        malformed = np.asarray(frame["status"] != "ok")
        kept = ~malformed if result["malformed_handling"] == "drop" else np.asarray(frame["status"] != UNSCORED)
        spec, value = METRICS["pearson"], result["rail"]["pearson"]
        mark = MARK if is_doubtful(result, "rail") else ""
        title = f"{spec.unit} = {spec.print(value)}{mark}, n = {result['rail']['n']}"
        draw_scatter(axes, judge, frame[kept], color, judge, title, malformed[kept])
    for axes in panels[len(frames) :]:
        axes.set_axis_off()
    low, high = _ends(evaluation, dataset)
    margin = 0.05 * (high - low)
    panels[0].set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    for axes in panels[::columns]:
        axes.set_ylabel("predicted score ŷ (RAIL)")
    _legend_below(figure, panels[: len(frames)])
    return figure


def plot_reliability(evaluation: Evaluation, dataset: str) -> "Figure":
    """
    Reliability diagram of the most probable label (above), and the share of rows in each bin (below).

    Args:
        evaluation (`Mapping`):
            What `evaluation.json` holds; the bins are those of each result's `calibration`.

    Returns:
        `matplotlib.figure.Figure`: A judge below the diagonal is surer than it is right.
    """
    figure = new_figure(6.0, 5.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="0.3", linestyle="--", linewidth=1, label="as sure as right")
    for place, (judge, result) in enumerate(evaluation["results"][dataset].items()):
        calibration = result.get("calibration", {})
        bins = calibration.get("bins", [])
        confidence, accuracy, n = (np.array([row[key] for row in bins]) for key in ("confidence", "accuracy", "n"))
        style = {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}
        label = f"{judge} (ECE {CALIBRATION['ece'].print(calibration.get('ece'))}, n = {calibration.get('n', 0)})"
        above.plot(confidence, accuracy, label=label, **style)
        below.vlines(confidence, 0, 100 * n / max(1, n.sum()), color=style["color"], linewidth=2)
        below.plot(confidence, 100 * n / max(1, n.sum()), linestyle="", **style)
    above.set(title=f"{dataset}: reliability of the most probable label", ylabel="share right", ylim=(-0.03, 1.03))
    below.set(xlabel="probability of the label, mean of a bin", ylabel="% of rows", xlim=(0, 1), ylim=(0, None))
    for axes in (above, below):
        axes.grid(alpha=0.25)
    above.legend(fontsize="small")
    return figure


def plot_distributions(evaluation: Evaluation, dataset: str, frames: "Mapping[str, pd.DataFrame]") -> "Figure":
    """
    Histogram of the true labels (bars), and the mean of the predicted distributions (a line a judge).

    Args:
        frames (`Mapping[str, pandas.DataFrame]`):
            Judge → predictions, with the columns `target` and `probabilities`. A target between two labels counts as the
            nearest (ties go to the lower label). Rows with an unknown probability are left out of the mean.
    """
    labels, values = (evaluation["datasets"][dataset][key] for key in ("labels", "values"))
    values = np.asarray(values, dtype=float)
    figure = new_figure(max(6.0, min(11.0, 0.5 * len(labels) + 3)), 4.2)
    axes = figure.subplots()
    target = nearest_values(next(iter(frames.values()))["target"], values)
    places = np.arange(len(values))
    shares = [100 * np.mean(target == value) for value in values]
    axes.bar(places, shares, color="0.8", width=0.9, label="true scores (nearest label)")
    many = len(labels) > 2 * _MAX_TICKS
    for judge, frame, color, marker in zip(frames, frames.values(), _cycle(COLORS), _cycle(MARKERS), strict=False):
        distributions = np.array([np.asarray(row, dtype=float) for row in frame["probabilities"] if row is not None])
        known = distributions[np.isfinite(distributions).all(1)] if len(distributions) else distributions
        if len(known):
            mean = 100 * known.mean(0)
            axes.plot(places, mean, color=color, marker=None if many else marker, label=f"{judge}, mean distribution")
    shown = places[:: max(1, -(-len(places) // _MAX_TICKS))]
    axes.set_xticks(shown, [_short(labels[place]) for place in shown])
    axes.set(xlabel="label", ylabel="%", ylim=(0, None), title=f"{dataset}: scores, n = {len(target)}")
    axes.grid(axis="y", alpha=0.25)
    axes.legend(fontsize="small")
    return figure


def plot_breakdown(
    evaluation: Evaluation, dataset: str, column: str, metric: str = "pearson", inference: str = "rail"
) -> "Figure":
    """
    One metric by the values of a column, a bar a judge with its interval.

    Args:
        metric (`str`, *optional*, defaults to `"pearson"`):
            What the bars show. An undefined figure has no bar but the text `n/a`.

    Raises:
        `ValueError`: If that breakdown was not made.
    """
    breakdown_sheet(evaluation, dataset, column, inference)  # raises if it was not made
    categories = evaluation["breakdown"][dataset][column]
    judges = [judge for judge in evaluation["results"][dataset] if any(judge in row for row in categories.values())]
    spec = METRICS[metric]
    height = 0.8 / len(judges)
    figure = new_figure(7.0, 1.6 + len(categories) * (0.25 + 0.22 * len(judges)))
    axes = figure.subplots()
    for index, judge in enumerate(judges):
        for place, results in enumerate(categories.values()):
            if judge not in results:
                continue
            value = results[judge][inference].get(metric)
            y = place + (index - (len(judges) - 1) / 2) * height
            if is_undefined(value):
                axes.text(0, y, " n/a", va="center", fontsize="small")
                continue
            style: dict[str, Any] = {"color": COLORS[index % len(COLORS)], "height": 0.9 * height}
            axes.barh(y, spec.factor * value, **style)
            interval = results[judge].get("intervals", {}).get(inference, {}).get(metric)
            if interval is not None and not any(map(is_undefined, interval)):
                axes.plot(np.multiply(spec.factor, interval), [y, y], color="black", linewidth=1.2, marker="|")
    rows = [max(result[inference]["n"] for result in results.values()) for results in categories.values()]
    names = [f"{_short(str(value), 24)} (n = {n})" for value, n in zip(categories, rows, strict=True)]
    axes.set_yticks(range(len(categories)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"{spec.unit}, {INFERENCES[inference]}; lines: 95% intervals")
    axes.set_title(f"{dataset} by {column}")
    axes.grid(axis="x", alpha=0.25)
    handles = [axes.barh(0, 0, color=COLORS[index % len(COLORS)]) for index in range(len(judges))]
    figure.legend(handles, judges, loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _ends(evaluation: Evaluation, dataset: str) -> tuple[float, float]:
    values = evaluation["datasets"][dataset]["values"]
    return min(values), max(values)


def _cycle(items: Sequence[Any]) -> Sequence[Any]:
    return [*items] * 100


def _short(text: str, limit: int = 12) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _legend_below(figure: "Figure", panels: Iterable[Any]) -> None:
    """One legend for all panels, each name once."""
    named: dict[str, Any] = {}
    for axes in panels:
        named |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=3, fontsize="small")
