# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl doctor` in two processes: DDP and ZeRO-3 are one process, and gradients that are not shared are named."""

import json
import os
import subprocess
import sys

import pytest

from real_trl.doctor import processes
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


def launch(*arguments, name="ddp"):
    """Exit status and report."""
    config = str(ROOT / "recipes" / "accelerate_configs" / BACKENDS[name][0])
    result = subprocess.run(
        [sys.executable, "-m", *arguments[:1], *(config if word == "CONFIG" else word for word in arguments[1:])],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.stdout, result.stderr[-3000:]
    return result.returncode, json.loads(result.stdout)  # and nothing else


def test_one_process_has_none_to_compare():
    assert {name: f.status for name, f in processes.check_processes(make_subject()).items()} == {
        "processes": "skipped"
    }


def test_two_processes_are_one(backend, recipe):  # noqa: F811
    options = ["--recipe", str(recipe()), "--json"]
    status, report = launch("real_trl.cli", "--accelerate_config", "CONFIG", "doctor", *options, name=backend)
    found = report["groups"]["several processes"]
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(
        ["loss", "gradient", "save and resume", "gather for generation", "bandwidth"], "ok"
    )
    assert status == 0 and list(report["groups"]["speed"].values())[0]["status"] == "skipped"
    assert report["subject"]["processes"] > 1 and report["subject"]["dtype"] == "bfloat16"


@pytest.mark.slow
def test_gradients_that_are_not_shared(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(BROKEN)
    status, report = launch("accelerate.commands.launch", "--config_file", "CONFIG", str(script))
    assert status == 1 and {"several processes: gradient"} <= set(report["failed"])
