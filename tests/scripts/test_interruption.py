# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Stages that are killed (SIGKILL) and started again with the same command, until they finish: the judge and the last
checkpoint must be those of a run that was left alone, bit for bit.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from real_trl.trainers.checkpoints import MANIFEST_NAME, find_fault, last_complete_checkpoint, list_checkpoints
from tests.helpers.checkpoint_files import assert_same_checkpoint, assert_same_files
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

COMMON = {
    "output_dir": "out",
    "model_name_or_path": "model",
    "dataset_name": "train.jsonl",
    "score_labels": "1-5",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 100,
    "max_steps": 12,
    "learning_rate": 5.0e-3,
    "lr_scheduler_type": "cosine",
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    # Evaluates between two checkpoints and after the last step of an epoch
    "eval_strategy": "steps",
    "eval_steps": 3,
    "dataset_test_split": "train",
    "per_device_eval_batch_size": 4,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
}
RECIPES = {
    "sft": {**COMMON, "regression_weight": 0.5},
    # Four optimizer steps on each generation batch: every other checkpoint is in the middle of one
    "rl": {
        **COMMON,
        "num_generations": 4,
        "steps_per_generation": 4,
        "num_iterations": 2,
        "group_filter": "0 <= acc < 1",
        "group_filter_rounds": 50,
        "max_completion_length": 24,
    },
}
COMMAND = ("--config", "recipe.yaml")
Start = Callable[[str, Path], "Run"]


class Run:
    """A stage in a process of its own, started in `folder`; its output is in `folder/log.txt`."""

    def __init__(self, pid: int, wait: Callable[[float | None], int | None], group: bool = False) -> None:
        self.pid, self.wait = pid, wait  # wait(timeout): the exit code, or None if it is still running
        self.group = group

    def signal(self, number: int) -> None:
        (os.killpg if self.group else os.kill)(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.wait(60) == -signal.SIGKILL


# --- two ways to start a stage -------------------------------------------------------------------------------------------

# A server that has imported the stages and forks: a start takes no time. It runs no torch operation itself.
FORKSERVER = multiprocessing.get_context("forkserver")


def _call_stage(stage: str, folder: str) -> None:
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout.reconfigure(line_buffering=True)
    from importlib import import_module

    import torch

    torch.set_num_threads(1)
    import_module(f"real_trl.scripts.{stage}").main(COMMAND)


def start_forked(stage: str, folder: Path) -> Run:
    FORKSERVER.set_forkserver_preload(["real_trl.scripts.sft", "real_trl.scripts.rl"])
    process = FORKSERVER.Process(target=_call_stage, args=(stage, str(folder)))
    process.start()

    def wait(timeout: float | None) -> int | None:
        process.join(timeout)
        return process.exitcode

    return Run(process.pid, wait)


def start_command(
    stage: str, folder: Path, launcher: Sequence[str] = (), group: bool = False, **environment: str
) -> Run:
    """As a user starts it."""
    log = (folder / "log.txt").open("a")
    command = [sys.executable, "-m", *launcher, f"real_trl.scripts.{stage}", *COMMAND]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=group)

    def wait(timeout: float | None) -> int | None:
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    return Run(process.pid, wait, group)


def start_launched(accelerate_config: str, **environment: str) -> Start:
    """With several processes, which are killed together."""

    def start(stage: str, folder: Path) -> Run:
        config = Path(__file__).parents[2] / "recipes" / "accelerate_configs" / accelerate_config
        command = ["accelerate.commands.launch", "--config_file", str(config), "--main_process_port", "0", "-m"]
        return start_command(stage, folder, command, group=True, **environment)

    return start


# --- moments to kill -------------------------------------------------------------------------------------------------------


def writing_a_checkpoint(output: Path) -> bool:
    last = next(iter(list_checkpoints(output)), None)
    return last is not None and find_fault(last, hashes=False) is not None  # hashing takes longer than the moment


def deleting_a_checkpoint(output: Path) -> bool:
    """The new one is complete, and those that exceed save_total_limit are still there, whole or in part."""
    checkpoints = list_checkpoints(output)
    return len(checkpoints) > COMMON["save_total_limit"] and find_fault(checkpoints[0], hashes=False) is None


def saving_the_judge(output: Path) -> bool:
    return (output / "config.json").is_file()


def kill_when(run: Run, moment: Callable[[Path], bool], output: Path) -> bool:
    """Kill a run in the middle of something. `False` if it finished first."""
    while run.wait(0.0005) is None:
        if moment(output):
            run.signal(signal.SIGSTOP)  # it may have been over before the signal came
            if moment(output):
                run.kill()
                return True
            run.signal(signal.SIGCONT)
    return False


