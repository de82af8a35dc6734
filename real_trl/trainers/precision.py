# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a trainer's model, when the trainer is built, that reject or report a silent loss of precision."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from accelerate import PartialState
from accelerate.logging import get_logger
from accelerate.utils import DistributedType
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import TrainableTokensWrapper
from torch import Tensor, nn
from transformers import AutoConfig, TrainingArguments

from real_trl.forward.dense import causal_lm
from real_trl.forward.logits import HALF
from real_trl.forward.support import why_head_unknown
from real_trl.trainers.mixed_in import JudgeTrainer
from real_trl.trainers.visible_updates import watch_updates
from real_trl.trainers.vllm_weights import send_merged_copies

logger = get_logger(__name__)

# Of Transformers' optimizers, those that lose nothing to half precision, and the option (`optim_args`) that makes them so
_COMPENSATING = {
    "adamw_anyprecision": "use_kahan_summation",
    "adamw_torch_4bit": "bf16_stochastic_round",
    "adamw_torch_8bit": "bf16_stochastic_round",
    "stable_adamw": None,  # sums by Kahan by itself
}
_COMPENSATES = (
    "use_kahan_summation",
    "kahan_sum",
    "bf16_stochastic_round",
    "master_weights",
    "store_param_remainders",
)


def prepare_precision(trainer: JudgeTrainer) -> None:
    """
    What a trainer that has just been built does about precision: [`check_output_layer`], [`match_adapters`], [`check_master_weights`], [`watch_updates`],
    and [`send_merged_copies`].
    """
    check_output_layer(trainer.model)
    match_adapters(trainer)
    check_master_weights(trainer)
    watch_updates(trainer)
    if getattr(trainer, "use_vllm", False):
        send_merged_copies(trainer)


def check_output_layer(model: nn.Module) -> None:
    """
    `ValueError` if the trainers, who read the LM head's weights themselves, would read other scores than the model writes.

    Args:
        model (`nn.Module`):
            The policy, as TRL has built it.
    """
    base = causal_lm(model)
    head = base.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper) and hasattr(head.original_module.weight, "ds_id"):
        raise ValueError(
            "peft_config: got trainable_token_indices for an LM head that ZeRO-3 has spread, and whose rows cannot be replaced there. Use ZeRO-2, "
            "or leave them out."
        )
    reason = why_head_unknown(base)
    if reason is not None:
        raise ValueError(
            f"model: {reason}, so scores would be trained that it does not write. Use a model whose logits come from one linear layer; of "
            "LoRA, leave lm_head out of target_modules (modules_to_save may have it)."
        )
    if isinstance(head, TrainableTokensWrapper):
        head.bias = None  # PEFT's forward has none, and TRL's head asks for it


def accumulate_in_float32(args: TrainingArguments) -> None:
    """
    Let ZeRO-3 add gradients up in float32, over micro-batches and over processes, unless its configuration says otherwise. Of itself it
    takes the model's type: in bfloat16, the sum over 32 micro-batches is 0.6 % off.
    """
    plugin = args.deepspeed_plugin
    if plugin is not None and plugin.zero_stage == 3:
        plugin.deepspeed_config.setdefault("data_types", {}).setdefault("grad_accum_dtype", "fp32")
        plugin.deepspeed_config.setdefault("communication_data_type", "fp32")


@torch.no_grad()
def float32_weights(model: nn.Module) -> dict[str, Tensor]:
    """
    By name, the float32 weights that DeepSpeed's optimizer works on, on the CPU. All processes must call it; the main one gets them, the
    others none.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    is_main, weights = PartialState().is_main_process, {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        master = safe_get_full_fp32_param(parameter) if parameter.requires_grad else None
        if is_main and master is not None:
            weights[name] = master.view(getattr(parameter, "ds_shape", parameter.shape)).to("cpu", copy=True)
    return weights


def check_dtype(model: Any, args: Any, peft_config: Any, optimizer: torch.optim.Optimizer | None) -> None:
    """
    Before a model is loaded: `ValueError` if all of it is to be trained in half precision and nothing keeps a float32 copy; see
    [`check_master_weights`]. Where the weights themselves decide that (`dtype="auto"`), its configuration is asked.
    """
    if not isinstance(model, str) or peft_config is not None or _keeps_masters(args, optimizer):
        return
    if (
        args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false") == "true"
    ):  # known when the trainer has its accelerator
        return
    options = args.model_init_kwargs or {}
    dtype = options.get("dtype", "float32")
    if dtype == "auto" or dtype is None:
        config = AutoConfig.from_pretrained(
            model, revision=options.get("revision"), trust_remote_code=args.trust_remote_code
        )
        dtype = config.dtype
    dtype = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
    if dtype in HALF and not options.get("quantization_config"):
        raise ValueError(_refusal({"all": dtype}, args))


def match_adapters(trainer: JudgeTrainer) -> None:
    """
    Give adapters the type of the layers that they are on where ZeRO-3 gathers both into one buffer, and fails on two types. TRL does so
    for a new adapter; one that training goes on with was loaded in float32. DeepSpeed keeps float32 copies of what it trains.
    """
    plugin = trainer.args.deepspeed_plugin
    if plugin is None or plugin.zero_stage != 3:
        return
    for layer, parameter in _adapter_weights(trainer.model):
        if layer.weight.is_floating_point():  # not quantised
            parameter.data = parameter.data.to(layer.weight.dtype)


def _adapter_weights(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Parameter]]:
    """Every weight of adapters, with the layer that it is on."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            base = module.get_base_layer()
            yield from ((base, p) for child in module.children() if child is not base for p in child.parameters())


