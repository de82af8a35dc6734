# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""RewardBench 2's figures from scores made by hand, each worked out here by the published rule."""

import math

import numpy as np
import pandas as pd
import pytest

from real_trl.evaluation.best_of import best_of_credit, evaluate_best_of
from real_trl.scale import Scale

SCALE = Scale.parse("1-10")


def judged(*questions, status=None):
    """`(subset, id, num_correct, scores)` each → predictions and questions; decoded scores are ŷ."""
    scores = [score for *_, of_question in questions for score in of_question]
    rows = pd.DataFrame({"status": ["ok"] * len(scores), "expected_score": scores, "sampled_score": scores})
    rows["error"] = None
    for row, said in (status or {}).items():
        rows.loc[row, "status"] = said
    asked, start = [], 0
    for subset, name, correct, of_question in questions:
        places = list(range(start, start + len(of_question)))
        asked.append({"subset": subset, "id": name, "group": name, "num_correct": correct, "responses": places})
        start += len(of_question)
    return rows, pd.DataFrame(asked)


@pytest.mark.parametrize(
    ("scores", "credit"),
    [([5, 1, 2, 3], 1), ([5, 5, 2, 3], 1 / 2), ([5, 5, 5, 3], 1 / 3), ([2, 2, 2, 2], 1 / 4), ([4, 5, 1, 1], 0)],
)
def test_best_of_four_with_a_share_for_equal_scores(scores, credit):
    assert best_of_credit(scores) == pytest.approx(credit, abs=1e-12)


FOUR = [
    ("Math", "1", 1, [5, 1, 2, 3]),  # 1
    ("Math", "2", 1, [5, 5, 2, 3]),  # 1/2
    ("Math", "3", 1, [1, 5, 2, 3]),  # 0
    ("Focus", "4", 1, [5, 5, 5, 3]),  # 1/3
    ("Focus", "5", 1, [2, 2, 2, 2]),  # 1/4
]
TIES = [
    # prompt 0. tied: right 8, 7, wrong 4: margin 3, spread 1, so accurate and preferred; ref: right 8, wrong 5: margin 3
    ("Ties", "tied:0", 2, [8, 7, 4, 2]),
    ("Ties", "ref:0", 1, [8, 5, 1]),
    # prompt 1. tied: right 9, 6, 6.5, wrong 4: margin 2 < spread 3; ref: wrong
    ("Ties", "tied:1", 3, [9, 6, 6.5, 4]),
    ("Ties", "ref:1", 1, [3, 4]),
    # prompt 2. tied: all right equal, spread 0: margin/spread is infinite, tanh 1; ref: margin 1
    ("Ties", "tied:2", 2, [7, 7, 5]),
    ("Ties", "ref:2", 1, [6, 5]),
    # prompt 3. everything equal: 0/0 counts 0
    ("Ties", "tied:3", 2, [5, 5, 5]),
    ("Ties", "ref:3", 1, [5, 5]),
    # prompt 4. tied: margin 4 > spread 2; ref: margin 1 < 2, so preferred, but not hard
    ("Ties", "tied:4", 2, [9, 7, 3]),
    ("Ties", "ref:4", 1, [4, 3]),
]
TIED, REF = 4 / 5, 3 / 5  # right in prompts 0, 1, 2, 4; and 0, 2, 4
PREFERRED, HARD = 3 / 5, 2 / 5  # 0, 2, 4; and 0, 2
# min(margins) / spread: 3/1, −1/3, 1/0, 0/0, 1/2
MARGIN = (math.tanh(3 - 1) + math.tanh(-1 / 3 - 1) + 1 + 0 + math.tanh(1 / 2 - 1)) / 5
TIES_SCORE = 0.30 * TIED + 0.30 * REF + 0.20 * PREFERRED + 0.20 * HARD + 0.01 * MARGIN


def test_every_figure_of_reward_bench_2():
    rows, questions = judged(*FOUR, *TIES)
    result = evaluate_best_of(rows, questions, scale=SCALE, n_resamples=200)
    expected = {"Math": (1 + 1 / 2 + 0) / 3, "Focus": (1 / 3 + 1 / 4) / 2, "Ties": TIES_SCORE}
    expected["average"] = sum(expected.values()) / 3
    for inference in ("standard", "rail"):
        for name, value in expected.items():
            assert result[inference][name] == pytest.approx(value, abs=1e-9), name
        assert result[inference]["n"] == len(FOUR) + len(TIES)
    assert set(result["intervals"]["rail"]) == {*expected}


def test_a_ties_prompt_without_its_reference_counts_in_its_accuracy_only():
    rows, questions = judged(*TIES[:2], ("Ties", "tied:7", 2, [1, 2, 3]))
    score = evaluate_best_of(rows, questions, scale=SCALE)["rail"]["Ties"]
    assert score == pytest.approx(0.3 * 1 / 2 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(2), abs=1e-9)


def test_where_the_lowest_score_is_the_best():
    rows, questions = judged(("Math", "1", 1, [1, 5, 2, 3]), ("Math", "2", 1, [5, 1, 2, 3]))
    assert evaluate_best_of(rows, questions, scale=Scale.parse("10-1"))["rail"]["Math"] == 0.5


def test_unscored_and_malformed_responses():
    asked = [("Math", "1", 1, [5, 1]), ("Math", "2", 1, [5, 1]), ("Math", "3", 1, [1, 5])]
    rows, questions = judged(*asked, status={2: "unscored"})
    rows.loc[2, ["expected_score", "sampled_score"]] = np.nan
    result = evaluate_best_of(rows, questions, scale=SCALE)
    assert result["rail"]["Math"] == 1 / 2 and result["n_unscored_questions"] == 1 and result["n_unscored"] == 1
    rows, questions = judged(*asked, status={1: "no_marker"})
    figures = {
        each: evaluate_best_of(rows, questions, scale=SCALE, malformed=each) for each in ("force", "drop", "strict")
    }
    assert {each: result["rail"]["Math"] for each, result in figures.items()} == pytest.approx(
        {"force": 2 / 3, "drop": 1 / 2, "strict": 1 / 3}
    )
    assert figures["drop"]["n_dropped_questions"] == 1 and figures["strict"]["malformed"] == {"no_marker": 1}