def kill_in_step(run: Run, step: int, fraction: float, folder: Path) -> bool:
    """
    Kill a run after it has logged `step` steps, and a `fraction` of the time between two of them; it may be starting,
    sampling, training, evaluating or writing a checkpoint. `False` if it finished first.
    """
    log = folder / "log.txt"
    before = log.read_text().count("{'loss'") if log.exists() else 0
    times: list[float] = []
    while run.wait(0.002) is None and len(times) < step:
        logged = log.read_text().count("{'loss'") - before if log.exists() else 0
        times += [time.monotonic()] * (logged - len(times))
    if run.wait(fraction * (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else fraction) is not None:
        return False
    run.kill()
    return True


# --- the runs ----------------------------------------------------------------------------------------------------------------


def make_folder(path: Path, stage: str, **changes) -> Path:
    path.mkdir()
    model = warm_model()
    model.config.attention_dropout = 0.1  # so that training itself draws random numbers
    model.save_pretrained(path / "model")
    TOKENIZER.save_pretrained(path / "model")
    # sft: 3 steps an epoch, the last with one micro-batch; rl: 4; half as many with two processes
    rows = prompt_dataset([float(1 + index % 5) for index in range({"sft": 17, "rl": 6}[stage])])
    text = "".join(json.dumps({**row, "feedback": "7+4 is 12, right."}) + "\n" for row in rows)
    (path / "train.jsonl").write_text(text)
    (path / "recipe.yaml").write_text(yaml.safe_dump({**RECIPES[stage], **changes}))
    return path


def finish(run: Run, folder: Path) -> None:
    assert run.wait(300) == 0, (folder / "log.txt").read_text()[-3000:]


@contextmanager
def one_thread() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> Iterator[Callable[[str, Start], Path]]:
    """A stage's folder after a run that was left alone."""
    done = {}

    def run(stage: str, start: Start) -> Path:
        if (stage, start) not in done:
            folder = done[stage, start] = make_folder(tmp_path_factory.mktemp(stage) / "whole", stage)
            finish(start(stage, folder), folder)
        return done[stage, start]

    with one_thread():
        yield run


def assert_ends_the_same(folder: Path, whole: Path) -> None:
    ends = [last_complete_checkpoint(side / "out") for side in (folder, whole)]
    assert [end.name for end, _ in ends] == ["checkpoint-12"] * 2
    assert_same_checkpoint(*(end for end, _ in ends))
    for name in ("model.safetensors", "judge_config.json", "config.json"):
        assert (folder / "out" / name).read_bytes() == (whole / "out" / name).read_bytes()
    kept = [[checkpoint.name for checkpoint in list_checkpoints(side / "out")] for side in (folder, whole)]
    assert kept[0] == kept[1] == ["checkpoint-12", "checkpoint-10"]
    assert_same_files(*(side / "out" / "checkpoint-10" for side in (folder, whole)))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "rl"])
def test_a_run_killed_twice_ends_like_one_left_alone(tmp_path, whole_run, stage):
    whole, folder = whole_run(stage, start_forked), make_folder(tmp_path / "killed", stage)
    draw = random.Random(stage)
    assert kill_in_step(start_forked(stage, folder), draw.randint(2, 6), draw.random(), folder)
    assert kill_when(start_forked(stage, folder), writing_a_checkpoint, folder / "out")
    half_written = list_checkpoints(folder / "out")[0]
    finish(start_forked(stage, folder), folder)
    log = (folder / "log.txt").read_text()
    assert f"Skipping out/{half_written.name}: " in log and "Going on from out/checkpoint-" in log
    assert_ends_the_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["rl", "sft"])
def test_ten_runs_killed_at_random_moments(tmp_path, whole_run, stage):
    """By the stage's command line. Half of the kills are anywhere, the others where a checkpoint or the judge is written."""
    whole = whole_run(stage, start_command)
    moments = [
        writing_a_checkpoint,
        writing_a_checkpoint,
        deleting_a_checkpoint,
        deleting_a_checkpoint,
        saving_the_judge,
    ]
    draw = random.Random(f"ten {stage}")
    for number in range(10):
        folder = make_folder(tmp_path / f"{number}", stage)
        run = start_command(stage, folder)
        if number < len(moments):
            assert kill_when(run, moments[number], folder / "out")
        else:
            assert kill_in_step(run, draw.randint(0, 11), draw.random(), folder)
        left = {path.name: find_fault(path) or "complete" for path in list_checkpoints(folder / "out")}
        print(f"run {number} was killed with {left}", flush=True)
        finish(start_command(stage, folder), folder)
        assert_ends_the_same(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "rl"])
@pytest.mark.parametrize(
    "accelerate_config",
    ["ddp_cpu.yaml", pytest.param("zero3_cpu.yaml", marks=pytest.mark.deepspeed)],
)
def test_several_processes_go_on_from_what_all_of_them_wrote(tmp_path, stage, accelerate_config):
    environment = {"ACCELERATE_TORCH_DEVICE": "cpu", "DS_ACCELERATOR": "cpu"}
    start = start_launched(accelerate_config, **environment)
    changes = {"gradient_accumulation_steps": 1, "max_steps": 6, "ddp_backend": "gloo", "eval_strategy": "no"}
    changes |= {"steps_per_generation": 2} if stage == "rl" else {}
    changes |= {"use_cpu": False} if "zero3" in accelerate_config else {}
    with one_thread():
        whole, folder = (make_folder(tmp_path / name, stage, **changes) for name in ("whole", "killed"))
        finish(start(stage, whole), whole)
        assert kill_when(start(stage, folder), lambda output: (output / "checkpoint-4").is_dir(), folder / "out")
        finish(start(stage, folder), folder)
    assert "Going on from out/checkpoint-" in (folder / "log.txt").read_text()
    ends = [side / "out" / "checkpoint-6" for side in (whole, folder)]
    assert_same_checkpoint(*ends)
    files = json.loads((ends[1] / MANIFEST_NAME).read_text())["files"]
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(files)
    assert ("sampling_state_1.pt" in files) == (stage == "rl")
    assert sum("optim" in name for name in files) == (2 if "zero3" in accelerate_config else 1)
