# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
In bfloat16, with weights that the optimizer keeps in float32, two processes train what one process trains: after a step of SGD, which moves
weights by their gradient, they have moved as with one process that computes in the same way, and as near to float32 as bfloat16 comes.
"""

from pathlib import Path

import pytest
import torch

from tests.distributed import launching
from tests.distributed.launching import BACKENDS, RAFT, REAL, Job, launch, weights
from tests.tiny import TOKENIZER, build_model

STEP = {"optim": "sgd", "max_steps": 1, "learning_rate": 1e-2, "float32_outputs": True, "max_grad_norm": 0}
WHOLE = {name: value for name, value in REAL.items() if name != "group_filter"}
JOBS: dict[str, Job] = {
    "raft": ("sft", "rounded", {**RAFT, **STEP}),
    "real": ("rl", "rounded", {**WHOLE, **STEP, "prediction_weight": 1.0}),
}


@pytest.fixture(scope="module")
def start(folder) -> dict[str, torch.Tensor]:
    """Weights that bfloat16 has, so that all ways begin with the same."""
    build_model().bfloat16().float().save_pretrained(folder / "rounded")
    TOKENIZER.save_pretrained(folder / "rounded")
    return weights(folder / "rounded")


def train(folder: Path, backend: str, processes: int, half: bool) -> Path:
    """In `folder/name`, whose runs are not those of other tests."""
    name = f"{backend}-{processes}-{'bf16' if half else 'float32'}"
    config, settings, _ = BACKENDS[backend]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(launching.BACKENDS, name, (config, settings, processes))
        jobs = {job: (stage, model, {**recipe, "bf16": half}) for job, (stage, model, recipe) in JOBS.items()}
        launch(folder, name, jobs)
    return folder / name


@pytest.fixture(scope="module")
def exact(folder, start) -> Path:
    return train(folder, "one", 1, half=False)


@pytest.fixture(scope="module")
def one(folder, start, backend) -> Path:
    return train(folder, backend, 1, half=True)


@pytest.fixture(scope="module")
def two(folder, start, backend) -> Path:
    return train(folder, backend, 2, half=True)


def moved(path: Path, start: dict[str, torch.Tensor]) -> torch.Tensor:
    end = weights(path)
    assert end.keys() == start.keys() and {value.dtype for value in end.values()} == {torch.float32}
    return torch.cat([(end[name].double() - start[name].double()).flatten() for name in sorted(end)])


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("job", JOBS)
def test_two_processes_move_weights_as_one(exact, one, two, start, job):
    float32, alone, together = (moved(path / job, start) for path in (exact, one, two))
    assert difference(together, alone) < 0.01
    assert difference(together, float32) < 0.05
