# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Real human scores: parts that share nothing they must not, labels of one grader, baselines, and a grid that goes on where it stopped."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments import real_scores, real_scores_tables
from experiments.real_scores import Cell, Experiment, cells_of
from experiments.real_scores_baselines import BASELINES
from experiments.real_scores_data import load_rows, make_fold
from experiments.real_scores_models import UNTRAINED
from experiments.real_scores_rationales import RL, _recipe
from experiments.real_scores_tables import Reading, RealScores
from real_trl.arguments.training import make_parser
from real_trl.trainers import RAFTConfig, REALConfig
from tests import tiny

ROOT = Path(__file__).parents[2]
GRID = yaml.safe_load((ROOT / "experiments" / "real_scores.yaml").read_text(encoding="utf-8"))
SETTINGS = GRID["settings"] | {
    "folds": 3,
    "score_labels": "0-5",
    "marker": "So the overall score is ",
    "tuning": {"labels": 8, "learning_rates": [1e-3, 1e-2]},
    "training": {"batch_size": 4, "epochs": {8: 2, "all": 1}, "warmup_fraction": 0.1, "bf16": False},
    "ridge": {"alphas": [1.0, 10.0], "ngram_weights": [0, 1]},
}
WORDS = ["right", "wrong", "close", "7", "4", "12", "3", "8", "5", "2", "9", "11"]


@pytest.fixture
def folder(tmp_path):
    """Files of the shapes that are read: of a question, the more of its reference an answer has, the better it is."""
    rng, answers = np.random.default_rng(0), []
    for question in range(12):
        reference = list(rng.choice(WORDS, 5, replace=False))
        for place in range(5):
            rest = list(rng.choice(WORDS, place))
            answer = " ".join([*reference[: 5 - place], *rest])
            asked = f"Grade {question % 11}"  # the last question is the first one again, under another number
            answers.append([f"1.{question}", asked, " ".join(reference), answer, 5 - place, max(0.0, 4.5 - place)])
        answers.append([f"1.{question}", asked, " ".join(reference), answer.upper(), 1, 0.5])  # the last answer again
    columns = ["question_id", "question", "reference_answer", "student_answer", "grader_1", "grader_2"]
    pd.DataFrame(answers, columns=columns).to_csv(tmp_path / "short_answers.csv", index=False)
    (tmp_path / "sentence_similarity").mkdir()
    for part, count in (("train", 20), ("validation", 6), ("test", 9)):
        pairs = [
            [a := " ".join(rng.choice(WORDS, 4)), a if row % 2 else "Grade", 5.0 if row % 2 else 0.4]
            for row in range(count)
        ]
        frame = pd.DataFrame(pairs, columns=["sentence1", "sentence2", "score"])
        frame.to_csv(tmp_path / "sentence_similarity" / f"{part}.csv", index=False)
    return tmp_path


@pytest.fixture
def base(tmp_path):
    tiny.build_model().save_pretrained(tmp_path / "base")
    tiny.chat_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_the_label_is_grader_1_and_the_other_grader_is_apart(folder):
    answers = load_rows(folder)["short_answers"]
    assert list(answers["target"][:6]) == [5, 4, 3, 2, 1, 1] and list(answers["other"][:3]) == [4.5, 3.5, 2.5]
    # 1.1 and 1.10 are two questions; 1.11 asks what 1.0 asks
    assert answers["group"].nunique() == 11 and answers["group"][66] == "1.0"
    assert "4.5" not in "".join(answers["prompt"])


@pytest.mark.parametrize("task", ["unseen_questions", "unseen_answers"])
def test_every_answer_is_tested_once_and_never_trained_on_there(folder, task):
    rows = load_rows(folder)
    folds = [make_fold(rows, task, fold, SETTINGS) for fold in range(3)]
    assert sorted(id for fold in folds for id in fold.test["id"]) == sorted(rows["short_answers"]["id"])
    for fold in folds:
        parts = [fold.train, fold.validation, fold.test]
        assert sum(map(len, parts)) == 72 and min(map(len, parts)) > 0
        kept = "group" if task == "unseen_questions" else ["group", "second"]
        seen = [
            set(map(tuple, part.assign(second=part["second"].str.lower())[np.atleast_1d(kept)].values))
            for part in parts
        ]
        assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    if task == "unseen_answers":
        assert set(folds[0].test["group"]) & set(folds[0].train["group"])


