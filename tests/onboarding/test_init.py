# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl init` on files of different shapes: recipes that train, or an error that says what to fix."""

import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from rich.console import Console
from transformers import LlamaConfig

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.evaluation.cross_fitting import MIN_ROWS
from real_trl.onboarding import InitOptions, inspection, open_project, sizing
from real_trl.onboarding.splits import divide
from real_trl.option_values import as_mapping
from real_trl.planning.memory import plan_memory
from real_trl.planning.recipe import Lengths, make_setup, read_recipe
from real_trl.planning.setup import Cluster, Sharding
from real_trl.prompts.template import load_template
from real_trl.scale import Scale
from real_trl.scripts import evaluate, rl, sft
from real_trl.scripts.init import main, make_parser, open_with_questions
from tests.onboarding.files import (
    PLACES,
    comments_csv,
    hollow_csv,
    mixed_csv,
    prompts_parquet,
    raters_jsonl,
    sheet,
    write_csv,
    write_jsonl,
    write_model,
)


@pytest.fixture(autouse=True)
def project_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_model(tmp_path_factory.mktemp("model")))


def init(file: Path, model: str, *options: str) -> dict[str, dict]:
    main([str(file), "--model", model, "--output_dir", "judge", *options])
    return {path.stem: yaml.safe_load(path.read_text()) for path in sorted(Path("judge").glob("*.yaml"))}


def refused(capsys: pytest.CaptureFixture, *argv: str) -> str:
    before = set(Path().iterdir())
    with pytest.raises(SystemExit) as status:
        main([*argv, "--output_dir", "judge"])
    assert status.value.code == 2
    assert set(Path().iterdir()) == before  # nothing is left behind
    return capsys.readouterr().err


def rows(split: str) -> list[dict]:
    return [json.loads(line) for line in Path("judge", "data", f"{split}.jsonl").read_text().splitlines()]


def train(recipes: dict[str, dict], *, steps: int = 2) -> dict:
    """Run the recipes as they are, a few steps each, and return the evaluation."""
    sft.main(["--config", "judge/raft.yaml", "--max_steps", str(steps)])
    if "real" in recipes:
        # After so few steps a judge shows no scores yet
        untrained = ["--preflight_scored_rate", "0", "--max_steps_without_signal", "0"]
        rl.main(["--config", "judge/real.yaml", "--max_steps", str(steps), *untrained])
    evaluate.main(["--config", "judge/evaluate.yaml", "--num_resamples", "100"])
    for stage in recipes.keys() & {"raft", "real"}:
        state = json.loads(Path("judge", "outputs", stage, "trainer_state.json").read_text())
        assert state["global_step"] == steps
    return json.loads(Path("judge", "outputs", "evaluation", "evaluation.json").read_text())


def test_a_file_about_one_task_is_split_by_its_responses(tmp_path, model, capsys):
    answers = [f"Answer {number // 2}." for number in range(40)]  # each twice
    data = write_csv(tmp_path / "data.csv", table(question=["Same?"] * 40, answer=answers, score=[1, 2, 3, 4] * 10))
    main([str(data), "--model", model, "--output_dir", "judge", "--yes"])
    assert "All rows are about one task" in " ".join(capsys.readouterr().out.split())
    sides = [{row["answer"] for row in rows(split)} for split in ("train", "validation", "test")]
    assert sum(len(side) for side in sides) == 20 and all(sides)


def test_a_csv_with_comments_trains(tmp_path, model, capsys):
    recipes = init(comments_csv(tmp_path), model)
    assert set(recipes) == {"raft", "real", "evaluate"}
    raft, real = recipes["raft"], recipes["real"]
    assert (raft["score_column"], raft["feedback_column"], raft["score_labels"]) == ("rating", "comment", "1-5")
    assert raft["columns"] == {"instruction": "instruction", "response": "response"}
    assert raft["dataset_train_split"] == "train_rationales" and real["dataset_train_split"] == "train"
    assert real["model_name_or_path"] == raft["output_dir"]
    assert all(row["comment"] for row in rows("train_rationales")) and not all(row["comment"] for row in rows("train"))
    shown = capsys.readouterr().out
    commands = [
        f"real-trl {stage} --config judge/{name}.yaml"
        for stage, name in (("sft", "raft"), ("rl", "real"), ("evaluate",) * 2)
    ]
    readme = Path("judge", "README.md").read_text()
    for text in (shown, readme):
        assert [line.strip() for line in text.splitlines() if line.strip() in commands] == commands
        assert re.search(
            r"Time: raft .* updates of .*; real .*; evaluate .* Measured on this machine", " ".join(text.split())
        )
    evaluation = train(recipes, steps=1)
    assert evaluation["datasets"]["test"]["n_rows"] == len(rows("test"))
    assert evaluation["datasets"]["test"]["n_groups"] == len({row["group"] for row in rows("test")})


@pytest.mark.slow
def test_a_jsonl_with_three_raters_trains(tmp_path, model):
    evaluation = train(init(raters_jsonl(tmp_path), model))
    assert evaluation["ceiling"]["test"]  # agreement between the raters


@pytest.mark.slow
def test_a_parquet_with_complete_prompts_trains(tmp_path, model):
    evaluation = train(init(prompts_parquet(tmp_path), model))
    assert evaluation["datasets"]["test"]["labels"][-1] == "10"


@pytest.mark.slow
def test_rationales_of_each_rater_train(tmp_path, model):
    data = [
        {
            "question": row["question"],
            "answer": row["answer"],
            "score_a": row["score"],
            "score_b": max(1, row["score"] - 1),
            "comment_a": row["comment"],
            "comment_b": "It is worse.",
        }
        for row in sheet()
    ]
    recipes = init(write_jsonl(tmp_path / "two.jsonl", data), model)
    assert (recipes["raft"]["raters"], recipes["real"]["raters"]) == ("separate", "mean")
    assert recipes["raft"]["feedback_column"] == ["comment_a", "comment_b"]
    train(recipes)


