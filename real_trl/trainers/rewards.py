# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From the judge's score distributions to rewards and advantages, as [`REALConfig`] says: the table of
[`real_trl.objectives`] with malformed completions, streams and KL penalty.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from real_trl import objectives
from real_trl.trainers.real_config import REALConfig


class Rewards(NamedTuple):
    """
    Attributes:
        objective (`torch.Tensor` of shape `(G, K)`):
            What the method maximises, with its gradient (Term 2 of Lemma 4.1); a constant for malformed completions.
        streams (`tuple[tuple[float, torch.Tensor], ...]`):
            `(weight, rewards (G, K))`: detached rewards that are turned into advantages apart and then added.
        rounding (`tuple[torch.Tensor, ...]`, *optional*):
            Of each stream, how far every reward `(G, K)` may be off by the rounding of the logits.
    """

    objective: Tensor
    streams: tuple[tuple[float, Tensor], ...]
    rounding: tuple[Tensor, ...] | None = None


def score_rewards(
    args: REALConfig,
    score_log_probs: Tensor,
    values: Tensor,
    targets: Tensor,
    label_weights: Tensor,
    sampled_scores: Tensor,
    has_score: Tensor,
    group_size: int,
    rounding: Tensor | None = None,
) -> Rewards:
    """
    Rewards of whole groups.

    Args:
        args ([`REALConfig`]):
            `reward`, `log_likelihood_weight`, `likelihood_form`, `advantage_streams`, `normalize_expectation`,
            `malformed`.
        score_log_probs (`torch.Tensor` of shape `(N, L)`):
            `log π(k | x, c)`; anything where there is no score.
        values (`torch.Tensor` of shape `(L,)`):
            Values of the labels.
        targets, sampled_scores, has_score (`torch.Tensor` of shape `(N,)`):
            y*, the value of the sampled label (NaN for none), whether the distribution can be read.
        label_weights (`torch.Tensor` of shape `(N, L)`):
            Weights of the labels that stand for each target.
        group_size (`int`):
            K; `N = G · K`.
        rounding (`torch.Tensor` of shape `(N,)`, *optional*):
            How far the logits may be off by rounding.
    """
    # Rows without a score hold the distribution of some other token: keep it, and its gradient, out
    uniform = torch.full_like(score_log_probs, -math.log(len(values)))
    score_log_probs = torch.where(has_score.unsqueeze(1), score_log_probs, uniform)
    present = has_score.view(-1, group_size)

    # What stands in for a score that is missing is no number that the logits were rounded to
    off = torch.zeros_like(targets) if rounding is None else rounding.detach() * has_score

    def grouped(*roundings: Tensor) -> tuple[Tensor, ...]:
        return tuple(x.view(-1, group_size) for x in roundings)

    def stream(rewards: Tensor, worst: Tensor) -> Tensor:
        """`(G, K)`: no completion may gain by hiding its score, so malformed ones never rank above a sibling's."""
        rewards, worst = rewards.view(-1, group_size), worst.detach().view(-1, group_size)
        lowest = rewards.detach().masked_fill(~present, torch.inf).amin(1, keepdim=True)
        return torch.where(present, rewards, torch.minimum(worst, lowest))

    if args.reward == "accuracy":
        rewards = stream(objectives.accuracy_reward(sampled_scores, targets), torch.zeros_like(targets))
        return Rewards(rewards, ((1.0, rewards),))

    log_likelihood = objectives.log_likelihood_reward(score_log_probs, values, targets, label_weights)
    off_likelihood = objectives.log_likelihood_rounding(score_log_probs.detach(), label_weights, off)
    if args.reward in ("log_likelihood", "log_marginal"):
        rewards = stream(log_likelihood, log_likelihood)  # a malformed one is worth a uniform guess at most
        if args.reward == "log_likelihood":
            return Rewards(rewards, ((1.0, rewards.detach()),), grouped(off_likelihood))
        takes_part = present if args.malformed == "ignore" else None
        bound = objectives.log_marginal(rewards, takes_part).unsqueeze(1).expand_as(rewards)
        return Rewards(bound, ((1.0, rewards.detach()),), grouped(off_likelihood))

    error = objectives.squared_error(score_log_probs, values, targets, args.normalize_expectation)
    worst_error = objectives.worst_squared_error(values, targets)
    off_error = objectives.squared_error_rounding(
        score_log_probs.detach(), values, targets, off, args.normalize_expectation
    )
    likelihood, weight = log_likelihood, args.log_likelihood_weight
    if args.likelihood_form == "probability":
        likelihood = objectives.likelihood_reward(score_log_probs, values, targets, label_weights)
    if args.advantage_streams == "separate":
        regression = stream(-error, -worst_error)
        worst = log_likelihood if args.likelihood_form == "log_probability" else torch.zeros_like(targets)
        likelihood = stream(likelihood, worst)
        streams = ((1.0, regression.detach()), (weight, likelihood.detach()))
        return Rewards(regression + weight * likelihood, streams, grouped(off_error, off_likelihood))
    rewards = stream(-error + weight * likelihood if weight else -error, -worst_error)
    return Rewards(rewards, ((1.0, rewards.detach()),), grouped(off_error + weight * off_likelihood))


def score_advantages(args: REALConfig, rewards: Rewards, penalty: Tensor | None, mask: Tensor | None) -> Tensor:
    """
    Standardised leave-one-out advantages (Section 4.3) of each stream, added with the streams' weights.

    Args:
        args ([`REALConfig`]):
            `reward`, `advantage_clip`, `advantage_eps`.
        rewards ([`Rewards`]):
            With `(G, K)` completions.
        penalty (`torch.Tensor` of shape `(G, K)`, *optional*):
            KL penalty to be taken from the first stream's rewards.
        mask (`torch.Tensor` of shape `(G, K)`, *optional*):
            `True` for completions that take part.

    Returns:
        `torch.Tensor` of shape `(G, K)`.
    """
    total = torch.zeros_like(rewards.streams[0][1])
    for index, (weight, stream) in enumerate(rewards.streams):
        off = None if rewards.rounding is None else rewards.rounding[index]
        if args.reward == "log_marginal":
            advantages = objectives.log_marginal_advantages(stream, mask, off)
            if penalty is not None:  # the baseline is linear in the penalty, though not in the log-likelihoods
                advantages = advantages + objectives.leave_one_out_advantages(-penalty, mask)
        else:
            advantages = objectives.leave_one_out_advantages(
                stream if penalty is None else stream - penalty, mask, off
            )
        penalty = None
        total = total + weight * objectives.standardize_advantages(
            advantages, clip=args.advantage_clip, eps=args.advantage_eps, mask=mask
        )
    return total
