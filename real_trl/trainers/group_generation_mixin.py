# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a batch of rows to micro-batches of rollouts, with the prompt of every group read once."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import nn
from transformers import PreTrainedConfig
from trl.extras.profiling import profiling_context
from trl.models import unwrap_model_for_generation

from real_trl import objectives
from real_trl.forward.dense import causal_lm
from real_trl.forward.generation import generate_groups
from real_trl.forward.positions import (
    generation_without_cache,
    separate_rows,
    why_read_otherwise_by_vllm,
)
from real_trl.prompts.format import prompt_text
from real_trl.trainers.fsdp import gathered
from real_trl.trainers.mixed_in import OnlineJudgeTrainer
from real_trl.trainers.preflight import first_rollouts
from real_trl.trainers.real_config import REALConfig
from real_trl.trainers.rollout import Rollout, collate_rollouts
from real_trl.trainers.sharing_check import ways_agree
from real_trl.trainers.split_groups import score_whole_groups
from real_trl.trainers.vllm_rollouts import generate_groups_with_vllm, weights_in_sync


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


def check_generation(config: PreTrainedConfig | None, args: REALConfig) -> None:
    """Refuse engines that sample from another model than the one that is trained."""
    if config is None:
        return
    length = args.vllm_max_model_length
    if args.use_vllm and (reason := why_read_otherwise_by_vllm(config, length)):
        raise ValueError(f"use_vllm: vllm_max_model_length is {length}. {reason}set use_vllm to false.")


