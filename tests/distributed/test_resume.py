# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Two processes that sample: they stay in step though dynamic sampling rejects more on one than on the other, stop together
where it cannot go on, and a run resumed from its checkpoint ends with the weights of the one that was not interrupted.
"""

import math
import shutil
from pathlib import Path

import pytest
import torch

from real_trl.trainers.checkpoints import read_manifest
from real_trl.trainers.rollout import Rollout
from tests.distributed.launching import RAFT, REAL, Job, distance, launch, logged, weights

SAVING = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}
JOBS: dict[str, Job] = {
    "raft-lora": ("sft", "adapter", {**RAFT, **SAVING}),
    "real-full": ("rl-sampled", "warm", {**REAL, **SAVING, "group_filter_rounds": 50}),
}


@pytest.fixture(scope="module")
def whole(folder, backend) -> Path:
    """Uninterrupted runs."""
    launch(folder, backend, JOBS)
    return (folder / backend).rename(folder / f"{backend}-whole")


@pytest.fixture(scope="module")
def resumed(folder, backend, whole) -> Path:
    """The same commands again, where only the checkpoints of step 2 are left."""
    for job in JOBS:
        shutil.copytree(whole / job / "checkpoint-2", folder / backend / job / "checkpoint-2")
    launch(folder, backend, JOBS)
    return folder / backend


def sampling_states(checkpoint: Path) -> list[dict]:
    with torch.serialization.safe_globals([Rollout]):
        return [torch.load(checkpoint / f"sampling_state_{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_ranks_stay_in_step(folder, whole):
    run = whole / "real-full"
    assert len(logged(run, "loss")) == 4 and all(map(math.isfinite, logged(run, "loss")))
    start, end = weights(folder / "warm"), weights(run)
    assert [name for name in end if torch.equal(end[name], start[name])] == []
    # Both ranks together kept an odd number of groups: one kept more than the other
    assert any(kept % 2 == 1 for kept in logged(run, "sampling/prompts_kept"))
    assert max(logged(run, "sampling/rounds")) > 1
    for step in (2, 4):
        first, second = sampling_states(run / f"checkpoint-{step}")
        assert (first["surplus"], first["drawn"]) == (second["surplus"], second["drawn"])
        assert first["drawn"] > 0


@pytest.mark.parametrize("job", JOBS)
def test_a_resumed_run_ends_the_same(backend, whole, resumed, job):
    if backend == "zero3":  # each rank holds its own part
        parts = [path.name for path in (resumed / job / "checkpoint-4").rglob("*_optim_states.pt")]
        assert len(parts) == 2
    assert distance(weights(whole / job), weights(whole / job / "checkpoint-2")) > 1e-4
    assert distance(weights(resumed / job), weights(whole / job)) == 0
    assert logged(resumed / job, "loss") == logged(whole / job, "loss")
    if job == "real-full":
        assert sampling_states(resumed / job / "checkpoint-4") == sampling_states(whole / job / "checkpoint-4")


def test_both_ranks_stop_when_too_few_groups_pass(folder, backend):
    """Completions are fixed here: with this seed the first step takes 3 rounds, and the second would take 6."""
    recipe = {**REAL, "max_steps": 3, "seed": 5, "group_filter_rounds": 5, "save_strategy": "steps", "save_steps": 100}
    errors = launch(folder, backend, {"stuck": ("rl", "base", recipe)}, fails=True)
    message = (
        "error: group_filter: 7 of the 8 groups of a step passed '0 < acc < 1' within group_filter_rounds=5 rounds"
    )
    assert message in errors
    assert "Traceback" not in errors[: errors.rindex(message)]
    run = folder / backend / "stuck"
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-1"]
    read_manifest(run / "checkpoint-1")
    assert [len(state["surplus"]) for state in sampling_states(run / "checkpoint-1")] == [0, 0]
