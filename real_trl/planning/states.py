# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of weights, gradients and optimizer: DeepSpeed's own estimate where it shards them."""

import importlib.metadata
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache

from real_trl.planning.setup import Setup, count

GENERATION, UPDATE = "generation", "update"
BOTH = (GENERATION, UPDATE)
# DeepSpeed's defaults, in elements: stage3_max_live_parameters, and reduce_bucket_size = allgather_bucket_size
_MAX_LIVE, _BUCKET = 1_000_000_000, 500_000_000
# Bytes of a weight in bitsandbytes' 4 bits: half a byte, and for 64 weights an absolute maximum in float32. Nested quantisation needs less
_QUANTIZED = 0.5625


@dataclass(frozen=True)
class Item:
    """One part of the memory: its name, bytes per GPU, the moments at which it is there, and how it was worked out."""

    name: str
    bytes: int
    moments: tuple[str, ...]
    how: str


@cache
def _estimators() -> tuple | None:
    """DeepSpeed's functions for ZeRO-2 and ZeRO-3 and its version, or `None` where it cannot be imported."""
    try:
        with redirect_stdout(sys.stderr):  # it reports which accelerator it found
            from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3
            from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2
    except Exception:  # not installed, or without what it compiles with
        return None
    return zero2, zero3, importlib.metadata.version("deepspeed")


def deepspeed_estimate(setup: Setup) -> tuple[int, int, str]:
    """
    Bytes of host memory per node and of each GPU for the model states of the trained parameters in half precision, and the
    source: DeepSpeed's estimators where it is installed, else the same arithmetic.
    """
    if (functions := _estimators()) is None:
        return *zero_arithmetic(setup), "the arithmetic of DeepSpeed 0.19's estimators (DeepSpeed is not installed)"
    zero2, zero3, version = functions
    size, cluster, sharding = setup.size, setup.cluster, setup.sharding
    if sharding.stage == 3:
        offload = sharding.offload_optimizer, sharding.offload_params
        host, gpu, _ = zero3(size.trainable, size.largest_layer, cluster.gpus, cluster.nodes, *offload, True)
    else:
        host, gpu = zero2(size.trainable, cluster.gpus, cluster.nodes, sharding.offload_optimizer)
    return host, gpu, f"estimators of DeepSpeed {version}"


def zero_arithmetic(setup: Setup) -> tuple[int, int]:
    """Bytes per node in the host and on each GPU, as DeepSpeed 0.19.8's estimators work them out (zero_init on)."""
    cluster, sharding, params = setup.cluster, setup.sharding, setup.size.trainable
    shared, layer = params / cluster.world, 4 * setup.size.largest_layer
    if sharding.stage == 3:
        if not sharding.offload_optimizer:
            return int(1.5 * layer * cluster.gpus), layer + int(18 * shared)
        if sharding.offload_params:
            return int(1.5 * 18 * params / cluster.nodes), layer
        return int(1.5 * 16 * params / cluster.nodes), layer + int(2 * shared)
    if sharding.offload_optimizer:
        return int(1.5 * params * max(4 * cluster.world, 16)), 2 * params
    return int(1.5 * 4 * params * cluster.gpus), 2 * params + int(18 * shared)


