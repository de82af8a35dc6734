# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Paths into the exports of annotation tools, in the shapes that these write, and into conversations."""

import json

import pytest

from real_trl.data.arguments import DataArguments
from real_trl.data.files import read_file
from real_trl.data.loading import load_judge_dataset
from tests.data.test_loading import DIGITS, load, refused, write


def result(name: str, kind: str, **value: object) -> dict:
    return {"id": name[:3], "from_name": name, "to_name": "text", "type": kind, "origin": "manual", "value": value}


# https://labelstud.io/guide/task_format
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"question": "Why?", "answer": "So.", "meta": {"topic": "x"}},
        "annotations": [
            {
                "id": 11,
                "completed_by": 1,
                "was_cancelled": False,
                "lead_time": 4.2,
                "result": [
                    result("quality", "rating", rating=4),
                    result("style", "number", number=2),
                    result("verdict", "choices", choices=["good"]),
                    result("why", "textarea", text=["Clear.", "Short."]),
                ],
            },
            {
                "id": 12,
                "completed_by": {"id": 2},
                "was_cancelled": True,
                "result": [result("quality", "rating", rating=1)],
            },
            {"id": 13, "completed_by": 3, "was_cancelled": False, "result": [result("quality", "rating", rating=5)]},
        ],
        "predictions": [{"result": [result("quality", "rating", rating=1)], "score": 0.9}],
        "total_annotations": 3,
    },
    {"id": 2, "data": {"question": "How?", "answer": "Thus."}, "annotations": [], "predictions": []},
]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.question", ["Why?", "How?"]),
        ("data.meta.topic", ["x", None]),
        ("annotations.result.quality", [[4, None, 5], None]),
        ("annotations.result.style", [[2, None, None], None]),
        ("annotations.result.verdict", [["good", None, None], None]),
        ("annotations.result.why", [["Clear.\nShort.", None, None], None]),
        ("annotations.result.value.rating", [[4, None, 5], None]),
        ("annotations.0.completed_by", [1, None]),
        ("annotations.9.completed_by", None),
        ("data.nothing", None),
        ("nothing.question", None),
    ],
)
@pytest.mark.parametrize("extension", ["json", "jsonl"])
def test_paths_of_label_studio(tmp_path, extension, path, found):
    file = tmp_path / f"export.{extension}"
    file.write_text("\n".join(map(json.dumps, LABEL_STUDIO)) if extension == "jsonl" else json.dumps(LABEL_STUDIO))
    source = read_file(file).with_paths([path])
    assert list(source.paths) == ([path] if found else [])
    assert found is None or [row[path] for row in source.iterate([path])] == found
    assert source.own_columns == ["id", "data", "annotations", "predictions", "total_annotations"]


def test_the_paths_that_there_are(tmp_path):
    source = read_file(tmp_path / write(tmp_path / "export.json", LABEL_STUDIO)).with_paths()
    results = [f"annotations.result.{name}" for name in ("quality", "style", "verdict", "why")]
    assert source.paths == ["data.question", "data.answer", "data.meta.topic", *results, "predictions.result.quality"]


def test_a_recipe_reads_label_studio(tmp_path):
    path = write(tmp_path / "export.json", LABEL_STUDIO)
    (tmp_path / "p.jinja").write_text("{{ instruction }} {{ response }} {{ marker }}")
    kwargs = {
        "prompt_template": str(tmp_path / "p.jinja"),
        "columns": {"instruction": "data.question", "response": "data.answer"},
        "score_column": "annotations.result.quality",
    }
    refused(path, "1 of 2 rows", "row 1: score_column 'annotations.result.quality' is missing", **kwargs)
    path = write(tmp_path / "first.json", LABEL_STUDIO[:1])
    args = DataArguments(
        path, **kwargs, id_column="id", group_column="data.meta.topic", keep_columns=["data.meta.topic"]
    )
    assert load_judge_dataset(args, scale=DIGITS, keep_ratings=True).to_list() == [
        {
            "prompt": "Why? So. So the overall score is ",
            "score": 4.5,
            "ratings": [4, None, 5],
            "id": "1",
            "group": "x",
            "data.meta.topic": "x",
        }
    ]
    refused(
        path,
        "'data.quality' is not a column",
        "'annotations.result.quality'",
        score_column="data.quality",
        prompt_column="data.question",
    )


