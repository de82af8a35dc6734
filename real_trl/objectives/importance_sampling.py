# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Completions that another policy μ sampled than the one π that is trained: vLLM, whose kernels round otherwise, or an earlier step.

Lemma 4.1 (Eq. 6) is an expectation over c ~ π of *both* terms, `r ∇ log π(c | x)` and `∇ r`, with r = r(θ, x, c): in its proof (Appendix B.5)
both have the factor π(c | x). With c ~ μ and w(c) = π(c | x) / μ(c | x) it is therefore

    ∇L = E_{c ~ μ} [ w(c) ( r ∇ log π(c | x) + ∇ r ) ],

and Term 2, the backpropagation through the score (Eq. 7), takes the weight of the whole sequence c as Term 1 does. What follows c does not
count: r is a function of π(k | x, c), which the trainer computes itself, whatever score μ drew and whatever it wrote then. Standard RL's reward is
of the drawn score y; there c stands for (c, y), and Term 2 is 0.

Eq. 8 has leave-one-out advantages in Term 1. Their baseline b⁽ⁱ⁾ is made of the other completions, which are independent of c_i, and
`E_{c ~ μ} [ w(c) ∇ log π(c | x) ] = Σ_c ∇ π(c | x) = 0`: without weights of its own it leaves the expectation as it is. Division by σ and
clip bias Eq. 8 as they do where μ = π. A reward of several completions together (multi-sample JEPO, listwise) would take the product of their weights;
it is not corrected.

A bound C on weights gives up some expectation, that of completions with w > C, for less variance. Weights of single tokens,
`π(c_t | x, c_<t) / μ(c_t | x, c_<t)` on `∇ log π(c_t | x, c_<t)`, vary least and are biased also without a bound, since r depends on the other
tokens, which came from μ as well. Term 2 has no tokens to weigh, and then still takes w(c).
"""

from typing import NamedTuple

import torch
from torch import Tensor

MODES = ("sequence_truncate", "sequence_mask", "token_truncate", "token_mask")


class ImportanceWeights(NamedTuple):
    """
    Constants, without a gradient.

    Attributes:
        policy (`torch.Tensor` of shape `(N, C)`, or `(N, 1)` of whole sequences):
            Of each token's `∇ log π` in Term 1.
        sequence (`torch.Tensor` of shape `(N,)`):
            Of each completion's `∇ r`, Term 2.
    """

    policy: Tensor
    sequence: Tensor


def log_prob_differences(log_probs: Tensor, sampling_log_probs: Tensor, mask: Tensor) -> Tensor:
    """`log π − log μ` `(N, C)` of each token, detached: 0 outside of `mask`, and where vLLM could not tell `log μ` (NaN)."""
    difference = log_probs.detach() - sampling_log_probs
    return torch.where(mask.bool() & ~difference.isnan(), difference, 0.0)


def importance_weights(
    log_probs: Tensor,
    sampling_log_probs: Tensor,
    mask: Tensor,
    mode: str = "sequence_truncate",
    clip_max: float | None = 3.0,
) -> ImportanceWeights:
    """
    Weights π/μ, bounded, as TRL's `GRPOTrainer` has them (`vllm_importance_sampling_mode`).

    Args:
        log_probs, sampling_log_probs, mask (`torch.Tensor` of shape `(N, C)`):
            `log π` and `log μ` of each token, and the tokens that the policy gradient runs over.
        mode (`str`, *optional*, defaults to `"sequence_truncate"`):
            `"sequence_…"`: one weight for a completion, w(c). `"token_…"`: one for each token in Term 1. `"…_truncate"`: min(w, C). `"…_mask"`: 0
            where w > C.
        clip_max (`float`, *optional*, defaults to `3.0`):
            C; `None` for no bound, which makes the expectation of `"sequence_…"` that of π.
    """
    bound = torch.inf if clip_max is None else clip_max
    difference = log_prob_differences(log_probs, sampling_log_probs, mask)
    tokens, sequence = (
        w.clamp(max=bound) if mode.endswith("_truncate") else w.masked_fill(w > bound, 0.0)
        for w in (difference.exp(), difference.sum(1).exp())
    )
    return ImportanceWeights(tokens if mode.startswith("token_") else sequence.unsqueeze(1), sequence)


def weighted_gradient(log_probs: Tensor, weights: Tensor) -> Tensor:
    """`log_probs` with their values, and with `weights` times their gradient."""
    constant = log_probs.detach()
    return constant + weights * (log_probs - constant)
