# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Scores are read from logits in float32, in training as in judging, from the head that the model has."""

import math

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    CohereConfig,
    FalconH1Config,
    Gemma2Config,
    GraniteConfig,
    HyperCLOVAXConfig,
    LlamaConfig,
    ModernBertDecoderConfig,
    NanoChatConfig,
    PhiConfig,
)
from transformers.modeling_outputs import BaseModelOutputWithPast

from real_trl import objectives
from real_trl.forward.dense import policy_forward
from real_trl.forward.logits import HeadOptions, float32_logits, precise_logits
from real_trl.forward.selected_log_probs import selected_log_probs
from real_trl.forward.support import why_head_unknown
from real_trl.forward.token_selection import TokenSelection, add_token_selection
from real_trl.label_tree import LabelTree
from real_trl.trainers.precision import check_output_layer
from tests.forward.test_shared_prefix import ROWS, TREES, as_tensors

VALUES = torch.arange(1.0, 6.0)
LABELS = torch.tensor([7, 20, 33, 46, 59])
GROUPS, K, HIDDEN, VOCABULARY = 200, 8, 64, 500


def judge(dtype=torch.bfloat16):
    """
    A head and hidden states of groups, in half precision as a body leaves them: logits of labels near 34, and so alike within
    a group that the rewards' σ is near 0.07.
    """
    generator = torch.Generator().manual_seed(0)

    def randn(*shape):
        return torch.randn(*shape, generator=generator)

    weight = 0.1 * randn(VOCABULARY, HIDDEN)
    weight[:, 0] = 0.25
    weight[LABELS, 0] = 1.0
    hidden = (0.8 * randn(GROUPS, 1, HIDDEN) + 0.06 * randn(GROUPS, K, HIDDEN)).flatten(0, 1)
    hidden[:, 0] = 34.0
    targets = torch.randint(1, 6, (GROUPS, 1), generator=generator).float().expand(-1, K)
    return hidden.to(dtype), weight.to(dtype), targets


def advantages(score_log_probs, targets, rounding=None):
    score_log_probs = score_log_probs.view(GROUPS, K, -1)
    rewards = objectives.regression_reward(score_log_probs, VALUES.to(score_log_probs), targets.to(score_log_probs))
    return rewards, objectives.standardize_advantages(objectives.leave_one_out_advantages(rewards, rounding=rounding))


def score_log_probs(hidden, weight, num_precise):
    rows = torch.arange(len(hidden)).repeat_interleave(len(LABELS))
    tokens = LABELS.repeat(len(hidden))
    return selected_log_probs(hidden, weight, None, rows, tokens, num_precise=num_precise)


@pytest.mark.parametrize("autocast", [False, True])
def test_advantages_are_those_of_a_float64_head(autocast):
    hidden, weight, targets = judge(torch.float32 if autocast else torch.bfloat16)
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[:, LABELS]
    rewards, reference = advantages(exact, targets)
    assert 0.03 < rewards.std(1).median() < 0.12 and 33 < (hidden @ weight.T).float().max() < 40
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = score_log_probs(hidden, weight, len(hidden))
        rounded = score_log_probs(hidden, weight, 0)
    assert output.log_probs.dtype == torch.float32
    for log_probs, right in ((output.log_probs, True), (rounded.log_probs, False)):
        _, actual = advantages(log_probs, targets)
        correlation = torch.corrcoef(torch.stack([actual.flatten().double(), reference.flatten()]))[0, 1]
        flips = (actual.sign() * reference.sign() < 0).double().mean()
        assert bool(correlation > 0.999 and flips < 0.005) is right, (correlation, flips)


def test_rounding_of_the_logits_is_no_signal():
    """Rewards that are the same but for the order of a sum, against rewards that differ a little."""
    hidden, weight, targets = judge()
    output = score_log_probs(hidden, weight, len(hidden))
    # The bound holds, and is not far from what happens
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[:, LABELS].flatten()
    error = (output.log_probs - exact).abs().view(-1, len(LABELS)).amax(1)
    assert (error < 8 * output.rounding).all() and (8 * output.rounding < 100 * error.mean()).all()
    rounding = (8 * output.rounding).view(GROUPS, K)
    log_probs = output.log_probs.view(GROUPS, K, -1)
    weights = objectives.target_weights(targets, VALUES)
    off = objectives.squared_error_rounding(log_probs, VALUES, targets, rounding)
    off += objectives.log_likelihood_rounding(log_probs, weights, rounding)
    equal = log_probs[:, :1].expand(-1, K, -1) + 1e-6 * torch.randn(GROUPS, K, 5)
    rewards, silent = advantages(equal, targets, off)
    assert (rewards.std(1) > 0).all() and silent.abs().max() == 0
    assert advantages(equal, targets)[1].abs().max() > 0.5  # what would be made of it
    loud = advantages(log_probs[:, :1] + 1e-2 * torch.randn(GROUPS, K, 5), targets, off)[1]
    assert (loud.abs().amax(1) > 0.5).all()


