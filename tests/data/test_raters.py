# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Several raters: ratings that are missing, and texts that mean so."""

import json

import pytest

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.scale import Scale
from tests.data.test_loading import DIGITS, load, refused, write

COLUMNS = [
    {"prompt": "Judge A.", "a": 5, "b": None, "c": 2, "x": "d.", "y": None, "z": "f."},
    {"prompt": "Judge B.", "a": None, "b": 3, "c": None, "x": "", "y": "h.", "z": None},
]
LISTS = [
    {"prompt": row["prompt"], "ratings": [row[c] for c in "abc"], "texts": [row[c] for c in "xyz"]} for row in COLUMNS
]


@pytest.mark.parametrize("extension", ["json", "jsonl", "csv", "parquet"])
def test_the_score_is_the_mean_of_those_who_answered(tmp_path, extension):
    path = write(tmp_path / f"data.{extension}", COLUMNS)
    kwargs = {"score_column": "a,b,c", "feedback_column": ["x", "y", "z"]}
    assert load(path, **kwargs)["score"][:] == [3.5, 3.0]
    assert load(path, raters="histogram", **kwargs)["score_histogram"][:] == [[0, 0.5, 0, 0, 0.5], [0, 0, 1, 0, 0]]
    separate = load(path, raters="separate", require_feedback=True, **kwargs)
    assert list(zip(separate["score"], separate["feedback"], strict=True)) == [(5, "d."), (2, "f."), (3, "h.")]


def test_lists_with_gaps_keep_who_answered(tmp_path):
    path = write(tmp_path / "data.jsonl", LISTS)
    args = DataArguments(path, score_column="ratings")
    loaded = load_judge_dataset(args, scale=DIGITS, keep_ratings=True)
    assert loaded["score"][:] == [3.5, 3.0]
    assert loaded["ratings"][:] == [[5, None, 2], [None, 3, None]]
    separate = load(path, score_column="ratings", feedback_column="texts", raters="separate", require_feedback=True)
    assert separate["feedback"][:] == ["d.", "f.", "h."]


def test_a_row_that_nobody_rated_is_named(tmp_path):
    path = write(tmp_path / "data.jsonl", [*COLUMNS, {**COLUMNS[0], "a": None, "c": " "}])
    refused(
        path, "1 of 3 rows", "row 2 (line 3)", "score_column ['a', 'b', 'c'] holds no rating", score_column="a,b,c"
    )


def test_texts_that_mean_missing(tmp_path):
    rows = [
        {"prompt": "Judge A.", "a": "5", "b": "N/A", "feedback": "-"},
        {"prompt": "Judge B.", "a": " N/A ", "b": "3", "feedback": "Not N/A."},
    ]
    path = write(tmp_path / "data.csv", rows)
    refused(path, "holds 'N/A', which is not a number", score_column="a,b")
    loaded = load(path, score_column="a,b", na=["N/A", "-"])
    assert loaded["score"][:] == [5.0, 3.0] and loaded["feedback"][:] == [None, "Not N/A."]
    path = write(
        tmp_path / "numbers.jsonl", [{"prompt": "Judge A.", "a": 5, "b": -1}, {"prompt": "B.", "a": 99.0, "b": 2}]
    )
    assert load(path, score_column="a,b", na=["-1", "99"])["score"][:] == [5.0, 2.0]
    path = write(tmp_path / "lists.jsonl", [{"prompt": "Judge A.", "score": [4, "N/A"]}])
    assert load(path, na="N/A")["score"][:] == [4.0]
    path = write(tmp_path / "words.csv", [{"prompt": "Judge A.", "score": "none"}, {"prompt": "B.", "score": "good"}])
    words = Scale.parse("none,good", [0, 1])
    assert load(path, scale=words)["score"][:] == [0.0, 1.0]
    refused(path, "row 0", "is missing (None)", scale=words, na="none")


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("cell", "na", "score"),
    [
        ([4, 0], "0", 4.0),
        ([4, 0], "0.0", 4.0),
        ([4, 0.0], "0", 4.0),
        ([4, "n/a", None], "n/a", 4.0),
        (0.0, "0.0", None),
        (0, "0.0", None),
        (0.0, "0", None),
        ("-99.0", "-99", None),
        (4, "0", 4.0),
        ([5, 4], "45", 4.5),
    ],
    ids=str,
)
def test_a_number_that_means_missing_means_it_however_it_is_written(tmp_path, cell, na, score, extension):
    scale = Scale.parse("0-5")
    cell = json.dumps(cell) if isinstance(cell, list) and extension == "csv" else cell
    path = write(tmp_path / f"data.{extension}", [{"prompt": "Judge A.", "score": cell}])
    if score is None:
        refused(path, "row 0", "is missing (None)", scale=scale, na=na)
    else:
        assert load(path, scale=scale, na=na)["score"][:] == [score]


