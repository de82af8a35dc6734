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

from real_trl import REALConfig, objectives
from real_trl.label_tree import LabelTree
from real_trl.methods import METHODS, Scored, reward_names

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
    gradients = torch.autograd.grad(scalar, list(model.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in gradients])


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


def reward_of(name, scores):
    targets = TARGET.expand(len(scores))
    if name in METHODS:
        weights = objectives.target_weights(targets, VALUES)
        nothing = torch.zeros_like(targets)
        scored = Scored(scores, VALUES, targets, weights, nothing, nothing, normalize=False)
        args = REALConfig("unused", reward=name, use_cpu=True)
        return sum(part.weight * part.reward for part in METHODS[name].parts(scored, args))
    if name == "histogram":
        weights = torch.tensor([0.25, 0.0, 0.75], dtype=torch.float64)
        return objectives.regression_reward(scores, VALUES, targets - 0.5, label_weights=weights)
    if name == "probability":
        return objectives.likelihood_reward(scores, VALUES, targets) - objectives.squared_error(
            scores, VALUES, targets
        )
    if name == "normalized":
        return objectives.regression_reward(scores, VALUES, targets, normalize=True)
    return objectives.regression_reward(scores, VALUES, targets, 0.0)  # "lambda=0"


def exact_gradient(model, reward):
    log_probs, scores = enumerate_cots(model)
    return flat_gradient(model, (log_probs.exp() * reward_of(reward, scores)).sum())


def expected_estimate(model, log_probs, advantages, rewards, weights, prediction_weight):
    """Expectation of minus the gradient of `real_loss` over rows with probabilities `weights`, which sum to 1."""
    scale = weights.detach() * weights.numel()  # undoes the mean in `real_loss`
    loss = objectives.real_loss(log_probs, advantages * scale, rewards * scale, prediction_weight).loss
    return -flat_gradient(model, loss)


REWARDS = ["lambda=0", "histogram", "probability", "normalized"]
# Each reward of the table that has a gradient and is one of a single completion; for the others see below and test_order_gradients
REWARDS += [
    name
    for name in reward_names()
    if not (METHODS[name].on_sample or METHODS[name].of_group or METHODS[name].shared_by > 1)
]


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


@pytest.mark.parametrize("masked", [False, True], ids=["both", "with a third that is ignored"])
def test_multi_sample_jepo_is_the_gradient_of_its_bound(model, masked):
    """
    `E[Σ_i A_i ∇ log π(c_i | x) + ∇L]` over all groups of two is the gradient of `E[L]`, `L = log 1/2 Σ_i π(y* | x, c_i)`.

    `real_loss` has means over completions in place of the sum; K undoes that here, standardisation in the trainer.
    """

    def pairs_of(model):
        log_probs, scores = enumerate_cots(model)
        pairs = torch.cartesian_prod(torch.arange(len(COTS)), torch.arange(len(COTS)))  # (186², 2)
        return log_probs[pairs], reward_of("log_likelihood", scores)[pairs]

    log_probs, likelihoods = pairs_of(model)
    bound = likelihoods.logsumexp(1) - torch.tensor(2.0).log()
    exact = flat_gradient(model, (log_probs.sum(1).exp() * bound).sum())

    log_probs, likelihoods = pairs_of(model)
    mask = None
    weights = (log_probs.sum(1, keepdim=True).exp() / 2).expand(-1, 2)
    if masked:  # a third completion, malformed and ignored
        mask = torch.tensor([True, True, False]).expand(len(likelihoods), -1)
        third = torch.zeros_like(log_probs[:, :1])
        log_probs, likelihoods = torch.cat([log_probs, third], 1), torch.cat([likelihoods, third - 1], 1)
        weights = torch.cat([weights, third], 1)
    bound = objectives.log_marginal(likelihoods, mask)
    advantages = objectives.log_marginal_advantages(likelihoods, mask)
    assert advantages.abs().max() > 0.1
    rewards = bound.unsqueeze(1).expand_as(likelihoods)
    estimate = expected_estimate(model, log_probs, 2 * advantages, rewards, weights, prediction_weight=1.0)
    assert relative_error(estimate, exact) < 1e-8
    single = exact_gradient(model, "log_likelihood")
    assert relative_error(estimate, single) > 1e-2  # the two bounds are not the same objective


def test_standard_rl_on_labels_of_several_tokens(model):
    """
    The labels are 3, "3 4" and 5: after a 3, the token that follows decides. The policy gradient runs over it too, so that
    the expected accuracy of what is read is what is maximised.
    """
    cots = [c for c in COTS if len(c) == 2]  # without a baseline, the identity holds for any set of them
    texts = torch.tensor([(*c, y, z) for c in cots for y, z in product(range(VOCABULARY), repeat=2)])
    ids = torch.cat([torch.tensor(PROMPT).expand(len(texts), -1), texts], dim=1)
    log_p = model(ids).logits.log_softmax(-1)[:, len(PROMPT) - 1 : -1].gather(2, texts.unsqueeze(2)).squeeze(2)
    # log π of every c, y and next token, (6, 6, 6)
    cot, first, second = (
        part.view(-1, VOCABULARY, VOCABULARY) for part in (log_p[:, :2].sum(1), log_p[:, 2], log_p[:, 3])
    )
    weights = (cot + first + second).exp()
    tree = LabelTree.from_paths([(3,), (3, 4), (5,)])
    assert tree.edges == ((0, 3), (1, 4), (0, 5))
    scores = tree.label_log_probs(torch.stack([first[:, 3, 0], second[:, 3, 4], first[:, 5, 0]], 1))
    read = torch.tensor([[tree.reading_length([y, z]) for z in range(VOCABULARY)] for y in range(VOCABULARY)])
    log_probs = cot + first + torch.where(read == 2, second, 0.0)

    rights = [[(3, z) for z in (0, 1, 2, 3, 5)], [(3, 4)], [(5, z) for z in range(VOCABULARY)]]
    for label, right in enumerate(rights):
        exact = flat_gradient(model, (cot[:, 0, 0].exp() * scores[:, label].exp()).sum())
        rewards = torch.zeros(VOCABULARY, VOCABULARY, dtype=torch.float64)
        rewards[tuple(zip(*right, strict=True))] = 1.0
        rewards = rewards.expand_as(cot)
        estimate = expected_estimate(model, log_probs, rewards, rewards, weights, prediction_weight=0.0)
        assert relative_error(estimate, exact) < 1e-8
        without = expected_estimate(model, cot + first, rewards, rewards, weights, prediction_weight=0.0)
        assert (relative_error(without, exact) > 1e-2) == (label < 2)
