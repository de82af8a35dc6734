# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Logits in float32 from a model in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_ROWS = 2**14  # of the vocabulary at a time, whose weights are held in float32


@contextmanager
def float32_logits(model: PreTrainedModel) -> Iterator[None]:
    """
    Within it, a half-precision model's output layer computes in float32. Near 35, where logits often are, numbers in bfloat16 are 0.25
    apart: rounded logits would be the largest error of a score distribution, up to 0.09 of ŷ on 1-5. Layers other than a plain
    linear one (quantised, or adapted) are left as they are.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model; put back as it was.
    """
    layer = model.get_output_embeddings()
    if type(layer) is not nn.Linear or layer.weight.dtype not in (torch.bfloat16, torch.float16):
        yield
        return

    def forward(hidden: Tensor) -> Tensor:
        hidden = hidden.float()
        logits = torch.cat([hidden @ rows.float().T for rows in layer.weight.split(_ROWS)], dim=-1)
        return logits if layer.bias is None else logits + layer.bias.float()

    own = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        if own is None:
            del layer.forward
        else:
            layer.forward = own
