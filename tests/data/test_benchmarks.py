# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import inspect
import json
import os
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from datasets import Dataset

from real_trl.data.benchmarks import BENCHMARKS, load_benchmark
from real_trl.data.sources import HubUnreachable
from real_trl.evaluation.probes import section_span
from real_trl.prompts.template import load_template
from real_trl.scale import Scale

JUDGE = {"scale": Scale.parse("1-5"), "marker": "So the overall score is "}
PROMETHEUS = {"scale": Scale.parse("1-5"), "marker": "[RESULT] "}
FILES = {"flask": "flask_eval", "vicuna_bench": "vicuna_eval", "mt_bench": "mt_bench_eval"}


def prompt(instruction, response):
    row = {
        "instruction": instruction,
        "response": response,
        "reference": "Hi.",
        "rubric": "[Is it short?]\nScore 1: No.",
    }
    return load_template("prometheus").render(row, scale=JUDGE["scale"])


def benchmark_rows(name):
    """Two questions, two responses each, in the columns of the real file."""
    rows = []
    for question, (instruction, scores) in enumerate(
        [("Say hi.", ([3, 2, 3], [5, 5, 4])), ("Bye?", ([1, 1, 1], [2, 4, 3]))]
    ):
        for source, ratings in zip(("vicuna", "chat_gpt"), scores, strict=True):
            row = {
                "idx": 81 + question,
                "response_source": source,
                "instruction": prompt(instruction, f"By {source}."),
            }
            if name == "flask":
                people = {"human_score": [3, 4, 4], "gpt4_score": ratings}
                rows.append({**row, "idx": str(row["idx"]), "criteria": "Insightfulness", **people})
            elif name == "feedback_bench":
                rows.append(
                    {
                        "instruction": row["instruction"],
                        "output": f"Fine. So the overall score is {ratings[0]}. [RESULT] {ratings[0]}",
                        "input": "",
                        "orig_instruction": instruction,
                        "orig_response": f"By {source}.",
                        "orig_reference_answer": "Hi.",
                        "orig_criteria": "Is it short?",
                        "orig_feedback": f"Fine. So the overall score is {ratings[0]}.",
                        "orig_score": str(ratings[0]),
                        **{f"orig_score{number}_description": f"Length {number}." for number in range(1, 6)},
                    }
                )
            else:
                rows.append({**row, "category": "writing", "gpt4_score": ratings, "gpt4_feedback": ["a", "b", "c"]})
    return rows


def write(path, rows):
    path.write_text(json.dumps(rows, indent=1))
    return path


def refused(name, path=None, *parts, kind=ValueError, **judge):
    with pytest.raises(kind) as error:
        load_benchmark(name, path, **{**JUDGE, **judge})
    missing = [part for part in parts if part not in str(error.value)]
    assert not missing, f"{missing} not in: {error.value}"


# --- the four layouts


@pytest.mark.parametrize("name", FILES)
def test_mean_of_the_raters_and_the_question(tmp_path, name):
    dataset = load_benchmark(name, write(tmp_path / f"{FILES[name]}.json", benchmark_rows(name)), **JUDGE)
    assert dataset["score"][:] == pytest.approx([8 / 3, 14 / 3, 1, 3])
    assert dataset["ratings"][:] == [[3, 2, 3], [5, 5, 4], [1, 1, 1], [2, 4, 3]]
    assert dataset["id"][:] == ["0", "1", "2", "3"] and dataset["group"][:] == ["81", "81", "82", "82"]
    category = "criteria" if name == "flask" else "category"
    assert set(dataset.column_names) == {"prompt", "score", "ratings", "id", "group", category, "response_source"}
    assert dataset["response_source"][:] == ["vicuna", "chat_gpt"] * 2


