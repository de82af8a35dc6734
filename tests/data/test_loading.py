# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import csv
import json
import os
import subprocess
import sys

import pytest
import yaml
from datasets import Dataset
from trl import ModelConfig, RLOOConfig, SFTConfig, TrlParser

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import build_completion, load_judge_dataset
from real_trl.option_values import FieldError
from real_trl.scale import Scale

DIGITS = Scale.parse("1-5")
WORDS = Scale.parse("poor,fair,good", [1, 2, 4])
ROWS = [
    {"prompt": "Judge A.", "score": 4, "feedback": "Fine. So the overall score is 4.", "question": "q1"},
    {"prompt": "Judge B.", "score": 2.5, "feedback": "Short.", "question": "q1"},
    {"prompt": "Judge C.", "score": 1, "feedback": "Wrong, sadly.\nVery.", "question": "q2"},
]
RATED = [
    {"prompt": "Judge A.", "ratings": [3, 2, 3], "texts": ["a. [RESULT] 3", "b.", "c."], "question": "q1"},
    {"prompt": "Judge B.", "ratings": [5, 5, 4], "texts": ["d.", "e.", "f."], "question": "q2"},
]


def write(path, rows):
    """Writes `rows` in the format of the extension and returns the path as text."""
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif path.suffix == ".parquet":
        Dataset.from_list(rows).to_parquet(path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return str(path)


def load(path, split=None, require_feedback=False, scale=DIGITS, **kwargs):
    args = DataArguments(str(path), **kwargs)
    return load_judge_dataset(args, split, scale=scale, require_feedback=require_feedback)


def refused(path, *parts, field=None, split=None, require_feedback=False, scale=DIGITS, **kwargs):
    """Asserts that loading is refused because of `field`, if given, with all of `parts` in the message."""
    with pytest.raises(ValueError) as error:
        load(path, split, require_feedback, scale, **kwargs)
    missing = [part for part in parts if part not in str(error.value)]
    assert not missing, f"{missing} not in: {error.value}"
    assert field is None or error.value.field == field


# --- sources


@pytest.mark.parametrize("extension", ["json", "jsonl", "csv", "parquet"])
def test_file_formats_give_the_canonical_schema(tmp_path, extension):
    path = write(tmp_path / f"data.{extension}", ROWS)
    dataset = load(path, require_feedback=True, keep_columns=["question"])
    assert dataset.to_list() == [
        {"prompt": "Judge A.", "score": 4.0, "feedback": "Fine.", "question": "q1"},
        {"prompt": "Judge B.", "score": 2.5, "feedback": "Short.", "question": "q1"},
        {"prompt": "Judge C.", "score": 1.0, "feedback": "Wrong, sadly.\nVery.", "question": "q2"},
    ]
    assert [dataset.features[name].dtype for name in ("prompt", "score", "feedback")] == [
        "string",
        "float64",
        "string",
    ]
    assert [file.name for file in tmp_path.iterdir()] == [f"data.{extension}"]  # no cache beside the user's file


def test_json_lines_in_a_json_file_and_byte_order_mark(tmp_path):
    path = tmp_path / "data.json"
    path.write_text("\ufeff" + "\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    assert len(load(path)) == 3


def test_long_csv_values(tmp_path):
    limit = csv.field_size_limit()
    path = write(tmp_path / "data.csv", [{**ROWS[0], "prompt": "x" * 200_000}])
    assert len(load(path)[0]["prompt"]) == 200_000
    assert csv.field_size_limit() == limit


def test_directory_with_one_file_per_split(tmp_path):
    write(tmp_path / "train.jsonl", ROWS)
    write(tmp_path / "test.csv", ROWS[:1])
    assert len(load(tmp_path)) == 3 and len(load(tmp_path, "test")) == 1
    refused(tmp_path, "split 'dev'", "['test.csv', 'train.jsonl']", split="dev")


def test_synthetic():
    sizes = {"sft": 6, "ood": 4}
    dataset = load(
        "synthetic", "sft", True, dataset_options={"size": sizes, "seed": 1}, keep_columns=["orig_criteria"]
    )
    assert len(dataset) == 6 and set(dataset.column_names) == {"prompt", "score", "feedback", "orig_criteria"}
    assert len(load("synthetic", "ood", dataset_options={"size": sizes})) == 4
    again = load("synthetic", "sft", True, dataset_options='{"size": 6, "seed": 1}')
    assert again["prompt"] == dataset["prompt"]
    prompt = load("synthetic", "sft", dataset_options={"size": 2}, prompt_template="feedback_collection")[0]["prompt"]
    assert prompt.startswith("###Task Description:")


@pytest.mark.parametrize(
    ("split", "kwargs", "parts"),
    [
        ("train", {"dataset_options": {"size": 2}}, ["'train' is unknown"]),
        ("sft", {"dataset_options": {"size": 2, "noise": 1}}, ["dataset_options", "noise", "rater_noise"]),
        ("sft", {"dataset_options": {"size": {"rl": 2}}}, ["no entry for the split 'sft'"]),
        ("sft", {"dataset_options": {"size": 2}, "holdout_fraction": 0.5}, ["holdout_fraction"]),
    ],
)
def test_synthetic_refuses(split, kwargs, parts):
    refused("synthetic", *parts, split=split, **kwargs)


def test_datasets_builder_is_used_for_hub_style_names(tmp_path):
    files = {"train": write(tmp_path / "a.parquet", ROWS), "validation": write(tmp_path / "b.parquet", ROWS[:2])}
    options = {"data_files": files, "cache_dir": str(tmp_path / "cache")}
    assert len(load("parquet", dataset_options=options)) == 3
    assert len(load("parquet", "validation", dataset_options=options)) == 2
    refused("parquet", "split 'test'", "validation", split="test", dataset_options=options)
    refused("parquet", "streaming", dataset_options={**options, "streaming": True})
    parts = [
        load("parquet", split, dataset_options=options, holdout_fraction=0.5, holdout_group="question")
        for split in ("train", "test")
    ]
    assert sorted(len(part) for part in parts) == [1, 2]


@pytest.mark.slow
def test_unreachable_hub():
    code = (
        "from real_trl.data.loading import *\n"
        "try: load_judge_dataset(DataArguments('nobody/no-such-set'), scale=Scale.parse('1-5'))\n"
        "except ValueError as error: print(error)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert "dataset_name='nobody/no-such-set' is neither an existing file" in result.stdout, result.stderr
    assert "reached on the Hub" in result.stdout


def test_missing_file(tmp_path):
    refused(tmp_path / "none.jsonl", "none.jsonl", "neither an existing file or directory nor a dataset id of the Hub")
    refused("./none", "neither an existing file")


def test_unsupported_extension(tmp_path):
    (tmp_path / "data.ods").write_text("x")
    refused(tmp_path / "data.ods", "'.ods'", ".json, .jsonl, .csv, .tsv, .xlsx, .parquet")


def test_options_of_the_hub_are_refused_for_files(tmp_path):
    path = write(tmp_path / "data.json", ROWS)
    refused(path, "dataset_options", dataset_options={"revision": "main"})


# --- corrupt files


def test_corrupt_jsonl_line_is_named_by_number(tmp_path):
    lines = [json.dumps(ROWS[0]), "", '{"prompt": "Judge B.", "score": }', json.dumps(ROWS[2]), "[1, 2]"]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join(lines))
    refused(path, "data.jsonl", "2 corrupt", "line 3: Expecting value", "line 5: expected an object, got [1, 2]")
    path.write_bytes(json.dumps(ROWS[0]).encode() + b'\n{"prompt": "\xff"}\n')
    refused(path, "line 2", "not UTF-8")


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.json", b'[{"prompt": "a"},\n{"prompt" "b"}]', ["a.json, line 2", "not valid JSON"]),
        ("a.json", b'[{"prompt": "\xff"}]', ["a.json", "UTF-8"]),
        ("a.json", b'{"prompt": ["a"], "score": [1]}', ["list of objects", "dict"]),
        ("a.json", b'[{"prompt": "a", "score": 1}, "b"]', ["row 1", "'b'"]),
        ("a.csv", b'prompt,score\n"a\nb",1\nc,2,3\n', ["a.csv, line 4", "3 values for the 2 columns"]),
        ("a.csv", b"prompt,score\na\n", ["a.csv, line 2", "1 values"]),
        ("a.csv", b'prompt,score\n"a"b,1\n', ["a.csv, line 2", "not valid CSV"]),
        ("a.csv", b"prompt,prompt\na,b\n", ["a.csv, line 1", "twice"]),
        ("a.parquet", b"PAR1 nothing", ["a.parquet", "not a valid Parquet file"]),
    ],
)
def test_corrupt_files(tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, *parts)


