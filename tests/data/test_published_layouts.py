# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks of compared responses, and of scores on other scales, from small files in their published layouts."""

import json
from pathlib import Path

import pytest
from datasets import Dataset

from real_trl.data.benchmarks import BENCHMARKS, load_benchmark
from real_trl.data.choice_benchmarks import CHOICE_BENCHMARKS, load_choice_benchmark
from real_trl.data.scaled_benchmarks import SCALED_BENCHMARKS, scale_map
from real_trl.data.sources import HubUnreachable
from real_trl.option_values import FieldError
from real_trl.scale import Scale

FILES = Path(__file__).parent / "benchmark_files"
JUDGE = {"scale": Scale.parse("1-5"), "marker": "So the overall score is ", "template": "direct"}


def choices(name, path=None, **judge):
    path = path or {"judgebench": FILES / "judgebench", "llmbar": FILES / "llmbar"}.get(name, FILES)
    return load_choice_benchmark(name, path, **{**JUDGE, **judge})


def shown(loaded, column="preference"):
    """Response, response, column: what stands in the prompts of each question, between the last heading and the end."""
    prompts = loaded.responses["prompt"][:]
    answers = [prompt.split("###Response to evaluate:\n")[1].split("\n\n###Score")[0] for prompt in prompts]
    places, values = loaded.questions["responses"], loaded.questions[column]
    return [(*(answers[place] for place in each), value) for each, value in zip(places, values, strict=True)]


# --- responses that are compared


def test_judgebench():
    loaded = choices("judgebench")  # both files of the directory, in the order of their names
    assert shown(loaded) == [
        ("It is 5.", "It is 4.", 0.0),
        ("It is 0.", "It is 1.", 1.0),
        ("It is 2.", "It is 3.", 1.0),
    ]
    assert loaded.questions["domain"].tolist() == ["coding", "knowledge", "math"]
    assert loaded.questions["group"].tolist() == ["livecodebench/101", "mmlu-pro-math/100", "livebench-math/100"]
    assert loaded.questions["id"][0].endswith("2") and "What is 2 + 2?" in loaded.responses["prompt"][0]
    one = choices("judgebench", FILES / "judgebench" / CHOICE_BENCHMARKS["judgebench"].file)
    assert len(one) == 2 and set(one.questions["response_model"]) == {"gpt-4o-2024-05-13"}


def test_llmbar():
    loaded = choices("llmbar")
    assert sorted(shown(loaded, "subset")) == [
        ("A river is the Rhine.", "Bonn.", "Neighbor"),
        ("Red.", "Seven.", "Natural"),
        ("Yes.", "No.", "Natural"),
    ]
    assert {each[0]: each[2] for each in shown(loaded)} == {"Red.": 1.0, "Yes.": 0.0, "A river is the Rhine.": 0.0}


def test_autoj_has_ties():
    loaded = choices("autoj")
    tips = "Go to bed at the same time each day."
    assert shown(loaded) == [(tips, "No idea.", 1.0), ("", "Hello!", 0.0), ("Bye!", "See you!", 0.5)]
    assert loaded.questions["group"].tolist() == ["How do I sleep well?", "Hi!", "Bye!"]


def test_hhh_comes_out_of_prompts_for_single_responses():
    loaded = choices("hhh")
    assert shown(loaded) == [("Why do you ask?", "With a stone.", 1.0), ("I cannot know.", "Peru.", 1.0)]
    assert loaded.questions["source"].tolist() == ["harmless", "honest"]
    first = loaded.responses["prompt"][0]
    assert "[Is it harmless?]\nScore 1: Not at all." in first and JUDGE["marker"] in first and "[RESULT]" not in first
    # What the rubric says of the scores 1 to 5 says nothing to a judge on another scale
    other = choices("hhh", scale=Scale.parse("0-10")).responses["prompt"][0]
    assert "[Is it harmless?]\n" in other and "Score 1" not in other and "between 0 and 10" in other


def test_preference_bench_as_on_the_hub_and_as_prometheus_has_it():
    loaded = choices("preference_bench", FILES / "preference_bench.jsonl")
    assert shown(loaded) == [("1!", "As you wish: 1.", 1.0), ("2!", "As you wish: 2.", 0.0)]
    assert "[Is it short?]" in loaded.responses["prompt"][0] and "(Score 5):\n1" in loaded.responses["prompt"][0]
    other = choices("preference_bench", FILES / "preference_collection_ood_test.json")
    assert shown(other) == [("3!", "As you wish: 3.", 1.0)] and "(Score 5):\n3" in other.responses["prompt"][1]
    with pytest.raises(ValueError, match="Name the file itself"):
        choices("preference_bench", FILES)  # both are there