def model_states(setup: Setup) -> tuple[list[Item], int, str]:
    """
    Weights, gradients and AdamW's states on each GPU, host memory per node, and where the numbers come from.

    DeepSpeed in half precision: 2 bytes a weight, 4 of gradients (its estimators count them in float32), and 12 of the
    float32 copy and AdamW's two moments, sharded by the stage. Frozen weights under LoRA: 2 bytes, sharded in stage 3.
    Without DeepSpeed weights have the type that the model was loaded in, or 4 bits; what is trained, its gradients and both moments are
    float32, since anything less is refused; autocast keeps casts of the weights, and DDP a second copy of the gradients. FSDP2: see
    [`fsdp_states`].
    """
    if setup.sharding.fsdp:
        return fsdp_states(setup), 0, "FSDP2 shards weights, gradients and moments; what is trained is float32"
    size, sharding, world = setup.size, setup.sharding, setup.cluster.world
    frozen, trained = size.total - size.trainable, size.trainable
    if not sharding.stage or not setup.half:
        width = setup.weight_bytes
        parts = [world if sharding.stage >= least else 1 for least in (3, 2, 1)]
        plain = size.total - size.quantized
        how = f"{width} bytes x {count(plain)}"
        if size.lora and width != 4:
            how = f"{width} bytes x {count(plain - trained)}, 4 x {count(trained)} of adapters"
        items = [
            Item("weights", (width * (plain - trained) + 4 * trained) // parts[0], BOTH, how),
            Item("gradients", 4 * trained // parts[1], (UPDATE,), "4 bytes a trained parameter"),
            Item("optimizer (AdamW)", 8 * trained // parts[2], BOTH, "two moments"),
        ]
        if size.quantized:
            how = f"{_QUANTIZED} bytes x {count(size.quantized)}"
            items.append(Item("weights in 4 bits", int(_QUANTIZED * size.quantized), BOTH, how))
        if setup.half and width == 4:
            items.append(Item("weights cast by autocast", 2 * plain, (UPDATE,), f"2 bytes x {count(plain)}"))
        if world > 1 and not sharding.stage:
            items.append(Item("DDP's gradient buckets", 4 * trained, (UPDATE,), "a second copy"))
        return items, 0, "weights in the type the model is loaded in, what is trained in float32"
    host, gpu, source = deepspeed_estimate(setup)
    stage3 = sharding.stage == 3
    gathered = 4 * size.largest_layer if stage3 else 0
    in_host = stage3 and sharding.offload_params
    weights = 0 if in_host else 2 * trained // (world if stage3 else 1)
    rest = max(gpu - gathered - weights, 0)
    gradients = min(rest, rest * 4 // 16 if stage3 else rest * 6 // 18)
    if sharding.stage == 1:  # the estimator is for stage 2; in stage 1 every GPU holds all gradients
        gradients, rest = 4 * trained, 4 * trained + 12 * trained // world
    kept = 0 if in_host else 2 * frozen // (world if stage3 else 1)
    where = (
        "in host memory" if sharding.offload_optimizer else f"12 bytes x {count(trained)} trained{over(world, True)}"
    )
    items = [
        Item("weights (bf16)", weights + kept, BOTH, f"2 bytes x {count(size.total)}{over(world, stage3)}"),
        Item("gradients", gradients, BOTH, over(world, sharding.stage >= 2).strip() or "not sharded"),
        Item("optimizer (AdamW)", rest - gradients, BOTH, where),
    ]
    if stage3:
        items.append(Item("layer being gathered", gathered, BOTH, "4 bytes x the largest layer"))
    live = min(_MAX_LIVE, size.total) if stage3 else min(_BUCKET, trained)
    items.append(
        Item("DeepSpeed's buffers", 2 * (live + min(_BUCKET, trained)), (UPDATE,), "its defaults, 2 bytes an element")
    )
    return items, host + (2 * frozen // setup.cluster.nodes if in_host else 0), source


def fsdp_states(setup: Setup) -> list[Item]:
    """
    FSDP2's weights, gradients and AdamW's states on each GPU. What is trained is in float32, sharded, and what is frozen in the type it
    was loaded in. Whole are two decoder layers, of which one is being gathered, the embeddings and the LM head, in the type that is computed in, and the
    gradients of one layer, with their float32 copy that is added up over the processes.
    """
    size, world = setup.size, setup.cluster.world
    trained, frozen = size.trainable, size.total - size.trainable
    width = 2 if setup.half else 4
    ends = 2 * size.vocab * size.hidden
    layer = max(size.total - ends, 0) // size.layers
    each = over(world, True)
    return [
        Item("weights", (4 * trained + setup.weight_bytes * frozen) // world, BOTH, f"{count(size.total)}{each}"),
        Item("gradients", 4 * trained // world, (UPDATE,), f"4 bytes x {count(trained)}{each}"),
        Item("optimizer (AdamW)", 8 * trained // world, BOTH, f"8 bytes x {count(trained)}{each}"),
        Item(
            "weights gathered for a layer",
            width * (2 * layer + ends),
            (UPDATE,),
            f"{width} bytes x 2 layers, embeddings and head",
        ),
        Item(
            "gradients of a layer", 0 if size.lora else (width + 4) * layer, (UPDATE,), f"{width + 4} bytes x a layer"
        ),
    ]


def over(world: int, sharded: bool) -> str:
    """` / 8 GPUs`, or nothing where every GPU has all of it."""
    return f" / {world} GPUs" if sharded and world > 1 else ""