@pytest.mark.parametrize(("name", "content"), [("a.json", "[]"), ("a.jsonl", "\n"), ("a.csv", "prompt,score\n")])
def test_empty_dataset(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    refused(tmp_path / name, "split 'train' is empty")


# --- columns


@pytest.mark.parametrize(
    ("kwargs", "setting"),
    [
        ({"prompt_column": "promt"}, "prompt_column='promt'"),
        ({"score_column": "label"}, "score_column='label'"),
        ({"feedback_column": "text"}, "feedback_column='text'"),
        ({"keep_columns": ["id"]}, "keep_columns='id'"),
        ({"holdout_fraction": 0.5, "holdout_group": "topic"}, "holdout_group='topic'"),
        (
            {"prompt_template": "prometheus", "columns": {"response": "answer"}},
            "'response' is mapped to column 'answer'",
        ),
    ],
)
def test_unknown_column_lists_the_existing_ones(tmp_path, kwargs, setting):
    path = write(tmp_path / "data.json", ROWS)
    refused(path, setting, "['prompt', 'score', 'feedback', 'question']", **kwargs)


def test_no_default_column(tmp_path):
    path = write(tmp_path / "data.json", [{"text": "Judge A.", "label": 3}])
    refused(path, "or prompt_template", "['text', 'label']", field="prompt_column")
    refused(path, field="score_column", prompt_column="text")
    refused(path, field="feedback_column", prompt_column="text", score_column="label", require_feedback=True)
    dataset = load(path, prompt_column="text", score_column="label")
    assert dataset.to_list() == [{"prompt": "Judge A.", "score": 3.0}]


def test_feedback_collection_columns(tmp_path):
    row = {
        "instruction": "the complete prompt",
        "orig_instruction": "Say hi.",
        "orig_response": "Hello!",
        "orig_reference_answer": "Hi.",
        "orig_criteria": "Is it short?",
        "orig_feedback": "It is. So the overall score is 5. [RESULT] 5",
        "orig_score": "5",
        **{f"orig_score{number}_description": f"Length {number}." for number in range(1, 6)},
    }
    path = write(tmp_path / "data.json", [row])
    dataset = load(path, prompt_template="feedback_collection", require_feedback=True)
    assert dataset[0]["score"] == 5.0 and dataset[0]["feedback"] == "It is."
    assert "[Is it short?]\nScore 1: Length 1.\n" in dataset[0]["prompt"]


def test_kept_column_must_not_change_its_meaning(tmp_path):
    path = write(tmp_path / "data.json", ROWS)
    refused(path, "keep_columns", "'score'", score_column="question", keep_columns=["score"])
    assert load(path, keep_columns=["score"]).column_names == ["prompt", "score", "feedback"]


def test_kept_column_of_mixed_types(tmp_path):
    path = write(tmp_path / "data.json", [{**ROWS[0], "id": 1}, {**ROWS[1], "id": "b"}])
    refused(path, "keep_columns=['id']", "mixes types", keep_columns=["id"])


def test_unknown_template(tmp_path):
    path = write(tmp_path / "data.json", ROWS)
    refused(path, "prompt_template='prometeus' is unknown", prompt_template="prometeus")


def test_template_variable_without_a_column(tmp_path):
    path = write(tmp_path / "data.json", ROWS)
    refused(path, "3 of 3 rows", "'instruction' is undefined", "'question'", prompt_template="prometheus")


# --- rows


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"score": None}, "score_column 'score' is missing"),
        ({"score": " "}, "score_column 'score' is missing"),
        ({"score": "good"}, "holds 'good', which is not a number and none of the labels 1, 2, 3, 4, 5"),
        ({"score": True}, "holds True, which is not a number"),
        ({"score": {"a": 1}}, "which is not a number"),
        ({"score": float("nan")}, "is missing (None)"),
        ({"score": "nan"}, "holds 'nan', which is not a number"),
        ({"score": 7}, "holds 7, which is outside the scale from 1 to 5"),
        ({"score": 0.99}, "holds 0.99, which is outside"),
        ({"score": float("inf")}, "outside the scale"),
        ({"score": []}, "empty list"),
        ({"prompt": ""}, "prompt_column 'prompt' is empty. Fill it"),
        ({"prompt": None}, "prompt_column 'prompt' is empty. Fill it"),
        ({"prompt": " \n"}, "prompt_column 'prompt' is empty. Fill it"),
        (
            {"prompt": [{"role": "user"}]},
            "prompt_column 'prompt' holds [{'role': 'user'}] (a list). Turn it into text",
        ),
        ({"feedback": ""}, "feedback_column 'feedback' holds no rationale"),
        ({"feedback": None}, "feedback_column 'feedback' holds no rationale"),
        ({"feedback": "So the overall score is 4. [RESULT] 4"}, "feedback_column 'feedback' holds no rationale"),
        ({"feedback": 3}, "feedback_column 'feedback' holds a int"),
    ],
)
def test_bad_row_is_named_by_row_and_line(tmp_path, bad, reason):
    path = tmp_path / "data.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in [ROWS[0], {**ROWS[1], **bad}, ROWS[2]]))
    refused(path, "1 of 3 rows", "data.jsonl", "row 1 (line 3): ", reason, require_feedback=True)


