# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The LM head over selected rows against a softmax over all logits."""

import pytest
import torch

from real_trl.forward import selected_log_probs as module
from real_trl.forward.logits import HeadOptions
from real_trl.forward.selected_log_probs import selected_log_probs

ROWS, TOKENS = torch.tensor([0, 0, 0, 2, 3, 4, 4]), torch.tensor([3, 10, 3, 0, 5, 6, 1])


def case(bias, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 4), (11, 4)] + ([(11,)] if bias else [])
    leaves = [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]
    return leaves if bias else [*leaves, None]


def reference(hidden, weight, bias, temperature):
    logits = hidden @ weight.T + (0 if bias is None else bias)
    log_probs = (logits / temperature).log_softmax(-1)
    return log_probs[ROWS, TOKENS], -(log_probs.exp() * log_probs).sum(-1)


def outputs(*args, **kwargs):
    return selected_log_probs(*args, **kwargs).to_tuple()


@pytest.mark.parametrize("rows_per_chunk", [1, 2, 100])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [False, True])
def test_equals_a_softmax_with_its_gradients(monkeypatch, bias, temperature, rows_per_chunk):
    monkeypatch.setattr(module, "_CHUNK_LOGITS", 11 * rows_per_chunk)
    leaves, others = case(bias), case(bias)
    log_probs, entropy, _ = outputs(*leaves, ROWS, TOKENS, HeadOptions(temperature=temperature))
    expected, expected_entropy = reference(*others, temperature)
    torch.testing.assert_close(log_probs, expected)
    torch.testing.assert_close(entropy, expected_entropy)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    (log_probs * weights).sum().backward()
    (expected * weights).sum().backward()
    for leaf, other in zip(leaves, others, strict=True):
        if leaf is not None:
            torch.testing.assert_close(leaf.grad, other.grad)


def test_two_tokens_by_hand():
    # Logits 0 and ln 3 with temperature 1: 1/4 and 3/4
    weight = torch.tensor([[0.0], [1.0986123]])
    log_probs, entropy, _ = outputs(torch.ones(1, 1), weight, None, torch.tensor([0, 0]), torch.tensor([0, 1]))
    torch.testing.assert_close(log_probs.exp(), torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(entropy, torch.tensor([0.5623351]))


def test_only_what_needs_a_gradient_gets_one():
    hidden, weight, _ = case(False)
    outputs(hidden, weight.detach(), None, ROWS, TOKENS)[0].sum().backward()
    assert hidden.grad is not None and weight.grad is None


def test_no_tokens_are_asked_for():
    hidden, weight, _ = case(False)
    none = torch.zeros(0, dtype=torch.long)
    log_probs, entropy, _ = outputs(hidden, weight, None, none, none)
    assert log_probs.shape == (0,) and entropy.shape == (5,)
    log_probs.sum().backward()
    assert hidden.grad.abs().max() == 0 and weight.grad.abs().max() == 0


def test_sums_over_chunks_are_kept_in_float32(monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_LOGITS", 11)
    hidden, weight, _ = case(False, torch.bfloat16)
    log_probs = outputs(hidden, weight, None, ROWS, TOKENS)[0]
    assert log_probs.dtype == torch.float32
    log_probs.sum().backward()
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    reference(*exact, None, 1.0)[0].sum().backward()
    assert (weight.grad - exact[1].grad).norm() < 0.01 * exact[1].grad.norm()
    assert weight.grad.dtype == torch.bfloat16


def test_chunks_grow_with_the_memory_of_the_device():
    gib = 2**30
    assert [module.chunk_logits(size * gib) for size in (1, 8, 16, 24, 40, 80, 141, 1000)] == [
        *(2**22, 2**24, 2**25, 2**25, 2**26, 2**27, 2**28, 2**28)
    ]
    # What CUDA calls 80 GB and 24 GB is a bit less than that
    assert [module.chunk_logits(size) for size in (85_094_170_624, 25_386_352_640)] == [2**27, 2**25]
    assert module._chunk_logits(torch.device("cpu")) is None


@pytest.mark.parametrize("vocabulary", [11, 2**14 + 5])
def test_products_of_half_precision_are_added_up_in_float32(monkeypatch, vocabulary):
    """On NVIDIA GPUs, whose `out_dtype` of `torch.mm` is emulated here, no product is rounded in the middle."""
    generator, mm = torch.Generator().manual_seed(0), torch.mm
    hidden, weight, grads = (
        torch.randn(shape, generator=generator).bfloat16() for shape in [(40, 8), (vocabulary, 8), (40, vocabulary)]
    )

    def errors():
        product = module._Product(weight, None, torch.bfloat16)
        total = torch.zeros(vocabulary, 8)
        for rows in (slice(0, 15), slice(15, 40)):
            product.add_weight_grad(total, grads[rows].float(), hidden[rows])
        expected = grads.double().T @ hidden.double(), grads.double() @ weight.double()
        actual = total, product.hidden_grad(grads.float())
        return [((a - b).norm() / b.norm()).item() for a, b in zip(actual, expected, strict=True)]

    assert min(errors()) > 5e-4  # as it is on a CPU
    monkeypatch.setattr(module, "has_float32_products", lambda x: x.dtype == torch.bfloat16)
    monkeypatch.setattr(torch, "mm", lambda a, b, out_dtype: mm(a.to(out_dtype), b.to(out_dtype)))
    assert max(errors()) < 5e-6  # sums of 16,389 products, in an order that differs between processors
