# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The mathematics of REAL (arXiv 2603.17145), on tensors alone.

Notation, as in the paper: a prompt *x* with target score *y\\**, a chain of thought *c* (everything the judge writes
before its score, the marker included), and the judge's distribution *π(k | x, c)* over the labels *k* of the score
space. Shapes: `N` completions, or `G` groups of `K` completions of one prompt; `L` labels. Log-probabilities are
natural logarithms over the *whole* vocabulary, so that the labels' probabilities sum to at most 1.

Every RL method is a choice of reward on that distribution and of `prediction_weight` β on its gradient: see [`real_trl.methods.METHODS`].

Arguments that mean the same in every function:

- `score_log_probs` `(..., L)`: `log π(k | x, c)` of every label; `values` `(L,)`: the number that each label stands for.
- `targets` `(...)`: target scores y*; where several raters scored a response their mean, and `label_weights` `(..., L)` their
  histogram. Without it a target between two labels has the weights of [`target_weights`].
- `normalize` (`bool`): whether ŷ is divided by the probability mass on the labels.
- `mask` `(G, K)`: `True` for completions that take part, by default all; masked-out completions are excluded from all means and get 0.
- `rounding` (the shape of the rewards): bound on the rounding error of each logit (functions `…_rounding`) or of each reward.

Rewards have the shape of `targets`.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor


def expected_score(score_log_probs: Tensor, values: Tensor, normalize: bool = False) -> Tensor:
    """
    RAIL predictor (Alg. 1): `ŷ = Σ_k k · π(k | x, c)`.

    As in the paper, the probabilities are not renormalised over the labels: mass that the judge puts on other tokens
    pulls `ŷ` towards 0, unless `normalize` is set.
    """
    if normalize:
        return (score_log_probs.softmax(-1) * values).sum(-1)
    return (score_log_probs.exp() * values).sum(-1)


def target_weights(targets: Tensor, values: Tensor) -> Tensor:
    """
    Weights `(..., L)` of the labels that stand for each target: one-hot where the target is a label's value, and linear
    interpolation between the two neighbouring labels where it lies between them (the mean of several raters, say). `values` are
    distinct, in any order. `ValueError` if a target lies outside the scale.
    """
    order = values.argsort()
    ordered = values[order].contiguous()
    if targets.numel() and (targets.min() < ordered[0] or targets.max() > ordered[-1]):
        raise ValueError(
            f"targets: a target lies outside the scale [{ordered[0].item():g}, {ordered[-1].item():g}] (targets range from "
            f"{targets.min().item():g} to {targets.max().item():g}). Correct the score, or widen `score_labels`."
        )
    upper = torch.searchsorted(ordered, targets.contiguous()).clamp(1, len(ordered) - 1)  # (...)
    lower = upper - 1
    fraction = (targets - ordered[lower]) / (ordered[upper] - ordered[lower])
    weights = targets.new_zeros(*targets.shape, len(ordered))
    weights.scatter_(-1, order[lower].unsqueeze(-1), (1 - fraction).unsqueeze(-1))
    weights.scatter_(-1, order[upper].unsqueeze(-1), fraction.unsqueeze(-1))
    return weights


def label_weights(targets: Tensor, values: Tensor, histograms: Sequence[Sequence[float] | None]) -> Tensor:
    """[`target_weights`] `(N, L)`, but the raters' histogram in rows that have one. `histograms` holds `N` of them."""
    weights = target_weights(targets, values)
    for row, histogram in enumerate(histograms):
        if histogram is not None:
            weights[row] = weights.new_tensor(histogram)
    return weights


def log_likelihood_reward(
    score_log_probs: Tensor, values: Tensor, targets: Tensor, label_weights: Tensor | None = None
) -> Tensor:
    """
    `log π(y* | x, c)`: JEPO's single-sample reward (Table 1), and the second part of REAL's (Eq. 5).

    With `label_weights`, and for a target between two labels, it is the cross-entropy `Σ_k w_k log π(k | x, c)`.
    """
    weights = target_weights(targets, values) if label_weights is None else label_weights
    # A label of weight 0 must not contribute even when its log-probability is -inf
    return torch.where(weights > 0, weights * score_log_probs, 0.0).sum(-1)