def test_missing_key_is_a_missing_value(tmp_path):
    path = write(tmp_path / "data.json", [ROWS[0], {"prompt": "Judge B."}])
    refused(path, "row 1: score_column 'score' is missing")


def test_many_bad_rows_are_counted_not_listed(tmp_path):
    rows = [{"prompt": "Judge.", "score": 9} for _ in range(8)] + [{"prompt": "", "score": 2}]
    path = write(tmp_path / "data.json", rows)
    refused(path, "9 of 9 rows", "row 0, row 1, row 2, row 3, row 4 and 3 more: score_column", "row 8: prompt_column")


def test_csv_lines_count_line_breaks_in_values(tmp_path):
    path = write(tmp_path / "data.csv", [ROWS[2], {**ROWS[0], "score": "x"}])
    refused(path, "row 1 (line 4)", "'x'")


def test_feedback_is_optional_unless_required(tmp_path):
    path = write(tmp_path / "data.json", [ROWS[0], {**ROWS[1], "feedback": None}])
    assert load(path)["feedback"][:] == ["Fine.", None]


def test_max_rows(tmp_path):
    path = write(tmp_path / "data.json", [*ROWS, {"prompt": "", "score": None}])
    assert load(path, max_rows=2)["prompt"][:] == ["Judge A.", "Judge B."]
    refused(path, "row 3", max_rows=10)


# --- texts, ids and groups


FULL = {"instruction": "Say hi.", "response": "Hello!", "reference": "Hi.", "rubric": "[Is it short?]", "score": 3}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"response": 42}, "response: the column 'response' holds 42 (a int). Turn it into text"),
        ({"response": ["a"]}, "response: the column 'response' holds ['a'] (a list)"),
        ({"response": {"text": "a"}}, "response: the column 'response' holds {'text': 'a'} (a dict)"),
        ({"instruction": True}, "instruction: the column 'instruction' holds True (a bool)"),
        ({"reference": 4.5}, "reference: the column 'reference' holds 4.5 (a float)"),
        ({"rubric": 1}, "rubric: the column 'rubric' holds 1 (a int)"),
        ({"rubric": " "}, "rubric: the column 'rubric' is empty. Say what is judged"),
        ({"instruction": ""}, "instruction: the column 'instruction' is empty"),
        ({"rubric": None}, "rubric: the variable 'rubric' is undefined (column 'rubric' is empty)"),
        ({"response": None}, "response: the variable 'response' is undefined (column 'response' is empty)"),
    ],
)
@pytest.mark.parametrize("template", ["feedback_collection", "prometheus"])
def test_texts_of_the_builtin_templates(tmp_path, template, bad, reason):
    path = write(tmp_path / "data.json", [FULL, {**FULL, **bad}])
    refused(path, "1 of 2 rows", f"row 1: {reason}", prompt_template=template)


def test_texts_that_may_be_empty_or_missing(tmp_path):
    rows = [{**FULL, "response": ""}, {**FULL, "reference": None}, {**FULL, "reference": ""}]
    path = write(tmp_path / "data.json", rows)
    assert len(load(path, prompt_template="prometheus")) == 3
    criteria = {"orig_criteria": "  ", "orig_score1_description": "No."}
    path = write(tmp_path / "criteria.json", [{**FULL, **criteria}, {**FULL, "orig_criteria": "Is it short?"}])
    parts = ("row 0: ", "criteria: the column 'orig_criteria' is empty")
    refused(path, "1 of 2 rows", *parts, prompt_template="prometheus")
    # a rubric column that no template reads does not matter
    path = write(tmp_path / "unread.json", [{**FULL, "orig_criteria": "Is it short?", "rubric": ""}])
    assert "[Is it short?]" in load(path, prompt_template="prometheus")["prompt"][0]


