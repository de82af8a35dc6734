# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl score` with a judge of several criteria: one file, a set of columns for each, every response read once."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient

from real_trl import Judge, JudgeConfig
from real_trl.forward.packing import batches_that_share
from real_trl.option_values import FieldError
from real_trl.prompts.template import load_template
from real_trl.runs.scored_file import SCORES
from real_trl.scripts import score
from real_trl.serving.app import Limits, create_app
from real_trl.serving.batching import Batcher
from tests.scripts.test_score import read, refusal, write
from tests.tiny import LINES, TOKENIZER, warm_model

CRITERIA = {"helpful": "Is it of help?", "right": "Is it right?", "short": "Is it as short as can be?"}
ROWS = [{"instruction": f"Sum {i}.", "response": "\n".join(LINES[: 1 + i % 3])} for i in range(7)]
OPTIONS = ("--batch_size", "4", "--seed", "3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("judge")
    warm_model().save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    config = JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], rationale=False, criteria=CRITERIA)
    config.use_template(load_template("direct_criteria"))
    config.save(folder)
    return folder


def run(data: Path, judge: Path, *options) -> None:
    score.main([str(data), "--judge", str(judge), *OPTIONS, *map(str, options)])


def said(folder: Path) -> dict[str, list[float]]:
    judge = Judge.from_pretrained(folder, do_sample=False)
    texts = {"instruction": [row["instruction"] for row in ROWS], "response": [row["response"] for row in ROWS]}
    return {name: [j.expected_score for j in judge.score(**texts, rubric=text)] for name, text in CRITERIA.items()}


@pytest.mark.parametrize("extension", [".jsonl", ".csv", ".parquet"])
def test_columns_for_each_criterion(tmp_path, folder, capsys, extension):
    data, output = write(tmp_path / "answers.jsonl", ROWS), tmp_path / f"out{extension}"
    run(data, folder, "--output", output)
    if extension == ".parquet":
        rows = pd.read_parquet(output).to_dict("records")
    else:
        rows = list(csv.DictReader(output.open(newline=""))) if extension == ".csv" else read(output)
    assert list(rows[0]) == [*ROWS[0], *(f"{name}_{column}" for name in CRITERIA for column in SCORES)]
    assert [row["instruction"] for row in rows] == [row["instruction"] for row in ROWS]
    for name, scores in said(folder).items():
        assert [float(row[f"{name}_expected_score"]) for row in rows] == pytest.approx(scores, abs=1e-5)
    told = capsys.readouterr().out
    assert "Every row is scored by helpful, right, short." in told
    assert told.index("\nhelpful:") < told.index("\nright:") < told.index("\nshort:")
    run(data, folder, "--output", output)  # summarized once more, from the file
    assert "Already complete" in (told := capsys.readouterr().out) and "\nshort:" in told


def test_a_stopped_run_goes_on_to_the_same_file(tmp_path, folder, monkeypatch):
    data = write(tmp_path / "answers.jsonl", ROWS)
    run(data, folder, "--output", tmp_path / "whole.jsonl", "--batch_size", "1")
    judged, original = [], Judge.iterate

    def stopped(self, prompts, **options):
        judged.append(len(prompts))
        if len(judged) == 3:
            raise KeyboardInterrupt
        return original(self, prompts, **options)

    options = ("--output", tmp_path / "parts.jsonl", "--batch_size", "1")
    monkeypatch.setattr(Judge, "iterate", stopped)
    with pytest.raises(BaseException):  # noqa: B017
        run(data, folder, *options)
    run(data, folder, *options)
    assert judged == [3, 3, 3, *[3] * 5]  # a row's criteria together; two rows were stored
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_one_rubric_makes_one_set_of_columns(tmp_path, folder):
    data = write(tmp_path / "answers.jsonl", [{**row, "asked": CRITERIA["right"]} for row in ROWS])
    for name, options in {"a": ("--rubric", CRITERIA["right"]), "b": ("--columns", "{rubric: asked}")}.items():
        run(data, folder, "--output", tmp_path / f"{name}.jsonl", *options)
        scores = [row["expected_score"] for row in read(tmp_path / f"{name}.jsonl")]
        assert scores == pytest.approx(said(folder)["right"], abs=1e-5)