def test_raters_rubrics_and_half_points_are_found(tmp_path, model):
    recipes = init(raters_jsonl(tmp_path), model)
    raft, evaluation = recipes["raft"], recipes["evaluate"]
    assert set(recipes) == {"raft", "evaluate"} and raft["model_name_or_path"] == model
    assert raft["score_column"] == ["annotator_1", "annotator_2", "annotator_3"] and raft["raters"] == "mean"
    assert raft["rationale"] is False and raft["dataset_train_split"] == "train" and "feedback_column" not in raft
    assert raft["prompt_template"] == evaluation["prompt_template"] == "direct"
    assert raft["columns"] == {"instruction": "query", "response": "model_answer", "rubric": "criteria"}
    assert raft["score_labels"] == "1-5:0.5"
    assert evaluation["model_name_or_path"] == raft["output_dir"] and "max_new_tokens" not in evaluation
    readme = Path("judge", "README.md").read_text()
    assert "A direct judge: the file has no column with rationales" in readme
    assert "real-trl sft --config judge/raft.yaml\nreal-trl evaluate --config judge/evaluate.yaml" in readme


def test_complete_prompts_fractions_and_leaking_splits_are_found(tmp_path, model):
    raft = init(prompts_parquet(tmp_path), model)["raft"]
    assert (raft["prompt_column"], raft["prompt_score_reminder"], raft["score_column"]) == (
        "prompt",
        True,
        "mean_score",
    )
    assert raft["score_labels"] == "1-10"
    # A squared error is (9/4)² times that on 1-5
    assert raft["regression_weight"] == pytest.approx(16 / 81, abs=1e-5)
    topics = {split: {row["topic_id"] for row in rows(split)} for split in ("train", "validation", "test")}
    assert topics["test"] == {0, 1, 2} and 0 not in topics["train"]
    assert not topics["train"] & topics["validation"]
    assert sum(len(rows(split)) for split in topics) == 55  # the row that leaks is in none
    readme = Path("judge", "README.md").read_text()
    assert "1 of the rows are about questions" in readme
    assert "a sentence that new ones need as well: `Please think step by step, and at the very end write" in readme


@pytest.mark.parametrize("file", [comments_csv, raters_jsonl, prompts_parquet])
def test_no_question_and_no_duplicate_is_on_two_sides(tmp_path, model, file: Callable[[Path], Path]):
    recipes = init(file(tmp_path), model)
    data = {key: value for key, value in recipes["raft"].items() if key in DataArguments.__dataclass_fields__}
    scale = Scale.parse(recipes["raft"]["score_labels"])
    seen: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        loaded = load_judge_dataset(DataArguments(**data), split, scale=scale)
        assert len(loaded)
        for name in ("group", "prompt"):
            for value in loaded[name]:
                assert seen.setdefault(" ".join(value.split()), split) == split


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (mixed_csv, r"numbers and text are mixed: 'good' in row 3 (line 10), '4/5' in row 10"),
        (hollow_csv, "'answer' is empty in 2 rows: row 2 (line 9), row 7 (line"),
        (lambda folder: hollow_csv(folder, constant=True), "all 48 scores are 3, so there is nothing to learn"),
    ],
)
def test_broken_files_are_explained(tmp_path, capsys, file, message):
    assert message in refused(capsys, str(file(tmp_path)))


def table(**columns: list) -> list[dict]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


QUESTIONS = [f"Question {number}?" for number in range(30)]
ANSWERS = [f"Answer {number}." for number in range(30)]


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (table(question=QUESTIONS, answer=ANSWERS), (), "no column with numbers that could be a score"),
        (table(question=QUESTIONS, answer=ANSWERS, id=list(range(30))), (), "no column with numbers that could be a score"),
        (table(question=QUESTIONS, answer=ANSWERS, clarity=[1, 2] * 15, depth=[2, 1] * 15), (), "'clarity', 'depth' could be the score"),
        (table(question=QUESTIONS, answer=ANSWERS, score=[-5, 1000] * 15), (), "from -5 to 1000"),
        (table(question=QUESTIONS, answer=ANSWERS, score=[1, 6] * 15), ("--score_labels", "1-5"), "outside the scale 1, 2, 3, 4, 5: '6' in row 1"),
        (table(question=QUESTIONS, answer=ANSWERS, score=["meh", "wow"] * 15), (), "list them from worst to best: --score_labels meh,wow"),
        (table(question=QUESTIONS, answer=ANSWERS, score=[""] * 30), ("--score", "score"), "score column 'score': every cell is empty"),
        (table(question=QUESTIONS[:5], answer=ANSWERS[:5], score=[1, 2, 3, 4, 5]), (), "5 usable rows, of 5; there must be at least 10"),
        (table(question=["Same?"] * 30, answer=["a", "b"] * 15, score=[1, 2] * 15), (), "2 different questions (by answer)"),
        (table(a=QUESTIONS, b=ANSWERS, score=[1, 2] * 15), (), "--response: no column"),
        (table(a=QUESTIONS, answer=ANSWERS, score=[1, 2] * 15), (), "--instruction: no column"),
        (table(question=QUESTIONS, answer=ANSWERS, score=[1, 2] * 15), ("--group", "topic"), "--group='topic' is not a column"),
        (table(question=QUESTIONS, answer=ANSWERS, score=[1, 2] * 15), ("--score_labels", "1-1"), "--score_labels: score_labels='1-1' is not a scale"),
        (table(question=QUESTIONS, answer=ANSWERS, score=[1, 2] * 15), ("--gpus", "many"), "--gpus: got 'many'"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_the_fix(tmp_path, capsys, data, options, message):
    assert message in refused(capsys, str(write_csv(tmp_path / "data.csv", data)), *options)


def said_by(speaker: str, texts: list[str]) -> list[list[dict]]:
    asked = {"role": "user", "content": "Why?"}
    return [[asked, {"role": speaker, "content": text}] for text in texts]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (table(prompt=QUESTIONS, chosen=ANSWERS, rejected=ANSWERS[::-1]), "pair_columns: [chosen, rejected]; columns: {instruction: prompt}"),
        (table(prompt=QUESTIONS, chosen=ANSWERS, rejected=ANSWERS[::-1], margin=[1, 2] * 15), "pair_columns: [chosen, rejected]; columns: {instruction: prompt}"),
        (table(q=QUESTIONS, response_chosen=ANSWERS, response_rejected=ANSWERS, score_chosen=[1, 2] * 15), "pair_columns: [response_chosen, response_rejected]; columns: {instruction: COLUMN}"),
        (table(instruction=QUESTIONS, Response_A=ANSWERS, Response_B=ANSWERS[::-1], Winner=["A", "B"] * 15), "pair_columns: [Response_A, Response_B]; preference_column: Winner; columns: {instruction: instruction}"),
        (table(prompt=QUESTIONS, output_1=ANSWERS, output_2=ANSWERS[::-1], preference=[1, 2] * 15), "pair_columns: [output_1, output_2]; preference_column: preference; columns"),
        (table(chosen=said_by("assistant", ANSWERS), rejected=said_by("assistant", ANSWERS[::-1])), "pair_columns: [chosen.response, rejected.response]; columns: {instruction: chosen.instruction}"),
    ],
    ids=["chosen", "margin", "names", "winner", "numbers", "conversations"],
)  # fmt: skip
def test_preferences_are_known_and_lead_to_their_recipe(tmp_path, capsys, data, lines):
    said = " ".join(refused(capsys, str(write_jsonl(tmp_path / "pairs.jsonl", data))).split())
    assert "pairs.jsonl' holds preferences and no scores: " in said and f"in both recipes write {lines}" in said
    assert "docs/your-data.md has them complete (Preferences in place of scores)" in said
    page = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text(encoding="utf-8")
    assert "## Preferences in place of scores" in page