def test_own_templates_may_read_anything(tmp_path):
    (tmp_path / "own.jinja").write_text("{{ response | join(', ') }}? So the overall score is")
    path = write(tmp_path / "data.json", [{**FULL, "response": [1, 2]}])
    assert load(path, prompt_template=str(tmp_path / "own.jinja"))["prompt"][0].startswith("1, 2?")


@pytest.mark.parametrize("extension", ["json", "jsonl", "csv", "parquet"])
def test_ids_and_groups_are_text(tmp_path, extension):
    rows = [{"prompt": "Judge.", "score": 3, "idx": 80 + i // 2, "source": "ab"[i % 2]} for i in range(4)]
    path = write(tmp_path / f"data.{extension}", rows)
    dataset = load(path, id_column="idx, source", group_column="idx", keep_columns=["source"])
    assert dataset.column_names == ["prompt", "score", "id", "group", "source"]
    assert dataset["id"][:] == ["80/a", "80/b", "81/a", "81/b"] and dataset["group"][:] == ["80", "80", "81", "81"]
    assert load(path, id_column=["source", "idx"], max_rows=2)["id"][:] == ["a/80", "b/80"]
    assert load(path, group_column="source").column_names == ["prompt", "score", "group"]


def test_duplicate_ids_name_the_id_and_its_rows(tmp_path):
    rows = [{**ROWS[0], "id": id_} for id_ in ("a", "b", "a", 7, "7", "a")]
    path = tmp_path / "data.jsonl"
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    first = "row 2 (line 5), row 5 (line 11): id_column 'id' holds 'a', which row 0 (line 1) holds too. Give every row"
    refused(
        path, "3 of 6 rows", first, "row 4 (line 9): id_column 'id' holds '7', which row 3 (line 7)", id_column="id"
    )
    assert len(load(path, keep_columns=None, group_column="id")) == 6


@pytest.mark.parametrize("bad", [None, "", " ", [1], 1.5, float("nan")])
def test_bad_ids_and_groups(tmp_path, bad):
    path = write(tmp_path / "data.json", [{**ROWS[0], "key": "a"}, {**ROWS[1], "key": bad}])
    shown = None if bad != bad else bad  # NaN is a missing value
    refused(path, "1 of 2 rows", f"row 1: id_column 'key' holds {shown!r}", "text or a whole number", id_column="key")
    refused(path, f"row 1: group_column 'key' holds {shown!r}", group_column="key")


def test_ids_and_groups_beside_kept_columns(tmp_path):
    path = write(tmp_path / "data.json", [{**ROWS[0], "id": 1, "group": "q"}, {**ROWS[1], "id": 2, "group": "q"}])
    dataset = load(path, id_column="id", group_column="group", keep_columns=["group", "question", "id"])
    assert dataset.column_names == ["prompt", "score", "feedback", "id", "group", "question"]
    assert dataset["id"][:] == ["1", "2"]  # as text, although it is kept too
    assert load(path, keep_columns=["id", "group"])["id"][:] == [1, 2]
    refused(path, "keep_columns: 'id' is a column of the result", id_column="question", keep_columns=["id"])
    refused(path, "keep_columns: 'group' is a column of the result", group_column="question", keep_columns=["group"])
    refused(
        path,
        "id_column='idx' is not a column",
        "['prompt', 'score', 'feedback', 'question', 'id', 'group']",
        id_column="idx",
    )
    refused(path, "group_column='idx' is not a column", group_column="idx")


# --- several raters


def test_single_ratings_are_kept_where_asked_for(tmp_path):
    path = write(tmp_path / "data.json", [*RATED, {"prompt": "Judge C.", "ratings": 4, "question": "q2"}])
    args = DataArguments(path, score_column="ratings", keep_columns=["question"])
    plain = load_judge_dataset(args, scale=DIGITS)
    kept = load_judge_dataset(args, scale=DIGITS, keep_ratings=True)
    assert kept["ratings"][:] == [[3.0, 2.0, 3.0], [5.0, 5.0, 4.0], [4.0]]
    assert kept.remove_columns("ratings").to_list() == plain.to_list()  # what training sees stays as it is
    args = DataArguments(path, score_column="ratings", raters="histogram", keep_columns=["ratings"])
    both = load_judge_dataset(args, scale=DIGITS, keep_ratings=True)
    assert (
        both.column_names == ["prompt", "score", "score_histogram", "ratings"] and both["ratings"] == kept["ratings"]
    )
    args = DataArguments(path, score_column="ratings", raters="separate")
    assert load_judge_dataset(args, scale=DIGITS, keep_ratings=True).column_names == ["prompt", "score"]
    single = DataArguments(write(tmp_path / "single.json", ROWS))
    assert "ratings" not in load_judge_dataset(single, scale=DIGITS, keep_ratings=True).column_names
    columns = [{"prompt": "Judge.", "a": 3, "b": 2, "ratings": "many"}]
    args = DataArguments(write(tmp_path / "columns.json", columns), score_column="a,b", keep_columns=["ratings"])
    assert load_judge_dataset(args, scale=DIGITS)["ratings"][:] == ["many"]
    with pytest.raises(ValueError, match="keep_columns: 'ratings' is a column of the result"):
        load_judge_dataset(args, scale=DIGITS, keep_ratings=True)


def test_ids_of_separate_raters_differ(tmp_path):
    path = write(tmp_path / "data.json", RATED)
    args = {"score_column": "ratings", "raters": "separate", "id_column": "question", "group_column": "question"}
    dataset = load(path, **args)
    assert dataset["id"][:] == ["q1#1", "q1#2", "q1#3", "q2#1", "q2#2", "q2#3"]
    assert dataset["group"][:] == ["q1"] * 3 + ["q2"] * 3
    refused(write(tmp_path / "twice.json", [*RATED, RATED[0]]), "row 2: id_column 'question' holds 'q1'", **args)


def test_mean_of_raters(tmp_path):
    path = write(tmp_path / "data.parquet", RATED)
    kwargs = {"score_column": "ratings", "feedback_column": "texts"}
    dataset = load(path, **kwargs, keep_columns=["ratings"])
    assert dataset.column_names == ["prompt", "score", "ratings"]
    assert dataset["score"][:] == pytest.approx([8 / 3, 14 / 3]) and dataset["ratings"][0] == [3, 2, 3]
    refused(path, "2 of 2 rows", "Set raters: separate", require_feedback=True, **kwargs)


def test_separate_raters(tmp_path):
    path = write(tmp_path / "data.json", RATED)
    kwargs = {"score_column": "ratings", "raters": "separate", "keep_columns": ["question"]}
    dataset = load(path, require_feedback=True, feedback_column="texts", **kwargs)
    assert list(zip(dataset["score"], dataset["feedback"], dataset["question"], strict=True)) == [
        *[(3.0, "a.", "q1"), (2.0, "b.", "q1"), (3.0, "c.", "q1")],
        *[(5.0, "d.", "q2"), (5.0, "e.", "q2"), (4.0, "f.", "q2")],
    ]
    assert load(path, **kwargs)["score"][:] == [3.0, 2.0, 3.0, 5.0, 5.0, 4.0]
    assert len(load(path, feedback_column="texts", max_rows=1, **kwargs)) == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"texts": ["a.", "b."]}, "3 ratings, feedback_column 'texts' holds 2 rationales"),
        ({"texts": "a."}, "3 ratings, feedback_column 'texts' holds 'a.'"),
        ({"texts": ["a.", "", "c."]}, "holds no rationale"),
        ({"ratings": [1, 6, 2]}, "holds 6, which is outside"),
        ({"ratings": [None, "", None]}, "holds no rating"),
    ],
)
def test_bad_ratings(tmp_path, bad, reason):
    path = write(tmp_path / "data.json", [RATED[0], {**RATED[1], **bad}])
    kwargs = {"score_column": "ratings", "feedback_column": "texts", "raters": "separate"}
    refused(path, "1 of 2 rows", "row 1: ", reason, require_feedback=True, **kwargs)


