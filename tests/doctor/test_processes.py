# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl doctor` in two processes: DDP and ZeRO-3 are one process, and gradients that are not shared are named."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import yaml

from real_trl.doctor import processes
from real_trl.doctor.kernels import prepared, random_rows, relative_error
from tests.distributed.conftest import backend  # noqa: F401 (a fixture)
from tests.distributed.launching import BACKENDS, ENVIRONMENT, ROOT
from tests.doctor.test_doctor import make_subject

# As in a broken installation: every process goes its own way
BROKEN = """
import torch
from real_trl.doctor import processes
from real_trl.scripts.doctor import main
prepare = processes.Accelerator.prepare
processes.Accelerator.prepare = lambda self, *objects, **options: objects
main(["--json"])
"""


def launch(folder, *arguments, name="ddp"):
    """Exit status, report and standard error of two processes."""
    file, _, count = BACKENDS[name]
    keys = yaml.safe_load((ROOT / "recipes" / "accelerate_configs" / file).read_text())
    config = str(folder / file)
    Path(config).write_text(yaml.safe_dump({**keys, "num_processes": count}))
    result = subprocess.run(
        [sys.executable, "-m", *arguments[:1], *(config if word == "CONFIG" else word for word in arguments[1:])],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout, result.stderr[-3000:]
    return result.returncode, json.loads(result.stdout), result.stderr  # nothing else on standard output


def test_one_process_has_none_to_compare():
    assert {name: f.status for name, f in processes.check_processes(make_subject()).items()} == {
        "processes": "skipped"
    }


class Scaled:
    """In the place of accelerate, whose scaler skips the first two steps."""

    device, steps = torch.device("cpu"), 0

    def accumulate(self, model):
        return nullcontext()

    def backward(self, loss):
        loss.backward()

    @property
    def optimizer_step_was_skipped(self):
        self.steps += 1
        return self.steps < 3


def test_a_step_that_is_skipped_is_made_again(monkeypatch):
    monkeypatch.setattr(processes, "_loss", lambda model, rows, device: rows * model.weight.sum())
    model, scaled = torch.nn.Linear(2, 1, bias=False), Scaled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    losses = processes._update(scaled, model, optimizer, [1.0, 2.0])
    assert scaled.steps == 3
    assert losses.tolist() == pytest.approx([model.weight.sum().item(), 2 * model.weight.sum().item()])


def test_one_process_adds_micro_batches_up():
    """In float64, but for what the model itself computes in float32, as all rows at once; in half precision as autocast rounds, whether weights are in float32 or not."""
    subject = make_subject()
    batches = [random_rows(seed)[processes._ROWS] for seed in range(3)]

    def read(weights, batches, dtype):
        model = prepared(subject.small_model(torch.bfloat16).to(weights), torch.device("cpu"), shared=False)
        return processes._read(model, batches, dtype)

    exact = read(torch.float64, batches, torch.float64)
    whole = read(torch.float64, [[row for rows in batches for row in rows]], torch.float64)
    assert relative_error(exact.flat, whole.flat) < 1e-6 and len(exact.losses) == 3
    assert exact.losses.mean().item() == pytest.approx(whole.losses.item(), rel=1e-6)
    for weights in (torch.float32, torch.bfloat16):
        assert 1e-4 < relative_error(read(weights, batches, torch.bfloat16).flat, exact.flat) < 0.1
    assert relative_error(read(torch.float32, batches, torch.float32).flat, exact.flat) < 1e-5


def test_an_error_is_measured_by_that_of_one_process():
    exact = torch.ones(4, dtype=torch.float64)
    status = [processes._finding(error, 1.01 * exact, exact, torch.bfloat16).status for error in (0.019, 0.021)]
    assert status == ["ok", "failed"]


def test_two_processes_are_one(backend, recipe, tmp_path):  # noqa: F811
    options = ["--recipe", str(recipe()), "--json"]
    status, report, said = launch(
        tmp_path, "real_trl.cli", "--accelerate_config", "CONFIG", "doctor", *options, name=backend
    )
    found = report["groups"]["several processes"]
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(
        ["loss", "gradient", "save and resume", "gather for generation", "bandwidth"], "ok"
    )
    assert status == 0, said[-3000:]
    assert list(report["groups"]["speed"].values())[0]["status"] == "skipped"
    assert report["subject"]["processes"] == 2 and report["subject"]["dtype"] == "bfloat16"


@pytest.mark.slow
def test_gradients_that_are_not_shared(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    status, report, _ = launch(tmp_path, "accelerate.commands.launch", "--config_file", "CONFIG", str(script))
    assert status == 1 and {"several processes: gradient"} <= set(report["failed"])
