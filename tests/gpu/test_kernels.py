# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Attention in half precision is at most twice as far from the truth, float64 on the CPU, as attention written out in the same
type; its log-sum-exp, which is in float32, is as good as float32.
"""

from contextlib import nullcontext
from itertools import accumulate

import pytest
import torch

from real_trl.forward import kernels
from real_trl.forward.kernels import Part, attend, attend_backward, attend_each
from real_trl.forward.shared_prefix import pack_groups
from real_trl.forward.varlen import VarlenCall
from tests.forward.test_shared_prefix import TREES
from tests.gpu.conftest import DEVICE, ON_GPU, error
from tests.helpers.varlen_kernels import on_the_cpu

pytestmark = pytest.mark.gpu
EPSILON = {torch.float32: 1e-6, torch.bfloat16: 1e-4, torch.float16: 1e-5}
DTYPES = pytest.mark.parametrize("dtype", EPSILON, ids=lambda dtype: str(dtype).removeprefix("torch."))
SIZES = pytest.mark.parametrize("size", [64, 128, 80])
GROUPS = pytest.mark.parametrize("groups", [1, 4])  # heads of queries for each head of keys


def tensors(dtype, *shapes):
    """In `dtype` on the device, and the same numbers in float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [x.to(DEVICE) for x in given], [x.double() for x in given]


def plain(query, key, value, scale, mask=None):
    """Output and log-sum-exp `(H, Q, …)`, written out."""
    key, value = (x.repeat_interleave(query.size(0) // x.size(0), 0) for x in (key, value))
    scores = query @ key.mT * scale
    if mask is not None:
        scores = scores.masked_fill(~mask.to(scores.device), -torch.inf)
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def with_gradients(grad, query, key, value, scale, mask=None):
    """Output, gradients and log-sum-exp of [`plain`]."""
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    out, lse = plain(*leaves, scale, mask)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)], lse.detach()


def check(actual, lse, exact, exact_lse, dense, dtype):
    assert all(x.dtype == dtype for x in actual) and lse.dtype == torch.float32
    assert error(lse, exact_lse) < 1e-5
    for name, mine, truth, other in zip(("out", "query", "key", "value"), actual, exact, dense, strict=False):
        assert error(mine, truth) <= 2 * error(other, truth) + EPSILON[dtype], name


def expected_kernel(dtype):
    return ("matrix" if dtype == torch.float32 else "flash") if ON_GPU else "cpu"


