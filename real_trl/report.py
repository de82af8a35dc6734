# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a run shows its reader: tables of metrics for the terminal, and the picture of the quickstart."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from .metrics import score_metrics

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

INFERENCES = {"standard": "Standard", "rail": "RAIL"}


class _Metric(NamedTuple):
    title: str
    factor: float
    decimals: int
    best: Callable[..., str]  # `max` or `min`

    def print(self, value: float) -> str:
        return _number(self.factor * value, self.decimals)


_METRICS = {
    "pearson": _Metric("r", 100.0, 1, max),
    "spearman": _Metric("ρ", 100.0, 1, max),
    "kendall": _Metric("τ", 100.0, 1, max),
    "rmse": _Metric("RMSE", 1.0, 3, min),
    "mae": _Metric("MAE", 1.0, 3, min),
}
_LEGEND = "r Pearson, ρ Spearman, τ Kendall τ-b, × 100, higher is better. RMSE, MAE: score units, lower is better."

# log_history key: axis label. The keys are the ones REALTrainer logs.
_CURVES = {"reward": "reward", "score/abs_error": "|ŷ − y*|", "score/pearson": "Pearson r"}


def summarize_seeds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Joins the summaries of several seeds into one of the same shape.

    Args:
        summaries (`Sequence[Mapping[str, Any]]`):
            One nested dict a seed, all of one shape, with numbers as leaves (for [`results_table`]: method → split →
            inference → metric).

    Returns:
        `dict[str, Any]`: The same nesting, where a leaf is `{"mean": float, "std": float, "values": list[float]}`.
        `std` is the sample standard deviation (n − 1), `nan` for a single seed. A `nan` in one seed makes the mean
        `nan`: a method that failed once has no average.

    Raises:
        `ValueError`: If there are no summaries, or their keys differ.
    """
    if not summaries:
        raise ValueError("`summaries` is empty: pass the summary of at least one seed.")
    return _join(summaries, path="summary")


def results_table(summary: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]]) -> Table:
    """
    The methods against each other: two rows a method (standard decoding, RAIL), five columns a split.

    Args:
        summary (`Mapping`):
            Method → split (`"id"`, `"ood"`) → inference (`"standard"`, `"rail"`) → `pearson`, `spearman`, `kendall`,
            `rmse`, `mae`; further keys there are ignored. A metric is a number, or what [`summarize_seeds`] makes of
            several, printed as the mean and, below it, ± the standard deviation. The order is kept.

    Returns:
        `rich.table.Table`: Correlations × 100, errors in score units, the best value of every column bold, an
        undefined one `n/a`. It fits 80 columns.

    Raises:
        `ValueError`: If the summary is empty, or a method lacks a split, an inference or a metric.
    """
    if not summary:
        raise ValueError("`summary` is empty: pass at least one method.")
    rows = [(method, inference) for method in summary for inference in INFERENCES]
    table = _table("Method", "Inference")
    columns: list[list[Text]] = [_first_of_pair(summary), [Text(INFERENCES[inference]) for _, inference in rows]]
    seeds = 1
    for split in next(iter(summary.values())):
        table.add_column("")  # a gap between the splits
        columns.append([Text()] * len(rows))
        for metric, spec in _METRICS.items():
            values = [_lookup(summary, method, split, inference, metric) for method, inference in rows]
            seeds = max(seeds, *(len(value["values"]) if isinstance(value, Mapping) else 1 for value in values))
            table.add_column(f"{split.upper()}\n{spec.title}", justify="right", no_wrap=True)
            columns.append(_metric_cells(values, spec))
    _add_pairs(table, columns)
    if seeds > 1:
        table.caption = f"{_LEGEND} Mean ± standard deviation over {seeds} seeds."
    return table


def evaluation_table(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """
    One evaluation run: two rows (standard decoding, RAIL) a dataset.

    Args:
        results (`Mapping[str, Mapping[str, Any]]`):
            Name of the split or dataset → what [`~real_trl.metrics.evaluate_predictions`] returned for it.

    Returns:
        `rich.table.Table`: As [`results_table`], and the number of rows `n` behind the figures, the share of malformed
        completions, the reasons, and whether their scores were forced or they were dropped from the figures.
    """
    malformed = []
    for result in results.values():
        reasons = ", ".join(f"{count} {status}" for status, count in result["malformed"].items())
        handled = {"force": "forced", "drop": "dropped"}[result["malformed_handling"]]
        malformed.append(f"{100 * result['malformed_rate']:.1f}%" + (f" ({reasons}), {handled}" if reasons else ""))

    rows = [result[inference] for result in results.values() for inference in INFERENCES]
    table = _table("Dataset", "Inference")
    columns = [_first_of_pair(results), [Text(label) for _ in results for label in INFERENCES.values()]]
    for metric, spec in _METRICS.items():
        table.add_column(spec.title, justify="right", no_wrap=True)
        columns.append([Text(spec.print(row[metric])) for row in rows])
    table.add_column("n", justify="right", no_wrap=True)
    columns.append([Text(str(row["n"])) for row in rows])
    table.add_column("Malformed")
    columns.append(_first_of_pair(malformed))
    _add_pairs(table, columns)
    return table


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

    Returns:
        `Path`: `path`.

    Raises:
        `ImportError`: Without matplotlib.
        `ValueError`: If a run never logged `reward`, `score/abs_error` or `score/pearson`, or a frame lacks a column.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib: pip install matplotlib, or install real_trl with its extra `plots`"
        ) from error
    if not log_histories or not predictions:
        raise ValueError("`log_histories` and `predictions` each need at least one entry: there is nothing to draw.")
    names = list(dict.fromkeys([*log_histories, *predictions]))
    style = {name: {"color": f"C{i}", "label": (labels or {}).get(name, name)} for i, name in enumerate(names)}

    # A bare Figure draws with Agg; pyplot would touch the caller's backend and open figures.
    widths = [4.6, 3.7 * len(predictions)]
    figure = Figure(figsize=(sum(widths), 5.0), layout="constrained", dpi=150)
    left, right = figure.subfigures(1, 2, width_ratios=widths, wspace=0.03)

    left.suptitle("RL training (thick: running mean)", fontsize="large")
    curves = left.subplots(len(_CURVES), 1, sharex=True)
    for axes, (key, label) in zip(curves, _CURVES.items(), strict=True):
        for run, history in log_histories.items():
            _draw_curve(axes, run, history, key, style[run])
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
    curves[-1].set_xlabel("optimizer step")
    left.align_ylabels()
    left.legend(*curves[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")

    right.suptitle(f"Predicted against true score, {split}", fontsize="large")
    panels = right.subplots(1, len(predictions), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (method, frame) in zip(panels, predictions.items(), strict=True):
        _draw_scatter(axes, method, frame, style[method])
    low, high = zip(panels[0].get_xlim(), panels[0].get_ylim(), strict=True)
    panels[0].set(xlim=(min(low), max(high)), ylim=(min(low), max(high)), ylabel="predicted score ŷ (RAIL)")
    right.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return Path(path)


def _draw_curve(axes: "Axes", run: str, history: Sequence[Mapping[str, Any]], key: str, style: dict[str, str]) -> None:
    logged = _logged(history, key)
    if not len(logged):
        raise ValueError(f"The log history of {run!r} has no {key!r}: pass the one of an RL run that logged it.")
    steps, values = logged.T
    axes.plot(steps, values, color=style["color"], alpha=0.25, linewidth=1)
    axes.plot(steps, _running_mean(values), linewidth=2, **style)
    held_out = _logged(history, f"eval_{key}")
    if len(held_out):
        color, label = style["color"], f"{style['label']}, held out"
        axes.plot(*held_out.T, color="black", markerfacecolor=color, marker="o", linestyle=":", label=label)


def _logged(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Steps and values `(n, 2)` of the entries that have `key`."""
    logged = [(entry["step"], entry[key]) for entry in history if entry.get(key) is not None]
    return np.asarray(logged, dtype=np.float64).reshape(-1, 2)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred mean over a tenth of the values, over fewer at the ends; NaNs (an undefined correlation) are skipped."""
    valid = np.isfinite(values)
    kernel = np.ones(2 * (len(values) // 20) + 1)
    sums = np.convolve(np.where(valid, values, 0.0), kernel, mode="same")
    counts = np.convolve(valid.astype(np.float64), kernel, mode="same")
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0.5)


def _draw_scatter(axes: "Axes", method: str, frame: "pd.DataFrame", style: dict[str, str]) -> None:
    for column in ("target", "expected_score"):
        if column not in frame:
            raise ValueError(f"The predictions of {method!r} have no column {column!r}: they have {list(frame)}.")
    target, predicted = (np.asarray(frame[column], dtype=np.float64) for column in ("target", "expected_score"))
    scored = np.isfinite(predicted)
    counted = len(scored) if scored.all() else f"{scored.sum()} of {len(scored)}"
    target, predicted = target[scored], predicted[scored]

    levels = np.unique(target)
    gap = np.diff(levels).min() if len(levels) > 1 else 1.0
    shifts = np.random.default_rng(0).uniform(-0.25 * gap, 0.25 * gap, size=len(target))
    axes.scatter(target + shifts, predicted, s=14, alpha=0.35, color=style["color"], linewidths=0)
    if len(levels) <= 20:  # more is a continuous target, with too few rows at each value for a mean
        means = [predicted[target == level].mean() for level in levels]
        axes.plot(levels, means, "o-", color="black", markersize=4, linewidth=1.2, label="mean ŷ at each y*")
    axes.axline((0, 0), slope=1, color="0.3", linestyle="--", linewidth=1, label="ŷ = y*")
    axes.set_aspect("equal")
    axes.set_title(f"{style['label']}\nr = {_number(score_metrics(predicted, target)['pearson'], 3)}, n = {counted}")
    axes.set_xlabel("true score y* (jittered)")
    axes.grid(alpha=0.25)


def _join(parts: Sequence[Any], path: str) -> dict[str, Any]:
    keys = [list(part) if isinstance(part, Mapping) else None for part in parts]
    for seed, found in enumerate(keys):
        if (found and set(found)) != (keys[0] and set(keys[0])):
            raise ValueError(
                f"{path} has the keys {keys[0]} in summary 0 and {found} in summary {seed}: rerun that seed."
            )
    if keys[0] is not None:
        return {key: _join([part[key] for part in parts], f"{path}[{key!r}]") for key in keys[0]}
    values = [float(part) for part in parts]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return {"mean": float(np.mean(values)), "std": std, "values": values}


def _lookup(summary: Mapping[str, Any], method: str, split: str, inference: str, metric: str) -> Any:
    try:
        return summary[method][split][inference][metric]
    except KeyError as error:
        path = f"{method} → {split} → {inference} → {metric}"
        raise ValueError(f"`summary` has no {path} ({error} is missing): evaluate every method alike.") from error


def _table(*leading: str) -> Table:
    # Without outer edges and with one space between columns, ten metrics fit a terminal of 80 columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption=_LEGEND, caption_justify="left")
    for title in leading:
        table.add_column(title, no_wrap=True)
    return table


def _first_of_pair(names: Iterable[str]) -> list[Text]:
    """Each name on the first of its two rows only."""
    return [text for name in names for text in (Text(name), Text())]


def _add_pairs(table: Table, columns: Sequence[Sequence[Text]]) -> None:
    for index, row in enumerate(zip(*columns, strict=True)):
        table.add_row(*row, end_section=index % 2 == 1)


def _metric_cells(values: Sequence[Any], spec: _Metric) -> list[Text]:
    """One column of the results, the best bold (all that print the same as the best)."""
    means = [spec.print(value["mean"] if isinstance(value, Mapping) else value) for value in values]
    best = spec.best([mean for mean in means if mean != "n/a"], key=float, default="")
    cells = [Text(mean, style="bold" if mean == best else "") for mean in means]
    for cell, value in zip(cells, values, strict=True):
        if isinstance(value, Mapping) and not math.isnan(value["std"]):
            cell.append(f"\n±{spec.print(value['std'])}", style="not bold dim")
    return cells


def _number(value: float, decimals: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{decimals}f}"
