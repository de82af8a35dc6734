# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Logits in float32 from a model in half precision, or under autocast."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

from real_trl.forward.logits import HALF, precise_logits


@contextmanager
def float32_logits(model: PreTrainedModel) -> Iterator[None]:
    """
    Within it, the output layer of a model in half precision (or under autocast) computes in float32, by the function that the
    trainers read scores with ([`~real_trl.forward.logits.precise_logits`]). So do the linear layers that an adapter has put around
    it. Layers of other kinds (quantised) are left as they are.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model; put back as it was.
    """
    head = model.get_output_embeddings()
    layers = _linear_layers(head) if isinstance(head, nn.Module) else []
    # accelerate has put autocast into the forward of a model in training
    autocast = hasattr(model, "_original_forward") or torch.is_autocast_enabled(model.device.type)
    rounding = [layer for layer in layers if layer.weight.dtype in HALF or autocast]
    owns = [layer.__dict__.get("forward") for layer in rounding]
    for layer in rounding:
        layer.forward = _precise_forward(layer)
    try:
        yield
    finally:
        for layer, own in zip(rounding, owns, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own


def _linear_layers(head: nn.Module) -> list[nn.Module]:
    """The modules whose forward is a plain product with their `weight`."""
    if type(head) is nn.Linear:
        return [head]
    if isinstance(head, (AuxiliaryTrainingWrapper, BaseTunerLayer)):
        modules = list(head.modules())
        # Of these the forward multiplies with the weights of the base layer in which some tokens are replaced
        tokens = [m for m in modules if isinstance(m, TrainableTokensLayer) and isinstance(m.base_layer, nn.Linear)]
        return tokens or [m for m in modules if type(m) is nn.Linear]
    return []


def _precise_forward(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(hidden: Tensor) -> Tensor:
        if isinstance(layer, TrainableTokensLayer):
            if layer.disable_adapters or layer.merged:
                return precise_logits(hidden, layer.base_layer.weight, layer.base_layer.bias)
            return precise_logits(
                hidden, layer.get_merged_weights(layer.active_adapters), None
            )  # as PEFT, without a bias
        return precise_logits(hidden, layer.weight, layer.bias)

    return forward
