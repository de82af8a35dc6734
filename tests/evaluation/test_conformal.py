# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Intervals: by hand, and their coverage where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from real_trl.evaluation.conformal import (
    KINDS,
    Intervals,
    conformal_margin,
    distances,
    fit_intervals,
    inner,
    least_rows,
    widened,
)

VALUES = [0.0, 1.0, 2.0, 3.0, 4.0]


def test_the_margin_by_hand():
    """⌈(9 + 1) · 0.9⌉ = 9 of 9; ⌈(8 + 1) · 0.9⌉ = 9 of 8: there is none; ⌈(19 + 1) · 0.9⌉ = 18 of 19, not 19 for a rounding error."""
    assert conformal_margin(np.arange(1.0, 10), 0.9) == 9
    assert conformal_margin(np.arange(1.0, 9), 0.9) == float("inf")
    assert conformal_margin(np.arange(1.0, 20), 0.9) == 18
    assert least_rows(0.9) == 50 and least_rows(0.95) == 100


def test_intervals_by_hand():
    p = np.array([[0.2, 0.2, 0.2, 0.2, 0.2], [0, 0, 1, 0, 0]])
    assert inner("absolute", p, VALUES, 0.8) == pytest.approx(np.full((2, 2), 2.0))
    # Passed at 0.1, 0.3, 0.5, 0.7, 0.9: the 0.1 quantile is 0, the 0.9 quantile 4; at 0.8 of the mass, 0.2 lies half way to 1
    assert inner("quantiles", p, VALUES, 0.8)[0] == pytest.approx([0, 4])
    assert inner("quantiles", p, VALUES, 0.6)[0] == pytest.approx([0.5, 3.5])
    assert distances(np.array([[1.0, 3.0]] * 3), np.array([0.5, 2.0, 3.5])) == pytest.approx([0.5, -1, 0.5])
    assert widened(np.array([[1.0, 3.0]] * 2), np.array([2.0, -0.5]), VALUES) == pytest.approx(
        np.array([[0, 4], [1.5, 2.5]])
    )
    assert widened(np.array([[1.0, 3.0]]), np.array([-1.5]), VALUES)[0] == pytest.approx([2, 2])  # turned round
    assert Intervals("absolute", 0.9, float("inf")).of(p, VALUES)[1] == pytest.approx([0, 4])
    by_group = Intervals("absolute", 0.9, 1.0, "kind", {"a": 0.5}).of(p, VALUES, ["a", "other"])
    assert by_group == pytest.approx(np.array([[1.5, 2.5], [1, 3]]))


def simulated(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A judge that is wrong about everything, scores with a noise of its own in each of two groups, and the groups."""
    groups = rng.integers(0, 2, n)
    p = rng.dirichlet(np.full(5, 0.7), n)
    noise = np.where(groups == 0, 0.2, 1.0) * rng.uniform(-1, 1, n)
    return p, np.clip(0.3 * p @ np.array(VALUES) + 1.4 + noise, 0, 4), groups.astype(str)


@pytest.mark.parametrize("kind", KINDS)
def test_coverage_is_what_was_asked_for(kind):
    """
    With 49 rows the margin is the 45th of 50 places that the next row may take with the same probability: it lies inside with 0.9 exactly.
    Of 2,000 repetitions, bounds that a binomial leaves once in 10,000 times.
    """
    rng, inside = np.random.default_rng(0), 0
    for _ in range(2000):
        p, y, _ = simulated(rng, 50)
        ((low, high),) = fit_intervals(kind, p[:49], y[:49], VALUES, 0.9).of(p[49:], VALUES)
        inside += low <= y[49] <= high
    low, high = stats.binom.interval(0.9999, 2000, 0.9)
    assert low <= inside <= high


def test_coverage_within_groups():
    rng = np.random.default_rng(1)
    p, y, groups = simulated(rng, 4000)
    together = fit_intervals("absolute", p, y, VALUES, 0.9)
    apart = fit_intervals("absolute", p, y, VALUES, 0.9, "kind", groups)
    p, y, groups = simulated(rng, 20_000)

    def covered(intervals: Intervals, group: str) -> float:
        low, high = intervals.of(p, VALUES, groups).T
        return float(((low <= y) & (y <= high))[groups == group].mean())

    assert covered(together, "0") > 0.93 and covered(together, "1") < 0.87
    # Of about 10,000 rows, with margins from about 2,000: √(0.09 / 10,000 + 0.09 / 2,000) = 0.0073
    assert covered(apart, "0") == pytest.approx(0.9, abs=4 * 0.0073)
    assert covered(apart, "1") == pytest.approx(0.9, abs=4 * 0.0073)


def test_a_group_with_few_rows_has_the_margin_of_all():
    p, y, _ = simulated(np.random.default_rng(2), 149)
    groups = np.array(["many"] * 100 + ["few"] * 49)
    intervals = fit_intervals("absolute", p, y, VALUES, 0.9, "kind", groups)
    assert set(intervals.margins) == {"many"}
    assert intervals.of(p[:1], VALUES, ["few"]) == pytest.approx(intervals.of(p[:1], VALUES, [None]))
