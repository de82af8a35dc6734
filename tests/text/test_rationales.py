# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A column of rationales that holds none is noticed, with its name and the share of its rows."""

import json
import logging

import pandas as pd
import pytest

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.scale import Scale
from real_trl.scripts import init
from real_trl.text.rationales import RationaleFault, is_rationale, rationale_faults
from tests.tiny import TOKENIZER, build_model

NONE = (
    "= 4",
    "4, 4, 5",
    "4.5 / 5.0",
    "4",
    "4/5",
    " 4. ",
    "4.0",
    "Score: 4",
    "My overall rating is 4 out of 5 stars",
    "-",
    "…",
    "★★★★",
    "N/A",
    "none",
    "NaN",
    "TBD",
)
SOME = (
    "Fine.",
    "a.",
    "Wrong, sadly.",
    "4 because it is right",
    "The answer is right.",
    "No.",
    "好",
    "A mark in the margin",
    "3+4=7; 2-5=-3",
    "4+1 2+1 2-3 5-5 3+1",
)


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_rationale(text):
    assert not is_rationale(text)


@pytest.mark.parametrize("text", SOME)
def test_what_is_one(text):
    assert is_rationale(text)


def test_labels_that_are_words():
    labels = ("poor", "good", "very good")
    assert not any(is_rationale(text, labels) for text in ("Good", "very good!", "The score is very good.", "GOOD"))
    assert all(is_rationale(text, labels) for text in ("good grammar", "It is poor", "not very good at all"))
    assert is_rationale("Good")


def test_faults_of_a_column():
    assert rationale_faults(["Because.", None, " ", "It is fine."] * 5) == []
    (fault,) = rationale_faults(["4"] * 2 + ["Fine."] * 3 + [None] * 5)
    assert fault == RationaleFault(False, 2, 5, "4") and fault.fatal
    assert str(fault) == "2 of 5 rationales (40%) are the score itself, or a placeholder, and no rationale ('4')"
    assert not rationale_faults(["4"] + [f"Reason {'x' * i}." for i in range(9)])[0].fatal  # a tenth
    (same,) = rationale_faults(["The answer is fine."] * 6 + [f"Reason {'x' * i}." for i in range(4)])
    assert same == RationaleFault(True, 6, 10, "The answer is fine.") and not same.fatal
    assert rationale_faults(["The answer is fine."] * 5 + [f"Reason {'x' * i}." for i in range(5)]) == []  # half
    assert rationale_faults(["Fine."] * 9) == []  # few rows, by chance


def load(path, **options):
    arguments = DataArguments(str(path), prompt_column="prompt", score_column="score", feedback_column="comment")
    return load_judge_dataset(arguments, scale=Scale.parse("1-5"), **options)


def write(path, comments):
    rows = [{"prompt": f"Judge {i}.", "score": 1 + i % 5, "comment": comment} for i, comment in enumerate(comments)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_supervised_training_refuses_scores_for_rationales(tmp_path):
    path = write(tmp_path / "rows.jsonl", [str(1 + i % 5) for i in range(12)] + ["Really fine."] * 3)
    with pytest.raises(
        ValueError, match=r"feedback_column 'comment': 12 of 15 rationales \(80%\) are the score itself.*\('1'\)"
    ):
        load(path, require_feedback=True)
    assert len(load(path)) == 15  # evaluation and RL have no use for it


def test_a_few_of_them_and_texts_that_repeat_are_said(tmp_path, caplog):
    path = write(tmp_path / "rows.jsonl", ["4/5"] + ["The answer is fine."] * 11)
    with caplog.at_level(logging.WARNING):
        assert len(load(path, require_feedback=True)) == 12
    said = [record.getMessage() for record in caplog.records]
    assert any("feedback_column 'comment': 1 of 12 rationales (8%) are the score itself" in text for text in said)
    assert any(
        "feedback_column 'comment': 11 of 12 rationales (92%) are one and the same text" in text for text in said
    )


@pytest.fixture
def model(tmp_path) -> str:
    build_model().save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize("comments", ["numbers", "text"])
def test_init_notices_it(tmp_path, model, capsys, monkeypatch, comments):
    monkeypatch.chdir(tmp_path)
    scores = [1 + i % 5 for i in range(60)]
    rows = {
        "question": [f"What is {i // 2}?" for i in range(60)],
        "answer": [f"It is {i}." for i in range(60)],
        "score": scores,
    }
    rows["comment"] = scores if comments == "numbers" else [f"Score: {score}" for score in scores]
    pd.DataFrame(rows).to_csv("scores.csv", index=False)
    init.main(["scores.csv", "--model", model, "--yes", "--output_dir", "judge"])
    said = " ".join(capsys.readouterr().out.split())
    assert "the column 'comment': 60 of 60 rationales (100%) are the score itself" in said
    assert "A direct judge: only 0 training rows have a rationale" in said
    assert "rationale: false" in (tmp_path / "judge" / "raft.yaml").read_text()
    assert "60 of 60 rationales (100%) are the score itself" in (tmp_path / "judge" / "README.md").read_text()