def test_rounding_by_hand():
    # π = 0.5 on 4 and on 5, ŷ = 4.5, y* = 5: ε = (0.5 · 0.5 + 0.5 · 0.5) · 0.01, 2 · 0.5 · ε + ε² = 0.005025
    log_probs, off = torch.tensor([0.0, 0.0, 0.0, 0.5, 0.5]).log(), torch.tensor(0.01)
    actual = objectives.squared_error_rounding(log_probs, VALUES, torch.tensor(5.0), off)
    assert actual.item() == pytest.approx(0.005025, abs=1e-7)
    # 0.25 each, the other half on no label: ŷ = 2.25, ε = (0.25 · 1.75 + 0.25 · 2.75 + 0.5 · 2.25) · 0.01 = 0.0225, and 2 · 2.75 · ε + ε²
    half = torch.tensor([0.0, 0.0, 0.0, 0.25, 0.25]).log()
    actual = objectives.squared_error_rounding(half, VALUES, torch.tensor(5.0), off)
    assert actual.item() == pytest.approx(2 * 2.75 * 0.0225 + 0.0225**2, abs=1e-7)
    # Divided by the mass, it is the first
    actual = objectives.squared_error_rounding(half, VALUES, torch.tensor(5.0), off, normalize=True)
    assert actual.item() == pytest.approx(0.005025, abs=1e-7)
    # log π of a label that has 0.5 may be 2 · 0.5 · 0.01 off; one that has all of it, not at all
    weights = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    assert objectives.log_likelihood_rounding(log_probs, weights, off).item() == pytest.approx(0.01)
    certain = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).log()
    assert objectives.log_likelihood_rounding(certain, weights, off).item() == 0.0


@pytest.mark.parametrize("normalize", [False, True])
def test_the_rounding_bounds_what_noise_in_the_logits_does(normalize):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(500, 12, generator=generator, dtype=torch.float64)
    targets = 1 + 4 * torch.rand(500, generator=generator, dtype=torch.float64)
    off, values = torch.full((500,), 1e-4, dtype=torch.float64), VALUES.double()
    noise = 1e-4 * (2 * torch.rand(200, 500, 12, generator=generator, dtype=torch.float64) - 1)
    exact, noisy = (x.log_softmax(-1)[..., :5] for x in (logits, logits + noise))
    weights = objectives.target_weights(targets, values)
    for reward, bound in (
        (
            lambda x: objectives.squared_error(x, values, targets, normalize),
            objectives.squared_error_rounding(exact, values, targets, off, normalize),
        ),
        (
            lambda x: objectives.log_likelihood_reward(x, values, targets, weights),
            objectives.log_likelihood_rounding(exact, weights, off),
        ),
    ):
        error = (reward(noisy) - reward(exact)).abs().amax(0)
        assert (error <= bound * 1.001).all() and (error > bound / 20).double().mean() > 0.9


SMALL = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
HEADS = {
    "plain": (LlamaConfig, {}),
    "tied": (LlamaConfig, {"tie_word_embeddings": True}),
    "bias": (PhiConfig, {}),
    "soft cap": (Gemma2Config, {"head_dim": 8, "final_logit_softcapping": 2.0}),
    "soft cap alone": (NanoChatConfig, {"final_logit_softcapping": 2.0}),
    "multiplied": (CohereConfig, {"logit_scale": 0.4}),
    "divided": (GraniteConfig, {"logits_scaling": 3.0}),
    "multiplied under the other's name": (HyperCLOVAXConfig, {"logits_scaling": 3.0}),
    "multiplied by the backbone's": (
        FalconH1Config,
        {"lm_head_multiplier": 0.3, "mamba_d_ssm": 32, "mamba_n_heads": 4},
    ),
}


