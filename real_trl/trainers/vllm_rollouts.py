# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Completions of groups from TRL's [`~trl.generation.vllm_generation.VLLMGeneration`], with the log-probabilities that they were sampled with.

TRL sends a group to a vLLM server as one request, but to the vLLM of its own process (`vllm_mode="colocate"`) as
`num_generations` requests. Both read a prompt's full cache blocks once, by vLLM's prefix cache; a single request also spares
vLLM the tokens, hashes and bookkeeping of all the others.
"""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from typing import TYPE_CHECKING, Any

from trl.extras.profiling import ProfilingContext, profiling_context
from trl.generation import vllm_generation as trl_vllm

from real_trl.option_values import FieldError
from real_trl.trainers.mixed_in import OnlineJudgeTrainer

if TYPE_CHECKING:
    from trl.generation.vllm_generation import VLLMGeneration

    from real_trl.trainers.real_config import REALConfig

logger = logging.getLogger(__name__)


def log_probs_modes(temperature: float, top_p: float) -> list[str]:
    """
    vLLM's `logprobs_mode`s in which it gives the log-probabilities that the trainer computes: at its temperature, over the whole
    vocabulary. `"raw_logprobs"` are at temperature 1 and before top-p, `"processed_logprobs"` after both. With a temperature and top-p
    there is none.
    """
    modes = {"raw_logprobs": temperature == 1.0, "processed_logprobs": top_p == 1.0}
    return [mode for mode, is_policy in modes.items() if is_policy]


@contextmanager
def engine_like_trainer(args: "REALConfig") -> Iterator[None]:
    """
    The colocated engine that TRL makes within it computes logits in float32, from the weights and hidden states that it has, as the trainer
    does. Otherwise, in bfloat16, logits near 35 are 0.25 apart. Its log-probabilities are, where vLLM has them so, the policy's
    ([`log_probs_modes`]).
    """
    make = getattr(trl_vllm, "LLM", None)  # without vLLM there is none, and TRL says so
    if not args.use_vllm or make is None:
        yield
        return
    modes = log_probs_modes(args.temperature, args.top_p)

    def engine(**options: Any) -> Any:
        mode = modes[0] if modes else options["logprobs_mode"]
        return make(**{**options, "hf_overrides": {"head_dtype": "float32"}, "logprobs_mode": mode})

    trl_vllm.LLM = engine
    try:
        yield
    finally:
        trl_vllm.LLM = make


def ask_for_log_probs(trainer: OnlineJudgeTrainer) -> None:
    """
    Let vLLM return, with each completion, the log-probabilities of its tokens, which TRL's RLOO does not ask for.

    Raises:
        `FieldError`: if they are to correct the policy gradient, and a server is started so that it has others.
    """
    generation, args = trainer.vllm_generation, trainer.args
    modes = log_probs_modes(args.temperature, args.top_p)
    if modes and generation.mode == "server" and trainer.accelerator.is_main_process:
        mode = generation.vllm_client.get_server_info()["model_config"]["logprobs_mode"]
        if mode not in modes:
            fix = f"Start it with --logprobs-mode {modes[-1]}."
            said = f": the server gives log-probabilities in the mode {mode}, which are not those of the policy"
            if args.vllm_importance_sampling_correction:
                raise FieldError("vllm_importance_sampling_correction", True, fix, said)
            logger.warning("vLLM%s, and are not compared with the trainer's. %s", said, fix)
            return
    if modes:
        generation.logprobs = 0  # of the sampled token alone


@contextmanager
def weights_in_sync(trainer: OnlineJudgeTrainer) -> Iterator[None]:
    """
    Within it vLLM has the trainer's weights, which must not change: they are handed over at most once, however often it generates. TRL
    does so once an optimizer step, but with `vllm_enable_sleep_mode` at every generation, since an engine that sleeps loses them; here
    it stays awake until the end.
    """
    generation = trainer.vllm_generation
    sleeps = generation.mode == "colocate" and generation.enable_sleep_mode
    if trainer.state.global_step != trainer._last_loaded_step or (sleeps and generation._llm_weights_sleeping):
        with profiling_context(trainer, "sync_weights"):
            generation.sync_weights()
        trainer._last_loaded_step = trainer.state.global_step
    if not sleeps:
        yield
        return
    generation.llm.wake_up(tags=["kv_cache"])
    generation.enable_sleep_mode = False
    try:
        yield
    finally:
        generation.enable_sleep_mode = True
        generation.llm.sleep(level=2)
        generation._llm_weights_sleeping = True


def generate_groups_with_vllm(
    vllm_generation: "VLLMGeneration",
    prompt_ids: list[list[int]],
    num_generations: int,
    profiler: ProfilingContext | None = None,
) -> tuple[list[list[int]], list[list[float]] | None]:
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
        The completions' tokens, in the order of the prompts; and, where they were asked for (`vllm_generation.logprobs` is 0), the
        log-probability of each token (NaN where vLLM has none), else `None`.

    Raises:
        `RuntimeError`: if vLLM returned another number of completions.
    """
    own = vllm_generation.mode == "colocate" and vllm_generation.tensor_parallel_size == 1
    n = (math.gcd(*(sum(1 for _ in equal) for _, equal in groupby(prompt_ids))) or 1) if own else 1
    with _completions_per_request(vllm_generation, n) if own else nullcontext():
        _, ids, log_probs, _ = vllm_generation.generate(prompt_ids[::n], None, num_generations, profiler)
    if len(ids) != len(prompt_ids):
        raise RuntimeError(
            f"vLLM returned {len(ids)} completions for {len(prompt_ids)} prompts. Remove n from generation_kwargs "
            "if it is there: the number of completions is num_generations."
        )
    if log_probs is not None:
        log_probs = [[math.nan if token[0] is None else token[0] for token in tokens] for tokens in log_probs]
    return ids, log_probs


@contextmanager
def _completions_per_request(vllm_generation: "VLLMGeneration", n: int) -> Iterator[None]:
    """In colocate mode TRL asks for one completion of a prompt, unless its `generation_kwargs` say otherwise."""
    own = vllm_generation.generation_kwargs
    vllm_generation.generation_kwargs = {**own, "n": n}
    try:
        yield
    finally:
        vllm_generation.generation_kwargs = own
