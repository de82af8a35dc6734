# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl init` on files as people have them: without an edit, to recipes whose data are what the files say."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import huggingface_hub
import pytest
import yaml

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.scale import Scale
from real_trl.scripts import evaluate, sft
from real_trl.scripts.init import main
from tests.onboarding import files


def two_thirds_up(score: int, number: int) -> list[float]:
    return [min(5, max(1, score + who - 1)) for who in range(4) if who != number % 4]


def gaps(score: int, number: int) -> list[float]:
    return {0: [score], 4: [min(5, score + 1)]}.get(number % 8, [score, min(5, score + 1)])


# File → seed of its rows, and the ratings of the row with this number and score
SHAPES: dict[str, tuple[int, Callable[[int, int], list[float]]]] = {
    "excel": (3, lambda score, number: [min(5, score + number % 2 / 2)]),
    "tabs": (4, lambda score, number: [score]),
    "semicolons": (5, lambda score, number: [max(1, score - 0.5), *([score] if number % 6 else [])]),
    "label_studio": (6, lambda score, number: [score, *[min(5, score + 1)] * (1 + number % 2)]),
    "argilla": (7, lambda score, number: [score, *([max(1, score - 1)] if number % 3 else [])]),
    "conversations": (8, lambda score, number: [score]),
    "prompts_and_completions": (9, lambda score, number: [score]),
    "ratings_in_rows": (10, two_thirds_up),
    "label_studio_small": (14, lambda score, number: [score, min(5, score + 1)]),
    "argilla_flat": (15, lambda score, number: [score]),
    "grades": (11, lambda score, number: [6 - score]),
    "gaps": (13, lambda score, number: gaps(score, number)),
}
OPTIONS = {"grades": ("--score_labels", "6-1"), "gaps": ("--na", "N/A")}  # which nobody can know


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(files.write_model(tmp_path_factory.mktemp("model")))


def recipes_of(file: Path | str, model: str, *options: str) -> dict[str, dict]:
    main([str(file), "--model", model, "--output_dir", "judge", "--yes", *options])
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path("judge").glob("*.yaml"))}


def loaded(recipes: dict[str, dict], **options: object) -> dict[str, list]:
    """All rows of the evaluation's data, column by column, on the scale of the training."""
    data = {key: value for key, value in recipes["evaluate"].items() if key in DataArguments.__dataclass_fields__}
    trained = next(recipe for recipe in recipes.values() if "score_labels" in recipe)
    scale = Scale.parse(trained["score_labels"], trained.get("score_values"))
    columns: dict[str, list] = {"prompt": [], "score": [], "split": []}
    for split in ("train", "validation", "test"):
        rows = load_judge_dataset(DataArguments(**data | options), split, scale=scale)
        columns["prompt"] += rows["prompt"][:]
        columns["score"] += rows["score"][:]
        columns["split"] += [split] * len(rows)
    return columns


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_as_people_have_it(tmp_path, monkeypatch, model, shape):
    monkeypatch.chdir(tmp_path)
    seed, ratings = SHAPES[shape]
    data = loaded(recipes_of(getattr(files, shape)(tmp_path), model, *OPTIONS.get(shape, ())))
    expected = {}
    for number, row in enumerate(files.sheet(seed=seed)):
        given = ratings(row["score"], number)
        expected.setdefault((row["question"], row["answer"]), []).append(sum(given) / len(given))
    assert len(data["prompt"]) == sum(map(len, expected.values())) == 48
    assert set(data["split"]) == {"train", "validation", "test"}
    for (question, answer), scores in expected.items():
        found = [
            score
            for prompt, score in zip(data["prompt"], data["score"], strict=True)
            if question in prompt and f"\n{answer}\n" in prompt
        ]
        assert sorted(found) == pytest.approx(sorted(scores))


