# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The formulas of the paper against literals worked out by hand."""

import math

import pytest
import torch

from real_trl import objectives

DIGITS = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])


def log(*probabilities):
    return torch.tensor(probabilities).log()


def close(actual, expected, tolerance=1e-6):
    torch.testing.assert_close(actual, torch.tensor(expected), atol=tolerance, rtol=tolerance)


def test_expected_score():
    # 0.1·1 + 0.2·2 + 0.4·3 + 0.2·4 + 0.1·5 = 3; and with half of the mass elsewhere 0.25·4 + 0.25·5 = 2.25
    scores = torch.stack([log(0.1, 0.2, 0.4, 0.2, 0.1), log(0.0, 0.0, 0.0, 0.25, 0.25)])
    close(objectives.expected_score(scores, DIGITS), [3.0, 2.25])


def test_normalized_expectation():
    # Half of the mass is elsewhere: 2.25 / 0.5 = 4.5; then (4.5 − 5)² instead of (2.25 − 5)²
    scores, target = log(0.0, 0.0, 0.0, 0.25, 0.25), torch.tensor(5.0)
    close(objectives.expected_score(scores, DIGITS, normalize=True), 4.5)
    close(objectives.squared_error(scores, DIGITS, target, normalize=True), 0.25)
    close(objectives.squared_error(scores, DIGITS, target), 7.5625)
    close(objectives.regression_reward(scores, DIGITS, target, 0.0, normalize=True), -0.25)
    close(objectives.raft_loss(scores[None], DIGITS, target[None], torch.zeros(1), normalize=True), 0.25)


def test_four_is_better_than_one_for_a_true_five():
    scores = torch.stack([log(0.0, 0.0, 0.0, 1.0, 0.0), log(1.0, 0.0, 0.0, 0.0, 0.0)])
    close(objectives.regression_reward(scores, DIGITS, torch.tensor([5.0, 5.0]), 0.0), [-1.0, -16.0])


def test_regression_reward():
    # ŷ = 0.5·4 + 0.5·5 = 4.5, y* = 5: −0.25 + λ ln 0.5
    scores, target = log(0.0, 0.0, 0.0, 0.5, 0.5), torch.tensor(5.0)
    close(objectives.regression_reward(scores, DIGITS, target, 0.0), -0.25)
    close(objectives.regression_reward(scores, DIGITS, target), -0.25 - 0.693147)
    close(objectives.regression_reward(scores, DIGITS, target, 5.0), -0.25 - 5 * 0.693147)


def test_gradient_of_the_reward_is_equation_7():
    # Two labels, 1 and 5, of probabilities 0.25 and 0.75 as functions of their own logits z over a vocabulary of just these two.
    # ŷ = 4, y* = 5, dŷ/dz₅ = p₁p₅(5 − 1) = 0.75. Term 2 = −2(ŷ − y*)·0.75 + λ(1 − p₅) = 1.5 + 0.25.
    logits = torch.tensor([0.0, math.log(3.0)], requires_grad=True)
    values = torch.tensor([1.0, 5.0])
    objectives.regression_reward(logits.log_softmax(-1), values, torch.tensor(5.0)).backward()
    close(logits.grad, [-1.75, 1.75])


def test_target_weights():
    # 3 is a label; 4⅓ lies a third of the way from 4 to 5; both ends are labels
    weights = objectives.target_weights(torch.tensor([3.0, 13 / 3, 1.0, 5.0]), DIGITS)
    expected = [[0, 0, 1, 0, 0], [0, 0, 0, 2 / 3, 1 / 3], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))


def test_target_weights_of_unordered_uneven_values():
    # Labels given as 10, 0, 4: a target of 1 is three quarters 0 and a quarter 4
    weights = objectives.target_weights(torch.tensor([1.0]), torch.tensor([10.0, 0.0, 4.0]))
    close(weights, [[0.0, 0.75, 0.25]])


