# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
r"""
Memory per GPU at the two moments that decide: while completions are generated, and in the backward pass of an update.

Model states (weights, gradients, AdamW) are DeepSpeed's own estimate where it shards, see [`model_states`]. Activations
are those of a decoder with grouped-query attention, gated MLP and RMSNorm as transformers computes it: what autograd saves,
counted tensor by tensor, see [`layer_bytes`]; `tests/test_plan.py` compares the count with what autograd really saves and
with the measured peak of a small model. The idea of counting them this way, and of recomputing one layer at a time, is
Korthikanti et al. 2022 (arXiv 2205.05198), whose 34·h + 5·heads·T is for GPT-2's layer and stored attention maps. Sizes are
bytes; h is the hidden size, I the MLP's width, A = heads·head_dim, T the sequence length. The sequences of a micro-batch are
taken at full length, which is the worst case that a run must survive.
"""

import importlib.metadata
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass

from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

from real_trl.planning.models import ModelSize
from real_trl.planning.setup import GIB, Setup, count

GENERATION, UPDATE = "generation", "update"
BOTH = (GENERATION, UPDATE)
USABLE = 0.95  # of a GPU's memory; the rest is lost to the driver and to fragmentation
# Assumed, not computed
CONTEXT = 2 * GIB  # CUDA context, NCCL and cuBLAS workspaces
VLLM_WORKSPACE = 3 * GIB // 2  # activations of a 4,096-token batch and CUDA graphs, inside vLLM's share
VLLM_ASLEEP = 1 * GIB  # what vLLM keeps in sleep mode
# DeepSpeed's defaults, in elements: stage3_max_live_parameters, and reduce_bucket_size = allgather_bucket_size
_MAX_LIVE, _BUCKET = 1_000_000_000, 500_000_000


@dataclass(frozen=True)
class Item:
    """One part of the memory: its name, bytes per GPU, the moments at which it is there, and how it was worked out."""

    name: str
    bytes: int
    moments: tuple[str, ...]
    how: str


@dataclass(frozen=True)
class Memory:
    """
    The need for memory, and whether it is there.

    Attributes:
        items (`list[Item]`):
            Parts per GPU.
        capacity (`int`):
            Usable bytes per GPU.
        host (`int`):
            Bytes of host memory per node that the model states take.
        checkpoint (`int`):
            Bytes on disk of one training checkpoint.
        kv_tokens (`int`, *optional*):
            Tokens that vLLM's cache holds, per group of tensor-parallel GPUs.
        problems (`list[str]`):
            What does not fit or cannot start; empty if the run is possible.
        source (`str`):
            Where the model states come from.
    """

    items: list[Item]
    capacity: int
    host: int
    checkpoint: int
    kv_tokens: int | None
    problems: list[str]
    source: str

    def peak(self, moment: str) -> int:
        """Bytes per GPU at `"generation"` or `"update"`."""
        return sum(item.bytes for item in self.items if moment in item.moments)


def layer_bytes(size: ModelSize, length: int, *, residual: int = 2) -> int:
    """
    Bytes per token that autograd saves in one decoder layer, in bfloat16.

    Two RMSNorms (the input in float32, the normalised and the scaled one: 8h each); attention with a padding mask (queries,
    keys and values repeated for every query head, output: 8A; log-sum-exp; the mask as a bias: 2T); the MLP (gate, its
    activation, up, their product: 8I); Qwen3's norms of queries and keys. With weights in float32 under autocast
    (`residual=4`) the norms also keep their input and every linear layer its own cast of it: 26h in place of 16h.
    """
    attention, kv = size.heads * size.head_dim, size.kv_heads * size.head_dim
    norms = (16 if residual == 2 else 26) * size.hidden + 8
    norms += 6 * (attention + kv) + 4 * (size.heads + size.kv_heads) if size.qk_norm else 0
    return norms + 8 * attention + 4 * size.heads + 2 * length + 8 * size.intermediate


