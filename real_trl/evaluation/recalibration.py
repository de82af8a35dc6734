# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Maps of a judge's score distribution to one that is right more often, fitted on rows with human scores. Arrays only, no I/O.

What comes out is again a distribution over the labels, and its mean is the score: nothing is reported that the other does not say. A map
has two parts. The **temperature** T flattens or sharpens, q ∝ p^(1/T) (Guo et al., 2017). The **mean** g(ŷ), affine or isotonic in the
mean ŷ of q, moves the distribution along the scale until its mean is g(ŷ): every label's probability is moved by the same distance, what
would pass an end of the scale stays there, and what falls between two labels is shared out between them by distance (as the likelihood
of a score between two labels is, see [`~real_trl.evaluation.calibration.calibration_columns`]). A map of the mean alone would leave
`probabilities` that contradict it, and a map v → g(v) of the labels' values would narrow the distribution of a judge whose scores say
little, where it has to widen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from real_trl.evaluation.calibration import MIN_PROBABILITY, calibration_columns

_TEMPERATURES = (0.05, 20.0)
_STARTS = 7  # temperatures that are tried before the search around the best of them


@dataclass(frozen=True)
class Recalibration:
    """
    A map of score distributions.

    Args:
        method (`str`):
            How it was fitted, a key of [`METHODS`].
        temperature (`float`, *optional*, defaults to `1.0`):
            T; above 1 flattens.
        mean_from, mean_to (`Sequence[float]`, *optional*):
            Knots of g, rising in `mean_from`: linear between them, constant beyond. None: the mean is that which the
            temperature gives.
    """

    method: str = "none"
    temperature: float = 1.0
    mean_from: Sequence[float] = ()
    mean_to: Sequence[float] = ()

    def apply(self, probabilities: np.ndarray, values: Sequence[float]) -> np.ndarray:
        """
        The distributions as they should be.

        Args:
            probabilities (`np.ndarray` of shape `(n, L)`):
                Of every label, finite, in any row not all 0; they are divided by their sum.
            values (`Sequence[float]`):
                Values of the labels, in any order.

        Returns:
            `np.ndarray` of shape `(n, L)`: Rows sum to 1.
        """
        order = np.argsort(values)
        v = np.asarray(values, dtype=np.float64)[order]
        p = np.asarray(probabilities, dtype=np.float64)[:, order]
        q = tempered(p, self.temperature)
        if len(self.mean_from):
            q = moved(q, v, np.interp(means(q, v), self.mean_from, self.mean_to))
        restored = np.empty_like(q)
        restored[:, order] = q
        return restored


def means(probabilities: np.ndarray, values: ArrayLike) -> np.ndarray:
    """Mean `(n,)` of each distribution `(n, L)`, conditional on the labels."""
    return probabilities @ np.asarray(values, dtype=np.float64) / probabilities.sum(axis=1)


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """q ∝ p^(1/T), `(n, L)`. A probability that underflowed counts as 1.2e-38 unless T is 1."""
    if temperature == 1:
        return probabilities / probabilities.sum(axis=1, keepdims=True)
    logs = np.log(np.maximum(probabilities, MIN_PROBABILITY)) / temperature
    q = np.exp(logs - logs.max(axis=1, keepdims=True))
    return q / q.sum(axis=1, keepdims=True)