def test_target_outside_the_scale():
    with pytest.raises(ValueError, match=r"targets.*outside the scale \[1, 5\].*5\.5.*score_labels"):
        objectives.target_weights(torch.tensor([3.0, 5.5]), DIGITS)


def test_log_likelihood_ignores_impossible_labels():
    scores = log(0.0, 0.0, 0.0, 0.5, 0.25).requires_grad_()
    reward = objectives.log_likelihood_reward(scores, DIGITS, torch.tensor(4.5))
    close(reward.detach(), 0.5 * math.log(0.5) + 0.5 * math.log(0.25))
    reward.backward()
    close(scores.grad, [0.0, 0.0, 0.0, 0.5, 0.5])


def test_likelihoods_of_a_histogram():
    # Two of three raters gave 4, one gave 5: 2/3 ln 0.5 + 1/3 ln 0.25 = −0.924196; as probabilities 2/3 · 0.5 + 1/3 · 0.25.
    # Their mean alone, 4⅓, has the same weights; raters at 3 and 5 have the mean 4, and say something else than a 4
    scores, target = log(0.0, 0.0, 0.125, 0.5, 0.25), torch.tensor(13 / 3)
    weights = torch.tensor([0.0, 0.0, 0.0, 2 / 3, 1 / 3])
    for given in (weights, None):
        close(objectives.log_likelihood_reward(scores, DIGITS, target, given), -0.924196)
        close(objectives.likelihood_reward(scores, DIGITS, target, given), 5 / 12)
    apart = torch.tensor([0.0, 0.0, 0.5, 0.0, 0.5])
    close(objectives.log_likelihood_reward(scores, DIGITS, torch.tensor(4.0), apart), -1.732868)  # ½ ln(1/8 · 1/4)
    close(objectives.likelihood_reward(scores, DIGITS, torch.tensor(4.0), apart), 0.1875)
    close(objectives.likelihood_reward(scores, DIGITS, torch.tensor(4.0)), 0.5)
    # ŷ = 0.375 + 2 + 1.25 = 3.625 is compared with the mean: −0.140625 − 2 · 1.732868
    reward = objectives.regression_reward(scores, DIGITS, torch.tensor(4.0), 2.0, label_weights=apart)
    close(reward, -0.140625 - 2 * 1.732868)


def test_accuracy():
    rewards = objectives.accuracy_reward(torch.tensor([4.0, 3.0, math.nan]), torch.tensor([4.0, 4.0, 4.0]))
    close(rewards, [1.0, 0.0, 0.0])


def test_worst_squared_error():
    # y* = 2: label 5 is 3 away. y* = 4.5: label 1 is 3.5 away
    close(objectives.worst_squared_error(DIGITS, torch.tensor([2.0, 4.5])), [9.0, 12.25])


def test_leave_one_out():
    # Rewards 1, 2, 6: baselines 4, 3.5, 1.5
    close(objectives.leave_one_out_advantages(torch.tensor([[1.0, 2.0, 6.0]])), [[-3.0, -1.5, 4.5]])


def test_leave_one_out_with_a_member_left_out():
    # Without the third: baselines 2 and 1; it gets 0 itself
    mask = torch.tensor([[True, True, False]])
    close(objectives.leave_one_out_advantages(torch.tensor([[1.0, 2.0, 600.0]]), mask), [[-1.0, 1.0, 0.0]])


def test_leave_one_out_with_a_single_member():
    mask = torch.tensor([[True, False, False]])
    close(objectives.leave_one_out_advantages(torch.tensor([[1.0, 2.0, 6.0]]), mask), [[0.0, 0.0, 0.0]])


def test_equal_rewards_carry_no_signal_even_with_rounding_errors():
    reward = -7.3
    rewards = torch.tensor([[reward, math.nextafter(reward, 0.0), reward, reward * (1 + 2e-7)]])
    assert rewards.unique().numel() > 1
    advantages = objectives.standardize_advantages(objectives.leave_one_out_advantages(rewards))
    assert advantages.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_small_but_real_differences_are_kept():
    advantages = objectives.leave_one_out_advantages(torch.tensor([[-1.000, -1.001]]))
    close(advantages, [[0.001, -0.001]], tolerance=1e-6)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 2, 2)])
