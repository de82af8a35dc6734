# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Dynamic sampling: the predicate, how a generation batch is filled, and what a training run makes of it."""

import os
import re
import socket
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from real_trl.score_space import ScoreSpace
from real_trl.trainers.group_filter import GroupFilter, GroupFilterError, GroupSampler, group_accuracy
from real_trl.trainers.rollout import make_rollout
from tests.helpers.reference import Group
from tests.tiny import TOKENIZER, encode
from tests.trainers.test_methods_reference import make_trainer, trained_parameters

K = 4
MARKER = "So the overall score is"
SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
PARTIAL = "0 < acc < 1"


# --- the predicate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        # The four settings of Table 6
        ("0 < acc < 1", [0.25, 0.5, 0.75]),
        ("0 < acc <= 1", [0.25, 0.5, 0.75, 1.0]),
        ("0 <= acc < 1", [0.0, 0.25, 0.5, 0.75]),
        ("0 <= acc <= 1", [0.0, 0.25, 0.5, 0.75, 1.0]),
        ("acc < 1", [0.0, 0.25, 0.5, 0.75]),
        ("0 < acc", [0.25, 0.5, 0.75, 1.0]),
        (" .25<=acc<.75 ", [0.25, 0.5]),
        ("0.2 < acc <= 0.5", [0.25, 0.5]),
        ("0.25 <= acc <= 0.25", [0.25]),
        ("1. <= acc", [1.0]),
        ("acc <= 0", [0.0]),
        ("0.5 < acc < 7", [0.75, 1.0]),
        ("acc > 0", [0.25, 0.5, 0.75, 1.0]),
        ("1>acc >= 0.5", [0.5, 0.75]),
    ],
)
def test_bounds(text, passing):
    group_filter = GroupFilter.parse(text, K)
    assert group_filter.text == text
    for accuracy in (0.0, 0.25, 0.5, 0.75, 1.0):
        low, high = group_filter.too_low(accuracy), group_filter.too_high(accuracy)
        assert (not low and not high) == (accuracy in passing)
        if accuracy not in passing:
            assert low == (accuracy < passing[0]) and high == (accuracy > passing[-1])


@settings(max_examples=200, deadline=None)
@given(
    low=st.sampled_from([None, "0", "0.25", ".3", "0.5", "1"]),
    high=st.sampled_from([None, "0", "0.5", "0.7", "1", "1.5"]),
    signs=st.tuples(*[st.sampled_from(["<", "<="])] * 2),
    size=st.integers(2, 16),
)
def test_bounds_are_those_of_python(low, high, signs, size):
    text = f"{f'{low} {signs[0]} ' if low else ''}acc{f' {signs[1]} {high}' if high else ''}"
    possible = [right / size for right in range(size + 1)]
    passing = [acc for acc in possible if eval(text, {"acc": acc})]
    if not (low or high) or not passing:
        with pytest.raises(ValueError, match="group_filter: got"):
            GroupFilter.parse(text, size)
    else:
        parsed = GroupFilter.parse(text, size)
        assert [acc for acc in possible if not parsed.too_low(acc) and not parsed.too_high(acc)] == passing


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acc",
        "partial",
        "0 < accuracy < 1",
        "0 < acc > 1",
        "acc == 1",
        "0 < acc < 1 < 2",
        "-1 < acc",
        "0 acc 1",
    ]
    + ["0 < acc < nan", "acc < 1e-3", "not acc < 1", "0 <  < 1", "none", 0.5],
)
def test_nonsense_is_refused(text):
    with pytest.raises(ValueError, match=f"group_filter: got {re.escape(repr(text))}. Write bounds .* '0 < acc < 1'"):
        GroupFilter.parse(text, K)


@pytest.mark.parametrize("text", ["0.3 < acc < 0.4", "1 < acc", "acc < 0", "0.5 < acc < 0.5", "0.75 <= acc <= 0.25"])
def test_what_no_group_can_pass_is_refused(text):
    message = rf"got {text!r}, which no group can pass: with num_generations=4 the accuracy is one of 0, 0.25, 0.5, 0.75, 1\."
    with pytest.raises(ValueError, match=message):
        GroupFilter.parse(text, K)
    if text == "0.3 < acc < 0.4":
        GroupFilter.parse(text, 3)


# --- accuracy ----------------------------------------------------------------------------------------------------------


