# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A table as plain text cells, which the terminal, Markdown and HTML then dress in their own way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from real_trl.evaluation.registry import METRICS, UNDEFINED, Metric, core_metrics, is_undefined
from real_trl.report.notation import MARK


@dataclass(frozen=True)
class Cell:
    """One figure or name: its text, the ends of its interval, whether it stands out, and whether it is worth nothing."""

    text: str
    interval: tuple[str, str] | None = None
    strong: bool = False
    doubtful: bool = False

    @property
    def mark(self) -> str:
        """What is shown behind the text."""
        return MARK if self.doubtful and self.text not in ("", UNDEFINED) else ""


@dataclass(frozen=True)
class Column:
    """
    A column's title, whether it holds figures, and `rank`: in a narrow terminal the highest are left out first. `name` is a longer title,
    for where there is room.
    """

    title: str
    figures: bool = True
    rank: int = 0
    name: str = ""

    @classmethod
    def of(cls, metric: str) -> "Column":
        """That of a metric."""
        spec = METRICS[metric]
        return cls(spec.title, rank=spec.rank, name=spec.in_words)

    @property
    def in_words(self) -> str:
        """The name, or else the title."""
        return self.name or self.title


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
    found = set(core_metrics()).union(*figures)
    return [metric for metric in METRICS if metric in found]


def metric_cell(result: Mapping[str, Any], inference: str, metric: str) -> Cell:
    """One figure of a result with its interval."""
    interval = result.get("intervals", {}).get(inference, {}).get(metric)
    return interval_cell(METRICS[metric], result[inference].get(metric), interval)


def metric_cells(results: Sequence[tuple[Mapping[str, Any], str]], metric: str) -> list[Cell]:
    """One column of figures, the best strong."""
    cells = [
        replace(metric_cell(result, inference, metric), doubtful=is_doubtful(result, inference))
        for result, inference in results
    ]
    return with_best(cells, metric)


def with_best(cells: Sequence[Cell], metric: str) -> list[Cell]:
    """
    One column of figures, the best of those that are worth something strong (all that print the same as the best); none where there
    is nothing to compare.
    """
    compared = [cell.text for cell in cells if cell.text != UNDEFINED]
    worth = [cell.text for cell in cells if cell.text != UNDEFINED and not cell.doubtful]
    best = METRICS[metric].best(worth, key=float) if len(compared) > 1 and worth else None
    return [replace(cell, strong=cell.text == best and not cell.doubtful) for cell in cells]


def is_doubtful(result: Mapping[str, Any], inference: str) -> bool:
    """Whether the figures of a result in one inference are worth nothing (see [`~real_trl.evaluation.verdict.find_faults`])."""
    return any(fault["severe"] and fault["inference"] in ("", inference) for fault in result.get("verdict", ()))


def interval_cell(
    spec: Metric, value: float | None, interval: Sequence[float] | None, sign: bool = False, strong: bool = False
) -> Cell:
    """A figure with the ends of its interval, if both are defined."""
    ends = None
    if interval is not None and not any(is_undefined(end) for end in interval):
        ends = (spec.print(interval[0], sign), spec.print(interval[1], sign))
    return Cell(spec.print(value, sign), ends, strong)