def test_leave_one_out_needs_groups(shape):
    with pytest.raises(ValueError, match=r"rewards.*\(groups, K\)"):
        objectives.leave_one_out_advantages(torch.zeros(shape))


# --- JEPO's multi-sample bound -----------------------------------------------------------------------------------------


def test_log_marginal():
    # ln ((0.5 + 0.25 + 0.125) / 3) = ln 0.291667; of the first two alone ln 0.375; of none 0
    likelihoods = log(0.5, 0.25, 0.125).expand(3, 3)
    mask = torch.tensor([[True, True, True], [True, True, False], [False, False, False]])
    close(objectives.log_marginal(likelihoods, mask), [-1.232144, -0.980829, 0.0])
    close(objectives.log_marginal(likelihoods[:1]), [-1.232144])


def test_the_gradient_of_the_bound_is_the_posterior():
    # ∂/∂ℓ_i ln 1/K Σ_j π_j = π_i / Σ_j π_j: 4/7, 2/7, 1/7
    likelihoods = log(0.5, 0.25, 0.125)[None].requires_grad_()
    objectives.log_marginal(likelihoods).sum().backward()
    close(likelihoods.grad, [[4 / 7, 2 / 7, 1 / 7]])
    masked = likelihoods.detach().requires_grad_()
    objectives.log_marginal(masked, torch.tensor([[False, False, False]])).sum().backward()
    close(masked.grad, [[0.0, 0.0, 0.0]])


def test_leave_one_out_of_the_bound():
    # All three: 7/24. Without the first (1/4 + 1/8)/2 = 3/16, without the second 5/16, without the third 3/8:
    # A = ln(7/24 · 16/3) = ln 14/9, ln(7/24 · 16/5) = ln 14/15, ln(7/24 · 8/3) = ln 7/9
    advantages = objectives.log_marginal_advantages(log(0.5, 0.25, 0.125)[None])
    close(advantages, [[0.441833, -0.068993, -0.251314]])
    # Mean 0.040509, population σ = √((0.401324² + 0.109502² + 0.291823²)/3) = 0.293379; the first is clipped
    close(objectives.standardize_advantages(advantages), [[1.0, -0.235167, -0.856622]], tolerance=1e-5)


def test_leave_one_out_of_the_bound_with_two():
    # (0.6 + 0.2)/2 = 0.4 against the other one alone: ln 0.4/0.2 and ln 0.4/0.6
    close(objectives.log_marginal_advantages(log(0.6, 0.2)[None]), [[math.log(2.0), math.log(2 / 3)]])


