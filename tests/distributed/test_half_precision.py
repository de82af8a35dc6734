# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
In bfloat16, with weights that the optimizer keeps in float32, two processes train what one process trains: after a step of SGD the
weights have moved by its gradient, which is as near to that of float32 as one process in bfloat16 comes, and as two runs of it are.
"""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.distributed.launching import RAFT, REAL, Job, launch, logged, weights
from tests.tiny import TOKENIZER

# A group for each process and micro-batch
STEP = {"optim": "sgd", "max_steps": 1, "learning_rate": 1e-2, "float32_outputs": True}
UNFILTERED = {name: value for name, value in REAL.items() if name != "group_filter"} | {"max_steps_without_signal": 0}
JOBS: dict[str, Job] = {
    "raft": ("sft", "rounded", {**RAFT, **STEP}),
    "real": ("rl", "rounded", {**UNFILTERED, **STEP}),
}


@pytest.fixture(scope="module")
def start(folder) -> dict[str, torch.Tensor]:
    """The model that all start from: `base`, of weights that bfloat16 has, so that ZeRO's copies are the same."""
    model = AutoModelForCausalLM.from_pretrained(folder / "base")
    model.bfloat16().float().save_pretrained(folder / "rounded")
    TOKENIZER.save_pretrained(folder / "rounded")
    return weights(folder / "rounded")


def train(folder: Path, backend: str, half: bool) -> Path:
    jobs = {
        f"{name}-{half}": (stage, model, {**recipe, "bf16": half}) for name, (stage, model, recipe) in JOBS.items()
    }
    launch(folder, backend, jobs)
    return folder / backend


@pytest.fixture(scope="module")
def one(folder, start) -> Path:
    train(folder, "one", False)
    return train(folder, "one", True)


@pytest.fixture(scope="module")
def two(folder, start, backend) -> Path:
    return train(folder, backend, True)


def moved(path: Path, start: dict[str, torch.Tensor]) -> torch.Tensor:
    end = weights(path)
    assert end.keys() == start.keys() and {value.dtype for value in end.values()} == {torch.float32}
    return torch.cat([(end[name].double() - start[name].double()).flatten() for name in sorted(end)])


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("job", JOBS)
def test_gradients(one, two, start, job):
    exact, alone = moved(one / f"{job}-False", start), moved(one / f"{job}-True", start)
    shared = moved(two / f"{job}-True", start)
    print(
        job,
        two.name,
        difference(alone, exact),
        difference(shared, exact),
        difference(shared, alone),
        logged(one / f"{job}-False", "loss"),
        logged(one / f"{job}-True", "loss"),
        logged(two / f"{job}-True", "loss"),
    )
    assert difference(shared, alone) < 0.01