def test_similarity_is_as_its_files_are_and_its_seeds_are_orders(folder):
    rows = load_rows(folder)
    one, two = (make_fold(rows, "similarity", seed, SETTINGS) for seed in range(2))
    assert list(one.test["id"]) == list(two.test["id"]) == [f"test-{row}" for row in range(9)]
    assert sorted(one.train["id"]) == sorted(two.train["id"]) and list(one.train["id"]) != list(two.train["id"])
    few, more = one.with_labels(5), one.with_labels(8)
    assert list(more.train["id"])[:5] == list(few.train["id"]) and len(few.train) == 5 and len(few.validation) == 6


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        (
            "short_answers.csv",
            {"grader_1": ["5.5"]},
            "short_answers.csv: grader_1 of row 0 is '5.5', no score from 0 to 5.",
        ),
        ("sentence_similarity/test.csv", {"score": [""]}, "sentence_similarity: score of row 26 is '', no score"),
    ],
)
def test_what_is_no_score_is_named(folder, file, row, message):
    frame = pd.read_csv(folder / file, dtype=str)
    frame.iloc[0, frame.columns.get_loc(next(iter(row)))] = next(iter(row.values()))[0]
    frame.to_csv(folder / file, index=False)
    with pytest.raises(ValueError) as error:
        load_rows(folder)
    assert message in str(error.value)


def test_missing_columns_and_files_are_named(folder):
    pd.read_csv(folder / "short_answers.csv").drop(columns="grader_2").to_csv(
        folder / "short_answers.csv", index=False
    )
    with pytest.raises(ValueError, match="short_answers.csv has no column 'grader_2', only"):
        load_rows(folder)
    (folder / "short_answers.csv").unlink()
    with pytest.raises(ValueError, match="short_answers.csv is not there. Give a folder with short_answers.csv and"):
        load_rows(folder)


def test_baselines(folder):
    rows = load_rows(folder)
    fold = make_fold(rows, "unseen_questions", 0, SETTINGS)
    found = {name: method(fold, SETTINGS) for name, method in BASELINES.items()}
    assert set(found["mean"][0]) == {fold.train["target"].mean()}
    assert list(found["other_grader"][0]) == list(fold.test["other"])
    # Half a point stricter, but for what it calls 0.5: a line nearly undoes that
    assert np.abs(found["other_grader_at_level"][0] - fold.test["target"]).max() < 0.15
    scores, chosen = found["tfidf"]
    assert np.corrcoef(scores, fold.test["target"])[0, 1] > 0.8 and chosen["alpha"] in (1.0, 10.0)
    assert scores.min() >= 0 and scores.max() <= 5


def test_the_plan_is_one_of_known_names():
    cells = list(cells_of(GRID))
    assert len(cells) == len(set(cells)) and {cell.fold for cell in cells if cell.method == "raft"} == {0, 1, 2, 3, 4}
    trained = {(cell.task, cell.labels) for cell in cells if cell.method == "head"}
    assert trained == {("unseen_answers", "all")} | {
        (task, labels) for task in ("unseen_questions", "similarity") for labels in (50, 200, 800, "all")
    }
    for name, wrong in (("tasks", "translation"), ("methods", "bert"), ("folds", 5)):
        entry = {"tasks": ["similarity"], "methods": ["mean"], "labels": ["all"], "folds": [0]} | {name: [wrong]}
        with pytest.raises(ValueError, match=f"plan: {name}: '?{wrong}'? is none of"):
            list(cells_of(GRID | {"plan": [entry]}))


def test_a_head_at_the_rate_that_its_validation_rows_choose(folder, base, tmp_path):
    experiment = Experiment(GRID | {"settings": SETTINGS}, load_rows(folder), base, tmp_path / "out")
    cell = Cell("similarity", "head", "all", 1)
    assert experiment.stored(cell) is None
    experiment.run(cell)
    errors = experiment.validation_errors("similarity", "head")
    found, record = experiment.stored(cell)
    assert record["rate"] == min(errors, key=errors.get) and set(errors) == {1e-3, 1e-2}
    assert list(found["id"]) == [f"test-{row}" for row in range(9)] and found["expected_score"].between(0, 5).all()
    assert not list((tmp_path / "out").rglob("*.safetensors"))
    # That of the rate's own cell is there already
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")}
    experiment.run(Cell("similarity", "head", 8, 0))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.parquet")} == written


