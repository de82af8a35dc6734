# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is left beside a few tokens that have nearly everything: by hand, its gradient, and labels that go on, in every forward."""

import copy
import math
from types import MethodType

import pytest
import torch
from accelerate.utils import convert_outputs_to_fp32
from peft import get_peft_model
from trl.trainer.utils import add_fused_lm_head

from real_trl.engines import Decoding, TransformersEngine
from real_trl.forward import rest_log_probs as module
from real_trl.forward.dense import causal_lm, policy_forward
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.rest_log_probs import HeadOptions, rest_log_probs
from real_trl.forward.shared_prefix import share_prefixes, shared_prefix_forward
from real_trl.forward.tree_after_generation import ScorePlace
from real_trl.score_space import ScoreSpace
from real_trl.trainers.raft_trainer import _ForwardWithScores
from tests.tiny import DIGITS, build_model, encode, lora_config

GONE = 1e-6  # what "1" keeps of the tokens that begin with it


def head(*logits, width=4):
    """Hidden states and weights whose product is `logits`."""
    return torch.eye(width, dtype=torch.float64)[:1], torch.tensor([logits] * width, dtype=torch.float64).T


def test_by_hand(monkeypatch):
    # Probabilities 0.1, 0.2, 0.3, 0.4; without the second and the last: 0.4
    hidden, weight = head(*(math.log(p) for p in (0.1, 0.2, 0.3, 0.4)))
    for part in (1, 2, 3, 100):
        monkeypatch.setattr(module, "_ROWS", part)
        assert rest_log_probs(hidden, weight, None, torch.tensor([[1, 3]])).exp().item() == pytest.approx(0.4)
        assert rest_log_probs(hidden, weight, None, torch.tensor([[3, 3]])).exp().item() == pytest.approx(0.6)
    # At temperature 1/2 they are 0.01, 0.04, 0.09, 0.16 of 0.3; a bias of ln 2 on the first makes it 0.04 of 0.33
    options = HeadOptions(temperature=0.5)
    rest = rest_log_probs(hidden, weight, None, torch.tensor([[3, 3]]), options)
    assert rest.exp().item() == pytest.approx(0.14 / 0.3)
    bias = torch.tensor([math.log(2), 0, 0, 0], dtype=torch.float64)
    rest = rest_log_probs(hidden, weight, bias, torch.tensor([[3, 3]]), options)
    assert rest.exp().item() == pytest.approx(0.17 / 0.33)


@pytest.mark.parametrize(
    "options",
    [HeadOptions(), HeadOptions(0.7, 0.3), HeadOptions(1.2, 2.0, softcap=3.0)],
    ids=["plain", "T", "softcap"],
)
def test_gradients(options, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 3)
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (7, 4), (7,))]
    outside = torch.tensor([[1, 2], [6, 6], [0, 5]])
    inputs = [x.requires_grad_() for x in tensors]
    assert torch.autograd.gradcheck(lambda *x: rest_log_probs(*x, outside, options), inputs)
    assert torch.autograd.gradcheck(lambda h, w: rest_log_probs(h, w, None, outside, options), inputs[:2])
    logits = options.apply(inputs[0] @ inputs[1].T + inputs[2])[0]
    expected = [
        p[[v for v in range(7) if v not in row]].sum() for p, row in zip(logits.softmax(1), outside, strict=True)
    ]
    torch.testing.assert_close(rest_log_probs(*inputs, outside, options).exp(), torch.stack(expected))


def test_options_are_those_of_the_fused_head():
    model = build_model()
    with pytest.raises(ValueError, match="LlamaForCausalLM has no fused LM head"):
        HeadOptions.of(model)
    model.config.logit_scale, model.config.final_logit_softcapping = 0.5, 30.0
    add_fused_lm_head(model, temperature=1.3)
    assert HeadOptions.of(model) == HeadOptions(1.3, 0.5, 30.0)
    model.config.logit_scale = 0.7  # the head keeps what it was made with
    assert HeadOptions.of(model) == HeadOptions(1.3, 0.5, 30.0)

    model = build_model()
    add_fused_lm_head(model, temperature=1.3)
    assert share_prefixes(model, 1.3)
    assert HeadOptions.of(causal_lm(get_peft_model(copy.deepcopy(model), lora_config()))) == HeadOptions(1.3)
    # As `Accelerator.prepare_model` does with mixed precision
    model._original_forward = model.forward
    model.forward = MethodType(convert_outputs_to_fp32(model.forward.__func__), model)
    assert HeadOptions.of(model) == HeadOptions(1.3)


# --- a label that is almost sure to go on, in every forward ------------------------------------------------------------

PROMPT = encode("Grade this homework from 1 to 5", eos=False, tokenizer=DIGITS)
COMPLETION = encode("right. So the overall score is 10", tokenizer=DIGITS)
SPACES = {
    "1-10": ScoreSpace.from_labels("1-10", DIGITS),
    # No label ends at "10": both ways out of "1" are rests
    "1 and 100": ScoreSpace.from_labels(["1", "2", "100"], DIGITS),
}


