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

from .notation import CORE_METRICS, INFERENCES, LEGEND, METRICS, UNDEFINED, Metric


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
    # Without outer edges and with one space between columns, ten metrics fit a terminal of 80 columns.
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, caption=LEGEND, caption_justify="left")
    table.add_column("Method", no_wrap=True)
    table.add_column("Inference", no_wrap=True)
    columns: list[list[Text]] = [
        [Text(method if inference == "standard" else "") for method, inference in rows],
        [Text(INFERENCES[inference]) for _, inference in rows],
    ]
    seeds = 1
    for split in next(iter(summary.values())):
        table.add_column("")  # a gap between the splits
        columns.append([Text()] * len(rows))
        for metric in CORE_METRICS:
            spec = METRICS[metric]
            values = [_lookup(summary, method, split, inference, metric) for method, inference in rows]
            seeds = max(seeds, *(len(value["values"]) if isinstance(value, Mapping) else 1 for value in values))
            table.add_column(f"{split.upper()}\n{spec.title}", justify="right", no_wrap=True)
            columns.append(_metric_cells(values, spec))
    for index, row in enumerate(zip(*columns, strict=True)):
        table.add_row(*row, end_section=index % 2 == 1)
    if seeds > 1:
        table.caption = f"{LEGEND} Mean ± standard deviation over {seeds} seeds."
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


def _metric_cells(values: Sequence[Any], spec: Metric) -> list[Text]:
    """One column of the results, the best bold (all that print the same as the best)."""
    means = [spec.print(value["mean"] if isinstance(value, Mapping) else value) for value in values]
    best = spec.best([mean for mean in means if mean != UNDEFINED], key=float, default="")
    cells = [Text(mean, style="bold" if mean == best else "") for mean in means]
    for cell, value in zip(cells, values, strict=True):
        if isinstance(value, Mapping) and not math.isnan(value["std"]):
            cell.append(f"\n±{spec.print(value['std'])}", style="not bold dim")
    return cells
