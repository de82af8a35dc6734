# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a plan is made for: the GPUs, how DeepSpeed shares the model among them, and the options that memory depends on."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from accelerate.commands.config.config_args import load_config_from_file

from real_trl.option_values import FieldError
from real_trl.planning.models import ModelSize
from real_trl.shipped import find_file
from real_trl.text.redaction import yaml_fault

GIB = 2**30
CPU = "CPU"  # name of a cluster without GPUs
_CLUSTER = re.compile(r"(?:(\d+)x)?(\d+)x([A-Za-z][\w.-]*?)-(\d+(?:\.\d+)?)GB", re.IGNORECASE)


def count(number: float) -> str:
    """`7.24B`, `0.45M`."""
    return f"{number / 1e9:.2f}B" if number >= 1e8 else f"{number / 1e6:.2f}M"


@dataclass(frozen=True)
class Cluster:
    """
    The GPUs of a run.

    Attributes:
        nodes, gpus (`int`):
            Nodes, and GPUs in each.
        name (`str`):
            Of the GPU, or `CPU`.
        memory (`int`):
            Bytes on each GPU. What is sold as a GB is 2^30 bytes, of which GPUs show 98-99%.
    """

    nodes: int
    gpus: int
    name: str
    memory: int

    @classmethod
    def parse(cls, text: str) -> "Cluster":
        """`"8xA100-80GB"`, or `"2x8xA100-80GB"` for two nodes; `ValueError` for anything else."""
        match = _CLUSTER.fullmatch(text.strip())
        if not match or int(match[1] or 1) < 1 or int(match[2]) < 1 or float(match[4]) <= 0:
            fix = "Write [nodes x] GPUs x name-memory, e.g. 8xA100-80GB, 1xH100-80GB, or 2x8xA100-80GB for two nodes of eight."
            raise FieldError("--gpus", text, fix)
        return cls(int(match[1] or 1), int(match[2]), match[3], int(float(match[4]) * GIB))

    @property
    def is_processor(self) -> bool:
        """Whether there is no GPU in it."""
        return self.name.upper() == CPU

    @property
    def world(self) -> int:
        """Number of GPUs, and of processes."""
        return self.nodes * self.gpus

    def __str__(self) -> str:
        nodes = f"{self.nodes}x" if self.nodes > 1 else ""
        return f"{nodes}{self.gpus}x{self.name}-{self.memory / GIB:.4g}GB"


@dataclass(frozen=True)
class Sharding:
    """
    DeepSpeed's ZeRO stage, 0 for plain data parallelism, and what is kept in the memory of the host; or `fsdp`, FSDP2, which
    shards all that stage 3 does.
    """

    stage: int = 0
    offload_optimizer: bool = False
    offload_params: bool = False
    fsdp: bool = False

    def __str__(self) -> str:
        if self.fsdp:
            return "FSDP2"
        if not self.stage:
            return "data parallelism without DeepSpeed"
        moved = [n for n, on in (("optimizer", self.offload_optimizer), ("parameters", self.offload_params)) if on]
        return f"ZeRO-{self.stage}" + (f", {' and '.join(moved)} in host memory" if moved else "")


