# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The shared-prefix forward against the dense one in float64: values, gradients, and what it holds in memory."""

import copy
import logging
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from trl.trainer.utils import add_fused_lm_head, pad

from real_trl.forward import kernels as attention_kernels
from real_trl.forward import selected_log_probs as head
from real_trl.forward.dense import policy_forward
from real_trl.forward.packed_attention import PREFIX_ATTENTION
from real_trl.forward.sft_inputs import pack_sequences
from real_trl.forward.shared_prefix import pack_groups, share_prefixes, shared_prefix_forward
from real_trl.label_tree import LabelTree
from tests.tiny import lora_config

VOCABULARY, TEMPERATURE = 40, 1.3
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.15,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.15,
    "bos_token_id": None,
    "eos_token_id": None,
}
CONFIGS = {
    "llama": partial(LlamaConfig, **_COMMON),
    "llama tied": partial(LlamaConfig, **_COMMON, tie_word_embeddings=True),
    "mistral": partial(MistralConfig, **{"sliding_window": None, **_COMMON}),
    "qwen2": partial(Qwen2Config, **_COMMON),
    "qwen3": partial(Qwen3Config, **_COMMON, head_dim=8),
    "smollm3": partial(SmolLM3Config, **_COMMON),
    "gpt2": partial(GPT2Config, vocab_size=VOCABULARY, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **_GPT2),
}
TREES = {
    "digits": LabelTree.from_paths([[5], [6], [7]]),
    "several tokens": LabelTree.from_paths([[5], [5, 6], [5, 6, 7], [8, 9]]),
}


def build(architecture, seed=0, dtype=torch.float32, **changes):
    torch.manual_seed(seed)
    config = CONFIGS[architecture]()
    for name, value in changes.items():
        setattr(config, name, value)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
    add_fused_lm_head(model, temperature=TEMPERATURE, outputs=("log_probs", "entropy"))
    return model


def shared_and_reference(architecture, **changes):
    """A model that shares prefixes, and the same weights in float64 for the dense forward."""
    model = build(architecture, **changes)
    reference = build(architecture, dtype=torch.float64, **changes)
    reference.load_state_dict(model.state_dict())
    assert share_prefixes(model, TEMPERATURE)
    return model, reference


@st.composite
def batches(draw):
    """Groups of ragged completions; a score may stand at the start, at the end, or nowhere."""
    tokens, inputs = st.integers(1, VOCABULARY - 1), []
    for _ in range(draw(st.integers(1, 3))):
        prompt = draw(st.lists(tokens, min_size=1, max_size=12))
        for _ in range(draw(st.integers(1, 4))):
            completion = draw(st.lists(tokens, min_size=1, max_size=9))
            inputs.append((prompt, completion, draw(st.integers(0, len(completion)))))
    return inputs


def as_tensors(rows):
    prompts, completions = ([torch.tensor(row[i]) for row in rows] for i in (0, 1))
    return {
        "prompt_ids": pad(prompts, 0, "left"),
        "prompt_mask": pad([torch.ones_like(x) for x in prompts], 0, "left"),
        "completion_ids": pad(completions, 0, "right"),
        "completion_mask": pad([torch.ones_like(x) for x in completions], 0, "right"),
        "score_positions": torch.tensor([row[2] for row in rows]),
    }


ROWS = [
    ([3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7], 5),
    ([3, 1, 4, 1, 5, 9, 2, 6], [9], 0),
    ([3, 1, 4, 1, 5, 9, 2, 6], [3, 2, 3, 8, 4, 6, 2, 6, 4], 9),
    ([3, 3, 8], [3, 2, 7], 2),
    ([3, 3, 8], [9, 5, 0, 2, 8, 8], 1),
]


def run(forward, model, rows, tree):
    """Outputs, and gradients of a random combination of them, on the CPU. Both kinds of log-probability take part."""
    device = next(model.parameters()).device
    inputs = {name: x.to(device) for name, x in as_tensors(rows).items()}
    output = forward(model, **inputs, tree=tree)
    mask = inputs["completion_mask"].bool()
    kept = [x.cpu() for x in (output.log_probs[mask], output.score_log_probs)]
    generator = torch.Generator().manual_seed(1)
    loss = sum((x * torch.randn(x.shape, generator=generator)).sum() for x in kept)
    loss.backward()
    grads = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return [*kept, output.entropy[mask].cpu()], grads


def assert_same(shared, dense, tolerance=1e-5):
    for one, other in zip(shared[0], dense[0], strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=tolerance, atol=tolerance)
    # Gradients that are zero but for rounding, as of the queries of a prompt of one token, have no relative error
    scale = max(grad.norm() for grad in dense[1].values())
    assert shared[1].keys() == dense[1].keys()
    for name, grad in dense[1].items():
        error = (shared[1][name].double() - grad.double()).norm()
        assert error <= tolerance * max(grad.norm(), 1e-2 * scale), name


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("architecture", CONFIGS)
def test_equals_the_dense_forward_in_float64(architecture, tree):
    model, reference = shared_and_reference(architecture)

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(batches())
    def check(rows):
        assert_same(
            run(shared_prefix_forward, model, rows, TREES[tree]), run(policy_forward, reference, rows, TREES[tree])
        )

    check()