@pytest.mark.parametrize("extension", ["json", "csv", "parquet"])
@pytest.mark.parametrize("raters", ["mean", "histogram", "separate"])
def test_ratings_in_lists_or_columns_of_every_format(tmp_path, extension, raters):
    """CSV holds lists as JSON text."""
    rows = [{"prompt": "Judge A.", "ratings": [3, 2, 3], "a": 3, "b": 2, "c": 3, "x": "d.", "y": "e.", "z": "f."}]
    if extension == "csv":
        rows = [{**rows[0], "ratings": "[3, 2, 3]"}]
    path = write(tmp_path / f"data.{extension}", rows)
    in_list = load(path, score_column="ratings", raters=raters)
    assert load(path, score_column=["a", "b", "c"], raters=raters).to_list() == in_list.to_list()
    assert load(path, score_column="a, b,c", raters=raters).to_list() == in_list.to_list()
    if raters == "separate":
        assert in_list.to_list() == [{"prompt": "Judge A.", "score": score} for score in (3.0, 2.0, 3.0)]
        both = load(path, score_column=["a", "b"], feedback_column=["x", "y"], raters=raters, require_feedback=True)
        assert list(zip(both["score"], both["feedback"], strict=True)) == [(3.0, "d."), (2.0, "e.")]
    else:
        assert in_list["score"][:] == [pytest.approx(8 / 3)]
        histogram = [[0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 0.0, 0.0]]
        assert ("score_histogram" in in_list.column_names) == (raters == "histogram")
        assert raters == "mean" or in_list["score_histogram"][:] == histogram


def test_rationales_of_separate_raters_as_json_text(tmp_path):
    path = write(tmp_path / "data.csv", [{"prompt": "Judge A.", "ratings": "[3, 2]", "texts": '["a.", "b."]'}])
    kwargs = {"score_column": "ratings", "feedback_column": "texts"}
    assert load(path, require_feedback=True, raters="separate", **kwargs)["feedback"][:] == ["a.", "b."]
    assert load(path, **kwargs).to_list() == [{"prompt": "Judge A.", "score": 2.5}]
    refused(path, "holds a list of 2 rationales", "Set raters: separate", require_feedback=True, **kwargs)


def test_columns_of_raters_refuse(tmp_path):
    path = write(tmp_path / "data.json", [{"prompt": "A.", "a": 3, "b": None, "c": [2, 3], "d": ""}])
    refused(path, "score_column='e' is not a column", score_column=["a", "e"])
    refused(path, "score_column='a d' is not a column", score_column="a d, b")
    refused(path, "at least one column, and none twice", field="score_column", score_column=["a", "a"])
    refused(path, "at least one column", field="score_column", score_column=[])
    refused(path, "row 0: score_column ['b', 'd'] holds no rating", score_column=["b", "d"])
    refused(path, "row 0: score_column 'c' holds [2, 3], which is not a number", score_column=["a", "c"])
    refused(
        path,
        "2 ratings, feedback_column 'a', 'b', 'c' holds 3",
        score_column="c",
        feedback_column="a,b,c",
        raters="separate",
    )


def test_a_column_whose_name_has_a_comma(tmp_path):
    path = write(tmp_path / "data.json", [{"prompt": "A.", "score, mean": 3, "mean": 5}])
    assert load(path, score_column="score, mean")["score"][:] == [3.0]