def build(head, dtype=torch.float32):
    config, changes = HEADS[head]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(**SMALL, **changes), dtype=dtype).train()
    for parameter in model.get_output_embeddings().parameters():
        nn.init.normal_(parameter, std=0.5)  # a bias is 0 at first
    return model


@pytest.mark.parametrize("head", HEADS)
def test_scores_and_their_gradient_in_a_half_precision_model(head):
    """Against float64 from the same hidden states: those of the model, as its own forward makes logits of them."""
    model = build(head, torch.bfloat16)
    assert why_head_unknown(model) is None
    add_token_selection(model, temperature=0.7)
    seen = []
    hook = model.base_model.register_forward_hook(lambda m, args, output: seen.append(output.last_hidden_state))
    inputs, tree = as_tensors(ROWS), TREES["digits"]
    output = policy_forward(model, **inputs, tree=tree)
    hook.remove()
    assert output.score_log_probs.dtype == torch.float32

    exact = build(head, torch.float64)
    exact.load_state_dict(model.state_dict())
    hidden = seen[0].detach().double().requires_grad_()
    exact.base_model.forward = lambda *args, **kwargs: BaseModelOutputWithPast(last_hidden_state=hidden)
    logits = exact(input_ids=torch.zeros(hidden.shape[:2], dtype=torch.long)).logits / 0.7
    rows = inputs["prompt_ids"].size(1) - 1 + inputs["score_positions"]
    expected = logits.log_softmax(-1)[torch.arange(len(ROWS)), rows][:, [5, 6, 7]]
    assert (output.score_log_probs - expected).abs().max() < 2e-5
    assert output.score_rounding.max() < 1e-3
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    seen[0].retain_grad()
    (output.score_log_probs * weights).sum().backward()
    (expected * weights).sum().backward()
    layer, exact_layer = model.get_output_embeddings(), exact.get_output_embeddings()
    pairs = [(seen[0].grad, hidden.grad)]
    if not model.config.tie_word_embeddings:  # whose gradient has the embeddings' as well
        pairs += [(p.grad, q.grad) for p, q in zip(layer.parameters(), exact_layer.parameters(), strict=True)]
    for actual, true in pairs:  # rounded once, to the type of what they are gradients of
        assert (actual - true).norm() < 4e-3 * true.norm()


@pytest.mark.parametrize("head", HEADS)
def test_the_engine_and_the_trainer_read_the_same_logits(head):
    model = build(head, torch.bfloat16)
    ids = torch.tensor([ROWS[0][0]])
    with torch.no_grad():
        hidden = model.base_model(ids).last_hidden_state
        layer = model.get_output_embeddings()
        with float32_logits(model):
            engine = model(ids).logits
        trainer = HeadOptions.of_config(model.config).apply(precise_logits(hidden, layer.weight, layer.bias))[0]
    assert engine.dtype == torch.float32
    torch.testing.assert_close(engine, trainer, rtol=1e-6, atol=1e-6)


def test_the_engine_under_autocast():
    model, hidden = build("bias"), torch.randn(3, 32)
    exact = hidden.double() @ model.lm_head.weight.double().T + model.lm_head.bias.double()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert (model.lm_head(hidden) - exact).abs().max() > 1e-2
        with float32_logits(model):
            assert (model.lm_head(hidden) - exact).abs().max() < 1e-5


def test_the_engine_reads_a_model_in_training():
    """accelerate has put autocast into its forward, which is not active around it."""
    AcceleratorState._reset_state()  # of an earlier test
    model = Accelerator(cpu=True, mixed_precision="bf16").prepare_model(build("bias"))
    seen, ids = [], torch.tensor([ROWS[0][0]])
    hook = model.base_model.register_forward_hook(lambda m, args, output: seen.append(output.last_hidden_state))
    with torch.no_grad():
        rounded = model(ids).logits
        with float32_logits(model):
            logits = model(ids).logits
    hook.remove()
    AcceleratorState._reset_state()
    exact = seen[1].double() @ model.lm_head.weight.double().T + model.lm_head.bias.double()
    assert (logits - exact).abs().max() < 1e-5 < 1e-3 < (rounded - exact).abs().max()


