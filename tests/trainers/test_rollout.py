# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch

from real_trl.score_space import ScoreSpace
from real_trl.trainers.rollout import collate_rollouts, make_rollout
from tests.tiny import DIGITS, TOKENIZER, encode

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
EOS, PAD = TOKENIZER.eos_token_id, TOKENIZER.pad_token_id
MARKER = "So the overall score is"
RATIONALE = "7+4 is 12, right."
OK = f"{RATIONALE} {MARKER} 4"
MALFORMED = [(RATIONALE, "missing"), (f"{RATIONALE} {MARKER}", "truncated"), (f"{RATIONALE} {MARKER} 7", "outside")]
POSITION = len(encode(f"{RATIONALE} {MARKER}", eos=False))


def rollout(ids, *, prompt_ids=(7, 8), score_in_policy=False, force=False, target=3.0, **kwargs):
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
        **kwargs,
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
    length = POSITION  # the score and what follows it are not read
    assert batch["prompt_ids"].tolist() == [[7, 8, 9], [PAD, PAD, 7]]
    assert batch["prompt_mask"].tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch["completion_ids"].tolist() == [encode(OK)[:POSITION], encode("right") + [PAD] * (length - 2)]
    assert batch["completion_mask"].tolist() == [[1] * length, [1, 1] + [0] * (length - 2)]
    assert batch["policy_mask"].tolist() == [[1] * POSITION, [1, 1] + [0] * (length - 2)]
    assert batch["score_positions"].tolist() == [POSITION, 0]
    assert batch["has_score"].tolist() == [True, False]
    assert batch["sampled_scores"][0] == 4.0 and batch["sampled_scores"][1].isnan()
    assert batch["targets"].tolist() == [3.0, 4.5]
    assert batch["targets"].dtype == torch.float32
    assert batch["is_right"].tolist() == [False, False]


@pytest.mark.parametrize(
    ("answer", "target", "right"),
    [
        ("4", 4.0, True),
        ("4", 3.0, False),
        ("4", 4.25, True),  # the nearest label to what several raters gave on average
        ("4", 4.75, False),
        ("4", 4.5, True),  # of two that are equally near, either
        ("5", 4.5, True),
        ("3", 4.5, False),
        ("", 4.0, False),
        ("7", 4.0, False),
    ],
)
def test_right_is_the_label_nearest_to_the_target(answer, target, right):
    assert rollout(encode(f"{MARKER} {answer}".strip()), target=target).is_right is right


def test_the_raters_histogram_is_kept():
    assert rollout(encode(OK)).histogram is None
    shares = [0.0, 0.0, 0.5, 0.5, 0.0]
    arguments = (SPACE, "prompt", "completion", [7], encode(OK), 3.5, shares)
    assert make_rollout(*arguments, score_in_policy=False, force=False, stop_ids=[]).histogram == shares


def test_log_probabilities_of_the_sampling_stay_with_their_tokens():
    assert rollout(encode(OK)).sampling_log_probs is None
    sampled = encode("right", eos=False)
    told = [-0.5, -1.5]
    forced = rollout([*sampled, EOS], force=True, sampling_log_probs=told)
    assert forced.sampling_log_probs[:1] == told[:1]  # the end that was sampled is gone
    assert len(forced.sampling_log_probs) == len(forced.completion_ids)
    assert all(map(math.isnan, forced.sampling_log_probs[1:]))
    scored = rollout(encode(OK), sampling_log_probs=[-float(i) for i in range(len(encode(OK)))])
    batch = collate_rollouts([scored, forced, rollout(sampled)], PAD, torch.device("cpu"))["sampling_log_probs"]
    assert batch.shape == (3, max(POSITION, len(forced.completion_ids)))
    assert batch[0, :POSITION].tolist() == [-float(i) for i in range(POSITION)] and batch[0, POSITION:].isnan().all()
    assert batch[1, 0] == -0.5 and batch[1, 1:].isnan().all() and batch[2].isnan().all()


# --- labels of several tokens ------------------------------------------------------------------------------------------

