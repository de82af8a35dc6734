# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether rows with a human score look like a random sample, by what is known of all rows. Arrays only."""

import numpy as np
from scipy import stats

from real_trl.decisions.inference import ScoredRows


def imbalance(rows: ScoredRows, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """
    Mean of `values` over the labelled rows of each system less that over all of them: about 0 if they are a random sample. It needs no human
    score, so whatever the judge gives can be checked.

    That a random sample differs by as much is told from all rows, which are known, not from the few that are labelled: they give the variance
    and the skewness of its mean (without replacement; rows of one question as far as they were labelled together), and the longer of the
    tails of Pearson's type III curve and the normal one counts. From the labelled rows alone, of skewed values 2 to 10 times as many samples would look odd.

    Args:
        values (`np.ndarray` of shape `(n,)`): All finite.

    Returns:
        Two `np.ndarray` of shape `(S,)`: the difference, and the two-sided p-value; NaN with fewer than 2 labels, with labels of all rows, and where
        values do not vary.
    """
    together, _ = rows.labelled_together
    n, chosen = rows.n_rows[rows.systems], np.full(len(values), np.nan)
    middle = np.bincount(rows.systems, values, rows.n_systems) / rows.n_rows
    difference = np.bincount(rows.systems, rows.shares * values, rows.n_systems) - middle
    known = rows.n_labels >= 2
    if rows.probability is None:
        chosen = (rows.n_labels / rows.n_rows)[rows.systems]
        counted = np.ones(len(values))
    else:  # in the unit in which the labelled rows stand for all; where others have none, labelled ones count for them
        total = np.bincount(rows.systems, np.where(rows.is_labelled, 1 / rows.probability, 0.0), rows.n_systems)
        chosen = np.minimum(rows.probability * (total / rows.n_rows)[rows.systems], 1.0)
        counted = rows.shares * n if np.isnan(chosen).any() else np.ones(len(values))
    chosen = np.where(counted * chosen > 0, chosen, 1.0)
    away = (values - middle[rows.systems]) / n
    spread = away * np.sqrt(counted * (1 - chosen) / chosen)
    third = np.cbrt(counted * (1 - chosen) * (1 - 2 * chosen) / chosen**2) * away

    def moment(each: np.ndarray, power: int) -> np.ndarray:
        single = np.bincount(rows.systems, each**power, rows.n_systems)
        return single + together * (np.sum(rows.sums(each) ** power, axis=0) - single)

    variance = moment(spread, 2) * rows.n_rows / np.maximum(rows.n_rows - 1, 1)
    known &= variance > (1e-9 * np.abs(values).max()) ** 2
    error = np.sqrt(np.where(known, variance, np.nan))
    z, skewness = np.abs(difference) / error, np.sign(difference) * moment(third, 3) / error**3
    p_values = np.full(rows.n_systems, np.nan)
    p_values[known] = 2 * np.maximum(stats.pearson3.sf(z[known], skewness[known]), stats.norm.sf(z[known]))
    return np.where(known, difference, np.nan), np.minimum(p_values, 1)
