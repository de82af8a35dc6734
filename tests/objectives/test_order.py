# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rewards of the order of responses, and of soft labels, against literals worked out by hand."""

import math

import pytest
import torch

from real_trl import objectives

VALUES = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)


def log(*rows):
    return torch.tensor(rows, dtype=torch.float64).log()


A, B = (0.2, 0.3, 0.5), (0.6, 0.4, 0.0)
# P(A ≻ B) = 0.3·0.6 + 0.5·(0.6 + 0.4) + ½ (0.2·0.6 + 0.3·0.4 + 0.5·0)
ABOVE = 0.18 + 0.5 + 0.12


def test_probability_of_an_order():
    assert objectives.order_probability(*log(A, B), VALUES).item() == pytest.approx(ABOVE)
    assert objectives.order_probability(*log(B, A), VALUES).item() == pytest.approx(1 - ABOVE)


def test_order_does_not_depend_on_the_order_of_labels_or_on_mass_elsewhere():
    assert objectives.order_probability(
        *log((0.5, 0.2, 0.3), (0.0, 0.6, 0.4)), VALUES.roll(1)
    ).item() == pytest.approx(ABOVE)
    first, second = log(A, B) + math.log(0.25)
    assert objectives.order_probability(first, second, VALUES).item() == pytest.approx(ABOVE)


@pytest.mark.parametrize("preference", [1.0, 0.0, 0.5])
def test_preference_reward(preference):
    # Two completions of either side; P of the four pairs by hand
    c = (0.0, 0.0, 1.0)
    scores = log(A, c, B, A)
    p = {"AB": ABOVE, "AA": 0.5, "cB": 1.0, "cA": 0.75}  # c ≻ A: 0.2 + 0.3 + ½ 0.5
    tiny = torch.finfo(torch.float64).tiny

    def reward(name):
        right, wrong = math.log(p[name]), math.log(max(1 - p[name], tiny))
        return preference * right + (1 - preference) * wrong

    # First both of A's side, over B's two; then both of B's
    expected = [("AB", "AA"), ("cB", "cA"), ("AB", "cB"), ("AA", "cA")]
    preferences = torch.full((4,), preference, dtype=torch.float64)
    found = objectives.preference_reward(scores, VALUES, preferences, 4)
    assert found.tolist() == pytest.approx([(reward(x) + reward(y)) / 2 for x, y in expected])
    both = objectives.preference_reward(torch.cat([scores, scores[[2, 3, 0, 1]]]), VALUES, preferences.repeat(2), 4)
    assert both[:4].tolist() == pytest.approx(found.tolist())


def test_an_impossible_preference_has_a_finite_gradient():
    scores = torch.tensor([[-1e4, -1e4, 0.0], [0.0, -1e4, -1e4]], requires_grad=True)
    objectives.preference_reward(scores, VALUES.float(), torch.zeros(2), 2).sum().backward()
    assert scores.grad.isfinite().all()


def test_concordance():
    # Three prompts with y* = 3, 1, 3 and one completion each: the first and third are compared with the second only
    scores = log(A, B, (0.0, 1.0, 0.0))
    targets = torch.tensor([3.0, 1.0, 3.0], dtype=torch.float64)
    third = 0.6 + 0.2  # P(2 ≻ B)
    expected = [ABOVE / 2, (ABOVE + third) / 2, third / 2]
    assert objectives.concordance_reward(scores, VALUES, targets, 1).tolist() == pytest.approx(expected)
    # Slices: the second completions of the prompts see each other alone
    two = scores[[0, 2, 1, 1, 2, 0]]
    found = objectives.concordance_reward(two, VALUES, targets.repeat_interleave(2), 2).view(3, 2)
    assert found[:, 0].tolist() == pytest.approx(expected)
    assert found[:, 1].tolist() == pytest.approx([third / 2, (ABOVE + third) / 2, ABOVE / 2])


def test_concordance_of_equal_targets_or_of_one_prompt_is_nothing():
    assert objectives.concordance_reward(log(A, B), VALUES, VALUES[[0, 0]], 1).tolist() == [0, 0]
    assert objectives.concordance_reward(log(A, B), VALUES, VALUES[[0, 0]], 2).tolist() == [0, 0]


def test_number_token_loss():
    # 0.2·2 + 0.3·1 for y* = 3; of B, where half of the mass is elsewhere, 0.6·1.5 + 0.4·0.5 for 2.5
    scores = torch.stack([log(A)[0], log(B)[0] - math.log(2)])
    found = objectives.absolute_error(scores, VALUES, torch.tensor([3.0, 2.5], dtype=torch.float64))
    assert found.tolist() == pytest.approx([0.7, 1.1])


def test_gaussian_weights():
    # σ = 1: exp(−½), 1, exp(−½); by default half the smallest distance, here ¼, so that exp(−2), 1, exp(−8) of 0.5, 1 and 2
    e = math.exp(-0.5)
    target = torch.tensor([2.0], dtype=torch.float64)
    assert objectives.gaussian_weights(target, VALUES, 1.0)[0].tolist() == pytest.approx(
        [e / (1 + 2 * e), 1 / (1 + 2 * e), e / (1 + 2 * e)]
    )
    uneven = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    weights = [math.exp(-8), 1.0, math.exp(-2)]
    found = objectives.gaussian_weights(torch.tensor(1.0, dtype=torch.float64), uneven)
    assert found.tolist() == pytest.approx([each / sum(weights) for each in weights])


def test_baselines_are_those_of_a_side():
    # 1 − 3, 3 − 1 of the first half; 10 − 14, 14 − 10 of the second; the third of each is left out
    rewards = torch.tensor([[1.0, 3.0, 7.0, 10.0, 14.0, 2.0]])
    mask = torch.tensor([[True, True, False] * 2])
    assert objectives.side_advantages(rewards, mask).tolist() == [[-2, 2, 0, -4, 4, 0]]
    # 1 − 5, 3 − 4, 7 − 2; and 10 − 8, 14 − 6, 2 − 12
    assert objectives.side_advantages(rewards).tolist() == [[-4, -1, 5, 2, 8, -10]]