class GroupGenerationMixin(OnlineJudgeTrainer):
    """
    From a batch of rows to micro-batches of whole groups, or of parts of one, in the place of what [`~trl.RLOOTrainer`] does before its loss: groups of
    completions are generated, filtered ([`GroupSampler`]), divided, and kept for the steps that use them. Expects a trainer of judges.

    Where the trainer shares prefixes (`self._shares_prefixes`), Transformers generates with
    [`~real_trl.forward.generation.generate_groups`]; vLLM gets one request for each group. Everything else is left to TRL:
    images, and generation with sharded parameters, where every process has to run the same number of forwards.
    """

    _sampling_log_probs: list[list[float]] | None = (
        None  # of the completions that were sampled last, where vLLM told them
    )

    def _prepare_inputs(self, generation_batch: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return self._count_tokens([self._collate(self._generate_and_score_completions(generation_batch))])[0]
        micro_batches = self.args.steps_per_generation
        if self._step % (micro_batches * self.num_iterations) == 0 or self._buffered_inputs is None:
            with weights_in_sync(self) if self.use_vllm else nullcontext():
                rollouts = self._sample_batch(generation_batch)
            size = len(rollouts) // micro_batches
            self._buffered_inputs = self._count_tokens(
                [self._collate(rollouts[start : start + size]) for start in range(0, len(rollouts), size)]
            )
            self.check_sharing(self._buffered_inputs[0])
            if self._scores_first:
                score_whole_groups(self, self._buffered_inputs)
            elif self._reuses_batches:
                for inputs in self._buffered_inputs:
                    self._freeze_advantages(inputs)
        inputs = self._buffered_inputs[self._step % micro_batches]
        self.check_sharing(inputs)  # of a run that goes on amid a batch
        return inputs

    def check_sharing(self, inputs: dict[str, Any]) -> None:
        """Once, of the first micro-batch: whether sharing prompts is right here. If not, it ends."""
        if not self._checks_sharing:
            return
        self._checks_sharing = False

        def log_probs(share: bool, rows: slice) -> list[torch.Tensor]:
            part = {k: x[rows] for k, x in inputs.items() if isinstance(x, torch.Tensor) and x.dim()}
            output = self._forward(self.model, part, share)
            return [output.log_probs[part["completion_mask"].bool()], output.score_log_probs[part["has_score"]]]

        self._shares_prefixes = ways_agree(self.accelerator, self.model, len(inputs["targets"]), log_probs)

    def _sample_batch(self, generation_batch: list[dict[str, Any]]) -> list[Rollout]:
        if self.state.global_step == 0 and self._step == 0:
            rollouts = first_rollouts(self, generation_batch)
        else:
            rollouts = self._generate_and_score_completions(generation_batch)
        return rollouts if self._group_sampler is None else self._replace_filtered(rollouts)

    def _replace_filtered(self, rollouts: list[Rollout]) -> list[Rollout]:
        size = self.num_generations

        def groups(rollouts: list[Rollout]) -> list[list[Rollout]]:
            return [rollouts[start : start + size] for start in range(0, len(rollouts), size)]

        def sample(rows: list[dict[str, Any]]) -> list[list[Rollout]]:
            return groups(self._generate_and_score_completions([row for row in rows for _ in range(size)]))

        kept, counts = self._group_sampler.fill(groups(rollouts), sample, self.accelerator)
        for name, count in counts.items():
            self._metrics["train"][f"sampling/{name}"].append(count)
        return [rollout for group in kept for rollout in group]

    def _collate(self, rollouts: list[Rollout]) -> dict[str, Any]:
        batch = collate_rollouts(rollouts, self._tokenizer.pad_token_id, self.accelerator.device)
        if self._has_pairs:  # no label stands for a preference
            weights = self._label_values.new_zeros(len(rollouts), len(self._label_values))
        else:
            histograms = [rollout.histogram for rollout in rollouts]
            weights = objectives.label_weights(batch["targets"], self._label_values, histograms)
        return {**batch, "label_weights": weights, "rollouts": rollouts}

    def _count_tokens(self, micro_batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """
        Note in each micro-batch how many policy tokens one has on average, over the generation batch of all processes:
        with `loss_aggregation="token"` every token then weighs the same, however the batch is divided.
        """
        tokens = torch.stack([inputs["policy_mask"].sum() for inputs in micro_batches]).float().mean()
        num_tokens = self.accelerator.reduce(tokens, reduction="mean")
        return [{**inputs, "num_tokens": num_tokens} for inputs in micro_batches]

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        prompt_format = self.judge_config.prompt_format()
        texts = [prompt_text({"prompt": prompt}, prompt_format) for prompt in prompts]
        different = list(dict.fromkeys(texts))
        encoded = dict(zip(different, self.prompt_encoding(different), strict=True))
        return [list(encoded[text]) for text in texts], None, {}

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: list[Any] | None, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        self._sampling_log_probs = None
        whole = nullcontext() if self.use_vllm else gathered(self.model)
        with whole, _finite_logits(causal_lm(self.model)) as broken:
            completions = self._generate_finite(prompt_ids, images, multimodal_fields)
        self.check_sampled(bool(broken))
        return completions

    def _generate_finite(
        self, prompt_ids: list[list[int]], images: list[Any] | None, multimodal_fields: dict[str, Any]
    ) -> list[list[int]]:
        if self.use_vllm and images is None:
            return self._generate_with_vllm(prompt_ids)
        sharded = self._dist.is_zero3 and not self.args.ds3_gather_for_generation
        if not self._shares_prefixes or self.use_vllm or images is not None or multimodal_fields or sharded:
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
        group_size = self._group_size // 2 if self._has_pairs else self._group_size  # completions of one prompt
        profiler = profiling_context(self, "vLLM.generate")
        with weights_in_sync(self):
            ids, self._sampling_log_probs = generate_groups_with_vllm(
                self.vllm_generation, prompt_ids, group_size, profiler
            )
        return ids

    def sampling_state(self) -> dict[str, Any]:
        """What this process must know, beside weights, optimizer and random states, to go on with the next step."""
        mid_batch = self._step % (self.args.steps_per_generation * self.num_iterations) != 0
        fixed = ("rollouts", "advantages", "old_log_probs", "first_log_probs", "num_tokens")
        sampler = self._group_sampler
        return {
            "step": self._step,
            "micro_batches": [{k: inputs[k] for k in fixed if k in inputs} for inputs in self._buffered_inputs]
            if mid_batch
            else None,
            "surplus": list(sampler.surplus) if sampler else [],
            "drawn": sampler.drawn if sampler else 0,
            **self.signal_state(),
        }

    def load_sampling_state(self, state: dict[str, Any]) -> None:
        """Go on from what [`sampling_state`] returned in an interrupted run."""
        self._step = state["step"]
        self.load_signal_state(state)
        if state["micro_batches"] is not None:
            device = self.accelerator.device
            self._buffered_inputs = [
                self._collate(fixed["rollouts"])
                | {name: value.to(device) for name, value in fixed.items() if name != "rollouts"}
                for fixed in state["micro_batches"]
            ]
        if self._group_sampler is not None:
            self._group_sampler.surplus, self._group_sampler.drawn = state["surplus"], state["drawn"]