def train(recipes: dict[str, dict]) -> None:
    """What the written commands do, but for the number of steps."""
    assert set(recipes) == {"raft", "evaluate"}
    sft.main(["--config", "judge/raft.yaml", "--max_steps", "2"])
    evaluate.main(["--config", "judge/evaluate.yaml", "--num_resamples", "100"])
    config = json.loads(Path(recipes["raft"]["output_dir"], "judge_config.json").read_text())
    assert config["rationale"] is False
    results = json.loads(Path(recipes["evaluate"]["output_dir"], "evaluation.json").read_text())
    (judged,) = results["results"]["test"].values()
    assert judged["n_rows"] == results["datasets"]["test"]["n_rows"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_as_people_have_it_trains_a_judge(tmp_path, monkeypatch, model, shape):
    monkeypatch.chdir(tmp_path)
    train(recipes_of(getattr(files, shape)(tmp_path), model, *OPTIONS.get(shape, ())))


@pytest.mark.slow
def test_a_dataset_on_the_hub_trains_a_judge(hub, model):
    train(recipes_of(hub, model))


def test_two_controls_of_label_studio_are_two_criteria(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    recipes = recipes_of(files.label_studio_criteria(tmp_path), model)
    assert list(recipes["raft"]["criteria"]) == ["annotations.result.helpfulness", "annotations.result.fluency"]
    data = loaded(recipes)
    assert len(data["prompt"]) == 2 * 48
    sheet = files.sheet(seed=16)
    expected = [(row["score"] + min(5, row["score"] + 1)) / 2 for row in sheet] + [3] * 48
    assert sorted(data["score"]) == sorted(expected)
    train(recipes)


def test_comments_of_annotators_are_the_rationales_of_their_ratings(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    recipes = recipes_of(files.label_studio(tmp_path), model, "--feedback", "annotations.result.why")
    raft = recipes["raft"]
    assert (raft["feedback_column"], raft["raters"]) == ("annotations.result.why", "separate")
    data = {key: value for key, value in raft.items() if key in DataArguments.__dataclass_fields__}
    rows = load_judge_dataset(DataArguments(**data), scale=Scale.parse("1-5"), require_feedback=True)
    given = {(row["feedback"][-2], row["score"]) for row in rows}
    assert {who for who, _ in given} == {"1", "2", "3"} and len(rows) > 2 * 20


def test_comments_that_all_say_the_same_are_no_rationales(tmp_path, monkeypatch, model, capsys):
    monkeypatch.chdir(tmp_path)
    file = files.label_studio(tmp_path)
    tasks = json.loads(file.read_text())
    for task in tasks:
        for annotation in task["annotations"]:
            annotation["result"][1]["value"]["text"] = ["ok answer"]
    for control in ("why", "comment"):
        file.write_text(json.dumps(tasks).replace('"why"', f'"{control}"'))
        capsys.readouterr()
        recipes = recipes_of(file, model, *(("--feedback", "annotations.result.why") if control == "why" else ()))
        said = " ".join(capsys.readouterr().out.split())
        # Of two or three raters of each of 48 rows
        assert "120 of 120 rationales (100%) are one and the same text ('ok answer')" in said
        direct = set(recipes) == {"raft", "evaluate"}
        assert direct == (
            "A direct judge: of 'annotations.result.comment', which would be the rationales, 120 of 120" in said
        )
        assert direct == (control == "comment")  # which nobody named
        shutil.rmtree("judge")


def test_a_scale_where_1_is_the_best(tmp_path, monkeypatch, model, capsys):
    monkeypatch.chdir(tmp_path)
    recipes = recipes_of(files.grades(tmp_path), model, "--score_labels", "6-1")
    assert all(recipe.get("score_labels", "6-1") == "6-1" for recipe in recipes.values())
    assert "6-1, of which 1 is the best" in " ".join(capsys.readouterr().out.split())
    data = loaded(recipes)
    assert set(data["score"]) == {1, 2, 3, 4, 5}  # as they are written
    assert all("a reference answer that gets a score of 1, and" in prompt for prompt in data["prompt"])
    assert all(
        "an integer between 1 and 6, of which 1 is the best and 6 the worst" in prompt for prompt in data["prompt"]
    )


@pytest.fixture
def hub(tmp_path, monkeypatch) -> str:
    """The id of a dataset that was loaded from the Hub before, on a machine without a network."""
    local = tmp_path / "scores"
    local.mkdir()
    rows = [
        {"question": row["question"], "answer": row["answer"], "score": row["score"]} for row in files.sheet(seed=12)
    ]
    files.write_jsonl(local / "train.jsonl", rows[:36])
    files.write_jsonl(local / "test.jsonl", rows[36:])
    datasets.load_dataset(str(local), cache_dir=str(tmp_path / "cache"))
    (tmp_path / "cache" / "scores").rename(tmp_path / "cache" / "people___scores")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for settings in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(settings, "HF_HUB_OFFLINE", True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return "people/scores"


def test_a_dataset_on_the_hub(hub, model, capsys):
    recipes = recipes_of(hub, model)
    assert "people/scores" in capsys.readouterr().out and "people/scores" in Path("judge", "README.md").read_text()
    data = loaded(recipes)
    assert len(data["prompt"]) == 48 and data["split"].count("test") == 12
    sheet = files.sheet(seed=12)
    held_out = {row["question"] for row in sheet[36:]}
    assert all(
        any(q in prompt for q in held_out) == (split == "test")
        for prompt, split in zip(data["prompt"], data["split"], strict=True)
    )


def test_a_dataset_that_cannot_be_reached_is_said_to_be_so(hub, model, capsys):
    for name, options, message in (
        (
            "people/others",
            (),
            "'people/others' is neither an existing file or directory nor a dataset that can be reached on the Hub",
        ),
        ("people/scores", ("--dataset_config", "main"), "dataset_config='main'"),
        (
            "../scores",
            ("--dataset_config", "main"),
            "--dataset_config: got 'main', but '../scores' is a file or folder",
        ),
        ("people/others.csv", (), "no such file"),
        ("others", (), "no such file. Give a file of scored responses"),
    ):
        with pytest.raises(SystemExit) as status:
            main([name, "--model", model, "--output_dir", "judge", *options])
        assert status.value.code == 2 and message in capsys.readouterr().err
