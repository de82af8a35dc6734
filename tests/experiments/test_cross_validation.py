# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: every row is judged once by every judge, and by none that was trained on its question."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from experiments import language_model
from experiments.cross_validate import main, split, training_path
from real_trl.data.homework import build_model, build_tokenizer, make_dataset

ROOT = Path(__file__).parents[2]
SETTINGS = {"folds": 2, "repeats": 2, "group": "idx", "prompt": "instruction", "max_prompt_characters": 10**6}


def rows(count=12):
    """Rows of the embedded task in MT Bench's form, two of each question."""
    return [
        {
            "idx": place // 2,
            "instruction": row["prompt"],
            "gpt4_score": [int(row["score"])] * 3,
            "gpt4_feedback": [row["feedback"]] * 3,
            "category": "homework",
            "response_source": "pupil",
        }
        for place, row in enumerate(make_dataset("sft", count))
    ]


@pytest.fixture
def config(tmp_path):
    """`experiments/smollm2.yaml` and its recipes, for a tiny model and a step of each stage."""
    config = yaml.safe_load((ROOT / "experiments/smollm2.yaml").read_text(encoding="utf-8")) | SETTINGS
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    for path in (ROOT / config["recipes"]).glob("*.yaml"):
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipe.pop("prompt_replace", None)
        recipe |= {key: 48 for key in ("max_new_tokens", "max_completion_length") if key in recipe}
        recipe |= {"bf16": False} if "bf16" in recipe else {"dtype": "float32"} if "dtype" in recipe else {}
        if "num_generations" in recipe:  # of a model that shows no scores
            recipe |= {"preflight_scored_rate": 0.0, "max_steps_without_signal": 0}
        (recipes / path.name).write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    build_model().save_pretrained(tmp_path / "base")
    build_tokenizer().save_pretrained(tmp_path / "base")
    for judge in config["judges"].values():
        judge["set"] = {"max_steps": 1, "save_strategy": "no"}
    config |= {
        "recipes": str(recipes),
        "model": str(tmp_path / "base"),
        "evaluation": {"max_new_tokens": 48},
        "rationales": {},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (tmp_path / "rows.json").write_text(json.dumps(rows()), encoding="utf-8")
    return config


@pytest.mark.slow
def test_every_row_is_judged_by_judges_that_did_not_see_its_question(config, tmp_path, capsys):
    command = ["--config", "config.yaml", "--dataset_name", "rows.json", "--output_dir", "out", "--jobs", "1"]
    command = [str(tmp_path / part) if not part.startswith("--") and part != "1" else part for part in command]
    main([*command, "--results", str(tmp_path / "results.parquet")])
    found = pd.read_parquet(tmp_path / "results.parquet")
    assert set(found["judge"]) == {"base", *config["judges"]}
    logged = pd.read_parquet(training_path(tmp_path / "results.parquet"))
    assert set(map(tuple, logged[["judge", "fold"]].values)) == {
        (judge, fold) for judge in config["judges"] for fold in range(4)
    }
    for _, judged in found.groupby("judge"):
        assert len(judged) == 24 and judged["id"].is_unique
        for _, once in judged.groupby("repeat"):
            assert sorted(once["group"]) == sorted(str(row["idx"]) for row in rows())
    with pytest.raises(SystemExit):  # what was made with two folds is not mixed with three
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"folds": 3}), encoding="utf-8")
        main([*command, "--results", str(tmp_path / "results.parquet")])
    assert "made_with.json was written for another configuration, other recipes" in capsys.readouterr().err
    for fold in range(4):
        trained = {row["idx"] for row in json.loads((tmp_path / f"out/fold-{fold}/train.json").read_text())}
        tested = set(found.query("fold == @fold")["group"].astype(int))
        assert not trained & tested and trained | tested == set(range(6))
        for name in ("raft", "tract_self_generate", "real", "evaluate"):
            assert yaml.safe_load((tmp_path / f"out/fold-{fold}/{name}.yaml").read_text())["seed"] == fold // 2


