# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a report is about, so that it can be read on another machine."""

import os
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import torch
from accelerate import PartialState

from real_trl.doctor.subject import Subject, dtype_name


def describe(subject: Subject, state: PartialState, command_line: str) -> dict[str, Any]:
    """
    By name; `None` for what there is not.

    Args:
        subject ([`~real_trl.doctor.subject.Subject`]):
            What is examined.
        state ([`~accelerate.PartialState`]):
            Of the processes that examine it.
        command_line (`str`):
            As it was given.
    """
    recipe, device = subject.recipe, subject.device
    heads = subject.text.num_attention_heads
    return {
        "command": command_line,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "recipe": None if recipe is None else str(recipe.path),
        "sha256 of the recipe": None if recipe is None else sha256(recipe.path.read_bytes()).hexdigest(),
        "stage": None if recipe is None else recipe.stage,
        "model": f"like {subject.config.model_type}" if recipe is None else recipe.model.model_name_or_path,
        "dtype": dtype_name(subject.dtype),
        "heads": f"{heads} of {subject.head_dim}, {subject.groups} to each key",
        "device": torch.cuda.get_device_name(device) if subject.is_gpu else device.type,
        "processes": state.num_processes,
        "sharding": _sharding(),
        "mixed precision of accelerate": os.environ.get("ACCELERATE_MIXED_PRECISION"),
    }


def _sharding() -> str | None:
    """As `accelerate launch` says it to the processes that it starts."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true":
        return f"DeepSpeed, ZeRO stage {os.environ.get('ACCELERATE_DEEPSPEED_ZERO_STAGE', 'of its own configuration')}"
    if os.environ.get("ACCELERATE_USE_FSDP", "false") == "true":
        return f"FSDP, version {os.environ.get('FSDP_VERSION', '1')}"
    return None
