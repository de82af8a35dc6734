# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Training stages in one process, and under DDP, DeepSpeed ZeRO-3 and FSDP2 on two CPU processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import get_peft_model
from safetensors.torch import load_file

from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, lora_config, warm_model

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu", "ACCELERATE_TORCH_DEVICE": "cpu"}
# name -> accelerate configuration, what the recipe needs for it, number of processes
BACKENDS: dict[str, tuple[str | None, dict[str, Any], int]] = {
    "one": (None, {"use_cpu": True}, 1),
    "ddp": ("ddp_cpu.yaml", {"use_cpu": True, "ddp_backend": "gloo"}, 2),
    "zero3": ("zero3_cpu.yaml", {"ddp_backend": "gloo"}, 2),
    "fsdp2": ("fsdp2.yaml", {"ddp_backend": "gloo"}, 2),
}
GLOBAL_BATCH = {"sft": 4, "rl": 16, "rl-sampled": 16}  # rows, or completions, of a micro-batch over all processes

# AdamW divides a gradient by its own size, so where a gradient is a rounding error (1e-9) its update is one too. This ε,
# far below the gradients that matter, keeps such updates out of comparisons between runs that add up in another order.
TRAINING = {
    "score_labels": "1-5",
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "adam_epsilon": 1e-5,
    "max_grad_norm": 0.5,  # below the gradient norms here, and not the default
    "gradient_checkpointing": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}
# At 80 tokens five of the 24 rows lose their score: ranks and micro-batches then hold different numbers of scores
RAFT = {**TRAINING, "max_length": 80}
REAL = {**TRAINING, "num_generations": 4, "max_completion_length": 24, "group_filter": "0 < acc < 1"}
# TRL's default dropout is 0.05, and every rank draws its own
NEW_ADAPTER = {"use_peft": True, "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0}

Job = tuple[str, str, dict[str, Any]]


def write_inputs(folder: Path) -> None:
    """`base`, a model; `tied`, one whose LM head is its embedding; `adapter`, LoRA on it with weights that are not zero; `warm`, a model that answers in the right
    form; and 24 rows."""
    models = {
        "base": build_model(initializer_range=0.4),
        "tied": build_model(initializer_range=0.4, tie_word_embeddings=True),
        "warm": warm_model(),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
    torch.manual_seed(2)
    adapter = get_peft_model(models["base"], lora_config(init_lora_weights=False))
    adapter.peft_config["default"].base_model_name_or_path = str(folder / "base")
    adapter.save_pretrained(folder / "adapter")
    for name in (*models, "adapter"):
        TOKENIZER.save_pretrained(folder / name)
    rows = [
        {
            "prompt": "\n".join([PROMPT, *(LINES[(row // 12 + i) % 3] for i in range(1 + row % 12))]),
            "feedback": " ".join(f"{i + 1}) 7+4 is {10 + (row + i) % 3}, right." for i in range(1 + row % 3)),
            "score": 1 + 3 * row % 5,
        }
        for row in range(24)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def launch(folder: Path, backend: str, jobs: dict[str, Job], fails: bool = False) -> str:
    """
    Run `jobs`, `{name: (stage, model, recipe)}`, one after the other in one launch; outputs in `folder/backend/name`.
    Returns standard error.
    """
    config, settings, processes = BACKENDS[backend]
    arguments = []
    for name, (stage, model, recipe) in jobs.items():
        keys = {
            "model_name_or_path": str(folder / model),
            "use_peft": model == "adapter",
            "dataset_name": str(folder / "rows.jsonl"),
            "output_dir": str(folder / backend / name),
            "per_device_train_batch_size": GLOBAL_BATCH[stage] // processes,
            **recipe,
            **settings,
        }
        path = folder / f"{backend}-{name}.yaml"
        path.write_text(yaml.safe_dump(keys))
        arguments += [stage, str(path)]
    launcher = []
    if config is not None:
        with socket.socket() as free:
            free.bind(("", 0))
            port = str(free.getsockname()[1])
        config = str(ROOT / "recipes" / "accelerate_configs" / config)
        launcher = ["accelerate.commands.launch", "--config_file", config, "--main_process_port", port]
        launcher += ["--num_processes", str(processes), "--mixed_precision", "no", "-m"]  # as the recipe says
    result = subprocess.run(
        [sys.executable, "-m", *launcher, "tests.distributed.worker", *arguments],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (result.returncode != 0) == fails, f"{result.stdout[-2000:]}\n{result.stderr[-6000:]}"
    return result.stderr


def weights(path: Path) -> dict[str, torch.Tensor]:
    (file,) = path.glob("*.safetensors")
    return load_file(file)


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Largest difference of two weights."""
    assert first.keys() == second.keys()
    return max((first[name] - second[name]).abs().max().item() for name in first)


def logged(path: Path, key: str) -> list[float]:
    history = json.loads((path / "trainer_state.json").read_text())["log_history"]
    return [entry[key] for entry in history if key in entry]