def test_two_responses_do_not_make_preferences(tmp_path, capsys):
    data = table(question=QUESTIONS, answer=ANSWERS, rejected=ANSWERS, chosen=ANSWERS, score=[1, 2, 3] * 10)
    options = InitOptions(str(write_jsonl(tmp_path / "scored.jsonl", data)), "judge", "nowhere/to-be-found")
    assert open_project(options).plan.roles.scores == ["score"]
    data = table(question=QUESTIONS, answer_a=ANSWERS, answer_b=ANSWERS[::-1], score=[1, 2, 3] * 10)
    file = str(write_jsonl(tmp_path / "two.jsonl", data))
    assert "--response: no column" in refused(capsys, file)
    plan = open_project(InitOptions(file, "judge", "nowhere/to-be-found", {"response": "answer_a"})).plan
    assert (plan.roles.response, plan.roles.scores) == ("answer_a", ["score"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", b'question,answer,score\n"a,b,3\n', "not valid CSV"),
        ("data.csv", b"question,answer,score\na,b\n", "2 values for the 3 columns"),
        (
            "data.csv",
            b"question,answer,score\n\xe4,\x81,3\n",
            "neither UTF-8 text at byte 22 (line 2) nor Windows-1252 at byte 24",
        ),
        ("data.csv", b"", "it has no rows"),
        ("data.xlsx", b"PK", "not a valid .xlsx file"),
        ("data.ods", b"PK", "the extension '.ods' is not one of"),
        ("data.parquet", b"PAR1", "not a valid Parquet file"),
    ],
)
def test_unreadable_files_are_named(tmp_path, capsys, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert message in refused(capsys, name)
    assert "no such file" in refused(capsys, "missing.csv")


def scored(column, feature=None):
    """A dataset of thirty scored answers, whose scores are of this feature or Arrow type."""
    if feature is None:
        return pa.table({"question": QUESTIONS, "answer": ANSWERS, "score": column})
    features = Features({"question": Value("string"), "answer": Value("string"), "score": feature})
    return Dataset.from_dict({"question": QUESTIONS, "answer": ANSWERS, "score": column}, features=features)


CLASSES = scored(["5", "4", "1"] * 10, ClassLabel(names=["5", "4", "3", "2", "1"]))
WORDS = scored(["good", "fair", "poor"] * 10, ClassLabel(names=["good", "fair", "poor"]))


@pytest.mark.parametrize(
    ("data", "labels", "values"),
    [
        (CLASSES, "1-5", [5, 4, 1]),
        (WORDS, ["poor", "fair", "good"], [3, 2, 1]),
        (scored([Decimal("5.0"), Decimal("4.0"), Decimal("1.0")] * 10), "1-5", [5, 4, 1]),
        (scored(pa.array(["5", "4", "1"] * 10).dictionary_encode()), "1-5", [5, 4, 1]),
        (scored(pa.array([4.5, 3.5, 1] * 10, pa.float32())), "1-5:0.5", [4.5, 3.5, 1]),
    ],
    ids=["classes", "words of classes", "decimals", "dictionary", "single precision"],
)
def test_scores_are_what_the_column_says(tmp_path, model, data, labels, values):
    pq.write_table(data if isinstance(data, pa.Table) else data.data.table, tmp_path / "data.parquet")
    raft = init(tmp_path / "data.parquet", model)["raft"]
    assert raft["score_labels"] == labels
    scale = Scale.parse(labels, raft.get("score_values"))
    arguments = DataArguments("judge/data", prompt_column="answer", score_column="score")
    for split in ("train", "validation", "test"):
        for row in load_judge_dataset(arguments, split, scale=scale):
            assert row["score"] == values[ANSWERS.index(row["prompt"]) % 3]


def test_datasets_that_were_saved(tmp_path, model):
    CLASSES.save_to_disk(tmp_path / "one")
    assert init(tmp_path / "one", model)["raft"]["score_labels"] == "1-5"
    assert {row["score"] for row in rows("train")} == {"5", "4", "1"}
    shutil.rmtree("judge")
    DatasetDict(train=WORDS.select(range(20)), test=WORDS.select(range(20, 30))).save_to_disk(tmp_path / "two")
    assert init(tmp_path / "two", model)["raft"]["score_labels"] == ["poor", "fair", "good"]
    assert {row["answer"] for row in rows("test")} == set(ANSWERS[20:])


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (scored(["bad", "great"] * 15, ClassLabel(names=["bad", "great"])), (), "(a ClassLabel of the names bad, great): it holds no numbers"),
        (scored(["bad", "great"] * 15, ClassLabel(names=["great", "bad"])), (), "--score_labels great,bad"),
        (scored(["0", "9"] * 15, ClassLabel(names=["0", "9"])), ("--score_labels", "1-5"), "(a ClassLabel of the names 0, 9): outside the scale 1, 2, 3, 4, 5: '0' in row 0, '9' in row 1"),
        (scored([True, False] * 15), (), "30 of its cells hold true or false, which is no score"),
        (scored([True, False] * 15), ("--score_labels", "False,True"), "30 of its cells hold true or false"),
        (scored([Decimal(1), None] * 15), (), "'score' is empty in 15 rows: row 1, row 3"),
    ],
)  # fmt: skip
def test_scores_that_are_none_are_named(tmp_path, capsys, data, options, message):
    pq.write_table(data if isinstance(data, pa.Table) else data.data.table, tmp_path / "data.parquet")
    assert message in refused(capsys, "data.parquet", *options)


