# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Training and judging on a GPU: in float32 what the CPU gives, in bfloat16 something that is finite and moves."""

import pytest
import torch
from safetensors.torch import load_file

from real_trl import Judge
from real_trl.trainers.checkpoints import StopWithCheckpoint
from tests.gpu.conftest import DEVICE, ON_GPU
from tests.test_judge import FIELDS, SETTINGS, save_judge
from tests.tiny import LINES, PROMPT
from tests.trainers import test_checkpoints as checkpoints
from tests.trainers import test_padding_free as raft
from tests.trainers import test_raft_trainer
from tests.trainers import test_real_gradient as real
from tests.trainers.test_real_trainer import make_trainer as make_sampling_trainer

pytestmark = pytest.mark.gpu
# In each of the steps the gradient counts as it is: Adam would make one of zero, but for rounding, a step of full size
STEPS = {
    "max_steps": 3,
    "learning_rate": 0.05,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
    "disable_tqdm": True,
}
USES_CPU = {True: True, False: not ON_GPU}  # by whether it is the run that is compared with


def real_trainer(path, **options):
    return real.make_trainer(path, **{**STEPS, "prediction_weight": 0.5, **options})


def raft_trainer(path, labels="several", **options):
    return raft.trainer_of(path, labels, **{**STEPS, **options})


MAKE = {
    "REAL": (real_trainer, {}),
    "REAL, qwen3": (real_trainer, {"architecture": "qwen3"}),
    "REAL, LoRA, KL": (real_trainer, {"lora": True, "beta": 0.1}),
    "REAL, reused batches": (real_trainer, {"num_iterations": 3}),
    "REAL without sharing": (real_trainer, {"shared_prefix": False}),
    "RAFT": (raft_trainer, {}),
    "RAFT, LoRA": (raft_trainer, {"lora": True, "labels": "one token"}),
}


def moves(trainer):
    """How far training moves each parameter, on the CPU."""
    before = {name: p.detach().cpu().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    return {
        name: p.detach().cpu().double() - before[name]
        for name, p in trainer.model.named_parameters()
        if name in before
    }


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("case", MAKE)
def test_the_same_steps_as_on_the_cpu(tmp_path, case, checkpointing):
    make, options = MAKE[case]
    moved = []
    for reference in (False, True):
        trainer = make(
            tmp_path / str(reference), gradient_checkpointing=checkpointing, use_cpu=USES_CPU[reference], **options
        )
        assert trainer.model.device.type == ("cpu" if reference else DEVICE.type)
        moved.append(moves(trainer))
    assert moved[0].keys() == moved[1].keys() and moved[1]
    largest = max(move.norm() for move in moved[1].values())
    for name, move in moved[1].items():
        assert (moved[0][name] - move).norm() <= 1e-3 * max(move.norm(), 1e-2 * largest), name


@pytest.mark.parametrize("case", MAKE)
def test_bfloat16(tmp_path, case):
    """Under autocast, with weights in float32: in about the direction of the float32 steps."""
    make, options = MAKE[case]
    exact, moved = (
        moves(make(tmp_path / str(bf16), bf16=bf16, use_cpu=USES_CPU[False], **options)) for bf16 in (False, True)
    )
    assert all(move.isfinite().all() for move in moved.values())
    all_moves = [torch.cat([move.flatten() for move in side.values()]) for side in (moved, exact)]
    assert torch.cosine_similarity(*all_moves, dim=0) > 0.9


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", [case for case in MAKE if case != "REAL without sharing"])
def test_the_first_micro_batch_is_the_same_both_ways(tmp_path, case, bf16):
    """As it is looked at on a GPU unless told otherwise."""
    make, options = MAKE[case]
    trainer = make(
        tmp_path, bf16=bf16, use_cpu=USES_CPU[False], check_shared_prefix=None if ON_GPU else True, **options
    )
    assert trainer._checks_sharing
    trainer.train()
    assert not trainer._checks_sharing
    assert trainer._shares_prefixes if case.startswith("REAL") else trainer._padding_free


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "bfloat16"])
def test_sampling_and_training(tmp_path, bf16):
    trainer = make_sampling_trainer(
        tmp_path, bf16=bf16, max_steps=3, learning_rate=0.1, use_cpu=USES_CPU[False], gradient_checkpointing=True
    )
    moved = moves(trainer)
    assert all(move.isfinite().all() and move.abs().max() > 0 for move in moved.values())
    assert trainer.state.log_history[0]["malformed/rate"] < 1


class Stopping(StopWithCheckpoint):
    """Where a signal would stop it."""


@pytest.mark.parametrize(("make", "step"), [(checkpoints.raft, 2), (checkpoints.real, 3)], ids=["raft", "real"])
def test_a_run_that_was_stopped_goes_on(tmp_path, make, step):
    """Sampling and dropout draw from the GPU's random numbers, whose state is in the checkpoint."""
    use_cpu = USES_CPU[False]
    whole = checkpoints.run(make(tmp_path / "whole", use_cpu=use_cpu, max_steps=5))
    stopped = make(tmp_path / "stopped", use_cpu=use_cpu, max_steps=5, save_strategy="steps", save_steps=100)
    training_step = stopped.training_step

    def stopping(*args, **kwargs):
        if stopped.state.global_step == step:
            raise Stopping("enough")
        return training_step(*args, **kwargs)

    stopped.training_step = stopping
    with pytest.raises(StopWithCheckpoint):
        stopped.train()
    checkpoint = checkpoints.last_checkpoint(tmp_path / "stopped")
    assert checkpoint.name == f"checkpoint-{step}"
    states = torch.load(checkpoint / "rng_state.pth", weights_only=False)
    assert ("cuda" in states) == ON_GPU
    torch.manual_seed(7)  # nobody knows what the new process drew before
    resumed = checkpoints.run(make(tmp_path / "stopped", use_cpu=use_cpu, max_steps=5), checkpoint)
    assert resumed.state.global_step == 5
    ends = [load_file(tmp_path / name / "checkpoint-5" / "model.safetensors") for name in ("whole", "stopped")]
    start = dict(checkpoints.noisy_model().named_parameters())
    moved = [{name: (weight - start[name]).detach().double() for name, weight in end.items()} for end in ends]
    assert whole.model.device.type == DEVICE.type
    assert test_raft_trainer.relative_error(moved[1], moved[0]) < (1e-2 if ON_GPU else 1e-9)


def scores(judge, rows):
    judgments = judge.score(rows)
    return [(judgment.completion, judgment.status) for judgment in judgments], torch.tensor(
        [[*judgment.probabilities.values(), judgment.expected_score, judgment.mass] for judgment in judgments],
        dtype=torch.float64,
    )


def test_a_judge_gives_the_scores_that_it_gives_on_the_cpu(tmp_path):
    """Whatever the order and the size of the batches."""
    rows = [{"instruction": PROMPT, "response": "\n".join(LINES[:n])} for n in (1, 2, 3)] + [FIELDS]
    judge = Judge.from_pretrained(save_judge(tmp_path), do_sample=False, **SETTINGS)
    assert judge.engine.model.device.type == DEVICE.type
    texts, here = scores(judge, rows)
    assert (scores(judge, rows[::-1])[1].flip(0) - here).abs().max() < 1e-4
    judge.engine.batch_size = 1
    assert (scores(judge, rows)[1] - here).abs().max() < 1e-4
    judge.engine.model.to("cpu")
    expected, there = scores(judge, rows)
    assert texts == expected and (here - there).abs().max() < 1e-4