def likelihood_reward(
    score_log_probs: Tensor, values: Tensor, targets: Tensor, label_weights: Tensor | None = None
) -> Tensor:
    """`π(y* | x, c)`, as the authors' released code has it in place of its logarithm."""
    weights = target_weights(targets, values) if label_weights is None else label_weights
    return (weights * score_log_probs.exp()).sum(-1)


def squared_error(score_log_probs: Tensor, values: Tensor, targets: Tensor, normalize: bool = False) -> Tensor:
    """`(ŷ − y*)²`, the regression loss of Eq. 3 and Eq. 4."""
    return (expected_score(score_log_probs, values, normalize) - targets).square()


def log_likelihood_rounding(score_log_probs: Tensor, label_weights: Tensor, rounding: Tensor) -> Tensor:
    """
    Upper bound on the error of [`log_likelihood_reward`] if each logit has an error of at most `rounding` `(...)`: as
    `d log π(k) = dz_k − Σ_j π(j) dz_j`, by `2 (1 − π(k))` times that.
    """
    return (label_weights * 2 * (1 - score_log_probs.exp()).clamp(min=0)).sum(-1) * rounding


def squared_error_rounding(
    score_log_probs: Tensor, values: Tensor, targets: Tensor, rounding: Tensor, normalize: bool = False
) -> Tensor:
    """
    Upper bound on the error of [`squared_error`] if each logit has an error of at most `rounding` `(...)`: `2 |ŷ − y*| ε + ε²`, where `dŷ = Σ_k π(k) (k − ŷ) dz_k`
    over all tokens, those that are no label counting as 0, gives `ε = (Σ_k π(k) |k − ŷ| + (1 − Σ_k π(k)) |ŷ|) · rounding`.
    """
    probabilities = score_log_probs.softmax(-1) if normalize else score_log_probs.exp()
    expected = expected_score(score_log_probs, values, normalize)
    others = (1 - probabilities.sum(-1)).clamp(min=0)
    spread = (probabilities * (values - expected.unsqueeze(-1)).abs()).sum(-1) + others * expected.abs()
    epsilon = spread * rounding
    return 2 * (expected - targets).abs() * epsilon + epsilon.square()


def regression_reward(
    score_log_probs: Tensor,
    values: Tensor,
    targets: Tensor,
    log_likelihood_weight: float = 1.0,
    *,
    label_weights: Tensor | None = None,
    normalize: bool = False,
) -> Tensor:
    """
    REAL's reward (Eq. 5): `r(θ, x, c) = −(ŷ − y*)² + λ log π(y* | x, c)`.

    It depends on the policy: its gradient is Term 2 of Lemma 4.1 (Eq. 7), which autograd computes from this
    expression. λ is `log_likelihood_weight`; with 0 the log-likelihood is left out.
    """
    reward = -squared_error(score_log_probs, values, targets, normalize)
    if log_likelihood_weight:
        likelihood = log_likelihood_reward(score_log_probs, values, targets, label_weights)
        reward = reward + log_likelihood_weight * likelihood
    return reward


def accuracy_reward(sampled_scores: Tensor, targets: Tensor) -> Tensor:
    """
    Standard RL's reward: `1[y = y*]` for the score `y` that was sampled (Section 2.1). `sampled_scores` `(...)` are the values of
    the sampled labels, NaN where there is none (never correct).
    """
    return (sampled_scores == targets).to(targets.dtype)


def worst_squared_error(values: Tensor, targets: Tensor) -> Tensor:
    """`max_k (k − y*)²`: the largest squared error that a score on the scale can have."""
    return (targets.unsqueeze(-1) - values).square().amax(-1)


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


def raft_loss(
    score_log_probs: Tensor,
    values: Tensor,
    targets: Tensor,
    completion_log_probs: Tensor,
    log_likelihood_weight: float = 1.0,
    regression_weight: float = 1.0,
    normalize: bool = False,
) -> Tensor:
    """
    RAFT's loss (Eq. 3), averaged over the batch: `(ŷ(x, c*) − y*)² − λ log π(c*, y* | x)`.

    Args:
        completion_log_probs (`torch.Tensor` of shape `(N,)`):
            `log π(c*, y* | x)`, summed over the tokens of the completion, or averaged over them (the next-token loss
            of TRL and TRACT).
        log_likelihood_weight, regression_weight (`float`, *optional*, defaults to `1.0`):
            λ, and the weight on the squared error; with 0 for the latter it is plain supervised fine-tuning.
    """
    regression = regression_weight * squared_error(score_log_probs, values, targets, normalize)
    return (regression - log_likelihood_weight * completion_log_probs).mean()


