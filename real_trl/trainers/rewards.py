# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From the judge's score distributions to rewards and advantages, as [`REALConfig`] says: the table of [`real_trl.methods`] with malformed
completions, streams and KL penalty.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from real_trl import objectives
from real_trl.methods import METHODS, Method, Part, Scored
from real_trl.trainers.real_config import REALConfig


class Rewards(NamedTuple):
    """Of whole groups; a malformed completion's objective is a constant."""

    objective: Tensor  # (G, K) what the method maximises, with its gradient (Term 2 of Lemma 4.1)
    streams: tuple[tuple[float, Tensor], ...]  # (weight, rewards (G, K)), turned into advantages apart and then added
    # (G, K) of each stream: how far rewards may be off by that of the logits
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
    Rewards of whole groups, `N = G · K` completions with K = `group_size`. Tensors as in [`~real_trl.methods.Scored`], where
    `score_log_probs` may be anything in rows that are not in `has_score` `(N,)`.
    """
    # Rows without a score hold the distribution of some other token: keep it, and its gradient, out
    uniform = torch.full_like(score_log_probs, -math.log(len(values)))
    score_log_probs = torch.where(has_score.unsqueeze(1), score_log_probs, uniform)
    # Rows without a score have a constant in its place, so their rounding error is 0
    off = torch.zeros_like(targets) if rounding is None else rounding.detach() * has_score
    normalize = args.normalize_expectation
    scored = Scored(score_log_probs, values, targets, label_weights, sampled_scores, off, normalize, group_size)
    method = METHODS[args.reward]
    parts = method.parts(scored, args)
    present = has_score.view(-1, group_size)  # (N,) -> (G, K)

    def stream(part: Part) -> Tensor:
        """`(G, K)`: no completion may gain by hiding its score, so malformed ones never rank above a sibling's."""
        rewards = part.reward.view(-1, group_size)  # (N,) -> (G, K)
        worst = (part.reward if part.worst is None else part.worst).detach().view(-1, group_size)
        lowest = rewards.detach().masked_fill(~present, torch.inf).amin(1, keepdim=True)
        return torch.where(present, rewards, torch.minimum(worst, lowest))

    streams = [(part.weight, stream(part)) for part in parts]
    if method.of_group is None:
        objective = sum(weight * rewards for weight, rewards in streams) / method.shared_by
    else:
        (_, rewards), takes_part = streams[0], present if args.malformed == "ignore" else None
        objective = method.of_group(rewards, takes_part).unsqueeze(1).expand_as(rewards)  # (G,) -> (G, K)
    bounds = [
        _rounding(method, index, scored, args) if part.rounding is None else part.rounding
        for index, part in enumerate(parts)
    ]
    return Rewards(
        objective,
        tuple((weight, rewards.detach()) for weight, rewards in streams),
        tuple(bound.view(-1, group_size) for bound in bounds),  # (N,) -> (G, K)
    )


def _rounding(method: Method, index: int, scored: Scored, args: REALConfig) -> Tensor:
    """First-order bound on the rounding error, from the reward's gradient, for methods that give none."""
    if method.on_sample:
        return torch.zeros_like(scored.targets)
    with torch.enable_grad():
        log_probs = scored.log_probs.detach().requires_grad_()
        reward = method.parts(scored._replace(log_probs=log_probs), args)[index].reward
        (slope,) = torch.autograd.grad(reward.sum(), log_probs)
    return objectives.log_likelihood_rounding(log_probs.detach(), slope.abs(), scored.rounding)


def score_advantages(args: REALConfig, rewards: Rewards, penalty: Tensor | None, mask: Tensor | None) -> Tensor:
    """
    Standardised leave-one-out advantages (Section 4.3) of each stream, added with the streams' weights: `(G, K)`.

    `penalty` `(G, K)` is the KL penalty to be taken from the first stream's rewards; `mask` `(G, K)` says which completions take part.
    """
    method = METHODS[args.reward]
    total = torch.zeros_like(rewards.streams[0][1])
    bounds = rewards.rounding or [None] * len(rewards.streams)
    for (weight, stream), off in zip(rewards.streams, bounds, strict=True):
        if method.of_group is None:
            advantages = method.advantages(stream if penalty is None else stream - penalty, mask, off)
        else:
            advantages = method.advantages(stream, mask, off)
            if penalty is not None:  # the baseline is linear in the penalty, though not in the rewards
                advantages = advantages + objectives.leave_one_out_advantages(-penalty, mask)
        penalty = None
        total = total + weight * objectives.standardize_advantages(
            advantages, clip=args.advantage_clip, eps=args.advantage_eps, mask=mask
        )
    return total
