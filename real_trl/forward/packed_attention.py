# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention over packed sequences that share prefixes, exact and without a `(length, length)` mask.

A completion's token attends to its prompt and to what precedes it in its own completion. The two parts are computed by
flash-attention kernels, each with the log-sum-exp of its scores, and merged, in float32 at least:

`out = Σ_part exp(lse_part − lse) · out_part`, `lse = log Σ_part exp(lse_part)`.

The backward of such a kernel needs only the scores' log-sum-exp and the output; given those of the merged attention it
returns the part's exact share of the gradients (as in ring attention). A prompt's keys and values are thus read once for
all completions of its group.

On GPUs with FlashAttention the parts are a few calls for sequences of any length ([`varlen`](varlen.py)). Elsewhere each prefix has calls
of its own, and branches of similar length are padded to one batch.

[`install_prefix_attention`] makes a model use it through transformers' attention interface. Nothing changes for calls that do not pass a
layout: those go to `sdpa`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from real_trl.forward.kernels import Part, attend, attend_backward, merge, takes_flash
from real_trl.forward.varlen import VarlenCall, calls_of_row, varlen_attention

# The name has "sdpa" in it, by which transformers tells what a model must be able to do
PREFIX_ATTENTION = "shared_prefix_sdpa"
_SHORTEST_BUCKET = 31  # branches of up to 32 tokens are padded to the longest of them


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
            Start and end of all branches of each prefix together, with their trees; equal where it has none.
        own (`Sequence[tuple[int, int]]`):
            Start and end of every branch. Behind it stands its tree.
        contexts (`Sequence[tuple[int, int]]`):
            For each branch, start and end of the part of it that its tree sees, possibly empty.
        ancestors (`torch.Tensor` of shape `(M, M)`):
            Which nodes of its own tree each node sees, see [`~real_trl.label_tree.LabelTree`].
    """

    prefixes: Sequence[tuple[int, int]]
    branches: Sequence[tuple[int, int]]
    own: Sequence[tuple[int, int]]
    contexts: Sequence[tuple[int, int]]
    ancestors: Tensor
    # A model may be split over several devices
    _buckets: dict[torch.device, list["Bucket"]] = field(default_factory=dict, repr=False)
    _calls: dict[torch.device, list[VarlenCall]] = field(default_factory=dict, repr=False)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """See [`AttentionLayout`]; `B` is 1."""
        if takes_flash(query):
            # (1, H, T, D) -> (T, H, D) -> (1, H, T, D)
            q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
            return varlen_attention(q, k, v, self.calls(query.device), scale).transpose(0, 1).unsqueeze(0)
        # (1, H, T, D) -> (H, T, D) -> (1, H, T, D)
        return _PackedAttention.apply(query[0], key[0], value[0], self, scale).unsqueeze(0)

    def calls(self, device: torch.device) -> list[VarlenCall]:
        """What a GPU computes."""
        if device not in self._calls:
            spans = self.prefixes, self.branches, self.own, self.contexts
            self._calls[device] = calls_of_row(*spans, self.ancestors, device)
        return self._calls[device]

    def buckets(self, device: torch.device) -> list["Bucket"]:
        """The branches, those of similar length together, and behind them their trees."""
        if device not in self._buckets:
            nodes = len(self.ancestors)
            trees = [(end, end + nodes) for _, end in self.own]
            self._buckets[device] = [
                *make_buckets(self.own, device),
                *make_tree_buckets(self.contexts, trees, self.ancestors, device),
            ]
        return self._buckets[device]


@dataclass
class Bucket:
    """
    Branches of similar length, which attend to themselves as one batch, padded to the longest; or label trees, whose few tokens
    attend to themselves and to a part of a branch.

    Attributes:
        own (`torch.Tensor` of shape `(N, S)`):
            Positions of each branch's tokens, padded on the right with any position.
        is_padding (`torch.Tensor` of shape `(N, S)`, bool):
            `True` at padding.
        real (`torch.Tensor` of shape `(M,)`):
            Which of the `N * S` are no padding.
        positions (`torch.Tensor` of shape `(M,)`):
            Their positions.
        tree_mask (`torch.Tensor` of shape `(N, 1, S, K)`, bool, *optional*):
            What the nodes of a [`~real_trl.label_tree.LabelTree`] attend to among `seen`, themselves always; without it a branch is
            causal.
        seen (`torch.Tensor` of shape `(N, K)`, *optional*):
            Positions of the keys, any at those that nothing attends to.
    """

    own: Tensor
    is_padding: Tensor
    real: Tensor
    positions: Tensor
    tree_mask: Tensor | None = None
    seen: Tensor | None = None

    def to(self, device: torch.device) -> "Bucket":
        """The same on `device`."""
        moved: dict[str, Any] = {name: None if x is None else x.to(device) for name, x in vars(self).items()}
        return Bucket(**moved)

    def gather(self, x: Tensor, fill: float | None = None) -> Tensor:
        """Rows of `x` `(H, T, ...)` as `(N, H, S, ...)`; at padding `fill`, or any."""
        rows = x[:, self.own].transpose(0, 1)  # (H, T, ...) -> (H, N, S, ...) -> (N, H, S, ...)
        if fill is None:
            return rows
        padding = self.is_padding.unsqueeze(1)  # (N, 1, S)
        return rows.masked_fill(padding if x.dim() == 2 else padding.unsqueeze(-1), fill)

    def part(self, query: Tensor, key: Tensor, value: Tensor) -> Part:
        """What attends to what, of `(H, T, D)` and `(J, T, D)`."""
        if self.seen is None:
            return Part(*map(self.gather, (query, key, value)))
        # (J, T, D) -> (N, J, K, D)
        return Part(self.gather(query), *(x[:, self.seen].transpose(0, 1) for x in (key, value)))

    def put_grads(self, grads: Sequence[Tensor], shares: Sequence[Tensor]) -> None:
        """
        Write gradients of [`Bucket.part`] to where they belong in `grads`, of query, key and value, those of trees behind those of
        the branches that they see.
        """
        if self.seen is None:
            for grad, share in zip(grads, shares, strict=True):
                grad[:, self.positions] = self.ungather(share)
            return
        grads[0][:, self.positions] = self.ungather(shares[0])
        for grad, share in zip(grads[1:], shares[1:], strict=True):
            grad[:, self.positions] = 0  # its own tokens are in no other bucket
            grad.index_add_(1, self.seen.flatten(), share.transpose(0, 1).flatten(1, 2))  # (N, J, K, D) -> (J, N*K, D)

    def ungather(self, x: Tensor) -> Tensor:
        """The rows of `x` `(N, H, S, ...)` that are no padding: `(H, M, ...)`, those of `positions`."""
        return x.transpose(0, 1).flatten(1, 2)[:, self.real]  # (N, H, S, ...) -> (H, N*S, ...) -> (H, M, ...)


def make_buckets(spans: Sequence[tuple[int, int]], device: torch.device) -> list[Bucket]:
    """
    Put branches, given by start and end, into buckets in which the longest is at most twice as long as any, but for short ones. Empty
    ones are left out.
    """
    buckets = []
    for branches in _of_similar_length(spans):
        own, is_padding = _padded_spans([spans[branch] for branch in branches])
        real = (~is_padding).flatten().nonzero().squeeze(1)
        # positions: (N, S) -> (N*S,) -> (M,)
        buckets.append(Bucket(own, is_padding, real, own.flatten()[real]).to(device))
    return buckets


def make_tree_buckets(
    contexts: Sequence[tuple[int, int]], trees: Sequence[tuple[int, int]], ancestors: Tensor, device: torch.device
) -> list[Bucket]:
    """
    Buckets of label trees, to be put behind those of the branches.

    Args:
        contexts, trees (`Sequence[tuple[int, int]]`):
            For each tree, start and end of the part of a branch that it sees, possibly empty, and of its own `M` tokens.
        ancestors (`torch.Tensor` of shape `(M, M)`):
            Which of its own tokens each sees.
    """
    nodes, buckets = len(ancestors), []
    if not nodes:
        return []
    for which in _of_similar_length(contexts, keep_empty=True):
        own, is_padding = _padded_spans([trees[tree] for tree in which])
        context, is_hidden = _padded_spans([contexts[tree] for tree in which])
        mask = torch.cat([~is_hidden, torch.ones_like(own, dtype=torch.bool)], dim=1)  # (N, S + M)
        mask = mask[:, None, None].repeat(1, 1, nodes, 1)  # (N, S + M) -> (N, 1, M, S + M)
        mask[..., -nodes:] = ancestors
        real = torch.arange(own.numel())
        seen = torch.cat([context, own], dim=1)
        buckets.append(Bucket(own, is_padding, real, own.flatten(), mask, seen).to(device))
    return buckets


def _of_similar_length(spans: Sequence[tuple[int, int]], keep_empty: bool = False) -> list[list[int]]:
    by_size: dict[int, list[int]] = {}
    for index, (start, end) in enumerate(spans):
        if end > start or keep_empty:
            by_size.setdefault(max(_SHORTEST_BUCKET, end - start - 1).bit_length(), []).append(index)
    return list(by_size.values())


def _padded_spans(spans: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
    """Positions `(N, S)` of the spans' tokens, padded on the right with any position, and which are padding."""
    lengths = torch.tensor([end - start for start, end in spans])
    index = torch.arange(int(lengths.max()))
    is_padding = index >= lengths.unsqueeze(1)
    positions = torch.tensor([start for start, _ in spans]).unsqueeze(1) + index  # (N, 1) + (S,) -> (N, S)
    return positions.masked_fill(is_padding, 0), is_padding


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
        buckets = layout.buckets(query.device)
        for bucket in buckets:
            own_out, own_lse = bucket.part(query, key, value).attend(scale, bucket.tree_mask)
            out[:, bucket.positions], lse[:, bucket.positions] = map(bucket.ungather, (own_out, own_lse))
        for rows, keys in _crossings(layout):
            crossing = attend(query[:, rows], key[:, keys], value[:, keys], scale, causal=False)
            out[:, rows], lse[:, rows] = merge(crossing, (out[:, rows], lse[:, rows]))
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.buckets, ctx.scale = layout, buckets, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grad_out.device.type, enabled=False):
            return *_PackedAttention._gradients(ctx, grad_out), None, None

    @staticmethod
    def _gradients(ctx: Any, grad_out: Tensor) -> list[Tensor]:
        query, key, value, out, lse = ctx.saved_tensors
        layout, scale = ctx.layout, ctx.scale
        grads = [torch.empty_like(x) for x in (query, key, value)]
        for start, end in layout.prefixes:
            rows = slice(start, end)
            part = (query[:, rows], key[:, rows], value[:, rows], out[:, rows], lse[:, rows])
            for grad, share in zip(grads, attend_backward(grad_out[:, rows], *part, scale, causal=True), strict=True):
                grad[:, rows] = share
        for bucket in ctx.buckets:
            part = bucket.part(query, key, value)
            # At padding no score has any weight, and nothing comes back
            given = bucket.gather(grad_out, 0.0), bucket.gather(out, 0.0), bucket.gather(lse, torch.inf)
            bucket.put_grads(grads, part.backward(*given, scale, bucket.tree_mask))
        for rows, keys in _crossings(layout):
            part = (query[:, rows], key[:, keys], value[:, keys], out[:, rows], lse[:, rows])
            shares = attend_backward(grad_out[:, rows], *part, scale, causal=False)
            for grad, where, share in zip(grads, (rows, keys, keys), shares, strict=True):
                grad[:, where] += share
        return grads


def _crossings(layout: PackedSequences) -> list[tuple[slice, slice]]:
    """The branches of each prefix that has any, and the prefix that they see."""
    pairs = zip(layout.branches, layout.prefixes, strict=True)
    return [(slice(*branches), slice(*prefix)) for branches, prefix in pairs if branches[1] > branches[0]]


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
    with torch.autocast(device, enabled=False):  # it would take the scores' float32 from the kernels
        out = attention_layout.attend(module.layer_idx, query.to(dtype), key.to(dtype), value.to(dtype), scale)
    return out.transpose(1, 2), None  # (B, H, T, D) -> (B, T, H, D)


AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)


def install_prefix_attention(model: PreTrainedModel) -> None:
    """Let forwards of `model`, for which [`~real_trl.forward.support.why_not_exact`] is `None`, take an `attention_layout`."""
    model.set_attn_implementation(PREFIX_ATTENTION)


# The model would build a mask over the whole row from position ids that start anew, as of packed sequences; one of four
# dimensions is handed on as it is
def no_mask(input_ids: Tensor) -> Tensor:
    """An attention mask that stops the model from building one; the layout stands for it."""
    return input_ids.new_zeros(1, 1, 1, 1, dtype=torch.bool)
