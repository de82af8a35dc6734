# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is read out of a request, and what is said of one that is wrong."""

import json

import pytest

from real_trl import Judge
from real_trl.engines import Judgment
from real_trl.serving.fields import prompt_fields
from real_trl.serving.wire import Refused, RowReader, Score
from tests.helpers.served_judges import save_judge

ROW = {"instruction": "Grade", "response": "1) right"}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    return Judge.from_pretrained(save_judge(tmp_path_factory.mktemp("judge")))


@pytest.fixture(scope="module")
def reader(judge):
    return RowReader(judge, max_rows=3)


def test_rows_become_prompts(judge, reader):
    assert reader.read(json.dumps(ROW).encode()) == (judge.prompts([ROW]), True)
    assert reader.read(json.dumps({**ROW, "rubric": None}).encode()) == (judge.prompts([ROW]), True)
    rows = [{**ROW, "rubric": "close"}, {"prompt": "Say 3"}, {**ROW, "response": "wrong é\n"}]
    assert reader.read(json.dumps({"rows": rows}).encode()) == (judge.prompts(rows), False)
    assert reader.fields == prompt_fields(judge.config) == ["instruction", "response", "rubric"]


def rows(*values):
    return json.dumps({"rows": list(values)})


@pytest.mark.parametrize(
    ("body", "status", "field", "message"),
    [
        ('{"prompt": ', 400, None, "not valid JSON"),
        ("", 400, None, "not valid JSON"),
        ('{"prompt": "\\ud800"}', 400, None, "not valid JSON"),
        ("[" * 100_000, 400, None, "not valid JSON"),
        (b'{"prompt": "\xff"}', 400, None, "not valid JSON"),
        ("[]", 422, "body", "is a list. Give an object"),
        ("3", 422, "body", "is a number"),
        ("{}", 422, "instruction", "the request has none, and the judge's prompt (homework.jinja) needs it. Add \"instruction\": \"…\"."),
        ('{"instruction": "x", "response": 5}', 422, "response", "is a number. Give text"),
        ('{"instruction": "x", "response": ["y"]}', 422, "response", "is a list"),
        ('{"instruction": "x", "response": "y", "respones": "z"}', 422, "respones", "Did you mean response?"),
        ('{"instruction": "x", "response": "y", "reference": "z"}', 422, "reference", "reads instruction, response, rubric."),
        ('{"instruction": "x", "response": "y", "marker": "z"}', 422, "marker", "Rename or remove it"),
        ('{"instruction": "x", "response": "y", "seed": 3}', 422, "seed", "is a number"),
        ('{"prompt": "x", "response": "y"}', 422, "prompt", "stands alone"),
        ('{"prompt": "  "}', 422, "prompt", "that of the request is empty"),
        ('{"rows": "x"}', 422, "rows", "Give a list of objects"),
        ('{"rows": null}', 422, "rows", "there is none"),
        ('{"rows": []}', 422, "rows", "there is none"),
        (rows(ROW, 3), 422, "rows[1]", "Give an object"),
        (rows(ROW, {"instruction": "x"}), 422, "rows[1].response", "rows[1] has none, and the judge's prompt"),
        (rows(ROW, {**ROW, "rubric": 1.5}), 422, "rows[1].rubric", "is a number"),
        (rows(ROW, {**ROW, "seed": 1}), 422, "rows[1].seed", "is a number"),
        (rows(*[ROW] * 4), 413, "rows", "got 4, the limit is 3"),
        (json.dumps({"rows": [ROW], "rubric": "x"}), 422, "rubric", "Put it into every row"),
        (json.dumps({"rows": [ROW], "seed": "x"}), 422, "seed", "Put it into every row"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(reader, body, status, field, message):
    with pytest.raises(Refused) as refused:
        reader.read(body if isinstance(body, bytes) else body.encode())
    error = refused.value.body()["error"]
    assert (error["status"], error["field"]) == (status, field) and message in error["message"]


def test_a_judge_of_complete_prompts(tmp_path):
    judge = Judge.from_pretrained(save_judge(tmp_path, template=None))
    reader = RowReader(judge, max_rows=3)
    assert reader.read(b'{"prompt": "Say 3"}') == (["Say 3"], True) and reader.fields == ["prompt"]
    for body in (json.dumps(ROW), '{"other": "x"}'):
        with pytest.raises(Refused, match="this judge was trained on complete prompts") as refused:
            reader.read(body.encode())
        assert refused.value.field == "prompt"


def test_the_rubric_may_come_in_parts(tmp_path):
    template = "{{ instruction }} {{ response }} {{ rubric }} {{ topic }}"
    judge = Judge.from_pretrained(save_judge(tmp_path, template=template))
    reader = RowReader(judge, max_rows=3)
    assert reader.fields == ["instruction", "response", "rubric", "topic"]
    row = {**ROW, "criteria": "Is it right?", "score1_description": "no", "score5_description": "yes", "topic": "sums"}
    (prompt,), _ = reader.read(json.dumps(row).encode())
    assert prompt == "Grade 1) right [Is it right?]\nScore 1: no\nScore 5: yes sums"


def test_scores_that_are_not_known_are_null():
    judgment = Judgment(
        "x", "x", "ok", 2.0, 2.0, float("nan"), {"1": 0.5, "2": float("nan")}, float("nan"), 0.5, 0.5, 7, 9
    )
    score = Score.of(judgment).model_dump(mode="json")
    assert score["probabilities"] == {"1": 0.5, "2": None} and score["tokens"] == {"prompt": 7, "completion": 9}
    assert score["expected_score"] is None and score["spread"] is None and score["mass"] == 0.5
    dropped = Judgment("x", "x", "missing", None, None, None, None, None, None, 0.0, 7, 9)
    assert Score.of(dropped).probabilities is None
