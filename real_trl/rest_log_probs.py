# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The probability of all tokens but a few, out of the logits: the *rests* of a [`~real_trl.label_tree.LabelTree`].

One minus the probability of the few would do, were it not for cancellation: where they have 0.99999, float32 leaves three
digits of it, and the rest's logarithm, which is part of a reward, is off by 1e-2. Here it is the log-sum-exp of the other
tokens' logits minus that of all.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from trl.trainer.utils import maybe_gather_lm_head_ctx

from real_trl.label_tree import LabelTree

_ROWS = 2**14  # of the vocabulary at a time, whose logits are held in float32


@dataclass(frozen=True)
class HeadOptions:
    """
    What becomes of logits before the softmax.

    Attributes:
        temperature, scale (`float`):
            Divides and multiplies the logits.
        softcap (`float`, *optional*):
            Bounds them, after `scale` and before `temperature`.
    """

    temperature: float = 1.0
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: nn.Module) -> "HeadOptions":
        """
        Those of TRL's fused LM head in `model`, without wrappers; there is no other place where they are kept.

        Raises:
            ValueError: if the model has no such head.
        """
        forward = _fused_forward(getattr(model, "_original_forward", model.forward))
        if forward is None:
            raise ValueError(
                f"model: {type(model).__name__} has no fused LM head. Call trl.trainer.utils.add_fused_lm_head on it first."
            )
        options = dict(zip(forward.__code__.co_freevars, (x.cell_contents for x in forward.__closure__), strict=True))
        return cls(options["temperature"], options["logit_scale"], options["final_logit_softcapping"])

    def apply(self, logits: Tensor) -> tuple[Tensor, Tensor | float]:
        """What goes into the softmax, and its derivative."""
        if self.softcap is None:
            factor = self.scale / self.temperature
            return (logits if factor == 1.0 else logits * factor), factor
        bounded = (logits * (self.scale / self.softcap)).tanh()
        return bounded * (self.softcap / self.temperature), (1 - bounded**2) * (self.scale / self.temperature)


def _fused_forward(forward: Any) -> FunctionType | None:
    """TRL's function among those that `forward` wraps."""
    function = forward.__func__ if isinstance(forward, MethodType) else forward
    if not isinstance(function, FunctionType):
        return None
    if function.__code__.co_name == "_fused_forward":
        return function
    inner = (_fused_forward(cell.cell_contents) for cell in function.__closure__ or ())
    return next((found for found in inner if found is not None), None)


class _RestLogProbs(torch.autograd.Function):
    """Log-probability `(Q,)` of all tokens but `outside` `(Q, X)`, a part of the vocabulary at a time; see [`rest_log_probs`]."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, outside: Tensor, options: HeadOptions
    ) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        total, rest = (hidden.new_full((len(hidden),), -torch.inf, dtype=dtype) for _ in range(2))
        with torch.autocast(hidden.device.type, enabled=False):
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
        with maybe_gather_lm_head_ctx(weight, bias), torch.autocast(hidden.device.type, enabled=False):
            grad_weight = torch.empty_like(weight) if wants_weight else None
            grad_bias = torch.empty_like(bias) if wants_bias else None
            for tokens in _parts(len(weight)):
                logits, slope = ctx.options.apply(_logits(hidden, weight, bias, tokens, grad.dtype))
                among_rest = (logits - rest.unsqueeze(1)).exp().masked_fill(_within(outside, tokens), 0.0)
                shares = (among_rest - (logits - total.unsqueeze(1)).exp()) * grad.unsqueeze(1) * slope
                if wants_hidden:
                    grad_hidden += shares @ weight[tokens].to(grad.dtype)
                if wants_weight:
                    grad_weight[tokens] = (shares.T @ hidden.to(grad.dtype)).to(weight.dtype)
                if wants_bias:
                    grad_bias[tokens] = shares.sum(0).to(bias.dtype)
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, grad_bias, None, None


def _parts(vocabulary: int) -> list[slice]:
    return [slice(start, min(start + _ROWS, vocabulary)) for start in range(0, vocabulary, _ROWS)]


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, tokens: slice, dtype: torch.dtype) -> Tensor:
    logits = hidden.to(dtype) @ weight[tokens].to(dtype).T
    return logits if bias is None else logits.add_(bias[tokens].to(dtype))


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


class RestReading:
    """
    While [`reading_rests`] is active, takes the rests out of the model's forward.

    Attributes:
        log_probs (`torch.Tensor` of shape `(N, R)`, *optional*):
            Log-probability of the rests of each sequence's tree, after the forward; `None` if the tree has none.
    """

    log_probs: Tensor | None = None


@contextmanager
def reading_rests(model: nn.Module, tree: LabelTree, positions: Tensor) -> Iterator[RestReading]:
    """
    While active, a forward also computes the rests of label trees, inside the model's own forward, where ZeRO-3's and DDP's
    hooks expect it.

    Args:
        model (`nn.Module`):
            Causal LM with TRL's fused LM head, without wrappers.
        tree ([`LabelTree`]):
            With `R` rests.
        positions (`torch.Tensor` of shape `(B, Q)`):
            In `B` rows of tokens, those whose hidden states predict the rests: `B · Q = N · R`, in the order of the sequences.

    Yields:
        [`RestReading`]
    """
    reading = RestReading()
    if not tree.rests:
        yield reading
        return
    options = HeadOptions.of(model)

    def read(module: nn.Module, args: Any, output: Any) -> None:
        head, home = model.get_output_embeddings(), positions.device
        weight, bias = (x.full_tensor() if isinstance(x, DTensor) else x for x in (head.weight, head.bias))
        states = output.last_hidden_state
        index = positions.to(states.device).unsqueeze(-1).expand(-1, -1, states.size(-1))
        hidden = states.gather(1, index).flatten(0, 1).to(weight.device)  # (N · R, H)
        outside = tree.rest_tokens.to(weight.device).repeat(len(hidden) // len(tree.rests), 1)
        with maybe_gather_lm_head_ctx(weight, bias):
            reading.log_probs = (
                rest_log_probs(hidden, weight, bias, outside, options).view(-1, len(tree.rests)).to(home)
            )

    handle = model.base_model.register_forward_hook(read)
    try:
        yield reading
    finally:
        handle.remove()