def test_one_training_serves_the_decoded_and_the_expected_score(folder, base, tmp_path):
    experiment = Experiment(GRID | {"settings": SETTINGS}, load_rows(folder), base, tmp_path / "out")
    cells = [Cell("unseen_answers", "raft", 8, 1), *(Cell("unseen_answers", name, 0, 1) for name in UNTRAINED)]
    for cell in cells:
        experiment.run(cell)
        found, _ = experiment.stored(cell)
        labels = np.stack(found["probabilities"])
        assert labels.shape == (len(found), 6) and np.allclose(labels.sum(1), found["mass"], atol=1e-3)
        assert list(found["sampled_score"]) == list(labels.argmax(1))
        weight = labels if cell.method == "raft" else labels / labels.sum(1, keepdims=True)
        assert np.allclose(found["expected_score"], weight @ np.arange(6), atol=0.02)  # bfloat16
    # The rate is chosen on rows that are not those tested here
    assert {path.parts[-4] for path in (tmp_path / "out").rglob("raft-*.parquet")} == {
        "unseen_questions",
        "unseen_answers",
    }


def test_recipes_of_judges_with_rationales_are_ones_that_their_stages_take(tmp_path):
    options = GRID["rationales"]
    options = options | {"recipes": ROOT / options["recipes"]}
    for name, config, changes in (
        ("raft", RAFTConfig, options["raft"]),
        *(("real", REALConfig, options["rl"] | each) for each in RL.values()),
    ):
        _, path = _recipe(name, options, tmp_path, 3, output_dir=tmp_path / "out", **changes)
        _, _, args, _ = make_parser(config).parse_args_and_config(["--config", path])
        assert (
            args.seed == 3
            and args.output_dir == str(tmp_path / "out")
            and all(getattr(args, key) == value for key, value in changes.items())
        )


@pytest.mark.slow
def test_judges_with_rationales_start_from_the_model_s_own(folder, tmp_path):
    tiny.warm_model().save_pretrained(tmp_path / "base")
    tiny.chat_tokenizer().save_pretrained(tmp_path / "base")
    small = {"use_cpu": True, "bf16": False, "max_length": None}
    grid = GRID | {"settings": SETTINGS, "rationales": GRID["rationales"] | {"test_rows": 5}}
    grid["rationales"] |= {
        "recipes": ROOT / "recipes" / "short-answers",
        "generation": {"max_new_tokens": 24, "max_distance": 5.0},
        "raft": {"num_train_epochs": 1, "save_strategy": "no", **small},
        "rl": {
            "max_steps": 1,
            "num_generations": 2,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 1,
        }
        | {"max_completion_length": 24, "save_strategy": "no", "bf16": False, "preflight_scored_rate": 0.0},
    }
    experiment = Experiment(grid, load_rows(folder), tmp_path / "base", tmp_path / "out")
    for method in ("real", "rationale_raft"):
        cell = Cell("unseen_questions", method, 8, 1)
        experiment.run(cell)
        found, record = experiment.stored(cell)
        assert len(found) == 5 and found["expected_score"].between(0, 5).all() and record["counts"]
    kept = [path.parent.name for path in (tmp_path / "out").rglob("judge_config.json")]
    assert kept == ["rationale_raft"]  # that others start from


def predicted(method, fold, rows, **columns):
    frame = pd.DataFrame(
        {"task": "unseen_questions", "method": method, "labels": "all", "fold": fold, **rows, **columns}
    )
    return frame.assign(id=[f"{fold}-{row}" for row in range(len(frame))])


def test_figures_are_within_folds_and_errors_over_all_rows():
    # Two folds whose levels are 3 apart: perfect in each, with an error of 1 in the second
    rows = [
        {"group": list("abcdef"), "target": [0.0, 1, 2, 0, 1, 2]},
        {"group": list("ghijkl"), "target": [3.0, 4, 5, 3, 4, 5]},
    ]
    raft = [
        predicted("raft", fold, each, expected_score=[x - fold for x in each["target"]])
        for fold, each in enumerate(rows)
    ]
    frame = pd.concat([each.assign(sampled_score=2.0) for each in raft])
    mean = [
        predicted("mean", fold, each, expected_score=4.0 - 3 * fold, sampled_score=0.0)
        for fold, each in enumerate(rows)
    ]
    scores = RealScores(pd.concat([frame, *mean]))
    r, rmse = (scores.figure("unseen_questions", Reading("raft"), metric) for metric in ("pearson", "rmse"))
    assert r.mean == pytest.approx(1) and rmse.mean == pytest.approx(np.sqrt(0.5)) and rmse.low < rmse.mean < rmse.high
    # A constant has no correlation, also where folds have different ones
    assert all(
        np.isnan(scores.figure("unseen_questions", each, "pearson").mean)
        for each in (Reading("mean"), Reading("raft", True))
    )
    less = scores.difference("unseen_questions", Reading("raft"), Reading("mean"), "rmse")
    assert less.mean == pytest.approx(np.sqrt(0.5) - np.sqrt(np.mean([16, 9, 4, 16, 9, 4, 4, 9, 16, 4, 9, 16])))
    table = real_scores_tables.methods(scores, "unseen_questions")
    assert "| **RAFT, RAIL** | 2 | 100.0 [100.0, 100.0] | 100.0 | 0.707 [" in table and "| 2 | – | – | 3.109" in table


