# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `score` ends with: mean, histogram, what is unscored and why, and whether the scores are worth anything."""

import json
import re

import pytest

from real_trl import JudgeConfig
from real_trl.evaluation.verdict import CRITERIA_WITHOUT_LABELS
from real_trl.report.score_summary import summary
from real_trl.report.verdict_text import FOUND_IN_SCORES, NOTHING_FOUND_IN_SCORES
from real_trl.scale import Scale
from real_trl.scripts import score
from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, warm_model

SCALE = Scale.parse("1-5")
SCORES = [1.2, 2.4, 2.6, 4.9, 3.0, 3.4, 3.6, 4.4, 4.0, 2.5]  # mean 3.2; nearest labels 1, 2, 3, 5, 3, 3, 4, 4, 4, 2


def row(expected: float | None, status: str = "ok", prefix: str = "", **more) -> dict:
    judged = {
        "expected_score": expected,
        "sampled_score": expected,
        "mass": 0.99,
        "missing_mass": 0.0,
        "status": status,
    }
    return {
        prefix + name: value
        for name, value in {**judged, "rationale": f"It has {expected} merits.", "error": None, **more}.items()
    }


def lines(rows: list[dict], scale: Scale = SCALE, **options) -> list[str]:
    return [line.plain for line in summary(rows, scale, **{"normalized": False, **options})]


def test_mean_and_histogram():
    text = lines([row(score) for score in SCORES])
    assert text[0] == (
        "expected_score of 10 of 10 rows: mean 3.200, median 3.200, standard deviation 1.034, from 1.200 to 4.900"
    )
    bars = [re.fullmatch(r"  (\d) (█*) +(\d+) +(\d+)%", line) for line in text[1:6]]
    assert [(bar[1], bar[3], bar[4]) for bar in bars] == [
        ("1", "1", "10"), ("2", "2", "20"), ("3", "3", "30"), ("4", "3", "30"), ("5", "1", "10")
    ]  # fmt: skip
    assert [len(bar[2]) for bar in bars] == [14, 27, 40, 40, 14]
    assert text[-2:] == [NOTHING_FOUND_IN_SCORES, CRITERIA_WITHOUT_LABELS]


def test_words_and_long_scales():
    words = Scale.parse("poor,fine,very good", [1.0, 2.0, 3.0])
    assert [line.split("█")[0].strip() for line in lines([row(2.9)] * 3, words)[1:4]][2] == "very good"
    text = lines([row(v) for v in (0, 5, 95, 100, 100.4)], Scale.parse("0-100"))
    assert text[1].startswith("    0 to 10 █") and text[1].split()[-2] == "2" and text[10].split()[-2] == "3"


def test_what_is_unscored_and_why():
    refused = row(None, "unscored", error="HTTP 400: content filter (request 7f3a91)")
    other = row(None, "unscored", error="HTTP 400: content filter (request 88aa01)")
    text = lines([row(score) for score in SCORES] + [refused, other, row(3.3, "truncated")])
    assert text[0] == "Unscored, 2 rows: HTTP 400: content filter (request 7f3a91)"
    assert text[1] == "Answers without a score: 1 truncated."
    assert text[2].startswith("expected_score of 11 of 13 rows")
    assert FOUND_IN_SCORES in text and "2 of 13 (15.4%) of the rows are unscored" in text[-2]
    styles = {line.plain: str(line.style) for line in summary([refused], SCALE, normalized=False)}
    assert (
        "red" in styles["Unscored, 1 rows: HTTP 400: content filter (request 7f3a91)"]
        and "red" in styles[FOUND_IN_SCORES]
    )


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([row(3.0)] * 12, "RAIL: all 12 predictions are 3."),
        ([row(score, mass=0.6) for score in SCORES], "RAIL: on average 60% of the probability at the score is on labels"),
        ([row(s, "missing") for s in SCORES], "10 of 10 (100.0%) of the answers hold no score of the scale."),
        ([row(None, "unscored", error="gone")] * 3, "3 of 3 (100.0%) of the rows are unscored"),
    ],
)  # fmt: skip
def test_scores_that_are_worth_nothing(rows, found):
    text = lines(rows)
    assert FOUND_IN_SCORES in text and any(line.startswith(found) for line in text)


def test_rationales_that_are_none_are_mentioned():
    text = lines([row(score, rationale="4") for score in SCORES])
    assert NOTHING_FOUND_IN_SCORES in text and any(
        "rationales: 10 of 10 rationales (100%) are the score itself" in line and "('4')" in line for line in text
    )


def test_the_rule_of_the_mean_is_said_and_names_may_have_a_prefix():
    text = lines([row(score, prefix="second_") for score in SCORES], prefix="second_", normalized=True)
    assert any("divided by the probability mass on the labels" in line for line in text) and "mean 3.200" in text[0]


@pytest.mark.parametrize(
    ("model", "ending", "why"),
    [
        # It writes the right form, and draws its score at random
        *((warm_model, ending, "of the predictions are as good as") for ending in ("jsonl", "csv", "parquet")),
        (lambda: build_model(seed=3), "jsonl", "of the answers hold no score of the scale"),
    ],
)
def test_score_ends_with_it(tmp_path, capsys, model, ending, why):
    model().save_pretrained(tmp_path / "judge")
    TOKENIZER.save_pretrained(tmp_path / "judge")
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).save(tmp_path / "judge")
    data, output = tmp_path / "rows.jsonl", tmp_path / f"out.{ending}"
    rows = [{"prompt": f"{PROMPT}\n{LINES[i % 3]}\n{LINES[i % 2]}"} for i in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [str(data), "--judge", str(tmp_path / "judge"), "--max_new_tokens", "20", "--output", str(output)]
    score.main(command)
    first = capsys.readouterr().out
    assert "12 rows scored" in first and "expected_score of 12 of 12 rows: mean " in first and "█" in first
    assert FOUND_IN_SCORES in first and why in first and first.rstrip().endswith(CRITERIA_WITHOUT_LABELS)
    score.main(command)  # nothing is left to do, and what there is is said again
    again = capsys.readouterr().out
    first = first[first.index("12 rows scored") :]  # what libraries say when they are imported stands before it
    assert again.startswith("Already complete") and again.partition("\n")[2] == first
