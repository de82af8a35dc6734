# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What trainers log of preferences between two responses."""

from collections.abc import MutableMapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from real_trl import objectives


@torch.no_grad()
def log_pair_metrics(
    metrics: MutableMapping[str, Any],
    accelerator: Accelerator,
    score_log_probs: Tensor,
    values: Tensor,
    preferences: Tensor,
    has_score: Tensor,
    group_size: int = 2,
) -> None:
    """
    Append to `metrics`, over all processes and over pairs of completions about the two responses that both have a score and of which one is
    preferred: `preference/probability` that drawn scores are ordered so, and `preference/accuracy`, the share of pairs whose expected scores are,
    equal ones counting half.

    Args:
        score_log_probs (`torch.Tensor` of shape `(G · group_size, L)`):
            `log π(k | x, c)`; the first half of a group is about the first response.
        values (`torch.Tensor` of shape `(L,)`):
            Of the labels, higher for the better.
        preferences, has_score (`torch.Tensor` of shape `(G · group_size,)`):
            Preference for the first response, and whether there is a score.
    """
    halves = (-1, 2, group_size // 2)
    first, second = score_log_probs.detach().unflatten(0, halves).unbind(1)  # (N, L) -> (G, 2, M, L) -> (G, M, L)
    has_first, has_second = has_score.unflatten(0, halves).unbind(1)
    preference = preferences.view(-1, group_size)[:, 0]  # (G,)
    counted = has_first.unsqueeze(2) & has_second.unsqueeze(1) & (preference != 0.5)[:, None, None]  # (G, M, M)
    sign = (2 * preference - 1).sign()[:, None, None]
    above = objectives.order_probability(first.unsqueeze(2), second.unsqueeze(1), values)
    means = (objectives.expected_score(each, values, normalize=True) for each in (first, second))
    difference = torch.sub(*(mean.unsqueeze(dim) for mean, dim in zip(means, (2, 1), strict=True)))
    right = torch.stack([0.5 + sign * (above - 0.5), (1 + sign * difference.sign()) / 2])
    sums = torch.stack([*(right * counted).sum((1, 2, 3)), counted.sum()])
    probability, accuracy, count = accelerator.reduce(sums, reduction="sum").tolist()
    if count:
        metrics["preference/probability"].append(probability / count)
        metrics["preference/accuracy"].append(accuracy / count)
