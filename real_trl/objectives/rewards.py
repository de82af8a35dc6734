# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rewards and losses of one response's score distribution. Notation and shapes: [`real_trl.objectives`]."""

from collections.abc import Sequence

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


def absolute_error(score_log_probs: Tensor, values: Tensor, targets: Tensor) -> Tensor:
    """
    `Σ_k p(k) |k − y*|`, the Wasserstein-1 distance of the distribution, divided by its mass on the labels, from all mass on the target: the
    number token loss (NTL-WAS; Zausinger et al., 2025, arXiv 2411.02083).
    """
    return (score_log_probs.softmax(-1) * (values - targets.unsqueeze(-1)).abs()).sum(-1)


def gaussian_weights(targets: Tensor, values: Tensor, sigma: float | None = None) -> Tensor:
    """
    Soft labels: weights `(..., L)` of the labels that are proportional to `exp(−(k − y*)² / 2σ²)`, and sum to 1. σ is `sigma`, in points of
    the scale; by default half the smallest distance between two labels.
    """
    width = (
        values.sort().values.diff().min() / 2 if sigma is None else sigma
    )  # not read from the device, which would wait
    return (-((values - targets.unsqueeze(-1)) / width).square() / 2).softmax(-1)
