# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Intervals that hold the human score of a row with a probability asked for, whatever the judge: conformal prediction. Arrays only, no I/O.

A row's interval is an inner one, widened by a margin on both sides. `"absolute"`: the inner interval is the score ŷ, so that all
are as wide (split conformal; Lei et al., 2018). `"quantiles"`: it is that between the α/2 and the 1 − α/2 quantile of the score
distribution, so that it is wide where the judge is unsure (conformalised quantile regression; Romano, Patterson and Candès, 2019); the
margin may be negative. The margin is the ⌈(n + 1)(1 − α)⌉-th smallest distance of the human scores of n rows, which the judge was not
fitted on, from their inner intervals: another row exchangeable with them lies inside with probability 1 − α or more. Where margins are
those of groups (Mondrian; Vovk et al., 2005), that holds within each group.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from real_trl.evaluation.recalibration import means

KINDS = ("absolute", "quantiles")


@dataclass(frozen=True)
class Intervals:
    """
    How wide intervals are.

    Args:
        kind (`str`):
            `"absolute"` or `"quantiles"`.
        coverage (`float`):
            1 − α.
        margin (`float`):
            In units of the score, for rows of all groups; infinite where there were too few rows: the interval is the scale.
        column (`str`, *optional*):
            Column of the groups with a margin of their own.
        margins (`Mapping[str, float]`, *optional*):
            Group → margin.
    """

    kind: str
    coverage: float
    margin: float
    column: str | None = None
    margins: Mapping[str, float] = field(default_factory=dict)

    def of(
        self, probabilities: np.ndarray, values: Sequence[float], groups: Iterable[str | None] | None = None
    ) -> np.ndarray:
        """
        Intervals, within the scale.

        Args:
            probabilities (`np.ndarray` of shape `(n, L)`):
                Recalibrated.
            groups (`Iterable[str]`, *optional*):
                Group of each row. Another than those of `margins`, or none, gets the margin of all rows.

        Returns:
            `np.ndarray` of shape `(n, 2)`.
        """
        own = (
            [self.margin] * len(probabilities)
            if groups is None
            else [self.margin if g is None else self.margins.get(g, self.margin) for g in groups]
        )
        return widened(inner(self.kind, probabilities, values, self.coverage), np.asarray(own, dtype=float), values)


def widened(bounds: np.ndarray, margin: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Intervals `(n, 2)` from inner ones, within the scale. One that a negative margin turns round is its middle."""
    low, high = bounds[:, 0] - margin, bounds[:, 1] + margin
    middle = bounds.mean(axis=1)
    low, high = np.where(low > high, middle, low), np.where(low > high, middle, high)
    return np.clip(np.column_stack([low, high]), min(values), max(values))


def inner(kind: str, probabilities: np.ndarray, values: Sequence[float], coverage: float) -> np.ndarray:
    """
    Inner intervals `(n, 2)` of distributions `(n, L)`. Quantiles are those of the mid-distribution: a label is passed at the probability
    of all lower ones and half of its own, linearly between labels (Ma, Genton and Parzen, 2011), so that they are no steps.
    """
    if kind == "absolute":
        return np.repeat(means(probabilities, values)[:, None], 2, axis=1)
    order = np.argsort(values)
    v, q = np.asarray(values, dtype=np.float64)[order], probabilities[:, order]
    passed = np.cumsum(q, axis=1) - q / 2
    levels = [(1 - coverage) / 2, (1 + coverage) / 2]
    return np.array([np.interp(levels, row, v) for row in passed]).reshape(-1, 2)


def distances(bounds: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """How far human scores `(n,)` lie outside of inner intervals `(n, 2)`; negative inside."""
    return np.maximum(bounds[:, 0] - targets, targets - bounds[:, 1])


def conformal_margin(outside: np.ndarray, coverage: float) -> float:
    """The ⌈(n + 1) · coverage⌉-th smallest of n distances; infinite if there are fewer."""
    rank = int(np.ceil(round((len(outside) + 1) * coverage, 9)))
    return float(np.partition(outside, rank - 1)[rank - 1]) if 1 <= rank <= len(outside) else float("inf")


def least_rows(coverage: float) -> int:
    """Rows from which a group gets a margin of its own: so many that five are expected to lie outside of their intervals."""
    return int(np.ceil(round(5 / (1 - coverage), 9)))


def named(groups: np.ndarray) -> np.ndarray:
    """The groups of the rows that have one, as text."""
    return np.array([group for group in groups if group is not None], dtype=str)


def large_groups(groups: np.ndarray, coverage: float) -> list[str]:
    """Groups of at least [`least_rows`] rows."""
    names, counts = np.unique(named(groups), return_counts=True)
    return [str(name) for name, count in zip(names, counts, strict=True) if count >= least_rows(coverage)]


def fit_intervals(
    kind: str,
    probabilities: np.ndarray,
    targets: np.ndarray,
    values: Sequence[float],
    coverage: float,
    column: str | None = None,
    groups: np.ndarray | None = None,
    own: Collection[str] | None = None,
) -> Intervals:
    """
    Margins from rows that the recalibration of their `probabilities` `(n, L)` was not fitted on.

    Args:
        column (`str`, *optional*), groups (`np.ndarray` of shape `(n,)`, *optional*):
            Name and group of each row, as text.
        own (`Collection[str]`, *optional*):
            Groups that get a margin of their own. Defaults to [`large_groups`].
    """
    outside = distances(inner(kind, probabilities, values, coverage), targets)
    margins = {}
    if groups is not None:
        for group in large_groups(groups, coverage) if own is None else own:
            margins[group] = conformal_margin(outside[groups == group], coverage)
    return Intervals(kind, coverage, conformal_margin(outside, coverage), column, margins)
