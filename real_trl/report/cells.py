# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A table as plain text cells, which the terminal, Markdown and HTML then dress in their own way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .notation import CORE_METRICS, METRICS, UNDEFINED, Metric, is_undefined


@dataclass(frozen=True)
class Cell:
    """One figure or name: its text, the ends of its interval, and whether it stands out."""

    text: str
    interval: tuple[str, str] | None = None
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """A column's title, whether it holds figures, and `rank`: in a narrow terminal the highest are left out first."""

    title: str
    figures: bool = True
    rank: int = 0


@dataclass(frozen=True)
class Sheet:
    """A table: title, columns, rows of as many cells, sentences to print below, and whether a page may fold it up."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()
    folded: bool = False


def used_metrics(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    """The metrics that some result has, in the order of [`METRICS`]; the core ones always."""
    found = set(CORE_METRICS).union(*figures)
    return [metric for metric in METRICS if metric in found]


def metric_cell(result: Mapping[str, Any], inference: str, metric: str, strong: bool = False) -> Cell:
    """One figure of a result with its interval."""
    interval = result.get("intervals", {}).get(inference, {}).get(metric)
    return interval_cell(METRICS[metric], result[inference].get(metric), interval, strong=strong)


def metric_cells(results: Sequence[tuple[Mapping[str, Any], str]], metric: str) -> list[Cell]:
    """One column of figures, the best strong (all that print the same as the best)."""
    texts = [METRICS[metric].print(result[inference].get(metric)) for result, inference in results]
    best = best_text(texts, metric)
    return [
        metric_cell(result, inference, metric, strong=text == best)
        for (result, inference), text in zip(results, texts, strict=True)
    ]


def best_text(texts: Iterable[str], metric: str) -> str | None:
    """The best of a column as printed; `None` where there is nothing to compare."""
    defined = [text for text in texts if text != UNDEFINED]
    return METRICS[metric].best(defined, key=float) if len(defined) > 1 else None


def interval_cell(
    spec: Metric, value: float | None, interval: Sequence[float] | None, sign: bool = False, strong: bool = False
) -> Cell:
    """A figure with the ends of its interval, if both are defined."""
    ends = None
    if interval is not None and not any(is_undefined(end) for end in interval):
        ends = (spec.print(interval[0], sign), spec.print(interval[1], sign))
    return Cell(spec.print(value, sign), ends, strong)
