# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
FlashAttention for sequences of different lengths, written out with matrices of scores, in the place of the operators that only a GPU
has: everything above them, PyTorch's `varlen_attn` included, then runs on a CPU, in any floating-point type.

What it says of them is what `torch.nn.attention.varlen` says: rows `(T, heads, D)`, log-sum-exps `(heads, T)` in float32 at least,
sequences between neighbouring numbers of `cum_seq`, heads of keys for as many neighbouring heads of queries each. The backward is that
of a part: probabilities by the log-sum-exp that it is given, and `sum(grad · out)` of the output that it is given.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor
from torch.library import Library, _scoped_library

from real_trl.forward import kernels, packed_attention, shared_cache


class Calls(list):
    """Of each forward the numbers of queries and keys in each sequence, and whether it is causal."""


@contextmanager
def on_the_cpu() -> Iterator[Calls]:
    """Meanwhile, what a GPU in half precision takes is taken by a CPU, in any type."""
    calls, modules = Calls(), (kernels, packed_attention, shared_cache)
    own = kernels.takes_flash
    with _scoped_library("aten", "IMPL") as library:
        _implement(library, calls)
        for module in modules:
            module.takes_flash = lambda query: query.size(-1) % 8 == 0
        try:
            yield calls
        finally:
            for module in modules:
                module.takes_flash = own


def _implement(library: Library, calls: Calls) -> None:
    def forward(
        query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, return_debug_mask, **options
    ):
        sequences = _sequences(query, key, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, options)
        calls.append(([(q.stop - q.start, k.stop - k.start) for q, k in sequences], is_causal))
        out = torch.empty_like(query)
        lse = query.new_empty(query.size(1), query.size(0), dtype=torch.promote_types(query.dtype, torch.float32))
        for queries, keys in sequences:
            scores = _scores(query[queries], key[keys], options["scale"], is_causal)
            lse[:, queries] = scores.logsumexp(-1)
            probs = (scores - lse[:, queries].unsqueeze(-1)).exp()
            out[queries] = (probs @ _heads(value[keys], query)).transpose(0, 1).to(out.dtype)
        nothing = query.new_empty(0)
        return out, lse, nothing, nothing, nothing

    def backward(
        grad_out,
        query,
        key,
        value,
        out,
        logsumexp,
        cum_seq_q,
        cum_seq_k,
        max_q,
        max_k,
        dropout_p,
        is_causal,
        *_,
        **options,
    ):
        assert logsumexp.shape == (query.size(1), query.size(0)) and logsumexp.is_contiguous()
        sequences = _sequences(query, key, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, options)
        grads = [torch.empty_like(x) for x in (query, key, value)]
        groups = query.size(1) // key.size(1)
        for queries, keys in sequences:
            scores = _scores(query[queries], key[keys], options["scale"], is_causal)
            probs = (scores - logsumexp[:, queries].unsqueeze(-1)).exp()
            mine, whole = (x[queries].transpose(0, 1).to(probs.dtype) for x in (grad_out, out))  # (H, Q, D)
            delta = (mine * whole).sum(-1, keepdim=True)
            grad_scores = probs * (mine @ _heads(value[keys], query).mT - delta) * options["scale"]
            shares = grad_scores.mT @ _heads(query[queries], query), probs.mT @ mine  # (H, K, D)
            grads[0][queries] = (grad_scores @ _heads(key[keys], query)).transpose(0, 1).to(query.dtype)
            for grad, share in zip(grads[1:], shares, strict=True):
                # (H, K, D) -> (J, H/J, K, D) -> (J, K, D) -> (K, J, D)
                grad[keys] = share.unflatten(0, (-1, groups)).sum(1).transpose(0, 1).to(grad.dtype)
        return tuple(grads)

    library.impl("_flash_attention_forward", forward, "CPU")
    library.impl("_flash_attention_backward", backward, "CPU")


def _sequences(
    query, key, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, options
) -> list[tuple[slice, slice]]:
    """Queries and keys of each; what the kernels do not say what they do with is refused."""
    assert cum_seq_q.dtype == cum_seq_k.dtype == torch.int32 and query.size(1) % key.size(1) == 0 and dropout_p == 0
    assert options["window_size_left"] == -1 and options["window_size_right"] == (0 if is_causal else -1)
    parts = [[slice(*span) for span in pairwise(starts.tolist())] for starts in (cum_seq_q, cum_seq_k)]
    lengths = [[part.stop - part.start for part in side] for side in parts]
    assert min(*lengths[0], *lengths[1], 1) == 1 and max(lengths[0]) <= max_q > 1 and max(lengths[1]) <= max_k
    assert (cum_seq_q[-1], cum_seq_k[-1]) == (len(query), len(key)) and cum_seq_q[0] == cum_seq_k[0] == 0
    assert not is_causal or lengths[0] == lengths[1]
    return list(zip(*parts, strict=True))


def _heads(x: Tensor, query: Tensor) -> Tensor:
    """`(T, J, D)` as `(H, T, D)` of all heads of queries, in float32 at least."""
    x = x.transpose(0, 1).repeat_interleave(query.size(1) // x.size(1), 0)
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _scores(query: Tensor, key: Tensor, scale: float, is_causal: bool) -> Tensor:
    scores = _heads(query, query) @ _heads(key, query).mT * scale
    mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril() if is_causal else None
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)
