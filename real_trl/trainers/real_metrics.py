# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What [`REALTrainer`] logs of a micro-batch, gathered over all processes."""

from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from real_trl import objectives
from real_trl.forward.dense import PolicyOutput
from real_trl.objectives.importance_sampling import ImportanceWeights, log_prob_differences
from real_trl.score_space import MALFORMED_STATUSES
from real_trl.trainers.mixed_in import OnlineJudgeTrainer
from real_trl.trainers.pair_metrics import log_pair_metrics
from real_trl.trainers.split_groups import silent_groups


@torch.no_grad()
def log_real_metrics(
    trainer: OnlineJudgeTrainer,
    inputs: dict[str, Any],
    output: PolicyOutput,
    rewards: Tensor,
    advantages: Tensor,
    terms: objectives.LossTerms,
    log_probs: Tensor,
) -> None:
    """
    Append to the trainer's metrics: `reward` and its parts `rewards/squared_error` (as −(ŷ−y*)²) and
    `rewards/log_likelihood`; `score/abs_error` (|ŷ−y*|), `score/accuracy` (of the sampled score; for a target between two labels the nearest is right) and `score/mass`
    (probability on the labels), over completions with a score (the accuracy over all); `malformed/rate` and its kinds; `entropy` (nats per
    token of the policy gradient); `frac_reward_zero_std` (groups without a signal); `loss/policy` and
    `loss/prediction` (Eq. 8, before β); on reused batches TRL's `clip_ratio/…`.

    Of pairs there are `preference/probability` and `preference/accuracy` in the place of what compares scores with targets.

    `score/pearson` is computed over the whole logging window, see [`pop_score_correlation`].
    """
    metrics, gather = trainer._metrics[trainer._mode], trainer.accelerator.gather
    values = trainer._label_values
    score_log_probs, targets = output.score_log_probs.detach(), inputs["targets"]
    expected = objectives.expected_score(score_log_probs, values, trainer.args.normalize_expectation)

    is_silent = inputs.get("is_silent")
    if is_silent is None:
        is_silent = silent_groups(advantages, trainer._group_size)
    per_row = gather(
        torch.stack(
            [
                inputs["has_score"].float(),
                targets,
                expected,
                score_log_probs.exp().sum(1),
                objectives.log_likelihood_reward(score_log_probs, values, targets, inputs["label_weights"]),
                inputs["is_right"].float(),
                rewards,
                is_silent.float(),
                (output.entropy * inputs["policy_mask"]).sum(1),
                inputs["policy_mask"].sum(1).float(),
                *(
                    torch.tensor([float(r.status == status) for r in inputs["rollouts"]], device=targets.device)
                    for status in MALFORMED_STATUSES
                ),
            ],
            dim=1,
        )
    )  # (N over all processes, columns)
    has_score, targets, expected, mass, log_likelihood, is_right, rewards, silent, entropy, length, *statuses = (
        per_row.unbind(1)
    )

    scored = has_score.bool()
    if scored.any():
        metrics["score/mass"].append(mass[scored].mean().item())
    if trainer._has_pairs:
        if len(inputs["targets"]) % trainer._group_size == 0:  # or a part of a group, whose other side is elsewhere
            columns = (
                score_log_probs,
                trainer._label_merits,
                inputs["targets"],
                inputs["has_score"],
                trainer._group_size,
            )
            log_pair_metrics(metrics, trainer.accelerator, *columns)
    elif scored.any():
        metrics["rewards/squared_error"].append(-(expected - targets)[scored].square().mean().item())
        metrics["rewards/log_likelihood"].append(log_likelihood[scored].mean().item())
        metrics["score/abs_error"].append((expected - targets)[scored].abs().mean().item())
        trainer._score_pairs[trainer._mode].append(torch.stack([expected, targets], 1)[scored].cpu())
    if not trainer._has_pairs:
        metrics["score/accuracy"].append(is_right.mean().item())
    metrics["reward"].append(rewards.mean().item())
    metrics["reward_std"].append(rewards.std().item() if len(rewards) > 1 else 0.0)
    metrics["frac_reward_zero_std"].append(silent.mean().item())
    metrics["entropy"].append((entropy.sum() / length.sum().clamp(min=1)).item())
    metrics["malformed/rate"].append(sum(status.mean().item() for status in statuses))
    for name, status in zip(MALFORMED_STATUSES, statuses, strict=True):
        metrics[f"malformed/{name}"].append(status.mean().item())
    metrics["loss/policy"].append(gather(terms.policy.detach()).mean().item())
    metrics["loss/prediction"].append(gather(terms.prediction.detach()).mean().item())

    if "old_log_probs" in inputs:
        ratio = objectives.sequence_ratio(log_probs, inputs["old_log_probs"])
        is_low = (ratio < 1 - trainer.epsilon_low) & (inputs["advantages"] < 0)
        is_high = (ratio > 1 + trainer.epsilon_high) & (inputs["advantages"] > 0)
        low, high = gather(torch.stack([is_low, is_high], dim=1).float()).unbind(1)
        clipped = {"low_mean": low.mean(), "low_min": low.min(), "high_mean": high.mean(), "high_max": high.max()}
        for name, value in {**clipped, "region_mean": (low + high).mean()}.items():
            metrics[f"clip_ratio/{name}"].append(value.item())

    if trainer.log_completions:
        logs = trainer._logs
        logs["prompt"].extend(gather_object([r.prompt for r in inputs["rollouts"]]))
        logs["completion"].extend(gather_object([r.completion for r in inputs["rollouts"]]))
        logs["rewards"][trainer.args.reward].extend(rewards.tolist())
        logs["advantages"].extend(gather(advantages).tolist())
        logs["extra"]["expected_score"].extend(expected.masked_fill(~scored, torch.nan).tolist())
        logs["extra"]["target"].extend(targets.tolist())


