# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of attention, their merge and their gradients against attention written out."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from real_trl.forward import kernels as attention_kernels
from real_trl.forward.kernels import Part, attend, attend_backward, merge
from real_trl.forward.shared_cache import merged_output

SCALE = 0.3


def plain(query, key, value, mask=None):
    """Output and log-sum-exp of `(H, Q, D)` over `(J, T, D)`, written out."""
    key, value = (x.repeat_interleave(query.size(0) // x.size(0), 0) for x in (key, value))
    scores = query @ key.mT * SCALE
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


@pytest.fixture(params=["cpu", "matrix"])
def kernel(request, monkeypatch):
    monkeypatch.setattr(attention_kernels, "_kernel", lambda query, mask: request.param)


def tensors(queries, keys, heads=4, kv_heads=2, size=8):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(n, length, size, generator=generator, dtype=torch.float64)
        for n, length in ((heads, queries), (kv_heads, keys), (kv_heads, keys))
    ]


def test_two_keys_by_hand(kernel):
    # Scores 0 and ln 3: weights 1/4 and 3/4, log-sum-exp ln 4
    query = torch.tensor([[[1.0]]])
    key, value = torch.tensor([[[0.0], [math.log(3) / SCALE]]]), torch.tensor([[[8.0], [4.0]]])
    out, lse = attend(query, key, value, SCALE, causal=False)
    assert out.item() == pytest.approx(5.0) and lse.item() == pytest.approx(math.log(4))


def test_a_merge_by_hand():
    # Parts that hold 1/4 and 3/4 of the weight
    first = torch.tensor([[8.0]]), torch.tensor([0.0])
    second = torch.tensor([[4.0]]), torch.tensor([math.log(3)])
    out, lse = merge(first, second)
    assert out.item() == pytest.approx(5.0) and lse.item() == pytest.approx(math.log(4))


def test_a_merge_of_halves_is_rounded_once():
    """Outputs in bfloat16 are weighed and added in float32, in which the log-sum-exps are."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        (torch.randn(200, 8, generator=generator).bfloat16(), torch.randn(200, generator=generator)) for _ in (0, 1)
    ]
    out, lse = merge(*parts)
    weights = torch.stack([part[1] for part in parts]).double().softmax(0).unsqueeze(-1)
    exact = sum(weight * part[0].double() for weight, part in zip(weights, parts, strict=True))
    assert out.dtype == torch.bfloat16 and lse.dtype == torch.float32
    for merged in (out, merged_output(*parts)):
        assert ((merged.double() - exact).abs() <= exact.abs() * 1.001 * 2**-8).all()  # half of the last digit


@pytest.mark.parametrize("causal", [False, True])
def test_a_part_equals_attention(kernel, causal):
    query, key, value = tensors(5, 5 if causal else 7)
    out, lse = attend(query, key, value, SCALE, causal=causal)
    expected = plain(query, key, value, torch.ones(5, 5, dtype=torch.bool).tril() if causal else None)
    torch.testing.assert_close(out, expected[0])
    torch.testing.assert_close(lse, expected[1])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_gradients_of_two_parts_are_those_of_the_whole(kernel, kv_heads):
    query, key, value = tensors(5, 7, kv_heads=kv_heads)
    parts = [(key[:, :3], value[:, :3]), (key[:, 3:], value[:, 3:])]
    out, lse = merge(*(attend(query, *part, SCALE, causal=False) for part in parts))
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    expected, expected_lse = plain(*leaves)
    torch.testing.assert_close(out, expected.detach())
    torch.testing.assert_close(lse, expected_lse.detach())

    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected.backward(grad)
    grads = [attend_backward(grad, query, *part, out, lse, SCALE, causal=False) for part in parts]
    torch.testing.assert_close(grads[0][0] + grads[1][0], leaves[0].grad)
    for index in (1, 2):
        torch.testing.assert_close(torch.cat([grads[0][index], grads[1][index]], 1), leaves[index].grad)


@pytest.mark.parametrize("masked", [False, True])
def test_padded_sequences(kernel, masked):
    query, key, value = (x.unsqueeze(0) for x in tensors(6, 6))
    mask = torch.ones(6, 6, dtype=torch.bool).tril()
    if masked:
        mask[4, 2:4] = False
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    expected, expected_lse = plain(*(x[0] for x in leaves), mask)
    given = mask[None, None] if masked else None
    out, lse = Part(query, key, value).attend(SCALE, given)
    torch.testing.assert_close(out[0], expected.detach())
    torch.testing.assert_close(lse[0], expected_lse.detach())
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected.backward(grad[0])
    for share, leaf in zip(Part(query, key, value).backward(grad, out, lse, SCALE, given), leaves, strict=True):
        torch.testing.assert_close(share, leaf.grad)


@pytest.fixture
def ampere(monkeypatch):
    monkeypatch.setattr(attention_kernels, "_has_flash", lambda device: True)


def test_calls_of_the_gpu_kernel_fit_its_signature(ampere):
    # Without a GPU the results cannot be computed, but PyTorch checks the arguments and derives the shapes
    with FakeTensorMode():
        rows, keys = (torch.empty(shape, device="cuda", dtype=torch.bfloat16) for shape in ((4, 10, 16), (2, 12, 16)))
        assert attention_kernels._kernel(rows, None) == "flash"
        out, lse = attend(rows, keys, keys, SCALE, causal=False)
    assert out.shape == rows.shape and lse.shape == (4, 10) and lse.dtype == torch.float32


def test_what_the_gpu_kernels_do_not_take_is_computed_with_scores(ampere, caplog):
    with FakeTensorMode():
        for shape, dtype in (((1, 1, 4, 16), torch.float32), ((1, 1, 4, 12), torch.bfloat16)):
            assert attention_kernels._kernel(torch.empty(shape, device="cuda", dtype=dtype), None) == "matrix"
        mask = torch.ones(1, 1, 4, 4, device="cuda", dtype=torch.bool)
        assert attention_kernels._kernel(torch.empty(1, 1, 4, 16, device="cuda", dtype=torch.half), mask) == "matrix"
        assert not caplog.records
        long = torch.empty(1, 1, 2000, 264, device="cuda", dtype=torch.bfloat16)
        assert [attention_kernels._kernel(long, None) for _ in range(2)] == ["matrix"] * 2
    (record,) = caplog.records
    assert "heads of 264 on cuda" in record.message and "shared_prefix to false" in record.message


def test_gpus_before_ampere_have_no_flash_attention(monkeypatch):
    monkeypatch.setattr(attention_kernels, "_has_flash", lambda device: False)
    with FakeTensorMode():
        assert attention_kernels._kernel(torch.empty(1, 1, 4, 16, device="cuda", dtype=torch.half), None) == "matrix"
