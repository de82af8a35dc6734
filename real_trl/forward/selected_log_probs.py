# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The LM head where only some rows, and few tokens of each, are asked for.

Every row is projected once, in chunks, to its log-sum-exp; the log-probability of any number of tokens is then their logits
minus that. A score position thus costs one row for all its labels, and a tensor of `(tokens, vocabulary)` is never whole.
The rows of scores are few, and computed in float32 ([`~real_trl.forward.logits.precise_logits`]); those of a rationale in the type
of the model's other products.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

from real_trl.forward.logits import (
    HALF,
    HeadOptions,
    float32_products,
    has_float32_products,
    precise_logits,
    vocabulary_blocks,
)

_CHUNK_LOGITS = 2**24  # numbers in a chunk of logits, in which the matrix products run, on a CPU
_BLOCK_LOGITS = 2**22  # numbers whose softmax is computed at a time on a CPU: 16 MiB in float32, near its caches


def chunk_logits(memory: int) -> int:
    """
    Numbers in a chunk of logits on a GPU with `memory` bytes: those in float32 take between 1/256 and 1/128 of it, and what is made of them three times
    that. Of a vocabulary of 150,000 that is 880 rows on 80 GB, and 220 on 24 GB; with a few hundred rows or more, reading the weights again for each chunk
    takes no longer than multiplying them.

    It goes by all of the memory, not by what is free: another division rounds otherwise, and a run that is resumed is to be the same.
    """
    return 2 ** min(max((memory // 128 // 4).bit_length() - 1, 22), 28)


@cache
def _chunk_logits(device: torch.device) -> int | None:
    """[`chunk_logits`] of a device, `None` for a CPU."""
    return chunk_logits(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else None


@dataclass
class SelectedLogProbs(ModelOutput):
    """
    Attributes:
        log_probs (`torch.Tensor` of shape `(Q,)`):
            Log-probability of every token asked for.
        entropy (`torch.Tensor` of shape `(R,)`):
            Entropy of every row's distribution, in nats, without gradient.
        rounding (`torch.Tensor` of shape `(num_precise,)`):
            How far the logits of the last rows, those in float32, may be off by rounding, without gradient.
        rests (`torch.Tensor` of shape `(S,)`, *optional*):
            Log-probability of all tokens but those outside of each rest; `None` if none is asked for.
    """

    log_probs: Tensor | None = None
    entropy: Tensor | None = None
    rounding: Tensor | None = None
    rests: Tensor | None = None


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        tokens: Tensor,
        options: HeadOptions,
        dtype: torch.dtype,
        num_precise: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        float_type = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
        picked, entropy = (hidden.new_empty(n, dtype=float_type) for n in (len(rows), len(hidden)))
        rounding = hidden.new_zeros(num_precise, dtype=float_type)
        asked = _Asked(rows, len(hidden))
        for product, chunk in _chunks(len(hidden), num_precise, weight, bias, dtype):
            logits = product.logits(hidden[chunk])
            for block in _blocks(logits):
                here = slice(chunk.start + block.start, chunk.start + block.stop)
                transformed, _ = options.apply(logits[block])
                log_probs = transformed.log_softmax(-1, dtype=float_type)
                mine = asked.within(here)
                picked[mine] = log_probs[rows[mine] - here.start, tokens[mine]]
                entropy[here] = -log_probs.exp().mul_(log_probs).sum(-1)
                if isinstance(product, _PreciseProduct):
                    last = slice(here.start - len(hidden) + num_precise, here.stop - len(hidden) + num_precise)
                    rounding[last] = torch.finfo(logits.dtype).eps * transformed.abs().amax(-1)
        ctx.save_for_backward(hidden, weight, bias, rows, tokens)
        ctx.options, ctx.dtype, ctx.num_precise = options, dtype, num_precise
        ctx.mark_non_differentiable(entropy, rounding)
        return picked, entropy, rounding

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, rows, tokens = ctx.saved_tensors
        row_grad = grad.new_zeros(len(hidden)).index_add_(0, rows, grad)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        with maybe_gather_lm_head_ctx(weight, bias):
            # Sums over chunks are kept in float32
            grad_weight = torch.zeros_like(weight, dtype=grad.dtype) if wants_weight else None
            grad_bias = torch.zeros_like(bias, dtype=grad.dtype) if wants_bias else None
            asked = _Asked(rows, len(hidden))
            for product, chunk in _chunks(len(hidden), ctx.num_precise, weight, bias, ctx.dtype):
                grads = product.logits(hidden[chunk])
                for block in _blocks(grads):
                    here = slice(chunk.start + block.start, chunk.start + block.stop)
                    transformed, slope = ctx.options.apply(grads[block])
                    shares = transformed.softmax(-1, dtype=grad.dtype).mul_(row_grad[here, None].neg())
                    mine = asked.within(here)
                    shares.index_put_((rows[mine] - here.start, tokens[mine]), grad[mine], accumulate=True)
                    grads[block] = shares if not ctx.options.changes else shares * slope
                if grad_hidden is not None:
                    grad_hidden[chunk] = product.hidden_grad(grads).to(hidden.dtype)
                if grad_weight is not None:
                    product.add_weight_grad(grad_weight, grads, hidden[chunk])
                if grad_bias is not None:
                    grad_bias += grads.sum(0, dtype=grad_bias.dtype)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *[None] * 5,
        )


class _Product:
    """
    The LM head's product in `dtype`; on NVIDIA GPUs its results are in float32, which costs nothing there. Elsewhere each is rounded to `dtype`
    once.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.head, self.bias, self.dtype = weight.to(dtype), bias, dtype

    def logits(self, hidden: Tensor) -> Tensor:
        if hidden.is_cuda and self.dtype in HALF:
            return precise_logits(hidden.to(self.dtype), self.head, self.bias)
        logits = hidden.to(self.dtype) @ self.head.T
        return logits if self.bias is None else logits.add_(self.bias.to(logits.dtype))

    def hidden_grad(self, grads: Tensor) -> Tensor:
        grads = grads.to(self.dtype)
        if has_float32_products(
            grads
        ):  # a sum over the whole vocabulary, which in half precision may be split and rounded in between
            return torch.mm(grads, self.head, out_dtype=torch.float32)
        return grads @ self.head

    def add_weight_grad(self, grad_weight: Tensor, grads: Tensor, hidden: Tensor) -> None:
        grads, hidden = grads.to(self.dtype), hidden.to(self.dtype)
        if grad_weight.dtype == self.dtype:
            grad_weight.addmm_(grads.T, hidden)  # (V, rows) @ (rows, H)
        elif has_float32_products(grads):
            for block in vocabulary_blocks(grads.T, torch.float32):
                grad_weight[block] += torch.mm(grads[:, block].T, hidden, out_dtype=torch.float32)
        else:
            grad_weight += grads.T @ hidden


class _PreciseProduct:
    """The same in float32, without a copy of all weights in it; for few rows."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias

    def logits(self, hidden: Tensor) -> Tensor:
        return precise_logits(hidden, self.weight, self.bias)

    def hidden_grad(self, grads: Tensor) -> Tensor:
        blocks = vocabulary_blocks(self.weight, grads.dtype)
        with float32_products(grads.device):
            return sum(grads[:, block] @ self.weight[block].to(grads.dtype) for block in blocks)

    def add_weight_grad(self, grad_weight: Tensor, grads: Tensor, hidden: Tensor) -> None:
        with float32_products(grads.device):
            grad_weight.addmm_(grads.T, hidden.to(grads.dtype))


def _chunks(
    num_rows: int, num_precise: int, weight: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Iterator[tuple[_Product | _PreciseProduct, slice]]:
    """Rows that go through the head together, each with the product that they need."""
    size, first_precise = (_chunk_logits(weight.device) or _CHUNK_LOGITS) // len(weight), num_rows - num_precise
    if first_precise:
        product = _Product(weight, bias, dtype)
        for chunk in _slices(first_precise, size):
            yield product, chunk
    if num_precise:
        product = _PreciseProduct(weight, bias)
        for chunk in _slices(num_precise, size):
            yield product, slice(first_precise + chunk.start, first_precise + chunk.stop)


def _slices(length: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _blocks(logits: Tensor) -> list[slice]:
    """Rows of a chunk whose softmax is computed at a time."""
    size = _BLOCK_LOGITS // logits.size(1) if logits.device.type == "cpu" else len(logits)
    return _slices(len(logits), size)


class _Asked:
    """Which tokens are asked for in a range of rows, found with one look at all `rows`."""

    def __init__(self, rows: Tensor, num_rows: int) -> None:
        self._order = rows.argsort(stable=True)
        self._ends = [0, *torch.bincount(rows, minlength=num_rows).cumsum(0).tolist()]

    def within(self, rows: slice) -> Tensor:
        """Their indices."""
        return self._order[self._ends[rows.start] : self._ends[rows.stop]]


def selected_log_probs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    rows: Tensor,
    tokens: Tensor,
    options: HeadOptions | None = None,
    num_precise: int = 0,
) -> SelectedLogProbs:
    """
    Log-probabilities of some tokens, and entropies.

    Args:
        hidden (`torch.Tensor` of shape `(R, H)`):
            Hidden states.
        weight (`torch.Tensor` of shape `(V, H)`), bias (`torch.Tensor` of shape `(V,)`, *optional*):
            The LM head's. Under ZeRO-3 they must be gathered, in the backward they are again.
        rows, tokens (`torch.Tensor` of shape `(Q,)`):
            The tokens asked for, and the row of `hidden` that predicts each.
        options ([`~real_trl.forward.logits.HeadOptions`], *optional*):
            What becomes of the logits; by default nothing.
        num_precise (`int`, *optional*, defaults to `0`):
            The logits of as many rows, the last ones, are computed in float32 from `hidden` and `weight` as they are. Those of
            the others in the type of autocast, or of `hidden`.

    Returns:
        [`SelectedLogProbs`], in float32 (of anything in float64, in that).
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    options = options or HeadOptions()
    return SelectedLogProbs(*_LogProbs.apply(hidden, weight, bias, rows, tokens, options, dtype, num_precise))
