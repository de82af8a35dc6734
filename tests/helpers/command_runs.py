# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Commands in processes of their own, forked from one that has imported them, on a tiny model and a few rows."""

import json
import multiprocessing
import os
import resource
import signal
from pathlib import Path

import torch
import yaml

from tests.tiny import TOKENIZER, prompt_dataset, warm_model

FORKSERVER = multiprocessing.get_context("forkserver")
STAGES = ("sft", "rl", "evaluate", "self_generate", "score")


def _call(stage: str, folder: str, largest: int | None, log: str) -> None:
    """A stage that may write no file larger than `largest`; its output goes to a pipe, which has no size."""
    os.chdir(folder)
    out = os.open(log, os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from importlib import import_module

    torch.set_num_threads(1)
    module = import_module(f"real_trl.scripts.{stage}")
    if largest is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    module.main(["--config", f"{stage}.yaml"])


def run(stage: str, folder: Path, largest: int | None = None, log: str | None = None) -> tuple[int, str]:
    """Exit status, and what it wrote to the terminal."""
    FORKSERVER.set_forkserver_preload([f"real_trl.scripts.{stage}" for stage in STAGES])
    fifo = folder / "terminal"
    os.mkfifo(fifo)
    process = FORKSERVER.Process(target=_call, args=(stage, str(folder), largest, log or str(fifo)))
    process.start()
    said = "" if log else fifo.read_text(errors="replace")
    process.join(200)
    fifo.unlink()
    return process.exitcode, said


def make_inputs(folder: Path) -> Path:
    """A model, a judge, rows, and a recipe for each stage."""
    warm_model().save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    rows = prompt_dataset([float(1 + i % 5) for i in range(8)])
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({**row, "feedback": "7+4 is 12, right."}) + "\n" for row in rows)
    )
    training = {
        "output_dir": "out", "dataset_name": "train.jsonl", "model_name_or_path": "model", "score_labels": "1-5", "use_cpu": True,
        "bf16": False, "gradient_checkpointing": False, "per_device_train_batch_size": 4, "max_steps": 2, "save_steps": 1,
        "learning_rate": 1.0e-3, "report_to": "none", "disable_tqdm": True,
    }  # fmt: skip
    judging = {"max_new_tokens": 24, "seed": 1}
    data = {"dataset_name": "train.jsonl", "model_name_or_path": "judge", "output_dir": "out"}
    recipes = {
        "sft": training,
        "rl": {**training, "num_generations": 4, "max_completion_length": 24},
        "evaluate": {**judging, **data, "num_resamples": 100, "dataset_test_split": "train"},
        "self_generate": {**judging, **data},
        "score": {**judging, "data": "train.jsonl", "judge": "judge", "output": "scored.jsonl", "prefix": "new_"},
    }
    for stage, recipe in recipes.items():
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(recipe))
    code, said = run("sft", folder)
    assert code == 0, said
    (folder / "out").rename(folder / "judge")
    return folder


def start_anew(inputs: Path, folder: Path) -> Path:
    """A folder to run in."""
    folder.mkdir()
    for path in inputs.iterdir():
        (folder / path.name).symlink_to(path)
    return folder
