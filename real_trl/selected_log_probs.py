# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The LM head where only some rows, and few tokens of each, are asked for.

Every row is projected once, in chunks, to its log-sum-exp; the log-probability of any number of tokens is then their logits
minus that. A score position thus costs one row for all its labels, and a tensor of `(tokens, vocabulary)` is never whole.
"""

import types
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput
from trl.trainer.utils import maybe_gather_lm_head_ctx

_CHUNK_LOGITS = 2**25  # numbers in a chunk of logits, in which the matrix products run
_BLOCK_LOGITS = 2**22  # numbers whose softmax is computed at a time on a CPU: 16 MiB in float32, near its caches


@dataclass
class SelectedLogProbs(ModelOutput):
    """
    Attributes:
        log_probs (`torch.Tensor` of shape `(Q,)`):
            Log-probability of every token asked for.
        entropy (`torch.Tensor` of shape `(R,)`):
            Entropy of every row's distribution, in nats, without gradient.
    """

    log_probs: Tensor | None = None
    entropy: Tensor | None = None


@dataclass
class TokenSelection:
    """
    What is asked of the LM head.

    Attributes:
        positions (`torch.Tensor` of shape `(R,)`):
            Positions, in a sequence of one row, whose hidden states reach the head.
        rows (`torch.Tensor` of shape `(Q,)`):
            For every token asked for, the index of its position in `positions`.
        tokens (`torch.Tensor` of shape `(Q,)`):
            The tokens.
    """

    positions: Tensor
    rows: Tensor
    tokens: Tensor


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        rows: Tensor,
        tokens: Tensor,
        temperature: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        head = weight.to(dtype)
        float_type = torch.promote_types(dtype, torch.float32)
        picked, entropy = (hidden.new_empty(n, dtype=float_type) for n in (len(rows), len(hidden)))
        asked = _Asked(rows, len(hidden))
        for chunk in _slices(len(hidden), _CHUNK_LOGITS // len(head)):
            logits = _logits(hidden[chunk].to(dtype), head, bias)
            for block in _blocks(logits):
                here = slice(chunk.start + block.start, chunk.start + block.stop)
                log_probs = _scaled(logits[block], temperature).log_softmax(-1, dtype=float_type)
                mine = asked.within(here)
                picked[mine] = log_probs[rows[mine] - here.start, tokens[mine]]
                entropy[here] = -log_probs.exp().mul_(log_probs).sum(-1)
        ctx.save_for_backward(hidden, weight, bias, rows, tokens)
        ctx.temperature, ctx.dtype = temperature, dtype
        ctx.mark_non_differentiable(entropy)
        return picked, entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, rows, tokens = ctx.saved_tensors
        dtype, temperature = ctx.dtype, ctx.temperature
        row_grad = grad.new_zeros(len(hidden)).index_add_(0, rows, grad)
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        with maybe_gather_lm_head_ctx(weight, bias):
            # Sums over chunks are kept in float32
            grad_weight = torch.zeros_like(weight, dtype=grad.dtype) if wants_weight else None
            grad_bias = torch.zeros_like(bias, dtype=grad.dtype) if wants_bias else None
            head, asked = weight.to(dtype), _Asked(rows, len(hidden))
            for chunk in _slices(len(hidden), _CHUNK_LOGITS // len(head)):
                inputs = hidden[chunk].to(dtype)
                grads = _logits(inputs, head, bias)
                for block in _blocks(grads):
                    here = slice(chunk.start + block.start, chunk.start + block.stop)
                    probs = _scaled(grads[block], temperature).softmax(-1, dtype=grad.dtype)
                    shares = probs.mul_(row_grad[here, None].neg())
                    mine = asked.within(here)
                    shares.index_put_((rows[mine] - here.start, tokens[mine]), grad[mine], accumulate=True)
                    grads[block] = _scaled(shares, temperature)
                if wants_hidden:
                    grad_hidden[chunk] = (grads @ head).to(hidden.dtype)
                if wants_weight:
                    if grad_weight.dtype == dtype:
                        grad_weight.addmm_(grads.T, inputs)
                    else:
                        grad_weight += grads.T @ inputs
                if wants_bias:
                    grad_bias += grads.sum(0, dtype=grad_bias.dtype)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            *[None] * 4,
        )


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


def _logits(hidden: Tensor, head: Tensor, bias: Tensor | None) -> Tensor:
    logits = hidden @ head.T
    return logits if bias is None else logits.add_(bias.to(logits.dtype))


def _scaled(x: Tensor, temperature: float) -> Tensor:
    return x if temperature == 1.0 else x.to(torch.promote_types(x.dtype, torch.float32)) / temperature


def selected_log_probs(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor, tokens: Tensor, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """
    Log-probabilities of some tokens, and entropies.

    Args:
        hidden (`torch.Tensor` of shape `(R, H)`):
            Hidden states.
        weight (`torch.Tensor` of shape `(V, H)`), bias (`torch.Tensor` of shape `(V,)`, *optional*):
            The LM head's. Under ZeRO-3 they must be gathered, in the backward they are again.
        rows, tokens (`torch.Tensor` of shape `(Q,)`):
            The tokens asked for, and the row of `hidden` that predicts each.
        temperature (`float`, *optional*, defaults to `1.0`):
            Divides the logits.

    Returns:
        Log-probabilities `(Q,)` and entropies of the rows `(R,)` in nats, the latter without gradient. In float32, with
        logits rounded to the type of the matrix product: that of autocast, or of `hidden`.
    """
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    return _LogProbs.apply(hidden, weight, bias, rows, tokens, temperature, dtype)


def why_head_not_exact(model: PreTrainedModel) -> str | None:
    """Why [`add_token_selection`] cannot stand for the LM head of `model`, for a log line; `None` if it can."""
    config, head = model.config, model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return f"the LM head is a {type(head).__name__}, not a plain linear layer"
    for name in (
        "final_logit_softcapping",
        "logit_scale",
        "logits_scaling",
        "output_multiplier",
        "lm_head_multiplier",
    ):
        if getattr(config, name, None) is not None:
            return f"the logits are transformed ({name})"
    return None


def add_token_selection(model: PreTrainedModel, temperature: float = 1.0) -> None:
    """
    Let `model(..., selection=TokenSelection(...))` return [`SelectedLogProbs`]. Other calls stay as they are.

    All of it happens in the model's own forward, where ZeRO-3's and DDP's hooks expect it.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers, for which [`why_head_not_exact`] is `None`.
        temperature (`float`, *optional*, defaults to `1.0`):
            Divides the logits.
    """
    original = model.forward

    @wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, selection: TokenSelection | None = None, **kwargs: Any) -> Any:
        if selection is None:
            return original(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state[0]
        weight, bias = self.get_output_embeddings().weight, self.get_output_embeddings().bias
        # As in TRL: a model split over devices can end on another than the head's; FSDP2 has sharded parameters
        device, home = weight.device, selection.tokens.device
        weight, bias = (x.full_tensor() if isinstance(x, DTensor) else x for x in (weight, bias))
        hidden = hidden[selection.positions.to(hidden.device)].to(device)
        with maybe_gather_lm_head_ctx(weight, bias):
            log_probs, entropy = selected_log_probs(
                hidden, weight, bias, selection.rows.to(device), selection.tokens.to(device), temperature
            )
        return SelectedLogProbs(log_probs=log_probs.to(home), entropy=entropy.to(home))

    model.forward = types.MethodType(forward, model)
