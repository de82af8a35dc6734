# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a trainer with adapters hands to vLLM: merged copies of its weights, instead of its own that TRL merges and unmerges in place."""

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.forward.logits import HALF
from real_trl.option_values import FieldError
from real_trl.trainers.mixed_in import OnlineJudgeTrainer
from real_trl.trainers.visible_updates import FIRST_STEPS, log_share
from real_trl.weights.merged import MergeShare, merged_parameters, why_not_mergeable

_EVERY = 8  # adapted modules


def check_vllm_weights(model: "str | PreTrainedModel", args: Any, quantization_config: Any) -> None:
    """`ValueError`, before a model is loaded, if vLLM is to sample from one in 4 bits, whose merged weights it cannot be given as they are."""
    quantized = quantization_config or getattr(model, "quantization_method", None)
    if args.use_vllm and (quantized or (args.model_init_kwargs or {}).get("quantization_config")):
        said = ": got true for quantised weights; rounded to their few bits again, merged ones would be another model than the one that is trained"
        raise FieldError(
            "use_vllm", True, "Set it to false, or train LoRA without quantisation (load_in_4bit: false).", said
        )


def send_merged_copies(trainer: OnlineJudgeTrainer) -> None:
    """
    Replace how TRL's [`~trl.generation.vllm_generation.VLLMGeneration`] goes through the weights of a model with adapters. The base
    stays as it is, bit for bit; a module at a time is merged, and under ZeRO-3 gathered. `update/visible_share` tells what vLLM sees of the
    adapters.

    Args:
        trainer ([`~transformers.Trainer`]):
            A trainer whose `vllm_generation` has been made.

    Raises:
        ValueError: if the merged model would not be the one that is trained, or FSDP has sharded it.
    """
    generation = trainer.vllm_generation
    model = generation.model
    if not is_peft_model(model):
        return
    reason = why_not_mergeable(model)
    if reason is not None:
        raise ValueError(
            f"use_vllm: {reason}; vLLM has one weight for both, and would sample from another model than the one that is trained. Leave them out of "
            "target_modules and modules_to_save, or set use_vllm to false."
        )
    if generation._dist.is_fsdp:
        said = ": got true for adapters under FSDP, whose weights cannot be merged here without changing them"
        raise FieldError("use_vllm", True, "Use DeepSpeed ZeRO, or set use_vllm to false.", said)

    dtype = next(model.get_base_model().parameters()).dtype
    dtype = dtype if dtype in HALF else torch.bfloat16  # which vLLM makes of float32
    said = False

    def named_params() -> Iterator[tuple[str, Tensor]]:
        nonlocal said
        share = MergeShare(dtype, _EVERY)
        for name, weight in merged_parameters(model, generation._dist.gather_params, share):
            yield generation._fix_param_name_to_vllm(name), weight
        steps = trainer.state.global_step
        say = steps >= FIRST_STEPS and not said
        said = said or say
        log_share(trainer, share.value, dtype, steps if say else None)

    generation._iter_named_params = named_params
