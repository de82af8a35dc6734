# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From the rewards of whole groups to advantages. Notation and shapes: [`real_trl.objectives`]."""

import torch
from torch import Tensor


def leave_one_out_advantages(rewards: Tensor, mask: Tensor | None = None, rounding: Tensor | None = None) -> Tensor:
    """
    Leave-one-out advantages (Section 4.3): `A⁽ⁱ⁾ = r⁽ⁱ⁾ − 1/(K−1) Σ_{j≠i} r⁽ʲ⁾`.

    A group whose rewards agree to the precision that they are known with carries no signal and gets exactly 0: otherwise the
    division by its σ would blow rounding errors up to ±1.

    From rewards `(G, K)` with `K >= 2` (else `ValueError`) to `(G, K)`, detached. `rounding` says how far each reward may be off by the
    rounding of what it was computed from, such as the logits ([`squared_error_rounding`]); the resolution of the rewards' own
    floating-point type counts in any case.
    """
    if rewards.dim() != 2 or rewards.size(1) < 2:
        raise ValueError(
            f"rewards: expected shape (groups, K) with K >= 2, got {tuple(rewards.shape)}. A leave-one-out baseline needs at "
            "least 2 completions per prompt (`num_generations`)."
        )
    rewards = rewards.detach()
    mask = torch.ones_like(rewards, dtype=torch.bool) if mask is None else mask.bool()
    kept = rewards.masked_fill(~mask, 0.0)
    others = mask.sum(1, keepdim=True) - 1  # (G, 1)
    baseline = (kept.sum(1, keepdim=True) - kept) / others.clamp(min=1)
    return torch.where(_has_signal(rewards, mask, rounding), rewards - baseline, 0.0)


def side_advantages(rewards: Tensor, mask: Tensor | None = None, rounding: Tensor | None = None) -> Tensor:
    """
    [`leave_one_out_advantages`] of groups that hold two sides, one half each: a completion's baseline is that of the others of its own
    side, so that it does not depend on it. Shapes `(G, K)`, with `K` even and at least 4.
    """

    def sides(each: Tensor) -> Tensor:
        return each.reshape(-1, rewards.size(1) // 2)

    of_mask, of_rounding = (None if each is None else sides(each) for each in (mask, rounding))
    return leave_one_out_advantages(sides(rewards), of_mask, of_rounding).view_as(rewards)  # (2 G, K / 2) -> (G, K)


def _has_signal(rewards: Tensor, mask: Tensor, rounding: Tensor | None) -> Tensor:
    """`(G, K)`: whether a completion takes part, and its group's rewards differ by more than rounding errors."""
    highest = rewards.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    lowest = rewards.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    resolution = 16 * torch.finfo(rewards.dtype).eps * rewards.masked_fill(~mask, 0.0).abs().amax(1, keepdim=True)
    if rounding is not None:  # one reward may be too high, another one too low
        resolution = torch.maximum(resolution, 2 * rounding.masked_fill(~mask, 0.0).amax(1, keepdim=True))
    return mask & (mask.sum(1, keepdim=True) > 1) & (highest - lowest > resolution)


def log_marginal(log_likelihoods: Tensor, mask: Tensor | None = None) -> Tensor:
    """
    Multi-sample Jensen bound of JEPO (Tang et al., 2025): `log 1/K Σ_i π(y* | x, c_i)`, an estimate of
    `log π(y* | x)` that grows tighter with `K`. From `ℓ_i = log π(y* | x, c_i)` `(G, K)` to `(G,)`; 0 for a group in which none
    takes part.
    """
    mask = torch.ones_like(log_likelihoods, dtype=torch.bool) if mask is None else mask.bool()
    count = mask.sum(-1)
    # The floor keeps the gradient of an empty group at 0 instead of NaN
    kept = log_likelihoods.masked_fill(~mask, torch.finfo(log_likelihoods.dtype).min)
    return torch.where(count > 0, kept.logsumexp(-1) - count.clamp(min=1).log(), 0.0)


def log_marginal_advantages(
    log_likelihoods: Tensor, mask: Tensor | None = None, rounding: Tensor | None = None
) -> Tensor:
    """
    Leave-one-out advantages of JEPO's multi-sample bound:
    `A⁽ⁱ⁾ = [LSE_j ℓ_j − log K] − [LSE_{j≠i} ℓ_j − log(K−1)]`. Shapes and the rule for groups without a signal are those of
    [`leave_one_out_advantages`].
    """
    log_likelihoods = log_likelihoods.detach()
    mask = torch.ones_like(log_likelihoods, dtype=torch.bool) if mask is None else mask.bool()
    others = mask.unsqueeze(1) & ~torch.eye(mask.size(1), dtype=torch.bool, device=mask.device)  # (G, K, K)
    without = log_marginal(log_likelihoods.unsqueeze(1).expand_as(others), others)  # (G, K)
    advantages = log_marginal(log_likelihoods, mask).unsqueeze(1) - without
    return torch.where(_has_signal(log_likelihoods, mask, rounding), advantages, 0.0)


def standardize_advantages(
    advantages: Tensor, clip: float | None = 1.0, eps: float = 1e-8, mask: Tensor | None = None
) -> Tensor:
    """
    Standardised and clipped advantages (Section 4.3): `Ã⁽ⁱ⁾ = clip(A⁽ⁱ⁾ / (σ(A) + ε), −1, 1)`, with σ the population
    standard deviation of the group's advantages `(G, K)`, as in the authors' code. ε is `eps`; `clip=None` is for no clipping.
    """
    mask = torch.ones_like(advantages, dtype=torch.bool) if mask is None else mask.bool()
    count = mask.sum(1, keepdim=True).clamp(min=1)
    mean = advantages.masked_fill(~mask, 0.0).sum(1, keepdim=True) / count
    variance = (advantages - mean).masked_fill(~mask, 0.0).square().sum(1, keepdim=True) / count
    standardized = (advantages / (variance.sqrt() + eps)).masked_fill(~mask, 0.0)
    return standardized if clip is None else standardized.clamp(-clip, clip)