# argilla: Record.to_dict, the flat form of `to_list(flatten=True)`, and that of the API and of version 1
ARGILLA = {
    "nested": {
        "id": "r1",
        "fields": {"prompt": "Why?", "response": "So."},
        "metadata": {"length": 3},
        "suggestions": {"quality": {"value": 1, "score": 0.5, "agent": "gpt"}},
        "responses": {
            "quality": [{"value": 4, "user_id": "u1"}, {"value": 2, "user_id": "u2"}],
            "comment": [{"value": "Fine.", "user_id": "u1"}],
        },
        "vectors": {},
        "_server_id": "s1",
    },
    "flat": {
        "id": "r1",
        "prompt": "Why?",
        "response": "So.",
        "quality.responses": [4, 2],
        "quality.responses.users": ["u1", "u2"],
        "quality.responses.status": ["submitted", "submitted"],
        "quality.suggestion": 1,
    },
    "api": {
        "id": "r1",
        "fields": {"prompt": "Why?", "response": "So."},
        "responses": [
            {
                "user_id": "u1",
                "status": "submitted",
                "values": {"quality": {"value": 4}, "comment": {"value": "Fine."}},
            },
            {"user_id": "u3", "status": "draft", "values": {"quality": {"value": 5}}},
            {"user_id": "u2", "status": "submitted", "values": {"quality": {"value": 2}}},
        ],
    },
    "lists": {  # the same as older versions of `datasets` have it
        "prompt": "Why?",
        "response": "So.",
        "quality": {
            "user_id": ["u1", "u2", "u3"],
            "value": [4, 2, 5],
            "status": ["submitted", "submitted", "discarded"],
        },
    },
    "version 1": {
        "prompt": "Why?",
        "response": "So.",
        "quality": [
            {"user_id": "u1", "value": 4, "status": "submitted"},
            {"user_id": "u2", "value": 2, "status": "submitted"},
            {"user_id": "u3", "value": 5, "status": "discarded"},
        ],
    },
}


@pytest.mark.parametrize(
    ("shape", "prompt", "score", "ratings"),
    [
        ("nested", "fields.prompt", "responses.quality", [4, 2]),
        ("flat", "prompt", "quality.responses", [4, 2]),
        ("api", "fields.prompt", "responses.values.quality", [4, None, 2]),
        ("version 1", "prompt", "quality", [4, 2, None]),
        ("lists", "prompt", "quality", [4, 2, None]),
    ],
)
@pytest.mark.parametrize("extension", ["json", "jsonl", "parquet"])
def test_a_recipe_reads_argilla(tmp_path, shape, prompt, score, ratings, extension):
    record = {key: value for key, value in ARGILLA[shape].items() if value != {}}  # which Parquet has no type for
    path = write(tmp_path / f"export.{extension}", [record])
    args = DataArguments(path, prompt_column=prompt, score_column=score)
    loaded = load_judge_dataset(args, scale=DIGITS, keep_ratings=True)
    assert (loaded["prompt"][:], loaded["score"][:], loaded["ratings"][:]) == (["Why?"], [3.0], [ratings])


def test_ratings_of_label_studios_small_json_and_csv(tmp_path):
    """Its JSON_MIN and CSV have a row for each annotation, and keep the mapping around a rating."""
    rows = [
        {"prompt": "Why?", "quality": [{"rating": rating}], "annotator": who, "annotation_id": who}
        for who, rating in ((1, 4), (2, 5))
    ]
    path = write(tmp_path / "min.json", rows)
    assert load(path, score_column="quality", rater_column="annotator")["score"][:] == [4.5]
    path = write(tmp_path / "min.csv", [{**row, "quality": json.dumps(row["quality"])} for row in rows])
    assert load(path, score_column="quality", rater_column="annotator")["score"][:] == [4.5]


def turn(role: str, content: object) -> dict:
    return {"role": role, "content": content}


ONE = [turn("user", "Why?"), turn("assistant", "So.")]


@pytest.mark.parametrize(
    ("messages", "instruction", "response"),
    [
        (ONE, "Why?", "So."),
        ([turn("system", "Be kind."), *ONE], "System: Be kind.\n\nUser: Why?", "So."),
        ([*ONE, turn("user", "And?"), turn("assistant", "Thus.")], "User: Why?\n\nAssistant: So.\n\nUser: And?", "Thus."),
        ([turn("user", [{"type": "text", "text": "Why?"}]), turn("assistant", "So.")], "Why?", "So."),
        ([{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}], "Why?", "So."),
        ([turn("system", ""), *ONE], "Why?", "So."),
        ([*ONE, turn("user", "Thanks.")], "User: Why?\n\nAssistant: So.\n\nUser: Thanks.", None),
        (ONE[1:], None, "So."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("extension", ["jsonl", "parquet"])
def test_conversations(tmp_path, messages, instruction, response, extension):
    if extension == "parquet" and any(isinstance(each.get("content"), list) for each in messages):
        messages = messages[:1] + [turn("assistant", [{"type": "text", "text": "So."}])]  # one type in a column
    path = write(tmp_path / f"data.{extension}", [{"messages": messages, "score": 3}])
    source = read_file(tmp_path / path).with_paths()
    found = {
        name: text for name, text in (("messages.instruction", instruction), ("messages.response", response)) if text
    }
    assert source.paths == list(found) and next(source.iterate(source.paths)) == found


def test_a_conversation_with_pictures_is_refused(tmp_path):
    messages = [turn("user", [{"type": "image"}, {"type": "text", "text": "What?"}]), turn("assistant", "A cat.")]
    path = write(tmp_path / "data.jsonl", [{"messages": ONE, "score": 3}, {"messages": messages, "score": 3}])
    refused(path, "row 1 (line 2)", "a judge reads text only", prompt_column="messages.instruction")