_LARGEST_LOG_RATIO = 20.0


def sequence_ratio(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """
    PPO's ratio `π(c_i | x) / π_old(c_i | x)` of whole sequences, given their log-probabilities (summed over tokens): finite, and
    with a finite gradient, wherever these are.

    Above e^20 it goes on as its tangent there. The exponential would overflow from a log-ratio of 89 on (float32), and then even an
    advantage whose clip has no gradient would get NaN, which is 0 · ∞; for a positive advantage such a ratio is clipped anyway, and
    for a negative one a finite gradient still lowers it.
    """
    log_ratio = log_probs - old_log_probs
    beyond = (log_ratio - _LARGEST_LOG_RATIO).clamp(min=0)
    return log_ratio.clamp(max=_LARGEST_LOG_RATIO).exp() + math.exp(_LARGEST_LOG_RATIO) * beyond


class LossTerms(NamedTuple):
    """The loss and its two parts, scalars: `loss = policy + prediction_weight · prediction`."""

    loss: Tensor
    policy: Tensor
    prediction: Tensor


def real_loss(
    log_probs: Tensor,
    advantages: Tensor,
    rewards: Tensor,
    prediction_weight: float = 0.01,
    *,
    lengths: Tensor | None = None,
    old_log_probs: Tensor | None = None,
    clip_range: tuple[float, float] = (0.2, 0.2),
    aggregation: Literal["sequence", "token"] = "sequence",
) -> LossTerms:
    """
    The stabilised two-term estimator (Eq. 8) as a loss to minimise:

    `L = −1/N Σ_i [ Ã⁽ⁱ⁾ log π(c_i | x) + β r(θ, x, c_i) ]`

    whose gradient is minus Eq. 8. With β = 1 and raw rewards in place of `Ã` it is the exact estimator of Lemma 4.1.

    Args:
        log_probs, advantages, rewards (`torch.Tensor` of the same shape, `(N,)` or `(G, K)`):
            `log π(c_i | x)`, summed over the tokens of `c_i` (for Standard RL: of `c_i` and the score); `Ã⁽ⁱ⁾`, into which no gradient
            flows; and `r(θ, x, c_i)` *with* its gradient, Term 2. Constant rewards contribute none.
        prediction_weight (`float`, *optional*, defaults to `0.01`):
            β.
        lengths (`torch.Tensor` of the same shape or scalar, *optional*):
            Number of tokens in each `log_probs`; required by `aggregation="token"`. Or a scalar: the mean
            number of policy tokens of a micro-batch, so that the mean of the micro-batches' losses is that of the whole batch. Only the
            policy term is divided by tokens.
        old_log_probs (`torch.Tensor` of the same shape, *optional*):
            `log π_old(c_i | x)` of the policy that sampled the batch, where it is reused for several optimizer steps:
            the policy term then is PPO's clipped ratio of whole sequences, as in TRL's `RLOOTrainer`. `None`:
            on-policy.
        clip_range (`tuple[float, float]`, *optional*, defaults to `(0.2, 0.2)`):
            PPO's lower and upper ε. Only used with `old_log_probs`.
        aggregation (`str`, *optional*, defaults to `"sequence"`):
            `"sequence"`: mean over sequences of the sum over tokens (Eq. 8). `"token"`: the same sum divided by the
            number of tokens in the batch.

    Raises:
        ValueError: if `aggregation` is unknown, or is `"token"` without `lengths`.
    """
    advantages = advantages.detach()
    if old_log_probs is None:
        surrogate = advantages * log_probs
    else:
        ratio = sequence_ratio(log_probs, old_log_probs)
        clipped = ratio.clamp(1 - clip_range[0], 1 + clip_range[1])
        surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    if aggregation == "sequence":
        policy = -surrogate.mean()
    elif aggregation == "token" and lengths is not None:
        policy = -surrogate.sum() / lengths.sum().clamp(min=1)
    else:
        raise ValueError(
            f"aggregation: got {aggregation!r} with lengths={lengths!r}. Use 'sequence', or 'token' together with `lengths`."
        )
    prediction = -rewards.mean()
    return LossTerms(policy + prediction_weight * prediction, policy, prediction)