@pytest.mark.gpu
def test_on_a_gpu():
    hidden, weight, _ = judge()
    exact = hidden.double() @ weight.double().T
    logits = precise_logits(hidden.cuda(), weight.cuda(), None)
    assert logits.dtype == torch.float32 and (logits.cpu() - exact).abs().max() < 1e-4
    selected = selected_log_probs(
        hidden.cuda(), weight.cuda(), None, torch.arange(4).cuda(), LABELS[:4].cuda(), num_precise=2
    )
    expected = exact.log_softmax(-1)[torch.arange(4), LABELS[:4]]
    assert (selected.log_probs.cpu() - expected).abs().max() < 1e-4


def test_a_wide_vocabulary_is_turned_into_float32_in_parts(monkeypatch):
    from real_trl.forward import logits

    hidden, weight, targets = judge()
    whole = score_log_probs(hidden[:8], weight, 8)
    grads = []
    for rows in (logits._ROWS, 7):
        monkeypatch.setattr(logits, "_ROWS", rows)
        leaves = hidden[:8].clone().requires_grad_(), weight.clone().requires_grad_()
        output = score_log_probs(*leaves, 8)
        # Logits near 34 are spaced by 4e-6; in bfloat16 they would be off by 0.1
        torch.testing.assert_close(output.log_probs, whole.log_probs, rtol=3e-5, atol=3e-5)
        output.log_probs.exp().sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_with_and_without_precision_in_one_call():
    """The first rows are rounded to the type of the hidden states, the last are not; the gradients add up."""
    hidden, weight, _ = judge()
    hidden, leaf = hidden[:4].clone().requires_grad_(), weight.clone().requires_grad_()
    trees = TokenSelection.of_trees(
        LabelTree.from_paths([[7], [20]]), torch.tensor([[3, 3], [2, 2]]), torch.zeros(2, 0, dtype=torch.long)
    )
    selection = TokenSelection.of_tokens(torch.arange(2), torch.tensor([0, 1]), torch.tensor([3, 7])).and_trees(trees)
    assert selection.positions.tolist() == [0, 1, 2, 3] and selection.num_precise == 2
    asked = (selection.rows, selection.tokens)
    output = selected_log_probs(hidden, leaf, None, *asked, num_precise=2)
    exact = (hidden.double() @ weight.double().T).log_softmax(-1)[asked]
    error = (output.log_probs - exact).abs()
    assert error[2:].max() < 1e-4 < 1e-2 < error[:2].max()
    output.log_probs.sum().backward()
    true = weight.double().requires_grad_()
    (hidden.detach().double() @ true.T).log_softmax(-1)[asked].sum().backward()
    assert (leaf.grad - true.grad).norm() < 0.05 * true.grad.norm()


# --- heads that are not what the trainers would read -------------------------------------------------------------------


def unknown(model):
    with pytest.raises(ValueError, match="model: ") as error:
        check_output_layer(model)
    return str(error.value)


def test_heads_that_do_more_are_refused():
    model = build("plain")
    model.lm_head = nn.Sequential(model.lm_head)
    assert "Sequential" in unknown(model)
    config = ModernBertDecoderConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, pad_token_id=0
    )
    model = AutoModelForCausalLM.from_config(config)  # a layer, an activation and a norm before the last layer
    assert "ModernBertDecoder" in unknown(model)
    model = build("plain")
    model.config.logit_scale = 0.5  # which its forward does not know
    assert "scale" in unknown(model)


def test_the_check_leaves_the_model_as_it_was():
    model = build("soft cap")
    assert why_head_unknown(model) is None and "forward" not in vars(model.base_model)
    assert model.training


def test_lora_on_the_head_is_refused_and_a_trained_copy_of_it_is_read():
    model = get_peft_model(build("plain"), LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
    message = unknown(model)
    assert "adapter" in message and "target_modules" in message
    model = get_peft_model(build("plain"), LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"]))
    check_output_layer(model)
    copy = model.base_model.model.lm_head.modules_to_save["default"]
    nn.init.normal_(copy.weight)
    base = model.get_base_model()
    add_token_selection(base, 1.0)
    output = policy_forward(model, **as_tensors(ROWS), tree=TREES["digits"])
    ids = torch.tensor([ROWS[0][0] + ROWS[0][1][:5]])
    expected = base(ids).logits[0, -1].log_softmax(-1)[[5, 6, 7]]
    torch.testing.assert_close(output.score_log_probs[0], expected, rtol=1e-5, atol=1e-5)
    output.score_log_probs.sum().backward()
    assert copy.weight.grad.abs().max() > 0 and math.isfinite(copy.weight.grad.norm())
