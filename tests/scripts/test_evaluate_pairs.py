# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`evaluate` on preferences between two responses, with judges that score single ones."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from real_trl import Judge, JudgeConfig
from real_trl.data.arguments import DataArguments
from real_trl.data.choices import choices_of_pairs
from real_trl.data.loading import load_judge_dataset
from real_trl.engines import TransformersEngine
from real_trl.evaluation.best_of import best_of_credit
from real_trl.evaluation.pairs import evaluate_pairs, wins
from real_trl.scripts import evaluate
from tests.data.test_published_layouts import FILES
from tests.scripts.test_evaluate import SPACE, judges  # noqa: F401
from tests.tiny import LINES, PROMPT

ANSWERS = [f"{LINES[i % 3]}\n{LINES[(i + 1) % 3]}\n{LINES[j]}" for i in range(3) for j in range(3)]


@pytest.fixture
def data(tmp_path) -> str:
    """Ten questions, one pair of answers each and a second one that shares an answer with it, with ties."""
    rows = []
    for question in range(10):
        for second in (1, 2):
            a, b = ANSWERS[question % 9], ANSWERS[(question + second) % 9]
            row = {"instruction": f"{PROMPT} {question - 5}", "rubric": "right", "first": a, "second": b}
            rows.append({**row, "better": ["first", "second", "tie"][(question + second) % 3], "half": question < 5})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tmp_path, **keys) -> Path:
    recipe = {
        "output_dir": str(tmp_path / "evaluation"),
        "eval_splits": ["all"],
        "prompt_template": "homework",
        "pair_columns": ["first", "second"],
        "preference_column": "better",
        "max_new_tokens": 20,
        "batch_size": 4,
        "num_resamples": 200,
        **keys,
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    evaluate.main(["--config", str(path)])
    return Path(recipe["output_dir"])


def test_two_judges_order_pairs(tmp_path, judges, data, capsys):  # noqa: F811
    output = run(tmp_path, judges=judges, dataset_name=data, keep_columns=["half"], breakdown=["half"])
    evaluation = json.loads((output / "evaluation.json").read_text(), parse_constant=pytest.fail)
    found = evaluation["choices"]["all"]
    # 20 pairs of 3 answers to each question: each of these is judged once
    assert (found["kind"], found["n_questions"], found["n_responses"], found["n_groups"]) == ("pairs", 20, 30, 10)
    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    for judge in judges:
        frame = pd.read_parquet(output / "predictions" / judge / "all" / "predictions.parquet")
        assert len(frame) == frame["prompt"].nunique() == 30
        by_prompt = frame.set_index("prompt")
        prompts = [
            [f"{row['instruction']}\nright\n{row[side]}\nFeedback:" for side in ("first", "second")] for row in rows
        ]
        a, b = (by_prompt.loc[[pair[side] for pair in prompts]] for side in (0, 1))
        p = [np.stack(side["probabilities"]) for side in (a, b)]
        p = wins(*(side / side.sum(axis=1, keepdims=True) for side in p))
        w = np.array([{"first": 1.0, "second": 0.0, "tie": 0.5}[row["better"]] for row in rows])
        result = found["results"][judge]
        assert result["rail"]["log_loss"] == pytest.approx(-np.mean(w * np.log(p) + (1 - w) * np.log(1 - p)))
        difference = a["expected_score"].to_numpy() - b["expected_score"].to_numpy()
        credit = (1 + np.sign(difference) * np.sign(w - 0.5)) / 2
        assert result["rail"]["accuracy"] == pytest.approx(credit[w != 0.5].mean())
        low, high = result["intervals"]["rail"]["log_loss"]
        assert low < result["rail"]["log_loss"] < high and 0 <= result["rail"]["three_way"] <= 1
        assert found["breakdown"]["half"]["True"][judge]["n_questions"] == 10
    printed = " ".join(capsys.readouterr().out.split())
    report, page = ((output / name).read_text() for name in ("report.md", "report.html"))
    for text in (printed, report, page):
        assert "all: 20 pairs of 30 responses, 10 groups" in text and "3-way" in text and "Log loss" in text
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert len(data["rows"]) == 30 and data["rows"][0]["target"] is None  # to browse
    assert "there are no true scores" in page
    assert "all by half" in report and "cold" in printed and not (output / "table.tex").exists()


def test_the_same_in_python(tmp_path, judges, data):  # noqa: F811
    output = run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, do_sample=False, num_resamples=100)
    expected = json.loads((output / "evaluation.json").read_text())["choices"]["all"]["results"]["warm"]
    args = DataArguments(
        dataset_name=data,
        prompt_template="homework",
        pair_columns=["first", "second"],
        preference_column="better",
    )
    choices = choices_of_pairs(
        load_judge_dataset(args, "all", scale=SPACE.scale, marker=SPACE.marker, keep_ratings=True, pairs=True)
    )
    judge = Judge.from_pretrained(judges["warm"], do_sample=False, max_new_tokens=20, batch_size=4)
    rows = pd.DataFrame([asdict(each) for each in judge.judge(choices.responses["prompt"][:])])
    found = evaluate_pairs(rows, choices.questions, scale=SPACE.scale, n_resamples=100)
    for inference in ("standard", "rail"):
        # Its expected scores differ by rounding alone, and so do the thresholds of the third
        three_way = found[inference].pop("three_way"), expected[inference].pop("three_way")
        assert found[inference] == pytest.approx(expected[inference], rel=1e-4)
        assert three_way[0] == pytest.approx(three_way[1], abs=0.15)