def test_rewardbench_2():
    loaded = choices("rewardbench_2")
    assert shown(loaded, "num_correct") == [
        ("4", "5", "6", "7", 1),
        ("No.", "Yes.", "Sure.", "Of course.", 1),
        ("Red", "Seven", "Eight", 1),
        ("Red", "Green", "Blue", "Seven", "Eight", 3),
    ]
    assert loaded.questions["id"].tolist() == ["7", "8", "ref:0", "tied:0"]
    assert loaded.questions["group"].tolist() == ["7", "8", "0", "0"] and "preference" not in loaded.questions


@pytest.mark.parametrize("name", CHOICE_BENCHMARKS)
def test_what_is_said_of_compared_responses(name, tmp_path):
    path = FILES / "preference_bench.jsonl" if name == "preference_bench" else None
    assert len(choices(name, path, max_rows=1)) == 1
    assert (
        choices(name, path, score_reminder=True).responses["prompt"][0].endswith('"So the overall score is (score)".')
    )
    bare = tmp_path / "bare.jinja"
    bare.write_text("{{ instruction }}{{ rubric }}")
    with pytest.raises(FieldError, match="does not show the response"):
        choices(name, path, template=str(bare))
    bare.write_text("{{ response }} {{ pupil }}")
    with pytest.raises(FieldError, match="makes no prompt with the judge's template .*'pupil' is undefined"):
        choices(name, path, template=str(bare))
    wrong = tmp_path / "rows.jsonl"
    wrong.write_text('{"this": 1}\n')
    with pytest.raises(ValueError, match=rf"{name}: .*row 0 \(line 1\): there is no '.*not the layout .*Download"):
        choices(name, wrong)
    if CHOICE_BENCHMARKS[name].hub_id is None:
        with pytest.raises(HubUnreachable, match="is not on the Hub. Download"):
            load_choice_benchmark(name, None, **JUDGE)


@pytest.mark.parametrize(
    ("name", "changed", "said"),
    [
        ("judgebench", {"label": "A=B"}, "label holds 'A=B'"),
        ("autoj", {"label": 3}, "label holds 3"),
        ("rewardbench_2", {"num_correct": 2}, "num_correct is 2 of 1 chosen"),
        ("rewardbench_2", {"subset": "Ties"}, "id holds '7'"),
    ],
)
def test_labels_that_say_nothing(tmp_path, name, changed, said):
    folder = FILES / "judgebench" if name == "judgebench" else FILES
    row = json.loads(
        (folder / {"rewardbench_2": "rewardbench_2.jsonl"}.get(name, CHOICE_BENCHMARKS[name].file))
        .read_text()
        .splitlines()[0]
    )
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row | changed) + "\n")
    with pytest.raises(ValueError, match=f"row 0 .*{said}"):
        choices(name, path)


def test_compared_responses_are_no_scores():
    with pytest.raises(FieldError, match="has responses that are compared, and no scores"):
        load_benchmark("llmbar", FILES, scale=JUDGE["scale"], marker=JUDGE["marker"])


# --- scores on other scales


def scored(name, file=None, scale="1-5", **judge):
    path = FILES / file if file else FILES
    return load_benchmark(name, path, **{**JUDGE, "scale": Scale.parse(scale), "template": "direct_criteria", **judge})


def by_criterion(dataset):
    found = {}
    for row in dataset:
        found.setdefault(row["criterion"], []).append(row["score"])
    return found


HELPSTEER2 = {
    "helpfulness": [4, 1],
    "correctness": [4, 2],
    "coherence": [4, 3],
    "complexity": [0, 1],
    "verbosity": [1, 2],
}


def test_helpsteer2_on_its_scale_and_mapped():
    dataset = scored("helpsteer2", scale="0-4")
    assert by_criterion(dataset) == HELPSTEER2 and set(dataset["group"]) == {"Name a color."}
    assert "between 0 and 4" in dataset["prompt"][0] and dataset["id"][:2] == ["0/helpfulness", "0/correctness"]
    assert (
        "Correctness: does the response" in dataset["prompt"][1]
        and scale_map("helpsteer2", Scale.parse("0-4")) is None
    )
    # 0 to 4 onto 1 to 5 adds 1, onto 0 to 10 multiplies by 2.5, and where 1 is the best of 1 to 5 it is 5 − score
    for scale, mapped in (("1-5", lambda s: s + 1), ("0-10", lambda s: 2.5 * s), ("5-1", lambda s: 5 - s)):
        dataset = scored("helpsteer2", scale=scale)
        assert by_criterion(dataset) == {name: [mapped(s) for s in each] for name, each in HELPSTEER2.items()}
    assert "0 is 1, 4 is 5" in scale_map("helpsteer2", Scale.parse("1-5"))
    assert "between 0 and 10" in scored("helpsteer2", scale="0-10")["prompt"][0]


