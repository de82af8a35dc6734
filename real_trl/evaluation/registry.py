# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every metric, once: what it is called, how it is printed, what it needs and how it is computed. Tables, plots, intervals, comparisons and
model cards are made from this, so that a new metric is an entry here (see docs/how-to-add.md). Arrays only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from real_trl.evaluation.verdict import is_constant

UNDEFINED = "n/a"

T = TypeVar("T")


class Sample(NamedTuple):
    """Rows that a metric is computed of, `(n,)` each; scores are finite."""

    predictions: np.ndarray
    targets: np.ndarray
    wrong: np.ndarray  # rows that count as wrong whatever their prediction: malformed ones, where malformed="strict"
    values: Sequence[float] | None = None  # of the scale
    groups: np.ndarray | None = None  # question of each row


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric. It is computed by `of`, or as the mean of `per_row`, which resamples thousands of times faster."""

    title: str
    factor: float = 1.0  # it is printed times 100 if it is a share or correlation, times 1 if in units of the score
    decimals: int = 3
    best: Callable[..., Any] = min  # of several values: min or max
    # What there is no such figure without: the values of the scale, groups; "spread": it is undefined with fewer than two rows, or where
    # predictions or targets are constant
    needs: tuple[Literal["scale", "groups", "spread"], ...] = ()
    per_row: Callable[[Sample], np.ndarray] | None = None  # what each row adds, (n,)
    of_mean: Callable[[Any], Any] = lambda mean: mean  # from their mean to the figure, on arrays too
    of: Callable[[Sample], float] | None = None  # of at least one row; NaN where it is undefined
    # What of the scores two judges swap in `paired_comparison`
    swapped: Callable[[np.ndarray], np.ndarray] = np.asarray
    legend: str = ""  # a sentence
    undefined: str = ""  # when it is NaN, as a clause
    # "paper": in its Table 2, training curves and brief tables; "core": in every other table; "extra": where results have it
    shown: Literal["paper", "core", "extra"] = "extra"
    rank: int = 6  # in a narrow terminal the columns of the highest rank are left out first, those of 0 never
    latex: str = ""  # the title in LaTeX, where it differs
    name: str = ""  # in words, where there is room for more than the title

    def __call__(self, sample: Sample) -> float:
        """The figure of a sample, NaN where it is undefined."""
        constant = "spread" in self.needs and (
            len(sample.targets) < 2 or is_constant(sample.predictions) or is_constant(sample.targets)
        )
        if constant or not len(sample.targets):
            return math.nan
        if self.per_row is not None:
            return float(self.of_mean(np.mean(self.per_row(sample))))
        if self.of is None:
            raise TypeError(f"{self.title} is not computed of a sample.")
        return float(self.of(sample))

    def print(self, value: float | None, sign: bool = False) -> str:
        """`value` as text; `sign` shows a plus too."""
        return number(value, self.decimals, self.factor, sign)

    @property
    def in_words(self) -> str:
        """`Pearson's r` of `r`; where there is nothing to add, the title."""
        return self.name or self.title

    @property
    def unit(self) -> str:
        """The name with the factor, for the axis of a plot."""
        return f"{self.in_words} × 100" if self.factor == 100 else self.in_words


def is_undefined(value: float | None) -> bool:
    """Whether a figure has no value: `None` (as JSON has it) or NaN."""
    return value is None or math.isnan(value)


def number(value: float | None, decimals: int, factor: float = 1.0, sign: bool = False) -> str:
    """`factor * value` with that many decimals, `n/a` where it is undefined."""
    if value is None or is_undefined(value):
        return UNDEFINED
    text = f"{factor * value:{'+' if sign else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text  # neither -0.0 nor +0.0


def finite_vector(values: ArrayLike, name: str) -> np.ndarray:
    """`values` as float64 of shape `(n,)`; `ValueError` if one is not finite."""
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise ValueError(f"`{name}` has shape {vector.shape}: pass one dimension, one score a row.")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise ValueError(
            f"`{name}` holds {vector[bad[0]]} at index {bad[0]} ({len(bad)} such values in all): "
            "drop these rows or give them a score first."
        )
    return vector


def nearest_values(scores: ArrayLike, values: ArrayLike) -> np.ndarray:
    """The value of `values` that is nearest to each score; ties go to the lower label (as [`Scale.nearest_label`])."""
    x, rising = np.asarray(scores, dtype=np.float64), np.sort(np.asarray(values, dtype=np.float64))
    upper = np.clip(np.searchsorted(rising, x), 1, len(rising) - 1)
    low, high = rising[upper - 1], rising[upper]
    return np.where(x - low <= high - x, low, high)


def pairwise_accuracy(
    predictions: ArrayLike, targets: ArrayLike, groups: ArrayLike, wrong: ArrayLike | None = None
) -> tuple[float, int]:
    """
    How often pointwise scores order two answers to one question as the true scores do.

    Args:
        groups (`ArrayLike`):
            Question of each row, shape `(n,)`. Only rows of one group whose targets differ make a pair.
        wrong (`ArrayLike`, *optional*):
            Rows whose pairs all count as wrong, of shape `(n,)`.

    Returns:
        `tuple[float, int]`: The share of pairs in the right order, an equal prediction counting one half (so a
        constant judge gets 0.5), `nan` without pairs; and the number of pairs.
    """
    predictions, targets = finite_vector(predictions, "predictions"), finite_vector(targets, "targets")
    codes = np.unique(np.asarray(groups), return_inverse=True)[1]
    if not len(predictions) == len(targets) == len(codes):
        raise ValueError(
            f"`predictions` has {len(predictions)} rows, `targets` {len(targets)} and `groups` {len(codes)}: pass one of "
            "each per row."
        )
    wrong = np.zeros(len(codes), dtype=bool) if wrong is None else np.asarray(wrong, dtype=bool)
    credit, pairs = (int(2 * column.sum()) for column in pair_credits(predictions, targets, codes, wrong))
    return (credit / pairs if pairs else float("nan")), pairs // 2


def pair_credits(
    predictions: np.ndarray, targets: np.ndarray, groups: np.ndarray, wrong: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the pairs of [`pairwise_accuracy`], those that are right and all, each counted with one of its rows: `(n,)`."""
    order = np.argsort(groups, kind="stable")
    x, y, groups, right = predictions[order], targets[order], groups[order], ~wrong[order]
    credit, pairs = np.zeros(len(x)), np.zeros(len(x))
    # Rows of one group are neighbours now: compare each with the next, the next but one …
    for step in range(1, int(np.bincount(groups).max(initial=0))):
        is_pair = (groups[:-step] == groups[step:]) & (y[:-step] != y[step:])
        agreement = np.sign(x[:-step] - x[step:]) * np.sign(y[:-step] - y[step:])
        pairs[order[:-step]] += is_pair
        credit[order[:-step]] += is_pair & right[:-step] & right[step:] & (agreement > 0)
        credit[order[:-step]] += 0.5 * (is_pair & right[:-step] & right[step:] & (agreement == 0))
    return credit, pairs


