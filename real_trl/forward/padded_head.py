# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The LM head over the rows of a decoding step, on a CPU in float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from transformers import PreTrainedModel

from real_trl.forward.logits import replaced_forward

_ROWS = 16
_FEWEST = 7


@contextmanager
def padded_head(model: PreTrainedModel) -> Iterator[None]:
    """
    Within it, the LM head of `model` reads 16 rows where it is given 7 to 15: MKL multiplies so many by a wide weight in up to twice the
    time that it takes for 16 (SmolLM2's head on two threads: 10 to 18 ms, and 7.5 ms). Other devices, types and heads are left alone.
    """
    head = model.get_output_embeddings()
    # A subclass, or a forward of its own, is a quantised or an adapted head, or has hooks
    if type(head) is not nn.Linear or "forward" in vars(head) or not _is_slow(head.weight):
        yield
        return

    def forward(hidden: Tensor) -> Tensor:
        missing = _ROWS - len(hidden)
        if not 0 < missing <= _ROWS - _FEWEST:
            return linear(hidden, head.weight, head.bias)
        return linear(pad(hidden, (0, 0) * (hidden.dim() - 1) + (0, missing)), head.weight, head.bias)[:-missing]

    with replaced_forward(head, forward):
        yield


def _is_slow(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32
