# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with scores by several criteria."""

import logging

import pytest

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.option_values import FieldError
from tests.data.test_loading import DIGITS, load, write

CRITERIA = {"helpful": "Does it help?", "right": "Is it right?"}
ROWS = [
    {"q": "2+2?", "a": "4", "helpful": 5, "right": 4, "topic": "sums", "why": "Good.", "h": "Kind.", "r": "Right."},
    {"q": "2+2?", "a": "5", "helpful": 2, "right": None, "topic": "sums", "why": "Bad.", "h": "Rude.", "r": ""},
    {"q": "3+3?", "a": "6", "helpful": "", "right": 3, "topic": "more", "why": "So so.", "h": "", "r": "Fine."},
]
TEXTS = {"prompt_template": "direct_criteria", "columns": {"instruction": "q", "response": "a"}, "criteria": CRITERIA}
EXTENSIONS = [".jsonl", ".csv"]


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_row_for_each_row_and_criterion(tmp_path, caplog, extension):
    path = write(tmp_path / f"rows{extension}", ROWS)
    with caplog.at_level(logging.WARNING):
        dataset = load(path, **TEXTS)
    assert dataset["criterion"][:] == ["helpful", "right", "helpful", "right"]
    assert dataset["score"][:] == [5, 4, 2, 3]
    assert dataset["id"][:] == ["0/helpful", "0/right", "1/helpful", "2/right"]
    assert dataset["group"][:] == ["0", "0", "1", "2"]  # a row's criteria are resampled together
    for prompt, criterion in zip(dataset["prompt"], dataset["criterion"], strict=True):
        assert prompt.endswith(f"###Score Rubrics:\n{CRITERIA[criterion]}\n\n###Score: ")
    assert "left out, 1 of 3 by 'right', 1 of 3 by 'helpful'" in caplog.text


def test_a_parquet_file(tmp_path):
    rows = [{column: None if cell == "" else cell for column, cell in row.items()} for row in ROWS]
    path = write(tmp_path / "rows.parquet", rows)
    assert load(path, **TEXTS)["score"][:] == [5, 4, 2, 3]
    with pytest.raises(FieldError, match="score_column='wrong' is not a column"):
        load(path, **{**TEXTS, "criteria": {"wrong": "Is it wrong?"}})


def test_ids_and_groups_that_the_data_have(tmp_path):
    rows = [{**row, "key": f"k{i}"} for i, row in enumerate(ROWS)]
    dataset = load(write(tmp_path / "a.jsonl", rows), id_column="key", group_column="topic", **TEXTS)
    assert dataset["id"][:] == ["k0/helpful", "k0/right", "k1/helpful", "k2/right"]
    assert dataset["group"][:] == ["sums", "sums", "sums", "more"]


def test_a_held_out_row_is_held_out_with_all_its_criteria(tmp_path):
    rows = [{**ROWS[0], "q": f"{i}+{i}?"} for i in range(10)]
    path = write(tmp_path / "a.jsonl", rows)
    parts = [load(path, split, holdout_fraction=0.3, **TEXTS) for split in ("train", "test")]
    assert [len(part) for part in parts] == [14, 6]
    questions = [{prompt.split("evaluate:\n")[1].split("\n")[0] for prompt in part["prompt"]} for part in parts]
    assert not questions[0] & questions[1]


def test_each_criterion_may_have_several_raters(tmp_path):
    rows = [{**ROWS[0], "helpful": [5, None, 4], "right": [1, 1, 4]}, {**ROWS[1], "helpful": [2, 2, 2]}]
    path = write(tmp_path / "a.jsonl", rows)
    assert load(path, **TEXTS)["score"][:] == [4.5, 2, 2]
    kept = load_judge_dataset(DataArguments(path, **TEXTS), scale=DIGITS, keep_ratings=True)
    assert kept["ratings"][:] == [[5, None, 4], [1, 1, 4], [2, 2, 2]]
    separate = load(path, raters="separate", **TEXTS)
    assert separate["id"][:5] == ["0#1/helpful", "0#2/helpful", "0#1/right", "0#2/right", "0#3/right"]


def test_rows_of_one_rater_each(tmp_path):
    rows = [{**ROWS[0], "who": who, "helpful": h, "right": r} for who, h, r in (("x", 5, 1), ("y", 2, None))]
    dataset = load(write(tmp_path / "a.jsonl", rows), rater_column="who", **TEXTS)
    assert dataset["criterion"][:] == ["helpful", "right"] and dataset["score"][:] == [3.5, 1]


def test_rationales_of_all_criteria_or_of_each(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    of_all = load(path, feedback_column="why", require_feedback=True, **TEXTS)
    assert of_all["feedback"][:] == ["Good.", "Good.", "Bad.", "So so."]
    of_each = load(path, feedback_column=["h", "r"], require_feedback=True, **TEXTS)
    assert of_each["feedback"][:] == ["Kind.", "Right.", "Rude.", "Fine."]


def test_a_column_called_rubric_is_not_the_rubric(tmp_path):
    path = write(tmp_path / "a.parquet", [{**ROWS[0], "rubric": "Another."}])
    assert all("Another." not in prompt for prompt in load(path, **TEXTS)["prompt"])


def test_a_path_into_a_nested_cell(tmp_path):
    rows = [{"q": "2+2?", "a": "4", "by": {"help": 5, "truth": 4}}]
    texts = {**TEXTS, "criteria": {"by.help": "Does it help?", "by.truth": "Is it right?"}}
    assert load(write(tmp_path / "a.jsonl", rows), **texts)["criterion"][:] == ["by.help", "by.truth"]


@pytest.mark.parametrize(
    ("changed", "field", "text"),
    [
        ({"criteria": {"helpful": " "}}, "criteria", "'helpful' has the rubric ' '. Say in a text"),
        ({"score_column": "right"}, "score_column", "Remove it, or criteria"),
        ({"columns": {"rubric": "q"}}, "columns", "Remove rubric, or criteria"),
        ({"prompt_template": None, "columns": {}}, "prompt_template", "not set. Set it, e.g. to direct_criteria"),
        ({"keep_columns": ["criterion"]}, "keep_columns", "Remove 'criterion'"),
        ({"criteria": {"kind": "Is it kind?"}}, "score_column", "='kind' is not a column of"),
        ({"criteria": {"none": "Is it there?"}}, "criteria", "no row has a score by any of them ('none')"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changed, field, text):
    path = write(tmp_path / "a.jsonl", [{**row, "none": ""} for row in ROWS])
    with pytest.raises(FieldError) as error:
        load(path, **{**TEXTS, **changed})
    assert error.value.field == field and text in str(error.value)


def test_a_score_that_is_none_names_its_column(tmp_path):
    path = write(tmp_path / "a.jsonl", [{**ROWS[0], "right": 7}])
    with pytest.raises(ValueError, match="score_column 'right' holds 7, which is outside the scale"):
        load(path, **TEXTS)


def test_a_template_without_the_rubric_is_refused(tmp_path):
    template = tmp_path / "short.jinja"
    template.write_text("{{ instruction }} {{ response }} So the overall score is")
    with pytest.raises(FieldError, match="does not show the rubric .* all criteria would be judged alike"):
        load(write(tmp_path / "a.jsonl", ROWS), **{**TEXTS, "prompt_template": str(template)})