def test_an_interrupted_evaluation_of_pairs_goes_on(tmp_path, judges, data, monkeypatch):  # noqa: F811
    judge_batch, calls = TransformersEngine._judge_batch, []

    def interrupted(self, prompt_ids):
        calls.append(len(prompt_ids))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return judge_batch(self, prompt_ids)

    monkeypatch.setattr(TransformersEngine, "_judge_batch", interrupted)
    keys = {"model_name_or_path": judges["warm"], "dataset_name": data}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, **keys)
    run(tmp_path, **keys)
    assert len(calls) == 4 + 5  # of eight batches, three were done
    monkeypatch.setattr(TransformersEngine, "_judge_batch", None)  # other preferences are no reason to judge anew
    output = run(tmp_path, **keys, **{"preference_column": None})
    result = json.loads((output / "evaluation.json").read_text())["choices"]["all"]["results"]["warm"]
    assert result["n_human_ties"] == 0 and result["rail"]["n_decided"] == 20


def test_probes_of_pairs_are_refused(tmp_path, judges, data, capsys):  # noqa: F811
    with pytest.raises(SystemExit) as error:
        run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, probes=["empty"])
    assert error.value.code == 2 and "probes" in capsys.readouterr().err
    run(tmp_path, model_name_or_path=judges["warm"], dataset_name=data, probes=["all"])
    assert "note: probes: responses to compare have none (warm, all)" in capsys.readouterr().out


def test_benchmarks_of_other_kinds_by_name(tmp_path, judges, capsys):  # noqa: F811
    judge = shutil.copytree(judges["warm"], tmp_path / "templated")
    JudgeConfig.from_space(SPACE, prompt_template="homework").save(judge)
    names = ["rewardbench_2", "hhh", "helpsteer2"]
    none = dict.fromkeys(("prompt_template", "pair_columns", "preference_column", "eval_splits"))
    keys = {"model_name_or_path": str(judge), "benchmarks": names, **none}
    output = run(tmp_path, **keys, benchmark_paths={name: str(FILES) for name in names})
    evaluation = json.loads((output / "evaluation.json").read_text(), parse_constant=pytest.fail)
    best = evaluation["choices"]["rewardbench_2"]["results"]["templated"]["rail"]
    frame = pd.read_parquet(output / "predictions" / "templated" / "rewardbench_2" / "predictions.parquet")
    scores = frame["expected_score"].to_numpy()
    assert len(frame) == 16 and best["Math"] == best_of_credit(scores[:4]) and best["n"] == 4
    assert best["average"] == pytest.approx((best["Math"] + best["Safety"] + best["Ties"]) / 3)
    assert set(evaluation["choices"]["hhh"]["breakdown"]["source"]) == {"harmless", "honest"}
    assert evaluation["datasets"]["helpsteer2"]["n_rows"] == 10
    assert set(evaluation["breakdown"]["helpsteer2"]["criterion"]) > {"verbosity", "helpfulness"}
    printed = " ".join(capsys.readouterr().out.split())
    assert "rewardbench_2: 4 questions of 16 responses, 3 groups" in printed and "Average" in printed
    for text in (printed, (output / "report.md").read_text()):
        assert "mapped linearly onto the judge's scale: 0 is 1, 4 is 5" in text
