# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Verdicts in bold or on a line of their own: their distribution is that at the label's own token, in all engines."""

from functools import cache

import pytest
import torch

from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.server_engine import ServerEngine
from real_trl.score_space import ScoreSpace
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve
from tests.tiny import build_model, teach
from tests.tokenizers_zoo import TOKENIZERS, encode

PROMPT = "The text is good."
# tokenizer, scale, marker, what precedes the label and follows it
VERDICTS = {
    "the same tokens": ("qwen", "1-5", "Result: ", "Result: **", "**"),
    "on a line of its own": ("mistral", "1-5", "<score>\n", "<score>\n\n", "\n</score>"),
    "digits that have the blank": ("gpt2", "1-10", "Result: ", "Result: **", "**"),
    "letters that have the blank": ("qwen", "A-E", "Result: ", "**Result:** **", "**"),
}


def score_space(verdict: str) -> ScoreSpace:
    name, labels, marker, *_ = VERDICTS[verdict]
    values = range(1, 6) if labels == "A-E" else None
    return ScoreSpace.from_labels(labels, TOKENIZERS[name](), marker=marker, values=values)


@cache
def taught(verdict: str) -> tuple[torch.nn.Module, list[list[int]]]:
    """A model that gives a verdict in this form, with one of three labels, and its completions, up to the label and as a whole."""
    space, (*_, before, after) = score_space(verdict), VERDICTS[verdict]
    tokenizer = space.tokenizer
    model = build_model(tokenizer=tokenizer, initializer_range=0.02).train()
    prompt = tokenizer(PROMPT)["input_ids"]
    texts = [f" Two claims are wrong. {before}{label}{after}" for label in space.labels[1:4]]
    answers = [[*encode(tokenizer, text), tokenizer.eos_token_id] for text in texts]
    assert len({len(answer) for answer in answers}) == 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    teach(model, [prompt + answer for answer in answers], len(answers[0]), optimizer, 60)
    return model.eval(), answers


def expected(verdict: str) -> list[float]:
    """The labels' probabilities where they differ, by one forward."""
    (model, answers), space = taught(verdict), score_space(verdict)
    position = next(i for i, tokens in enumerate(zip(*answers, strict=True)) if len(set(tokens)) > 1)
    tokens = [answer[position] for answer in answers]
    ids = space.tokenizer(PROMPT)["input_ids"] + answers[0][:position]
    with torch.no_grad():
        probabilities = model(torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    assert probabilities[tokens].sum() > 0.9, "the premise: it was learned"
    return probabilities[tokens].tolist()


@pytest.mark.parametrize("verdict", VERDICTS)
def test_transformers(verdict):
    (model, _), space = taught(verdict), score_space(verdict)
    engine = TransformersEngine(model, space.tokenizer, space, Decoding(max_new_tokens=40, do_sample=False))
    judgments = [judgment for _, judgment in engine.judge([PROMPT, PROMPT])]
    for judgment in judgments:
        assert judgment.status == "ok" and judgment.completion.strip().endswith(VERDICTS[verdict][4])
        assert list(judgment.probabilities.values())[1:4] == pytest.approx(expected(verdict), abs=1e-5)
        assert judgment.rationale.startswith("Two claims are wrong.") and "Result" not in judgment.rationale
        assert judgment.sampled_score == judgment.most_likely_score


@pytest.mark.parametrize("extensions", [True, False])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_servers(verdict, extensions):
    (model, _), space = taught(verdict), score_space(verdict)
    with serve(TinyServer(model, space.tokenizer, extensions=extensions)) as url:
        decoding = Decoding(max_new_tokens=40, do_sample=False)
        engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, decoding)
        ((_, judgment),) = engine.judge([PROMPT])
    assert judgment.status == "ok"
    assert list(judgment.probabilities.values())[1:4] == pytest.approx(expected(verdict), abs=1e-5)
