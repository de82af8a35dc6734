# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's FSDP2 by way of accelerate: which of its settings would change what is trained, and whole weights to generate with."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from transformers.integrations.fsdp import is_fsdp_enabled

from real_trl.option_values import FieldError


def reduce_each_micro_batch(args: Any) -> None:
    """
    Before the accelerator is made: under FSDP, let every micro-batch's gradients be added up over the processes, unless
    `accelerator_config` says otherwise. Of itself accelerate does so once a step, for which each GPU holds whole gradients, 4 bytes a weight.
    """
    config = args.accelerator_config
    if os.environ.get("ACCELERATE_USE_FSDP", "false") == "true" and config.gradient_accumulation_kwargs is None:
        config.gradient_accumulation_kwargs = {"sync_each_batch": True}


def prepare_fsdp(accelerator: Any, args: Any) -> None:
    """
    Before a model is sharded: let gradients be added up in float32, over micro-batches and over processes, and let outputs keep their type.
    accelerate sets both to the type of mixed precision, which would round the log-probabilities that scores are read from to bfloat16.

    Raises:
        ValueError: for FSDP1; where no judge would be saved; and for a reference model that follows the policy.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is None:
        return
    if plugin.fsdp_version != 2:
        fix = "Set it to 2, as in recipes/accelerate_configs/fsdp2.yaml."
        raise FieldError("fsdp_version", plugin.fsdp_version, fix)
    if "SHARDED" in str(plugin.state_dict_type):
        fix = "Set it to FULL_STATE_DICT, as in recipes/accelerate_configs/fsdp2.yaml."
        said = ": got SHARDED_STATE_DICT, with which no judge would be saved"
        raise FieldError("fsdp_state_dict_type", "SHARDED_STATE_DICT", fix, said)
    if getattr(args, "sync_ref_model", False):
        said = ": got true under FSDP, which shards the reference model"
        raise FieldError("sync_ref_model", True, "Set it to false, or use DeepSpeed ZeRO.", said)
    policy = plugin.mixed_precision_policy
    if policy is not None:
        plugin.mixed_precision_policy = replace(policy, reduce_dtype=torch.float32, output_dtype=None)


def check_reference(model: Any, args: Any, peft_config: Any) -> None:
    """
    Before a model is loaded.

    Raises:
        ValueError: if a reference model would be loaded by one process only, and be sharded from the empty weights of the others.
    """
    beta = getattr(args, "beta", 0.0)
    if beta and peft_config is None and not isinstance(model, PeftModel) and is_fsdp_enabled():
        said = f": got {beta} with fsdp_cpu_ram_efficient_loading, with which only one process has the weights of the reference model"
        fix = "Set fsdp_cpu_ram_efficient_loading to false in the configuration of accelerate, train LoRA (use_peft: true), or set beta to 0."
        raise FieldError("beta", beta, fix, said)


def tied(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Whole weights of a sharded model, of which the tied ones are one tensor again, so that they are saved once."""
    first: dict[int, str] = {}
    names = model.named_parameters(remove_duplicate=False)
    same = {name: first.setdefault(id(parameter), name) for name, parameter in names}
    return {name: state[same.get(name, name)] for name in state}


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """
    While active, every process holds all weights of a model that FSDP2 has sharded, in the type that it computes in: forwards need no other
    process, so that each can generate at its own pace. Other models stay as they are.
    """
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    groups = {unit: unit._get_fsdp_state()._fsdp_param_groups for unit in units}
    resharding = [unit for unit in units if any(group._reshard_after_forward for group in groups[unit])]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in resharding:
            unit.set_reshard_after_forward(True, recurse=False)
        for unit in units:
            unit.reshard()
