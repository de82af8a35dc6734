# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The parts that attention over shared prefixes is made of: flash-attention kernels that return the log-sum-exp of the scores,
their backward, and the merge of two parts.

The kernels are PyTorch's own, below `scaled_dot_product_attention`, which does not return the log-sum-exp: on the CPU the
flash kernel of any floating-point type, on a GPU FlashAttention in half precision, of which only the forward is needed here, to
generate: what is trained there goes through [`varlen`](varlen.py). Whatever they do not take is computed with a matrix of scores.
"""

import logging
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

_aten = torch.ops.aten
Attended = tuple[Tensor, Tensor]
# Up to so many keys PyTorch's backward on a CPU is faster in float32 than in half precision, about 3 times at 128
_SHORT = 512
_LONG = 1024  # queries from which a matrix of scores deserves a warning


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, *, causal: bool) -> Attended:
    """
    Attention of one sequence's queries to keys.

    Args:
        query (`torch.Tensor` of shape `(H, Q, D)`):
            Queries.
        key, value (`torch.Tensor` of shape `(J, T, D)`):
            Keys and values of `J` heads, each for `H / J` heads of the queries.
        causal (`bool`):
            Whether query `i` sees keys up to `i` only; then `Q = T`.

    Returns:
        Output `(H, Q, D)` and log-sum-exp of the scores `(H, Q)`, the latter in float32 at least.
    """
    if causal:
        out, lse = Part(query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)).attend(scale)
        return out[0], lse[0]
    # The heads that share keys become one head with more queries: no copies of the keys
    out, lse = _forward(_fold(query, key), key.unsqueeze(0), value.unsqueeze(0), scale, False, None)
    return out.reshape(query.shape), lse.reshape(query.shape[:2])  # (1, J, H/J * Q, ...) -> (H, Q, ...)


def attend_each(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Attended:
    """
    Attention of several sequences' queries to all keys of their own.

    Args:
        query (`torch.Tensor` of shape `(N, J, Q, D)`):
            Queries, those of the heads that share keys together.
        key, value (`torch.Tensor` of shape `(N, J, T, D)`):
            Keys and values.

    Returns:
        Output `(N, J, Q, D)` and log-sum-exp of the scores `(N, J, Q)`, the latter in float32 at least.
    """
    return _forward(query, key, value, scale, False, None)


def attend_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, scale: float, *, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """
    Gradients of the queries, keys and values through [`attend`]'s scores, where its output is a part of `out`.

    Args:
        grad, out (`torch.Tensor` of shape `(H, Q, D)`):
            Output of the merged attention, and the gradient of it.
        lse (`torch.Tensor` of shape `(H, Q)`):
            Log-sum-exp of the merged attention's scores.
        query, key, value, scale, causal:
            See [`attend`].

    Returns:
        Gradients in the shapes of `query`, `key` and `value`.
    """
    if causal:
        part = Part(query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0))
        grads = part.backward(grad.unsqueeze(0), out.unsqueeze(0), lse.unsqueeze(0), scale)
        return grads[0][0], grads[1][0], grads[2][0]
    # On the CPU the kernel divides its work by sequence and head only: blocks of queries stand for sequences there
    divisors = (1, 2, 4) if query.device.type == "cpu" else (1,)
    blocks = max(n for n in divisors if query.size(0) * query.size(1) // key.size(0) % n == 0)

    def split(x: Tensor) -> Tensor:
        # (H, Q, D) -> (J, H/J * Q, D) -> (blocks, J, H/J * Q / blocks, D)
        return _fold(x, key).squeeze(0).unflatten(1, (blocks, -1)).transpose(0, 1)

    keys, values = (x.expand(blocks, *x.shape) for x in (key, value))  # (J, T, D) -> (blocks, J, T, D)
    lse = split(lse.unsqueeze(-1)).squeeze(-1).contiguous()
    grads = _backward(split(grad), split(query), keys, values, split(out), lse, scale, False, None)
    # (blocks, J, H/J * Q / blocks, D) -> (H, Q, D), and sums over blocks (J, T, D)
    return grads[0].transpose(0, 1).reshape(query.shape), grads[1].sum(0), grads[2].sum(0)


class Part(NamedTuple):
    """Sequences that attend to themselves, padded on the right: `query` `(N, H, S, D)`, `key` and `value` `(N, J, S, D)`."""

    query: Tensor
    key: Tensor
    value: Tensor

    def attend(self, scale: float, mask: Tensor | None = None) -> Attended:
        """Output `(N, H, S, D)` and log-sum-exp `(N, H, S)`; causal unless a `mask` `(N, 1, S, S)` says otherwise."""
        return _forward(self.query, *self._expanded(), scale, mask is None, mask)

    def backward(
        self, grad: Tensor, out: Tensor, lse: Tensor, scale: float, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value, as [`attend_backward`]."""
        grads = _backward(grad, self.query, *self._expanded(), out, lse, scale, mask is None, mask)
        if self.key.size(1) == self.query.size(1):
            return grads
        size, heads, *rest = self.key.shape
        # (N, H, S, D) -> (N, J, H/J, S, D) -> (N, J, S, D)
        of_key, of_value = (x.view(size, heads, -1, *rest).sum(2) for x in grads[1:])
        return grads[0], of_key, of_value

    def _expanded(self) -> tuple[Tensor, Tensor]:
        groups = self.query.size(1) // self.key.size(1)
        if groups == 1:
            return self.key, self.value
        # (N, J, S, D) -> (N, H, S, D)
        return self.key.repeat_interleave(groups, dim=1), self.value.repeat_interleave(groups, dim=1)


