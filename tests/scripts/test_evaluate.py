# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate` with several judges, benchmarks, averages, probes, interruptions, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from real_trl import Judge, JudgeConfig
from real_trl.engines import TransformersEngine
from real_trl.evaluation.probes import PROBES
from real_trl.runs.output_lock import only_writer
from real_trl.score_space import ScoreSpace
from real_trl.scripts import _judged_data, evaluate
from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
RATINGS = [[1, 2, 3], [4, 4, 5], [5, 5, 5], [2, 1, 1]]


def save_judge(folder: Path, model=None, **config) -> str:
    (model or warm_model()).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    JudgeConfig.from_space(SPACE, **config).save(folder)
    return str(folder)


@pytest.fixture(scope="module")
def judges(tmp_path_factory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("judges")
    cold = save_judge(root / "cold", build_model(seed=3))
    return {"warm": save_judge(root / "warm", base_model=cold), "cold": cold}


@pytest.fixture
def data(tmp_path) -> str:
    """Eight questions with two answers each, rated by three raters."""
    rows = []
    for question in range(8):
        for answer in range(2):
            prompt = "\n".join([PROMPT, LINES[question % 3], LINES[(question + answer) % 3]])
            ratings = RATINGS[(question + 2 * answer) % 4]
            category = "even" if question % 2 == 0 else "odd"
            key = f"q{question}-{answer}"
            row = {"prompt": prompt, "score": ratings, "question": f"q{question}", "key": key, "category": category}
            rows.append({**row, "response": f"{LINES[(question + answer) % 3]}"})
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tmp_path, **keys) -> Path:
    recipe = {
        "output_dir": str(tmp_path / "evaluation"),
        "eval_splits": ["all"],
        "id_column": "key",
        "group_column": "question",
        "keep_columns": ["category"],
        "max_new_tokens": 20,
        "batch_size": 4,
        "num_resamples": 200,
        **keys,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    evaluate.main(["--config", str(path)])
    return Path(recipe["output_dir"])


def refusal(capsys, tmp_path, **keys) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        run(tmp_path, **keys)
    assert error.value.code == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message[message.index("error: ") :]


def read(output: Path, judge: str, dataset: str = "all") -> pd.DataFrame:
    return pd.read_parquet(output / "predictions" / judge / dataset / "predictions.parquet")


def test_several_judges(tmp_path, judges, data, capsys):
    output = run(tmp_path, judges=judges, dataset_name=data, breakdown=["category"])
    evaluation = json.loads((output / "evaluation.json").read_text(), parse_constant=pytest.fail)  # no NaN in JSON
    assert evaluation["datasets"]["all"] == {
        "n_rows": 16,
        "n_groups": 8,
        "labels": list("12345"),
        "values": [1.0, 2.0, 3.0, 4.0, 5.0],
    }
    for name, path in judges.items():
        assert evaluation["judges"][name]["model"] == path
        frame, result = read(output, name), evaluation["results"]["all"][name]
        assert frame["id"].tolist() == [f"q{q}-{a}" for q in range(8) for a in range(2)]
        assert frame["group"].tolist() == [f"q{q}" for q in range(8) for _ in range(2)]
        error = frame["expected_score"] - frame["target"]
        assert result["rail"]["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
        low, high = result["intervals"]["rail"]["rmse"]
        assert low < result["rail"]["rmse"] < high and result["n_groups"] == 8
        by_category = evaluation["breakdown"]["all"]["category"]
        assert {value: each[name]["n_rows"] for value, each in by_category.items()} == {"even": 8, "odd": 8}
    (comparison,) = evaluation["comparisons"]["all"]
    first, second = (evaluation["results"]["all"][comparison[side]]["rail"]["rmse"] for side in ("a", "b"))
    assert comparison["rail"]["rmse"]["difference"] == pytest.approx(first - second)
    assert 0 < comparison["rail"]["rmse"]["p_value"] <= 1
    assert evaluation["ceiling"]["all"]
    people = evaluation["people"]["all"]
    assert set(people["judges"]) == {f"{name}, {inference}" for name in judges for inference in ("standard", "rail")}
    assert np.isfinite([people["alpha"], *(judge["change"] for judge in people["judges"].values())]).all()
    printed = " ".join(capsys.readouterr().out.split())
    assert "Malformed answers, " in printed and "cold − warm" in printed
    assert evaluation["judges"]["warm"]["base"] == "cold" and "base" not in evaluation["judges"]["cold"]
    assert "cold is what warm was trained from." in printed


def test_the_same_seed_gives_the_same_predictions_in_any_folder(tmp_path, judges, data):
    first, second, other = (
        run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, output_dir=str(tmp_path / name), seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    pd.testing.assert_frame_equal(read(first, "warm"), read(second, "warm"))
    assert read(first, "warm")["completion"].tolist() != read(other, "warm")["completion"].tolist()


def test_an_interrupted_evaluation_goes_on(tmp_path, judges, data, monkeypatch):
    whole = run(tmp_path, judges=judges, dataset_name=data, output_dir=str(tmp_path / "whole"))
    judge_batch, calls = TransformersEngine._judge_batch, []

    def interrupted(self, prompt_ids):
        calls.append(len(prompt_ids))
        if len(calls) == 7:  # in the second judge
            raise KeyboardInterrupt
        return judge_batch(self, prompt_ids)

    monkeypatch.setattr(TransformersEngine, "_judge_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, judges=judges, dataset_name=data)
    output = run(tmp_path, judges=judges, dataset_name=data)
    assert len(calls) == 7 + 2  # of the eight batches, six were done
    for name in judges:
        pd.testing.assert_frame_equal(read(output, name), read(whole, name))
    run(tmp_path, judges=judges, dataset_name=data, malformed="strict")  # other figures from the same predictions
    assert len(calls) == 7 + 2


def test_predictions_of_other_settings_are_not_mixed_in(tmp_path, judges, data, capsys):
    run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data)
    message = refusal(capsys, tmp_path, model_name_or_path=judges["warm"], dataset_name=data, top_p=0.5)
    assert "decoding.top_p was 1.0, now it is 0.5" in message and "choose another output_dir" in message


def test_labels_and_columns_may_change_without_judging_anew(tmp_path, judges, data, monkeypatch):
    run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data)
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    for row in rows:
        row["score"] = [1, 1, 1]
    Path(data).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(TransformersEngine, "_judge_batch", None)  # nothing is judged
    columns = {"group_column": None, "keep_columns": ["category", "question"]}
    output = run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, **columns)
    frame = read(output, "warm")
    assert (frame["target"] == 1).all() and frame["group"].tolist() == frame["id"].tolist() and "question" in frame
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert evaluation["datasets"]["all"]["n_groups"] == 16


def test_a_refused_evaluation_does_not_block_its_remedy(tmp_path, judges, data, capsys):
    keys = {"model_name_or_path": judges["warm"], "dataset_name": data, "max_new_tokens": 235}
    with pytest.raises(SystemExit) as refused:  # held, and with it all that the run held
        run(tmp_path, **keys)
    assert "too many" in capsys.readouterr().err
    assert len(read(run(tmp_path, **keys, truncate_prompts=True), "warm")) == 16
    assert refused.value.code == 2


def test_two_evaluations_do_not_write_to_one_folder(tmp_path, judges, data, capsys):
    keys = {"model_name_or_path": judges["warm"], "dataset_name": data}
    with only_writer(tmp_path / "evaluation"):
        assert "another process is writing to" in refusal(capsys, tmp_path, **keys)
    assert len(read(run(tmp_path, **keys), "warm")) == 16


def test_the_judges_own_template_makes_the_prompts(tmp_path, judges):
    judge = shutil.copytree(judges["warm"], tmp_path / "templated")
    JudgeConfig.from_space(SPACE, prompt_template="homework").save(judge)
    path = tmp_path / "columns.jsonl"
    path.write_text(json.dumps({"instruction": PROMPT, "rubric": "right", "response": LINES[0], "score": 4}) + "\n")
    keys = {"id_column": None, "group_column": None, "keep_columns": None}
    output = run(tmp_path, model_name_or_path=str(judge), dataset_name=str(path), **keys)
    prompts = [f"{PROMPT}\nright\n{LINES[0]}\nFeedback:"]
    assert read(output, "templated")["prompt"].tolist() == prompts
    # Columns of other names, said as `score` takes them
    path.write_text(json.dumps({"question": PROMPT, "rubric": "right", "answer": LINES[0], "score": 4}) + "\n")
    keys |= {"model_name_or_path": str(judge), "dataset_name": str(path), "output_dir": str(tmp_path / "mapped")}
    output = run(tmp_path, columns="instruction=question,response=answer", **keys)
    assert read(output, "templated")["prompt"].tolist() == prompts


def test_average_of_n(tmp_path, judges, data):
    once = run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, output_dir=str(tmp_path / "once"))
    output = run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, num_samples=8)
    frame = read(output, "warm")
    assert len(frame) == 16 and (frame["sampled_score"] % 1 != 0).any()
    probabilities = np.stack(frame["probabilities"])
    np.testing.assert_allclose(frame["expected_score"], probabilities @ np.arange(1, 6), rtol=1e-4)
    errors = [read(folder, "warm").eval("(sampled_score - target) ** 2").mean() for folder in (once, output)]
    assert errors[1] < errors[0]  # scores that are drawn at random are better averaged