def test_labels_as_scores(tmp_path):
    """The text of a label counts as its value; other numbers are values."""
    cells = ["poor", " good ", 2, "3.5", ["good", "fair"], '["poor", "poor", "good"]']
    path = write(tmp_path / "data.json", [{"prompt": "A.", "score": cell} for cell in cells])
    assert load(path, scale=WORDS)["score"][:] == [1.0, 4.0, 2.0, 3.5, 3.0, 2.0]
    letters = Scale.parse("A-E", [5, 4, 3, 2, 1])
    path = write(tmp_path / "data.csv", [{"prompt": "A.", "score": "B"}, {"prompt": "B.", "score": "1"}])
    assert load(path, scale=letters)["score"][:] == [4.0, 1.0]
    # where labels are numbers that stand for others, text is the label
    shifted = Scale.parse("1-3", [0, 1, 2])
    path = write(tmp_path / "data.json", [{"prompt": "A.", "score": "1"}, {"prompt": "B.", "score": 0.5}])
    assert load(path, scale=shifted)["score"][:] == [0.0, 0.5]
    rows = [{"prompt": "A.", "score": 1}, {"prompt": "B.", "score": ["3", 2]}]
    assert load(write(tmp_path / "text.csv", rows[:1]), scale=shifted)["score"][:] == [0.0]
    path = write(tmp_path / "numbers.json", rows)
    told = ["2 of 2 rows", "may be the label '1', that stands for 0, or a value", 'Write labels, as text ("1")']
    refused(path, *told, scale=shifted)
    rows = [{"prompt": "A.", "score": 1.0, "feedback": "Fine.", "sampled_score": 2.0}]  # of self_generate
    assert load(write(tmp_path / "train.jsonl", rows), scale=shifted)["score"][:] == [1.0]
    path = write(tmp_path / "bad.json", [{"prompt": "A.", "score": "Good"}, {"prompt": "B.", "score": 5}])
    refused(path, "row 0: score_column 'score' holds 'Good'", "none of the labels poor, fair, good", scale=WORDS)
    refused(path, "row 1: score_column 'score' holds 5, which is outside the scale from 1 to 4", scale=WORDS)


def test_raters_as_histogram(tmp_path):
    rows = [{"score": 4}, {"score": [1, 5]}, {"score": [2, 2, 2, 3]}]
    path = write(tmp_path / "data.json", [{"prompt": "A.", "feedback": "So so.", **row} for row in rows])
    dataset = load(path, raters="histogram", require_feedback=True)
    assert dataset.column_names == ["prompt", "score", "feedback", "score_histogram"]
    assert dataset["score_histogram"][:] == [[0, 0, 0, 1, 0], [0.5, 0, 0, 0, 0.5], [0, 0.75, 0.25, 0, 0]]
    assert dataset["score"][:] == [4.0, 3.0, 2.25] and dataset["feedback"][1] == "So so."
    half = Scale.parse("5-6:0.5")
    path = write(tmp_path / "half.json", [{"prompt": "A.", "score": [5.5, "6", 5.5]}])
    assert load(path, raters="histogram", scale=half)["score_histogram"][0] == pytest.approx([0, 2 / 3, 1 / 3])
    path = write(tmp_path / "bad.json", [{"prompt": "A.", "score": 4}, {"prompt": "B.", "score": [4, 2.5]}])
    refused(
        path,
        "row 1: raters: histogram",
        "holds 2.5, the value of none of the labels",
        "raters: mean",
        raters="histogram",
    )
    assert load(path)["score"][:] == [4.0, 3.25]


# --- histograms


@pytest.mark.parametrize("extension", ["json", "csv", "parquet"])
def test_histogram_column(tmp_path, extension):
    cells = [[0, 1, 0, 2, 1], [0.5, 0, 0, 0, 0.5]]
    mappings = [{"4": 2, "2": 1, "5": 1}, {"1": 0.25, "5": 0.25}]
    if extension == "csv":
        cells, mappings = [json.dumps(cell) for cell in cells], [json.dumps(mapping) for mapping in mappings]
    rows = [{"prompt": f"Judge {i}.", "votes": cells[i], "by_label": mappings[i], "feedback": "Hm."} for i in range(2)]
    path = write(tmp_path / f"data.{extension}", rows)
    dataset = load(path, histogram_column="votes", require_feedback=True)
    assert dataset["score"][:] == [3.75, 3.0] and dataset["feedback"][:] == ["Hm.", "Hm."]
    assert dataset["score_histogram"][:] == [[0, 0.25, 0, 0.5, 0.25], [0.5, 0, 0, 0, 0.5]]
    assert load(path, histogram_column="by_label", raters="histogram").to_list() == dataset.to_list()


