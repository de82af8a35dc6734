# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The load-balancing loss of a mixture of experts, over the tokens of the sequences that are trained on and no others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func  # that of every architecture

from real_trl.forward.dense import backbone, causal_lm


@contextmanager
def router_loss(model: nn.Module, attention_mask: Tensor) -> Iterator[list[Tensor]]:
    """
    While active, every forward of `model` appends its load-balancing loss to the list, without a coefficient.

    Args:
        model (`nn.Module`):
            Causal LM with experts, wrapped or not.
        attention_mask (`torch.Tensor` of shape `(N, T)`):
            1 where a token counts. A forward may have more rows, and more tokens behind these, as those of label trees; they do not count.
    """
    config, losses = causal_lm(model).config.get_text_config(), []

    def ask(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "output_router_logits": True}

    def read(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        counts = torch.zeros_like(kwargs["input_ids"])
        counts[: attention_mask.size(0), : attention_mask.size(1)] = attention_mask
        losses.append(
            load_balancing_loss_func(output.router_logits, config.num_experts, config.num_experts_per_tok, counts)
        )

    decoder = backbone(model)
    hooks = [
        decoder.register_forward_pre_hook(ask, with_kwargs=True),
        decoder.register_forward_hook(read, with_kwargs=True),
    ]
    try:
        yield losses
    finally:
        for hook in hooks:
            hook.remove()
