# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Commands that are stopped at random moments by SIGKILL, SIGTERM and SIGINT, and given again until they end: what they leave is that
of a command that was left alone, bit for bit, and no process is left of them.

`REAL_TRL_KILL_MOMENTS` is how often each signal stops each command, `REAL_TRL_KILL_SEED` what the moments are drawn from.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from real_trl import JudgeConfig
from tests.helpers.checkpoint_files import assert_same_checkpoint
from tests.helpers.rationale_writer import writer_model
from tests.scripts.test_interruption import assert_ends_the_same, make_folder
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

MOMENTS = int(os.environ.get("REAL_TRL_KILL_MOMENTS", "2"))
SEED = int(os.environ.get("REAL_TRL_KILL_SEED", "0"))
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
_JUDGE = {
    "model_name_or_path": "model",
    "output_dir": "out",
    "dataset_name": "train.jsonl",
    "max_new_tokens": 24,
    "batch_size": 2,
    "num_samples": 2,
}
JUDGED = {
    "evaluate": {**_JUDGE, "eval_splits": ["train"], "do_sample": True, "num_resamples": 200},
    "self_generate": _JUDGE,
    "rationales": {**_JUDGE, "max_distance": 1.0, "show_score": True},
}
STAGES = {"rationales": "self_generate"}  # of what is no stage's name
SCORE = ["score", "train.jsonl", "--judge", "model", "--output", "out.jsonl", "--prompt_column", "prompt"]
SCORE += ["--max_new_tokens", "24", "--batch_size", "2"]


def prepare(folder: Path, command: str) -> Path:
    if command in ("sft", "rl"):
        return make_folder(folder, command)
    folder.mkdir()
    (writer_model() if command == "rationales" else warm_model()).save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], method="raft").save(folder / "model")
    rows = [*prompt_dataset([1.0, 2.0, 3.0, 4.0, 5.0, 2.0])] * 20
    text = "".join(json.dumps({**row, "prompt": f"{row['prompt']} {i % 19}"}) + "\n" for i, row in enumerate(rows))
    (folder / "train.jsonl").write_text(text)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(JUDGED.get(command, {})))
    return folder