def test_in_double_precision_the_two_are_one():
    model = build("gpt2", dtype=torch.float64)  # the others round their norms to float32
    reference = copy.deepcopy(model)
    assert share_prefixes(model, TEMPERATURE)
    for tree in TREES.values():
        shared, dense = (
            run(f, m, ROWS, tree) for f, m in ((shared_prefix_forward, model), (policy_forward, reference))
        )
        assert_same(shared, dense, tolerance=2e-6)  # TRL sums the softmax in float32


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(tree, reentrant):
    model, reference = shared_and_reference("llama")
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert_same(
        run(shared_prefix_forward, model, ROWS, TREES[tree]), run(policy_forward, reference, ROWS, TREES[tree])
    )


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora(checkpointing):
    base, reference = build("qwen3"), build("qwen3", dtype=torch.float64)
    reference.load_state_dict(base.state_dict())
    model, reference = (get_peft_model(x, lora_config()) for x in (base, reference))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first: nothing of the adapters would show
            torch.nn.init.normal_(parameter, std=0.1)
    reference.load_state_dict(model.state_dict())
    assert share_prefixes(model, TEMPERATURE)
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    shared = run(shared_prefix_forward, model, ROWS, TREES["digits"])
    assert all("lora" in name for name in shared[1])
    assert_same(shared, run(policy_forward, reference, ROWS, TREES["digits"]))


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("tree", TREES)
def test_bfloat16_is_as_near_to_the_truth_as_the_dense_forward(tree, autocast):
    errors = []
    for forward in (shared_prefix_forward, policy_forward):
        total = 0.0
        for seed in range(3):
            exact = build("llama", seed, dtype=torch.float64)
            model = build("llama", seed, dtype=torch.float32 if autocast else torch.bfloat16)
            model.load_state_dict(exact.state_dict())
            if not autocast:
                exact.load_state_dict(model.state_dict())
            if forward is shared_prefix_forward:
                assert share_prefixes(model, TEMPERATURE)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                outputs, grads = run(forward, model, ROWS, TREES[tree])
            truth, true_grads = run(policy_forward, exact, ROWS, TREES[tree])
            total += sum(((a - b).norm() / b.norm()).item() for a, b in zip(outputs, truth, strict=True))
            total += sum(((grads[n].double() - g).norm() / g.norm()).item() for n, g in true_grads.items())
        errors.append(total)
    assert 0 < errors[0] < 1.2 * errors[1]


def test_unique_tokens_are_all_that_is_read():
    prompts, completions, positions = zip(*ROWS, strict=True)
    packed, selection = pack_groups(prompts, completions, positions, TREES["digits"], torch.device("cpu"))
    # 8 + 3 tokens of prompts; of completions not the last, but where its hidden state predicts the score
    assert packed.input_ids.shape == (1, 11 + 5 + 0 + 9 + 2 + 5)
    assert packed.layout.prefixes == [(0, 8), (8, 11)] and packed.layout.branches == [(11, 25), (25, 32)]
    assert packed.position_ids[0].tolist() == [*range(8), *range(3), *range(8, 13), *range(8, 17), 3, 4, *range(3, 8)]
    # Each position that predicts something reaches the head once, and those of scores once more, in float32
    assert selection.positions[: -selection.num_precise].tolist() == [7, 10, *range(11, 32)]
    assert selection.positions[-selection.num_precise :].tolist() == [7, 15, 24, 26, 27]
    assert selection.rows.numel() == sum(map(len, completions)) + 5 * 3


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor))])
        return result


def test_no_mask_over_the_row_and_no_logits_of_all_tokens(monkeypatch):
    monkeypatch.setattr(head, "_CHUNK_LOGITS", 16 * 512)
    generator = torch.Generator().manual_seed(0)
    rows = [([1 + i % 30 for i in range(400)], torch.randint(1, 30, (60,), generator=generator).tolist(), 60)] * 8
    model = build("llama", vocab_size=512)
    assert share_prefixes(model, TEMPERATURE)
    with LargestTensor() as largest:
        run(shared_prefix_forward, model, rows, TREES["digits"])
    length = 400 + 8 * 60
    assert largest.numel <= max(length * 48, 512 * 32, 16 * 512)  # an MLP's hidden layer, the embeddings, a chunk
    assert largest.numel < length**2 / 4 and largest.numel < 8 * 60 * 512 / 4


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("mistral", {"sliding_window": 4}, "sliding window"),
        ("llama", {"attention_dropout": 0.1}, "dropout"),
        ("llama", {"_attn_implementation": "eager"}, "'eager'"),
        ("llama", {"model_type": "other"}, "'other'"),
    ],
)
def test_what_cannot_be_shared_exactly_is_named(architecture, changes, reason, caplog):
    from accelerate import PartialState

    PartialState()
    torch.manual_seed(0)
    config = CONFIGS[architecture]()
    model = AutoModelForCausalLM.from_config(config)
    for name, value in changes.items():
        setattr(model.config, name, value)
    with caplog.at_level(logging.WARNING):
        assert not share_prefixes(model)
    assert [record.message for record in caplog.records if reason in record.message and "slower" in record.message]
    assert model.config._attn_implementation != PREFIX_ATTENTION


