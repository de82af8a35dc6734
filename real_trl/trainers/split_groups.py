# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Groups that are larger than a micro-batch: what couples their completions comes from a first pass without gradients.

Advantages need the rewards of the whole group, and so does the objective of multi-sample JEPO. The first pass gives both, and the slope
of the objective in the labels' log-probabilities of every completion. In the pass with gradients, which has the same weights, a
completion's share of the objective's gradient is that slope times its own gradient: the step is that of one forward over whole groups,
for the memory of a part of a group and one more forward.
"""

from typing import Any

import torch
from torch import Tensor

from real_trl.trainers.mixed_in import OnlineJudgeTrainer

_COLUMNS = ("targets", "label_weights", "sampled_scores", "has_score")


@torch.no_grad()
def score_whole_groups(trainer: OnlineJudgeTrainer, micro_batches: list[dict[str, Any]]) -> None:
    """
    Add to each micro-batch of a generation batch `advantages`, `objective` and `is_silent` (whether no advantage of the group differs
    from 0) `(N,)`, and `objective_slope` `(N, L)`. Its groups are whole in the micro-batches together.
    """
    sizes = [len(inputs["targets"]) for inputs in micro_batches]
    outputs = [trainer._forward(trainer.model, inputs) for inputs in micro_batches]
    kl = [trainer._kl(inputs, output.log_probs) for inputs, output in zip(micro_batches, outputs, strict=True)]
    joined = {name: torch.cat([inputs[name] for inputs in micro_batches]) for name in _COLUMNS}
    rounding = torch.cat([output.score_rounding for output in outputs])
    with torch.enable_grad():
        log_probs = torch.cat([output.score_log_probs for output in outputs]).requires_grad_()
        rewards = trainer._rewards(log_probs, joined, rounding)
        slope = torch.zeros_like(log_probs)
        if rewards.objective.requires_grad:
            (slope,) = torch.autograd.grad(rewards.objective.sum(), log_probs)
    advantages = trainer._advantages(rewards, joined, None if kl[0] is None else torch.cat(kl))
    trainer._group_signal.add(trainer.args, rewards, joined["has_score"])
    added = {
        "advantages": advantages,
        "objective": rewards.objective.detach().flatten(),  # (G, K) -> (N,)
        "objective_slope": slope,
        "is_silent": silent_groups(advantages, trainer.num_generations),
    }
    for name, values in added.items():
        for inputs, part in zip(micro_batches, values.split(sizes), strict=True):
            inputs[name] = part


def objective_of_part(inputs: dict[str, Any], score_log_probs: Tensor) -> Tensor:
    """The objective `(N,)` of completions whose groups were scored before, with its gradient."""
    change = score_log_probs - score_log_probs.detach()  # 0, with a gradient
    return inputs["objective"] + (inputs["objective_slope"] * change).sum(1)


def silent_groups(advantages: Tensor, group_size: int) -> Tensor:
    """`(N,)`: of each completion, whether its group has no advantage that differs from 0."""
    return (advantages.view(-1, group_size).abs().amax(1) == 0).repeat_interleave(group_size)