def test_half_a_character_is_replaced(tmp_path, model):
    data = [
        {"question": f"\ud83d {place}", "answer": f"\ude00 {i}", "score": 1 + i % 5}
        for i, place in enumerate(QUESTIONS)
    ]
    init(write_jsonl(tmp_path / "data.jsonl", data), model)
    written = [row for split in ("train", "validation", "test") for row in rows(split)]
    assert len(written) == 30 and all(row["question"].startswith("\ufffd ") for row in written)


def test_a_folder_that_is_there_is_left_alone(tmp_path, model, capsys):
    init(comments_csv(tmp_path), model)
    before = {path: path.read_bytes() for path in Path("judge").rglob("*") if path.is_file()}
    assert "not empty" in refused(capsys, "comments.csv", "--model", model)
    assert {path: path.read_bytes() for path in Path("judge").rglob("*") if path.is_file()} == before


def test_incomplete_rows_are_left_out_when_asked(tmp_path, model):
    init(hollow_csv(tmp_path), model, "--drop_incomplete", "--criteria", "Are the {{sums}} right?")
    assert sum(len(rows(split)) for split in ("train", "validation", "test")) == 46
    assert "2 rows with an empty score, prompt or response were left out" in Path("judge", "README.md").read_text()
    data = DataArguments(
        "judge/data", prompt_template="judge/prompt.jinja", columns={"instruction": "question", "response": "answer"}
    )
    prompt = load_judge_dataset(data, "test", scale=Scale.parse("1-5"))["prompt"][0]
    assert "Are the {{sums}} right?" in prompt and "between 1 and 5" in prompt


def test_decimal_commas_beside_texts_that_mean_missing(tmp_path, model, capsys):
    file = tmp_path / "noten.csv"
    scores = ["3,5", "n/a", "1,5", "4", "2,5"] * 6
    lines = [";".join(cells) for cells in zip(QUESTIONS, ANSWERS, scores, strict=True)]
    file.write_text("\n".join(["question;answer;score", *lines]) + "\n")
    raft = init(file, model, "--na", "n/a", "--drop_incomplete", "--score_labels", "1-5:0.5")["raft"]
    assert raft["score_labels"] == "1-5:0.5"
    assert "decimal commas are read as points in 'score'" in " ".join(Path("judge", "README.md").read_text().split())
    shutil.rmtree("judge")
    said = " ".join(refused(capsys, str(file), "--model", model, "--score_labels", "1-5:0.5").split())
    assert "outside the scale" in said and "If '3,5' is 3.5, with a decimal comma" in said


def test_ratings_that_some_raters_did_not_give(tmp_path, model, capsys):
    data = table(question=QUESTIONS, answer=ANSWERS, rater_1=[1, 2, 3, 4, 5] * 6, rater_2=[2, "N/A", 3, 5, 4] * 6)
    data[7]["rater_1"] = "N/A"  # beside one of the other's
    file = write_csv(tmp_path / "gaps.csv", data)
    assert "--na N/A" in refused(capsys, str(file))
    said = " ".join(refused(capsys, str(write_gap(file, data)), "--na", "N/A").split())
    assert (
        "no rater gave a score in 1 rows: row 6 (line 8) ('rater_1' is empty in 2, 'rater_2' is empty in 6: a row with"
        in said
    )
    raft = init(file, model, "--na", "N/A", "--na", "-", "--drop_incomplete")["raft"]
    assert raft["score_column"] == ["rater_1", "rater_2"]
    arguments = DataArguments("judge/data", prompt_column="answer", score_column=raft["score_column"])
    scores = {}
    for split in ("train", "validation", "test"):
        loaded = load_judge_dataset(arguments, split, scale=Scale.parse("1-5"))
        scores |= dict(zip(loaded["prompt"], loaded["score"], strict=True))
    assert len(scores) == 29 and "Answer 6." not in scores
    assert (scores["Answer 0."], scores["Answer 1."], scores["Answer 7."]) == (1.5, 2, 3)
    readme = " ".join(Path("judge", "README.md").read_text().split())
    assert (
        "6 rows have fewer than 2 ratings ('rater_1' is empty in 1, 'rater_2' is empty in 5): the score is" in readme
    )


def test_rows_that_no_criterion_scores_are_counted_by_criterion(tmp_path, capsys):
    data = table(question=QUESTIONS, answer=ANSWERS, helpfulness=[1, "", 3] * 10, correctness=[2, "", ""] * 10)
    said = refused(capsys, str(write_csv(tmp_path / "criteria.csv", data)))
    assert "there is no score by any criterion in 10 rows: row 1 (line 3)" in said
    assert "('helpfulness' is empty in 10, 'correctness' is empty in 20: " in said


def rated_rows(comment: bool) -> list[dict]:
    """Each answer rated by three of four people, in a row each."""
    rows = []
    for number, row in enumerate(sheet()):
        for who in range(4):
            if who != number % 4:
                score = min(5, max(1, row["score"] + who - 1))
                rows.append({"worker_id": who, "question": row["question"], "answer": row["answer"], "score": score})
                if comment:
                    rows[-1]["comment"] = f"{row['comment']} {score}, I would say."
    return rows


@pytest.mark.parametrize("comment", [False, True])
def test_a_row_for_each_rating(tmp_path, model, capsys, comment):
    data = rated_rows(comment)
    recipes = init(write_csv(tmp_path / "rated.csv", data), model)
    shown = " ".join(capsys.readouterr().out.split())
    written = [row for split in ("train", "validation", "test") for row in rows(split)]
    items = {(row["question"], row["answer"]) for row in data}
    assert len(written) == len(items) and f"{len(data)} rows are about {len(items)} responses" in shown
    arguments = DataArguments("judge/data", prompt_column="answer", score_column="score")
    expected = pd.DataFrame(data).groupby(["question", "answer"])["score"].mean()
    for split in ("train", "validation", "test"):
        loaded = load_judge_dataset(arguments, split, scale=Scale.parse("1-5"), keep_ratings=True)
        for row, own, ratings in zip(rows(split), loaded["score"], loaded["ratings"], strict=True):
            assert own == pytest.approx(expected[row["question"], row["answer"]])
            assert len(ratings) == 4 and ratings.count(None) == 1
    assert ("real" in recipes) == comment and recipes["raft"]["raters"] == ("separate" if comment else "mean")


