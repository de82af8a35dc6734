# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a training recipe to what a plan needs: its setup, and the schedule of its steps."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset
from transformers import PreTrainedConfig
from trl import ModelConfig, get_peft_config

from real_trl.arguments.training import StageArguments, make_parser
from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.forward.support import why_config_not_exact
from real_trl.option_values import FieldError
from real_trl.planning.models import ModelSize, find_config, measure
from real_trl.planning.setup import Cluster, Setup, Sharding, read_sharding
from real_trl.scale import Scale
from real_trl.shipped import find_file
from real_trl.trainers import RAFTConfig, REALConfig

CONFIGS = {"sft": RAFTConfig, "rl": REALConfig}
# Rows of the training split, as its page on the Hub gives them
PUBLISHED_ROWS = {"prometheus-eval/Feedback-Collection": 99_952}
_COMMAND = re.compile(r"^#.*-m real_trl\.scripts\.(\w+)", re.MULTILINE)
_LAUNCH = re.compile(r"^#.*--config_file (\S+).*-m real_trl\.scripts\.", re.MULTILINE)


@dataclass(frozen=True)
class Lengths:
    """
    Tokens of prompts and completions.

    Attributes:
        prompt, completion (`float`):
            Means, for totals.
        longest_prompt (`int`):
            For memory.
        alike (`float`, *optional*):
            Tokens that all prompts of a direct judge's batch begin with, and that are read once; 0 where nothing is shared, `None` if not known.
        direct (`bool`):
            Whether completions are marker and score alone.
        source (`str`):
            Where they come from.
    """

    prompt: float = 1200
    completion: float = 200
    longest_prompt: int = 2048
    alike: float | None = 0.0
    direct: bool = False
    source: str = "assumed, as is usual for prompts in the form of Feedback-Collection"


@dataclass(frozen=True)
class Schedule:
    """
    How a run goes through its data.

    Attributes:
        rows (`int`, *optional*), rows_source (`str`):
            Rows of the training split, and where the number comes from.
        prompts_per_step, sequences_per_step (`int`):
            Per optimizer step, over all GPUs. The same number in supervised training.
        prompts_per_generation, updates_per_generation (`int`):
            Prompts that are sampled from at once, and optimizer steps on them.
    """

    rows: int | None
    rows_source: str
    prompts_per_step: int
    sequences_per_step: int
    prompts_per_generation: int
    updates_per_generation: int
    steps_per_epoch: int | None
    steps: int | None
    lengths: Lengths

    @property
    def tokens_per_step(self) -> int:
        """Tokens that one optimizer step trains on: prompts and completions at their mean lengths."""
        return round(self.sequences_per_step * (self.lengths.prompt + self.lengths.completion))


@dataclass(frozen=True, eq=False)
class Recipe:
    """
    A training recipe, parsed by its stage's own parser.

    Attributes:
        path (`Path`), stage (`str`):
            The file, and `"sft"` or `"rl"`.
        data, config, model, stage_args:
            What the parser made of it.
        half (`bool`, *optional*):
            Whether it computes in half precision; `None` for where a GPU has it.
        model_config ([`~transformers.PreTrainedConfig`]), model_source (`str`):
            The model, and where its configuration comes from.
    """

    path: Path
    stage: str
    data: DataArguments
    config: Any
    model: ModelConfig
    stage_args: StageArguments
    half: bool | None
    model_config: PreTrainedConfig
    model_source: str

    @cache  # noqa: B019 - one recipe a process
    def size(self, lora: bool | None = None) -> ModelSize:
        """Size of the model, with a LoRA adapter if the recipe asks for one, or as `lora` says."""
        model = self.model
        if lora and not model.use_peft:
            model = ModelConfig(use_peft=True, lora_target_modules=["all-linear"], lora_dropout=0.0)
        adapter = get_peft_config(model) if lora or (lora is None and model.use_peft) else None
        return measure(self.model_config, adapter, model.load_in_4bit)

    @property
    def with_lora(self) -> Callable[[], ModelSize] | None:
        """Size of the same model with an adapter, or `None` if it has one."""
        return None if self.model.use_peft else lambda: self.size(lora=True)


