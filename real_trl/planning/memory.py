# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
r"""
Memory per GPU at the two moments that decide: while completions are generated, and in the backward pass of an update.

Model states (weights, gradients, AdamW) are DeepSpeed's own estimate where it shards, see [`model_states`]. Activations
are those of a decoder with grouped-query attention, gated MLP and RMSNorm as transformers computes it: what autograd saves,
counted tensor by tensor, see [`layer_bytes`]; `tests/planning/test_plan.py` compares the count with what autograd really saves and
with the measured peak of a small model. The idea of counting them this way, and of recomputing one layer at a time, is
Korthikanti et al. 2022 (arXiv 2205.05198), whose 34·h + 5·heads·T is for GPT-2's layer and stored attention maps. Sizes are
bytes; h is the hidden size, I the MLP's width, A = heads·head_dim, T the sequence length. The sequences of a micro-batch are
taken at full length, which is the worst case that a run must survive.
"""

from dataclasses import dataclass

from real_trl.forward.selected_log_probs import chunk_logits
from real_trl.planning.models import ModelSize
from real_trl.planning.setup import GIB, Setup, count
from real_trl.planning.states import BOTH, GENERATION, UPDATE, Item, model_states, over

USABLE = 0.95  # of a GPU's memory; the rest is lost to the driver and to fragmentation
# Assumed, not computed
CONTEXT = 2 * GIB  # CUDA context, NCCL and cuBLAS workspaces
VLLM_WORKSPACE = 3 * GIB // 2  # activations of a 4,096-token batch and CUDA graphs, inside vLLM's share
VLLM_ASLEEP = 1 * GIB  # what vLLM keeps in sleep mode


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
    (`residual=4`) the norms also keep their input and every linear layer its own cast of it: 26h in place of 16h. A LoRA
    adapter adds its own.
    """
    attention, kv = size.heads * size.head_dim, size.kv_heads * size.head_dim
    norms = (16 if residual == 2 else 26) * size.hidden + 8
    norms += 6 * (attention + kv) + 4 * (size.heads + size.kv_heads) if size.qk_norm else 0
    return norms + 8 * attention + 4 * size.heads + 2 * length + 8 * size.intermediate + size.adapter_bytes


def kv_bytes(size: ModelSize, parallel: int = 1) -> int:
    """Bytes of one token in the KV cache of one GPU: keys and values of its heads in every layer, in bfloat16."""
    return 2 * 2 * size.layers * -(-size.kv_heads // parallel) * size.head_dim


def activations(setup: Setup) -> list[Item]:
    """
    What the backward pass of one micro-batch holds: the saved tensors of every layer, or with checkpointing only each
    layer's input; then the larger of one layer's backward (its recomputed tensors, gradients of 6I + 4h) and the LM head's
    (hidden rows, their float32 gradient, a chunk of logits and what is made of them, the float32 gradient of its weight).
    """
    size, tokens = setup.size, setup.tokens
    residual = 2 if setup.sharding.stage or setup.weight_bytes == 2 else 4
    width = 1 if setup.half else 2  # the counts are for two-byte numbers
    layer = width * tokens * layer_bytes(size, setup.prompt + setup.completion, residual=residual)
    rows = setup.batch * setup.completion if setup.stage == "rl" else tokens
    in_flight = 2 * width * tokens * (3 * size.intermediate + 2 * size.hidden)
    # Logits, their softmax and a product of both in float32, and a copy for the backward's matrix products
    tile = (12 + 2 * width) * min(rows * size.vocab, chunk_logits(setup.cluster.memory))
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
        step, step_how = head, f"LM head in chunks of {chunk_logits(setup.cluster.memory) // size.vocab:,} rows"
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
        prompts = setup.prompts * setup.micro_batches
        cached = prompts * setup.prompt + sequences * setup.completion
        cache = kv_bytes(size) * width // 2 * cached
        how = f"{prompts:,} prompts and {sequences:,} completions, {cached:,} tokens, Transformers"
        items = [Item("KV cache", cache, (GENERATION,), how)]
        logits = 2 * 4 * size.vocab * sequences
        prefill = prompts * setup.prompt * width * (3 * size.intermediate + 4 * size.hidden)
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
    context = setup.vllm_context or size.context or length
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
        Item("vLLM's weights", weights, when, f"2 bytes x {count(size.total)}{over(parallel, True)}"),
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
        width = 2 if setup.sharding.stage and not setup.sharding.fsdp and setup.half else setup.weight_bytes
        items.append(Item("reference model", width * setup.size.total // parts, BOTH, "for the KL penalty (beta)"))
    generating, kv_tokens, problems = generation(setup)
    items += [*activations(setup), *generating]
    if not setup.cluster.is_processor:
        items.append(Item("CUDA context, NCCL", CONTEXT, BOTH, "assumed"))
    items = [item for item in items if item.bytes]
    size, length = setup.size, setup.prompt + setup.completion
    if setup.stage == "rl" and size.context and length > size.context:
        problems.append(
            f"max_completion_length: the longest prompt ({setup.prompt:,} tokens) and completion ({setup.completion:,}) have "
            f"{length:,} tokens together, the model reads {size.context:,}"
        )
    memory = Memory(
        items=items,
        capacity=int(USABLE * setup.cluster.memory),
        host=host,
        checkpoint=2 * (size.trainable if size.lora else size.total) + 12 * size.trainable,
        kv_tokens=kv_tokens,
        problems=problems,
        source=source,
    )
    per_gpu = "" if setup.cluster.is_processor else " per GPU"
    for moment in (GENERATION, UPDATE) if setup.stage == "rl" and setup.generation != "server" else (UPDATE,):
        if memory.peak(moment) > memory.capacity:
            problems.append(
                f"the {moment} needs {memory.peak(moment) / GIB:.1f} GiB{per_gpu}, but {memory.capacity / GIB:.1f} GiB of "
                f"{setup.cluster.memory / GIB:.4g} are usable"
            )
    return memory