def test_a_rater_column_is_not_always_one(tmp_path, model):
    data = [{**row, "annotator": number % 3} for number, row in enumerate(sheet())]
    file = str(write_csv(tmp_path / "one.csv", data))
    assert open_project(InitOptions(file, "judge", model)).plan.roles.rater is None
    file = str(write_csv(tmp_path / "rated.csv", rated_rows(False)))
    assert open_project(InitOptions(file, "judge", model, {"rater": "none"})).plan.found.duplicates == 96
    alone = [
        {"question": row["question"], "answer": row["answer"], "expert": row["score"]} for row in rated_rows(False)
    ]
    roles = open_project(InitOptions(str(write_csv(tmp_path / "expert.csv", alone)), "judge", model)).plan.roles
    assert (roles.rater, roles.scores) == (None, ["expert"])
    two = [{**row, "depth": row["score"]} for row in rated_rows(False)]
    options = InitOptions(str(write_csv(tmp_path / "two.csv", two)), "judge", model, {"score": "score,depth"})
    with pytest.raises(ValueError, match="where 'worker_id' says who gave the score, each row has one"):
        open_project(options)


def write_gap(file: Path, data: list[dict]) -> Path:
    data[6]["rater_1"] = ""  # whose other rating is N/A
    return write_csv(file, data)


def test_what_fails_when_it_is_written_names_no_temporary_folder(tmp_path, capsys, monkeypatch):
    file = comments_csv(tmp_path)

    def fail(self, plan, target):
        raise ValueError(f"{target / 'data' / 'train.jsonl'}: broken")

    monkeypatch.setattr("real_trl.onboarding.project.Project._check", fail)
    assert "error: judge/data/train.jsonl: broken" in refused(capsys, str(file))


LONG = "Explain in your own words why {} needs only two operations and what each of them does to the top item{}"


def test_near_duplicates_are_on_one_side(tmp_path, model, capsys):
    questions = [LONG.format(f"{place} {place.lower()}x {number}", "") for number, place in enumerate(PLACES * 3)]
    data = table(question=questions, answer=[f"Answer {i}" for i in range(36)], score=[1, 2, 3, 4] * 9)
    data += [{**row, "question": f"{row['question']}, please!", "answer": "Again."} for row in data[:12]]
    init(write_csv(tmp_path / "near.csv", data), model)
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "Near-duplicates: 12 of the questions differ from another one in a few words only, such as 'explain in"
        in shown
    )
    sides = {}
    for split in ("train", "validation", "test"):
        for row in rows(split):
            assert sides.setdefault(row["question"].removesuffix(", please!"), split) == split
    assert len(sides) == 36


def test_near_duplicates_leak_between_the_files_own_splits(tmp_path, model):
    data = table(question=[*QUESTIONS, LONG.format("this", "")], answer=[*ANSWERS, "x"], score=[1, 2, 3] * 10 + [1])
    data = [{**row, "split": "test" if number > 24 else "train"} for number, row in enumerate(data)]
    data[3]["question"] = LONG.format("this", " now")
    found = open_project(InitOptions(str(write_csv(tmp_path / "own.csv", data)), "judge", model))
    assert found.plan.found.leaking == 1 and found.splits[3] is None
    assert found.plan.found.near == [(data[-1]["question"].lower(), data[3]["question"].lower())]


def test_questions_that_are_all_nearly_alike_are_told_apart(tmp_path, model):
    data = table(question=[LONG.format("this", f" {n}") for n in range(4)] * 5, answer=ANSWERS[:20], score=[1, 2] * 10)
    found = open_project(InitOptions(str(write_csv(tmp_path / "alike.csv", data)), "judge", model)).plan.found
    assert found.groups == 4 and not found.near


def test_words_make_a_scale(tmp_path, model):
    data = table(question=QUESTIONS, answer=ANSWERS, score=["Poor", "fair", "good"] * 10)
    raft = init(write_csv(tmp_path / "words.csv", data), model)["raft"]
    assert (raft["score_labels"], raft["score_values"]) == (["Poor", "fair", "good"], [1.0, 2.0, 3.0])


def test_lists_without_a_rating_are_empty_scores(tmp_path, model, capsys):
    data = table(question=QUESTIONS, answer=ANSWERS, score=[[1, 2], [3]] * 15)
    data[3]["score"], data[8]["score"] = [], [None]
    file = write_jsonl(tmp_path / "lists.jsonl", data)
    assert "'score' is empty in 2 rows: row 3 (line 4), row 8 (line 9)" in refused(capsys, str(file))
    init(file, model, "--drop_incomplete")
    assert sum(len(rows(split)) for split in ("train", "validation", "test")) == 28