def moved(q: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """
    Distributions moved along the scale until they have the means that are wanted.

    Args:
        q (`np.ndarray` of shape `(n, L)`):
            Rows sum to 1.
        values (`np.ndarray` of shape `(L,)`):
            Rising.
        wanted (`np.ndarray` of shape `(n,)`):
            Means; beyond the scale they are its end.

    Returns:
        `np.ndarray` of shape `(n, L)`: Of which the means are exactly these.
    """
    low, high, n_labels = values[0], values[-1], len(values)
    # The mean of what is moved by d, Σ_k q_k · clip(v_k + d, low, high), rises in d, and is linear between the d where a label gets to an end
    distances = np.unique(np.concatenate([low - values, high - values]))
    at = q @ np.clip(values[:, None] + distances, low, high)  # (n, D): from low to high
    wanted = np.clip(wanted, low, high)
    left = np.clip((at <= wanted[:, None]).sum(axis=1) - 1, 0, len(distances) - 2)
    rows = np.arange(len(q))
    rise = at[rows, left + 1] - at[rows, left]
    share = np.divide(wanted - at[rows, left], rise, out=np.zeros(len(q)), where=rise > 0)
    distance = distances[left] + np.clip(share, 0, 1) * np.diff(distances)[left]
    places = np.clip(values + distance[:, None], low, high)  # (n, L)
    upper = np.clip(np.searchsorted(values, places), 1, n_labels - 1)
    to_upper = np.clip((places - values[upper - 1]) / (values[upper] - values[upper - 1]), 0, 1)
    cell = rows[:, None] * n_labels + upper
    weights = np.concatenate([(q * to_upper).ravel(), (q * (1 - to_upper)).ravel()])
    return np.bincount(np.concatenate([cell.ravel(), cell.ravel() - 1]), weights, len(q) * n_labels).reshape(q.shape)


def crps(probabilities: np.ndarray, targets: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Continuous ranked probability score `(n,)`, see [`~real_trl.evaluation.calibration.calibration_columns`]."""
    return calibration_columns(probabilities, targets, values)["crps"]


def affine_knots(y_hat: np.ndarray, targets: np.ndarray, values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Least squares y ≈ a + b ŷ as knots at the ends of the scale. b is not below 0: a map does not turn the order of scores round."""
    ends, centred = [min(values), max(values)], y_hat - y_hat.mean()
    spread = centred @ centred
    slope = max(0.0, float(centred @ targets / spread)) if spread > 0 else 0.0
    return ends, [float(targets.mean() + slope * (end - y_hat.mean())) for end in ends]


def isotonic_knots(y_hat: np.ndarray, targets: np.ndarray, values: Sequence[float]) -> tuple[list[float], list[float]]:
    """
    Isotonic least squares of y on ŷ: its levels, each at the mean ŷ of its rows (Oron and Flournoy, 2017), so that the order of scores
    is kept between them, where steps would make many of them equal.
    """
    x, rows, counts = np.unique(y_hat, return_inverse=True, return_counts=True)
    found = optimize.isotonic_regression(np.bincount(rows, targets) / counts, weights=counts)
    starts = found.blocks[:-1]
    return (np.add.reduceat(x * counts, starts) / np.add.reduceat(counts, starts)).tolist(), found.x[starts].tolist()


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, Sequence[float]], tuple[list[float], list[float]]] | None] = {
    "none": None,
    "temperature": None,
    "affine": affine_knots,
    "isotonic": isotonic_knots,
}
"""Method → what gives the knots of its map of the mean. The simplest first. All but `"none"` have a temperature."""


def fit(method: str, probabilities: np.ndarray, targets: np.ndarray, values: Sequence[float]) -> Recalibration:
    """
    Fit one map: the temperature whose distributions, moved by the g of least squares on their means, have the smallest mean CRPS.

    Args:
        probabilities (`np.ndarray` of shape `(n, L)`), targets (`np.ndarray` of shape `(n,)`):
            Rows with human scores; probabilities as in [`Recalibration.apply`].
    """
    if method == "none":
        return Recalibration()
    knots_of = METHODS[method]

    def fitted(log_temperature: float) -> Recalibration:
        temperature = float(np.exp(log_temperature))
        y_hat = means(tempered(probabilities, temperature), values)
        return Recalibration(method, temperature, *(knots_of(y_hat, targets, values) if knots_of else ()))

    def loss(log_temperature: float) -> float:
        return float(crps(fitted(log_temperature).apply(probabilities, values), targets, values).mean())

    lowest, highest = np.log(_TEMPERATURES)
    starts = np.linspace(lowest, highest, _STARTS)
    best = int(np.argmin([loss(start) for start in starts]))
    around = starts[max(0, best - 1)], starts[min(_STARTS - 1, best + 1)]
    found = optimize.minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-2})
    return fitted(float(found.x))


def grouped_folds(groups: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """
    Number of the fold `(n,)` of each row, rows of a group in the same one, folds as equal as can be.

    Args:
        groups (`np.ndarray` of shape `(n,)`):
            Group of each row.
    """
    codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    filled, fold_of = np.zeros(min(n_folds, len(sizes)), dtype=int), np.empty(len(sizes), dtype=int)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    return fold_of[codes]


def parts(folds: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of every fold, the masks `(n,)` of the other rows and of its own."""
    for fold in range(folds.max() + 1):
        yield folds != fold, folds == fold
