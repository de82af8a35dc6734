# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The losses that trainers minimise. Notation and shapes: [`real_trl.objectives`]."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from real_trl.objectives.rewards import squared_error


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
