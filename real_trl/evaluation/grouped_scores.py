# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of thousands of reweighted samples at once, where whole groups of rows are drawn, left out or swapped."""

from collections.abc import Collection, Sequence

import numpy as np

from real_trl.evaluation.registry import METRICS, Sample, metric_names, nearest_values, pair_credits
from real_trl.evaluation.verdict import CONSTANT_RTOL

_CHUNK = 2**18  # floats of one (resamples, rows) array: a few of them stay in the cache of a core


class GroupedScores:
    """
    Predictions of one judge, ready to be weighted by group. Row `i` counts `weights[group of i]` times in every
    metric, so one matrix of weights is a bootstrap (how often each group was drawn), a jackknife (all but one) or,
    over the rows of two judges, a randomisation (whose row counts). What a metric needs is summed over each group
    once; a resample is then a product of matrices (or, of a metric that is neither a mean of rows nor known here, the sample with its
    rows repeated). All metrics are exact: those of the sample in which each row is repeated.

    Args:
        groups (`np.ndarray` of shape `(n,)`):
            Whole number of each row's group: `pairwise_accuracy` compares rows of one group.
        values (`Sequence[float]`, *optional*):
            Values of the scale; with them, `accuracy` and `qwk` are among the metrics.
        wrong (`np.ndarray` of shape `(n,)`, *optional*):
            Rows that count as wrong in `accuracy` and `pairwise_accuracy`, whatever their prediction.
        blocks (`np.ndarray` of shape `(n,)`, *optional*):
            Whole number of what is weighted, from 0 on: whole groups united, by default each group by itself.
    """

    def __init__(
        self,
        predictions: np.ndarray,
        targets: np.ndarray,
        groups: np.ndarray,
        values: Sequence[float] | None = None,
        wrong: np.ndarray | None = None,
        blocks: np.ndarray | None = None,
    ):
        blocks = groups if blocks is None else blocks
        order = np.argsort(blocks, kind="stable")
        x, y, blocks = predictions[order], targets[order], blocks[order]
        wrong = np.zeros(len(x), dtype=bool) if wrong is None else wrong[order]
        self._present, self._starts = np.unique(blocks, return_index=True)  # a block may have no rows
        self._sizes = np.diff(np.append(self._starts, len(x)))
        self._x, self._y = _Ranking(x), _Ranking(y)
        self._ends = [
            (np.minimum.reduceat(v, self._starts), np.maximum.reduceat(v, self._starts), np.abs(v).max())
            for v in (x, y)
        ]
        self._signs: np.ndarray | None = None

        dx, dy = x - x.mean(), y - y.mean()  # centred, else the differences of squares cancel
        columns = {"n": np.ones(len(x)), "x": dx, "y": dy, "xx": dx * dx, "yy": dy * dy, "xy": dx * dy}
        self._groups = groups[order]
        self._sample = sample = Sample(x, y, wrong, values, self._groups)
        self._metrics = metric_names(values)
        columns |= {name: per_row(sample) for name in self._metrics if (per_row := METRICS[name].per_row)}
        if values is not None:
            middle, width = (min(values) + max(values)) / 2, max(values) - min(values)
            lx, ly = ((nearest_values(scores, values) - middle) / width for scores in (x, y))
            columns |= {"lx": lx, "ly": ly, "disagreement": (lx - ly) ** 2, "label_squares": lx * lx + ly * ly}
        columns["credit"], columns["pairs"] = pair_credits(x, y, self._groups, wrong)
        self._names = list(columns)
        self._sums = np.add.reduceat(np.column_stack(list(columns.values())).astype(np.float64), self._starts)

    def metrics(self, weights: np.ndarray, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
        """
        Metrics of every reweighted sample.

        Args:
            weights (`np.ndarray` of shape `(B, G)`):
                How often each block counts in each of `B` samples.
            names (`Collection[str]`, *optional*):
                Which metrics, by default all. Of those known here, `spearman` and `kendall` take by far the most time.

        Returns:
            `dict[str, np.ndarray]`: Metric → `(B,)`, NaN where it is undefined.
        """
        names = [name for name in self._metrics if names is None or name in names]
        weights = np.asarray(weights, dtype=np.float64)[:, self._present]
        s = dict(zip(self._names, (weights @ self._sums).T, strict=True))
        n = s["n"]
        with np.errstate(divide="ignore", invalid="ignore"):
            variances = (s["xx"] - s["x"] ** 2 / n) * (s["yy"] - s["y"] ** 2 / n)
            metrics = {"pearson": (s["xy"] - s["x"] * s["y"] / n) / np.sqrt(variances)}
            if {"spearman", "kendall"} & set(names):
                metrics |= self._rank_metrics(weights)
            constant = self._is_constant(weights, *self._ends[0]) | self._is_constant(weights, *self._ends[1])
            for name in metrics:
                metrics[name] = np.where(constant, np.nan, np.clip(metrics[name], -1, 1))
            metrics |= {name: METRICS[name].of_mean(s[name] / n) for name in names if METRICS[name].per_row}
            if "lx" in s:
                chance = s["label_squares"] - 2 * s["lx"] * s["ly"] / n  # n times that of independent raters
                metrics["qwk"] = np.where(chance > 1e-12 * n, 1 - s["disagreement"] / chance, np.nan)
            metrics["pairwise_accuracy"] = s["credit"] / s["pairs"]
        return {name: metrics[name] if name in metrics else self._of_repeated_rows(name, weights) for name in names}

    def _of_repeated_rows(self, name: str, weights: np.ndarray) -> np.ndarray:
        (x, y, wrong, values, _), groups = self._sample, self._groups
        figures = np.empty(len(weights))
        for sample, times in enumerate(np.repeat(weights.astype(int), self._sizes, axis=1)):
            rows = np.repeat(np.arange(len(x)), times)
            copy = np.arange(len(rows)) - np.repeat(
                np.cumsum(times) - times, times
            )  # a group drawn twice is two groups
            of_copy = groups[rows] + copy * (groups.max() + 1)
            figures[sample] = METRICS[name](Sample(x[rows], y[rows], wrong[rows], values, of_copy))
        return figures

    def _is_constant(self, weights: np.ndarray, lows: np.ndarray, highs: np.ndarray, magnitude: float) -> np.ndarray:
        drawn = weights > 0
        low, high = np.where(drawn, lows, np.inf).min(axis=1), np.where(drawn, highs, -np.inf).max(axis=1)
        return ~(high - low > CONSTANT_RTOL * magnitude)

    def _rank_metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        if self._signs is None:
            self._signs = self._block_signs()
        # Concordant less discordant pairs, each pair of rows once
        agreement = np.einsum("bg,bg->b", weights @ self._signs, weights) / 2
        spearman, kendall = np.empty(len(weights)), np.empty(len(weights))
        step = max(1, _CHUNK // self._sizes.sum())
        for start in range(0, len(weights), step):
            chunk = slice(start, start + step)
            rows = np.repeat(weights[chunk], self._sizes, axis=1)  # (b, n)
            n = rows.sum(axis=1)
            x, x_squares, x_ties = self._x.ranks(rows, n)
            y, y_squares, y_ties = self._y.ranks(rows, n)
            spearman[chunk] = np.einsum("bn,bn,bn->b", rows, x, y) / np.sqrt(x_squares * y_squares)
            pairs = n * (n - 1) / 2
            kendall[chunk] = agreement[chunk] / np.sqrt((pairs - x_ties) * (pairs - y_ties))
        return {"spearman": spearman, "kendall": kendall}

    def _block_signs(self) -> np.ndarray:
        """Σ sign(x_i − x_j) sign(y_i − y_j) over the rows i of one block and j of another, `(G, G)`."""
        x, y = self._x.inverse, self._y.inverse
        signs = np.empty((len(self._starts),) * 2)
        for block, (start, size) in enumerate(zip(self._starts, self._sizes, strict=True)):
            of_block = slice(start, start + size)
            agree = np.sign(x[of_block, None] - x) * np.sign(y[of_block, None] - y)
            signs[block] = np.add.reduceat(agree.sum(axis=0), self._starts)
        return signs


class _Ranking:
    """The order of `scores`, from which the ranks of every reweighted sample follow."""

    def __init__(self, scores: np.ndarray):
        self.order = np.argsort(scores, kind="stable")
        self.starts = np.unique(scores[self.order], return_index=True)[1]
        self.inverse = np.unique(scores, return_inverse=True)[1]  # 0 for the lowest score

    def ranks(self, rows: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centred mid-ranks of rows that count `rows` times (both `(b, n)`), the sum of their squares, and tied pairs."""
        counts = np.add.reduceat(rows[:, self.order], self.starts, axis=1)  # (b, distinct scores)
        # Ranks are 1 … n with mean (n + 1) / 2; equal scores share the mean of theirs
        ranks = np.cumsum(counts, axis=1) - (counts + n[:, None]) / 2
        return (
            ranks[:, self.inverse],
            np.einsum("bu,bu,bu->b", counts, ranks, ranks),
            (counts * (counts - 1)).sum(1) / 2,
        )
