# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a file with scores by two criteria to one judge of both, by the commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from real_trl import Judge, JudgeConfig
from real_trl.publishing.card import build_card
from real_trl.scripts import evaluate, init, plan, score, sft
from tests.onboarding.files import sheet, write_csv, write_model

NAMES = ("helpfulness", "correctness")


def rows_of(rows: list[dict]) -> list[dict]:
    """The second criterion is the other way round, and missing in every fifth row."""
    return [
        {
            "question": row["question"],
            "answer": row["answer"],
            "helpfulness": row["score"],
            "correctness": "" if number % 5 == 4 else 6 - row["score"],
        }
        for number, row in enumerate(rows)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `init`, `sft`, `evaluate` and `score` have run as `init` says."""
    folder = tmp_path_factory.mktemp("criteria")
    write_csv(folder / "scores.csv", rows_of(sheet()))
    model = str(write_model(folder / "model"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        init.main(["scores.csv", "--model", model, "--output_dir", "judge", "--yes"])
        sft.main(["--config", "judge/raft.yaml", "--max_steps", "3"])
        evaluate.main(["--config", "judge/evaluate.yaml", "--num_resamples", "100"])
        columns = '{"instruction": "question", "response": "answer"}'
        score.main(["scores.csv", "--judge", "judge/outputs/raft", "--columns", columns, "--output", "scored.csv"])
    return folder


@pytest.fixture(autouse=True)
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_the_recipes_say_both(folder):
    recipes = {name: yaml.safe_load((folder / f"judge/{name}.yaml").read_text()) for name in ("raft", "evaluate")}
    for recipe in recipes.values():
        assert list(recipe["criteria"]) == [*NAMES] and "score_column" not in recipe
        assert recipe["prompt_template"] == "direct_criteria" and "rubric" not in recipe["columns"]
        assert recipe["criteria"]["correctness"].startswith("Correctness: is what the response says right")
    assert recipes["raft"]["score_labels"] == "1-5" and not (folder / "judge/prompt.jinja").exists()
    readme = (folder / "judge/README.md").read_text()
    assert "helpfulness, correctness are taken as criteria of their own" in readme
    assert "Scores that are missing are left out (9 by correctness)" in readme
    assert "| criteria (guessed) | helpfulness, correctness |" in readme and "real-trl score new." in readme


def test_the_judge_knows_its_criteria(folder):
    config = json.loads((folder / "judge/outputs/raft/judge_config.json").read_text())
    assert config["criteria"] == yaml.safe_load((folder / "judge/raft.yaml").read_text())["criteria"]
    assert config["rationale"] is False


def test_the_evaluation_is_by_criterion(folder):
    result = json.loads((folder / "judge/outputs/evaluation/evaluation.json").read_text())
    test = [json.loads(line) for line in (folder / "judge/data/test.jsonl").read_text().splitlines()]
    by_criterion = result["breakdown"]["test"]["criterion"]
    assert set(by_criterion) == {*NAMES}
    judge = Judge.from_pretrained("judge/outputs/raft")
    for name, judges in by_criterion.items():
        rows = [row for row in test if row[name] != ""]
        said = judge.score(
            instruction=[row["question"] for row in rows],
            response=[row["answer"] for row in rows],
            rubric=judge.criteria[name],
        )
        errors = [j.expected_score - float(row[name]) for j, row in zip(said, rows, strict=True)]
        (figures,) = judges.values()
        assert figures["n_rows"] == len(rows)
        assert figures["rail"]["rmse"] == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=1e-4)
    assert result["datasets"]["test"]["n_groups"] == len({row["group"] for row in test})
    assert "criterion" in (folder / "judge/outputs/evaluation/report.md").read_text()


def test_one_file_with_a_column_for_each(folder):
    rows = list(csv.DictReader((folder / "scored.csv").open(newline="")))
    assert [row["helpfulness"] for row in rows] == [str(row["helpfulness"]) for row in rows_of(sheet())]
    judge = Judge.from_pretrained("judge/outputs/raft")
    for name in NAMES:
        said = judge.score(
            instruction=[row["question"] for row in rows],
            response=[row["answer"] for row in rows],
            rubric=judge.criteria[name],
        )
        expected = [judgment.expected_score for judgment in said]
        assert [float(row[f"{name}_expected_score"]) for row in rows] == pytest.approx(expected, abs=1e-4)


def test_it_is_planned(folder, capsys):
    plan.main(["--config", "judge/raft.yaml", "--gpus", "1xA100-80GB"])
    train = [json.loads(line) for line in (folder / "judge/data/train.jsonl").read_text().splitlines()]
    scores = sum(row[name] != "" for row in train for name in NAMES)
    assert f"{scores} rows" in " ".join(capsys.readouterr().out.split())


def test_its_card_names_them():
    text = str(build_card(JudgeConfig.load("judge/outputs/raft"), "me/judge"))
    assert "It was trained on `helpfulness`, `correctness`, by the rubric of each" in text
    assert 'rubric=judge.criteria["helpfulness"],' in text


def test_an_evaluation_that_says_no_criteria_takes_the_judges(folder):
    rows = [{"instruction": row["question"], "response": row["answer"], **row} for row in rows_of(sheet())[:6]]
    write_csv(folder / "named.csv", rows)
    data = ["--dataset_name", "named.csv", "--dataset_test_split", "all", "--num_resamples", "100"]
    evaluate.main(["--model_name_or_path", "judge/outputs/raft", "--output_dir", "evaluated", *data])
    result = json.loads(Path("evaluated/evaluation.json").read_text())
    assert result["datasets"]["all"]["n_rows"] == 11 and set(result["breakdown"]["all"]["criterion"]) == {*NAMES}