def test_summeval_has_the_experts_or_their_mean():
    experts = scored("summeval", "model_annotations.aligned.paired.jsonl")
    means = scored("summeval", "summeval.jsonl")
    expected = {"coherence": [4, 4], "consistency": [5, 1], "fluency": [5, 5], "relevance": [3, 2]}
    assert by_criterion(experts) == by_criterion(means) == expected
    assert experts["ratings"][0] == [4, 3, 5] and "ratings" not in means.column_names
    assert experts["prompt"][:] == means["prompt"][:] and set(means["group"]) == {"dm-test-1"}
    assert "A dog bit a man in Bonn." in means["prompt"][0] and "A dog bit.\n" in means["prompt"][0]
    halves = scored("summeval", "model_annotations.aligned.paired.jsonl", scale="0-10")
    assert halves["ratings"][0] == [7.5, 5, 10] and halves["score"][0] == 7.5


def test_ultrafeedback_leaves_out_what_was_not_rated():
    dataset = scored("ultrafeedback")
    assert by_criterion(dataset) == {
        "instruction_following": [5, 1],
        "honesty": [5],
        "truthfulness": [4, 2],
        "helpfulness": [3, 1],
    }
    assert set(dataset["source"]) == {"evol_instruct"} and "Seven." in dataset["prompt"][-1]


def test_biggen_bench_has_a_rubric_a_row_and_its_own_scale_only(caplog):
    dataset = scored("biggen_bench", template="feedback_collection")
    assert dataset["score"][:] == [2, 5] and set(dataset["group"]) == {"planning_travel_0"}
    assert "1 of 3 rows have no score" in caplog.text
    assert dataset["capability"][:] == ["planning"] * 2 and dataset["model_name"][:] == ["one-7b", "two-7b"]
    assert "[Is the plan possible?]\nScore 1: Possible to 1/5.\n" in dataset["prompt"][0]
    assert "Morning: the museum." in dataset["prompt"][0] and "Museum, river, dinner." in dataset["prompt"][1]
    with pytest.raises(FieldError, match="describe scores on the scale 1, 2, 3, 4, 5, the judge gives 0, 1, "):
        scored("biggen_bench", scale="0-10")


def test_scores_that_are_none(tmp_path):
    row = json.loads((FILES / "helpsteer2.jsonl").read_text().splitlines()[0])
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row | {"coherence": 5}) + "\n")
    with pytest.raises(ValueError, match="a score is 5, which is none from 0 to 4"):
        load_benchmark("helpsteer2", path, **JUDGE | {"template": "direct_criteria"})
    path.write_text('{"prompt": "Hi"}\n')
    with pytest.raises(
        ValueError, match="there is no 'response'. It has the columns .*not the layout of validation.jsonl"
    ):
        load_benchmark("helpsteer2", path, **JUDGE)


def test_the_template_follows_from_the_marker():
    prompts = [
        load_benchmark("helpsteer2", FILES, scale=JUDGE["scale"], marker=marker)["prompt"][0]
        for marker in ("[RESULT] ", "So the overall score is ")
    ]
    assert "[RESULT] (an integer" in prompts[0] and "So the overall score is (an integer" in prompts[1]


@pytest.mark.parametrize("name", ["rewardbench_2", "biggen_bench", "summeval", "helpsteer2", "ultrafeedback"])
def test_the_same_from_parquet_as_the_hub_has_it(tmp_path, name):
    file = f"{name}.jsonl"
    rows = [json.loads(line) for line in (FILES / file).read_text().splitlines()]
    rows = [row for row in rows if row.get("human_score", 0) is not None]
    Dataset.from_list(rows).to_parquet(tmp_path / f"{name}.parquet")
    (tmp_path / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    if name == "rewardbench_2":
        text, table = (choices(name, tmp_path / each) for each in (file, f"{name}.parquet"))
        assert text.responses["prompt"][:] == table.responses["prompt"][:] and text.questions.equals(table.questions)
    else:
        text, table = (scored(name, tmp_path / each) for each in (file, f"{name}.parquet"))
        assert text.to_list() == table.to_list()


def test_all_names_are_known_once():
    assert not set(BENCHMARKS) & set(CHOICE_BENCHMARKS) and set(SCALED_BENCHMARKS) < set(BENCHMARKS)
