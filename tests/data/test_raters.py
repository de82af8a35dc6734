# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Several raters: ratings that are missing, and texts that mean so."""

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
    path = write(tmp_path / "lists.jsonl", [{"prompt": "Judge A.", "score": [4, "N/A"]}])
    assert load(path, na="N/A")["score"][:] == [4.0]
    path = write(tmp_path / "words.csv", [{"prompt": "Judge A.", "score": "none"}, {"prompt": "B.", "score": "good"}])
    words = Scale.parse("none,good", [0, 1])
    assert load(path, scale=words)["score"][:] == [0.0, 1.0]
    refused(path, "row 0", "is missing (None)", scale=words, na="none")
