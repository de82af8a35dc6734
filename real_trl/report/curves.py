# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How a judge does on held-out benchmarks while it is trained (the paper's Fig. 2 and 4), and all plots as files."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from real_trl.evaluation.registry import METRICS, paper_metrics
from real_trl.report.notation import INFERENCES
from real_trl.report.panels import COLORS, MARKERS, logged_values, new_figure
from real_trl.report.plots import plot_breakdown, plot_distributions, plot_predictions, plot_reliability
from real_trl.report.tables import Evaluation, check_evaluation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Predictions = Mapping[str, Mapping[str, "pd.DataFrame"]]
_LENGTHS = {"mean_tokens": "tokens per answer", "entropy": "entropy (nats per token)"}


def plot_training_curves(
    log_histories: Mapping[str, Sequence[Mapping[str, Any]]],
    datasets: Sequence[str] | None = None,
    inference: str = "rail",
) -> "Figure":
    """
    r, ρ, τ and RMSE against the step, and the length and entropy of answers where they were logged: a row of panels a
    dataset, a line a run.

    Args:
        log_histories (`Mapping[str, Sequence[Mapping[str, Any]]]`):
            Run → `trainer.state.log_history` with keys like `judge_eval/mt_bench/rail/pearson`,
            `judge_eval/mt_bench/mean_tokens` and `judge_eval/mt_bench/entropy`.
        datasets (`Sequence[str]`, *optional*):
            Which datasets. Default: all that any run logged.

    Raises:
        `ValueError`: If no run logged a figure of one of the datasets, or of any.
    """
    found = _logged_datasets(log_histories, inference)
    for dataset in datasets or ():
        if dataset not in found:
            raise ValueError(
                f"No run logged judge_eval/{dataset}/{inference}/…: logged were {found or 'no datasets'}."
            )
    datasets = list(datasets or found)
    if not datasets:
        raise ValueError(
            f"No run logged judge_eval/<dataset>/{inference}/…: train with the evaluation callback, or pass the log history "
            "of a run that did."
        )
    panels = _panels(log_histories, datasets, inference)
    figure = new_figure(3.1 * len(panels), 2.7 * len(datasets) + 0.7)
    grid = figure.subplots(len(datasets), len(panels), squeeze=False, sharex=True)
    for panels_of_dataset, dataset in zip(grid, datasets, strict=True):
        for axes, (title, (key, factor)) in zip(panels_of_dataset, panels.items(), strict=True):
            for place, (run, history) in enumerate(log_histories.items()):
                steps, values = logged_values(history, f"judge_eval/{dataset}/{key}").T
                style = {"color": COLORS[place % len(COLORS)], "marker": MARKERS[place % len(MARKERS)]}
                axes.plot(steps, factor * values, markersize=4, label=run, **style)
            if not any(len(line.get_xdata()) for line in axes.lines):
                axes.set_axis_off()  # no run logged it on this dataset
                continue
            axes.set_title(f"{dataset}: {title}" if len(datasets) > 1 else title, fontsize="medium")
            axes.grid(alpha=0.25)
    for axes in grid[-1]:
        axes.set_xlabel("optimizer step")
    figure.suptitle(f"Held-out evaluation during training, {INFERENCES[inference]}: {', '.join(datasets)}")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def evaluation_figures(evaluation: Evaluation, predictions: Predictions) -> "dict[str, Figure]":
    """
    Every plot of an evaluation.

    Returns:
        `dict[str, matplotlib.figure.Figure]`: Name → figure; the names are unique.

    Raises:
        `ValueError`: If the evaluation holds no results, or has none for some predictions.
    """
    check_evaluation(evaluation)
    check_predictions(evaluation, predictions)
    figures = {}
    for dataset, frames in predictions.items():
        if dataset in evaluation.get("choices", {}):  # of which there is no true score
            continue
        figures[f"{dataset}: predicted against true"] = plot_predictions(evaluation, dataset, frames)
        figures[f"{dataset}: reliability"] = plot_reliability(evaluation, dataset)
        figures[f"{dataset}: distributions"] = plot_distributions(evaluation, dataset, frames)
        for column in evaluation.get("breakdown", {}).get(dataset, {}):
            figures[f"{dataset}: by {column}"] = plot_breakdown(evaluation, dataset, column)
    return figures


def save_plots(evaluation: Evaluation, predictions: Predictions, directory: str | Path) -> list[Path]:
    """
    Saves every plot of an evaluation as a PNG.

    Args:
        directory (`str` or `Path`):
            Where to; it is made.

    Returns:
        `list[Path]`: The files, such as `mt_bench-reliability.png`.

    Raises:
        `ValueError`: If the evaluation holds no results, or has none for some predictions.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name, figure in evaluation_figures(evaluation, predictions).items():
        stem = re.sub(r"[^\w.]+", "-", name).strip("-.")
        same = sum(path.stem == stem or path.stem.startswith(f"{stem}~") for path in paths)  # `a/b` and `a b`
        paths.append(directory / (f"{stem}~{same + 1}.png" if same else f"{stem}.png"))
        figure.savefig(paths[-1], format="png")
    return paths


def check_predictions(evaluation: Evaluation, predictions: Predictions) -> None:
    """`ValueError` if predictions are of a dataset or a judge that the evaluation has no results of."""
    results, compared = evaluation["results"], evaluation.get("choices", {})
    for dataset, frames in predictions.items():
        if dataset in compared:
            continue
        if dataset not in results:
            raise ValueError(f"Predictions of dataset {dataset!r}, which has no results: there are {list(results)}.")
        for judge in frames:
            if judge not in results[dataset]:
                raise ValueError(
                    f"Predictions of judge {judge!r} on {dataset!r} have no results: there are {list(results[dataset])}."
                )


def _logged_datasets(log_histories: Mapping[str, Sequence[Mapping[str, Any]]], inference: str) -> list[str]:
    pattern = re.compile(rf"judge_eval/(.+)/{re.escape(inference)}/(?:{'|'.join(paper_metrics())})")
    keys = (key for history in log_histories.values() for entry in history for key in entry)
    return list(dict.fromkeys(match[1] for key in keys if (match := pattern.fullmatch(key))))


def _panels(
    log_histories: Mapping[str, Sequence[Mapping[str, Any]]], datasets: Sequence[str], inference: str
) -> dict[str, tuple[str, float]]:
    """Title of a panel → the key it shows and the factor: the metrics always, lengths where some run logged them."""
    panels = {METRICS[metric].unit: (f"{inference}/{metric}", METRICS[metric].factor) for metric in paper_metrics()}
    logged = {key for history in log_histories.values() for entry in history for key in entry}
    for name, title in _LENGTHS.items():
        if any(f"judge_eval/{dataset}/{name}" in logged for dataset in datasets):
            panels[title] = (name, 1.0)
    return panels
