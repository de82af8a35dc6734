# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whole tiny models whose prompts are shared, or whose rows are packed: in float32 they are what float64 gives on the CPU, and in
bfloat16 at most twice as far from that as the dense forward. Generation gives the tokens of `generate`.
"""

import copy

import pytest
import torch
from peft import get_peft_model
from trl.trainer.utils import add_fused_lm_head

from real_trl.forward.dense import policy_forward
from real_trl.forward.generation import generate_groups
from real_trl.forward.logits import HeadOptions
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.rest_log_probs import rest_log_probs
from real_trl.forward.selected_log_probs import _Product, selected_log_probs
from real_trl.forward.shared_prefix import share_prefixes, shared_prefix_forward
from real_trl.label_tree import LabelTree
from real_trl.trainers.raft_trainer import _ForwardWithScores
from tests.forward import test_generation as generation
from tests.forward.test_shared_prefix import ROWS, TEMPERATURE, TREES, VOCABULARY, assert_same, build, run
from tests.gpu.conftest import DEVICE, ON_GPU, error, total_error
from tests.tiny import lora_config
from tests.trainers.test_padding_free import random_batch

pytestmark = pytest.mark.gpu
ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gpt2"])
TREE = pytest.mark.parametrize("tree", TREES)
PRECISION = pytest.mark.parametrize("dtype", [torch.bfloat16, "autocast"], ids=str)


def long_rows():
    """Beside the short ones a prompt of 150 tokens, with completions of 20 to 70."""
    generator = torch.Generator().manual_seed(0)

    def draw(length):
        return torch.randint(1, VOCABULARY, (length,), generator=generator).tolist()

    prompt = draw(150)
    return [*ROWS, *((prompt, draw(length), length - 3) for length in (20, 41, 70, 33))]


def as_lists(outputs_and_gradients):
    outputs, gradients = outputs_and_gradients
    return [*outputs, *(gradients[name] for name in sorted(gradients))]


def adapted(model):
    """With adapters that do something."""
    model = get_peft_model(model, lora_config())
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return model


def shared(model):
    """Of a model on the CPU, a copy on the device that shares prefixes."""
    model = copy.deepcopy(model).to(DEVICE)
    assert share_prefixes(model, TEMPERATURE)
    return model


@ARCHITECTURES
@TREE
def test_shared_prefixes_in_float32(architecture, tree):
    model = build(architecture)
    exact = run(policy_forward, copy.deepcopy(model).double(), long_rows(), TREES[tree])
    assert_same(run(shared_prefix_forward, shared(model), long_rows(), TREES[tree]), exact, tolerance=1e-4)
    assert_same(run(policy_forward, copy.deepcopy(model).to(DEVICE), long_rows(), TREES[tree]), exact, tolerance=1e-4)


@TREE
@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_gradient_checkpointing(tree, reentrant, lora):
    model = adapted(build("qwen3")) if lora else build("qwen3")
    exact = run(policy_forward, copy.deepcopy(model).double(), long_rows(), TREES[tree])
    model = shared(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    assert_same(run(shared_prefix_forward, model, long_rows(), TREES[tree]), exact, tolerance=1e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2"])
@TREE
@PRECISION
def test_shared_prefixes_in_half_precision(architecture, tree, dtype):
    autocast, errors = dtype == "autocast", {True: 0.0, False: 0.0}
    for seed in range(2):
        model = build(architecture, seed, dtype=torch.float32 if autocast else dtype)
        truth = as_lists(run(policy_forward, copy.deepcopy(model).double(), long_rows(), TREES[tree]))
        for sharing in errors:
            own = shared(model) if sharing else copy.deepcopy(model).to(DEVICE)
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=autocast):
                forward = shared_prefix_forward if sharing else policy_forward
                errors[sharing] += total_error(as_lists(run(forward, own, long_rows(), TREES[tree])), truth)
    assert 0 < errors[True] < 2 * errors[False]


def supervised(model, batch, tree, packed, device, autocast=False):
    """Log-probabilities of a batch's tokens and scores, and the gradients of a function of them."""
    model = copy.deepcopy(model).to(device)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if packed:
        install_prefix_attention(model)
    batch = {name: x.to(device) for name, x in batch.items()}
    scores = batch.pop("score_positions").clamp(min=2)
    forward = _ForwardWithScores(model, scores, tree, packed)
    with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        output = forward(**batch, fused_lm_head=True)
        kept = [output.log_probs[output.label_mask], forward.score_log_probs]
        sum(x.double().square().mean() for x in kept).backward()
    return [x.detach().cpu().double() for x in (*kept, *(p.grad for p in model.parameters()))]