@torch.no_grad()
def log_sampling_metrics(
    trainer: OnlineJudgeTrainer, inputs: dict[str, Any], log_probs: Tensor, weights: ImportanceWeights | None
) -> None:
    """
    Append to the trainer's metrics, under TRL's names, `sampling/sampling_logp_difference/mean` and `/max`: |log π − log μ| of the tokens that the
    policy gradient runs over, in the trainer's forward and in vLLM, where that tells it; and, where they are used,
    `sampling/importance_sampling_ratio/min`, `/mean` and `/max`: the weights of completions (Term 2), after their bound.
    """
    metrics, gather, mask = trainer._metrics[trainer._mode], trainer.accelerator.gather, inputs["policy_mask"].bool()
    known = mask & ~inputs["sampling_log_probs"].isnan()
    log_probs = inputs.get("first_log_probs", log_probs)
    differences = log_prob_differences(log_probs, inputs["sampling_log_probs"], mask).abs()
    count, total, largest = gather(
        torch.stack([known.sum().float(), differences.sum(), differences.max()]).unsqueeze(0)
    ).unbind(1)
    if count.sum():
        metrics["sampling/sampling_logp_difference/mean"].append((total.sum() / count.sum()).item())
        metrics["sampling/sampling_logp_difference/max"].append(largest.max().item())
    if weights is not None:
        ratio = gather(weights.sequence)
        for name, value in {"min": ratio.min(), "mean": ratio.mean(), "max": ratio.max()}.items():
            metrics[f"sampling/importance_sampling_ratio/{name}"].append(value.item())


def pop_score_correlation(pairs: list[Tensor]) -> float | None:
    """
    Pearson correlation of ŷ and y* over the collected `(n, 2)` tensors, which are then forgotten; `None` where it is
    undefined (fewer than two completions, or a constant).
    """
    if not pairs:
        return None
    expected, targets = torch.cat(pairs).double().unbind(1)
    pairs.clear()
    if len(expected) < 2 or expected.std() == 0 or targets.std() == 0:
        return None
    return torch.corrcoef(torch.stack([expected, targets]))[0, 1].item()