def _given(value: T | None, name: str) -> T:
    """What a metric needs of a sample; `ValueError` if it is not there."""
    if value is None:
        raise ValueError(
            f"{name}: the sample has none, and this metric needs them. Pass them, or leave the metric out."
        )
    return value


def _nearest(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets as the nearest values of the scale."""
    values = _given(sample.values, "values")
    return nearest_values(sample.predictions, values), nearest_values(sample.targets, values)


def _is_hit(sample: Sample) -> np.ndarray:
    predicted, true = _nearest(sample)
    return (predicted == true) & ~sample.wrong


def _kappa(sample: Sample) -> float:
    """Cohen's kappa (1968) with weights (p − t)²: 1 − Σ w O / Σ w E, where Σ w E / n = E (p − t)² of independent p and t."""
    predicted, true = _nearest(sample)
    if not np.ptp(np.concatenate([predicted, true])) > 0:
        return math.nan
    chance = float(np.var(predicted) + np.var(true) + (np.mean(predicted) - np.mean(true)) ** 2)
    return 1 - np.mean((predicted - true) ** 2) / chance


def _standardised(scores: np.ndarray) -> np.ndarray:
    return scores if is_constant(scores) else stats.zscore(scores)


def _ordered(sample: Sample) -> float:
    return pairwise_accuracy(sample.predictions, sample.targets, _given(sample.groups, "groups"), sample.wrong)[0]


_SHARE: dict[str, Any] = {"factor": 100.0, "decimals": 1, "best": max}
_CORRELATION: dict[str, Any] = {**_SHARE, "needs": ("spread",), "shown": "paper", "rank": 0}

METRICS = {
    "pearson": Metric(
        title="r",
        name="Pearson's r",
        latex="$r$",
        of=lambda sample: stats.pearsonr(*sample[:2]).statistic,
        swapped=_standardised,
        **_CORRELATION,
    ),
    "spearman": Metric(
        title="ρ",
        name="Spearman's ρ",
        latex=r"$\rho$",
        of=lambda sample: stats.spearmanr(*sample[:2]).statistic,
        swapped=stats.rankdata,
        **_CORRELATION,
    ),
    "kendall": Metric(
        title="τ",
        name="Kendall's τ",
        latex=r"$\tau$",
        of=lambda sample: stats.kendalltau(*sample[:2], variant="b").statistic,
        swapped=stats.rankdata,
        **_CORRELATION,
    ),
    "rmse": Metric(
        title="RMSE", per_row=lambda s: (s.predictions - s.targets) ** 2, of_mean=np.sqrt, shown="paper", rank=0
    ),
    "mae": Metric(title="MAE", per_row=lambda s: np.abs(s.predictions - s.targets), shown="core", rank=4),
    "accuracy": Metric(
        title="Acc.",
        needs=("scale",),
        per_row=_is_hit,
        rank=3,
        legend="Acc.: the label nearest to the score is the one nearest to the target, %.",
        **_SHARE,
    ),
    "qwk": Metric(
        title="QWK",
        needs=("scale",),
        of=_kappa,
        rank=2,
        legend="QWK: quadratic weighted kappa × 100.",
        undefined="all predictions and targets have one and the same label",
        **_SHARE,
    ),
    "pairwise_accuracy": Metric(
        title="Pairs",
        needs=("groups",),
        of=_ordered,
        rank=5,
        legend="Pairs: answers to one question put in the right order, %.",
        undefined="no two rows of one group differ in target. A group_column says which rows are about one question",
        **_SHARE,
    ),
}
CALIBRATION = {
    "ece": Metric(title="ECE"),
    "overconfidence": Metric(title="Overconfidence"),
    "nll": Metric(title="NLL"),
    "crps": Metric(title="CRPS"),
}


def paper_metrics() -> list[str]:
    """Those of the paper's Table 2 and 3, of training curves and brief tables."""
    return [name for name, metric in METRICS.items() if metric.shown == "paper"]


def core_metrics() -> list[str]:
    """Those of every table."""
    return [name for name, metric in METRICS.items() if metric.shown != "extra"]


def metric_names(values: Sequence[float] | None, groups: bool = True) -> list[str]:
    """The metrics that there are with the values of the scale, or without, and with groups or without."""
    missing = {name for name, there in (("scale", values is not None), ("groups", groups)) if not there}
    return [name for name, metric in METRICS.items() if not missing & set(metric.needs)]
