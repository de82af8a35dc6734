# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Lemma 4.1, exactly: on a model with six tokens every chain of thought is enumerated, so the gradient of the true expected objective
is known, and the expectation of the estimator over all samples is computed, not sampled. Everything in float64.

A CoT has two or three tokens: it ends at its second token if that is `END`, else at its third. The score follows.
"""

from itertools import product

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from real_trl import objectives

VOCABULARY = 6
END = 2
LABELS = [3, 4, 5]  # token ids of the scores 1, 2, 3
VALUES = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
PROMPT = [0, 1, 0]
TARGET = torch.tensor(3.0, dtype=torch.float64)
COTS = [(a, END) for a in range(VOCABULARY)] + [c for c in product(range(VOCABULARY), repeat=3) if c[1] != END]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    # GPT-2 stays in float64 throughout, where Llama's RMSNorm would round to float32
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=8,
        n_embd=16,
        n_layer=1,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config).double().eval()


def enumerate_cots(model):
    """`log π(c | x)` `(186,)` and `log π(k | x, c)` `(186, 3)` of every CoT."""
    log_probs, scores = [], []
    for length in (2, 3):
        cots = torch.tensor([c for c in COTS if len(c) == length])
        ids = torch.cat([torch.tensor(PROMPT).expand(len(cots), -1), cots], dim=1)
        log_p = model(ids).logits.log_softmax(-1)[
            :, len(PROMPT) - 1 :
        ]  # row t predicts CoT token t; the last one the score
        log_probs.append(log_p[:, :-1].gather(2, cots.unsqueeze(2)).squeeze(2).sum(1))
        scores.append(log_p[:, -1, LABELS])
    return torch.cat(log_probs), torch.cat(scores)


def flat_gradient(model, scalar):
    gradients = torch.autograd.grad(scalar, list(model.parameters()))
    return torch.cat([g.flatten() for g in gradients])


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def reward_of(name, scores):
    targets = TARGET.expand(len(scores))
    if name == "log_likelihood":
        return objectives.log_likelihood_reward(scores, VALUES, targets)
    return objectives.regression_reward(scores, VALUES, targets, {"lambda=0": 0.0, "lambda=1": 1.0}[name])


def exact_gradient(model, reward):
    log_probs, scores = enumerate_cots(model)
    return flat_gradient(model, (log_probs.exp() * reward_of(reward, scores)).sum())


def expected_estimate(model, log_probs, advantages, rewards, weights, prediction_weight):
    """Expectation of minus the gradient of `real_loss` over rows with probabilities `weights`, which sum to 1."""
    scale = weights.detach() * weights.numel()  # undoes the mean in `real_loss`
    loss = objectives.real_loss(log_probs, advantages * scale, rewards * scale, prediction_weight).loss
    return -flat_gradient(model, loss)


REWARDS = ["lambda=0", "lambda=1", "log_likelihood"]


def test_the_enumeration_is_complete(model):
    log_probs, _ = enumerate_cots(model)
    assert len(log_probs) == len(COTS) == 6 + 6 * 5 * 6
    assert log_probs.exp().sum().item() == pytest.approx(1.0, abs=1e-12)
    assert log_probs.exp().max() < 0.5  # no CoT dominates: the expectation is one over many


@pytest.mark.parametrize("reward", REWARDS)
def test_term_1_plus_term_2_is_the_gradient(model, reward):
    log_probs, scores = enumerate_cots(model)
    rewards = reward_of(reward, scores)
    estimate = expected_estimate(model, log_probs, rewards, rewards, log_probs.exp(), prediction_weight=1.0)
    assert relative_error(estimate, exact_gradient(model, reward)) < 1e-8


@pytest.mark.parametrize("reward", REWARDS)
def test_leaving_out_term_2_is_wrong(model, reward):
    log_probs, scores = enumerate_cots(model)
    rewards = reward_of(reward, scores)
    estimate = expected_estimate(model, log_probs, rewards, rewards, log_probs.exp(), prediction_weight=0.0)
    assert relative_error(estimate, exact_gradient(model, reward)) > 1e-2


@pytest.mark.parametrize("reward", REWARDS)
def test_leave_one_out_baseline_keeps_the_expectation(model, reward):
    """All 186² groups of two, each with its probability."""
    log_probs, scores = enumerate_cots(model)
    rewards = reward_of(reward, scores)
    first, second = torch.cartesian_prod(torch.arange(len(COTS)), torch.arange(len(COTS))).unbind(1)
    pairs = torch.stack([first, second], dim=1)  # (186², 2)
    weights = (
        log_probs[pairs].sum(1, keepdim=True).exp() / 2
    )  # each of the two members has half the group's probability
    estimate = expected_estimate(
        model,
        log_probs[pairs],
        objectives.leave_one_out_advantages(rewards[pairs]),
        rewards[pairs],
        weights.expand(-1, 2),
        prediction_weight=1.0,
    )
    assert relative_error(estimate, exact_gradient(model, reward)) < 1e-8


def test_standard_rl_has_the_score_in_its_policy_gradient(model):
    """Accuracy of the sampled score: the policy gradient runs over c and y, and there is no Term 2."""
    log_probs, scores = enumerate_cots(model)
    joint = log_probs.unsqueeze(1) + scores  # (186, 3): log π(c, y | x) for y on the scale; other y earn nothing
    rewards = objectives.accuracy_reward(VALUES.expand_as(joint), TARGET.expand_as(joint))
    exact = flat_gradient(model, (joint.exp() * rewards).sum())
    log_probs, scores = enumerate_cots(model)
    joint = log_probs.unsqueeze(1) + scores
    estimate = expected_estimate(model, joint, rewards, rewards, joint.exp(), prediction_weight=0.0)
    assert relative_error(estimate, exact) < 1e-8
    log_probs, scores = enumerate_cots(model)
    without_score = log_probs.unsqueeze(1).expand_as(scores)
    weights = without_score.exp() * scores.exp()
    estimate = expected_estimate(model, without_score, rewards, rewards, weights, prediction_weight=0.0)
    assert relative_error(estimate, exact) > 1e-2
