# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Judgments without an answer wherever judges are used: the service, the demo, rewards, other tools, evaluation during training."""

import copy
import json
import logging
import math

import pytest
import torch
from fastapi.testclient import TestClient

from real_trl import Judge, JudgeConfig
from real_trl.engines import Decoding, Judgment, TransformersEngine
from real_trl.integrations import JudgeReward
from real_trl.integrations.row_judge import Asked, RowJudge, details
from real_trl.prompts.template import PromptTemplate
from real_trl.serving.app import Limits, create_app
from real_trl.serving.batching import Batcher
from real_trl.serving.judgment_html import judgment_html
from tests import tokenizers_zoo as zoo
from tests.evaluation.test_unscored_rows import BAD, CHAT, WORDS, Refusing, no_pauses, options_of  # noqa: F401
from tests.forward.test_tree_after_generation import PROMPTS, scale_space, warm_judge
from tests.helpers.tiny_server import serve
from tests.text.test_json_text import strict
from tests.tiny import build_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = copy.deepcopy(zoo.TOKENIZERS["qwen"]())
    tokenizer.chat_template = CHAT
    build_model("qwen3", tokenizer=tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], chat=True)
    config.use_template(PromptTemplate("{{ response }}", "bare.jinja"))
    config.save(folder)
    return folder


@pytest.fixture
def server():
    server = Refusing()
    with serve(server) as server.url:
        yield server


@pytest.fixture
def judge(folder, server) -> Judge:
    return Judge.from_pretrained(folder, engine="server", max_new_tokens=12, engine_options=options_of(server.url))


def test_the_judge_says_what_the_server_said(judge):
    good, bad = judge.score(response=["fine", BAD])
    assert good.expected_score == pytest.approx(3.62) and good.error is None
    assert (bad.status, bad.expected_score, bad.probabilities) == ("unscored", None, None) and WORDS in bad.error


def test_the_service_says_502_for_what_has_no_answer_and_scores_the_rest(judge, server):
    batcher = Batcher(judge, batch_size=4, max_waiting=8)
    app = create_app(judge, batcher, "tiny", Limits(max_rows=4, max_waiting=8))
    try:
        with TestClient(app, raise_server_exceptions=False) as client:
            answer = client.post("/score", json={"response": BAD})
            assert answer.status_code == 502
            assert WORDS in strict(answer.text)["error"]["message"]
            answer = client.post("/score", json={"rows": [{"response": "fine"}, {"response": BAD}]})
            good, bad = strict(answer.text)["scores"]
            assert answer.status_code == 200 and good["expected_score"] == pytest.approx(3.62)
            assert (good["status"], good["error"]) == ("ok", None)
            assert (bad["status"], bad["expected_score"]) == ("unscored", None) and WORDS in bad["error"]
            # as a reward it is no number, and the others are none either
            answer = client.post("/v1/grader", json={"rows": [{"response": "fine"}, {"response": BAD}]})
            assert answer.status_code == 502 and strict(answer.text)["error"]["param"] == "rows[1]"
            assert WORDS in answer.text and "reward" not in answer.text
            assert 'real_trl_rows_total{status="unscored"} 3.0' in client.get("/metrics").text
            # of a server that refuses everything, and has answered nothing yet
            judge.engine.answered, server.refusal = False, (403, {"error": {"message": "no logprobs for you"}})
            answer = client.post("/score", json={"rows": [{"response": BAD}, {"response": BAD}]})
            assert answer.status_code == 502 and "no logprobs for you" in strict(answer.text)["error"]["message"]
    finally:
        batcher.drain()
        batcher.join(10)


def test_the_page_shows_why(judge):
    page = judgment_html(judge.score(response=BAD), judge.labels)
    assert (
        f"There is no score: {judge.engine.client.url} refused the request with status 400" in page and WORDS in page
    )


def test_a_reward_is_none_counted_and_warned_of_once(judge, caplog):
    reward = JudgeReward(judge)
    logged = {}
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            rewards = reward(["p"] * 4, ["fine", BAD, "good", BAD], log_metric=logged.__setitem__)
    assert rewards == [pytest.approx(0.655), None, pytest.approx(0.655), None]
    assert (logged["judge/unscored"], logged["judge/malformed"]) == (0.5, 0)
    (warning,) = [record.getMessage() for record in caplog.records if "got no reward" in record.getMessage()]
    assert "2 of 4 responses" in warning and WORDS in warning


def test_in_other_tools_a_row_is_unscored_with_the_reason(judge):
    good, bad = RowJudge(judge).score([Asked({}, "fine"), Asked({}, BAD)])
    assert good.value == pytest.approx(3.62) and good.reward == pytest.approx(0.655)
    assert (bad.value, bad.reward) == (None, None)
    assert bad.explanation.startswith("unscored: ") and WORDS in bad.explanation
    assert bad.details["status"] == "unscored" and WORDS in bad.details["error"]
    half = Judgment("a", "a", "ok", 4.0, 4.0, 4.0, [math.nan, 0.1, 0.1, 0.5, 0.1], math.nan, 0.8, 0.2, 3, 3)
    strict(json.dumps(details(half)))


# --- a model of this process whose numbers are none


def broken_model():
    """The judge of the tests, whose logits are NaN after a prompt that holds "~"."""
    space = scale_space("1-10")
    model = copy.deepcopy(warm_judge("1-10"))
    model.config.tie_word_embeddings = False
    embedding = torch.nn.Embedding.from_pretrained(model.get_input_embeddings().weight.detach().clone(), freeze=False)
    (token,) = space.tokenizer("~")["input_ids"]
    embedding.weight.data[token] = math.nan
    model.set_input_embeddings(embedding)
    return model, space


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("malformed", ["force", "drop"])
def test_rows_whose_logits_are_no_numbers_are_unscored_and_the_others_are_as_ever(do_sample, malformed):
    model, space = broken_model()
    prompts = [PROMPTS[0], PROMPTS[1] + "~", PROMPTS[2]]
    decoding = Decoding(max_new_tokens=24, do_sample=do_sample, malformed=malformed)
    judged = dict(TransformersEngine(model, space.tokenizer, space, decoding).judge(prompts, seed=1))
    assert (judged[1].status, judged[1].expected_score, judged[1].probabilities) == ("unscored", None, None)
    assert judged[1].error == "the model's logits are no distribution (NaN or infinite)"
    if not do_sample:
        right = dict(TransformersEngine(warm_judge("1-10"), space.tokenizer, space, decoding).judge(prompts))
        for row in (0, 2):
            assert judged[row].completion == right[row].completion
            assert judged[row].expected_score == pytest.approx(right[row].expected_score, abs=1e-6)
    assert judged[0].status != "unscored" and judged[2].status != "unscored"