def judged(judge, scores):
    """Eight questions in two folds, labelled 1, 2, 3, 4 in the first and 2, 3, 4, 5 in the second."""
    target = [1.0, 2, 3, 4, 2, 3, 4, 5]
    frame = pd.DataFrame({"judge": judge, "repeat": 0, "fold": [0] * 4 + [1] * 4, "id": range(8), "target": target})
    frame = frame.assign(group=frame["id"], sampled_score=3.0, expected_score=scores, mass=0.5, missing_mass=0.0)
    return frame.assign(status=["ok", "missing"] * 4, num_tokens=10)


def test_tables():
    # Reversed in each fold, not over both; its squared errors are 16, 4, 0, 4 and 9, 1, 1, 9
    perfect, reverse = [1.0, 2, 3, 4, 2, 3, 4, 5], [5.0, 4, 3, 2, 5, 4, 3, 2]
    frame = pd.concat([judged("raft", reverse), judged("real", perfect)])
    raft, real, guess = (line.split(" | ") for line in language_model.judges(frame).splitlines()[2:])
    assert (
        raft[:2] == ["| RAFT", "nan [nan, nan]"] and raft[2].startswith("-100.0 [") and raft[5].startswith("2.345 [")
    )
    assert real[3:5] == ["100.0", "100.0"] and real[6:] == ["0.000", "100.0, 100.0", "3.00", "0.50", "50% |"]
    # Each fold is guessed to be 3.5 or 2.5, the mean of the other
    assert guess[5:9] == ["1.500", "1.250", "–", "3.00"]
    (line,) = language_model.differences(frame).splitlines()[2:]
    assert line.startswith("| REAL − RAFT | +200.0 [") and "| -2.345 [" in line


def test_the_guess_is_of_the_other_folds_of_the_same_repeat():
    # Labels 1 and 3 | 5 in the first repeat, 1 | 3 and 5 in the second
    frame = pd.DataFrame({"repeat": [0, 0, 0, 1, 1, 1], "fold": [0, 0, 1, 2, 3, 3], "target": [1.0, 3, 5, 1, 3, 5]})
    assert list(language_model.mean_of_the_other_folds(frame)) == [5, 5, 2, 4, 1, 1]


def test_the_table_of_the_training():
    steps = pd.DataFrame({"loss": 1.0, "step": range(1, 9), "reward": [-8.0, -6, -5, -5, -5, -5, -4, -2]})
    history = pd.concat([steps, pd.DataFrame({"step": [8], "train_loss": [1.0]})]).assign(judge="real", fold=1)
    assert language_model.training(history).splitlines()[2:] == ["| REAL | 1 | 8 | -7.00 → -3.00 |"]


def test_questions_are_not_split():
    folds = split(rows(40), SETTINGS | {"folds": 3}, repeat=0)
    assert sorted(map(len, folds)) == [12, 14, 14]
    questions = [{row["idx"] for row in fold} for fold in folds]
    assert not questions[0] & questions[1] and not questions[0] & questions[2] and not questions[1] & questions[2]
    again = [{row["idx"] for row in fold} for fold in split(rows(40), SETTINGS | {"folds": 3}, repeat=1)]
    assert set.union(*again) == set.union(*questions) and again != questions


def test_too_few_questions_are_named():
    with pytest.raises(ValueError, match="20 folds need as many questions, and 6 have prompts of 1000000 characters"):
        split(rows(), SETTINGS | {"folds": 20}, repeat=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repeats": None}, "config.yaml: repeats is missing. Set it"),
        ({"folds": 1}, "folds: got 1. Set it to 2 or more."),
        ({"repeats": 0}, "repeats: got 0. Set it to 1 or more."),
        ({"prompt": "promt"}, "row 0 has no 'promt', only ['category', 'gpt4_feedback'"),
        ({"model": "nowhere"}, "model 'nowhere' is not there"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_written(config, changes, message, tmp_path, capsys):
    changed = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    paths = {"--config": "config.yaml", "--dataset_name": "rows.json", "--output_dir": "out"}
    with pytest.raises(SystemExit):
        main([part for option, path in paths.items() for part in (option, str(tmp_path / path))])
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
