# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Batches, lengths and adapters that fit the hardware at hand, as `real-trl plan` counts them."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer, PreTrainedConfig

from real_trl.onboarding.inspection import Inspection
from real_trl.onboarding.rates import learning_rates, note_on_rates, size_in_name
from real_trl.planning.hardware import Hardware
from real_trl.planning.memory import plan_memory
from real_trl.planning.models import find_config, measure
from real_trl.planning.recipe import Lengths, make_setup, read_recipe
from real_trl.planning.setup import Setup, Sharding
from real_trl.prompts.context_length import context_length

_SPARE = 1.25  # on lengths that were estimated, or that a judge may exceed
_SEQUENCES = 16  # rows of an update in supervised training, prompts of one in RL, where there is data enough
_AROUND = 64  # tokens of a chat template around a prompt, and of a label behind the completion
_STEPS = 100  # updates that small data are gone through several times for
LORA = {"use_peft": True, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "lora_target_modules": ["all-linear"]}


@dataclass(frozen=True)
class Sizes:
    """
    What the recipes say about size.

    Attributes:
        sft, rl (`dict`): Options of the two training stages.
        evaluate (`dict`): Options of the evaluation.
        notes (`list[str]`): How they came about, and what does not fit.
    """

    sft: dict[str, Any]
    rl: dict[str, Any]
    evaluate: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def token_counter(model: str) -> Callable[[str], int] | None:
    """Counts a text's tokens as the model does, if its tokenizer is on this machine; nothing is downloaded."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    except (OSError, ValueError):
        return None
    return lambda text: len(tokenizer(text)["input_ids"])


def model_config(model: str) -> PreTrainedConfig | None:
    """A model's configuration, if it can be had."""
    try:
        return find_config(model, Path("init", "raft.yaml"))[0]
    except ValueError:
        return None


def choose_sizes(
    found: Inspection,
    rows: Mapping[str, int],
    hardware: Hardware,
    model: str,
    write: Callable[[Sizes], dict[str, Path]],
) -> Sizes:
    """
    The largest settings, of a short list from the best to the smallest, that the plan says fit.

    Args:
        found ([`~real_trl.onboarding.inspection.Inspection`]):
            Lengths, in tokens.
        rows (`Mapping[str, int]`):
            Rows of `"sft"` (0 without a warm start) and of `"rl"`.
        hardware ([`Hardware`]):
            Where.
        model (`str`):
            The model that training starts from.
        write (`Callable[[Sizes], dict[str, Path]]`):
            Writes recipes of these sizes, and returns those to be planned: stage → recipe.

    Returns:
        [`Sizes`]: the last ones tried, with a note, if none fits or the model's size is not known.
    """
    config = model_config(model)
    context = None if config is None else context_length(config)
    size = size_in_name(model) if config is None else measure(config).total
    prompt, completion, notes = _lengths(found, hardware, context)
    lengths = Lengths(found.prompt.median, min(completion, 200), prompt, "the data")
    problems: list[str] = []
    for lora in (False, True):
        setups = None
        for candidate in _candidates(hardware, lora):
            sizes = _sizes(candidate, rows, hardware, prompt, completion, context, found, size)
            rates = note_on_rates(
                size, sizes.sft["learning_rate"], sizes.rl["learning_rate"] if found.feedback else None
            )
            if context is None:
                notes.append(
                    f"The configuration of {model!r} is not known here (none on this machine, and the Hub did not give it), so nothing was planned: "
                    "check the recipes with `real-trl plan`."
                )
                return replace(sizes, notes=[*notes, rates])
            if setups is None:
                setups = _setups(write(sizes), hardware, lengths)
            problems = [problem for setup in setups for problem in plan_memory(_resized(setup, sizes)).problems]
            if not problems:
                notes.append(f"Planned for {hardware.name}: training fits (`real-trl plan` shows how it was counted).")
                return replace(sizes, notes=[*notes, rates])
    notes.append(
        f"Nothing tried fits {hardware.name}: {problems[0]}. Take a smaller model (--model), or plan for other hardware (--gpus 1xA100-80GB)."
    )
    return replace(sizes, notes=[*notes, rates])


@dataclass(frozen=True)
class _Candidate:
    group: int
    batch: int
    checkpointing: bool
    lora: bool


