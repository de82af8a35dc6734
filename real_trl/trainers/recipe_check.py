# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which checkpoint a stage goes on from, and whether its recipe is still the one that the checkpoint was made with."""

import json
from dataclasses import asdict, fields, is_dataclass
from enum import Enum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainingArguments

from real_trl.option_values import FieldError
from real_trl.prompts.format import PromptFormat
from real_trl.runs.fingerprints import data_fingerprint
from real_trl.text.json_text import to_json
from real_trl.text.redaction import redacted, without_secrets
from real_trl.trainers.checkpoints import (
    are_damaged,
    check_checkpoint,
    last_complete_checkpoint,
    list_checkpoints,
    read_manifest,
)
from real_trl.versions import package_versions

# Launch-only fields, excluded from the comparison
_LEFT_OUT = "do_train do_eval do_predict output_dir hub_token resume_from_checkpoint local_rank use_cpu debug"
# What can change in the middle of a run without a change to what it learns
_SAFE = """
    logging_* log_level log_level_replica log_on_each_node log_completions log_multimodal log_unique_prompts
    num_completions_to_print report_to run_name project trackio_* disable_tqdm include_num_input_tokens_seen
    include_for_metrics prediction_loss_only batch_eval_metrics
    save_* enable_jit_checkpoint push_to_hub hub_* skip_memory_metrics torch_empty_cache_steps
    eval_* per_device_eval_batch_size num_generations_eval dataset_test_split
    dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
    dataset_num_proc ddp_timeout trust_remote_code versions.*
    preflight_scored_rate max_steps_without_signal hash_checkpoints float32_outputs
    vllm_server_* vllm_group_port vllm_gpu_memory_utilization vllm_enable_sleep_mode
"""
# Under DeepSpeed these come back with the optimizer's state, whatever the recipe says
_IN_OPTIMIZER_STATE = "learning_rate weight_decay adam_*"
_TRAINED_ON = ("prompt", "score", "score_histogram", "feedback", "other_prompt", "preference")


def checkpoint_to_resume(training_args: TrainingArguments) -> str | None:
    """
    The checkpoint to go on from, by `resume_from_checkpoint`: unset or `true` is the last complete one in `output_dir`,
    if there is one; `false` starts anew; anything else is a path.

    Raises:
        ValueError: if a checkpoint that was asked for is not complete (naming what is wrong and the last complete one); if there
            are damaged ones, and no other;
            with `false`, if `output_dir` holds checkpoints, which would be overwritten.
    """
    wanted, output_dir = training_args.resume_from_checkpoint, training_args.output_dir
    choice = "true" if wanted is None else str(wanted).lower()
    if choice == "false":
        if present := list_checkpoints(output_dir):
            said = (
                f": got false, but output_dir={output_dir!r} holds {present[0].name}, which a new run would overwrite"
            )
            fix = "Leave it out to go on from there, choose another output_dir, or delete the checkpoints."
            raise FieldError("resume_from_checkpoint", False, fix, said)
        return None
    if choice != "true":
        check_checkpoint(wanted, hashes=training_args.hash_checkpoints)
        _say(training_args, f"Going on from {wanted}")
        return str(wanted)
    last, faulty = last_complete_checkpoint(output_dir, hashes=training_args.hash_checkpoints)
    for path, fault in faulty.items():
        _say(training_args, f"Skipping {path}: {fault}")
    if last is None and are_damaged(faulty):
        raise ValueError(
            f"resume_from_checkpoint: no checkpoint in output_dir={output_dir!r} can be gone on from "
            f"({'; '.join(f'{path.name}: {fault}' for path, fault in faulty.items())}). Nothing was changed. Put back the files, or choose "
            "another output_dir, or delete these checkpoints to start anew."
        )
    if last is not None:
        _say(training_args, f"Going on from {last} (resume_from_checkpoint: false and a new output_dir start anew)")
    elif faulty or wanted is not None:
        _say(training_args, f"No complete checkpoint in {output_dir}: starting from the beginning")
    return str(last) if last else None