def test_leave_one_out_of_the_bound_with_members_left_out():
    likelihoods = log(0.6, 0.2, 0.9).expand(3, 3)
    mask = torch.tensor([[True, True, False], [False, True, False], [False, False, False]])
    expected = [[math.log(2.0), math.log(2 / 3), 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    close(objectives.log_marginal_advantages(likelihoods, mask), expected)


def test_the_bound_of_equal_likelihoods_carries_no_signal():
    likelihoods = torch.tensor([[-7.3, math.nextafter(-7.3, 0.0), -7.3 * (1 + 2e-7)]])
    assert objectives.log_marginal_advantages(likelihoods).tolist() == [[0.0, 0.0, 0.0]]


def test_very_small_likelihoods_do_not_underflow():
    # e^−500 and e^−501 in a ratio of e: ln((1 + e⁻¹)/2 · e) = 0.620115, and that minus 1
    likelihoods = torch.tensor([[-500.0, -501.0]])
    close(objectives.log_marginal(likelihoods), [-500.379885], tolerance=1e-4)
    close(objectives.log_marginal_advantages(likelihoods), [[0.620115, -0.379885]], tolerance=1e-4)


def test_standardisation_and_clip():
    # A = −3, −1.5, 4.5: mean 0, population σ = √((9 + 2.25 + 20.25)/3) = √10.5 = 3.240370
    advantages = torch.tensor([[-3.0, -1.5, 4.5]])
    close(objectives.standardize_advantages(advantages, clip=None), [[-0.925820, -0.462910, 1.388730]])
    close(objectives.standardize_advantages(advantages), [[-0.925820, -0.462910, 1.0]])
    close(objectives.standardize_advantages(advantages, clip=0.5), [[-0.5, -0.462910, 0.5]])


def test_epsilon_bounds_tiny_advantages():
    # σ = 1e-8: A / (σ + ε) = 1e-8 / 2e-8
    close(objectives.standardize_advantages(torch.tensor([[1e-8, -1e-8]])), [[0.5, -0.5]])


def test_standardisation_is_the_grpo_advantage():
    """After division by σ, leave-one-out and GRPO advantages are the same number."""
    rewards = torch.tensor([[0.3, -1.2, 2.5, 0.0], [-4.0, -3.0, -9.0, -1.0]])
    advantages = objectives.standardize_advantages(objectives.leave_one_out_advantages(rewards), clip=None)
    grpo = (rewards - rewards.mean(1, keepdim=True)) / rewards.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(advantages, grpo, atol=1e-5, rtol=1e-5)


def test_standardisation_with_a_member_left_out():
    mask = torch.tensor([[True, True, False]])
    close(objectives.standardize_advantages(torch.tensor([[-1.0, 1.0, 0.0]]), mask=mask), [[-1.0, 1.0, 0.0]])


def test_raft_loss():
    # ŷ = 4.5 and 2, y* = 5 and 2, log π(c*, y*) = −3 and −1: mean of 0.25 + λ·3 and 0 + λ·1
    scores = torch.stack([log(0.0, 0.0, 0.0, 0.5, 0.5), log(0.0, 1.0, 0.0, 0.0, 0.0)])
    arguments = scores, DIGITS, torch.tensor([5.0, 2.0]), torch.tensor([-3.0, -1.0])
    close(objectives.raft_loss(*arguments), 2.125)
    close(objectives.raft_loss(*arguments, log_likelihood_weight=0.1), 0.325)
    close(objectives.raft_loss(*arguments, regression_weight=0.0), 2.0)


def test_real_loss():
    # −1/2 [1·(−2) + (−0.5)·(−4)] = 0 for the policy; −1/2 (−1 − 3) = 2 for the prediction
    terms = objectives.real_loss(torch.tensor([-2.0, -4.0]), torch.tensor([1.0, -0.5]), torch.tensor([-1.0, -3.0]))
    close(terms.policy, 0.0)
    close(terms.prediction, 2.0)
    close(terms.loss, 0.02)


def test_real_loss_gradient_is_equation_8():
    log_probs = torch.tensor([-2.0, -4.0], requires_grad=True)
    advantages = torch.tensor([1.0, -0.5], requires_grad=True)
    rewards = torch.tensor([-1.0, -3.0], requires_grad=True)
    objectives.real_loss(log_probs, advantages, rewards, 0.01).loss.backward()
    close(log_probs.grad, [-0.5, 0.25])
    close(rewards.grad, [-0.005, -0.005])
    assert advantages.grad is None


def test_clip_and_token_aggregation():
    # The clipped surrogates 1.2 and −0.8 of the test below, over 3 + 5 tokens
    terms = objectives.real_loss(
        torch.tensor([-1.5, -2.5]),
        torch.tensor([1.0, -1.0]),
        torch.zeros(2),
        old_log_probs=torch.tensor([-2.0, -2.0]),
        aggregation="token",
        lengths=torch.tensor([3, 5]),
    )
    close(terms.loss, -0.05)


def test_token_aggregation():
    # (1·(−2) + (−0.5)·(−6)) = 1, over 3 + 5 tokens
    terms = objectives.real_loss(
        torch.tensor([-2.0, -6.0]),
        torch.tensor([1.0, -0.5]),
        torch.zeros(2),
        aggregation="token",
        lengths=torch.tensor([3, 5]),
    )
    close(terms.loss, -0.125)


def test_token_aggregation_of_a_part_of_a_batch():
    # Two parts with 8 and 4 tokens, 6 on average: the mean of 1/6 and −3/6 is (1 − 3)/12, the whole
    parts = [(torch.tensor([-2.0, -6.0]), torch.tensor([1.0, -0.5])), (torch.tensor([-3.0]), torch.tensor([1.0]))]
    losses = [
        objectives.real_loss(*part, torch.zeros(len(part[0])), aggregation="token", lengths=torch.tensor(6.0)).loss
        for part in parts
    ]
    close(torch.stack(losses), [-1 / 6, 0.5])
    whole = objectives.real_loss(
        *(torch.cat(columns) for columns in zip(*parts, strict=True)),
        torch.zeros(3),
        aggregation="token",
        lengths=torch.tensor([3, 5, 4]),
    )
    close(torch.stack(losses).mean() - whole.loss, 0.0)


def test_clipped_ratio_of_a_reused_batch():
    # Ratios e^0.5 = 1.6487 and e^−0.5 = 0.6065, advantages 1 and −1: min(1.6487, 1.2) and min(−0.6065, −0.8), mean 0.2
    log_probs = torch.tensor([-1.5, -2.5], requires_grad=True)
    terms = objectives.real_loss(
        log_probs, torch.tensor([1.0, -1.0]), torch.zeros(2), old_log_probs=torch.tensor([-2.0, -2.0])
    )
    close(terms.loss.detach(), -0.2)
    terms.loss.backward()
    close(log_probs.grad, [0.0, 0.0])  # both are clipped


def test_unclipped_ratio_has_the_on_policy_gradient():
    log_probs = torch.tensor([-2.0, -3.0], requires_grad=True)
    terms = objectives.real_loss(
        log_probs, torch.tensor([1.0, -0.5]), torch.zeros(2), old_log_probs=torch.tensor([-2.0, -3.0])
    )
    terms.loss.backward()
    close(log_probs.grad, [-0.5, 0.25])


@pytest.mark.parametrize("log_ratio", [-1000.0, -89.0, 0.1, 19.0, 21.0, 89.0, 1000.0, 1e6])
@pytest.mark.parametrize("advantage", [1.0, 0.0, -1.0])
def test_no_log_ratio_overflows(log_ratio, advantage):
    """The gradient of the second, ordinary completion is what it is without the first."""
    log_probs = torch.tensor([log_ratio, 0.1], requires_grad=True)
    terms = objectives.real_loss(
        log_probs, torch.tensor([advantage, -1.0]), torch.zeros(2), old_log_probs=torch.tensor([0.0, 0.0])
    )
    terms.loss.backward()
    assert terms.loss.isfinite()
    assert log_probs.grad.isfinite().all()
    assert log_probs.grad[1].item() == pytest.approx(math.exp(0.1) / 2)
    clipped = advantage == 0 or (log_ratio > 0.2 if advantage > 0 else log_ratio < -0.2)
    if clipped:  # as the clip has it: too far already
        assert log_probs.grad[0] == 0
    else:
        expected = -advantage * math.exp(min(log_ratio, 20)) / 2
        assert log_probs.grad[0].item() == pytest.approx(expected, rel=1e-5)


def test_unknown_aggregation():
    with pytest.raises(ValueError, match="aggregation.*'mean'.*'sequence'"):
        objectives.real_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), aggregation="mean")
    with pytest.raises(ValueError, match="aggregation.*lengths"):
        objectives.real_loss(torch.zeros(2), torch.zeros(2), torch.zeros(2), aggregation="token")
