# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Generation of TRL's trainers with vLLM in the training process, one request for each group of equal prompts.

TRL sends a group to a vLLM server as one request, but to the vLLM of its own process (`vllm_mode="colocate"`) as
`num_generations` requests. Both read a prompt's full cache blocks once, by vLLM's prefix cache; a single request also spares
vLLM the tokens, hashes and bookkeeping of all the others.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING

from trl.extras.profiling import ProfilingContext

if TYPE_CHECKING:
    from trl.generation.vllm_generation import VLLMGeneration


def generate_groups_with_vllm(
    vllm_generation: "VLLMGeneration",
    prompt_ids: list[list[int]],
    num_generations: int,
    profiler: ProfilingContext | None = None,
) -> list[list[int]]:
    """
    One completion for every prompt.

    Where vLLM runs in this process, without tensor parallelism, consecutive equal prompts become requests for `n` completions,
    with the largest `n` that divides all such runs: `num_generations`, or the part of a group that this process has, also
    where neighbouring groups have the same prompt. Everything else is left to TRL.

    Args:
        vllm_generation ([`~trl.generation.vllm_generation.VLLMGeneration`]):
            TRL's generation with vLLM. Weights must be in sync.
        prompt_ids (`list[list[int]]`):
            Tokens of the prompts, each repeated for every completion of its group.
        num_generations (`int`):
            Completions of a group, counted over all processes.
        profiler ([`~trl.extras.profiling.ProfilingContext`], *optional*):
            Around the call of vLLM.

    Returns:
        `list[list[int]]`: The completions' tokens, in the order of the prompts.

    Raises:
        `RuntimeError`: if vLLM returned another number of completions.
    """
    if vllm_generation.mode != "colocate" or vllm_generation.tensor_parallel_size > 1:
        _, completion_ids, _, _ = vllm_generation.generate(prompt_ids, None, num_generations, profiler)
    else:
        n = math.gcd(*(sum(1 for _ in equal) for _, equal in groupby(prompt_ids))) or 1
        with _completions_per_request(vllm_generation, n):
            _, completion_ids, _, _ = vllm_generation.generate(prompt_ids[::n], None, num_generations, profiler)
    if len(completion_ids) != len(prompt_ids):
        raise RuntimeError(
            f"vLLM returned {len(completion_ids)} completions for {len(prompt_ids)} prompts. Remove n from generation_kwargs "
            "if it is there: the number of completions is num_generations."
        )
    return completion_ids


@contextmanager
def _completions_per_request(vllm_generation: "VLLMGeneration", n: int) -> Iterator[None]:
    """In colocate mode TRL asks for one completion of a prompt, unless its `generation_kwargs` say otherwise."""
    own = vllm_generation.generation_kwargs
    vllm_generation.generation_kwargs = {**own, "n": n}
    try:
        yield
    finally:
        vllm_generation.generation_kwargs = own