def test_a_text_that_is_no_score_keeps_what_means_missing_in_scores(tmp_path):
    path = write(tmp_path / "data.csv", [{"prompt": "[4, 0]", "score": 4, "code": "007", "texts": "[0]"}])
    loaded = load(path, na=["0", "7"], keep_columns=["code", "texts"], scale=Scale.parse("0-5"))
    assert loaded.to_list() == [{"prompt": "[4, 0]", "score": 4.0, "code": "007", "texts": "[0]"}]


RATINGS = [
    {"item": "i1", "who": "w2", "prompt": "Judge A.", "score": 3, "feedback": "Short.", "topic": "x"},
    {"item": "i2", "who": "w2", "prompt": "Judge B.", "score": 1, "feedback": "Wrong.", "topic": "y"},
    {"item": "i1", "who": "w1", "prompt": "Judge A. ", "score": 5, "feedback": "Fine.", "topic": "x"},
    {"item": "i1", "who": "w10", "prompt": "Judge A.", "score": None, "feedback": None, "topic": "x"},
]


@pytest.mark.parametrize("extension", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("options", [{}, {"id_column": "item"}])
def test_a_row_for_each_rating_becomes_one_for_each_item(tmp_path, extension, options):
    path = write(tmp_path / f"data.{extension}", RATINGS)
    args = DataArguments(path, rater_column="who", keep_columns=["topic", "who"], **options)
    loaded = load_judge_dataset(args, scale=DIGITS, keep_ratings=True)
    assert loaded["prompt"][:] == ["Judge A.", "Judge B."] and loaded["score"][:] == [4.0, 1.0]
    assert loaded["ratings"][:] == [[5, 3, None], [None, 1, None]]  # of w1, w2, w10
    assert loaded["topic"][:] == ["x", "y"]
    separate = load(path, rater_column="who", raters="separate", require_feedback=True, **options)
    assert [(row["score"], row["feedback"]) for row in separate] == [(5, "Fine."), (3, "Short."), (1, "Wrong.")]
    assert len(load(path, rater_column="who", max_rows=1, **options)) == 1


def test_items_are_told_apart_by_all_that_the_prompt_shows(tmp_path):
    (tmp_path / "p.jinja").write_text("{{ question }} {{ answer }} {{ marker }}")
    rows = [
        {"question": "Q", "answer": a, "score": s, "who": w} for a, s, w in (("a", 1, 1), ("b", 2, 1), ("a", 3, 2))
    ]
    path = write(tmp_path / "data.csv", rows)
    loaded = load(path, prompt_template=str(tmp_path / "p.jinja"), rater_column="who")
    assert loaded["score"][:] == [2.0, 2.0] and [prompt[2] for prompt in loaded["prompt"]] == ["a", "b"]


def test_many_raters_and_ratings_that_are_repeated(tmp_path, caplog):
    rows = [{"prompt": f"{i // 2}", "who": f"w{i}", "score": 1 + i % 5} for i in range(24)]
    rows.append({"prompt": "0", "who": "w1", "score": 4})
    path = write(tmp_path / "data.jsonl", rows)
    args = DataArguments(path, rater_column="who")
    loaded = load_judge_dataset(args, scale=DIGITS, keep_ratings=True)
    assert len(loaded) == 12 and loaded["ratings"][0] == [1, 2, 4] and loaded["ratings"][1] == [3, 4]
    assert "1 ratings are of items that the same rater had rated" in caplog.text


@pytest.mark.parametrize("id_column", ["qid", ["qid", "topic"]], ids=str)
def test_rows_of_one_id_are_ratings_of_one_response(tmp_path, id_column):
    (tmp_path / "p.jinja").write_text("{{ question }} {{ answer }} {{ marker }}")
    rows = [
        {"qid": q, "topic": "x", "question": "Q", "answer": a, "who": w, "score": s}
        for q, a, w, s in (("q0", "good", 1, 5), ("q1", "good", 1, 5), ("q1 ", "bad", 2, 1), ("q0", " good", 2, 4))
    ]
    options = {"prompt_template": str(tmp_path / "p.jinja"), "rater_column": "who"}
    path = write(tmp_path / "data.jsonl", rows)
    told = ["'q1", "in row 1 (line 2) and in row 2 (line 3), which show different texts", "Name further columns"]
    refused(path, *told, field="id_column", id_column=id_column, **options)
    assert load(path, id_column="qid,answer", **options)["score"][:] == [4.5, 5.0, 1.0]


@pytest.mark.parametrize(("one", "same"), [("bob", "bob "), (3, 3.0), (3, " 3")])
def test_one_name_is_one_rater_item_and_group(tmp_path, one, same):
    rows = [
        {"prompt": f"Judge {i}.", "who": who, "score": score}
        for i, who, score in ((0, one, 1), (0, "anna", 5), (1, same, 2), (1, "anna", 4))
    ]
    args = DataArguments(write(tmp_path / "data.json", rows), rater_column="who")
    assert {tuple(row) for row in load_judge_dataset(args, scale=DIGITS, keep_ratings=True)["ratings"]} in (
        {(1, 5), (2, 4)},
        {(5, 1), (4, 2)},
    )
    grouped = load(args.dataset_name, group_column="who")["group"]
    assert grouped[0] == grouped[2]
    rows = [{"prompt": f"Judge {i}.", "score": 3, "who": each, "q": str(i)} for i, each in enumerate([one, same] * 3)]
    path = write(tmp_path / "one.json", [*rows, {**rows[0], "who": "anna"}])
    test = load(path, "test", holdout_fraction=0.5, holdout_group="who", group_column="who")
    assert len(test) in (1, 6) and len(set(test["group"])) == 1
    twice = write(tmp_path / "twice.json", [{"prompt": "Judge.", "score": 3, "key": each} for each in (one, same)])
    refused(twice, "row 1: id_column 'key'", "which row 0 holds too", id_column="key")


@pytest.mark.parametrize("empty", [None, "", "  "])
def test_nobody_is_not_one_person(tmp_path, empty):
    rows = [{"prompt": "Judge A.", "who": who, "score": 3} for who in ("anna", empty, empty)]
    path = write(tmp_path / "data.jsonl", rows)
    told = "'who' is empty in 2 of 3 rows (row 1 (line 2), row 2 (line 3))"
    refused(path, told, "another name for each", field="rater_column", rater_column="who")


def test_rows_of_raters_that_cannot_be_read(tmp_path):
    path = write(tmp_path / "data.jsonl", [{**row, "other": 1} for row in RATINGS])
    refused(path, "'rater' is not a column", field="rater_column", rater_column="rater")
    refused(path, "each row is one rating", field="score_column", rater_column="who", score_column="score,other")
    refused(path, "on both sides", field="rater_column", rater_column="who", holdout_fraction=0.5)
    refused(
        write(tmp_path / "none.jsonl", RATINGS[3:]),
        "1 of 1 rows",
        "row 0 (line 1)",
        "holds no rating",
        rater_column="who",
    )
    held_out = load(path, "test", rater_column="who", holdout_fraction=0.5, holdout_group="topic")
    assert len(held_out) == 1
