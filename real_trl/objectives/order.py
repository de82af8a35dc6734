# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Rewards of score distributions that look at the order of two responses, on tensors alone. Notation and shapes as in [`real_trl.objectives`].

Two scores are drawn independently, from the distributions of two completions, each divided by its mass on the labels: a probability of order
must not depend on what the judge says outside of its scale.
"""

import torch
from torch import Tensor


def order_probability(first: Tensor, second: Tensor, values: Tensor) -> Tensor:
    """
    `P(A ≻ B) = Σ_ij p_A(i) p_B(j) ([v_i > v_j] + ½ [v_i = v_j])`, how probably a score drawn for A is above one drawn for B, ties counting half.

    Args:
        first, second (`torch.Tensor` of shape `(..., L)`):
            `log π(k | x, c)` of the labels, of A and of B; leading dimensions broadcast.
        values (`torch.Tensor` of shape `(L,)`):
            The number that each label stands for.

    Returns:
        `torch.Tensor` of shape `(...)`. `P(A ≻ B) + P(B ≻ A) = 1`.
    """
    difference = values.unsqueeze(1) - values  # (L, L)
    above = (1 + difference.sign()) / 2
    return torch.einsum("...i,ij,...j->...", first.softmax(-1), above.to(first.dtype), second.softmax(-1))


def preference_reward(score_log_probs: Tensor, values: Tensor, preferences: Tensor, group_size: int) -> Tensor:
    """
    Log-probability that the human's preference between two responses comes out, on average over the completions of the other side.

    A group of `group_size` completions holds both sides of one pair, the first half about A, the second about B. Of completion `i` of A it is
    `1/M Σ_j [w log P(A ≻ B) + (1 − w) log P(B ≻ A)]` over the `M = group_size / 2` completions `j` of B, with `w` the preference for A (1,
    0, or ½ for a tie), and so for B. The mean over the group is the mean over the pairs of completions. The policy gradient, a mean over
    both sides' completions, is half of that mean's, each completion being of one side; so the gradient through the distributions
    has to be taken half as well: `shared_by` of [`~real_trl.methods.Method`].

    Args:
        score_log_probs (`torch.Tensor` of shape `(G · group_size, L)`):
            `log π(k | x, c)`.
        values (`torch.Tensor` of shape `(L,)`):
            The number that each label stands for, higher for the better: minus the score where 1 is the best.
        preferences (`torch.Tensor` of shape `(G · group_size,)`):
            `w`, the same in all of a group.

    Returns:
        `torch.Tensor` of shape `(G · group_size,)`.
    """
    first, second = score_log_probs.unflatten(0, (-1, 2, group_size // 2)).unbind(1)  # (G, 2, M, L) -> (G, M, L) each
    weights = preferences.view(-1, group_size)[:, :1, None]  # (G, 1, 1)
    probability = order_probability(first.unsqueeze(2), second.unsqueeze(1), values)  # (G, M, M)
    floor = torch.finfo(probability.dtype).tiny  # an underflow must not end a run
    log_odds = [probability.clamp(min=floor).log(), (1 - probability).clamp(min=floor).log()]
    rewards = weights * log_odds[0] + (1 - weights) * log_odds[1]
    return torch.cat([rewards.mean(2), rewards.mean(1)], dim=1).flatten()  # (G, 2M) -> (N,)


def concordance_reward(score_log_probs: Tensor, values: Tensor, targets: Tensor, group_size: int) -> Tensor:
    """
    How probably a completion's score is on the right side of those of the other prompts, a listwise reward: the `i`-th completions of all
    prompts make up a slice (as in PoLi-RL, arXiv 2510.04080), and the reward of completion `i` of prompt `g` is
    `1/(G − 1) Σ_h P(s_g,i, s_h,i ordered as y*_g, y*_h)` over the prompts `h` with another target. In expectation over scores that is the
    share of concordant pairs (Kendall). PoLi-RL has distances of ranks of decoded scores in its place, which have no gradient. Its
    policy gradient is half of that mean's, as that of [`preference_reward`].

    Args:
        score_log_probs (`torch.Tensor` of shape `(G · group_size, L)`):
            `log π(k | x, c)`.
        targets (`torch.Tensor` of shape `(G · group_size,)`):
            y*, the same in all of a group.

    Returns:
        `torch.Tensor` of shape `(G · group_size,)`; 0 where all targets are equal, or there is one prompt.
    """
    slices = score_log_probs.unflatten(0, (-1, group_size)).transpose(0, 1)  # (G · K, L) -> (K, G, L)
    above = order_probability(slices.unsqueeze(2), slices.unsqueeze(1), values)  # (K, G, G): g above h
    target = targets.view(-1, group_size)[:, 0]  # (G,)
    higher = (target.unsqueeze(1) > target).to(above.dtype)  # (G, G)
    right = higher * above + higher.T * (1 - above)
    return (right.sum(2) / max(len(target) - 1, 1)).T.flatten()  # (K, G) -> (G, K) -> (N,)