def make_group(answers, target, prompt="prompt"):
    """A group that gives each of `answers` after the marker, or no score for `None`."""
    texts = [f"7+4 is 12. {MARKER} {answer}" if answer is not None else "7+4 is 12." for answer in answers]
    options = {"score_in_policy": False, "force": False, "stop_ids": []}
    return [make_rollout(SPACE, prompt, text, [7], encode(text), target, **options) for text in texts]


@pytest.mark.parametrize(
    ("answers", "target", "accuracy"),
    [
        ([4, 4, 3, 4], 4.0, 0.75),
        ([1, 2, 3, 5], 4.0, 0.0),
        ([4, None, None, 4], 4.0, 0.5),  # no score is no right score
        ([4, 9, 4, 14], 4.0, 0.5),
        ([None] * 4, 4.0, 0.0),
        ([4, 4, 5, 3], 4.25, 0.5),  # right is the nearest label
        ([4, 5, 3, None], 4.5, 0.5),  # and both, where two are
        ([1], 1.0, 1.0),
    ],
)
def test_accuracy_of_a_group(answers, target, accuracy):
    assert group_accuracy(make_group(answers, target)) == accuracy


# --- filling a batch ---------------------------------------------------------------------------------------------------

RIGHT = {"good": 2, "easy": 4, "hard": 0}  # how many of the K answers of a prompt of this kind are right


def kind_group(row):
    right = RIGHT[row["prompt"].split()[0]]
    return make_group([4] * right + [1] * (K - right), 4.0, row["prompt"])


def prompts(groups):
    return [group[0].prompt for group in groups]


def rows(kinds):
    """Rows whose prompts are `"good 0"`, `"hard 1"` and so on."""
    return [{"prompt": f"{kind} {number}"} for number, kind in enumerate(kinds)]


class Sampling:
    """A sampler on a dataset of the given kinds, with a record of what was drawn."""

    def __init__(self, kinds, rounds=10, seed=0):
        self.sampler = GroupSampler(GroupFilter.parse(PARTIAL, K), rounds, Dataset.from_list(rows(kinds)), seed)
        self.drawn = []

    def fill(self, kinds, accelerator=None):
        given = [{"prompt": f"{kind} first {number}"} for number, kind in enumerate(kinds)]
        groups, counts = self.sampler.fill(
            list(map(kind_group, given)), self.sample, accelerator or Accelerator(cpu=True)
        )
        return prompts(groups), counts

    def sample(self, drawn):
        self.drawn.append([row["prompt"] for row in drawn])
        return list(map(kind_group, drawn))


def test_a_batch_that_passes_is_left_as_it_is():
    sampling = Sampling(["good"] * 5)
    batch, counts = sampling.fill(["good", "good"])
    assert batch == ["good first 0", "good first 1"] and sampling.drawn == []
    assert counts == {
        "prompts_drawn": 2,
        "too_low": 0,
        "too_high": 0,
        "prompts_kept": 2,
        "rounds": 1,
        "surplus": 0,
        "stale": 0,
    }


def test_groups_that_fail_are_replaced_and_surplus_comes_first_in_the_next_step():
    sampling = Sampling(["good"] * 10)
    batch, counts = sampling.fill(["hard", "good", "easy"])
    (drawn,) = sampling.drawn
    assert len(set(drawn)) == 3
    assert batch == ["good first 1", *drawn[:2]] and prompts(sampling.sampler.surplus) == drawn[2:]
    assert counts == {
        "prompts_drawn": 6,
        "too_low": 1,
        "too_high": 1,
        "prompts_kept": 4,
        "rounds": 2,
        "surplus": 1,
        "stale": 0,
    }
    batch, counts = sampling.fill(["good", "good", "hard"])
    assert batch == [*drawn[2:], "good first 0", "good first 1"] and len(sampling.drawn) == 1
    assert counts == {
        "prompts_drawn": 3,
        "too_low": 1,
        "too_high": 0,
        "prompts_kept": 2,
        "rounds": 1,
        "surplus": 0,
        "stale": 1,
    }