@DTYPES
@SIZES
@GROUPS
@pytest.mark.parametrize(("queries", "keys", "causal"), [(77, 77, True), (300, 300, True), (45, 203, False)])
def test_one_sequence(dtype, size, groups, queries, keys, causal):
    shapes = (4, queries, size), (4, queries, size), (4 // groups, keys, size), (4 // groups, keys, size)
    (grad, *parts), (exact_grad, *exact_parts) = tensors(dtype, *shapes)
    assert kernels._kernel(parts[0].unsqueeze(0), None) == expected_kernel(dtype)
    scale, mask = size**-0.5, torch.ones(queries, keys, dtype=torch.bool).tril() if causal else None
    exact, exact_lse = with_gradients(exact_grad, *exact_parts, scale, mask)
    dense, _ = with_gradients(grad, *parts, scale, mask)
    out, lse = attend(*parts, scale, causal=causal)
    check([out, *attend_backward(grad, *parts, out, lse, scale, causal=causal)], lse, exact, exact_lse, dense, dtype)


@DTYPES
@SIZES
@pytest.mark.parametrize("queries", [1, 6])
def test_each_to_its_own_keys(dtype, size, queries):
    given, exact = tensors(dtype, (3, 2, queries, size), (3, 2, 141, size), (3, 2, 141, size))
    out, lse = attend_each(*given, size**-0.5)
    results = [plain(*(x.flatten(0, 1) for x in parts), size**-0.5) for parts in (given, exact)]
    dense, truth = ([x.view(3, 2, *x.shape[1:]) for x in result] for result in results)
    check([out], lse, truth[:1], truth[1], dense[:1], dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@SIZES
@GROUPS
@pytest.mark.parametrize("causal", [True, False])
def test_sequences_of_different_lengths(dtype, size, groups, causal):
    """PyTorch's `varlen_attn`, and the operator of its backward: layouts, heads that share keys, sequences of one token."""
    queries = [1, 77, 300, 1, 2, 130]
    keys = queries if causal else [45, 1, 203, 3, 64, 130]
    rows, total = [_spans(lengths) for lengths in (queries, keys)], (sum(queries), sum(keys))
    shapes = [(total[i], heads, size) for i, heads in ((0, 4), (0, 4), (1, 4 // groups), (1, 4 // groups))]
    (grad, *parts), (exact_grad, *exact_parts) = tensors(dtype, *shapes)
    call, scale = VarlenCall.of(*rows, DEVICE, causal=causal), size**-0.5
    with nullcontext() if ON_GPU else on_the_cpu():
        out, lse = call.attend(*parts, scale)
        grads = call.backward(grad, *parts, out, lse, scale)
    assert lse.shape == (4, total[0])
    dense, exact = (
        [torch.cat(part, 1) for part in zip(*_each(of, rows, scale, causal), strict=True)]
        for of in ((grad, *parts), (exact_grad, *exact_parts))
    )
    actual = [x.transpose(0, 1) for x in (out, *grads)]  # (T, H, D) -> (H, T, D)
    check(actual, lse, exact[:4], exact[4], dense, dtype)


def _each(given, rows, scale, causal):
    """Of each sequence output, gradients and log-sum-exp."""
    for queries, keys in zip(*rows, strict=True):
        mask = torch.ones(len(queries), len(queries), dtype=torch.bool).tril() if causal else None
        spans = (queries, queries, keys, keys)
        own = [x[span.start : span.stop].transpose(0, 1) for x, span in zip(given, spans, strict=True)]
        results, lse = with_gradients(*own, scale, mask)
        yield [*results, lse]


def _spans(lengths):
    return [range(end - length, end) for length, end in zip(lengths, accumulate(lengths), strict=True)]


@DTYPES
@GROUPS
@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_that_is_padded(dtype, groups, masked):
    """Sequences of 70 and 43 tokens; the padding of the second has gradients of zero, and none comes from it."""
    shapes = (2, 4, 70, 64), (2, 4, 70, 64), (2, 4 // groups, 70, 64), (2, 4 // groups, 70, 64)
    (grad, *parts), (exact_grad, *exact_parts) = tensors(dtype, *shapes)
    mask = torch.ones(70, 70, dtype=torch.bool).tril()
    mask[50:60, 3:20] = not masked
    given = mask.expand(2, 1, 70, 70).to(DEVICE) if masked else None
    assert kernels._kernel(parts[0], given) == ("matrix" if ON_GPU and masked else expected_kernel(dtype))
    out, lse = Part(*parts).attend(0.125, given)
    given_out, given_grad, given_lse = out.clone(), grad.clone(), lse.clone()
    given_out[1, :, 43:] = given_grad[1, :, 43:] = 0
    given_lse[1, :, 43:] = torch.inf
    grads = Part(*parts).backward(given_grad, given_out, given_lse, 0.125, given)
    for row, length in enumerate((70, 43)):
        own = [x[row, :, :length] for x in (grad, *parts)], [x[row, :, :length] for x in (exact_grad, *exact_parts)]
        dense, exact = (with_gradients(*of, 0.125, mask[:length, :length]) for of in own)
        actual = [x[row, :, :length] for x in (out, *grads)]
        check(actual, lse[row, :, :length], *exact, dense[0], dtype)
    assert all(x[1, :, 43:].abs().max() == 0 for x in grads)


@DTYPES
@SIZES
@GROUPS
@pytest.mark.parametrize("tree", TREES)
def test_a_packed_row(dtype, size, groups, tree):
    """Prompts, completions of several lengths and label trees, against a mask over the whole row: through `varlen_attn` on a GPU."""
    tree = TREES[tree]
    assert kernels.takes_flash(torch.empty(1, size, dtype=dtype, device=DEVICE)) == (ON_GPU and dtype != torch.float32)
    # Of 133 and 21 tokens; completions that are read up to their last token but one
    prompts = [[1] * 133] * 5 + [[2] * 21] * 2
    lengths = [38, 61, 6, 1, 90, 140, 17]
    scores = [36, 20, 5, 0, 80, 139, 4]
    layout = pack_groups(prompts, [[3] * n for n in lengths], scores, tree, DEVICE)[0].layout
    total, nodes = layout.branches[-1][1], len(tree.context_tokens)
    mask = torch.zeros(total, total, dtype=torch.bool)
    for (start, end), (first, last) in zip(layout.prefixes, layout.branches, strict=True):
        mask[start:end, start:end] = torch.ones(end - start, end - start).tril()
        mask[first:last, start:end] = True
    place = layout.prefixes[-1][1]
    for length, score in zip(lengths, scores, strict=True):
        end = place + max(length - 1, score)
        mask[place:end, place:end] = torch.ones(end - place, end - place).tril()
        mask[end : end + nodes, place : place + score] = True
        mask[end : end + nodes, end : end + nodes] = tree.ancestors
        place = end + nodes
    assert place == total
    key_heads = 4 // groups
    shapes = (4, total, size), (4, total, size), (key_heads, total, size), (key_heads, total, size)
    (grad, *parts), (exact_grad, *exact_parts) = tensors(dtype, *shapes)
    leaves = [x.unsqueeze(0).requires_grad_() for x in parts]
    out = layout.attend(0, *leaves, size**-0.5)
    actual = [out, *torch.autograd.grad(out, leaves, grad.unsqueeze(0))]
    exact, _ = with_gradients(exact_grad, *exact_parts, size**-0.5, mask)
    dense, _ = with_gradients(grad, *(x.detach() for x in parts), size**-0.5, mask)
    for mine, truth, other in zip(actual, exact, dense, strict=True):
        assert error(mine[0], truth) <= 2 * error(other, truth) + EPSILON[dtype]