def test_a_file_sorted_by_score_is_written_in_another_order(tmp_path, model):
    data = table(question=QUESTIONS, answer=ANSWERS, score=[1 + number // 6 for number in range(30)])
    file = write_csv(tmp_path / "sorted.csv", data)
    init(file, model)
    scores = [row["score"] for row in rows("train")]
    assert scores != sorted(scores) and len(set(scores[:8])) > 2
    main([str(file), "--model", model, "--output_dir", "again"])
    first, again = (sorted(Path(folder, "data").iterdir()) for folder in ("judge", "again"))
    assert [path.read_text() for path in first] == [path.read_text() for path in again]


def test_few_questions_are_said_to_be_few(tmp_path):
    def notes(questions: int) -> str:
        data = [{name: row[name] for name in ("question", "answer", "score")} for row in sheet(questions)]
        file = write_csv(tmp_path / f"{questions}.csv", data)
        plan = open_project(InitOptions(str(file), "judge", "nowhere/to-be-found")).plan
        return " ".join([*plan.notes, *plan.found.notes])

    assert "The test split has 2 questions: the evaluation gives no intervals below 6" in notes(10)
    assert "10 questions are few" in notes(10)
    assert "questions are few" not in notes(40) and "no intervals" not in notes(40)
    assert f"needs at least {MIN_ROWS} scored rows" in notes(10)
    assert "(validation 4, test 8): collect" in notes(10) and "real-trl calibrate" not in notes(40)
    assert "test 28; the two in one file are enough): collect" in notes(35)


def test_a_guessed_group_that_merges_all_questions_is_ignored(tmp_path, model):
    data = table(question=QUESTIONS, answer=ANSWERS, score=[1, 2] * 15, group=["a", "b"] * 15)
    file = str(write_csv(tmp_path / "data.csv", data))
    plan = open_project(InitOptions(file, "judge", model)).plan
    assert plan.found.groups == 30 and plan.roles.group is None
    assert "The column 'group' puts different questions into fewer than 3 groups" in " ".join(plan.notes)
    with pytest.raises(ValueError, match="2 different questions"):
        open_project(InitOptions(file, "judge", model, {"group": "group"}))
    data = table(question=QUESTIONS, answer=ANSWERS, score=[1, 2] * 15, group=["a", "b", "c"] * 10)
    file = str(write_csv(tmp_path / "three.csv", data))
    assert open_project(InitOptions(file, "judge", model)).plan.found.groups == 3
    assert open_project(InitOptions(file, "judge", model, {"group": "none"})).plan.found.groups == 30


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0, 1, 2, 3, 4], "0-4"), ([1, 2, 3], "1-3"), ([1, 2, 3, 4], "1-4"), ([0, 1, 2], "0-2"), ([0, 1, 2, 4], "0-4"), ([2, 3, 4], "1-5"),
        ([0, 1, 3], "0-3"), ([1, 4, 5], "1-5"), ([0, 9], "0-10"),
        # With gaps and fractions: never a scale of which the scores fill a small part
        ([1, 1.5, 2, 3, 4], "1-4:0.5"), ([1, 1.5, 3], "1-3:0.5"), ([1, 1.3, 2.7, 4.4, 6], "1-6"), ([0, 1.33, 2, 3.67, 4], "0-4"),
        ([0.5, 1, 2.5, 6, 4], "0-6:0.5"), ([0, 1, 2, 4, 6, 8, 9, 12], "0-12"), ([0, 2, 5, 8, 15, 18, 20], "0-20"), ([3, 12.5, 19], "1-20"),
    ],
)  # fmt: skip
def test_a_range_of_which_every_number_occurs_is_the_scale(tmp_path, values, scale):
    data = table(question=QUESTIONS, answer=ANSWERS, score=(values * 30)[:30])
    options = InitOptions(str(write_csv(tmp_path / "data.csv", data)), "judge", "nowhere/to-be-found")
    assert open_project(options).plan.scores.labels == scale


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1, 2, 5], "1-5"), ([0, 1], "0-1"), ([0, 4], "0-5"), ([1, 7], "1-7"), ([2, 9], "1-10"), ([0, 9], "0-10"), ([3, 88], "1-100"),
        ([0, 88], "0-100"), ([0.25, 0.5], "0-1:0.1"), ([1.5, 3], "1-5:0.5"), ([1.3, 4.7], "1-5"), ([55.5, 70], "1-100"),
        ([1, 4], "1-5"), ([2.5, 6], "1-7:0.5"), ([0, 11], "0-12"), ([0.5, 51], "0-100"),
    ],
)  # fmt: skip
def test_scales_are_guessed(tmp_path, values, scale):
    data = table(question=QUESTIONS[:12], answer=ANSWERS[:12], score=(values * 12)[:12])
    options = InitOptions(str(write_csv(tmp_path / "data.csv", data)), "judge", "nowhere/to-be-found")
    assert open_project(options).plan.scores.labels == scale


@pytest.mark.parametrize(
    ("column", "values", "scale"),
    [
        ("Points (0-10)", [2, 5, 10], "0-10"), ("score 0–100", [11, 100], "0-100"), ("Rating [1 to 7]", [1, 2, 3], "1-7"),
        ("Note (6-1)", [1, 2, 4], "6-1"), ("rating_1_5", [2, 3], "1-5"), ("score_0-4", [1, 2], "0-4"), ("score (0-1000)", [3, 700], "0-1000"),
        ("grade (0-10)", [2.5, 9], "0-10:0.5"), ("grade (0.5-5)", [2.5, 4], "0.5-5:0.5"), ("score (0-1)", [0.1, 0.7], "0-1:0.1"),
        ("score (0-100 %)", [1.3, 4], "0-100"), ("score (1-5, was 0-10)", [2, 4], "1-5"), ("score v1-2", [2, 4], "1-5"),
        ("score 2024-10-12", [2, 4], "1-5"), ("score (0-3)", [2, 4], "1-5"), ("score (4-4)", [2, 4], "1-5"), ("score_2_6", [3, 4], "1-5"),
    ],
)  # fmt: skip
def test_a_scale_in_the_name_of_the_column_is_taken(tmp_path, column, values, scale):
    data = table(question=QUESTIONS, answer=ANSWERS, **{column: (values * 30)[:30]})
    options = InitOptions(str(write_csv(tmp_path / "data.csv", data)), "judge", "nowhere/to-be-found")
    plan = open_project(options).plan
    assert plan.scores.labels == scale
    notes = " ".join(plan.notes)
    assert ("Scale: the name of the column says " in notes) == (scale != "1-5" or column == "rating_1_5")
    assert ("(the name of the column says 0-3, which does not hold them all)" in notes) == (column == "score (0-3)")
    assert ("says 6-1, of which 1 is the best: taken as 6-1" in notes) == (scale == "6-1")


def test_a_number_in_the_name_of_one_of_several_columns_is_no_scale(tmp_path):
    data = table(question=QUESTIONS, answer=ANSWERS, rating_1_5=[2, 3] * 15, rating_2_5=[3, 2] * 15)
    file = str(write_csv(tmp_path / "data.csv", data))
    for score in ("rating_1_5", "rating_1_5,rating_2_5"):
        options = InitOptions(file, "judge", "nowhere/to-be-found", {"score": score})
        assert "the name of the column" not in " ".join(open_project(options).plan.notes)
    data = [
        {"question": row["question"], "answer": row["answer"], "A (0-4)": 2, "B (0-4)": row["rating_1_5"]}
        for row in data
    ]
    file = str(write_csv(tmp_path / "both.csv", data))
    options = InitOptions(file, "judge", "nowhere/to-be-found", {"score": "A (0-4),B (0-4)"})
    assert open_project(options).plan.scores.labels == "0-4"