def check_master_weights(trainer: JudgeTrainer) -> None:
    """
    `ValueError` if weights in half precision are to be trained, and nothing keeps a float32 copy of them for the updates to add up in:
    DeepSpeed in bf16 or fp16, FSDP in mixed precision, or an optimizer that makes up for it. At a learning rate of 1e-6, 98 % of such
    weights have not moved after 100 steps of AdamW.

    The matrices of LoRA are turned into float32, which TRL leaves in half precision on quantised models.

    Args:
        trainer ([`~transformers.Trainer`]):
            A trainer whose model is not prepared for training yet.
    """
    if _keeps_masters(trainer.args, trainer.optimizer) or _is_fsdp_mixed(trainer):
        return
    adapters = {id(parameter) for _, parameter in _adapter_weights(trainer.model)}
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad and p.dtype in HALF}
    small = {name: p for name, p in trained.items() if id(p) in adapters}
    rest = {name: p.dtype for name, p in trained.items() if name not in small}
    if rest:
        raise ValueError(_refusal(rest, trainer.args))
    if small:
        for parameter in small.values():
            parameter.data = parameter.data.float()
        logger.info(f"{len(small)} weights of adapters were in half precision; they are trained in float32.")


def _keeps_masters(args: TrainingArguments, optimizer: torch.optim.Optimizer | None) -> bool:
    if args.deepspeed_plugin is not None:
        config: Mapping[str, Any] = args.deepspeed_plugin.deepspeed_config
        for kind, wanted in (("bf16", args.bf16), ("fp16", args.fp16)):
            section = config.get(kind, {})
            enabled = section.get("enabled", False)
            if (wanted if enabled == "auto" else enabled) and not section.get(f"{kind}_master_weights_and_grads"):
                return True
        return False
    if optimizer is not None:
        groups = optimizer.param_groups
        # Copies of its own, or a way to keep what was rounded off
        return all(p.dtype not in HALF for group in groups for p in group["params"]) or any(
            group.get(name) for group in groups for name in _COMPENSATES
        )
    optim = getattr(args.optim, "value", args.optim)
    option = _COMPENSATING.get(optim, "")
    given = dict(part.split("=", 1) for part in (args.optim_args or "").replace(" ", "").split(",") if "=" in part)
    return option is None or given.get(option, "").lower() in ("true", "1", "yes")


def _is_fsdp_mixed(trainer: JudgeTrainer) -> bool:
    """Whether accelerate turns trained weights into float32 when it shards them, as it does but for quantised models."""
    state, quantized = trainer.accelerator, getattr(causal_lm(trainer.model), "is_quantized", False)
    return state.distributed_type == DistributedType.FSDP and state.mixed_precision != "no" and not quantized


def _refusal(weights: dict[str, torch.dtype], args: TrainingArguments) -> str:
    name, dtype = next(iter(weights.items()))
    dtype = str(dtype).removeprefix("torch.")
    which = "its weights" if name == "all" else f"{len(weights)} of the weights to be trained ({name}, …)"
    return (
        f"model: {which} are {dtype}, and nothing keeps a float32 copy of them. At learning_rate={args.learning_rate:g} nearly all updates are "
        f"smaller than what {dtype} can tell apart, and are lost. Load it in float32 (dtype: float32 in a recipe, "
        'model_init_kwargs={"dtype": "float32"}, or from_pretrained(..., dtype=torch.float32)) and compute in bfloat16 with bf16: true; '
        "or train LoRA (use_peft: true) without modules_to_save; or use DeepSpeed ZeRO with bf16, which keeps float32 copies."
    )