def test_other_criteria(tmp_path, folder, capsys):
    data = write(tmp_path / "answers.jsonl", ROWS)
    run(data, folder, "--criteria", json.dumps({"brief": CRITERIA["short"]}), "--prefix", "x_")
    rows = read(tmp_path / "answers.scored.jsonl")
    assert [row["x_brief_expected_score"] for row in rows] == pytest.approx(said(folder)["short"], abs=1e-5)
    text = refusal(capsys, data, folder, "--criteria", "{kind: Is it kind}", "--rubric", "Is it?")
    assert text.startswith("criteria: got kind beside another rubric. Leave out one of them.")
    text = refusal(capsys, write(tmp_path / "b.jsonl", [{**ROWS[0], "right_mass": 1}]), folder)
    assert "has a column 'right_mass' already" in text


def test_no_name_of_a_criterion_is_obeyed_by_the_terminal(tmp_path, folder, capsys):
    name = "red\x1b[31m"
    run(write(tmp_path / "a.jsonl", ROWS[:1]), folder, "--criteria", json.dumps({name: "Is it?", "=right": "Is it?"}))
    told = capsys.readouterr().out
    assert "\x1b" not in told and "red\\u001b[31m" in told
    assert read(tmp_path / "a.scored.jsonl")[0][f"{name}_status"] == "ok"


def test_a_row_that_gets_no_answer_is_named_with_its_criterion(tmp_path, folder, capsys):
    data = write(tmp_path / "answers.jsonl", [*ROWS, {"instruction": "Sum.", "response": "4 " * 3000}])
    text = refusal(capsys, data, folder)
    assert text.startswith("row 7 (line 8), criterion 'helpful' has 3086 tokens")


def test_what_is_before_the_rubric_is_read_once(tmp_path, folder):
    judge = Judge.from_pretrained(folder, batch_size=4)  # no multiple of three
    rows = [{**row, "rubric": text} for row in ROWS for text in CRITERIA.values()]
    prompts = judge.prompts(rows)
    texts = [ids + opening for ids, opening in judge.engine.encode.with_openings(prompts)]
    shared = []
    for row in range(len(ROWS)):
        mine = texts[3 * row : 3 * row + 3]
        shared.append(next(i for i in range(len(mine[0])) if len({text[i] for text in mine}) > 1))
    seen = []
    hook = judge.engine.model.register_forward_pre_hook(
        lambda model, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    judge.score(rows)
    hook.remove()
    once = sum(map(len, texts)) - 2 * sum(shared)
    assert sum(seen) <= once and len(seen) == len(ROWS)
    assert min(shared) > len(texts[0]) // 2  # so that it matters
    assert torch.tensor(seen).max() < 2 * sum(map(len, texts)) / len(ROWS)


def test_batches_part_texts_that_have_little_in_common():
    texts = [[row, row, row, criterion] for row in range(4) for criterion in range(3)]
    assert batches_that_share(texts, 4) == [range(0, 3), range(3, 6), range(6, 9), range(9, 12)]
    assert batches_that_share(texts, 6) == [range(0, 6), range(6, 12)]
    assert batches_that_share(texts, 2)[0] == range(0, 2)  # too few for a row
    different = [[row, 5, 5] for row in range(10)]
    assert batches_that_share(different, 4) == [range(0, 4), range(4, 8), range(8, 10)]


def test_a_rubric_is_asked_for(folder):
    judge = Judge.from_pretrained(folder)
    assert judge.criteria == CRITERIA
    with pytest.raises(FieldError, match=r"Pass it, such as those in judge.criteria: 'helpful', 'right', 'short'"):
        judge.score(instruction="Sum.", response="4")
    assert len(judge.score(instruction="Sum.", response="4", rubric=list(judge.criteria.values()))) == 3


def test_the_service_names_criteria_and_takes_a_rubric(folder):
    judge = Judge.from_pretrained(folder)
    app = create_app(judge, Batcher(judge, batch_size=4, max_waiting=64), "tiny", Limits())
    with TestClient(app) as client:
        health = client.get("/health").json()
        assert health["criteria"] == CRITERIA and "rubric" in health["fields"]
        error = client.post("/score", json=ROWS[0]).json()["error"]
    assert error["field"] == "rubric" and "needs it" in error["message"]
