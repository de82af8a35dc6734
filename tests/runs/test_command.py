# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What stands around every command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
import torch.distributed as dist
from real_trl.runs.command import command

dist.init_process_group("gloo", init_method="file://" + sys.argv[1], rank=0, world_size=1)
leave = dist.destroy_process_group
dist.destroy_process_group = lambda: (print("left"), leave())

@command()
def run(fails):
    print("in a group of", dist.get_world_size())
    if fails:
        raise RuntimeError

for word in sys.argv[2:]:
    run(word == "fails")
"""


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        (["well", "well"], ["in a group of 1", "in a group of 1", "left"]),
        (["well", "fails"], ["in a group of 1", "in a group of 1"]),
    ],
)
def test_the_group_of_processes_is_left_when_the_last_command_has_ended_well(tmp_path, commands, said):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "store"), *commands], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == said and (done.returncode != 0) == ("fails" in commands), done.stderr
