# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `real-trl init` makes of several columns with scores: criteria, or raters of one score."""

import json
from pathlib import Path

import pytest
import yaml

from real_trl.onboarding.criteria import default_rubric, usual_criteria
from real_trl.scripts.init import main
from tests.onboarding.files import sheet, write_jsonl, write_model
from tests.onboarding.test_shapes import loaded

ASPECTS = ("helpfulness", "correctness", "verbosity")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def file(**columns) -> str:
    """Rows as HelpSteer has them, with further columns by a row and its number."""
    rows = []
    for number, row in enumerate(sheet()):
        own = {"prompt": row["question"], "response": row["answer"]}
        rows.append(own | {name: make(row, number) for name, make in columns.items()})
    return str(write_jsonl(Path("rows.jsonl"), rows))


def score(row: dict, number: int) -> int:
    return row["score"]


def other(row: dict, number: int) -> int:
    return 1 + number % 5


def recipes_of(data: str, model: str, *options: str) -> dict[str, dict]:
    main([data, "--model", model, "--output_dir", "judge", "--yes", *options])
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path("judge").glob("*.yaml"))}


def refused(capsys, *argv: str) -> str:
    with pytest.raises(SystemExit) as status:
        main([*argv, "--yes"])
    assert status.value.code == 2
    return " ".join(capsys.readouterr().err.split())


def test_usual_names_are_criteria(model):
    recipes = recipes_of(file(helpfulness=score, correctness=other, verbosity=score), model)
    assert list(recipes["raft"]["criteria"]) == [*ASPECTS]
    assert recipes["raft"]["columns"] == {"instruction": "prompt", "response": "response"}
    rows = loaded(recipes)
    assert len(rows["score"]) == 3 * 48 and all("###Score Rubrics:" in prompt for prompt in rows["prompt"])
    assert "taken as criteria of their own" in Path("judge/README.md").read_text()


def test_stated_ones_with_their_rubrics(model):
    data = file(kind=score, deep=other, rubric=lambda *_: "Is it good?")
    recipes = recipes_of(data, model, "--criterion", "kind=Is it kind = friendly?", "--criterion", "deep")
    assert recipes["evaluate"]["criteria"] == {
        "kind": "Is it kind = friendly?",
        "deep": "Deep: how good is the response in this alone?",
    }
    assert "rubric" not in recipes["raft"]["columns"]  # whose place that of the criterion takes
    assert "taken as criteria" not in Path("judge/README.md").read_text()


def test_epochs_are_of_what_is_trained_on(model):
    one = recipes_of(file(kind=score), model, "--criterion", "kind")["raft"]["num_train_epochs"]
    Path("judge").rename("first")
    many = {f"kind{i}x": score for i in range(12)}
    options = [part for name in many for part in ("--criterion", name)]
    assert recipes_of(file(**many), model, *options)["raft"]["num_train_epochs"] < one


def test_with_rationales_it_is_a_judge_that_reasons(model):
    comment = {"comment": lambda row, number: row["comment"]}
    recipes = recipes_of(file(helpfulness=score, correctness=other, **comment), model)
    assert set(recipes) == {"raft", "real", "evaluate"}
    assert {recipe["prompt_template"] for recipe in recipes.values()} == {"feedback_collection"}
    assert all(list(recipe["criteria"]) == ["helpfulness", "correctness"] for recipe in recipes.values())
    assert recipes["raft"]["feedback_column"] == "comment" and len(loaded(recipes)["score"]) == 96


def test_a_row_for_each_rating(model):
    rows = [
        {
            "question": row["question"],
            "answer": row["answer"],
            "annotator": who,
            "fluency": row["score"],
            "relevance": 3,
        }
        for row in sheet()
        for who in ("ann", "bob")
    ]
    recipes = recipes_of(str(write_jsonl(Path("rows.jsonl"), rows)), model)
    assert list(recipes["raft"]["criteria"]) == ["fluency", "relevance"]
    assert len(loaded(recipes)["score"]) == 2 * 48
    written = json.loads(Path("judge/data/train.jsonl").read_text().splitlines()[0])
    assert written["relevance"] == [3, 3]


def test_raters_are_said_to_be_raters(model):
    options = ("--score", "helpfulness,correctness")
    recipes = recipes_of(file(helpfulness=score, correctness=lambda *_: 2), model, *options)
    assert recipes["raft"]["score_column"] == ["helpfulness", "correctness"] and "criteria" not in recipes["raft"]
    readme = Path("judge/README.md").read_text()
    assert "are taken as raters of one score, whose mean is learnt (on average helpfulness" in readme
    assert "correctness 2.00). If they are criteria of their own: --criterion helpfulness --criterion corr" in readme


def test_numbered_raters_need_no_word(model):
    recipes_of(file(rater_1=score, rater_2=other), model)
    assert "taken as raters" not in Path("judge/README.md").read_text()


def test_scales_that_differ_are_said(model):
    recipes_of(file(helpfulness=score, correctness=lambda row, number: number % 2), model)
    assert "their highest scores differ (helpfulness 5, correctness 1)" in Path("judge/README.md").read_text()


def test_what_is_said_twice_is_refused(capsys, model):
    data = file(kind=score, deep=other)
    for option, value in {"--score": "kind", "--rubric": "kind", "--criteria": "Is it good?"}.items():
        text = refused(capsys, data, "--criterion", "deep", option, value)
        assert f"{option}: got {value!r} beside --criterion 'deep'" in text
    assert "is there twice" in refused(capsys, data, "--criterion", "kind", "--criterion", "kind=Is it?")
    assert "--criterion='kindd' is not a column" in refused(capsys, data, "--criterion", "kindd=Is it?")
    text = refused(capsys, data)
    assert "or for one per criterion --criterion COLUMN" in text
    rows = [{"prompt": row["question"] + row["answer"], "kind": row["score"]} for row in sheet()]
    text = refused(capsys, str(write_jsonl(Path("whole.jsonl"), rows)), "--criterion", "kind")
    assert "prompts are complete (in the column 'prompt'), and have no place for the rubric" in text


def test_names():
    assert usual_criteria(["score_fluency", "Relevance", "annotations.helpfulness"])
    assert not usual_criteria(["fluency"]) and not usual_criteria(["fluency", "upvotes"])
    assert default_rubric("by.instruction_following").startswith("Instruction following: does the response do all")
