# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How many more human scores a decision needs, and which rows to score next. Arrays only."""

import math

import numpy as np
from scipy import stats

from real_trl.decisions.inference import Contrast, ScoredRows

_UNIFORM = 0.5  # share of the chance of a row that does not depend on the judge's doubt


def detectable(contrast: Contrast, alpha: float, power: float) -> float:
    """The true difference that would be found at the level `alpha` (two-sided) with that power, with the labels there are."""
    return float(contrast.error * _quantiles(contrast.freedom, alpha, power))


def needed_labels(
    contrast: Contrast, n_labels: int, n_rows: int, difference: float, alpha: float, power: float
) -> int | None:
    """
    Human scores in all with which a true difference is found.

    The part of the variance that comes from the labels falls as 1 / their number, if rows are chosen as those that have one; that of judging these
    questions and no others stays.

    Args:
        contrast ([`Contrast`]): The difference as it is estimated now.
        n_labels, n_rows (`int`): Labels now, and rows, of the systems that it is about.
        difference, alpha, power (`float`): The difference, the two-sided level of the test, and the chance to find it.

    Returns:
        `int`, or `None` if not even human scores of all rows would do: there are too few rows.
    """
    stays, freedom, needed = max(contrast.from_all, 0.0), contrast.freedom, float(n_labels)
    for _ in range(20):  # the quantile of Student's t depends on the number, ever less
        allowed = (
            difference / _quantiles(min(freedom * needed / n_labels, contrast.most_freedom), alpha, power)
        ) ** 2 - stays
        if not allowed > 0:
            return None
        needed = max(contrast.from_labels * n_labels / allowed, 1.0)
        if needed > n_rows:
            return None
    return math.ceil(needed)


def chances(rows: ScoredRows, doubt: np.ndarray | None, number: int) -> np.ndarray:
    """
    With which probability each row is among the `number` that are labelled next, as if it had no label yet: `(n,)`.

    Half of it is the same for all rows, half in proportion to the doubt of the judge: where it errs more, a label tells more
    (active statistical inference, Zrnic & Candès, 2024, arXiv 2403.03208, with their uniform part). It depends on nothing that people said, so that the
    labels stay a random sample, with known probabilities.

    Args:
        doubt (`np.ndarray` of shape `(n,)`, *optional*): Standard deviation of the judge's distribution; without it all rows are alike.
    """
    worth = np.ones(len(rows.judge))
    if doubt is not None and doubt.mean() > 0:
        worth = _UNIFORM + (1 - _UNIFORM) * doubt / doubt.mean()
    free = ~rows.is_labelled
    chance, certain = np.zeros(len(worth)), np.zeros(len(worth), dtype=bool)
    while True:  # what comes to more than 1 is taken for certain, and the others share what is left
        left = number - int(np.sum(certain & free))
        chance = np.where(certain, 1.0, worth * left / max(worth[free & ~certain].sum(), 1e-300))
        over = ~certain & (chance > 1)
        if not (over & free).any():
            return np.minimum(chance, 1.0)
        certain |= over


def draw(rows: ScoredRows, chance: np.ndarray, number: int, seed: int) -> np.ndarray:
    """
    Rows without a label, `number` of them, each with its `chance` (systematic sampling, in random order within each system, so that every system has
    its share): indices, the most doubtful first.
    """
    random = np.random.default_rng([seed, int(rows.is_labelled.sum())])  # another draw in every round
    free = np.flatnonzero(~rows.is_labelled)
    free = free[np.lexsort((random.random(len(free)), rows.systems[free]))]
    ends = np.cumsum(chance[free])
    points = (random.random() + np.arange(number)) * ends[-1] / number
    drawn = free[np.minimum(np.searchsorted(ends, points, side="right"), len(free) - 1)]
    return drawn[np.argsort(-chance[drawn], kind="stable")]


def labelled_probability(rows: ScoredRows, chance: np.ndarray) -> np.ndarray:
    """Probability of each row to have a label after the draw: that it had one before (`rows.probability`, or the share of its system), or is drawn."""
    before = rows.probability
    if before is None:
        before = (rows.n_labels / rows.n_rows)[rows.systems]
    return before + (1 - before) * chance


def _quantiles(freedom: float, alpha: float, power: float) -> float:
    return stats.t.ppf(1 - alpha / 2, freedom) + stats.t.ppf(power, freedom)