def test_other_calls_and_saved_models_stay_as_they_were(tmp_path):
    model, _ = shared_and_reference("llama")
    ids = torch.tensor([ROWS[0][0], [0] * 5 + ROWS[3][0]])
    mask = (ids != 0).long()
    plain = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model(ids, attention_mask=mask).logits, plain(ids, attention_mask=mask).logits)
    model.save_pretrained(tmp_path)
    assert PREFIX_ATTENTION not in (tmp_path / "config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config._attn_implementation == "sdpa"


def test_a_runaway_does_not_pad_the_others():
    """One completion of full length beside short ones: the batches in which they attend to themselves stay small."""
    rows = [([3, 1, 4], [5] * 20, 20)] * 30 + [([3, 1, 4], [5] * 600, 600)]
    packed, _ = pack_groups(*zip(*rows, strict=True), TREES["several tokens"], torch.device("cpu"))
    buckets = packed.layout.buckets(torch.device("cpu"))
    trees = [bucket for bucket in buckets if bucket.seen is not None]
    shapes = [tuple(bucket.own.shape) for bucket in buckets if bucket.seen is None]
    assert sorted(shapes) == [(1, 600), (30, 20)]
    # Of "several tokens" three nodes of each completion, which see it as well
    assert sorted(tuple(bucket.own.shape) for bucket in trees) == [(1, 3), (30, 3)]
    assert sorted(tuple(bucket.seen.shape) for bucket in trees) == [(1, 600 + 3), (30, 20 + 3)]


@pytest.mark.parametrize("forward", ["groups", "sequences"])
def test_only_the_nodes_of_a_tree_need_a_matrix(forward, monkeypatch):
    """Completions go to the kernels that take no mask, FlashAttention on a GPU; of a tree its few nodes do not."""
    model = build("llama")
    calls, kernel = [], attention_kernels._kernel

    def record(query, mask):
        calls.append((query.size(2), mask))
        return kernel(query, mask)

    monkeypatch.setattr(attention_kernels, "_kernel", record)
    tree = TREES["several tokens"]
    assert share_prefixes(model, TEMPERATURE)
    if forward == "groups":
        run(shared_prefix_forward, model, ROWS, tree)
    else:
        ids = [torch.tensor(prompt + completion) for prompt, completion, _ in ROWS]
        batch = pad(ids, 0, "right"), pad([torch.ones_like(x) for x in ids], 0, "right")
        scores = torch.tensor([len(prompt) + min(score, len(completion) - 1) for prompt, completion, score in ROWS])
        packed = pack_sequences(batch[0], *batch, scores, tree)
        model.base_model(**packed.inputs).last_hidden_state.sum().backward()
    masked = [queries for queries, mask in calls if mask is not None]
    assert masked and max(masked) == len(tree.context_tokens) == 3
    assert sum(queries for queries, mask in calls if mask is None) > 0


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
@pytest.mark.parametrize("tree", TREES)
def test_the_matrix_of_scores_under_autocast(architecture, tree, monkeypatch):
    """As on a GPU for the nodes of a tree, and for everything in float32: autocast must not take the scores' precision."""
    errors = []
    for kernel in ("matrix", "cpu"):
        monkeypatch.setattr(attention_kernels, "_kernel", lambda query, mask, kernel=kernel: kernel)
        exact, model = build(architecture, dtype=torch.float64), build(architecture)
        model.load_state_dict(exact.state_dict())
        assert share_prefixes(model, TEMPERATURE)
        with torch.autocast("cpu", torch.bfloat16):  # around the backward as well, as some loops have it
            outputs, grads = run(shared_prefix_forward, model, ROWS, TREES[tree])
        truth, true_grads = run(policy_forward, exact, ROWS, TREES[tree])
        total = sum(((a - b).norm() / b.norm()).item() for a, b in zip(outputs, truth, strict=True))
        errors.append(total + sum(((grads[n].double() - g).norm() / g.norm()).item() for n, g in true_grads.items()))
    assert 0 < errors[0] < 1.3 * errors[1]


def test_an_empty_prompt_is_named():
    with pytest.raises(ValueError, match="row 1 is empty"):
        pack_groups([[3], []], [[5], [6]], [1, 1], TREES["digits"], torch.device("cpu"))