def test_canonical_rows_with_a_histogram_are_read_back(tmp_path):
    path = write(tmp_path / "data.json", [{"prompt": "A.", "votes": {"poor": 1, "good": 3}, "id": 7}])
    first = load(path, histogram_column="votes", scale=WORDS, keep_columns=["id"])
    assert first.to_list() == [{"prompt": "A.", "score": 3.25, "score_histogram": [0.25, 0.0, 0.75], "id": 7}]
    path = tmp_path / "again.jsonl"
    first.to_json(path)
    assert load(path, scale=WORDS, keep_columns=["score_histogram", "id"]).to_list() == first.to_list()
    assert load(path, scale=WORDS, score_column="score").column_names == ["prompt", "score"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ([1, 2, 3, 4], "holds 4 counts, [1, 2, 3, 4], for the 5 labels 1, 2, 3, 4, 5. Give one count per label"),
        ([0, 1, 0, -2, 3], "holds the count -2 for the label '4'. A count is a finite number"),
        ([0, float("nan"), 0, 2, 3], "holds the count nan for the label '2'"),
        ([0, float("inf"), 0, 2, 3], "holds the count inf for the label '2'"),
        ([0, None, 0, 2, 3], "holds the count None for the label '2'"),
        ([0, "two", 0, 2, 3], "holds the count 'two' for the label '2'"),
        ([0, True, 0, 2, 3], "holds the count True for the label '2'"),
        ([0, 10**400, 0, 2, 3], "for the label '2'"),
        ([0, 0, 0, 0, 0], "holds no rating at all, [0, 0, 0, 0, 0]"),
        ({"1": 2, "6": 1}, "holds a count for '6', which is none of the labels 1, 2, 3, 4, 5"),
        ({"1": -1}, "holds the count -1 for the label '1'"),
        ({"1": 0}, "holds no rating at all"),
        ({}, "holds no rating at all"),
        (None, "holds None, which is no histogram. Give counts in label order or a mapping from label to count"),
        (4, "holds 4, which is no histogram"),
        ("4", "holds 4, which is no histogram"),
        ("good", "holds 'good', which is not JSON"),
        ("", "holds '', which is not JSON"),
    ],
)
def test_bad_histograms(tmp_path, cell, reason):
    good = {"1": 1} if isinstance(cell, dict) else [1, 0, 0, 0, 0]
    path = write(tmp_path / "data.json", [{"prompt": "A.", "votes": good}, {"prompt": "B.", "votes": cell}])
    refused(path, "1 of 2 rows", "row 1: histogram_column 'votes' ", reason, histogram_column="votes")


def test_large_counts(tmp_path):
    path = write(tmp_path / "data.json", [{"prompt": "A.", "votes": [1e308, 0, 0, 0, 1e308]}])
    assert load(path, histogram_column="votes").to_list() == [
        {"prompt": "A.", "score": 3.0, "score_histogram": [0.5, 0, 0, 0, 0.5]}
    ]


def test_histograms_of_two_forms(tmp_path):
    cells = [[1, 0, 0, 0, 0], {"1": 1}, [0, 0, 0, 0, 1]]
    path = write(tmp_path / "data.json", [{"prompt": "A.", "votes": cell} for cell in cells])
    refused(path, "1 of 3 rows", "row 1: ", "holds a mapping", "rows before it hold a list", histogram_column="votes")


def test_histogram_of_another_scale_or_column(tmp_path):
    path = write(tmp_path / "data.json", [{"prompt": "A.", "votes": [1, 0, 0, 0, 0]}])
    refused(
        path, "5 counts", "for the 101 labels 0, 1, 2, …, 100", histogram_column="votes", scale=Scale.parse("0-100")
    )
    refused(path, "histogram_column='vote' is not a column", "['prompt', 'votes']", histogram_column="vote")


# --- hold-out split


def grouped_rows():
    return [{"prompt": f"Judge {i}.", "score": 3, "question": f"q{i % 20}", "id": i} for i in range(80)]


def test_grouped_holdout_is_disjoint_complete_and_deterministic(tmp_path):
    path = write(tmp_path / "data.jsonl", grouped_rows())
    kwargs = {"holdout_fraction": 0.25, "holdout_group": "question", "keep_columns": ["question", "id"]}
    train, test = (load(path, split, **kwargs) for split in ("train", "test"))
    assert set(train["question"]).isdisjoint(test["question"])
    assert len(set(test["question"])) == 5 and len(test) == 20
    assert sorted([*train["id"], *test["id"]]) == list(range(80))
    assert load(path, "test", **kwargs).to_list() == test.to_list()
    assert len(load(path, "all", **kwargs)) == 80
    # neither the order of the rows nor the format of the file matters; the seed does
    other = write(tmp_path / "reversed.parquet", grouped_rows()[::-1])
    assert set(load(other, "test", **kwargs)["id"]) == set(test["id"])
    assert set(load(path, "test", holdout_seed=1, **kwargs)["question"]) != set(test["question"])


def test_holdout_without_groups_and_tiny_fraction(tmp_path):
    path = write(tmp_path / "data.json", grouped_rows())
    assert len(load(path, "test", holdout_fraction=0.1)) == 8
    assert len(load(path, "test", holdout_fraction=0.001)) == 1
    assert len(load(path, "train", holdout_fraction=0.999)) == 1


def test_holdout_rows_keep_their_row_numbers(tmp_path):
    rows = grouped_rows()
    rows[50]["score"] = 8
    path = write(tmp_path / "data.jsonl", rows)
    kwargs = {"holdout_fraction": 0.5, "holdout_group": "question"}
    split = "test" if "q10" in load_groups(path, kwargs) else "train"
    refused(path, "row 50 (line 51)", "holds 8", split=split, **kwargs)


def load_groups(path, kwargs):
    args = DataArguments(path, keep_columns=["question"], **kwargs)
    return set(load_judge_dataset(args, "test", scale=Scale.parse("1-9"))["question"])


def test_holdout_refuses(tmp_path):
    rows = grouped_rows()
    path = write(tmp_path / "data.json", [{**row, "question": None} if row["id"] in (3, 4) else row for row in rows])
    refused(
        path,
        "holdout_group='question' is empty in 2 rows (row 3, row 4)",
        holdout_fraction=0.5,
        holdout_group="question",
    )
    path = write(tmp_path / "one.json", rows[:1])
    refused(path, "needs at least 2", holdout_fraction=0.5)


def test_unknown_split_of_a_file(tmp_path):
    path = write(tmp_path / "data.json", ROWS)
    refused(path, "split 'test' is unknown", "'all'", "holdout_fraction", split="test")
    refused(path, "split 'dev' is unknown", split="dev", holdout_fraction=0.5)
    assert len(load(path, "all")) == 3


# --- prompt edits


def test_prompt_replace(tmp_path, caplog):
    path = write(tmp_path / "data.json", ROWS)
    assert load(path, prompt_replace={"Judge": "Grade", "A.": "Z."})["prompt"][0] == "Grade Z."
    assert "'A.' occurs in 1 of 3 prompts" in caplog.text and "'Judge'" not in caplog.text
    refused(path, "prompt_replace", "'[RESULT]' occurs in none of the 3 prompts", prompt_replace={"[RESULT]": "x"})


