# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Weights of what another policy sampled: literals, and the expectation of the corrected estimator over all chains of thought."""

import math

import pytest
import torch
from transformers import GPT2LMHeadModel

from real_trl import objectives
from real_trl.objectives.importance_sampling import importance_weights, log_prob_differences, weighted_gradient
from tests.trainers.test_exact_gradient import (
    COTS,
    PROMPT,
    TARGET,
    VALUES,
    enumerate_cots,
    exact_gradient,
    flat_gradient,
    model,  # noqa: F401
    relative_error,
    reward_of,
)

LOG2 = math.log(2.0)


def test_ratios_by_hand():
    # Ratios of the tokens: 2, 1/2, 4 and, outside of the mask, 100; then 1/2 and unknown
    sampling = torch.tensor([[-1 - LOG2, -1 + LOG2, -1 - 2 * LOG2, -5.6], [-1 + LOG2, math.nan, -1.0, -1.0]])
    log_probs, mask = torch.full((2, 4), -1.0, requires_grad=True), torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])

    def weights(mode, clip):
        policy, sequence = importance_weights(log_probs, sampling, mask, mode, clip)
        assert not policy.requires_grad and not sequence.requires_grad
        return [[round(x, 5) for x in row] for row in policy.tolist()], [round(x, 5) for x in sequence.tolist()]

    assert weights("sequence_truncate", None) == ([[4.0], [0.5]], [4.0, 0.5])
    assert weights("sequence_truncate", 3.0) == ([[3.0], [0.5]], [3.0, 0.5])
    assert weights("sequence_mask", 3.0) == ([[0.0], [0.5]], [0.0, 0.5])
    assert weights("token_truncate", 3.0) == ([[2.0, 0.5, 3.0, 1.0], [0.5, 1.0, 1.0, 1.0]], [3.0, 0.5])
    assert weights("token_mask", 3.0) == ([[2.0, 0.5, 0.0, 1.0], [0.5, 1.0, 1.0, 1.0]], [0.0, 0.5])
    differences = log_prob_differences(log_probs, sampling, mask)
    torch.testing.assert_close(differences, torch.tensor([[1.0, -1, 2, 0], [-1, 0, 0, 0]]) * LOG2)


def test_ratios_that_overflow_are_bounded():
    log_probs, sampling = torch.zeros(1, 2), torch.full((1, 2), -400.0)
    for mode, expected in (
        ("sequence_truncate", 3.0),
        ("token_truncate", 3.0),
        ("sequence_mask", 0.0),
        ("token_mask", 0.0),
    ):
        policy, sequence = importance_weights(log_probs, sampling, torch.ones(1, 2), mode)
        assert (policy == expected).all() and sequence.item() == expected


def test_weighted_gradient():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    y = weighted_gradient(x.square(), torch.tensor([0.5, 10.0]))
    assert y.tolist() == [4.0, 9.0]
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 60.0]


# --- by enumeration: completions from μ, the gradient of π ------------------------------------------------------------------


@pytest.fixture(scope="module")
def sampler(model: GPT2LMHeadModel):  # noqa: F811
    """μ: the same model, a bit off, as a policy of some steps before is."""
    torch.manual_seed(1)
    other = GPT2LMHeadModel(model.config).double().eval()
    for theirs, ours in zip(other.parameters(), model.parameters(), strict=True):
        theirs.data.mul_(0.3).add_(ours.data)
    return other


def token_log_probs(model):  # noqa: F811
    """`log π` of every CoT's tokens and their mask, `(186, 3)`, in the order of [`enumerate_cots`]."""
    parts, masks = [], []
    for length in (2, 3):
        cots = torch.tensor([c for c in COTS if len(c) == length])
        ids = torch.cat([torch.tensor(PROMPT).expand(len(cots), -1), cots], dim=1)
        log_p = model(ids).logits.log_softmax(-1)[:, len(PROMPT) - 1 : -1].gather(2, cots.unsqueeze(2)).squeeze(2)
        parts.append(torch.nn.functional.pad(log_p, (0, 3 - length)))
        masks.append(torch.nn.functional.pad(torch.ones_like(log_p), (0, 3 - length)))
    return torch.cat(parts), torch.cat(masks)


