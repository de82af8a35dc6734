# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The protocols of other tools, spoken by their own clients: OpenAI's chat completions, graders, Prometheus."""

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from real_trl import Judge
from real_trl.engines import Judgment
from real_trl.serving.app import Limits
from real_trl.serving.chat import ChatReader, completion
from real_trl.serving.wire import RowReader
from tests.helpers.served_judges import SPACE, save_judge
from tests.serving.test_batching import SETTINGS
from tests.serving.test_serve import KEY, LIMITS, ROWS, service
from tests.tiny import LINES, PROMPT

ROW = ROWS[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder):
    return Judge.from_pretrained(folder, **SETTINGS)


@pytest.fixture(scope="module")
def http(folder):
    with service(folder) as (_, client):
        yield client


def openai_client(http, key="none"):
    return openai.OpenAI(base_url=f"{http.base_url}/v1", api_key=key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(http):
    with openai_client(http) as client:
        yield client


def asked(prompt):
    return {"model": "tiny", "messages": [{"role": "user", "content": prompt}]}


def figures(http):
    """Name and labels of each sample at `/metrics` → its value."""
    families = text_string_to_metric_families(http.get("/metrics").text)
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


# --- OpenAI


def test_the_openai_client_lists_the_judge(client):
    (model,) = client.models.list().data
    assert (model.id, model.owned_by, model.fields) == ("tiny", "real_trl", ["instruction", "response", "rubric"])
    assert model.scale == {"labels": list("12345"), "values": [1.0, 2.0, 3.0, 4.0, 5.0]}


@pytest.mark.parametrize("parts", [False, True])
def test_a_user_message_is_the_complete_prompt(client, judge, parts):
    prompt = judge.prompt(ROW, "row")
    answer = client.chat.completions.create(
        **asked([{"type": "text", "text": part} for part in (prompt[:9], prompt[9:])] if parts else prompt)
    )
    expected = judge.score(prompt=prompt)
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", expected.completion)
    assert choice.finish_reason == "stop" and expected.status == "ok"
    assert answer.judgment["expected_score"] == pytest.approx(expected.expected_score, abs=1e-5)
    assert answer.judgment["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (
        expected.prompt_tokens,
        expected.num_tokens,
    )
    assert answer.usage.total_tokens == expected.prompt_tokens + expected.num_tokens and answer.model == "tiny"


def test_a_row_has_the_fields_of_the_template_and_settings_that_change_nothing_are_taken(client, judge):
    answer = client.chat.completions.create(
        model="tiny", messages=[], temperature=0, n=1, max_tokens=20, seed=3, user="me", extra_body={"row": ROW}
    )
    expected = judge.score([ROW])[0]
    assert answer.choices[0].message.content == expected.completion
    assert answer.judgment["expected_score"] == pytest.approx(expected.expected_score, abs=1e-5)


def system(text):
    return [{"role": "system", "content": text}, {"role": "user", "content": "Say 3"}]


@pytest.mark.parametrize(
    ("changed", "param", "code", "message"),
    [
        ({"temperature": 0.7}, "temperature", "unsupported_value", "Leave it out, or set it to 0."),
        ({"n": 2}, "n", "unsupported_value", "set it to 1"),
        ({"stream": True}, "stream", "unsupported_value", "set it to false"),
        ({"logprobs": True}, "logprobs", "unsupported_value", "not supported"),
        ({"max_tokens": 5}, "max_tokens", "unsupported_value", "up to 20 tokens"),
        ({"stop": ["x"]}, "stop", "unsupported_value", "not supported"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "unsupported_value", "it is not supported. Leave it out."),
        ({"extra_body": {"best_of": 2}}, "best_of", "unknown_parameter", "no such field"),
        ({"extra_body": {"row": ROW}}, "messages", None, "Give messages=[]"),
        ({"messages": [], "extra_body": {"row": {**ROW, "respones": "x"}}}, "row.respones", None, "Did you mean response?"),
        ({"messages": [], "extra_body": {"row": {**ROW, "response": 3}}}, "row.response", None, "is a number"),
        ({"messages": [], "extra_body": {"row": ["x"]}}, "row", None, "is a list"),
        ({"messages": [], "extra_body": {"row": {"instruction": "x"}}}, "row.response", None, "needs it"),
        ({"messages": []}, "messages", None, "no user message"),
        ({"messages": system("Be strict.")}, "messages[0]", None, "has none. Leave it out."),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages[0].role", None, "reads one user message"),
        ({"messages": asked("x")["messages"] * 2}, "messages[1]", None, "this is the second"),
        ({"messages": asked("x")["messages"] * 3}, "messages", None, "got 3"),
        ({"messages": asked(" ")["messages"]}, "messages[0].content", None, "empty"),
        ({"messages": asked([{"type": "image_url", "image_url": {"url": "x"}}])["messages"]}, "messages[0].content", None, "text only"),
    ],
)  # fmt: skip
def test_what_is_wrong_gets_openais_errors(client, changed, param, code, message):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{**asked("Say 3"), **changed})
    assert (error.value.param, error.value.code, error.value.type) == (param, code, "invalid_request_error")
    assert message in error.value.body["message"]


def test_other_models_and_limits(client, http):
    with pytest.raises(openai.NotFoundError, match="Set it to 'tiny'") as error:
        client.chat.completions.create(**{**asked("Say 3"), "model": "gpt"})
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as error:
        client.chat.completions.create(**asked("right " * 300))
    assert error.value.status_code == 413
    for content, status in (
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 10_000, 400),
        (b'{"model": "tiny", "messages": {}}', 400),
        (b"x" * 30_000, 413),
    ):
        response = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == status and response.json()["error"]["type"] == "invalid_request_error"
    assert http.post("/v1/chat/completions", content=b"{}").status_code == 415