def start(command: str, folder: Path, log_name: str = "log.txt") -> subprocess.Popen:
    script = Path(sys.executable).with_name("real-trl")
    real_trl = [str(script)] if script.exists() else [sys.executable, "-m", "real_trl.cli"]
    options = SCORE if command == "score" else [STAGES.get(command, command), "--config", "recipe.yaml"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    with (folder / log_name).open("w") as log:
        return subprocess.Popen([*real_trl, *options], cwd=folder, env=environment, stdout=log, stderr=log)


def handles_signals(process: int) -> bool:
    """Whether Python is up and the command has begun, before which nothing can be done about a signal."""
    try:
        (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "SigCgt" in line]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def processes_in(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def assert_nothing_runs(folder: Path) -> None:
    end = time.monotonic() + 10
    while left := processes_in(folder):
        assert time.monotonic() < end, left
        time.sleep(0.05)


def left_alone(command: str, folder: Path) -> tuple[float, float]:
    """When it begins to work, and how long it takes, in seconds."""
    begun = time.monotonic()
    process, begins = start(command, folder), 0.0
    while process.poll() is None:
        if not begins and works(folder):
            begins = time.monotonic() - begun
        time.sleep(0.01)
    assert process.returncode == 0, (folder / "log.txt").read_text()[-3000:]
    return begins, time.monotonic() - begun


def works(folder: Path) -> bool:
    """Whether a command has its output's lock. What is killed leaves the file, but not who held it."""
    try:
        (holder,) = (json.loads(path.read_text()) for path in folder.glob(".out*.lock.json"))
        return psutil.pid_exists(holder["pid"])
    except (ValueError, OSError):
        return False


def assert_same_end(command: str, folder: Path, whole: Path) -> None:
    hidden = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert hidden == [] and not list(folder.rglob(".writing-*"))
    if command in ("sft", "rl"):
        assert_ends_the_same(folder, whole)
        assert_same_checkpoint(*(side / "out" / "checkpoint-12" for side in (folder, whole)))
        return
    names = {
        "evaluate": ["evaluation.json", "report.md", "table.tex", "predictions/model/train/predictions.parquet"],
        "self_generate": ["train.jsonl", "dropped.jsonl"],
        "rationales": ["train.jsonl", "dropped.jsonl"],
        "score": [""],
    }[command]
    for name in names:
        path = Path("out.jsonl" if command == "score" else f"out/{name}")
        assert (folder / path).read_bytes() == (whole / path).read_bytes(), path


def stop(process: subprocess.Popen, number: int, at_work: bool, seconds: float, folder: Path) -> bool:
    """Stop a command so many seconds after its start, or after it has begun to work. `False` if it ended first."""
    # What a killed run left behind looks like work, to which this process has not come yet
    while process.poll() is None and not (handles_signals(process.pid) and (works(folder) or not at_work)):
        time.sleep(0.002)
    begun = time.monotonic()
    while process.poll() is None and time.monotonic() < begun + seconds:
        time.sleep(0.002)
    if process.poll() is None:
        process.send_signal(number)
    status = process.wait(60)
    said = (folder / "log.txt").read_text()
    if number != signal.SIGKILL and status == -number and not list(folder.glob(".out*.lock*")):
        # The command had ended, and Python, which was ending, no longer handled signals: a shell reports the same status
        status = 128 + number
    assert status in (0, STATUS[number]), said[-3000:]
    assert "Traceback" not in said and "Exception ignored" not in said, said[-3000:]
    assert_nothing_runs(folder)
    return status != 0


def clear(folder: Path) -> None:
    for path in folder.glob("out*"):
        (shutil.rmtree if path.is_dir() else os.unlink)(path)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sft", "rl", "evaluate", "score", "self_generate", "rationales"])
def test_a_command_that_is_stopped_again_and_again_ends_as_one_left_alone(tmp_path: Path, command: str):
    print(f"REAL_TRL_KILL_SEED={SEED}", flush=True)
    # Both in a folder of the same name, which results may hold
    whole, folder = (prepare_in(tmp_path / name, command) for name in ("whole", "stopped"))
    begins, takes = left_alone(command, whole)
    draw, compared = random.Random(f"{SEED} {command}"), 1
    signals = [number for number in STATUS for _ in range(MOMENTS)]
    draw.shuffle(signals)
    ended_first = 0
    for number in signals:
        while True:  # a third of the moments is anywhere, the others are while it works
            at_work = draw.random() > 1 / 3
            seconds = 0.8 * draw.random() * max(takes - begins if at_work else takes, 0.1)
            begun = time.monotonic()
            if stop(start(command, folder), number, at_work, seconds, folder):
                break
            ended_first += 1
            takes = min(takes, time.monotonic() - begun)  # beside other work, the first run may have taken much longer
            assert ended_first <= 10 + 2 * len(signals)
            assert_same_end(command, folder, whole)
            compared += 1
            clear(folder)
    left_alone(command, folder)
    assert_same_end(command, folder, whole)
    print(f"{command}: stopped {len(signals)} times at random moments, compared {compared} times", flush=True)


def prepare_in(parent: Path, command: str) -> Path:
    parent.mkdir()
    return prepare(parent / "run", command)


@pytest.mark.slow
def test_killing_the_launcher_ends_its_rank_and_two_launches_exclude_each_other(tmp_path: Path):
    endless = {"max_steps": 10**6, "max_steps_without_signal": 0, "learning_rate": 1e-9, "save_strategy": "no"}
    folder = make_folder(tmp_path / "run", "rl", **endless, eval_strategy="no")
    first = start("rl", folder)
    while not (folder / ".out.lock").exists():
        assert first.poll() is None
        time.sleep(0.05)
    (rank,) = psutil.Process(first.pid).children()
    try:
        assert start("rl", folder, "second.txt").wait(300) == 2
        said = (folder / "second.txt").read_text()
        assert "another process is writing to" in said and f"(process {rank.pid} on " in said
        assert "Traceback" not in said
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    assert_nothing_runs(folder)