def _candidates(hardware: Hardware, lora: bool) -> Iterable[_Candidate]:
    """From the best to the smallest."""
    for group in (16, 8, 4) if hardware.gpu else (8, 4):
        yield _Candidate(group, max(group // 2, 2), False, lora)
        yield _Candidate(group, max(group // 2, 2), True, lora)
    yield _Candidate(4, 1, True, lora)


def _lengths(found: Inspection, hardware: Hardware, context: int | None) -> tuple[int, int, list[str]]:
    """Longest prompt and completion to plan for, and what there is to say about them."""
    spare = 1.0 if found.prompt.measured else _SPARE
    prompt = _up(found.prompt.longest * spare)
    wanted = found.feedback.longest * _SPARE + 32 if found.feedback else (512 if hardware.gpu else 256)
    completion = min(_up(wanted), 1024)
    notes = []
    if not found.prompt.measured:
        notes.append("Lengths are estimated from characters, since the model's tokenizer is not on this machine.")
    around = found.prompt.longest + _AROUND
    if context is not None and max(prompt, around) + completion > context:
        completion = min(completion, max(context - around, context // 4))
        if around + completion > context:
            notes.append(
                f"The longest prompt has about {found.prompt.longest} tokens, and the model reads {context} with its answer: shorten such rows, or "
                "take a model with a longer context."
            )
    return prompt, completion, notes


def _up(length: float) -> int:
    """The next multiple of 64."""
    return 64 * math.ceil(max(length, 1) / 64)


def _sizes(
    candidate: _Candidate,
    rows: Mapping[str, int],
    hardware: Hardware,
    prompt: int,
    completion: int,
    context: int | None,
    found: Inspection,
    size: float | None,
) -> Sizes:
    world = hardware.cluster.world
    lora = {}
    if candidate.lora:
        lora = LORA | ({"dtype": "bfloat16"} if hardware.gpu else {})  # of the frozen weights
    sft_rate, rl_rate = learning_rates(size, lora=candidate.lora)
    # Small data in small updates, so that there are enough of them
    update = min(_SEQUENCES if hardware.gpu else _SEQUENCES // 2, max(4, rows["rl"] // 20), rows["rl"])
    accumulation = max(1, round(update / world))
    batch = min(candidate.batch, update)
    sft_length = prompt + _up(found.feedback.longest * _SPARE + 32 if found.feedback else _AROUND)
    common = {"gradient_checkpointing": candidate.checkpointing, **lora}
    sft = {
        "max_length": min(sft_length, context) if context else sft_length,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": max(1, round(update / batch / world)),
        "num_train_epochs": _epochs(rows["sft"], update, 2),
        "learning_rate": sft_rate,
        **common,
    }
    if hardware.fast_half:
        sft |= {"bf16": True, "use_cpu": True}  # the weights that are trained stay in float32
    rl = {
        "num_generations": candidate.group,
        "per_device_train_batch_size": candidate.group,
        "gradient_accumulation_steps": accumulation,
        "max_completion_length": completion,
        "num_train_epochs": _epochs(rows["rl"], update, 1),
        "learning_rate": rl_rate,
        **common,
    }
    evaluate: dict[str, Any] = {"batch_size": 16 if hardware.gpu else 8, "max_new_tokens": completion}
    if not found.feedback:  # a direct judge, which reads its prompts and generates nothing
        evaluate = {"batch_size": 64 if hardware.gpu else 16}
    if hardware.gpu or hardware.fast_half:
        evaluate["dtype"] = "bfloat16"
    return Sizes(sft, rl, evaluate)


def _epochs(rows: int, update: int, least: int) -> int:
    """Epochs that make about a hundred updates: five at most."""
    return max(least, min(5, math.ceil(_STEPS * update / max(rows, 1))))


def _setups(recipes: Mapping[str, Path], hardware: Hardware, lengths: Lengths) -> list[Setup]:
    """What the plan reads in the recipes."""
    overrides = [] if hardware.gpu else ["--bf16", "false"]
    return [
        make_setup(read_recipe(path, overrides, stage), hardware.cluster, Sharding(), lengths)
        for stage, path in recipes.items()
    ]


def _resized(setup: Setup, sizes: Sizes) -> Setup:
    """The same with other batches, so that the model is counted once only."""
    options = sizes.sft if setup.stage == "sft" else sizes.rl
    return replace(
        setup,
        batch=options["per_device_train_batch_size"],
        accumulation=options["gradient_accumulation_steps"],
        micro_batches=options["gradient_accumulation_steps"],
        group=options.get("num_generations", 1),
        checkpointing=options["gradient_checkpointing"],
    )


def as_yaml(options: Mapping[str, Any]) -> str:
    """Options as a recipe writes them: one a line, lists and mappings in brackets."""
    lines = []
    for name, value in options.items():
        flow = isinstance(value, list | dict)
        shown = yaml.safe_dump(
            value if flow else {name: value},
            default_flow_style=flow,
            sort_keys=False,
            allow_unicode=True,
            width=10_000,
        )
        lines.append(f"{name}: {shown}" if flow else shown)
    return "".join(lines)
