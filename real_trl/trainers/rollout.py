# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""One sampled completion of a judge, and a batch of them as tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import pad

from real_trl.score_space import ScoreSpace


@dataclass
class Rollout:
    """
    One completion, located against the score space.

    Attributes:
        prompt, completion (`str` or `list[dict]`):
            As sampled, for the completions log.
        prompt_ids, completion_ids (`list[int]`):
            Token ids without padding. What is forced is part of `completion_ids`.
        policy_mask (`list[int]`):
            1 for the tokens of `completion_ids` that the policy gradient runs over.
        status (`str`):
            [`ScoreLocation`]'s status: `"ok"`, or why the completion is malformed.
        score_position (`int`):
            Where the score's first token stands in `completion_ids` (their length where the score is forced); 0 if `has_score`
            is false.
        has_score (`bool`):
            Whether the score distribution can be read.
        sampled_score (`float`):
            Value of the sampled score, NaN if there is none.
        target (`float`):
            y*; of a pair, the preference for the first response.
        is_right (`bool`):
            Whether the sampled score is the target, or no label is nearer to a target between two labels.
        histogram (`list[float]`, *optional*):
            Shares of the raters that gave each label.
        sampling_log_probs (`list[float]`, *optional*):
            `log μ` of each of `completion_ids` under what vLLM sampled them from; NaN where that is not known, and of what is forced.
    """

    prompt: Any
    completion: Any
    prompt_ids: list[int]
    completion_ids: list[int]
    policy_mask: list[int]
    status: str
    score_position: int
    has_score: bool
    sampled_score: float
    target: float
    is_right: bool
    histogram: list[float] | None
    sampling_log_probs: list[float] | None = None


def asked_prompts(rows: Sequence[dict[str, Any]], group_size: int, pairs: bool) -> list[Any]:
    """
    The prompt of each completion. Of rows of `pairs`, each of which is there `group_size` times, the first half is asked about the first
    response (`prompt`), the second about the other one (`other_prompt`).
    """
    if not pairs:
        return [row["prompt"] for row in rows]
    return [
        row["other_prompt" if place % group_size >= group_size // 2 else "prompt"] for place, row in enumerate(rows)
    ]


def make_rollout(
    space: ScoreSpace,
    prompt: Any,
    completion: Any,
    prompt_ids: list[int],
    completion_ids: list[int],
    target: float,
    histogram: list[float] | None = None,
    *,
    score_in_policy: bool,
    force: bool,
    stop_ids: Sequence[int],
    sampling_log_probs: list[float] | None = None,
) -> Rollout:
    """
    Locate the score of a completion and decide which of its tokens the policy gradient runs over.

    That is c, the tokens before the score (and the score itself with `score_in_policy`, for Standard RL; where a longer
    label might have followed, also the tokens that rule it out); or, in a malformed completion, everything that was
    sampled. Where the judge thinks, its thinking is part of c. Text after the score is part of neither c nor the reward. With `force`,
    a malformed completion loses its closing `stop_ids` and gets the marker appended (and before it what closes the thinking, if it
    is not closed), outside the policy gradient: that was not sampled.
    """
    opened = space.opened_by(prompt_ids)
    location = space.locate(completion_ids, stop_ids, opened)
    ids, num_policy_tokens = completion_ids, len(completion_ids)
    position, has_score = 0, location.ok
    if force and location.status == "truncated" and location.position is not None:  # the marker is there already
        position, has_score, num_policy_tokens = location.position, True, location.position
    elif location.ok:
        position = location.position
        num_policy_tokens = position + (space.tree.reading_length(ids[position:]) if score_in_policy else 0)
    elif force:
        num_policy_tokens = next((i for i, token in enumerate(ids) if token in stop_ids), len(ids))
        ids = ids[:num_policy_tokens] + space.forced_ids(ids, location, opened)
        position, has_score = len(ids), True
    sampled = space.values[location.label_index] if location.ok else math.nan
    if sampling_log_probs is not None:
        known = sampling_log_probs[: len(ids) if ids is completion_ids else num_policy_tokens]
        sampling_log_probs = known + [math.nan] * (len(ids) - len(known))
    return Rollout(
        prompt=prompt,
        completion=completion,
        prompt_ids=prompt_ids,
        completion_ids=ids,
        policy_mask=[1] * num_policy_tokens + [0] * (len(ids) - num_policy_tokens),
        status=location.status,
        score_position=position,
        has_score=has_score,
        sampled_score=sampled,
        target=target,
        is_right=abs(sampled - target) <= min(abs(value - target) for value in space.values),
        histogram=histogram,
        sampling_log_probs=sampling_log_probs,
    )


def collate_rollouts(rollouts: Sequence[Rollout], pad_token_id: int, device: torch.device) -> dict[str, Tensor]:
    """
    Pad rollouts to tensors: prompts on the left, completions on the right. Of a completion only what the loss depends on is
    kept: not the score and what follows it, unless the policy gradient runs over the score.

    Returns:
        `dict` with `prompt_ids`, `prompt_mask` `(N, P)`; `completion_ids`, `completion_mask`, `policy_mask`, `sampling_log_probs` `(N, C)`;
        `score_positions`, `has_score`, `sampled_scores`, `is_right`, `targets` `(N,)`.
    """

    def padded(rows: list[list], value: float, side: str, dtype: torch.dtype = torch.long) -> Tensor:
        return pad([torch.tensor(row, dtype=dtype) for row in rows], value, side).to(device)

    prompts = [r.prompt_ids for r in rollouts]
    kept = [max(sum(r.policy_mask), r.score_position) for r in rollouts]
    completions = [r.completion_ids[:length] for r, length in zip(rollouts, kept, strict=True)]
    sampling = [
        (r.sampling_log_probs or [math.nan] * length)[:length] for r, length in zip(rollouts, kept, strict=True)
    ]
    return {
        "prompt_ids": padded(prompts, pad_token_id, "left"),
        "prompt_mask": padded([[1] * len(ids) for ids in prompts], 0, "left"),
        "completion_ids": padded(completions, pad_token_id, "right"),
        "completion_mask": padded([[1] * len(ids) for ids in completions], 0, "right"),
        "policy_mask": padded([r.policy_mask[:length] for r, length in zip(rollouts, kept, strict=True)], 0, "right"),
        "sampling_log_probs": padded(sampling, math.nan, "right", torch.float32),
        "score_positions": torch.tensor([r.score_position for r in rollouts], device=device),
        "has_score": torch.tensor([r.has_score for r in rollouts], device=device),
        "sampled_scores": torch.tensor([r.sampled_score for r in rollouts], device=device),
        "is_right": torch.tensor([r.is_right for r in rollouts], device=device),
        "targets": torch.tensor([r.target for r in rollouts], device=device, dtype=torch.float32),
    }
