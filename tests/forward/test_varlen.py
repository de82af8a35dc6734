# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Packed attention as a GPU computes it, with the kernels written out (tests/helpers/varlen_kernels.py): against a mask over the whole row
in float64, against the path of the CPU, and in whole models against the dense forward.
"""

import inspect

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention.varlen import AuxRequest, varlen_attn

from real_trl.forward import kernels as attention_kernels
from real_trl.forward.dense import policy_forward
from real_trl.forward.generation import generate_groups
from real_trl.forward.kernels import takes_flash
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.packing import Branch, pack_row, pack_texts
from real_trl.forward.sft_inputs import pack_sequences
from real_trl.forward.shared_prefix import share_prefixes, shared_prefix_forward
from real_trl.forward.varlen import varlen_attention
from real_trl.label_tree import LabelTree
from tests.forward import test_generation as generation
from tests.forward.test_shared_prefix import (
    CONFIGS,
    ROWS,
    TREES,
    assert_same,
    build,
    run,
    shared_and_reference,
)
from tests.helpers.varlen_kernels import on_the_cpu

CPU, SCALE = torch.device("cpu"), 0.3
DEEP = LabelTree.from_paths([[5], [5, 6], [5, 6, 7, 7], [8, 9]])
ALL_TREES = {**TREES, "deep": DEEP}
GROUPS = {
    "several": [(8, [(4, 4), (9, 3), (0, 0)]), (3, [(2, 1), (5, 5)])],
    "one": [(1, [(1, 1)])],
    "no branches": [(5, []), (4, [(3, 2)]), (2, [])],
    "the first and the last have some": [(5, [(3, 2)]), (4, []), (2, [(1, 0), (6, 6)])],
    "only empty branches": [(5, [(0, 0)]), (4, [(0, 0), (0, 0)])],
}


def masked(groups, tree):
    """What the tokens of a row see, worked out from the lengths of prefixes and branches: `(T, T)`."""
    nodes = len(tree.context_tokens)
    length = sum(prefix + sum(own + nodes for own, _ in branches) for prefix, branches in groups)
    mask, first, place = torch.zeros(length, length, dtype=torch.bool), 0, sum(prefix for prefix, _ in groups)
    for prefix, branches in groups:
        mask[first : first + prefix, first : first + prefix] = torch.ones(prefix, prefix).tril()
        for own, seen in branches:
            end = place + own
            mask[place : end + nodes, first : first + prefix] = True
            mask[place:end, place:end] = torch.ones(own, own).tril()
            mask[end : end + nodes, place : place + seen] = True
            mask[end : end + nodes, end : end + nodes] = tree.ancestors
            place = end + nodes
        first += prefix
    return mask


def layout_of(groups, tree):
    rows = [([1] * prefix, [Branch([1] * own, seen) for own, seen in branches]) for prefix, branches in groups]
    return pack_row(rows, tree, CPU).layout


def tensors(length, kv_heads, dtype=torch.float64, heads=4, size=8):
    generator = torch.Generator().manual_seed(0)
    shapes = (heads, heads, kv_heads, kv_heads)  # gradient, query, key, value
    return [torch.randn(1, n, length, size, generator=generator, dtype=torch.float64).to(dtype) for n in shapes]


def with_gradients(attention, grad, *parts):
    leaves = [x.clone().requires_grad_() for x in parts]
    out = attention(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def dense(mask):
    def attention(query, key, value):
        key, value = (x.repeat_interleave(query.size(1) // x.size(1), 1) for x in (key, value))
        return (query @ key.mT * SCALE).masked_fill(~mask, -torch.inf).softmax(-1) @ value

    return attention


@pytest.mark.parametrize("kv_heads", [1, 4], ids=["four heads share keys", "every head has keys"])
@pytest.mark.parametrize("tree", ALL_TREES)
@pytest.mark.parametrize("groups", GROUPS)
def test_a_row_equals_a_mask_over_it_and_the_path_of_the_cpu(groups, tree, kv_heads):
    groups, tree = GROUPS[groups], ALL_TREES[tree]
    mask, layout = masked(groups, tree), layout_of(groups, tree)
    given = tensors(len(mask), kv_heads)

    def attend(*parts):
        return layout.attend(0, *parts, SCALE)

    exact, other = with_gradients(dense(mask), *given), with_gradients(attend, *given)
    with on_the_cpu() as calls:
        actual = with_gradients(attend, *given)
    assert calls
    for mine, truth, buckets in zip(actual, exact, other, strict=True):
        torch.testing.assert_close(mine, truth)
        torch.testing.assert_close(mine, buckets)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("tree", ALL_TREES)
def test_texts_that_share_what_they_begin_with(tree, share):
    texts, cuts = [[1, 2, 3, 4, 5, 6], [1, 2, 3, 9], [7, 7], [1, 2, 3, 4, 5, 8, 8]], [5, 4, 2, 6]
    row = pack_texts(texts, cuts, ALL_TREES[tree], CPU, share=share)
    assert len(row.layout.prefixes) == (2 if share else 4)
    given = tensors(row.input_ids.size(1), 2)

    def attend(*parts):
        return row.layout.attend(0, *parts, SCALE)

    expected = with_gradients(attend, *given)
    with on_the_cpu() as calls:
        actual = with_gradients(attend, *given)
    assert calls
    for mine, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize(
    ("tree", "number"), [("digits", 2), ("several tokens", 4)], ids=["one token", "several tokens"]
)
def test_a_layer_is_a_few_calls(tree, number):
    """One of sequences that are causal in themselves, one of branches to prefixes; of trees one to branches, one to nodes above."""
    layout, tree = layout_of(GROUPS["several"], TREES[tree]), TREES[tree]
    nodes = len(tree.context_tokens)
    with on_the_cpu() as calls:
        layout.attend(0, *tensors(len(masked(GROUPS["several"], tree)), 2)[1:], SCALE)
    assert len(calls) == number
    own = [[4, *[1] * nodes], [9, *[1] * nodes], [*[1] * nodes], [2, *[1] * nodes], [5, *[1] * nodes]]
    assert calls[0] == ([(n, n) for n in [8, 3, *(n for branch in own for n in branch)]], True)
    assert calls[1] == ([(4 + 9 + 3 * nodes, 8), (2 + 5 + 2 * nodes, 3)], False)
    if nodes:  # "5", "8" and "56", of which the last has one above it
        assert calls[2:] == [([(3, 4), (3, 3), (3, 1), (3, 5)], False), ([(1, 1)] * 5, False)]


def test_parts_are_merged_in_float32():
    """The output of every call is one that bfloat16 has, and what they give together is rounded once, at the end."""
    groups, tree = [(40, [(30, 20)] * 6)], DEEP
    mask, layout = masked(groups, tree), layout_of(groups, tree)
    query, key, value = (x.bfloat16() for x in tensors(len(mask), 2)[1:])
    value[:] = 5.0
    value[:, :, :40] = 1.0
    for start, end in layout.own:
        value[:, :, start:end] = 3.0
    exact = dense(mask)(*(x.double() for x in (query, key, value)))
    with on_the_cpu() as calls:
        out = layout.attend(0, query, key, value, SCALE)
    assert len(calls) == 4 and out.dtype == torch.bfloat16
    assert (out == exact.to(torch.bfloat16)).double().mean() > 0.999  # all but those between two numbers of bfloat16


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_models_equal_the_dense_forward_in_float64(architecture, tree):
    model, reference = shared_and_reference(architecture)
    with on_the_cpu() as calls:
        shared = run(shared_prefix_forward, model, ROWS, TREES[tree])
    assert_same(shared, run(policy_forward, reference, ROWS, TREES[tree]))
    assert_same(run(shared_prefix_forward, model, ROWS, TREES[tree]), shared)
    assert len(calls) == 2 * (2 if tree == "digits" else 4)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(reentrant):
    model, reference = shared_and_reference("qwen3")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    with on_the_cpu():
        shared = run(shared_prefix_forward, model, ROWS, TREES["several tokens"])
    assert_same(shared, run(policy_forward, reference, ROWS, TREES["several tokens"]))


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("share", [False, True])
def test_sequences_with_scores(tree, share):
    model = build("llama")
    install_prefix_attention(model)
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [3, 1, 4, 7, 5, 8, 0, 0], [2, 7, 1, 8, 2, 8, 1, 0]])
    batch = pack_sequences(ids, ids, (ids != 0).long(), torch.tensor([6, 4, -1]), TREES[tree], share=share)

    def gradients():
        model.zero_grad()
        hidden = model.base_model(**batch.inputs).last_hidden_state
        (hidden * torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
        return {name: p.grad for name, p in model.base_model.named_parameters()}

    expected = gradients()
    with on_the_cpu() as calls:
        actual = gradients()
    assert calls
    for name, grad in expected.items():
        assert (actual[name] - grad).norm() <= 1e-5 * grad.norm(), name


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("tree", TREES)
def test_bfloat16_is_as_near_to_the_truth_as_the_dense_forward(tree, autocast):
    errors = {}
    for forward in (shared_prefix_forward, policy_forward):
        errors[forward] = 0.0
        for seed in range(3):
            exact = build("llama", seed, dtype=torch.float64)
            model = build("llama", seed, dtype=torch.float32 if autocast else torch.bfloat16)
            model.load_state_dict(exact.state_dict())
            if not autocast:
                exact.load_state_dict(model.state_dict())
            if forward is shared_prefix_forward:
                assert share_prefixes(model, 1.3)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast), on_the_cpu():
                outputs, grads = run(forward, model, ROWS, TREES[tree])
            truth, true_grads = run(policy_forward, exact, ROWS, TREES[tree])
            errors[forward] += sum(((a - b).norm() / b.norm()).item() for a, b in zip(outputs, truth, strict=True))
            errors[forward] += sum(((grads[n].double() - g).norm() / g.norm()).item() for n, g in true_grads.items())
    assert 0 < errors[shared_prefix_forward] < 1.2 * errors[policy_forward]


def test_prompts_that_are_read_to_generate():
    """All in one call; what is generated is the same."""
    model = generation.build("llama")
    prompts = [*generation.PROMPTS, [1], [9, 9, 5]]
    expected = generation.plain(model, prompts, generation.greedy(max_new_tokens=8))
    with on_the_cpu() as calls, pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_kernels, "_kernel", lambda query, mask: "cpu")  # that of the steps is not written out
        output = generate_groups(model, prompts, generation.greedy(max_new_tokens=8), generation.PAD)
    assert torch.equal(output.sequences, expected)
    assert len(calls) == model.config.num_hidden_layers and all(is_causal for _, is_causal in calls)


def test_varlen_attn_takes_what_it_is_given():
    """The arguments of the installed PyTorch, public and private: with others, look at `varlen.py` again."""
    options = {"return_aux": AuxRequest(lse=True), "scale": 0.1, "window_size": (-1, 0), "enable_gqa": True}
    inspect.signature(varlen_attn).bind("query", "key", "value", "cu_seq_q", "cu_seq_k", 7, 7, **options)
    assert list(inspect.signature(varlen_attn).parameters)[:7] == [
        *("query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k")
    ]
    schema = torch.ops.torch_attn._varlen_attn_backward.default._schema
    given = [
        *("grad_out", "query", "key", "value", "out", "lse", "cu_seq_q", "cu_seq_k", "max_q", "max_k"),
        *("is_causal", "rng_state", "scale", "window_size"),
    ]
    assert [argument.name for argument in schema.arguments[: len(given)]] == given
    assert all(
        argument.has_default_value() for argument in schema.arguments[len(given) :]
    )  # the backend, from 2.15 on


def test_the_operators_take_these_calls():
    """Without a GPU nothing can be computed, but PyTorch checks the arguments and derives the shapes."""
    layout, length = layout_of(GROUPS["several"], DEEP), len(masked(GROUPS["several"], DEEP))
    query, key = (
        torch.empty(length, heads, 16, device="meta", dtype=torch.bfloat16, requires_grad=True) for heads in (4, 2)
    )
    calls = layout.calls(query.device)
    out = varlen_attention(query, key, key, calls, SCALE)
    grads = torch.autograd.grad(out, (query, key), torch.empty_like(out))
    _, lse = calls[0].attend(query, key, key, SCALE)
    assert out.shape == query.shape and [x.shape for x in grads] == [query.shape, key.shape]
    assert out.dtype == torch.bfloat16 and lse.shape == (4, length) and lse.dtype == torch.float32


def test_what_takes_it(monkeypatch):
    monkeypatch.setattr(attention_kernels, "_has_flash", lambda device: True)
    with FakeTensorMode():
        shapes = {
            (4, 16): torch.bfloat16,
            (4, 256): torch.half,
            (4, 12): torch.half,
            (4, 264): torch.half,
            (4, 8): torch.float32,
        }
        taken = [takes_flash(torch.empty(shape, device="cuda", dtype=dtype)) for shape, dtype in shapes.items()]
        assert taken == [True, True, False, False, False]
        assert not takes_flash(torch.empty(4, 16, dtype=torch.bfloat16))
        monkeypatch.setattr(attention_kernels, "_has_flash", lambda device: False)
        assert not takes_flash(torch.empty(4, 16, device="cuda", dtype=torch.bfloat16))