def test_feedback_bench_as_on_the_hub_and_as_prometheus_has_it(tmp_path):
    """The Hub's columns; and those of the file, where the score is `gpt4_score`, one number."""
    rows = benchmark_rows("feedback_bench")
    Dataset.from_list(rows).to_parquet(tmp_path / "feedback_bench.parquet")
    dataset = load_benchmark("feedback_bench", tmp_path, **JUDGE)
    assert dataset["score"][:] == [3, 5, 1, 2] and dataset["feedback"][:] == ["Fine."] * 4
    assert dataset["group"][:] == ["Say hi.", "Say hi.", "Bye?", "Bye?"] and dataset["id"][:] == ["0", "1", "2", "3"]
    assert set(dataset.column_names) == {"prompt", "score", "feedback", "id", "group"}
    rows = [
        {"idx": i, "instruction": row["instruction"], "gpt4_score": int(row["orig_score"])}
        for i, row in enumerate(rows)
    ]
    again = load_benchmark("feedback_bench", write(tmp_path / "feedback_collection_ood_test.json", rows), **JUDGE)
    assert again.to_list() == dataset.remove_columns("feedback").to_list()
    rows[2]["instruction"] = rows[2]["instruction"].replace("###The instruction", "The instruction")
    bad = write(tmp_path / "bad.json", rows)
    refused(
        "feedback_bench", bad, "bad.json', row 2", "no heading '###The instruction to evaluate:'", "Prometheus prompts"
    )


# --- prompts


def test_prompts_ask_for_the_marker_of_the_judge(tmp_path):
    rows = benchmark_rows("mt_bench")
    path = write(tmp_path / "mt_bench_eval.json", rows)
    originals = [row["instruction"] for row in rows]
    assert load_benchmark("mt_bench", path, **PROMETHEUS)["prompt"][:] == originals
    changed = load_benchmark("mt_bench", path, **JUDGE)["prompt"][:]
    assert all(
        'criteria) So the overall score is (an integer number between 1 and 5)"\n4.' in text for text in changed
    )
    assert not any("[RESULT]" in text for text in changed)
    # as the template for that marker makes them
    own = {
        "instruction": "Bye?",
        "response": "By chat_gpt.",
        "reference": "Hi.",
        "rubric": "[Is it short?]\nScore 1: No.",
    }
    assert changed[3] == load_template("feedback_collection").render(own, **JUDGE)
    other = load_benchmark("mt_bench", path, scale=JUDGE["scale"], marker="Grade: ")["prompt"][0]
    assert '"(write a feedback for criteria) Grade: (an integer number between 1 and 5)"' in other


def test_remains_behind_the_prompt_are_cut(tmp_path):
    rows = benchmark_rows("flask")
    rows[0]["instruction"] += '",'
    rows[1]["instruction"] = rows[1]["instruction"].replace("By chat_gpt.", 'He said "so",')
    prompts = load_benchmark("flask", write(tmp_path / "flask_eval.json", rows), **PROMETHEUS)["prompt"]
    assert all(text.endswith("\n\n###Feedback: ") for text in prompts)
    assert prompts[1][section_span(prompts[1], "response")] == 'He said "so",'


def test_prompts_of_another_kind_are_refused(tmp_path):
    rows = [{**row, "instruction": "Judge this."} for row in benchmark_rows("mt_bench")]
    refused(
        "mt_bench", write(tmp_path / "mt_bench_eval.json", rows), "prompt_replace", "occurs in none of the 4 prompts"
    )


# --- paths, scales, names


def test_a_directory_is_searched_for_the_file(tmp_path):
    write(tmp_path / "mt_bench_eval.json", benchmark_rows("mt_bench"))
    write(tmp_path / "vicuna_eval.json", benchmark_rows("vicuna_bench")[:2])
    assert len(load_benchmark("mt_bench", tmp_path, **JUDGE)) == 4
    assert len(load_benchmark("vicuna_bench", str(tmp_path), **JUDGE)) == 2
    assert len(load_benchmark("mt_bench", tmp_path, max_rows=3, **JUDGE)) == 3
    refused("flask", tmp_path, "flask_eval.json", "holds none of them", "benchmark_paths: {flask: ", "https://")
    write(tmp_path / "mt_bench.json", benchmark_rows("mt_bench"))
    refused("mt_bench", tmp_path, "['mt_bench.json', 'mt_bench_eval.json']", "Name the file itself")
    refused("mt_bench", tmp_path / "no", "there is no", "benchmark_paths: {mt_bench: path/to/mt_bench_eval.json}")


def test_unknown_benchmark_lists_the_known_ones():
    refused("mtbench", None, "'mtbench' is unknown", "feedback_bench, flask, vicuna_bench, mt_bench", "dataset_name")


