# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from real_trl.score_space import ScoreSpace
from real_trl.trainers.rollout import collate_rollouts, make_rollout
from tests.tiny import TOKENIZER, encode

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
EOS, PAD = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
MARKER = "So the overall score is"
RATIONALE = "7+4 is 12, right."
OK = f"{RATIONALE} {MARKER} 4"
MALFORMED = [(RATIONALE, "missing"), (f"{RATIONALE} {MARKER}", "truncated"), (f"{RATIONALE} {MARKER} 7", "outside")]
POSITION = len(encode(f"{RATIONALE} {MARKER}", eos=False))


def rollout(ids, *, prompt_ids=(7, 8), score_in_policy=False, force=False, target=3.0):
    return make_rollout(
        SPACE,
        "prompt",
        "completion",
        list(prompt_ids),
        ids,
        target,
        score_in_policy=score_in_policy,
        force=force,
        stop_ids=[EOS, PAD],
    )


@pytest.mark.parametrize(
    "tail", [[], [EOS], encode("7+4 is 12, right.")], ids=["cut after score", "eos", "rambles on"]
)
def test_the_policy_runs_over_the_tokens_before_the_score(tail):
    ids = encode(OK, eos=False) + tail
    result = rollout(ids)
    assert (result.status, result.has_score, result.sampled_score, result.target) == ("ok", True, 4.0, 3.0)
    assert result.score_position == POSITION
    assert result.completion_ids == ids
    assert result.policy_mask == [1] * POSITION + [0] * (1 + len(tail))


def test_standard_rl_adds_the_score_to_the_policy():
    result = rollout(encode(OK), score_in_policy=True)
    assert result.policy_mask == [1] * (POSITION + 1) + [0]


@pytest.mark.parametrize("score_in_policy", [False, True])
@pytest.mark.parametrize(("text", "status"), MALFORMED)
def test_all_of_a_malformed_completion_is_policy(text, status, score_in_policy):
    result = rollout(encode(text), score_in_policy=score_in_policy)
    assert (result.status, result.has_score) == (status, False)
    assert math.isnan(result.sampled_score)
    assert result.policy_mask == [1] * len(encode(text))


@pytest.mark.parametrize("tail", [[], [EOS], [EOS, PAD, PAD]])
@pytest.mark.parametrize(("text", "status"), MALFORMED)
def test_force_puts_the_marker_in_place_of_the_end(text, status, tail):
    sampled = encode(text, eos=False)
    result = rollout(sampled + tail, force=True)
    assert result.status == status  # still counted as malformed
    assert result.has_score and math.isnan(result.sampled_score)
    assert result.completion_ids == sampled + encode(MARKER, eos=False)
    assert result.policy_mask == [1] * len(sampled) + [0] * len(SPACE.marker_ids)
    assert result.score_position == len(result.completion_ids)


def test_force_leaves_a_good_completion_alone():
    assert rollout(encode(OK), force=True) == rollout(encode(OK))


def test_collate_pads_prompts_left_and_completions_right():
    rows = [rollout(encode(OK), prompt_ids=[7, 8, 9]), rollout(encode("right"), prompt_ids=[7], target=4.5)]
    batch = collate_rollouts(rows, PAD, torch.device("cpu"))
    length = len(encode(OK))
    assert batch["prompt_ids"].tolist() == [[7, 8, 9], [PAD, PAD, 7]]
    assert batch["prompt_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch["completion_ids"].tolist() == [encode(OK), encode("right") + [PAD] * (length - 2)]
    assert batch["completion_mask"].tolist() == [[1] * length, [1, 1] + [0] * (length - 2)]
    assert batch["policy_mask"].tolist() == [[1] * POSITION + [0, 0], [1, 1] + [0] * (length - 2)]
    assert batch["score_positions"].tolist() == [POSITION, 0]
    assert batch["has_score"].tolist() == [True, False]
    assert batch["sampled_scores"][0] == 4.0 and batch["sampled_scores"][1].isnan()
    assert batch["targets"].tolist() == [3.0, 4.5]
    assert batch["targets"].dtype == torch.float32