def resolve_recipe(
    training_args: TrainingArguments, data_args: Any, model_args: Any, prompt_format: PromptFormat, dataset: Dataset
) -> dict[str, dict[str, Any]]:
    """
    What a run is made of, as JSON: every argument after defaults, the number of processes, and the training data by its
    contents. Without paths of the output, devices, and secrets.

    Args:
        training_args, data_args, model_args:
            The parsed recipe.
        prompt_format ([`PromptFormat`]):
            What stands around the prompts.
        dataset ([`~datasets.Dataset`]):
            The training data in the canonical schema.

    Returns:
        `dict[str, dict]`: by section.
    """
    plugin = getattr(training_args, "deepspeed_plugin", None)
    sections = {
        "training": _plain(training_args),
        "data": _plain(data_args),
        "model": _plain(model_args),
        "run": {
            "chat": prompt_format.chat,
            "system_prompt": prompt_format.system_prompt,
            "world_size": training_args.world_size,
            "zero_stage": plugin.zero_stage if plugin is not None else 0,
        },
        "training_data": {"rows": len(dataset), "sha256": fingerprint(dataset)},
        "versions": package_versions(),
    }
    return without_secrets(json.loads(to_json(sections)))


def check_recipe(checkpoint: str | Path, recipe: dict[str, dict[str, Any]], *, allow_changed: bool) -> list[str]:
    """
    Compare a recipe with the one that a complete checkpoint was made with. Changes that make no difference to what is
    learned go on; so do settings of the data where the rows they lead to are the same.

    Args:
        recipe (`dict`):
            From [`resolve_recipe`].
        allow_changed (`bool`):
            Go on with other changes too.

    Returns:
        `list[str]`: a line for every change that goes on.

    Raises:
        ValueError: naming each other change with its old and new value.
    """
    old = read_manifest(checkpoint)["recipe"]
    if old is None:
        return [f"{checkpoint} does not record its recipe (it was not written by a stage): it cannot be compared"]
    same_data = old["training_data"] == recipe["training_data"]
    safe: list[str] = []
    unsafe: list[str] = []
    for section, values in recipe.items():
        for name, value in values.items():
            before = old.get(section, {}).get(name, value)
            if before == value or without_secrets({name: before}) == without_secrets({name: value}):
                continue
            qualified = f"{section}.{name}" if section in ("training_data", "versions") else name
            change = f"{qualified}: {redacted(before)!r} in the checkpoint, {value!r} now"
            harmless = _matches(qualified, _SAFE) or (section == "data" and same_data)
            if not harmless and recipe["run"]["zero_stage"] and _matches(name, _IN_OPTIMIZER_STATE):
                raise ValueError(
                    f"{change}. With DeepSpeed it comes back with the optimizer's state and cannot be changed on resuming: put it "
                    "back, or start a new run from the checkpoint as model_name_or_path."
                )
            (safe if harmless else unsafe).append(change)
    if unsafe and not allow_changed:
        raise ValueError(
            f"the recipe is not the one that {checkpoint} was made with: {'; '.join(unsafe)}. Put it back, choose another "
            "output_dir to start anew, or add `--allow_changed_recipe true` to go on with the new one."
        )
    return [f"Changed, which makes no difference to training: {change}" for change in safe] + [
        f"Changed (allow_changed_recipe): {change}" for change in unsafe
    ]


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 over the columns that training reads."""
    return data_fingerprint(dataset.select_columns([c for c in _TRAINED_ON if c in dataset.column_names]))


def _plain(arguments: Any) -> dict[str, Any]:
    values = {f.name: getattr(arguments, f.name) for f in fields(arguments) if f.init}
    return {name: _json(value) for name, value in values.items() if not _matches(name, _LEFT_OUT)}


def _json(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_json(item) for item in (sorted(value) if isinstance(value, set) else value)]
    if hasattr(value, "to_dict"):
        return _json(value.to_dict())
    if is_dataclass(value):
        return _json(asdict(value))
    # An object's own text may hold its address, which would look like a change
    return str(value) if isinstance(value, (Path, torch.dtype, torch.device)) else type(value).__name__


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split())


def _say(training_args: TrainingArguments, line: str) -> None:
    if training_args.process_index == 0:
        print(line, flush=True)
