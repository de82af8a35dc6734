# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Maps of score distributions: by hand, against scikit-learn, and with a known truth."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from real_trl.evaluation.recalibration import (
    METHODS,
    Recalibration,
    affine_knots,
    crps,
    fit,
    grouped_folds,
    isotonic_knots,
    means,
    moved,
    tempered,
)

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0]


def distributions(n: int, seed: int = 0, sharpness: float = 1.0) -> np.ndarray:
    return tempered(np.random.default_rng(seed).dirichlet(np.ones(5), n), 1 / sharpness)


def drawn(p: np.ndarray, seed: int = 1) -> np.ndarray:
    """One score from each distribution."""
    draws = np.random.default_rng(seed).random((len(p), 1))
    return np.asarray(VALUES)[(draws > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)]


@pytest.mark.parametrize(
    ("q", "wanted", "result"),
    [
        ([0, 1, 0], 2.25, [0, 0.75, 0.25]),  # between two labels, by distance
        ([1, 0, 0], 3, [0, 0, 1]),
        ([0.5, 0, 0.5], 2.5, [0, 0.5, 0.5]),  # moved by 1: 1 to 2, and 3 stays at the end
        ([0.5, 0, 0.5], 7, [0, 0, 1]),  # beyond the scale is its end
        ([0.2, 0.6, 0.2], 2, [0.2, 0.6, 0.2]),
        # By -0.5 each: 0.2 stays at 1, 0.6 is halved between 1 and 2, 0.2 between 2 and 3: mean 0.2 + 0.9 + 0.5 = 1.6
        ([0.2, 0.6, 0.2], 1.6, [0.5, 0.4, 0.1]),
    ],
)
def test_a_distribution_is_moved_until_it_has_the_mean(q, wanted, result):
    (new,) = moved(np.array([q], dtype=float), np.array([1.0, 2.0, 3.0]), np.array([wanted], dtype=float))
    assert new == pytest.approx(result, abs=1e-12)


def test_any_mean_is_reached_on_any_scale():
    values, q = np.array([-1.0, 0.0, 0.5, 4.0, 10.0]), distributions(500)
    wanted = np.random.default_rng(2).uniform(-1, 10, 500)
    new = moved(q, values, wanted)
    assert new @ values == pytest.approx(wanted, abs=1e-12) and new.sum(axis=1) == pytest.approx(np.ones(500))
    assert new.min() >= 0


def test_labels_may_stand_in_any_order():
    p, order = distributions(20), [3, 0, 4, 1, 2]
    map_ = Recalibration("affine", 2.0, (1.0, 5.0), (2.0, 4.5))
    shuffled = map_.apply(p[:, order], [VALUES[i] for i in order])
    assert shuffled == pytest.approx(map_.apply(p, VALUES)[:, order], abs=1e-12)


def test_what_is_reported_agrees_with_itself():
    """The mean of the new distribution is g of the tempered one's mean: here 1 + 0.5 ŷ."""
    p = distributions(50)
    new = Recalibration("affine", 1.0, (1.0, 5.0), (1.5, 3.5)).apply(p, VALUES)
    assert means(new, VALUES) == pytest.approx(1 + 0.5 * means(p, VALUES), abs=1e-12)
    assert Recalibration().apply(0.5 * p, VALUES) == pytest.approx(p, abs=1e-15)


def test_temperature_by_hand():
    assert tempered(np.array([[0.8, 0.2]]), 0.5)[0] == pytest.approx([0.64 / 0.68, 0.04 / 0.68])
    assert tempered(np.array([[1.0, 0.0]]), 2.0).sum() == pytest.approx(1)


def test_crps_by_hand():
    """E|X − y| − ½ E|X − X'|: of a fair 1 or 2 and y = 2, 0.5 − 0.25; moved by 0.5, 1.5 or 2 of y = 2 as (0.25, 0.75)."""
    p, y = np.array([[0.5, 0.5]]), np.array([2.0])
    assert crps(p, y, [1, 2]) == pytest.approx([0.25])
    # On 1 and 2 with P(2) = 0.75: E|X − 2| = 0.25, ½ E|X − X'| = 0.25 · 0.75 = 0.1875
    assert crps(moved(p, np.array([1.0, 2.0]), np.array([1.75])), y, [1, 2]) == pytest.approx([0.0625])


def test_the_temperature_of_an_overconfident_judge_is_found():
    truth = distributions(4000)
    fitted = fit("temperature", tempered(truth, 0.25), drawn(truth), VALUES)  # p^4
    assert fitted.temperature == pytest.approx(4, rel=0.1)
    assert fit("none", truth, drawn(truth), VALUES) == Recalibration()


def test_affine_by_hand():
    """Least squares through (1, 2), (2, 2), (3, 5): slope 1.5, mean 3 at 2."""
    ends, knots = affine_knots(np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 5.0]), VALUES)
    assert (ends, knots) == ([1.0, 5.0], pytest.approx([1.5, 7.5]))
    assert affine_knots(np.array([1.0, 3.0]), np.array([4.0, 2.0]), VALUES)[1] == [3.0, 3.0]  # never turned round
    assert affine_knots(np.array([2.0, 2.0]), np.array([1.0, 2.0]), VALUES)[1] == [1.5, 1.5]


def test_isotonic_levels_are_those_of_scikit_learn():
    rng = np.random.default_rng(3)
    x = rng.uniform(1, 5, 300).round(1)  # with ties
    y = np.clip(x + rng.normal(0, 1.5, 300), 1, 5)
    at, level = isotonic_knots(x, y, VALUES)
    other = IsotonicRegression().fit(x, y)
    assert np.interp(at, other.X_thresholds_, other.y_thresholds_) == pytest.approx(level, abs=1e-9)
    assert np.unique(other.predict(x)) == pytest.approx(level, abs=1e-9)
    assert (np.diff(at) > 0).all() and (np.diff(level) > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_no_map_makes_rows_that_it_was_fitted_on_worse(method):
    truth = distributions(300)
    p, y = tempered(truth, 0.3), np.clip(drawn(truth) + 0.5, 1, 5)
    new = fit(method, p, y, VALUES).apply(p, VALUES)
    assert crps(new, y, VALUES).mean() <= crps(p, y, VALUES).mean() + 1e-12


def test_folds_keep_groups_together():
    groups = np.random.default_rng(4).integers(0, 40, 1000)
    folds = grouped_folds(groups, 5, seed=0)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in range(40))
    sizes = np.bincount(folds)
    assert len(sizes) == 5 and np.ptp(sizes) <= np.bincount(groups).max()
    assert set(grouped_folds(np.array([7, 7, 9]), 5, 0)) == {0, 1}