HALVES = ScoreSpace.from_labels("1-10:0.5", DIGITS)
WORDS = ScoreSpace.from_labels(["poor", "good", "good enough", "very good"], DIGITS, values=[1, 2, 3, 4])


def long_rollout(space, text, eos=True, **kwargs):
    start = encode(f"7+4 is 12. {MARKER} ", eos=False, tokenizer=DIGITS)
    ids = [*start, *encode(text, eos=eos, tokenizer=DIGITS)]
    options = {"score_in_policy": False, "force": False, "stop_ids": [DIGITS.eos_token_id], **kwargs}
    return make_rollout(space, "prompt", "completion", [7], ids, space.values[1], **options), len(start)


@pytest.mark.parametrize(
    ("space", "text", "value", "decides"),
    [
        (HALVES, "2", 2.0, "2<eos>"),  # what follows rules out 2.5
        (HALVES, "2 is right", 2.0, "2 "),
        (HALVES, "2.", 2.0, "2.<eos>"),  # after the full stop it may still become 2.5
        (HALVES, "2.5.", 2.5, "2.5"),
        (HALVES, "1", 1.0, "1<eos>"),
        (HALVES, "10", 10.0, "10"),  # nothing goes on from there: the scale ends at 10
        (WORDS, "poor", 1.0, "poor"),
        (WORDS, "good", 2.0, "good<eos>"),
        (WORDS, "good score", 2.0, "good score"),
        (WORDS, "good enough", 3.0, "good enough"),
        (WORDS, "very good enough", 4.0, "very good"),
    ],
)
def test_standard_rl_adds_all_tokens_that_decide_the_score(space, text, value, decides):
    row, position = long_rollout(space, text, score_in_policy=True)
    assert (row.status, row.sampled_score, row.score_position) == ("ok", value, position)
    assert DIGITS.decode(row.completion_ids[position : sum(row.policy_mask)]) == decides
    assert row.policy_mask == sorted(row.policy_mask, reverse=True)
    row, position = long_rollout(space, text)  # the other methods stop before the score
    assert row.policy_mask == [1] * position + [0] * (len(row.completion_ids) - position)


@pytest.mark.parametrize(("space", "text"), [(HALVES, "2.25"), (HALVES, "105"), (HALVES, "0.5"), (WORDS, "very")])
def test_what_is_no_label_of_several_tokens(space, text):
    row, _ = long_rollout(space, text, score_in_policy=True)
    assert row.status == "outside" and math.isnan(row.sampled_score) and not row.has_score
    assert all(row.policy_mask)
    row, position = long_rollout(space, text, force=True)
    length = position + len(encode(text, eos=False, tokenizer=DIGITS))
    assert row.has_score and row.score_position == length + len(space.marker_ids) == len(row.completion_ids)
    assert sum(row.policy_mask) == length


@pytest.mark.parametrize(
    ("space", "text"), [(HALVES, "2"), (HALVES, "2."), (HALVES, "1"), (WORDS, "good"), (WORDS, "very")]
)
@pytest.mark.parametrize("score_in_policy", [False, True])
def test_a_label_that_the_length_limit_may_have_cut(space, text, score_in_policy):
    """Without EOS "1" may be the beginning of "10": there is no score, but the place to read one is known."""
    row, position = long_rollout(space, text, score_in_policy=score_in_policy, eos=False)
    assert (row.status, row.has_score, row.is_right) == ("truncated", False, False) and math.isnan(row.sampled_score)
    assert all(row.policy_mask) and len(row.policy_mask) == len(row.completion_ids) > position
    row, position = long_rollout(space, text, force=True, eos=False)
    assert (row.status, row.has_score, row.score_position) == ("truncated", True, position)
    assert row.policy_mask == [1] * position + [0] * (len(row.completion_ids) - position)
    assert math.isnan(row.sampled_score)


@pytest.mark.parametrize(("space", "text"), [(HALVES, "10"), (HALVES, "2.5"), (WORDS, "poor"), (WORDS, "good enough")])
def test_a_label_that_is_complete_needs_no_end(space, text):
    row, _ = long_rollout(space, text, score_in_policy=True, eos=False)
    assert (row.status, row.has_score) == ("ok", True) and all(row.policy_mask)
