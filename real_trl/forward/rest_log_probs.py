# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The probability of all tokens but a few, out of the logits: the *rests* of a [`~real_trl.label_tree.LabelTree`].

One minus the probability of the few would do, were it not for cancellation: where they have 0.99999, float32 leaves three
digits of it, and the rest's logarithm, which is part of a reward, is off by 1e-2. Here it is the log-sum-exp of the other
tokens' logits minus that of all.
"""

from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import maybe_gather_lm_head_ctx

from real_trl.forward.logits import HeadOptions, float32_products, precise_logits
from real_trl.label_tree import LabelTree

_ROWS = 2**14  # of the vocabulary at a time, whose logits are held in float32


class _RestLogProbs(torch.autograd.Function):
    """Log-probability `(Q,)` of all tokens but `outside` `(Q, X)`, a part of the vocabulary at a time; see [`rest_log_probs`]."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, outside: Tensor, options: HeadOptions
    ) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        total, rest = (hidden.new_full((len(hidden),), -torch.inf, dtype=dtype) for _ in range(2))
        with float32_products(hidden.device):
            for tokens in _parts(len(weight)):
                logits = options.apply(_logits(hidden, weight, bias, tokens, dtype))[0]
                total = torch.logaddexp(total, logits.logsumexp(-1))
                rest = torch.logaddexp(rest, logits.masked_fill_(_within(outside, tokens), -torch.inf).logsumexp(-1))
        ctx.save_for_backward(hidden, weight, bias, outside, total, rest)
        ctx.options = options
        return rest - total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, outside, total, rest = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = hidden.new_zeros(hidden.shape, dtype=grad.dtype) if wants_hidden else None
        with maybe_gather_lm_head_ctx(weight, bias), float32_products(hidden.device):
            grad_weight = torch.empty_like(weight) if wants_weight else None
            grad_bias = torch.empty_like(bias) if wants_bias else None
            for tokens in _parts(len(weight)):
                logits, slope = ctx.options.apply(_logits(hidden, weight, bias, tokens, grad.dtype))
                among_rest = (logits - rest.unsqueeze(1)).exp().masked_fill(_within(outside, tokens), 0.0)
                shares = (among_rest - (logits - total.unsqueeze(1)).exp()) * grad.unsqueeze(1) * slope
                if grad_hidden is not None:
                    grad_hidden += shares @ weight[tokens].to(grad.dtype)
                if grad_weight is not None:
                    grad_weight[tokens] = (shares.T @ hidden.to(grad.dtype)).to(weight.dtype)  # (tokens, Q) @ (Q, H)
                if grad_bias is not None:
                    grad_bias[tokens] = shares.sum(0).to(bias.dtype)
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, grad_bias, None, None


def _parts(vocabulary: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, vocabulary)) for start in range(0, vocabulary, _ROWS)]


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: slice, dtype: torch.dtype) -> Tensor:
    return precise_logits(hidden.to(dtype), weight[tokens], None if bias is None else bias[tokens])


def _within(outside: Tensor, tokens: slice) -> Tensor:
    """`(Q, tokens)`, `True` at the tokens that are `outside` `(Q, X)`."""
    width = tokens.stop - tokens.start
    places = torch.where((outside >= tokens.start) & (outside < tokens.stop), outside - tokens.start, width)
    mask = torch.zeros(len(outside), width + 1, dtype=torch.bool, device=outside.device)
    return mask.scatter_(1, places, True)[:, :width]


def rest_log_probs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, outside: Tensor, options: HeadOptions | None = None
) -> Tensor:
    """
    Log-probability of all tokens but a few.

    Args:
        hidden (`torch.Tensor` of shape `(Q, H)`):
            Hidden states.
        weight (`torch.Tensor` of shape `(V, H)`), bias (`torch.Tensor` of shape `(V,)`, *optional*):
            The LM head's. Under ZeRO-3 they must be gathered, in the backward they are again.
        outside (`torch.Tensor` of shape `(Q, X)`):
            For each row the tokens that are left out, repetitions allowed.
        options ([`HeadOptions`], *optional*):
            What becomes of the logits; by default nothing.

    Returns:
        `torch.Tensor` of shape `(Q,)`, in float32 at least, with gradients.
    """
    return _RestLogProbs.apply(hidden, weight, bias, outside, options or HeadOptions())


def rest_log_probs_of_logits(tree: LabelTree, rest: int, logits: Tensor) -> Tensor:
    """Of one rest, by its index in `tree.rests`, and of `logits` `(..., V)` after the temperature: `(...)`."""
    others = logits.index_fill(-1, tree.rest_tokens[rest].to(logits.device), -torch.inf)
    return others.logsumexp(-1) - logits.logsumexp(-1)