def test_ends_that_scores_cannot_tell_are_named_before_all_else(tmp_path):
    def note(*values: float) -> str:
        data = table(question=QUESTIONS, answer=ANSWERS, score=(list(values) * 30)[:30])
        options = InitOptions(str(write_csv(tmp_path / "data.csv", data)), "judge", "nowhere/to-be-found")
        first = open_project(options).plan.notes[0]
        assert first.startswith("Scale: ")
        return first

    assert (
        "from 11 to 100: taken as 1-100; if 0 could be given too, which none of them has: --score_labels 0-100."
        in note(11, 100)
    )
    assert "--score_labels 0-5:0.5; that it ends at 5, which none of them has, is a guess." in note(1.5, 3)
    assert "if 0" not in note(0, 4) and "if 0" not in note(1, 2, 3)
    assert "taken as 1-3; if more than 3 could be given: --score_labels 1-4, say." in note(1, 2, 3)
    assert "if 1 is the best, as of school grades: --score_labels 6-1" in note(1, 2.3, 4, 6)
    assert "if 1 is the best" in note(1, 2, 3, 4, 5, 6) and "if 1 is the best" not in note(1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("values", "likely"),
    [
        ([2, 15, 27], "--score_labels 0-30, 0-40 or 0-100, say"), ([0, 24, 31.5], "--score_labels 0-40, 0-50 or 0-100, say"),
        ([1, 1.5, 2.5], "--score_labels 1-3:0.5, 1-4:0.5 or 1-5:0.5, say"), ([0, 1.2], "--score_labels 0-2 or 0-3, say"),
    ],
)  # fmt: skip
def test_a_scale_of_which_little_was_used_is_not_guessed(tmp_path, capsys, model, monkeypatch, values, likely):
    data = table(question=QUESTIONS, answer=ANSWERS, score=(values * 30)[:30])
    file = str(write_csv(tmp_path / "data.csv", data))
    assert likely in (said := refused(capsys, file)) and "does not tell where the scale ends" in said
    assert not Path("data-judge").exists()
    # On a terminal it is asked for, until there is an answer
    monkeypatch.setattr("sys.stdin", io.StringIO("\n0-60\nIs it clear?\n"))
    console = Console(file=io.StringIO(), width=1000)
    assert open_with_questions(InitOptions(file, "judge", model), console).plan.scores.labels == "0-60"
    assert likely in console.file.getvalue()


def test_a_folder_of_splits_is_read_as_one(tmp_path, model):
    folder = tmp_path / "scored"
    folder.mkdir()
    everything = sheet()
    write_csv(folder / "train.csv", everything[:36])
    write_csv(folder / "test.csv", everything[36:])
    init(folder, model)
    assert sorted(row["question"] for row in rows("test")) == sorted(row["question"] for row in everything[36:])
    everything[40]["answer"] = ""
    write_csv(folder / "test.csv", everything[36:])
    with pytest.raises(ValueError, match=r"'answer' is empty in 1 rows: test\.csv row 4 \(line"):
        open_project(InitOptions(str(folder), "other", model))


def test_hardware_decides_about_size(tmp_path):
    # A billion parameters, of which nothing but the size is here
    config = LlamaConfig(
        vocab_size=32000, hidden_size=3072, intermediate_size=8192, num_hidden_layers=6, num_attention_heads=24
    )
    config.save_pretrained(tmp_path / "large")
    data = [{name: row[name] for name in ("question", "answer", "score", "comment")} for row in sheet(questions=200)]
    file = write_csv(tmp_path / "data.csv", data)
    sizes = {}
    for gpus in ("1xT4-16GB", "1xH100-80GB", "1xNone-3GB"):
        project = open_project(InitOptions(str(file), f"judge-{gpus}", str(tmp_path / "large"), gpus=gpus))
        sizes[gpus] = project.write()
    small, large, none = sizes.values()
    assert small.rl["use_peft"] and "use_peft" not in large.rl
    assert large.rl["num_generations"] == large.rl["per_device_train_batch_size"] == 16
    for gpus, size in list(sizes.items())[:2]:
        assert any(f"Planned for {gpus}: training fits" in note for note in size.notes)
        assert any("Lengths are estimated from characters" in note for note in size.notes)
        assert any(note.startswith("Time: raft ") and "Computed, not measured: " in note for note in size.notes)
    assert any("Nothing tried fits 1xNone-3GB: " in note for note in none.notes)
    assert any(note.startswith("Time: not known: the speed of 'None' is not known") for note in none.notes)
    # The plan of the finished recipe says the same
    recipe = read_recipe(Path("judge-1xT4-16GB", "real.yaml"), [], None)
    lengths = Lengths(longest_prompt=project.plan.found.prompt.longest)
    assert not plan_memory(make_setup(recipe, Cluster.parse("1xT4-16GB"), Sharding(), lengths)).problems


def scoring(file: Path, model: str, *options: str) -> tuple[list[str], str]:
    """The options of `score` in the README of a file, and the last line of its Python."""
    init(file, model, "--yes", *options)
    text = Path("judge", "README.md").read_text(encoding="utf-8")
    shutil.rmtree("judge")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    compile(code, "README.md", "exec")
    return shlex.split(re.search(r"^real-trl score (.*)$", text, re.MULTILINE)[1]), code.splitlines()[-1]


def test_the_readme_scores_the_columns_as_they_are_called(tmp_path, model):
    rest = dict(answer=ANSWERS, score=[1, 2, 3] * 10)
    for column in ("the question", "a,b=c", "yes"):
        data = table(**{column: QUESTIONS}, **rest)
        command, _ = scoring(write_csv(tmp_path / "odd.csv", data), model, "--instruction", column)
        assert as_mapping("columns", command[-1]) == {"instruction": column, "response": "answer"}
    command, python = scoring(raters_jsonl(tmp_path), model)
    assert command[0] == "new.jsonl" and command[2] == "judge/outputs/raft"
    assert python == 'print(judge.score(instruction="…", response="…", rubric="…").expected_score)'
    command, _ = scoring(comments_csv(tmp_path), model)
    assert command[2] == "judge/outputs/real"
    command, python = scoring(prompts_parquet(tmp_path), model)
    assert command[-2:] == ["--prompt_column", "prompt"] and 'score(prompt="…")' in python
    data = table(question=QUESTIONS, helpfulness=[1, 2, 3] * 10, **rest)
    _, python = scoring(write_csv(tmp_path / "by.csv", data), model, "--criterion", "helpfulness")
    assert python.endswith('response="…", rubric=judge.criteria["helpfulness"]).expected_score)')


