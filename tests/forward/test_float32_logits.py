# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Half-precision judges: their scores are read in float32."""

import copy

import pytest
import torch

from real_trl.engines import Decoding, TransformersEngine
from real_trl.forward.logits import float32_logits, precise_logits
from real_trl.forward.selected_log_probs import selected_log_probs
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
PROMPTS = prompt_dataset([1.0] * 3)["prompt"][:]


def large_logits(dtype):
    """A judge whose logits are all near 35, as those of real models, with the distributions of the tiny one."""
    model = warm_model().to(dtype)
    head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size, dtype=dtype)
    head.weight, head.bias = model.lm_head.weight, torch.nn.Parameter(torch.full_like(head.bias, 35.0))
    model.lm_head = head
    return model


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_are_those_of_a_float32_product(dtype):
    model, hidden = large_logits(dtype), torch.randn(2, 3, 32, dtype=dtype)
    layer = model.get_output_embeddings()
    rounded = layer(hidden)
    with float32_logits(model):
        logits = layer(hidden)
    expected = hidden.double() @ layer.weight.double().T + layer.bias.double()
    assert rounded.dtype == dtype and logits.dtype == torch.float32
    assert (logits - expected).abs().max() < 1e-4 < 0.01 < (rounded - expected).abs().max()
    assert torch.equal(layer(hidden), rounded)  # put back


def test_scores_of_a_bfloat16_judge():
    """Against the same hidden states in float32: without the layer, ŷ is off by more."""
    decoding = Decoding(do_sample=False, max_new_tokens=24)
    model = large_logits(torch.bfloat16)
    judged = dict(TransformersEngine(model, TOKENIZER, SPACE, decoding).judge(PROMPTS))
    errors, rounded_errors = [], []
    for index, prompt in enumerate(PROMPTS):
        assert judged[index].status == "ok"
        text = judged[index].completion.rpartition(" ")[0]
        ids = torch.tensor([TOKENIZER(prompt)["input_ids"] + TOKENIZER(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            hidden = model.model(ids).last_hidden_state[0, -1]
            rounded = model.lm_head(hidden).double()
        exact = hidden.double() @ model.lm_head.weight.double().T + 35
        labels, values = [path[0] for path in SPACE.token_ids], torch.arange(1.0, 6.0).double()
        expected, off = ((logits.softmax(-1)[labels] @ values).item() for logits in (exact, rounded))
        errors.append(abs(judged[index].expected_score - expected))
        rounded_errors.append(abs(off - expected))
    assert max(errors) < 1e-2 and max(rounded_errors) > 2 * max(errors)


def test_other_layers_are_left_alone():
    model = warm_model()
    hidden = torch.randn(1, 32)
    expected = model.lm_head(hidden)
    with float32_logits(model):  # float32 already
        assert torch.equal(model.lm_head(hidden), expected) and "forward" not in vars(model.lm_head)
    half = copy.deepcopy(model).to(torch.bfloat16)
    half.lm_head = torch.nn.Sequential(half.lm_head)  # not a plain linear layer
    with float32_logits(half):
        assert half.lm_head(hidden.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("autocast", [False, True])
def test_a_process_that_multiplies_float32_in_shorter_formats_reads_scores_in_float32(autocast):
    """As with `tf32: true` on a GPU; on this CPU "medium" means bfloat16, where it has products of that type."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(40, 64), torch.randn(500, 64).requires_grad_()
    rows = torch.arange(40)
    exact = weight.detach().double().requires_grad_()
    wanted = (hidden.double() @ exact.T).log_softmax(-1)[rows, rows]
    wanted.sum().backward()
    torch.set_float32_matmul_precision("medium")
    try:
        states = [backend.fp32_precision for backend in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = precise_logits(hidden, weight, None)
            log_probs = selected_log_probs(hidden, weight, None, rows, rows, num_precise=40).log_probs
            log_probs.sum().backward()
        after = [backend.fp32_precision for backend in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)]
    finally:
        torch.set_float32_matmul_precision("highest")
    assert after == states
    torch.testing.assert_close(logits.double(), hidden.double() @ exact.T, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(log_probs.double(), wanted, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(weight.grad.double(), exact.grad, atol=1e-4, rtol=1e-5)