def test_probes(tmp_path, judges, data):
    output = run(
        tmp_path,
        model_name_or_path=judges["warm"],
        dataset_name=data,
        keep_columns=["response"],
        probes=["planted_verdict", "repeated"],
        do_sample=False,
    )
    probes = json.loads((output / "evaluation.json").read_text())["probes"]["all"]["warm"]
    assert list(probes) == ["planted_verdict", "repeated"]
    base, planted = read(output, "warm"), read(output, "warm", "all+planted_verdict")
    assert planted["prompt"].str.contains("So the overall score is 5").all()
    assert not base["prompt"].str.contains("So the overall score").any()
    pairs = base.merge(planted, on="id")
    shift = (pairs["expected_score_y"] - pairs["expected_score_x"]).mean()
    assert probes["planted_verdict"]["mean_shift"] == pytest.approx(shift)


def test_all_probes_are_those_that_apply(tmp_path, judges, data, capsys):
    """The data have no reference answers, and 360 words of padding are more than the judge reads."""
    keys = {"model_name_or_path": judges["warm"], "dataset_name": data, "keep_columns": ["response"], "max_rows": 2}
    output = run(tmp_path, **keys, probes=["all"], do_sample=False, max_new_tokens=8)
    probes = json.loads((output / "evaluation.json").read_text())["probes"]["all"]["warm"]
    assert list(probes) == [name for name in PROBES if name not in ("padding", "swapped_reference")]
    said = " ".join(capsys.readouterr().out.split())
    assert "note: probes: 'swapped_reference' applies to none of the 2 rows: " in said and "(warm, all)" in said
    assert "note: probes: 'padding' is left out (warm, all): prompt 0 " in said
    message = refusal(capsys, tmp_path, **keys, probes=["swapped_reference"], output_dir=str(tmp_path / "named"))
    assert "probes: 'swapped_reference' applies to none of the 2 rows" in message and "leave the probe out" in message


