# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Rewards that couple completions of several prompts, exactly: two prompts, whose chains of thought are one of six tokens. All pairs of
completions are enumerated, and all groups of two for each prompt, in float64; see `test_exact_gradient`.
"""

from itertools import product

import pytest
import torch

from real_trl import objectives
from real_trl.methods import METHODS
from tests.trainers.test_exact_gradient import (
    LABELS,
    VALUES,
    VOCABULARY,
    expected_estimate,
    flat_gradient,
    relative_error,
)
from tests.trainers.test_exact_gradient import model as model  # noqa: PLC0414

PROMPTS = torch.tensor([[0, 1, 0], [0, 2, 1]])
K = 2


def enumerate_both(model):
    """`log π(c | x)` `(2, 6)` and `log π(k | x, c)` `(2, 6, 3)` of both prompts."""
    ids = torch.cat([PROMPTS.repeat_interleave(VOCABULARY, 0), torch.arange(VOCABULARY).repeat(2).unsqueeze(1)], dim=1)
    log_p = model(ids).logits.log_softmax(-1)
    log_probs = log_p[:, 2].gather(1, ids[:, 3:]).squeeze(1)
    return log_probs.view(2, -1), log_p[:, 3, LABELS].view(2, VOCABULARY, -1)


def objective(kind, above):
    return above.log() if kind == "preference" else above


def exact(model, kind):
    """Of the prompts' two completions drawn independently: A's score is to be above B's."""
    log_probs, scores = enumerate_both(model)
    above = objectives.order_probability(scores[0].unsqueeze(1), scores[1].unsqueeze(0), VALUES)  # (6, 6)
    joint = log_probs[0].unsqueeze(1) + log_probs[1]
    return flat_gradient(model, (joint.exp() * objective(kind, above)).sum())


def rewards_of(kind, scores):
    """Of groups `(B, 2, K, L)` of both prompts: `(B, 2, K)`."""
    n, size = len(scores), 2 * K
    if kind == "preference":
        flat = scores.reshape(n * size, -1)
        rewards = objectives.preference_reward(flat, VALUES, torch.ones(n * size, dtype=torch.float64), size)
        return rewards.view(n, 2, K)
    targets = torch.tensor([3.0, 1.0], dtype=torch.float64).repeat_interleave(K)
    return torch.stack([objectives.concordance_reward(x.flatten(0, 1), VALUES, targets, K) for x in scores]).view(
        n, 2, K
    )


def estimate(model, kind, baseline, prediction_weight=1.0, shared_by=None):
    shared_by = METHODS[kind].shared_by if shared_by is None else shared_by
    log_probs, scores = enumerate_both(model)
    drawn = torch.tensor(list(product(range(VOCABULARY), repeat=2 * K))).view(-1, 2, K)
    side = torch.arange(2).view(2, 1).expand(2, K)
    log_probs, scores = log_probs[side, drawn], scores[side, drawn]  # (1296, 2, K), (1296, 2, K, L)
    rewards = rewards_of(kind, scores)
    advantages = rewards.detach()
    if baseline:
        method = METHODS[kind]
        shape = (-1, 2 * K if method.pairs else K)  # one group holds both sides, or each prompt has one
        advantages = method.advantages(advantages.reshape(shape)).view_as(rewards)
    # A group's probability, over its 2 K completions, times 2: J is a sum over both sides of means over K
    weights = 2 * (log_probs.sum((1, 2), keepdim=True).exp() / (2 * K)).expand_as(rewards)
    return expected_estimate(model, log_probs, advantages, rewards / shared_by, weights, prediction_weight)


@pytest.mark.parametrize("baseline", [False, True], ids=["plain", "leave-one-out"])
@pytest.mark.parametrize("kind", ["preference", "concordance"])
def test_both_terms_are_the_gradient(model, kind, baseline):
    assert relative_error(estimate(model, kind, baseline), exact(model, kind)) < 1e-8


@pytest.mark.parametrize("kind", ["preference", "concordance"])
def test_without_the_second_term_or_with_its_pairs_counted_twice_it_is_not(model, kind):
    assert relative_error(estimate(model, kind, True, prediction_weight=0.0), exact(model, kind)) > 1e-2
    assert relative_error(estimate(model, kind, True, shared_by=1), exact(model, kind)) > 1e-2