def kv_bytes(size: ModelSize, parallel: int = 1) -> int:
    """Bytes of one token in the KV cache of one GPU: keys and values of its heads in every layer, in bfloat16."""
    return 2 * 2 * size.layers * -(-size.kv_heads // parallel) * size.head_dim


def deepspeed_estimate(setup: Setup) -> tuple[int, int, str]:
    """
    Bytes of host memory per node and of each GPU for the model states of the trained parameters in half precision, and the
    source: DeepSpeed's estimators where it is installed, else the same arithmetic.
    """
    try:
        with redirect_stdout(sys.stderr):  # it reports which accelerator it found
            from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs as zero3
            from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs as zero2
    except Exception:  # not installed, or without what it compiles with
        return *zero_arithmetic(setup), "the arithmetic of DeepSpeed 0.19's estimators (DeepSpeed is not installed)"
    size, cluster, sharding = setup.size, setup.cluster, setup.sharding
    if sharding.stage == 3:
        offload = sharding.offload_optimizer, sharding.offload_params
        host, gpu, _ = zero3(size.trainable, size.largest_layer, cluster.gpus, cluster.nodes, *offload, True)
    else:
        host, gpu = zero2(size.trainable, cluster.gpus, cluster.nodes, sharding.offload_optimizer)
    return host, gpu, f"estimators of DeepSpeed {importlib.metadata.version('deepspeed')}"


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
    Without DeepSpeed weights, gradients and both moments have the type that the model was loaded in, autocast keeps casts
    of the weights, and DDP a second copy of the gradients.
    """
    size, sharding, world = setup.size, setup.sharding, setup.cluster.world
    frozen, trained = size.total - size.trainable, size.trainable
    if not sharding.stage or not setup.half:
        width = setup.weight_bytes
        parts = [world if sharding.stage >= least else 1 for least in (3, 2, 1)]
        items = [
            Item("weights", width * size.total // parts[0], BOTH, f"{width} bytes x {count(size.total)}"),
            Item("gradients", width * trained // parts[1], (UPDATE,), f"{width} bytes a trained parameter"),
            Item("optimizer (AdamW)", 2 * width * trained // parts[2], BOTH, "two moments"),
        ]
        if setup.half and width == 4:
            items.append(Item("weights cast by autocast", 2 * size.total, (UPDATE,), "2 bytes x all parameters"))
        if world > 1 and not sharding.stage:
            items.append(Item("DDP's gradient buckets", width * trained, (UPDATE,), "a second copy"))
        return items, 0, "weights, gradients and moments in the type the model is loaded in"
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
    items = [
        Item("weights (bf16)", weights + kept, BOTH, f"2 bytes x {count(size.total)}{_over(world, stage3)}"),
        Item("gradients", gradients, BOTH, f"{_over(world, sharding.stage >= 2).strip() or 'not sharded'}"),
        Item(
            "optimizer (AdamW)",
            rest - gradients,
            BOTH,
            "in host memory"
            if sharding.offload_optimizer
            else f"12 bytes x {count(trained)} trained{_over(world, True)}",
        ),
    ]
    if stage3:
        items.append(Item("layer being gathered", gathered, BOTH, "4 bytes x the largest layer"))
    live = min(_MAX_LIVE, size.total) if stage3 else min(_BUCKET, trained)
    items.append(
        Item("DeepSpeed's buffers", 2 * (live + min(_BUCKET, trained)), (UPDATE,), "its defaults, 2 bytes an element")
    )
    return items, host + (2 * frozen // setup.cluster.nodes if in_host else 0), source


def _over(world: int, sharded: bool) -> str:
    return f" / {world} GPUs" if sharded and world > 1 else ""


def activations(setup: Setup) -> list[Item]:
    """
    What the backward pass of one micro-batch holds: the saved tensors of every layer, or with checkpointing only each
    layer's input; then the larger of one layer's backward (its recomputed tensors, gradients of 6I + 4h) and the LM head's
    (hidden rows, their float32 gradient, the tile of logits, the float32 gradient of its weight).
    """
    size, tokens = setup.size, setup.tokens
    residual = 2 if setup.sharding.stage or setup.weight_bytes == 2 else 4
    width = 1 if setup.half else 2  # the counts are for two-byte numbers
    layer = width * tokens * layer_bytes(size, setup.prompt + setup.completion, residual=residual)
    rows = setup.batch * setup.completion if setup.stage == "rl" else tokens
    in_flight = 2 * width * tokens * (3 * size.intermediate + 2 * size.hidden)
    tile = 2 * width * min(rows, TOKEN_CHUNK_SIZE) * _CHUNKED_LOGPROB_CHUNK_SIZE
    head_gradient = 0 if size.lora else 6 * size.vocab * size.hidden
    head = (2 * width + 4) * size.hidden * rows + 8 * size.hidden * tokens + tile + head_gradient
    head += 2 * size.vocab * size.hidden if setup.sharding.stage == 3 else 0
    if setup.checkpointing:
        kept, how = residual * size.hidden * tokens * size.layers, f"{residual}h bytes x {size.layers} layers"
        step, step_how = layer + in_flight, "one layer recomputed, with its gradients"
    else:
        kept, how = layer * size.layers, f"{layer // tokens:,} bytes x {size.layers} layers"
        step, step_how = in_flight, "gradients inside one layer"
    if head > step:
        step, step_how = head, f"LM head in tiles of {TOKEN_CHUNK_SIZE:,} x {_CHUNKED_LOGPROB_CHUNK_SIZE:,}"
    return [
        Item("activations kept", kept, (UPDATE,), f"{tokens:,} tokens x {how}"),
        Item("activations of the moment", step, (UPDATE,), step_how),
    ]


def generation(setup: Setup) -> tuple[list[Item], int | None, list[str]]:
    """Memory that generation takes, the tokens that vLLM's cache holds, and what keeps vLLM from starting."""
    size, length = setup.size, setup.prompt + setup.completion
    if setup.generation == "transformers":
        sequences = setup.batch * setup.micro_batches  # TRL generates a whole generation batch at once
        width = 2 if setup.half else 4
        cache = kv_bytes(size) * width // 2 * sequences * length
        items = [Item("KV cache", cache, (GENERATION,), f"{sequences:,} sequences x {length:,} tokens, Transformers")]
        logits = 2 * 4 * size.vocab * sequences
        prefill = sequences * setup.prompt * width * (3 * size.intermediate + 4 * size.hidden)
        items.append(Item("prefill and logits", logits + prefill, (GENERATION,), "all prompts in one forward"))
        if setup.sharding.stage == 3:
            items.append(Item("weights gathered", 2 * size.total, (GENERATION,), "ds3_gather_for_generation"))
        return items, None, []
    if setup.generation != "vllm":
        return [], None, []
    parallel, problems = setup.vllm_parallel, []
    if setup.cluster.gpus % parallel or size.heads % parallel:
        problems.append(
            f"vllm_tensor_parallel_size: {parallel} divides not both the {setup.cluster.gpus} GPUs of a node and the "
            f"{size.heads} attention heads"
        )
    share = int(setup.vllm_share * setup.cluster.memory)
    weights = 2 * (size.total - (size.trainable if size.lora else 0)) // parallel
    cache = share - weights - VLLM_WORKSPACE
    tokens = max(cache, 0) // kv_bytes(size, parallel)
    context = setup.vllm_context or size.context
    if setup.vllm_context and setup.vllm_context < length:
        problems.append(
            f"vllm_max_model_length: {setup.vllm_context:,} is shorter than the longest prompt and completion, {length:,} tokens"
        )
    if tokens < context:
        problems.append(
            f"vllm_gpu_memory_utilization: {setup.vllm_share:g} leaves vLLM a cache of {tokens:,} tokens, less than one sequence "
            f"of {context:,}; it will not start"
        )
    when = (GENERATION,) if setup.vllm_sleep else BOTH
    each = f"{kv_bytes(size, parallel):,} bytes"
    items = [
        Item("vLLM's weights", weights, when, f"2 bytes x {count(size.total)}{_over(parallel, True)}"),
        Item("vLLM's workspace", VLLM_WORKSPACE, when, "assumed"),
        Item(
            "vLLM's KV cache", max(cache, 0), when, f"the rest of {setup.vllm_share:.0%}: {tokens:,} tokens x {each}"
        ),
    ]
    if setup.vllm_sleep:
        items.append(Item("vLLM asleep", VLLM_ASLEEP, (UPDATE,), "assumed"))
    return items, tokens, problems


def plan_memory(setup: Setup) -> Memory:
    """Work out the need for memory of a run."""
    items, host, source = model_states(setup)
    if setup.reference:
        parts = setup.cluster.world if setup.sharding.stage == 3 else 1
        width = 2 if setup.sharding.stage and setup.half else setup.weight_bytes
        items.append(Item("reference model", width * setup.size.total // parts, BOTH, "for the KL penalty (beta)"))
    generating, kv_tokens, problems = generation(setup)
    items += [*activations(setup), *generating, Item("CUDA context, NCCL", CONTEXT, BOTH, "assumed")]
    items = [item for item in items if item.bytes]
    size = setup.size
    memory = Memory(
        items=items,
        capacity=int(USABLE * setup.cluster.memory),
        host=host,
        checkpoint=2 * (size.trainable if size.lora else size.total) + 12 * size.trainable,
        kv_tokens=kv_tokens,
        problems=problems,
        source=source,
    )
    for moment in (GENERATION, UPDATE) if setup.stage == "rl" and setup.generation != "server" else (UPDATE,):
        if memory.peak(moment) > memory.capacity:
            problems.append(
                f"the {moment} needs {memory.peak(moment) / GIB:.1f} GiB per GPU, but {memory.capacity / GIB:.1f} GiB of "
                f"{setup.cluster.memory / GIB:g} are usable"
            )
    return memory