@dataclass(frozen=True)
class Setup:
    """
    Everything that the need for memory is worked out from.

    Attributes:
        cluster ([`Cluster`]), sharding ([`Sharding`]), size ([`ModelSize`]):
            GPUs, ZeRO, model.
        stage (`str`):
            `"sft"` or `"rl"`.
        batch (`int`):
            Sequences per GPU and micro-batch (`per_device_train_batch_size`).
        accumulation (`int`):
            Micro-batches per optimizer step.
        group (`int`):
            K, completions per prompt; 1 in supervised training.
        shared (`bool`):
            Whether a prompt is read once for its completions (`shared_prefix`, and the architecture takes it).
        micro_batches, iterations (`int`):
            `steps_per_generation` and `num_iterations`; the accumulation and 1 in supervised training.
        prompt, completion (`int`):
            Longest prompt and completion, in tokens.
        half (`bool`):
            Whether computations run in bfloat16 (or float16).
        weight_bytes (`int`):
            Bytes of a weight as it is loaded (`dtype`), which DeepSpeed in half precision makes 2. Of those in 4 bits, see [`ModelSize`].
        reference (`bool`):
            Whether a reference model is held for a KL penalty.
        generation (`str`):
            `"none"` (supervised), `"transformers"`, `"vllm"` (colocated) or `"server"` (on other GPUs).
        vllm_share (`float`), vllm_parallel (`int`), vllm_sleep (`bool`), vllm_context (`int`, *optional*):
            `vllm_gpu_memory_utilization`, `vllm_tensor_parallel_size`, `vllm_enable_sleep_mode`, `vllm_max_model_length`.
    """

    cluster: Cluster
    sharding: Sharding
    size: ModelSize
    stage: str
    batch: int
    accumulation: int
    group: int
    micro_batches: int
    iterations: int
    prompt: int
    completion: int
    shared: bool
    checkpointing: bool
    half: bool
    weight_bytes: int
    reference: bool
    generation: str
    vllm_share: float = 0.0
    vllm_parallel: int = 1
    vllm_sleep: bool = False
    vllm_context: int | None = None

    @property
    def tokens(self) -> int:
        """Tokens that a micro-batch reads on one GPU, when every sequence has the full length."""
        return self.batch * self.completion + self.prompts * self.prompt

    @property
    def prompts(self) -> int:
        """Prompts that a micro-batch reads on one GPU."""
        return -(-self.batch // self.group) if self.shared else self.batch


def _check_fsdp(path: Path, options: dict[str, Any]) -> None:
    """`ValueError` for kinds of FSDP that are not planned for."""
    for name, wanted in (("fsdp_version", 2), ("fsdp_offload_params", False)):
        value = options.get(name, wanted)
        if value != wanted:
            raise ValueError(
                f"--accelerate_config: {str(path)!r} has {name} {value}, which is not planned for. Set it to {str(wanted).lower()}, as in "
                "fsdp2.yaml."
            )


def read_sharding(path: str | Path) -> tuple[Sharding, int, int]:
    """
    What a configuration of `accelerate launch` says: sharding, number of processes, number of machines.

    Raises:
        ValueError: if the file is missing or is no such configuration, or shards in another way than with DeepSpeed or FSDP2.
    """
    path = find_file(path)
    if not path.is_file():
        raise ValueError(
            f"--accelerate_config: {str(path)!r} does not exist. Give one that `real-trl recipes` lists: accelerate_configs/zero3.yaml."
        )
    try:
        config = load_config_from_file(str(path))
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        fault = yaml_fault(error) if isinstance(error, yaml.YAMLError) else error
        raise ValueError(
            f"--accelerate_config: {str(path)!r} is no configuration of accelerate ({fault}). Give one of "
            "recipes/accelerate_configs/*.yaml."
        ) from None
    kind = getattr(config.distributed_type, "value", config.distributed_type)
    if kind not in ("NO", "MULTI_GPU", "MULTI_CPU", "DEEPSPEED", "FSDP"):
        raise ValueError(
            f"--accelerate_config: {str(path)!r} has distributed_type {kind}, which is not planned for. Use DeepSpeed (zero3.yaml), "
            "FSDP2 (fsdp2.yaml) or plain data parallelism (ddp.yaml)."
        )
    if kind == "FSDP":
        _check_fsdp(path, config.fsdp_config)
        return Sharding(3, fsdp=True), int(config.num_processes), int(getattr(config, "num_machines", 1))
    options = config.deepspeed_config or {}
    sharding = Sharding(
        stage=int(options.get("zero_stage", 0)),
        offload_optimizer=options.get("offload_optimizer_device", "none") not in ("none", None),
        offload_params=options.get("offload_param_device", "none") not in ("none", None),
    )
    return sharding, int(config.num_processes), int(getattr(config, "num_machines", 1))
