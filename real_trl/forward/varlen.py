# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention of packed sequences on a GPU, by FlashAttention for sequences of different lengths (`torch.nn.attention.varlen`): no padding,
no copies of keys for the heads that share them.

All that a row of tokens attends to is a few calls: one in which every sequence is causal in itself, and *crossings*, in which sequences
see other ones. They are merged with their log-sum-exps in float32. Given output and log-sum-exp of the merged attention, the backward of
each call returns its exact share of the gradients. PyTorch's own backward passes on those of the call instead, so that the
operator below it is called here; it is the one private name of this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import AuxRequest, varlen_attn

from real_trl.forward.kernels import Attended, merge


@dataclass(frozen=True)
class VarlenCall:
    """
    `N` sequences of queries, each with a sequence of keys; neither is empty.

    Attributes:
        queries, keys (`slice` or `torch.Tensor`):
            Rows that they stand in, those of the first sequence first.
        query_starts, key_starts (`torch.Tensor` of shape `(N + 1,)`, int32):
            Where each begins among these, and where the last one ends.
        max_queries, max_keys (`int`):
            Bounds on their lengths.
        causal (`bool`):
            Whether query `i` sees keys up to `i` only; then a sequence has as many of both.
    """

    queries: slice | Tensor
    keys: slice | Tensor
    query_starts: Tensor
    key_starts: Tensor
    max_queries: int
    max_keys: int
    causal: bool

    @classmethod
    def of(
        cls, queries: Sequence[Sequence[int]], keys: Sequence[Sequence[int]], device: torch.device, *, causal: bool
    ) -> "VarlenCall":
        """Of the rows of each sequence."""
        query_rows, key_rows = _rows(queries, device), _rows(keys, device)
        lengths = [list(map(len, parts)) for parts in (queries, keys)]
        from_query, from_key = (
            torch.tensor([0, *accumulate(sizes)], dtype=torch.int32).to(device) for sizes in lengths
        )
        # FlashAttention folds heads into queries where no sequence has more than one of these; a bound of 2 keeps it to one order of results
        longest = max(2, *lengths[0])
        return cls(query_rows, key_rows, from_query, from_key, longest, max(lengths[1]), causal)

    @classmethod
    def each_causal(cls, lengths: Sequence[int], device: torch.device) -> "VarlenCall":
        """Of sequences of these lengths, which stand behind each other in all rows."""
        spans = [range(end - length, end) for length, end in zip(lengths, accumulate(lengths), strict=True) if length]
        return cls.of(spans, spans, device, causal=True)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Attended:
        """Of all rows, `(T, H, D)` and `(T, J, D)`: output `(Q, H, D)` of the queries, and log-sum-exp of their scores `(H, Q)`."""
        output, lse = varlen_attn(
            query[self.queries],
            key[self.keys],
            value[self.keys],
            *self._lengths,
            return_aux=AuxRequest(lse=True),
            scale=scale,
            window_size=(-1, 0 if self.causal else -1),
            enable_gqa=True,
        )
        return output, lse

    def backward(
        self, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, scale: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        Gradients of the queries `(Q, H, D)`, keys and values `(K, J, D)` through this call's scores, where its output is a part of `out`.
        `grad`, `out` `(T, H, D)` and `lse` `(H, T)` are of the merged attention of all rows.
        """
        no_dropout = torch.zeros(2, dtype=torch.uint64, device=query.device)  # its random state
        return torch.ops.torch_attn._varlen_attn_backward(
            grad[self.queries],
            query[self.queries],
            key[self.keys],
            value[self.keys],
            out[self.queries],
            lse[:, self.queries].contiguous(),
            *self._lengths,
            self.causal,
            no_dropout,
            scale,
            [-1, 0 if self.causal else -1],
        )

    @property
    def _lengths(self) -> tuple[Tensor, Tensor, int, int]:
        return self.query_starts, self.key_starts, self.max_queries, self.max_keys


def calls_of_row(
    prefixes: Sequence[tuple[int, int]],
    branches: Sequence[tuple[int, int]],
    own: Sequence[tuple[int, int]],
    contexts: Sequence[tuple[int, int]],
    ancestors: Tensor,
    device: torch.device,
) -> list[VarlenCall]:
    """
    The calls of [`~real_trl.forward.packed_attention.PackedSequences`], whose attributes these are: first that in which prefixes,
    branches and each node of a tree are sequences, which has all rows, and then crossings: of the branches and trees of each prefix to
    it, of trees to what they see of their branch, and of nodes to those above them.
    """
    nodes, ends = len(ancestors), [end for _, end in own]
    lengths = [end - start for start, end in prefixes]
    for start, end in own:
        lengths += [end - start, *[1] * nodes]
    # The last in its row is the node itself
    above = [(node, row.nonzero().flatten().tolist()[:-1]) for node, row in enumerate(ancestors)]
    crossings: list[list[tuple[Sequence[int], Sequence[int]]]] = [
        [(range(*group), range(*prefix)) for group, prefix in zip(branches, prefixes, strict=True) if range(*group)],
        [
            (range(end, end + nodes), range(*context))
            for end, context in zip(ends, contexts, strict=True)
            if nodes and range(*context)
        ],
        [([end + node], [end + other for other in others]) for end in ends for node, others in above if others],
    ]
    return [
        VarlenCall.each_causal(lengths, device),
        *(
            VarlenCall.of([queries for queries, _ in pairs], [keys for _, keys in pairs], device, causal=False)
            for pairs in crossings
            if pairs
        ),
    ]


def varlen_attention(query: Tensor, key: Tensor, value: Tensor, calls: Sequence[VarlenCall], scale: float) -> Tensor:
    """Merged attention of `calls`, the first of which has all rows: `query` `(T, H, D)`, `key` and `value` `(T, J, D)` to `(T, H, D)`."""
    return _VarlenAttention.apply(query, key, value, calls, scale)


class _VarlenAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, calls: Sequence[VarlenCall], scale: float
    ) -> Tensor:
        whole, *crossings = calls
        out, lse = whole.attend(query, key, value, scale)
        if crossings:
            merged, of_rows = out.to(lse.dtype), lse.T  # (H, T) -> (T, H)
            for call in crossings:
                part, part_lse = call.attend(query, key, value, scale)
                before = merged[call.queries], of_rows[call.queries]
                merged[call.queries], of_rows[call.queries] = merge(before, (part, part_lse.T))
            out = merged.to(out.dtype)
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.calls, ctx.scale = calls, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, lse = ctx.saved_tensors
        whole, *crossings = ctx.calls
        grads = whole.backward(grad_out, query, key, value, out, lse, ctx.scale)
        for call in crossings:
            shares = call.backward(grad_out, query, key, value, out, lse, ctx.scale)
            for grad, rows, share in zip(grads, (call.queries, call.keys, call.keys), shares, strict=True):
                if isinstance(rows, slice):
                    grad[rows] += share
                else:
                    grad.index_add_(0, rows, share)  # several may see the same key
        return *grads, None, None


def _rows(parts: Sequence[Sequence[int]], device: torch.device) -> slice | Tensor:
    """The rows of all parts; a slice, which needs no copies, where they follow each other."""
    rows = [row for part in parts for row in part]
    if rows == list(range(rows[0], rows[0] + len(rows))):
        return slice(rows[0], rows[0] + len(rows))
    return torch.tensor(rows).to(device)