def test_prompt_score_reminder(tmp_path):
    path = write(tmp_path / "data.json", ROWS)
    prompt = load(path, prompt_score_reminder=True)["prompt"][0]
    assert prompt.startswith("Judge A. ") and prompt.endswith('"So the overall score is (score)".')


# --- arguments


@pytest.mark.parametrize(
    ("kwargs", "field"),
    [
        ({"raters": "median"}, "raters"),
        ({"histogram_column": "a", "score_column": "b"}, "histogram_column"),
        ({"histogram_column": "a", "raters": "separate"}, "raters"),
        ({"prompt_column": "a", "prompt_template": "prometheus"}, "prompt_column"),
        ({"columns": {"response": "a"}}, "columns"),
        ({"columns": "{response: a}"}, "columns"),
        ({"dataset_options": "[1]"}, "dataset_options"),
        ({"prompt_template": "prometheus", "prompt_replace": {"a": "b"}}, "prompt_replace"),
        ({"holdout_fraction": 1.0}, "holdout_fraction"),
        ({"holdout_group": "question"}, "holdout_group"),
        ({"max_rows": 0}, "max_rows"),
    ],
)
def test_arguments_refuse(kwargs, field):
    with pytest.raises(FieldError) as error:
        DataArguments("data.json", **kwargs)
    assert error.value.field == field


@pytest.mark.parametrize("config", [SFTConfig, RLOOConfig])
def test_recipe_is_parsed_next_to_trl_configs(tmp_path, config):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "dataset_name: data.jsonl\nprompt_template: prometheus\ncolumns: {response: answer}\nkeep_columns: [id]\n"
        "holdout_fraction: 0.2\nholdout_group: id\nraters: separate\nmax_rows: 7\n"
    )
    parser = TrlParser((DataArguments, config, ModelConfig))
    training = ["--output_dir", str(tmp_path), "--use_cpu", "--bf16", "false", "--report_to", "none"]
    args, _, _ = parser.parse_args_and_config(["--config", str(recipe), *training])
    assert args.columns == {"response": "answer"} and args.keep_columns == ["id"] and args.raters == "separate"
    assert (args.holdout_fraction, args.holdout_group, args.max_rows) == (0.2, "id", 7)
    overrides = ["--columns", '{"response": "text"}', "--keep_columns", "a", "b", "--raters", "mean"]
    args, _, _ = parser.parse_args_and_config(["--config", str(recipe), *training, *overrides])
    assert args.columns == {"response": "text"} and args.keep_columns == ["a", "b"] and args.raters == "mean"
    for text in ("score_column: [a, b]\nfeedback_column: [c, d]", "score_column: label", "histogram_column: votes"):
        recipe.write_text(f"dataset_name: data.jsonl\nraters: histogram\n{text}\n")
        parser = TrlParser((DataArguments, config, ModelConfig))  # one keeps the recipe that it has read
        args, _, _ = parser.parse_args_and_config(["--config", str(recipe), *training])
        for name, value in yaml.safe_load(text).items():
            assert getattr(args, name) == value and args.raters == "histogram"
    recipe.write_text("dataset_name: data.jsonl\nscore_column: [a, b]\n")
    parser = TrlParser((DataArguments, config, ModelConfig))
    args, _, _ = parser.parse_args_and_config(["--config", str(recipe), *training, "--score_column", "c,d"])
    assert args.score_column == "c,d"
    recipe.write_text("dataset_name: data.jsonl\nscore_colum: label\n")
    with pytest.raises(ValueError, match="score_colum"):
        parser.parse_args_and_config(["--config", str(recipe), *training])


# --- completions


@pytest.mark.parametrize(
    ("feedback", "rationale"),
    [
        ("Good.", "Good."),
        ("Good. So the overall score is 4", "Good."),
        ("Good. So the overall score is 4. [RESULT] 4", "Good."),
        ("Good.\nSo, the overall score would be 4.5.\n", "Good."),
        ("Good. So the overall score is 4 out of 5.", "Good."),
        ("Good. So the overall score is", "Good."),
        ("Good. So the overall score is 4. So the overall score is 4.", "Good."),
        ("Good. [RESULT] Score: 1.", "Good."),
        ("Good. [RESULT]", "Good."),
        # what more text follows is a quotation, and a sentence without a score is part of the rationale
        ("It says 'So the overall score is 4.' That is wrong.", "It says 'So the overall score is 4.' That is wrong."),
        ("Good. So the overall effect is pleasant.", "Good. So the overall effect is pleasant."),
        ("The page shows [RESULT] 3 of 4 lines.", "The page shows [RESULT] 3 of 4 lines."),
    ],
)
def test_build_completion(feedback, rationale):
    completion = build_completion(feedback, "3", "So the overall score is ")
    assert completion == f"{rationale} So the overall score is 3"
    assert build_completion(completion, "2") == f"{rationale} So the overall score is 2"


def test_build_completion_with_another_marker_and_without_rationale():
    assert build_completion("Good. Grade: A", "B", "Grade: ") == "Good. Grade: B"
    assert build_completion("", "4") == "So the overall score is 4"


@pytest.mark.parametrize(("marker", "warns"), [("[RESULT] ", False), ("So the overall score is ", True)])
def test_a_template_that_asks_for_another_marker_is_pointed_out(tmp_path, caplog, marker, warns):
    row = {"instruction": "Add.", "response": "4", "rubric": "Is it right?", "reference": "4", "score": 5}
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    load_judge_dataset(DataArguments(str(path), prompt_template="prometheus"), scale=DIGITS, marker=marker)
    assert ("do not ask for the marker" in caplog.text) == warns