@pytest.mark.parametrize(
    ("labels", "values", "shown"),
    [
        ("0-9", None, "the judge gives 0, 1, 2, 3, 4, 5, 6, 7, 8, 9"),
        ("1-5:0.5", None, "the judge gives 1, 1.5"),
        ("A-E", [1, 2, 3, 4, 5], "the judge gives A, B, C, D, E"),
        ("1-5", [0, 1, 2, 3, 4], "the judge gives 1, 2, 3, 4, 5 (with the values 0, 1, 2, 3, 4)"),
    ],
)
def test_a_judge_on_another_scale(tmp_path, labels, values, shown):
    path = write(tmp_path / "mt_bench_eval.json", benchmark_rows("mt_bench"))
    parts = ("on the scale 1, 2, 3, 4, 5", shown, "Evaluate a judge on 1, 2, 3, 4, 5")
    refused("mt_bench", path, *parts, scale=Scale.parse(labels, values))


def test_a_judge_that_lists_its_labels_from_the_top(tmp_path):
    path = write(tmp_path / "mt_bench_eval.json", benchmark_rows("mt_bench"))
    assert len(load_benchmark("mt_bench", path, scale=Scale.parse("5,4,3,2,1"), marker="[RESULT] ")) == 4


def test_bad_rows_are_named(tmp_path):
    rows = benchmark_rows("mt_bench")
    rows[1]["gpt4_score"] = [5, 6, 4]
    rows[2]["instruction"] = ["Judge", "this"]
    rows[3]["idx"] = None
    path = write(tmp_path / "mt_bench_eval.json", rows)
    parts = ("row 1: score_column 'gpt4_score' holds 6", "row 2: prompt_column 'instruction' holds [")
    refused("mt_bench", path, "3 of 4 rows", *parts, "row 3: group_column 'idx' holds None")
    path = write(tmp_path / "flask_eval.json", benchmark_rows("mt_bench"))
    refused("flask", path, "keep_columns='criteria' is not a column")


def test_a_pointer_in_place_of_the_file(tmp_path):
    path = tmp_path / "flask_eval.json"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 8395271\n")
    refused("flask", path, "a Git LFS pointer", "git lfs pull")


# --- the Hub


def test_without_a_path_and_without_a_network(monkeypatch):
    how = "benchmark_paths: {flask: path/to/flask_eval.json}"
    refused("flask", None, "not on the Hub", BENCHMARKS["flask"].source, how, kind=HubUnreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 sets it
    # a name that nobody has in a cache
    monkeypatch.setitem(
        BENCHMARKS, "feedback_bench", replace(BENCHMARKS["feedback_bench"], hub_id="nobody/no-such-set")
    )
    parts = ("'nobody/no-such-set'", "reached on the Hub", "https://", "benchmark_paths: {feedback_bench: path/to/")
    refused("feedback_bench", None, *parts, kind=HubUnreachable)


def test_code_of_a_dataset_is_never_executed(tmp_path):
    """`datasets` can no longer do it; nothing here may ask for it, whichever version is installed."""
    assert "trust_remote_code" not in inspect.signature(datasets.load_dataset).parameters
    folder = tmp_path / "set"
    folder.mkdir()
    ran = tmp_path / "ran"
    (folder / "set.py").write_text(f"open({str(ran)!r}, 'w')\n")
    write(folder / "mt_bench_eval.json", benchmark_rows("mt_bench"))
    assert len(load_benchmark("mt_bench", folder, **JUDGE)) == 4
    with pytest.raises((RuntimeError, ValueError)):
        datasets.load_dataset(str(folder / "set.py"))
    assert not ran.exists()


# --- the real file


@pytest.mark.skipif(
    "REAL_TRL_DATA" not in os.environ, reason="REAL_TRL_DATA does not name a directory with the real files"
)
def test_the_real_mt_bench():
    path = Path(os.environ["REAL_TRL_DATA"])
    dataset = load_benchmark("mt_bench", path, **JUDGE)
    assert len(dataset) == len(set(dataset["id"])) == 320 and len(set(dataset["group"])) == 80
    assert all(len(ratings) == 3 for ratings in dataset["ratings"])
    assert dataset["score"][:] == pytest.approx([sum(ratings) / 3 for ratings in dataset["ratings"]])
    assert sum(score % 1 > 1e-9 and 1 - score % 1 > 1e-9 for score in dataset["score"]) == 163  # half are fractions
    assert len(set(dataset["category"])) == 8 and len(set(dataset["response_source"])) == 4
    for section in ("instruction", "response", "reference"):
        assert all(prompt[section_span(prompt, section)] for prompt in dataset["prompt"])