def estimate(policy, sampler, reward, mode, *, clip=None, term_2=True):  # noqa: F811
    """
    Expectation of minus the gradient of `real_loss` (β = 1, leave-one-out advantages) over all 186² groups of two from μ, as the trainer makes
    it; `mode=None` is for no correction, `term_2=False` for one of Term 1 only.
    """
    tokens, mask = token_log_probs(policy)
    sampling = token_log_probs(sampler)[0].detach()
    _, scores = enumerate_cots(policy)
    rewards = reward_of(reward, scores)
    objective, weighted = rewards, tokens
    if mode is not None:
        weights = importance_weights(tokens, sampling, mask, mode, clip)
        weighted = weighted_gradient(tokens, weights.policy)
        objective = weights.sequence * rewards if term_2 else rewards
    log_probs = (weighted * mask).sum(1)
    pairs = torch.cartesian_prod(torch.arange(len(COTS)), torch.arange(len(COTS)))
    drawn = (sampling * mask).sum(1)[pairs].sum(1, keepdim=True).exp()  # μ(c_1) μ(c_2), (186², 1)
    assert drawn.sum().item() == pytest.approx(1.0, abs=1e-12)
    scale = drawn.expand(-1, 2) * len(pairs)  # undoes the mean in `real_loss` but for that over the group
    advantages = objectives.leave_one_out_advantages(rewards[pairs])
    loss = objectives.real_loss(log_probs[pairs], advantages * scale, objective[pairs] * scale, 1.0).loss
    return -flat_gradient(policy, loss)


@pytest.mark.parametrize("reward", ["regression", "log_likelihood", "histogram"])
def test_the_corrected_expectation_is_the_gradient_under_the_policy(model, sampler, reward):  # noqa: F811
    exact = exact_gradient(model, reward)
    assert relative_error(estimate(model, sampler, reward, "sequence_truncate"), exact) < 1e-8
    assert relative_error(estimate(model, sampler, reward, "sequence_mask"), exact) < 1e-8
    assert relative_error(estimate(model, sampler, reward, None), exact) > 0.05


def test_term_2_takes_the_weight_of_the_sequence_too(model, sampler):  # noqa: F811
    exact = exact_gradient(model, "regression")
    half = estimate(model, sampler, "regression", "sequence_truncate", term_2=False)
    assert relative_error(half, exact) > 0.01


def test_what_is_not_exact_is_nearer_than_nothing(model, sampler):  # noqa: F811
    """Bounds, and weights of tokens, leave a bias."""
    exact = exact_gradient(model, "regression")
    plain = relative_error(estimate(model, sampler, "regression", None), exact)
    bounded = relative_error(estimate(model, sampler, "regression", "sequence_truncate", clip=3.0), exact)
    tokens = relative_error(estimate(model, sampler, "regression", "token_truncate"), exact)
    assert 1e-6 < bounded < plain and 1e-3 < tokens < plain


def test_standard_rl(model, sampler):  # noqa: F811
    """The reward is of the score that μ drew, so that the sequence is c and y."""

    def joint(model):  # noqa: F811
        log_probs, scores = enumerate_cots(model)
        return log_probs.unsqueeze(1) + scores  # (186, 3)

    rewards = objectives.accuracy_reward(VALUES.expand(len(COTS), -1), TARGET.expand(len(COTS), 3))
    exact = flat_gradient(model, (joint(model).exp() * rewards).sum())
    for corrected in (True, False):
        log_probs, sampling = joint(model), joint(sampler).detach()
        scale = sampling.exp() * sampling.numel()
        if corrected:
            weights = importance_weights(
                log_probs.view(-1, 1), sampling.view(-1, 1), torch.ones(log_probs.numel(), 1), clip_max=None
            )
            log_probs = weighted_gradient(log_probs, weights.policy.view_as(log_probs))
        loss = objectives.real_loss(log_probs, rewards * scale, rewards * scale, 0.0).loss
        error = relative_error(-flat_gradient(model, loss), exact)
        assert error < 1e-8 if corrected else error > 0.05