def read_recipe(path: str | Path, overrides: Sequence[str], stage: str | None) -> Recipe:
    """
    Parse a training recipe with options of the command line over it.

    Raises:
        ValueError: if it is no recipe of a training stage, or an option is wrong, or the model cannot be found.
    """
    path = find_file(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"--config {path}: no such file. Give the path of a training recipe, or the name of one that `real-trl recipes` lists."
        )
    text = path.read_text(encoding="utf-8")
    found = _COMMAND.search(text)
    stage = stage or (found[1] if found else None)
    if stage not in CONFIGS:
        what = f"is a recipe of the stage {stage!r}" if stage else "names no stage in its first comment"
        raise ValueError(
            f"--config {path}: {what}; only training is planned for. Give a recipe of {' or '.join(CONFIGS)}"
            + ("." if stage else ", or say which it is with --stage.")
        )
    # Planned on a machine that may have no GPU, where `bf16: true` is refused without `use_cpu`
    argv = ["--config", str(path), *overrides, "--use_cpu", "true"]
    stage_args, data, config, model = make_parser(CONFIGS[stage]).parse_args_and_config(argv)
    if model.load_in_8bit:
        said = ": got true, but weights in 8 bits are not planned for"
        raise FieldError("load_in_8bit", True, "Set it to false, or load_in_4bit to true.", said)
    if model.load_in_4bit and not model.use_peft:
        said = ": got true for full training, which weights in 4 bits cannot have"
        raise FieldError("load_in_4bit", True, "Set use_peft to true, or load_in_4bit to false.", said)
    stated = {**yaml.safe_load(text), **_options(overrides)}
    asked = [str(stated[name]).lower() == "true" for name in ("bf16", "fp16") if stated.get(name) is not None]
    half = any(asked) if asked else None
    model_config, source = find_config(model.model_name_or_path, path, synthetic=data.dataset_name == "synthetic")
    return Recipe(path, stage, data, config, model, stage_args, half, model_config, source)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """`--name value` pairs."""
    return {a[2:]: b for a, b in zip(arguments, arguments[1:], strict=False) if a.startswith("--")}


def recipe_sharding(recipe: Path, cluster: Cluster) -> tuple[Sharding, str]:
    """The sharding of the `accelerate launch` command in the recipe's first comment, and where it is from."""
    launch = _LAUNCH.search(recipe.read_text(encoding="utf-8"))
    if launch:
        near = (folder / launch[1] for folder in (Path(), *recipe.resolve().parents))
        config = next((path for path in near if path.is_file()), find_file(launch[1], tell=False))
        if config.is_file():
            sharding, processes, _ = read_sharding(config)
            asks = f" --num_processes {cluster.world}" if processes != cluster.world else ""
            return sharding, f"{launch[1]}{asks}, as in the recipe's command"
    if cluster.world == 1:
        return Sharding(0), "one process"
    return Sharding(3), "ZeRO-3: the recipe's command names no configuration"