def test_the_judges_own_system_message_is_taken(judge):
    reader = ChatReader(RowReader(judge, max_rows=3), "tiny")
    reader._system = "Be strict."
    body = b'{"model": "tiny", "messages": [{"role": "%s", "content": "Be strict."}, {"role": "user", "content": "Say 3"}]}'
    assert reader.read(body % b"system").prompt == reader.read(body % b"developer").prompt == "Say 3"


def test_of_a_direct_judge_the_message_is_marker_and_label(judge):
    said = Judgment.read(torch.tensor([0.05, 0.05, 0.1, 0.7, 0.1]).log(), SPACE, normalize=False, prompt_tokens=7)
    answer = completion(said, ChatReader(RowReader(judge, max_rows=3), "tiny"))
    assert answer["choices"][0]["message"]["content"] == f"{SPACE.marker}4"
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 0, "total_tokens": 7}


def test_the_key_is_needed(folder):
    with service(folder, key=KEY) as (_, http):
        with pytest.raises(openai.AuthenticationError) as error:
            openai_client(http, "another").chat.completions.create(**asked("Say 3"))
        assert error.value.code == "invalid_api_key" and KEY not in str(error.value.body)
        assert openai_client(http, KEY).models.list().data[0].id == "tiny"
        assert openai_client(http, KEY).chat.completions.create(**asked("Say 3")).judgment["status"]
        for path in ("/v1/models", "/metrics"):
            assert http.get(path).status_code == 401
        assert http.post("/v1/grader", json=ROW).status_code == 401
        http.headers["Authorization"] = f"Bearer {KEY}"
        assert figures(http)["real_trl_requests_total", "/v1/chat/completions", "401"] == 1


def test_16_clients_at_once_get_the_judges_numbers(folder, judge):
    rows = [{"instruction": PROMPT, "response": "\n".join(LINES[: 1 + n % 3] * (1 + n // 3))} for n in range(10)]
    expected = judge.score(rows)
    with service(folder, Limits()) as (_, http), ThreadPoolExecutor(16) as pool:

        def ask(number):
            with openai_client(http) as client:
                return [
                    client.chat.completions.create(model="tiny", messages=[], extra_body={"row": rows[each % 10]})
                    for each in (number, number + 1)
                ]

        for number, answers in enumerate(pool.map(ask, range(16))):
            for each, answer in enumerate(answers, number):
                judgment = expected[each % 10]
                assert answer.choices[0].message.content == judgment.completion
                assert answer.judgment["expected_score"] == pytest.approx(judgment.expected_score, abs=1e-5)
        seen = figures(http)
        assert seen["real_trl_requests_total", "/v1/chat/completions", "200"] == 32
        assert seen["real_trl_batch_rows_sum",] == 32 > seen["real_trl_batch_rows_count",]  # some shared a batch


# --- graders


def test_a_grader_gives_rewards(http, judge):
    expected = [min(max((judgment.expected_score - 1) / 4, 0), 1) for judgment in judge.score(ROWS)]
    one = http.post("/v1/grader", json=ROWS[0]).json()
    assert one["reward"] == pytest.approx(expected[0], abs=1e-5) and one["score"]["status"] == "ok"
    several = http.post("/v1/grader", json={"rows": ROWS}).json()
    assert several["rewards"] == pytest.approx(expected, abs=1e-5) and len(several["scores"]) == 3
    refused = http.post("/v1/grader", json={"rows": [ROWS[0], {**ROWS[1], "response": None}]})
    assert refused.status_code == 422 and refused.json()["error"]["param"] == "rows[1].response"


def test_a_grader_never_makes_a_number_of_a_completion_without_a_score(folder):
    settings = {**SETTINGS, "max_new_tokens": 2, "malformed": "drop"}  # too few tokens for a score
    with service(folder, settings=settings) as (_, http):
        answer = http.post("/v1/grader", json={"rows": ROWS[:2]})
        assert answer.status_code == 502 and answer.json()["error"]["param"] == "rows[0]"
        assert "shows none (missing)" in answer.json()["error"]["message"] and "reward" not in answer.json()
        chat = openai_client(http).chat.completions.create(**asked(PROMPT))
        assert chat.judgment["expected_score"] is None and chat.choices[0].finish_reason == "length"


# --- Prometheus


def test_metrics(folder):
    with service(folder, LIMITS) as (judge, http):
        assert http.post("/score", json={"rows": ROWS}).status_code == 200
        assert http.post("/score", json={"instruction": "x"}).status_code == 422
        assert http.post("/score", content=b"x" * 30_000).status_code == 413  # which the guard refuses
        assert http.get("/no/such/page").status_code == 404
        seen = figures(http)
        assert [seen["real_trl_requests_total", "/score", status] for status in ("200", "413", "422")] == [1, 1, 1]
        assert seen["real_trl_requests_total", "404", "other"] == 1 and seen["real_trl_rows_total", "ok"] == 3
        assert seen["real_trl_request_seconds_count", "/score"] == 3 and seen["real_trl_waiting_rows",] == 0
        assert (seen["real_trl_batch_rows_sum",], seen["real_trl_batch_seconds_count",]) == (3, 1)
        assert http.get("/metrics").headers["content-type"].startswith("text/plain; version=")
        judge.hold()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(http.post, "/score", json=ROWS[0])
            assert judge.entered.wait(60)
            second = pool.submit(http.post, "/score", json={"rows": ROWS})
            while figures(http)["real_trl_waiting_rows",] < 3:
                assert not second.done()
            judge.gate.set()
            assert first.result(60).status_code == second.result(60).status_code == 200