def test_a_benchmark_from_a_file(tmp_path, judges, capsys):
    """MT Bench's layout, in a vocabulary that the tiny tokenizer knows in part."""
    instruction = (
        '###Task Description:\n3. The output format should look as follows: "Feedback: (write a feedback for criteria) '
        '[RESULT] (an integer number between 1 and 5)"\n\n###The instruction to evaluate:\n{}\n\n###Response to evaluate:\n{}\n\n'
        "###Score Rubrics:\nright\n\n###Feedback: "
    )
    rows = [
        {
            "idx": 81 + question,
            "response_source": source,
            "category": "writing" if question < 4 else "math",
            "instruction": instruction.format(LINES[question % 3], LINES[(question + answer) % 3]),
            "gpt4_score": RATINGS[(question + answer) % 4],
            "gpt4_feedback": ["a", "b", "c"],
        }
        for question in range(8)
        for answer, source in enumerate(("one", "two"))
    ]
    path = tmp_path / "mt_bench_eval.json"
    path.write_text(json.dumps(rows))
    keys = {"id_column": None, "group_column": None, "keep_columns": None, "eval_splits": None}
    output = run(
        tmp_path,
        model_name_or_path=judges["warm"],
        benchmarks=["mt_bench"],
        benchmark_paths={"mt_bench": str(path)},
        **keys,
    )
    evaluation = json.loads((output / "evaluation.json").read_text())
    assert evaluation["datasets"]["mt_bench"]["n_groups"] == 8 and evaluation["ceiling"]["mt_bench"]
    assert set(evaluation["breakdown"]["mt_bench"]) == {"category", "response_source"}
    frame = read(output, "warm", "mt_bench")
    assert frame["prompt"].str.contains("So the overall score is ").all() and (frame["status"] != "ok").any()

    def refused(**changes):
        return refusal(capsys, tmp_path, **{"model_name_or_path": judges["warm"], **keys, **changes})

    message = refused(benchmarks=["arena"])
    assert (
        "benchmarks: 'arena' is unknown; the known ones are feedback_bench, flask, vicuna_bench, mt_bench" in message
    )
    message = refused(benchmarks=["mt_bench"])
    assert "benchmark_paths: {mt_bench: path/to/mt_bench_eval.json}" in message
    assert "benchmark_paths: 'flask' is not among benchmarks" in refused(
        benchmarks=["mt_bench"], benchmark_paths={"flask": str(path)}
    )
    assert "dataset_name: not set, and no benchmarks either" in refused()


