# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of runs and differences between them, with intervals that count both the seeds and the test rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from real_trl.evaluation.metrics import score_metrics
from real_trl.evaluation.resampling import bootstrap_weights

LEVEL = 0.95
_RESAMPLES = 1000
# Inference → column, and whether the greedy rationale or the sampled ones
_READINGS = {
    "greedy": ("decoded", True),
    "greedy RAIL": ("expected", True),
    "sampled": ("decoded", False),
    "RAIL": ("expected", False),
    "tokens": ("tokens", False),
    "entropy": ("entropy", False),
}


@dataclass(frozen=True)
class Figure:
    """
    A figure, or a difference of two, over seeds.

    Args:
        per_seed (`np.ndarray` of shape `(S,)`):
            Its value in every seed.
        low, high (`float`):
            95% interval of the mean.
    """

    per_seed: np.ndarray
    low: float
    high: float

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.per_seed.mean())


@dataclass(frozen=True)
class Reading:
    """
    What is looked at: a run under an inference.

    Args:
        run (`str`):
            Name of the run.
        inference (`str`, *optional*, defaults to `"RAIL"`):
            `"greedy"` and `"sampled"` (the decoded score), `"greedy RAIL"` and `"RAIL"` (ŷ after the greedy and the sampled
            rationale), `"average of N"` (mean of ŷ over N sampled rationales), `"tokens"` and `"entropy"`.
        split (`str`, *optional*, defaults to `"ood"`):
            `"id"` or `"ood"`.
        metric (`str`, *optional*, defaults to `"pearson"`):
            A metric of [`~real_trl.evaluation.metrics.score_metrics`], or `"mean"`.
    """

    run: str
    inference: str = "RAIL"
    split: str = "ood"
    metric: str = "pearson"


class Results:
    """
    The stored results of a grid.

    Args:
        folder (`Path`):
            Where [`~experiments.store.collect`] wrote them.

    Raises:
        `FileNotFoundError`: saying what to run, if there are none.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "predictions.parquet"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: not there. Run `python -m experiments.run` first.")
        frame = pd.read_parquet(path).sort_values(["run", "split", "seed", "sample", "row"])
        self._parts = {key: part for key, part in frame.groupby(["run", "split", "seed"], observed=True)}
        self.training = pd.read_parquet(folder / "training.parquet")

    def seeds(self, *runs: str) -> list[int]:
        """Seeds that all of these runs have."""
        sets = [{seed for name, _, seed in self._parts if name == run} for run in runs]
        return sorted(set.intersection(*sets))

    def has(self, *runs: str) -> bool:
        """Whether all of these runs are there, for two seeds at least."""
        return len(self.seeds(*runs)) > 1

    def per_seed(self, reading: Reading, seeds: Sequence[int] | None = None) -> np.ndarray:
        """The figure in every seed `(S,)`, or in these, each the mean over its sampled rationales."""
        return self._resampled(reading, seeds)[:, 0]

    def figure(self, reading: Reading, seeds: Sequence[int] | None = None) -> Figure:
        """The figure of a run, over all its seeds or these."""
        return over_seeds(self._resampled(reading, seeds))

    def difference(self, a: Reading, b: Reading, seeds: Sequence[int] | None = None) -> Figure:
        """`a` less `b`, seed by seed and on the same test rows, over all seeds that both have or these."""
        seeds = self.seeds(a.run, b.run) if seeds is None else seeds
        return over_seeds(self._resampled(a, seeds) - self._resampled(b, seeds))

    def _resampled(self, reading: Reading, seeds: Sequence[int] | None) -> np.ndarray:
        """The figure of every seed on all rows (first column) and on every resample of them: `(S, 1 + B)`."""
        return np.array(
            [self._of_seed(reading, seed) for seed in (self.seeds(reading.run) if seeds is None else seeds)]
        )

    @cache  # noqa: B019  one object a process
    def _of_seed(self, reading: Reading, seed: int) -> np.ndarray:
        scores, target = self._scores(reading, seed)
        if reading.metric in ("spearman", "kendall"):  # resampled ranks would take minutes: no interval
            return np.array([np.mean([score_metrics(each, target)[reading.metric] for each in scores])])
        return weighted(reading.metric, scores, target, row_weights(len(target))).mean(axis=0)

    def _scores(self, reading: Reading, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Predictions `(samples, rows)` and targets `(rows,)`."""
        part = self._parts[reading.run, reading.split, seed]
        averaged = int(reading.inference.split()[-1]) if reading.inference.startswith("average of") else 1
        column, greedy = _READINGS["RAIL" if averaged > 1 else reading.inference]
        part = part[(part["sample"] < 0) == greedy]
        scores = part[column].to_numpy(np.float64).reshape(part["sample"].nunique(), -1)
        if averaged > 1:
            if len(scores) < averaged:
                raise ValueError(f"{reading}: the run has {len(scores)} samples of a row; give it more in the grid.")
            whole = len(scores) // averaged * averaged
            scores = scores[:whole].reshape(-1, averaged, scores.shape[1]).mean(axis=1)
        return scores, part["target"].to_numpy(np.float64)[: scores.shape[1]]


@cache
def row_weights(rows: int) -> np.ndarray:
    """How often each row counts: once each, then in every resample, `(1 + B, rows)`; the same for all runs."""
    return np.vstack([np.ones((1, rows)), bootstrap_weights(rows, _RESAMPLES, seed=0)])


def weighted(metric: str, scores: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A metric of each of `scores` `(M, n)` against `target` `(n,)`, rows weighted by `weights` `(B, n)`: `(M, B)`."""
    total = weights.sum(axis=1)

    def mean(columns: np.ndarray) -> np.ndarray:
        return columns @ weights.T / total

    if metric == "mean":
        return mean(scores)
    if metric == "mae":
        return mean(np.abs(scores - target))
    if metric == "rmse":
        return np.sqrt(mean((scores - target) ** 2))
    if metric != "pearson":
        raise ValueError(f"{metric} is no metric of a reading: use mean, mae, rmse, pearson, spearman or kendall.")
    x, y = scores - scores.mean(axis=1, keepdims=True), target - target.mean()
    covariance = mean(x * y) - mean(x) * mean(y)
    return covariance / np.sqrt((mean(x * x) - mean(x) ** 2) * (mean(y * y) - mean(y) ** 2))


def over_seeds(resampled: np.ndarray) -> Figure:
    """
    The interval of a mean over seeds, on rows that all seeds share.

    Seeds and rows are crossed: another set of either would have given another mean. Their variances, s²/S of the seeds and
    that of the mean over resampled rows, are added (what is counted in both makes it wider, not narrower), and Student's
    quantile has the seeds' S − 1 degrees of freedom.
    """
    per_seed, n = resampled[:, 0], len(resampled)
    variance = per_seed.var(ddof=1) / n
    if resampled.shape[1] > 1:
        variance += resampled[:, 1:].mean(axis=0).var()
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(variance)
    return Figure(per_seed, float(per_seed.mean() - half), float(per_seed.mean() + half))