def test_seeds_are_crossed_with_rows_and_what_has_no_seed_counts_for_all(folder):
    rng, target = np.random.default_rng(0), np.tile([0.0, 2.0, 5.0, 3.0], 10)
    rows = {"group": [str(row) for row in range(40)], "target": target}
    seeds = [
        predicted("raft", seed, rows, expected_score=target + rng.normal(size=40) + seed / 2) for seed in range(3)
    ]
    frame = pd.concat([*seeds, predicted("tfidf", 0, rows, expected_score=target + 2.0)]).assign(task="similarity")
    scores = RealScores(frame.assign(sampled_score=frame["expected_score"]))
    raft, tfidf = (scores.figure("similarity", Reading(name), "rmse") for name in ("raft", "tfidf"))
    by_hand = [np.sqrt(np.mean((seed["expected_score"] - target) ** 2)) for seed in seeds]
    assert raft.per_seed == pytest.approx(by_hand) and len(tfidf.per_seed) == 1 and tfidf.mean == pytest.approx(2)
    less = scores.difference("similarity", Reading("raft"), Reading("tfidf"), "rmse")
    assert less.per_seed == pytest.approx([each - 2 for each in by_hand]) and less.low < less.mean < less.high
    assert scores.difference("similarity", Reading("raft"), Reading("head"), "rmse") is None
    # A method that has seeds, of which not all are there yet, is compared on those that both have
    scores = RealScores(
        pd.concat([*seeds, seeds[1].assign(method="head", expected_score=target + 2.0)]).assign(
            task="similarity", sampled_score=0.0
        )
    )
    less = scores.difference("similarity", Reading("raft"), Reading("head"), "rmse")
    assert less.per_seed == pytest.approx([by_hand[1] - 2])


def test_it_goes_on_where_it_was_stopped_and_mixes_nothing(folder, base, tmp_path, monkeypatch, capsys):
    plan = [{"tasks": ["unseen_questions"], "methods": ["mean", "tfidf"], "labels": ["all"], "folds": [0, 1]}]
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(GRID | {"settings": SETTINGS, "plan": plan}), encoding="utf-8")
    paths = {
        "--data": folder,
        "--model": base,
        "--grid": "grid.yaml",
        "--output_dir": "out",
        "--results": "stored.parquet",
    }
    command = [part for option, path in paths.items() for part in (option, str(tmp_path / path))]
    ran = []
    run = Experiment.run

    def stopped(self, cell):
        ran.append(cell.method)
        if len(ran) == 3:
            raise KeyboardInterrupt
        run(self, cell)

    monkeypatch.setattr(Experiment, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        real_scores.main(command)
    assert len(pd.read_parquet(tmp_path / "stored.parquet")["method"].unique()) == 2
    real_scores.main(command)
    assert ran == ["mean", "tfidf", "mean", "mean", "tfidf"]
    found = pd.read_parquet(tmp_path / "stored.parquet")
    assert found.groupby("method", observed=True).size().nunique() == 1 and set(found["fold"]) == {0, 1}
    assert not set(found.columns) & {"prompt", "question", "first", "second"}
    record = json.loads((tmp_path / "stored.json").read_text(encoding="utf-8"))
    assert [cell["fold"] for cell in record["cells"]] == [0, 0, 1, 1] and record["versions"]["torch"]
    # What is stored for the report is enough, and stays there where the plan no longer has it
    (tmp_path / "less.yaml").write_text(
        yaml.safe_dump(GRID | {"settings": SETTINGS, "plan": [{**plan[0], "methods": ["mean"]}]}), encoding="utf-8"
    )
    for grid in ("less.yaml", "grid.yaml"):
        real_scores.main([*command, "--output_dir", str(tmp_path / "another"), "--grid", str(tmp_path / grid)])
        assert len(ran) == 5 and len(pd.read_parquet(tmp_path / "stored.parquet")) == len(found)
    assert pd.read_parquet(tmp_path / "stored.parquet").equals(found)
    assert json.loads((tmp_path / "stored.json").read_text(encoding="utf-8")) == record
    (tmp_path / "grid.yaml").write_text(
        yaml.safe_dump(GRID | {"settings": SETTINGS | {"folds": 4}, "plan": plan}), encoding="utf-8"
    )
    with pytest.raises(SystemExit):
        real_scores.main(command)
    assert "nothing may be mixed" in capsys.readouterr().err