def make_setup(recipe: Recipe, cluster: Cluster, sharding: Sharding, lengths: Lengths) -> Setup:
    """
    What memory is worked out from.

    Raises:
        ValueError: for full training of weights in half precision where nothing keeps a float32 copy, which the trainers refuse.
    """
    config = recipe.config
    if recipe.model.dtype in ("bfloat16", "float16") and not recipe.model.use_peft and sharding.stage == 0:
        said = f": got {recipe.model.dtype} for full training without ZeRO, which would lose nearly all updates and is refused"
        fix = "Leave it out (the weights are float32 then, and bf16: true computes in bfloat16), or train with --zero 2 or 3, or LoRA (use_peft: true)."
        raise FieldError("dtype", recipe.model.dtype, fix, said)
    if recipe.model.load_in_4bit and sharding.stage:
        said = f": got true with {sharding}, which is not planned for"
        raise FieldError(
            "load_in_4bit", True, "Use data parallelism: recipes/accelerate_configs/ddp.yaml, or --zero 0.", said
        )
    common = {
        "cluster": cluster,
        "sharding": sharding,
        "size": recipe.size(),
        "stage": recipe.stage,
        "batch": config.per_device_train_batch_size,
        "accumulation": config.gradient_accumulation_steps,
        "checkpointing": bool(config.gradient_checkpointing),
        "half": not cluster.is_processor if recipe.half is None else recipe.half,
        "weight_bytes": 4 if recipe.model.dtype in (None, "float32") else 2,
    }
    if recipe.stage == "sft":
        longest = config.max_length or lengths.longest_prompt + round(2 * lengths.completion)
        return Setup(
            **common,
            group=1,
            micro_batches=config.gradient_accumulation_steps,
            iterations=1,
            prompt=longest,
            completion=0,
            shared=False,
            reference=False,
            generation="none",
        )
    generation = "transformers"
    if config.use_vllm:
        generation = "vllm" if config.vllm_mode == "colocate" else "server"
    return Setup(
        **common,
        group=config.num_generations,
        micro_batches=config.steps_per_generation,
        iterations=config.num_iterations,
        prompt=lengths.longest_prompt,
        completion=config.max_completion_length,
        shared=config.shared_prefix
        and recipe.model.attn_implementation in (None, "sdpa")
        and why_config_not_exact(recipe.model_config) is None
        and not (recipe.model.use_peft and recipe.model.lora_dropout),
        reference=config.beta != 0 and not recipe.model.use_peft,
        generation=generation,
        vllm_share=config.vllm_gpu_memory_utilization,
        vllm_parallel=config.vllm_tensor_parallel_size,
        vllm_sleep=config.vllm_enable_sleep_mode,
        vllm_context=config.vllm_max_model_length,
    )


def training_rows(recipe: Recipe) -> tuple[Dataset | None, int | None, str]:
    """The recipe's training data if it is on this machine, the number of its rows, and where the number comes from."""
    data, name = recipe.data, recipe.data.dataset_name
    if name == "synthetic" or Path(name).exists():
        scale = Scale.parse(recipe.config.score_labels, recipe.config.score_values)
        rationale = recipe.config.rationale if recipe.stage == "sft" else False
        dataset = load_judge_dataset(data, scale=scale, marker=recipe.config.score_marker, require_feedback=rationale)
        return dataset, len(dataset), f"{name}, split {data.dataset_train_split!r}"
    rows, source = PUBLISHED_ROWS.get(name), f"published figure of {name}"
    if rows is None:
        for stage in sorted(recipe.path.parent.glob("*.yaml")):
            options = yaml.safe_load(stage.read_text(encoding="utf-8"))
            if isinstance(options, dict) and options.get("output_dir") == name:
                made_from = options.get("dataset_name")
                rows, source = (
                    PUBLISHED_ROWS.get(made_from),
                    f"{stage.name} makes at most a row for each of {made_from}",
                )
    if rows is None:
        return None, None, f"unknown: {name} is not on this machine; give --rows"
    return None, min(rows, data.max_rows or rows), source


def make_schedule(setup: Setup, config: Any, rows: int | None, rows_source: str, lengths: Lengths) -> Schedule:
    """How many prompts, steps and updates."""
    per_micro_step = setup.batch * setup.cluster.world
    sequences = per_micro_step * setup.accumulation
    generation = per_micro_step * setup.micro_batches // setup.group
    updates = setup.micro_batches * setup.iterations // setup.accumulation
    steps_per_epoch = None
    if rows is not None:
        if setup.stage == "sft":
            steps_per_epoch = -(-rows // sequences)
        else:
            steps_per_epoch = rows // generation * updates if updates else rows * setup.group // sequences
    steps = config.max_steps if config.max_steps > 0 else None
    if steps is None and steps_per_epoch is not None:
        steps = round(steps_per_epoch * config.num_train_epochs)
    return Schedule(
        rows=rows,
        rows_source=rows_source,
        prompts_per_step=sequences // setup.group,
        sequences_per_step=sequences,
        prompts_per_generation=generation,
        updates_per_generation=updates,
        steps_per_epoch=steps_per_epoch,
        steps=steps,
        lengths=lengths,
    )
