# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention over packed sequences that share prefixes, exact and without a `(length, length)` mask.

A completion's token attends to its prompt and to what precedes it in its own completion. The two parts are computed by
flash-attention kernels of their own, each with the log-sum-exp of its scores, and merged:

`out = Σ_part exp(lse_part − lse) · out_part`, `lse = log Σ_part exp(lse_part)`.

The backward of such a kernel needs only the scores' log-sum-exp and the output; given those of the merged attention it
returns the part's exact share of the gradients (as in ring attention). A prompt's keys and values are thus read once for
all completions of its group.

[`install_prefix_attention`] makes a model use it through transformers' attention interface. Nothing changes for calls that do not pass a
layout: those go to `sdpa`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from real_trl.attention_kernels import Part, attend, attend_backward, merge

# The name has "sdpa" in it, by which transformers tells what a model must be able to do
PREFIX_ATTENTION = "shared_prefix_sdpa"


class AttentionLayout(Protocol):
    """What the tokens of a forward attend to."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """`query` `(B, H, T, D)`, `key` and `value` `(B, J, T, D)` of `J` key-value heads to the output `(B, H, T, D)`."""
        ...


@dataclass
class PackedSequences:
    """
    Sequences in one row of `T` tokens without padding: first the prefixes, then the branches, those of the first prefix first.
    A prefix is causal; a branch sees its whole prefix and, causally, itself.

    Attributes:
        prefixes (`Sequence[tuple[int, int]]`):
            Start and end of every prefix.
        branches (`Sequence[tuple[int, int]]`):
            Start and end of all branches of each prefix together; equal where it has none.
        own (`torch.Tensor` of shape `(N, S)`):
            Positions of each branch's tokens, padded on the right with any position.
        own_mask (`torch.Tensor` of shape `(N, S)`, bool):
            `False` at padding.
        tree_mask (`torch.Tensor` of shape `(N, 1, S, S)`, bool, *optional*):
            What the tokens of a branch attend to within it, where that is not causal: the nodes of a
            [`~real_trl.label_tree.LabelTree`]. Every token attends to itself, padding too.
    """

    prefixes: Sequence[tuple[int, int]]
    branches: Sequence[tuple[int, int]]
    own: Tensor
    own_mask: Tensor
    tree_mask: Tensor | None = None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See [`AttentionLayout`]; `B` is 1."""
        self._move(query.device)
        return _PackedAttention.apply(query[0], key[0], value[0], self, scale).unsqueeze(0)

    def _move(self, device: torch.device) -> None:
        """A model may be split over several devices."""
        if self.own.device != device:
            self.own, self.own_mask = self.own.to(device), self.own_mask.to(device)
            self.tree_mask = None if self.tree_mask is None else self.tree_mask.to(device)