@ARCHITECTURES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, "autocast"], ids=str)
@pytest.mark.parametrize("paths", [[(1,), (2,)], [(1,), (2,), (1, 0), (1, 0, 0), (3, 4)]], ids=["digits", "several"])
def test_packed_rows(architecture, dtype, paths):
    """Of the supervised trainer, with TRL's LM head, which runs in Triton on a GPU."""
    tree, batch = LabelTree.from_paths(paths), random_batch(torch.Generator().manual_seed(0), VOCABULARY)
    model = build(architecture, dtype=dtype if isinstance(dtype, torch.dtype) else torch.float32)
    del model.forward  # without the head that `build` has put there
    exact = supervised(copy.deepcopy(model).double(), batch, tree, False, torch.device("cpu"))
    errors = [
        [
            error(*pair)
            for pair in zip(supervised(model, batch, tree, packed, DEVICE, dtype == "autocast"), exact, strict=True)
        ]
        for packed in (True, False)
    ]
    if dtype == torch.float32:
        assert max(max(row) for row in errors) < 1e-4
    else:
        assert 0 < sum(errors[0]) < 2 * sum(errors[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("options", [HeadOptions(), HeadOptions(0.7, 1.3, softcap=30.0)], ids=["plain", "soft cap"])
def test_the_output_layer(dtype, options):
    """Logits near 34, in float32 on a GPU whatever the weights are in; elsewhere those of the last four rows are."""
    generator = torch.Generator().manual_seed(0)
    shapes = (11, 64), (40000, 64), (40000,)
    parts = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    parts[0] *= 4
    rows, tokens = torch.tensor([0, 0, 3, 6, 7, 8, 9, 10, 10]), torch.tensor([3, 10, 39999, 0, 5, 6, 1, 20000, 4])
    outside = torch.tensor([[1, 2], [39999, 7], [0, 0]])
    given = [x.to(DEVICE).requires_grad_() for x in parts]
    exact = [x.detach().double().requires_grad_() for x in parts]
    logits = options.apply(exact[0] @ exact[1].T + exact[2])[0]
    truth = logits.log_softmax(-1)
    rests = [logits[row].index_fill(0, without, -torch.inf).logsumexp(0) for row, without in enumerate(outside)]
    rests = torch.stack(rests) - logits[:3].logsumexp(-1)
    output = selected_log_probs(*given, rows.to(DEVICE), tokens.to(DEVICE), options, num_precise=4)
    assert output.log_probs.dtype == torch.float32
    precise = slice(None) if ON_GPU or dtype == torch.float32 else slice(5, None)
    difference = (output.log_probs.detach().cpu() - truth.detach()[rows, tokens]).abs()
    assert difference[precise].max() < 1e-4
    rest = rest_log_probs(given[0][:3], given[1], given[2], outside.to(DEVICE), options)
    assert (rest.detach().cpu() - rests.detach()).abs().max() < 1e-4
    weights = torch.arange(1.0, 10.0)
    ((output.log_probs * weights.to(DEVICE)).sum() + rest.sum()).backward()
    ((truth[rows, tokens] * weights).sum() + rests.sum()).backward()
    for leaf, other in zip(given, exact, strict=True):
        assert error(leaf.grad, other.grad) < (1e-5 if dtype == torch.float32 else 1e-2 if ON_GPU else 1e-1)


def test_the_heads_gradients_are_added_up_in_float32():
    """Of products of numbers in bfloat16, chunk by chunk; elsewhere than on a GPU each chunk's is rounded once."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(300, 64), (40_000, 64), (300, 40_000)]
    hidden, weight, grads = (torch.randn(shape, generator=generator).bfloat16() for shape in shapes)
    product, total = _Product(weight.to(DEVICE), None, torch.bfloat16), torch.zeros(40_000, 64, device=DEVICE)
    for rows in (slice(0, 100), slice(100, 300)):
        product.add_weight_grad(total, grads[rows].float().to(DEVICE), hidden[rows].to(DEVICE))
    bound = 1e-5 if ON_GPU else 5e-3
    assert error(total, grads.double().T @ hidden.double()) < bound
    assert error(product.hidden_grad(grads.float().to(DEVICE)), grads.double() @ weight.double()) < bound


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral", "gpt2"])
def test_greedy_tokens_are_those_of_generate(architecture):
    model = generation.build(architecture).to(DEVICE)
    prompts = [*generation.PROMPTS, [1], [9, 9, 5]]
    expected = generation.plain(model, prompts, generation.greedy(max_new_tokens=60))
    with generation.Forwards(model) as shapes:
        output = generate_groups(model, prompts, generation.greedy(max_new_tokens=60), generation.PAD)
    assert torch.equal(output.sequences, expected) and output.sequences.device.type == DEVICE.type
    assert shapes[0] == (1, 6 + 2 + 4 + 1 + 3)  # no copy of a prompt


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_greedy_tokens_in_half_precision_are_nearly_the_most_likely_ones(dtype):
    """By the same weights in float64, up to rounding, whatever was generated before."""
    model, prompts = generation.build("qwen3", dtype).to(DEVICE), [*generation.PROMPTS, *[long_rows()[-1][0]] * 3]
    config = generation.greedy(max_new_tokens=60, eos_token_id=None)
    sequences = generate_groups(model, prompts, config, generation.PAD).sequences.cpu()
    model = model.cpu().double()
    for row, prompt in zip(sequences, prompts, strict=True):
        logits = model(row[150 - len(prompt) : -1].unsqueeze(0)).logits[0, len(prompt) - 1 :]
        assert (logits.amax(-1) - logits.gather(1, row[150:, None]).squeeze(1)).max() < 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_seed_decides_what_is_sampled(dtype):
    model, sampled = generation.build("llama", dtype).to(DEVICE), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        config = generation.greedy(do_sample=True, top_k=0)
        sampled.append(generate_groups(model, generation.PROMPTS, config, generation.PAD).sequences)
    assert torch.equal(sampled[0], sampled[1]) and not torch.equal(sampled[0][:, :8], sampled[2][:, :8])