def certain_model():
    """A model in float64 that writes "0" after "1" with all but `GONE`, and its logits there as a function of the model."""
    exact = build_model(tokenizer=DIGITS, initializer_range=0.2).double()
    position = COMPLETION.index(DIGITS.convert_tokens_to_ids("1"))
    ids = torch.tensor([PROMPT + COMPLETION[: position + 1]])
    zero = DIGITS.convert_tokens_to_ids("0")
    with torch.no_grad():
        hidden = exact.model(ids).last_hidden_state[0, -1]
        others = (exact.lm_head.weight @ hidden).index_fill(0, torch.tensor([zero]), -torch.inf).logsumexp(0)
        wanted = others + math.log((1 - GONE) / GONE)
        row = exact.lm_head.weight[zero]
        row += (wanted - row @ hidden) / (hidden @ hidden) * hidden
    return exact, position


def exact_log_probs(exact, position, space):
    """`(L,)`, with gradients: a plain forward over each label, and what follows it out of the logits of all other tokens."""
    context = PROMPT + COMPLETION[:position]
    paths = space.token_ids

    def after(written):
        return exact(torch.tensor([[*context, *written]])).logits[0, -1]

    def not_longer(written):
        """`log π(no longer label | written)`"""
        logits = after(written)
        nexts = sorted({p[len(written)] for p in paths if len(p) > len(written) and p[: len(written)] == written})
        if not nexts:
            return torch.zeros((), dtype=torch.float64)
        terms = [logits.index_fill(0, torch.tensor(nexts), -torch.inf).logsumexp(0) - logits.logsumexp(0)]
        terms += [logits.log_softmax(0)[t] + not_longer((*written, t)) for t in nexts if (*written, t) not in paths]
        return torch.stack(terms).logsumexp(0)

    log_probs = []
    for path in paths:
        steps = [after(path[:end]).log_softmax(0)[token] for end, token in enumerate(path)]
        log_probs.append(torch.stack(steps).sum() + not_longer(path))
    return torch.stack(log_probs)


def forward_inputs(position, copies):
    def rows(values):
        return torch.tensor([values] * copies)

    completion = COMPLETION[:position]
    return {
        "prompt_ids": rows(PROMPT),
        "prompt_mask": rows([1] * len(PROMPT)),
        "completion_ids": rows(completion),
        "completion_mask": rows([1] * len(completion)),
        "score_positions": rows(position),
    }


def read_score(way, model, space, position):
    """`(L,)` by one of the ways in which the library reads a score distribution."""
    if way in ("dense", "shared"):
        add_fused_lm_head(model, temperature=1.0, outputs=("log_probs", "entropy"))
        if way == "shared":
            assert share_prefixes(model)
        forward = shared_prefix_forward if way == "shared" else policy_forward
        return forward(model, **forward_inputs(position, 2), tree=space.tree).score_log_probs[1]
    if way in ("packed", "padded"):
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        if way == "packed":
            install_prefix_attention(model)
        ids = torch.tensor([PROMPT + COMPLETION])
        forward = _ForwardWithScores(model, torch.tensor([len(PROMPT) + position]), space.tree, way == "packed")
        forward(ids, ids, torch.ones_like(ids), fused_lm_head=True)
        return forward.score_log_probs[0]
    engine = TransformersEngine(model, DIGITS, space, Decoding(max_new_tokens=16))
    place = ScorePlace(0, COMPLETION[:position], forced=[])
    read = engine._read(None, [PROMPT], [place])
    return space.tree.label_log_probs(*read.split(space.tree.num_log_probs, dim=1))[0]


@pytest.mark.parametrize("scale", SPACES)
@pytest.mark.parametrize("way", ["dense", "shared", "packed", "padded", "engine"])
def test_a_label_that_is_almost_sure_to_go_on(way, scale):
    """In float32 it keeps its log-probability to 1e-5, and its gradient; one minus the probability of "0" would lose 1e-2."""
    exact, position = certain_model()
    space = SPACES[scale]
    expected = exact_log_probs(exact, position, space)
    assert expected.min() < math.log(2 * GONE)
    actual = read_score(way, copy.deepcopy(exact).float(), space, position)
    torch.testing.assert_close(actual.double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", SPACES)
@pytest.mark.parametrize("way", ["dense", "shared", "packed", "padded"])
def test_its_gradient(way, scale):
    exact, position = certain_model()
    space = SPACES[scale]
    weights = torch.randn(len(space.labels), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (exact_log_probs(exact, position, space) * weights).sum().backward()
    model = copy.deepcopy(exact).float()
    model.zero_grad()
    (read_score(way, model, space, position).double() * weights).sum().backward()
    gradients = {name: p.grad.double() for name, p in model.named_parameters()}
    for name, parameter in exact.named_parameters():
        error = (gradients[name] - parameter.grad).norm()
        assert error <= 2e-5 * parameter.grad.norm(), name