def test_questions_are_asked_on_a_terminal_only(tmp_path, model, monkeypatch):
    data = [{"q": row["question"], "a": row["answer"], "clarity": row["score"], "depth": 2} for row in sheet()]
    options = InitOptions(str(write_csv(tmp_path / "data.csv", data)), "judge", model)
    with pytest.raises(ValueError, match="--response"):
        open_with_questions(options, None)
    monkeypatch.setattr("sys.stdin", io.StringIO("a\nq\nclarity\n1-7\nIs it clear?\n"))
    project = open_with_questions(options, Console(file=io.StringIO()))
    roles = project.plan.roles
    assert (roles.response, roles.instruction, roles.scores) == ("a", "q", ["clarity"])
    assert project.plan.scores.labels == "1-7" and "Is it clear?" in project.plan.template.source


def test_splits_keep_questions_together_and_do_not_depend_on_order():
    keys = [f"q{number // 3}" for number in range(300)]
    splits = divide(keys)
    assert splits == divide(keys) and {key: split for key, split in zip(keys, splits, strict=True)} == dict(
        zip(keys[::-1], divide(keys[::-1]), strict=True)
    )
    shares = pd.Series(splits).value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.02) and shares["validation"] == pytest.approx(0.1, abs=0.02)
    assert set(divide(["a", "b", "c"])) == {"train", "validation", "test"}


def test_the_test_has_questions_enough_for_intervals_if_half_are_left():
    def tested(keys: list[str], own: list[str] | None = None) -> int:
        return len({key for key, split in zip(keys, divide(keys, own), strict=True) if split == "test"})

    assert [tested([f"q{number}" for number in range(many) for _ in range(4)]) for many in (11, 12, 20, 29, 40)] == [
        2, 6, 6, 6, 8,
    ]  # fmt: skip
    large = [f"q{number}" for number in range(12) for _ in range(200 if number == 5 else 2)]
    assert pd.Series(divide(large))[[key != "q5" for key in large]].value_counts()["train"] > 0


def test_a_direct_judge_has_a_curve_of_its_validation_rows(tmp_path, model):
    data = [{name: row[name] for name in ("question", "answer", "score")} for row in sheet(questions=60)]
    raft = init(write_csv(tmp_path / "data.csv", data), model)["raft"]
    assert raft["judge_eval_splits"] == ["validation"] and raft["judge_eval_rows"] == 40
    updates = raft["num_train_epochs"] * len(rows("train")) / 8  # of eight rows
    assert raft["judge_eval_steps"] == max(10, round(updates / 10))
    # Its answer takes no room in the context, which a prompt may fill
    config = json.loads(Path(model, "config.json").read_text())
    short = shutil.copytree(model, tmp_path / "short")
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": raft["max_length"]}))
    sft.main(["--config", "judge/raft.yaml", "--model_name_or_path", str(short), "--max_steps", "2"])
    log = json.loads(Path(raft["output_dir"], "trainer_state.json").read_text())["log_history"]
    assert any("judge_eval/validation/rail/rmse" in entry for entry in log)


@pytest.mark.parametrize("half", [True, False])
def test_a_judge_is_used_in_the_precision_of_its_evaluation(tmp_path, model, half):
    options = ("--gpus", "1xH100-80GB") if half else ()
    data = [{name: row[name] for name in ("question", "answer", "score")} for row in sheet()]
    recipes = init(write_csv(tmp_path / "data.csv", data), model, *options)
    text, dtype = Path("judge", "README.md").read_text(encoding="utf-8"), recipes["evaluate"].get("dtype")
    assert dtype == "bfloat16" or not half
    assert (" --dtype bfloat16 --columns" in text) == (', dtype="bfloat16")' in text) == (dtype == "bfloat16")


def test_a_context_has_room_for_what_stands_around_a_prompt():
    """A chat template, and a label: without them prompt and answer would just fit into 512 tokens."""
    hardware = sizing.Hardware("a processor", False, Cluster(1, 1, "CPU", 2**33))
    feedback = inspection.Lengths(50, 60, measured=True)  # 128 tokens are planned for it
    for longest, fits in ((512 - 128 - 64, True), (512 - 128, False)):
        found = SimpleNamespace(prompt=inspection.Lengths(100, longest, measured=True), feedback=feedback)
        _, completion, notes = sizing._lengths(found, hardware, context=512)
        assert completion == 128 and bool(notes) != fits
        assert fits or "the model reads 512 with its answer" in notes[0]


def test_help_lists_the_roles():
    assert "--drop_incomplete" in make_parser().format_help()


@pytest.mark.parametrize("full", [True, False])
def test_a_judge_that_always_had_a_reference_is_not_asked_without_one(tmp_path, model, full):
    file = tmp_path / "answers.csv"
    references = [f"Because of {i}." if full or i else "" for i in range(len(QUESTIONS))]
    table = pd.DataFrame(
        {"question": QUESTIONS, "reference": references, "answer": ANSWERS, "score": [1, 2, 3, 4, 5] * 6}
    )
    table.to_csv(file, index=False)
    init(file, model)
    template, scale = load_template("judge/prompt.jinja"), Scale.parse("1-5")
    row = {"instruction": "Why?", "response": "So."}
    prompt = template.render({**row, "reference": "Because."}, scale=scale, strict=True, where="row 0")
    assert prompt.startswith("###Task Description:") and "Because." in prompt
    if full:
        with pytest.raises(ValueError, match="reference: row 0 has none, and the judge's prompt .* needs it"):
            template.render(row, scale=scale, strict=True, where="row 0")
    else:
        assert "Reference Answer" not in template.render(row, scale=scale, strict=True, where="row 0")


def test_rows_whose_ratings_all_mean_missing_have_no_score(tmp_path, model, capsys):
    """Also where the ratings are a list in a cell of text."""
    file = tmp_path / "answers.csv"
    scores = [f"[{1 + i % 5}, {1 + i % 5}]" for i in range(len(QUESTIONS))]
    scores[3] = "[9, 9]"
    pd.DataFrame({"question": QUESTIONS, "answer": ANSWERS, "score": scores}).to_csv(file, index=False)
    assert "is empty in 1 rows: row 3" in refused(capsys, str(file), "--model", model, "--na", "9")
    init(file, model, "--na", "9", "--drop_incomplete")
    assert sum(len(rows(split)) for split in ("train", "validation", "test")) == len(QUESTIONS) - 1
