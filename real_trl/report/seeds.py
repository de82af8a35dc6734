# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Methods against each other, over several seeds: the table of the quickstart and of the benchmark of methods."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from real_trl.evaluation.registry import METRICS, UNDEFINED, Metric, core_metrics
from real_trl.report.notation import INFERENCES, LEGEND


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
            `rmse`, `mae`, and `doubtful`, above 0 where these are worth nothing; further keys there are ignored. Beside the
            inferences, `always_mean` may have `rmse` and `mae` of always answering the mean of the labels. A metric is a number, or what [`summarize_seeds`] makes of
            several, printed as the mean and, below it, ± the standard deviation. The order is kept.

    Returns:
        `rich.table.Table`: Correlations × 100, errors in score units, the best value of every column bold, an
        undefined one `n/a`, one that is worth nothing red and never bold. It fits 80 columns.

    Raises:
        `ValueError`: If the summary is empty, or a method lacks a split, an inference or a metric.
    """
    if not summary:
        raise ValueError("`summary` is empty: pass at least one method.")
    rows = [(method, inference) for method in summary for inference in INFERENCES]
    # Without outer edges and with one space between columns, ten metrics fit a terminal of 80 columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption=LEGEND, caption_justify="left")
    table.add_column("Method", no_wrap=True)
    table.add_column("Inference", no_wrap=True)
    columns: list[list[Text]] = [
        [Text(method if inference == "standard" else "") for method, inference in rows],
        [Text(INFERENCES[inference]) for _, inference in rows],
    ]
    always = all("always_mean" in of for splits in summary.values() for of in splits.values())
    if always:
        columns[0].append(Text("Always"))
        columns[1].append(Text("mean"))
    seeds, any_doubtful = 1, False
    for split in next(iter(summary.values())):
        table.add_column("")  # a gap between the splits
        columns.append([Text()] * (len(rows) + always))
        doubtful = [_is_doubtful(summary[method].get(split, {}).get(inference, {})) for method, inference in rows]
        any_doubtful |= any(doubtful)
        for metric in core_metrics():
            spec = METRICS[metric]
            values = [_lookup(summary, method, split, inference, metric) for method, inference in rows]
            seeds = max(seeds, *(len(value["values"]) if isinstance(value, Mapping) else 1 for value in values))
            table.add_column(f"{split.upper()}\n{spec.title}", justify="right", no_wrap=True)
            columns.append(_metric_cells(values, spec, doubtful))
            if always:
                # The labels are the same for every method
                constant = next(iter(summary.values()))[split]["always_mean"]
                columns[-1] += _metric_cells([constant.get(metric, math.nan)], spec, [True], style="")
    for index, row in enumerate(zip(*columns, strict=True)):
        table.add_row(*row, end_section=index % 2 == 1)
    captions = [LEGEND]
    if seeds > 1:
        captions.append(f"Mean ± standard deviation over {seeds} seeds.")
    if always:
        captions.append("Always mean: what always answering the mean of the labels reaches.")
    if any_doubtful:
        captions.append("Red: worth nothing, by the verdict of the evaluation (in one seed at least).")
    table.caption = " ".join(captions)
    return table


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


def _is_doubtful(figures: Mapping[str, Any]) -> bool:
    return _mean(figures.get("doubtful", 0)) > 0


def _mean(value: Any) -> float:
    return value["mean"] if isinstance(value, Mapping) else value


def _metric_cells(values: Sequence[Any], spec: Metric, doubtful: Sequence[bool], style: str = "red") -> list[Text]:
    """One column of the results, the best bold (all that print the same as the best), those that are worth nothing in `style`."""
    means = [spec.print(_mean(value)) for value in values]
    worth = [mean for mean, doubt in zip(means, doubtful, strict=True) if mean != UNDEFINED and not doubt]
    best = spec.best(worth, key=float, default="")
    cells = [
        Text(mean, style=style if doubt else "bold" if mean == best else "")
        for mean, doubt in zip(means, doubtful, strict=True)
    ]
    for cell, value in zip(cells, values, strict=True):
        if isinstance(value, Mapping) and not math.isnan(value["std"]):
            cell.append(f"\n±{spec.print(value['std'])}", style="not bold dim")
    return cells
