# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Changes that make a run fit, each of them verified by planning the run again with it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from real_trl.planning.memory import Memory, plan_memory
from real_trl.planning.models import ModelSize
from real_trl.planning.setup import Setup, Sharding

_MAX_TOGETHER = 4  # changes that are tried at once
_SHOWN = 6
_LONGEST_PROMPT = 1 << 20  # that is tried where the model names no limit


@dataclass(frozen=True)
class Change:
    """
    One option that saves memory.

    Attributes:
        option (`str`):
            What it is about; changes of the same option exclude each other.
        text (`str`):
            What to add to the command, and what it costs.
        apply (`Callable[[Setup], Setup]`):
            The setup with it.
    """

    option: str
    text: str
    apply: Callable[[Setup], Setup]


@dataclass(frozen=True)
class Advice:
    """Changes that together make the run fit, and the need for memory with them."""

    changes: tuple[Change, ...]
    memory: Memory


def possible_changes(setup: Setup, with_lora: Callable[[], ModelSize] | None = None) -> Iterator[Change]:
    """
    What could be changed in a setup, cheapest first.

    Args:
        setup ([`Setup`]):
            The run as it is.
        with_lora (`Callable[[], ModelSize]`, *optional*):
            Sizes of the same model with a LoRA adapter; `None` if it has one.
    """

    def change(option: str, text: str, **values: Any) -> Change:
        return Change(option, text, lambda setup: replace(setup, **values))

    if setup.generation == "vllm":
        if not setup.vllm_sleep:
            yield change("sleep", "--vllm_enable_sleep_mode true (slower to wake)", vllm_sleep=True)
        for share in (0.25, 0.3, 0.4, 0.5, 0.6):
            if share != setup.vllm_share:
                yield change("share", f"--vllm_gpu_memory_utilization {share}", vllm_share=share)
        for parallel in (2, 4, 8):
            if setup.vllm_parallel < parallel <= setup.cluster.gpus:
                yield change("parallel", f"--vllm_tensor_parallel_size {parallel}", vllm_parallel=parallel)
        needed = setup.prompt + setup.completion
        if (setup.vllm_context or setup.size.context or 0) > needed:
            yield change("context", f"--vllm_max_model_length {needed}", vllm_context=needed)
    elif setup.generation == "transformers" and setup.micro_batches > setup.accumulation:
        yield change(
            "reuse",
            f"--steps_per_generation {setup.accumulation} (fewer completions at once)",
            micro_batches=setup.accumulation,
        )
    room = (setup.size.context or setup.prompt) - setup.prompt
    if 0 < room < setup.completion:
        yield change("completion", f"--max_completion_length {room}", completion=room)
    if not setup.checkpointing:
        yield change("checkpointing", "--gradient_checkpointing true (a third more computation)", checkpointing=True)
    if setup.weight_bytes == 4 and not setup.sharding.stage and setup.size.lora:
        yield change("dtype", "--dtype bfloat16 (of the frozen weights)", weight_bytes=2)
    batch = setup.batch // 2
    # In one step a group may be split
    splits = setup.stage == "rl" and setup.iterations == 1 and setup.micro_batches == setup.accumulation
    while batch >= (1 if splits else setup.group):
        if batch % setup.group == 0 or (splits and setup.group % batch == 0):
            factor = setup.batch // batch
            yield change(
                "batch",
                f"--per_device_train_batch_size {batch} --gradient_accumulation_steps {setup.accumulation * factor} (the same step, "
                "in more pieces)",
                batch=batch,
                accumulation=setup.accumulation * factor,
                micro_batches=setup.micro_batches * factor,
            )
        batch //= 2
    yield from _sharding_changes(setup.sharding, setup.cluster.world)
    if with_lora is not None:
        yield Change(
            "lora",
            "--use_peft true --lora_target_modules all-linear --lora_dropout 0 (LoRA, at 10 x the learning rate)",
            lambda setup: replace(setup, size=with_lora()),
        )
    group = setup.group // 2
    if setup.stage == "rl" and group >= 4 and setup.batch == setup.group:
        yield change(
            "group",
            f"--num_generations {group} --per_device_train_batch_size {group} (another K: another experiment)",
            group=group,
            batch=group,
        )
    cluster = setup.cluster
    if setup.sharding.stage == 3:
        for factor in (2, 4):
            larger = replace(cluster, nodes=cluster.nodes * factor)
            if setup.accumulation % factor == 0:
                yield change(
                    "gpus",
                    f"--gpus {larger} --gradient_accumulation_steps {setup.accumulation // factor} (more GPUs, the same step)",
                    cluster=larger,
                    accumulation=setup.accumulation // factor,
                    micro_batches=setup.micro_batches // factor,
                )


def _sharding_changes(sharding: Sharding, world: int) -> Iterator[Change]:
    def change(text: str, stage: int, *offload: bool) -> Change:
        return Change("sharding", text, lambda setup: replace(setup, sharding=Sharding(stage, *offload)))

    if world > 1 and sharding.stage < 2:
        yield change("ZeRO-2: recipes/accelerate_configs/zero2.yaml", 2)
    if sharding.stage < 3:
        yield change("ZeRO-3: recipes/accelerate_configs/zero3.yaml", 3)
    if not sharding.offload_optimizer:
        yield change("ZeRO-3 with offload_optimizer_device: cpu (AdamW steps on the host)", 3, True)
    if not sharding.offload_params:
        yield change("ZeRO-3 with offload_optimizer_device and offload_param_device: cpu (slow)", 3, True, True)


def advise(setup: Setup, with_lora: Callable[[], ModelSize] | None = None) -> list[Advice]:
    """
    The smallest sets of changes with which a run that does not fit does.

    Returns:
        `list[Advice]`: at most six, all with the same number of changes and each of other options; empty if no four
        changes are enough.
    """
    changes = list(possible_changes(setup, with_lora))
    for together in range(1, _MAX_TOGETHER + 1):
        found: dict[frozenset[str], Advice] = {}
        for chosen in combinations(changes, together):
            options = frozenset(change.option for change in chosen)
            if len(options) < together or options in found:
                continue
            changed = setup
            for change in chosen:
                changed = change.apply(changed)
            memory = plan_memory(changed)
            if not memory.problems:
                found[options] = Advice(chosen, memory)
        if found:
            return list(found.values())[:_SHOWN]
    return []


def longest_fitting_prompt(setup: Setup, step: int = 64) -> int:
    """Longest prompt, in multiples of `step` tokens, with which a run fits; 0 if it never does."""
    low, high = 0, (setup.vllm_context or setup.size.context or _LONGEST_PROMPT) // step
    while low < high:
        middle = (low + high + 1) // 2
        if plan_memory(replace(setup, prompt=middle * step)).problems:
            high = middle - 1
        else:
            low = middle
    return low * step
