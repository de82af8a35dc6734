# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The launch kit as far as it goes without a cluster, a container or a GPU: what the SLURM script would start on each node is what accelerate takes,
the commands of the page about GPUs name files and options that there are, and so does the Dockerfile.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from real_trl.cli import STAGES

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "launch" / "Dockerfile").read_text(encoding="utf-8")
# SLURM's two commands: every node runs the same, and knows its number. What they start is printed instead
COMMANDS = {
    "scontrol": '[ "$1 $2" = "show hostnames" ] && printf "node-a\\nnode-b\\n"',
    "srun": 'while [[ $1 == --* ]]; do shift; done; for n in $(seq 0 $((SLURM_NNODES - 1))); do SLURM_NODEID=$n "$@"; done',
    "accelerate": 'printf "%q " "$@"; echo',
    "python": 'echo "python: $*"; exit ${PYTHON_STATUS:-0}',
}
JOB = {"SLURM_NNODES": "2", "SLURM_JOB_ID": "41007", "SLURM_JOB_NODELIST": "node-[a-b]", "SLURM_GPUS_ON_NODE": "8"}


@pytest.fixture
def slurm(tmp_path):
    for name, text in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")

    def submit(*argv: str, **environment: str) -> subprocess.CompletedProcess:
        path = f"{tmp_path}:{os.environ['PATH']}"
        script = ["bash", str(ROOT / "launch" / "slurm.sh"), *argv]
        return subprocess.run(
            script,
            cwd=tmp_path,
            env={**os.environ, **JOB, **environment, "PATH": path},
            capture_output=True,
            text=True,
        )

    return submit


def test_every_node_starts_its_launcher(slurm):
    done = slurm("rl", "recipes/qwen3-32b/real.yaml", "--run_name", "a b", "--max_steps", "3")
    assert done.returncode == 0, done.stderr
    parsed = [launch_command_parser().parse_args(shlex.split(line)[1:]) for line in done.stdout.splitlines()]
    assert [(p.machine_rank, p.num_machines, p.num_processes) for p in parsed] == [(0, 2, 16), (1, 2, 16)]
    for node in parsed:
        assert (node.main_process_ip, node.main_process_port) == ("node-a", 25007)
        assert (ROOT / node.config_file).is_file() and node.module
        assert node.training_script == "real_trl.scripts.rl"
        assert node.training_script_args == [
            *("--config", "recipes/qwen3-32b/real.yaml"),
            *("--run_name", "a b", "--max_steps", "3"),
        ]


def test_the_doctor_takes_a_recipe_and_another_configuration(slurm):
    config = "recipes/accelerate_configs/fsdp2.yaml"
    done = slurm("doctor", "recipes/qwen3-8b/real.yaml", SLURM_NNODES="1", GPUS_PER_NODE="4", ACCELERATE_CONFIG=config)
    alone, line = done.stdout.splitlines()
    assert alone == "python: -m real_trl.scripts.doctor --recipe recipes/qwen3-8b/real.yaml"
    node = launch_command_parser().parse_args(shlex.split(line)[1:])
    assert (node.config_file, node.num_processes) == (config, 4)
    assert node.training_script_args == ["--recipe", "recipes/qwen3-8b/real.yaml"]


def test_what_one_process_finds_keeps_no_others_from_starting(slurm):
    done = slurm("doctor", "recipes/qwen3-8b/real.yaml", SLURM_NNODES="1", PYTHON_STATUS="1")
    assert done.returncode == 1 and "real_trl.scripts.doctor --recipe" in done.stdout.splitlines()[1]


def test_srun_is_told_the_cores_and_the_port_is_none_that_the_system_gives_out(slurm, tmp_path):
    (tmp_path / "srun").write_text('#!/bin/bash\necho "$@"\n')
    done = slurm("doctor", "recipes/qwen3-8b/real.yaml", SLURM_CPUS_PER_TASK="48", SLURM_JOB_ID="35999")
    alone, together = done.stdout.replace("\n    ", " ").strip().split("\n--ntasks=2 ")
    assert "--cpus-per-task=48" in alone and "--cpus-per-task=48" in together and " 31999 " in together


@pytest.mark.parametrize("argv", [(), ("rl",), ("rl", "no.yaml")])
def test_a_job_that_cannot_start_says_why(slurm, argv):
    done = slurm(*argv)
    assert done.returncode == 2 and done.stdout == ""
    assert "usage: sbatch" in done.stderr or "no.yaml: no such file" in done.stderr


def test_the_pages_commands_name_what_there_is():
    lines = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    for line in [*lines, *re.findall(r"`(sbatch [^`]+)`", PAGE)]:
        for path in re.findall(r"(?:recipes|launch|tests)/[\w./-]+", line):
            assert (ROOT / path).exists(), line
        for stage in re.findall(r"real_trl\.scripts\.(\w+)|real-trl (\w+)|slurm\.sh (\w+)", line):
            assert max(stage) in STAGES, line
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_the_container_runs_the_quickstart_of_the_tested_versions():
    assert re.search(r'^CMD \["python", "-m", "real_trl\.scripts\.quickstart"\]$', DOCKERFILE, re.MULTILINE)
    installed = re.findall(r"^RUN pip install -c (\S+)", DOCKERFILE, re.MULTILINE)
    assert installed == ["constraints-gpu.txt"] * 2
    (extras,) = re.findall(r'-e "\.\[([\w,]+)\]"', DOCKERFILE)
    known = re.findall(r"^(\w+) = ?$", (ROOT / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(extras.split(",")) <= set(known) and {"vllm", "deepspeed", "qlora"} <= set(extras.split(","))
