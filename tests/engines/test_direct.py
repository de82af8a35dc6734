# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Direct judges: their distribution in every engine against a dense float64 forward over prompt and marker."""

import copy
import math

import pytest
import torch

from real_trl import Judge, JudgeConfig
from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.server_engine import ServerEngine
from tests.engines.test_server_engine import in_order
from tests.forward.test_prefill import dense
from tests.forward.test_tree_after_generation import PROMPTS, scale_space, warm_judge
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve
from tests.tiny import TOKENIZER, chat_tokenizer, prompt_dataset, warm_model

SCALES = ["1-10", "0-100", "words"]


def direct(**options):
    return Decoding(rationale=False, do_sample=False, **options)


def exact(scale, rationale=""):
    space = scale_space(scale)
    answer = f" {rationale} {space.marker}{space.labels[0]}" if rationale else f" {space.marker}{space.labels[0]}"
    found = []
    for prompt in PROMPTS:
        opening = space.tokenizer(answer, add_special_tokens=False)["input_ids"]
        opening = opening[: space.locate(opening).position]
        ids = [*space.tokenizer(prompt)["input_ids"], *opening]
        found.append(dense(warm_judge(scale), space.tree, ids, 1.0))
    return found


def check(judgments, scale, rationale="", tolerance=1e-6):
    values = scale_space(scale).values
    for judgment, probabilities in zip(judgments, exact(scale, rationale), strict=True):
        assert list(judgment.probabilities.values()) == pytest.approx(probabilities, abs=tolerance)
        expected = sum(v * p for v, p in zip(values, probabilities, strict=True))
        assert judgment.expected_score == pytest.approx(expected, abs=tolerance * 100 * max(values))
        likely = values[max(range(len(values)), key=probabilities.__getitem__)]
        assert judgment.sampled_score == judgment.most_likely_score == likely
        assert (judgment.completion, judgment.rationale, judgment.status) == ("", rationale, "ok")
        assert judgment.num_tokens == 0 and judgment.entropy is None


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("batch_size", [2, 64])
def test_transformers(scale, batch_size):
    space = scale_space(scale)
    engine = TransformersEngine(warm_judge(scale), space.tokenizer, space, direct(), batch_size=batch_size)
    check(in_order(engine.judge(PROMPTS), len(PROMPTS)), scale, tolerance=2e-6)


def test_with_a_rationale_that_is_given():
    space = scale_space("1-10")
    engine = TransformersEngine(warm_judge("1-10"), space.tokenizer, space, Decoding())
    rationale = "The tone fits."
    check(in_order(engine.read(PROMPTS, [rationale] * len(PROMPTS)), len(PROMPTS)), "1-10", rationale, 2e-6)


@pytest.mark.parametrize("scale", SCALES)
def test_server_with_token_ids(scale):
    space = scale_space(scale)
    with serve(TinyServer(warm_judge(scale), space.tokenizer, extensions=True)) as url:
        engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, direct())
        check(in_order(engine.judge(PROMPTS), len(PROMPTS)), scale, tolerance=2e-6)


@pytest.mark.parametrize("scale", ["1-10", "words"])
def test_server_with_text(scale):
    space = scale_space(scale)
    with serve(TinyServer(warm_judge(scale), space.tokenizer, most_logprobs=40)) as url:
        engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, direct(), top_logprobs=40)
        judgments = in_order(engine.judge(PROMPTS), len(PROMPTS))
    for judgment, probabilities in zip(judgments, exact(scale), strict=True):
        hidden = sum(
            p for p, read in zip(probabilities, judgment.probabilities.values(), strict=True) if math.isnan(read)
        )
        assert hidden <= judgment.missing_mass + 1e-6
        for read, probability in zip(judgment.probabilities.values(), probabilities, strict=True):
            assert math.isnan(read) or read == pytest.approx(probability, abs=2e-6)
        assert judgment.num_tokens == 0


def test_a_chat_api_reads_what_the_judge_writes():
    space = scale_space("1-10")
    chat = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with serve(TinyServer(warm_judge("1-10"), space.tokenizer)) as url:
        space.tokenizer.chat_template = chat
        try:
            engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, direct(chat=True), api="chat")
            with pytest.raises(ValueError, match="api: got 'chat'"):
                list(engine.read(PROMPTS, ["It is good."] * len(PROMPTS)))
            assert all(j.status in ("ok", "missing") for j in in_order(engine.judge(PROMPTS), len(PROMPTS)))
        finally:
            space.tokenizer.chat_template = None


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("end", ["", "\n", " \t"])
def test_a_saved_judge_is_asked_as_it_was_trained(tmp_path, chat, end):
    tokenizer = chat_tokenizer() if chat else TOKENIZER
    warm_model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], chat=chat, rationale=False, method="raft").save(tmp_path)
    judge = Judge.from_pretrained(tmp_path)
    assert not judge.config.rationale and not judge.engine.decoding.do_sample
    prompt = prompt_dataset([1.0])["prompt"][0] + end
    judgment = judge.score(prompt=prompt)
    if chat:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    else:
        text = prompt.rstrip(" \t")
    ids = tokenizer(f"{text} So the overall score is", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        probabilities = warm_model().double()(torch.tensor([ids])).logits[0, -1].softmax(-1)
    right = probabilities[[path[0] for path in judge.engine.score_space.token_ids]].tolist()
    assert list(judgment.probabilities.values()) == pytest.approx(right, abs=1e-6)
    assert judgment.prompt_tokens == len(ids) - 5
    with pytest.raises(ValueError, match="num_samples: got 2, but a direct judge"):
        judge.score(prompt=prompt, num_samples=2)


def test_options_say_so_only_of_models_that_are_no_judges(tmp_path):
    warm_model().save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    judge = Judge.from_pretrained(tmp_path, score_labels="1-5", rationale=False)
    judgment = judge.score(prompt=prompt_dataset([1.0])["prompt"][0])
    assert judgment.num_tokens == 0 and judgment.normalized
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).save(tmp_path)
    with pytest.raises(ValueError, match="rationale: got False, but the judge .* was trained with True"):
        Judge.from_pretrained(tmp_path, rationale=False)


def test_broken_logits_are_unscored():
    space, model = scale_space("1-10"), copy.deepcopy(warm_judge("1-10"))
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    engine = TransformersEngine(model, space.tokenizer, space, direct())
    judgments = in_order(engine.read(PROMPTS), len(PROMPTS))
    assert {j.status for j in judgments} == {"unscored"}
    assert {j.expected_score for j in judgments} == {None}


def test_a_prompt_that_is_too_long_is_named():
    space = scale_space("1-10")
    engine = TransformersEngine(warm_judge("1-10"), space.tokenizer, space, direct())
    long = "The tone fits. " * 2000
    with pytest.raises(ValueError, match=r"prompt 1 \(counted from 0\) has .* too many"):
        engine.check([PROMPTS[0], long])
    cut = TransformersEngine(warm_judge("1-10"), space.tokenizer, space, direct(truncate_prompts=True))
    (judgment,) = in_order(cut.judge([long]), 1)
    assert judgment.status == "ok" and judgment.prompt_tokens < cut.context_length