def test_replacements_come_once_an_epoch_in_an_order_of_their_own():
    def drawn(seed, count=30):
        sampler = Sampling(["good"] * 10, seed=seed).sampler
        return [row["prompt"] for _ in range(count // 3) for row in sampler._draw(3)]

    first = drawn(seed=0)
    epochs = [first[start : start + 10] for start in (0, 10, 20)]
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3  # each in another order
    assert drawn(seed=0) == first and drawn(seed=1) != first


def test_too_few_groups_stop_the_run_and_those_that_passed_are_kept():
    sampling = Sampling(["hard"] * 6 + ["easy"] * 2, rounds=4)
    message = (
        r"group_filter: 1 of the 2 groups of a step passed '0 < acc < 1' within group_filter_rounds=4 rounds: of 8 prompts, "
        r"\d had an accuracy too low and \d too high. Widen group_filter, raise group_filter_rounds, or use prompts"
    )
    with pytest.raises(GroupFilterError, match=message) as error:
        sampling.fill(["good", "hard"])
    low, high = map(int, re.findall(r"(\d) had .* and (\d) too high", str(error.value))[0])
    flat = sum(sampling.drawn, [])
    assert (low, high) == (1 + sum("hard" in p for p in flat), sum("easy" in p for p in flat)) and low + high == 7
    assert len(sampling.drawn) == 3 and prompts(sampling.sampler.surplus) == ["good first 0"]
    # What is left is used when someone goes on
    assert sampling.fill(["hard", "good"])[0] == ["good first 0", "good first 1"]


def test_completions_without_a_score_are_named():
    sampling = Sampling(["hard"] * 4, rounds=1)
    groups = [kind_group({"prompt": "hard 1"}), kind_group({"prompt": "hard 2"})]
    groups[0] = [replace(rollout, status="missing") for rollout in groups[0]]
    with pytest.raises(
        GroupFilterError, match=f"2 had an accuracy too low and 0 too high. {K} of their {2 * K} completions show no"
    ):
        sampling.sampler.fill(groups, sampling.sample, Accelerator(cpu=True))


@settings(max_examples=80, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(list(RIGHT)), min_size=3, max_size=12),
    steps=st.lists(st.lists(st.sampled_from(list(RIGHT)), min_size=3, max_size=3), min_size=1, max_size=4),
    rounds=st.integers(1, 4),
)
def test_nothing_is_lost_and_nothing_used_twice(kinds, steps, rounds):
    """Every group that passed is used once, in the order in which it was sampled, or still waits."""
    sampling, accelerator = Sampling(kinds, rounds=rounds), Accelerator(cpu=True)
    sampled, used = [], []
    for step in steps:
        before = len(sampling.drawn)
        try:
            batch, counts = sampling.fill(step, accelerator)
        except GroupFilterError:
            batch, counts = [], None
        new = [f"{kind} first {number}" for number, kind in enumerate(step)] + sum(sampling.drawn[before:], [])
        sampled += [prompt for prompt in new if prompt.startswith("good")]
        used += batch
        waiting = prompts(sampling.sampler.surplus)
        assert used + waiting == sampled
        assert len(waiting) < 3  # never a whole batch: the next one uses all of it
        if counts is None:
            assert len(sampling.drawn) - before == rounds - 1
            continue
        assert len(batch) == 3
        assert counts["prompts_drawn"] == len(new)
        assert counts["too_low"] == sum(prompt.startswith("hard") for prompt in new)
        assert counts["prompts_kept"] == sum(prompt.startswith("good") for prompt in new)
        assert counts["prompts_kept"] + counts["too_low"] + counts["too_high"] == counts["prompts_drawn"]
        assert counts["rounds"] == 1 + len(sampling.drawn) - before <= rounds
        assert counts["surplus"] == len(waiting)


# --- two processes -----------------------------------------------------------------------------------------------------

KINDS = ["good", "hard", "easy", "hard", "good", "hard", "good", "easy", "hard"]
STEPS = [["hard", "good", "hard", "hard"], ["good", "good", "good", "hard"], ["easy", "hard", "good", "good"]]


def fill_on_rank(rank, port, folder):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    sampling, result = Sampling(KINDS, rounds=6), []
    for step in STEPS:
        given = [{"prompt": f"{kind} first {number}"} for number, kind in enumerate(step)][2 * rank : 2 * rank + 2]
        groups, counts = sampling.sampler.fill(list(map(kind_group, given)), sampling.sample, accelerator)
        result.append((prompts(groups), counts, prompts(sampling.sampler.surplus)))
    sampling.sampler.rounds = 1
    with pytest.raises(GroupFilterError) as error:  # on every process, whoever lacks groups
        sampling.sampler.fill([kind_group({"prompt": f"{'hard' if rank else 'good'} last"})] * 2, None, accelerator)
    torch.save((result, sampling.drawn, str(error.value)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_do_together_what_one_would_do(tmp_path):
    """Forked processes that talk through gloo, against one process with the whole batch."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(fill_on_rank, (port, str(tmp_path)), nprocs=2, start_method="fork")
    (first, first_drawn, error), (second, second_drawn, other_error) = (
        torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)
    )
    assert error == other_error and "of the 4 groups of a step passed" in error
    whole = Sampling(KINDS, rounds=6)
    for step, mine, others in zip(STEPS, first, second, strict=True):
        batch, counts = whole.fill(step)
        assert mine[0] + others[0] == batch and len(mine[0]) == len(others[0]) == 2
        assert mine[1] == others[1] == counts
        assert mine[2] == others[2] == prompts(whole.sampler.surplus)
    assert [a + b for a, b in zip(first_drawn, second_drawn, strict=True)] == whole.drawn and whole.drawn


# --- in training -------------------------------------------------------------------------------------------------------

PROMPTS = [f"Grade this homework from 1 to 5. {' '.join(['7+4'] * (row + 1))}" for row in range(6)]


def training_groups(kinds):
    """A prompt of each kind; the completions differ, so that every group has a signal."""
    groups = []
    for row, kind in enumerate(kinds):
        answers = [4] * RIGHT[kind] + [1, 2, 3, 5][: K - RIGHT[kind]]
        texts = [f"1) 7+4 is {row + i}, close. {MARKER} {answer}" for i, answer in enumerate(answers)]
        groups.append(Group(PROMPTS[row], 4.0, texts))
    return groups


def sampling_log(log):
    return {name.removeprefix("sampling/"): value for name, value in log.items() if name.startswith("sampling/")}


def test_training_on_groups_that_pass(tmp_path):
    groups = training_groups(["good", "hard", "easy", "good", "good", "hard"])
    trainer = make_trainer(
        tmp_path,
        groups,
        per_device_train_batch_size=2 * K,
        group_filter=PARTIAL,
        logging_steps=1,
        max_steps=3,
    )
    passing, trained = {groups[i].prompt for i in (0, 3, 4)}, []
    forward = trainer._forward
    trainer._forward = lambda model, inputs: trained.extend(inputs["rollouts"]) or forward(model, inputs)
    trainer.train()
    assert len(trained) == 3 * 2 * K and {row.prompt for row in trained} <= passing
    for start in range(0, len(trained), K):  # whole groups still
        assert len({row.prompt for row in trained[start : start + K]}) == 1
    logs = [sampling_log(log) for log in trainer.state.log_history if "loss" in log]
    assert sum(log["prompts_drawn"] for log in logs) == len(trainer.asked)
    for log in logs:
        assert log.keys() == {"prompts_drawn", "prompts_kept", "too_low", "too_high", "rounds", "surplus", "stale"}
        assert log["prompts_drawn"] == log["prompts_kept"] + log["too_low"] + log["too_high"] == 2 * log["rounds"]
    kept = sum(log["prompts_kept"] for log in logs)
    assert kept == sum(prompt in passing for prompt in trainer.asked) == 3 * 2 + logs[-1]["surplus"]
    # Of the first two rows one passed, and another prompt was drawn in its place
    assert logs[0]["rounds"] > 1 and trainer.asked[:2] == PROMPTS[:2]
    assert all(log["score/accuracy"] == 0.5 for log in trainer.state.log_history if "loss" in log)


def test_a_filter_that_passes_everything_changes_nothing(tmp_path):
    groups = training_groups(["good", "hard", "easy", "good"])
    options = {"per_device_train_batch_size": 2 * K, "max_steps": 2, "num_iterations": 2, "learning_rate": 0.002}
    plain = make_trainer(tmp_path, groups, **options)
    filtered = make_trainer(tmp_path, groups, group_filter="0 <= acc <= 1", **options)
    expected = trained_parameters(plain)
    assert all(torch.equal(p, expected[name]) for name, p in trained_parameters(filtered).items())
    assert filtered.asked == plain.asked


def test_accumulation_and_reuse_take_the_filtered_groups(tmp_path):
    groups = training_groups(["good", "hard", "easy", "good", "good", "hard"])
    trainer = make_trainer(
        tmp_path,
        groups,
        per_device_train_batch_size=K,
        gradient_accumulation_steps=2,
        num_iterations=2,
        learning_rate=0.002,
        group_filter=PARTIAL,
        logging_steps=1,
        max_steps=2,
    )
    trainer.train()
    batches = [[row.prompt for row in inputs["rollouts"]] for inputs in trainer._buffered_inputs]
    assert [len(batch) for batch in batches] == [K, K] and all(len(set(batch)) == 1 for batch in batches)
    assert {batch[0] for batch in batches} <= {groups[i].prompt for i in (0, 3, 4)}
    assert all("old_log_probs" in inputs for inputs in trainer._buffered_inputs)
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert sampling_log(logs[0]) and not sampling_log(logs[1])  # sampled once for two steps


def test_a_run_that_finds_too_few_groups_stops_with_a_message(tmp_path):
    groups = training_groups(["good", "hard", "easy"])
    trainer = make_trainer(
        tmp_path, groups, per_device_train_batch_size=3 * K, group_filter="0.5 < acc < 1", group_filter_rounds=3
    )
    message = "0 of the 3 groups of a step passed '0.5 < acc < 1' within group_filter_rounds=3 rounds: of 9 prompts, "
    with pytest.raises(GroupFilterError, match=re.escape(f"{message}6 had an accuracy too low and 3 too high")):
        trainer.train()
    assert len(trainer.asked) == 9 and trainer.state.global_step == 0


def test_a_run_that_stopped_goes_on_from_its_last_step(tmp_path):
    """Though no checkpoint was due, the step that was trained is saved; with more rounds the run ends as if nothing was."""
    groups = training_groups(["good", "good", "hard", "good"])
    options = {
        "per_device_train_batch_size": 2 * K,
        "group_filter": PARTIAL,
        "max_steps": 2,
        "save_strategy": "steps",
        "save_steps": 50,
    }
    trainer = make_trainer(tmp_path / "run", groups, group_filter_rounds=1, **options)
    with pytest.raises(GroupFilterError, match="1 of the 2 groups of a step passed .* within group_filter_rounds=1"):
        trainer.train()
    assert (trainer.state.global_step, trainer.asked) == (1, PROMPTS[:4])
    resumed = make_trainer(tmp_path / "run", groups, **options)
    resumed.train(resume_from_checkpoint=True)
    whole = make_trainer(tmp_path / "whole", groups, **options)
    expected = trained_parameters(whole)
    assert resumed.state.global_step == 2
    assert whole.asked == PROMPTS[:2] + resumed.asked and len(resumed.asked) > 2
    assert all(torch.equal(p, expected[name]) for name, p in resumed.model.named_parameters())


def test_evaluation_is_not_filtered(tmp_path):
    groups = training_groups(["good", "hard", "easy", "good"])
    trainer = make_trainer(
        tmp_path,
        groups,
        per_device_train_batch_size=K,
        per_device_eval_batch_size=K,
        group_filter=PARTIAL,
    )
    trainer.train()
    state, trainer.asked = trainer.sampling_state(), []
    metrics = trainer.evaluate(trainer.train_dataset)
    assert sorted(trainer.asked) == PROMPTS[:4]
    assert metrics["eval_score/accuracy"] == (0.5 + 0.0 + 1.0 + 0.5) / 4
    assert not any("sampling" in name for name in metrics)
    assert (trainer.sampling_state()["drawn"], trainer.sampling_state()["surplus"]) == (
        state["drawn"],
        state["surplus"],
    )


def test_a_dataset_to_draw_from_is_needed(tmp_path):
    groups = training_groups(["good"])
    trainer = make_trainer(tmp_path, groups)
    arguments = {"args": trainer.args, "processing_class": TOKENIZER, "model": str(tmp_path / "no-model-here")}
    arguments["args"].group_filter = PARTIAL
    for dataset, kind in ((trainer.train_dataset.to_iterable_dataset(), "IterableDataset"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"group_filter: got '0 < acc < 1' with a {kind}; other prompts can only"):
            type(trainer)(train_dataset=dataset, **arguments)
