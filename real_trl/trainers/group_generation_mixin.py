# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Generation of TRL's RLOO trainer with the prompt of every group read once."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import nn
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation

from real_trl.forward.dense import causal_lm
from real_trl.forward.generation import generate_groups
from real_trl.forward.positions import generation_without_cache, separate_rows
from real_trl.trainers.vllm_groups import generate_groups_with_vllm


@contextmanager
def _finite_logits(model: nn.Module) -> Iterator[list[bool]]:
    """
    Meanwhile, logits that nothing can be sampled from (NaN, infinite) are taken for zeros, so that every process gets to the end of what
    all of them do; the list is then no longer empty. A device may not survive to sample from them.
    """
    broken: list[bool] = []

    def look(layer: nn.Module, args: Any, logits: torch.Tensor) -> torch.Tensor | None:
        if logits.amax(-1).isfinite().all():  # NaN and infinities are in the largest, too
            return None
        broken.append(True)
        return torch.zeros_like(logits)

    hook = model.get_output_embeddings().register_forward_hook(look)
    try:
        yield broken
    finally:
        hook.remove()


class GroupGenerationMixin:
    """
    To be put before [`~trl.RLOOTrainer`], whose `_generate_single_turn` it overrides.

    Where the trainer shares prefixes (`self._shares_prefixes`), Transformers generates with
    [`~real_trl.forward.generation.generate_groups`]; vLLM gets one request for each group. Everything else is left to TRL:
    continuous batching, images, and generation with sharded parameters, where every process has to run the same number of forwards.
    """

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: list[Any] | None, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        with _finite_logits(causal_lm(self.model)) as broken:
            completions = self._generate_finite(prompt_ids, images, multimodal_fields)
        self.check_sampled(bool(broken))
        return completions

    def _generate_finite(
        self, prompt_ids: list[list[int]], images: list[Any] | None, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        if self.use_vllm and images is None:
            return self._generate_with_vllm(prompt_ids)
        sharded = self._dist.is_fsdp or (self._dist.is_zero3 and not self.args.ds3_gather_for_generation)
        if (
            not self._shares_prefixes
            or self.use_vllm
            or self.use_transformers_continuous_batching
            or images is not None
            or multimodal_fields
            or sharded
        ):
            return self._generate_as_trl_does(prompt_ids, images, multimodal_fields)
        with (
            profiling_context(self, "transformers.generate"),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
            # Around all steps, so that the weights are cast once and not in each of them. As in TRL, a model with adapters
            # generates in its own type: frozen weights would not be kept either.
            nullcontext() if is_peft_model(self.model) else self.accelerator.autocast(),
        ):
            sequences = generate_groups(
                model, prompt_ids, self.generation_config, self._tokenizer.pad_token_id
            ).sequences
        completions = sequences[:, max(map(len, prompt_ids)) :].tolist()
        stops = set(self.eos_token_ids)
        ends = (next((i for i, token in enumerate(ids) if token in stops), len(ids)) for ids in completions)
        return [ids[: end + 1] for ids, end in zip(completions, ends, strict=True)]

    def _generate_as_trl_does(self, prompt_ids: list[list[int]], *rest: Any) -> list[list[int]]:
        if self.use_vllm:
            return super()._generate_single_turn(prompt_ids, *rest)
        own, base = self.generation_config, causal_lm(self.model)
        separate_rows(base)
        self.generation_config = generation_without_cache(base.config, prompt_ids, own)
        try:
            return super()._generate_single_turn(prompt_ids, *rest)
        finally:
            self.generation_config = own

    def _generate_with_vllm(self, prompt_ids: list[list[int]]) -> list[list[int]]:
        # As in TRL: the weights are handed over once a step
        if self.state.global_step != self._last_loaded_step:
            with profiling_context(self, "sync_weights"):
                self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step
        group_size = self.num_generations if self.model.training else self.num_generations_eval
        profiler = profiling_context(self, "vLLM.generate")
        return generate_groups_with_vllm(self.vllm_generation, prompt_ids, group_size, profiler)