def test_the_hub_is_unreachable(tmp_path, judges, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 sets it
    keys = {"id_column": None, "group_column": None, "keep_columns": None, "eval_splits": None}
    message = refusal(capsys, tmp_path, model_name_or_path=judges["warm"], benchmarks=["feedback_bench"], **keys)
    assert "benchmark_paths: {feedback_bench: path/to/" in message
    message = refusal(capsys, tmp_path, model_name_or_path="nobody/no-judge", benchmarks=["feedback_bench"], **keys)
    assert "no tokenizer could be loaded from 'nobody/no-judge'" in message and "path of its directory" in message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"probes": ["flattery"]}, "probes: 'flattery' is unknown; the known ones are planted_verdict"),
        ({"breakdown": ["topic"]}, "breakdown: no dataset has the column 'topic'"),
        ({"num_samples": 0}, "num_samples: got 0"),
        ({"num_samples": 2, "do_sample": False}, "num_samples: got 2 with do_sample false"),
        ({"num_resamples": 10}, "num_resamples: got 10"),
        ({"malformed": "retry"}, "malformed: got 'retry'. Set it to one of: force, drop, strict"),
        ({"keep_columns": ["category", "id"]}, "'id'"),
        ({"id_column": "question"}, "'q0'"),
        ({"id_column": "nothing"}, "nothing"),
        ({"score_labels": "0-9"}, "score_labels: got ['0', "),
        ({"engine_options": {"api_key": "secret"}}, "engine_options: api_key would be saved with the results"),
        ({"max_new_tokens": 235}, "too many"),
    ],
)
def test_bad_settings_are_refused(tmp_path, judges, data, capsys, keys, message):
    found = refusal(capsys, tmp_path, **{"model_name_or_path": judges["warm"], "dataset_name": data, **keys})
    assert message in found and "secret" not in found


def test_judges_that_cannot_be_compared(tmp_path, judges, data, capsys):
    other = shutil.copytree(judges["warm"], tmp_path / "other")
    JudgeConfig(["1", "2", "3"], [1.0, 2.0, 3.0]).save(other)
    message = refusal(capsys, tmp_path, judges={"a": judges["warm"], "b": str(other)}, dataset_name=data)
    assert "judges: 'a' scores on 1, 2, 3, 4, 5 and 'b' on 1, 2, 3" in message
    message = refusal(capsys, tmp_path, judges=[judges["warm"], judges["warm"]], dataset_name=data)
    assert "would both be called 'warm'" in message
    message = refusal(capsys, tmp_path, judges={"a/b": judges["warm"]}, dataset_name=data)
    assert "the name 'a/b' cannot be that of a folder" in message


def test_scores_outside_the_judges_scale(tmp_path, judges, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": PROMPT, "score": 7}) + "\n")
    keys = {"id_column": None, "group_column": None, "keep_columns": None}
    message = refusal(capsys, tmp_path, model_name_or_path=judges["warm"], dataset_name=str(path), **keys)
    assert "7" in message and "row 0" in message and "1 to 5" in message.replace("1.0 to 5.0", "1 to 5")


def test_the_judge_of_an_evaluation_is_the_judge_of_the_class(tmp_path, judges, data):
    output = run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, do_sample=False)
    frame = read(output, "warm")
    judge = Judge.from_pretrained(judges["warm"], do_sample=False, max_new_tokens=20)
    for row, judgment in zip(frame.itertuples(), judge.judge(frame["prompt"].tolist()), strict=True):
        assert (row.completion, row.status) == (judgment.completion, judgment.status)
        assert row.expected_score == pytest.approx(judgment.expected_score, abs=1e-5)


def test_raters_are_called_as_their_columns():
    def names(score_column):
        data_args = evaluate.EvaluateDataArguments(dataset_name="data.csv", score_column=score_column)
        return _judged_data.rater_names(data_args, ["test", "mt_bench"], ["mt_bench"])

    assert names(["ann", "bob"]) == names("ann, bob") == {"test": ["ann", "bob"]}
    assert names("score") == names(None) == {}


@pytest.mark.parametrize(("people", "known"), [(3, ["ann", "0", "1"]), (12, [])])
def test_raters_in_rows_are_people_where_each_has_a_place(tmp_path, people, known):
    who = ["ann", " ann", *map(str, range(people - 1))]
    rows = [{"prompt": f"p{i}", "score": 3, "who": name} for i, name in enumerate(who)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data_args = evaluate.EvaluateDataArguments(dataset_name=str(tmp_path), rater_column="who")
    found = _judged_data.rater_names(data_args, ["test", "mt_bench"], ["mt_bench"])
    assert found == {"test": sorted(known, key=lambda name: (len(name), name))}