def merge(first: Attended, second: Attended) -> Attended:
    """Attention to the keys of both parts: outputs `(..., D)`, added in the type of the log-sum-exps `(...)`, and these."""
    (out, lse), (other, other_lse) = first, second
    total = torch.logaddexp(lse, other_lse)
    weights = [(x - total).exp().unsqueeze(-1) for x in (lse, other_lse)]
    if out.dtype == total.dtype:
        return torch.addcmul(out * weights[0], other, weights[1]), total
    return (out * weights[0] + other * weights[1]).to(out.dtype), total


def _fold(x: Tensor, key: Tensor) -> Tensor:
    """`x` `(H, Q, D)` as `(1, J, H / J * Q, D)`."""
    return x.reshape(1, key.size(0), -1, x.size(-1))


def _forward(
    query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`(B, H, Q, D)` against `(B, H, T, D)`; `mask` is bool, `True` where a query attends."""
    kernel = _kernel(query, mask)
    if kernel == "cpu":
        bias = None if mask is None else _bias(mask, query)
        return _aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, causal, attn_mask=bias, scale=scale
        )
    if kernel == "flash":
        return _aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)[:2]
    scores = _scores(query, key, scale, causal, mask)
    lse = scores.logsumexp(-1)
    return (scores - lse.unsqueeze(-1)).exp().to(value.dtype) @ value, lse


def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    lse: Tensor,
    scale: float,
    causal: bool,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    if _kernel(query, mask) == "cpu":
        dtype = query.dtype
        if dtype.itemsize == 2 and key.size(2) <= _SHORT:
            grad, query, key, value, out = (x.float() for x in (grad, query, key, value, out))
        bias = None if mask is None else _bias(mask, query)
        grads = _aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, query, key, value, out, lse, 0.0, causal, attn_mask=bias, scale=scale
        )
        return grads[0].to(dtype), grads[1].to(dtype), grads[2].to(dtype)
    probs = (_scores(query, key, scale, causal, mask) - lse.unsqueeze(-1)).exp()
    grad, out = grad.to(probs.dtype), out.to(probs.dtype)
    grad_scores = probs * (grad @ value.to(probs.dtype).mT - (grad * out).sum(-1, keepdim=True)) * scale
    of_query, of_key = grad_scores @ key.to(probs.dtype), grad_scores.mT @ query.to(probs.dtype)
    return of_query.to(query.dtype), of_key.to(key.dtype), (probs.mT @ grad).to(value.dtype)


def _kernel(query: Tensor, mask: Tensor | None) -> str:
    if query.device.type == "cpu":
        return "cpu"
    if mask is None and takes_flash(query):
        return "flash"
    if query.size(2) > _LONG:
        _warn_of_matrix(str(query.dtype), query.size(-1), query.device.type)
    return "matrix"


def takes_flash(query: Tensor) -> bool:
    """Whether FlashAttention on a GPU takes queries `(..., D)` like these."""
    half, size = query.dtype in (torch.bfloat16, torch.float16), query.size(-1)
    return query.is_cuda and half and size % 8 == 0 and size <= 256 and _has_flash(query.device)


@cache
def _has_flash(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


@cache
def _warn_of_matrix(dtype: str, size: int, device: str) -> None:
    logger.warning(
        f"Attention is computed with a matrix of all its scores, which takes time and memory: FlashAttention takes bfloat16 or float16, "
        f"head sizes that 8 divides up to 256, and NVIDIA GPUs from Ampere on; here are {dtype} and heads of {size} on {device}. "
        "Train in bfloat16 (bf16: true), or set shared_prefix to false to use the attention of the model."
    )


def _scores(query: Tensor, key: Tensor, scale: float, causal: bool, mask: Tensor | None) -> Tensor:
    dtype = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(dtype) @ key.to(dtype).mT * scale
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


def _bias(mask: Tensor, query: Tensor) -> Tensor:
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -torch.inf)
