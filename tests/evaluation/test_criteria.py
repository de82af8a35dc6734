# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with several criteria: `pairwise_accuracy` compares answers to a question by one criterion; groups are resampled whole."""

import numpy as np
import pandas as pd
import pytest

from real_trl.evaluation.agreement import rater_agreement
from real_trl.evaluation.comparison import paired_comparison
from real_trl.evaluation.intervals import breakdown, evaluate_with_intervals
from real_trl.evaluation.metrics import evaluate_predictions

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0]


def frame(rows: list[tuple]) -> pd.DataFrame:
    """Rows of (question, criterion, target, prediction)."""
    table = pd.DataFrame(rows, columns=["group", "criterion", "target", "expected_score"])
    return table.assign(id=range(len(table)), status="ok", sampled_score=table["expected_score"])


def random_frame(seed: int, questions: int = 12) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    names = [(f"q{q}", name) for q in range(questions) for _ in range(3) for name in ("help", "right")]
    targets = np.random.default_rng(0).integers(1, 6, len(names))
    scores = np.clip(targets + draw.normal(0, 1.5, len(names)), 1, 5)
    return frame([(*name, target, score) for name, target, score in zip(names, targets, scores, strict=True)])


def test_by_hand():
    # By help, A is above B, in truth and by the judge; by right, B is, and the judge has A. Four pairs across criteria do not count
    rows = [("q", "help", 5, 4.0), ("q", "right", 1, 2.0), ("q", "help", 4, 3.0), ("q", "right", 3, 1.0)]
    figures = evaluate_predictions(frame(rows), values=VALUES)["rail"]
    assert (figures["n_pairs"], figures["pairwise_accuracy"]) == (2, 0.5)
    pooled = evaluate_predictions(frame(rows).drop(columns="criterion"), values=VALUES)["rail"]
    assert pooled["n_pairs"] == 6


def test_it_is_the_mean_of_the_criteria_by_their_pairs_in_every_figure():
    a, b = random_frame(1), random_frame(2)
    result = evaluate_with_intervals(a, values=VALUES, n_resamples=200)
    parts = [part["rail"] for part in breakdown(a, "criterion", values=VALUES).values()]
    pairs = sum(part["n_pairs"] for part in parts)
    mean = sum(part["pairwise_accuracy"] * part["n_pairs"] for part in parts) / pairs
    assert result["rail"]["n_pairs"] == pairs and result["n_groups"] == 12
    assert result["rail"]["pairwise_accuracy"] == pytest.approx(mean, abs=1e-12)
    low, high = result["intervals"]["rail"]["pairwise_accuracy"]
    assert low < mean < high
    compared = paired_comparison(a, b, values=VALUES, n_resamples=200)["rail"]["pairwise_accuracy"]
    assert compared["a"] == pytest.approx(mean, abs=1e-12)
    assert compared["b"] == pytest.approx(evaluate_predictions(b, values=VALUES)["rail"]["pairwise_accuracy"])
    assert 0 < compared["p_value"] <= 1


def test_between_raters():
    ratings = [[5, 4], [1, 2], [4, 3], [3, 1]]
    groups, criteria = ["q"] * 4, ["help", "right", "help", "right"]
    # As above, with one rater for the truth and the other for the judge, and the other way round
    assert rater_agreement(ratings, VALUES, groups, criteria=criteria)["between"]["pairwise_accuracy"] == 0.5
    assert rater_agreement(ratings, VALUES, groups)["between"]["pairwise_accuracy"] > 0.5