class _PackedAttention(torch.autograd.Function):
    """Attention of [`PackedSequences`]: `query` `(H, T, D)`, `key` and `value` `(J, T, D)` to `(H, T, D)`."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PackedSequences, scale: float) -> Tensor:
        heads, length, size = query.shape
        # The memory order in which the model reads it: (T, H, D)
        out = query.new_empty(length, heads, size).transpose(0, 1)
        lse = torch.empty(heads, length, dtype=torch.promote_types(query.dtype, torch.float32), device=query.device)
        for start, end in layout.prefixes:
            part = (query[:, start:end], key[:, start:end], value[:, start:end])
            out[:, start:end], lse[:, start:end] = attend(*part, scale, causal=True)
        first = min((start for start, end in layout.branches if end > start), default=length)
        if first < length:
            own = Part(*(_gather(x, layout.own) for x in (query, key, value)))
            own_out, own_lse = own.attend(scale, layout.tree_mask)
            own_out, own_lse = _ungather(own_out, layout.own_mask), _ungather(own_lse, layout.own_mask)
            for (start, end), (branch, stop) in zip(layout.prefixes, layout.branches, strict=True):
                if stop > branch:
                    part = (query[:, branch:stop], key[:, start:end], value[:, start:end])
                    mine = slice(branch - first, stop - first)
                    out[:, branch:stop], lse[:, branch:stop] = merge(
                        attend(*part, scale, causal=False), (own_out[:, mine], own_lse[:, mine])
                    )
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale, ctx.first = layout, scale, first
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        layout, scale = ctx.layout, ctx.scale
        grads = [torch.empty_like(x) for x in (query, key, value)]
        for start, end in layout.prefixes:
            rows = slice(start, end)
            part = (query[:, rows], key[:, rows], value[:, rows], out[:, rows], lse[:, rows])
            for grad, share in zip(grads, attend_backward(grad_out[:, rows], *part, scale, causal=True), strict=True):
                grad[:, rows] = share
        if ctx.first < query.size(1):
            own = Part(*(_gather(x, layout.own) for x in (query, key, value)))
            # At padding no score has any weight
            own_lse = _gather(lse, layout.own).masked_fill(~layout.own_mask.unsqueeze(1), torch.inf)
            shares = own.backward(
                *(_gather(x, layout.own, layout.own_mask) for x in (grad_out, out)), own_lse, scale, layout.tree_mask
            )
            for grad, share in zip(grads, shares, strict=True):
                grad[:, ctx.first :] = _ungather(share, layout.own_mask)
            for (start, end), (branch, stop) in zip(layout.prefixes, layout.branches, strict=True):
                if stop > branch:
                    rows, keys = slice(branch, stop), slice(start, end)
                    part = (query[:, rows], key[:, keys], value[:, keys], out[:, rows], lse[:, rows])
                    shares = attend_backward(grad_out[:, rows], *part, scale, causal=False)
                    for grad, where, share in zip(grads, (rows, keys, keys), shares, strict=True):
                        grad[:, where] += share
        return *grads, None, None


def _gather(x: Tensor, own: Tensor, mask: Tensor | None = None) -> Tensor:
    """Rows of `x` `(H, T, ...)` at the positions `own` `(N, S)`, as `(N, H, S, ...)`; zero where `mask` is false."""
    rows = x[:, own].transpose(0, 1)
    return rows if mask is None else rows.masked_fill(~mask[:, None, :, None], 0.0)


def _ungather(x: Tensor, mask: Tensor) -> Tensor:
    """The rows of `x` `(N, H, S, ...)` where `mask` `(N, S)` is true, in their order: `(H, rows, ...)`."""
    return x.transpose(0, 1)[:, mask]


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    attention_layout: AttentionLayout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """
    Attention function for transformers' interface: that of `attention_layout` where the model is called with one, and
    `sdpa` otherwise.
    """
    if attention_layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    device = query.device.type
    # Rotary embeddings leave float32 queries under autocast
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    scale = scaling if scaling is not None else query.size(-1) ** -0.5
    out = attention_layout.attend(module.layer_idx, query.to(dtype), key.to(dtype), value.to(dtype), scale)
    return out.transpose(1, 2), None


AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)

# Rotary or learned positions taken from `position_ids`, attention through the interface, nothing that mixes tokens elsewhere.
# Each is compared with the dense forward in the tests.
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "gpt2")


Dropout = Literal["of shared tokens", "of attention", "none"]


def why_not_exact(model: PreTrainedModel, dropout: Dropout = "of shared tokens") -> str | None:
    """
    Why forwards of `model` would not be exact with an [`AttentionLayout`], for a log line; `None` if they are.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers.
        dropout (`str`, *optional*, defaults to `"of shared tokens"`):
            Which dropout would make a difference: every kind, where tokens are shared; that of attention, which a layout
            does not apply; none, outside of training.
    """
    implementation = model.config._attn_implementation
    if implementation not in ("sdpa", PREFIX_ATTENTION):
        return f"attn_implementation is {implementation!r}, not 'sdpa'"
    reason = why_config_not_exact(model.config, dropout)
    if reason is None and dropout == "of shared tokens":
        names = [name for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p > 0]
        if names:
            kind = "lora_dropout" if "lora_dropout" in names[0] else f"dropout ({names[0]})"
            reason = f"{kind} would drop parts of a prompt once for all its completions; set it to 0"
    return reason


def why_config_not_exact(config: PreTrainedConfig, dropout: Dropout = "of shared tokens") -> str | None:
    """What of that is known before the model is loaded."""
    if config.model_type not in MODEL_TYPES:
        return f"the architecture {config.model_type!r} is not among {', '.join(MODEL_TYPES)}"
    if has_sliding_window(config):
        return "some layers have a sliding window"
    for name in ("attention_dropout", "attn_pdrop"):
        if dropout != "none" and getattr(config, name, 0.0):
            return f"{name} is {getattr(config, name)}, which shared attention does not apply; set it to 0"
    return None


def has_sliding_window(config: PreTrainedConfig) -> bool:
    """Whether some layers do not see the whole sequence."""
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return kinds != {"full_attention"} or bool(
        getattr(config, "sliding_window", None) and not hasattr(config, "layer_types")
    )


def install_prefix_attention(model: PreTrainedModel) -> None:
    """Let forwards of `model`, for which [`why_not_exact`] is `None`, take an `attention_layout`."""
    model.set_attn_implementation(PREFIX_ATTENTION)


# The model would build a mask over the whole row from position ids that start anew, as of packed sequences; one of four
# dimensions is handed on as it is
def no_mask(input_ids: Tensor) -> Tensor:
    """An attention mask that stops the model from building one; the layout stands for it."""
    return input_ids.new_zeros(1, 1, 1, 1, dtype=torch.bool)
