# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Real judges made overconfident: what a calibration makes of them on rows that it was not fitted on."""

from pathlib import Path

import pandas as pd
import pytest

from experiments.calibrate_overconfident import JUDGES, VALUES, halves, overconfident
from real_trl.evaluation.cross_fitting import fit_calibration

RESULTS = pd.read_parquet(Path(__file__).parents[2] / "experiments" / "results" / "real_scores.parquet")


@pytest.mark.parametrize(("task", "method", "labels"), JUDGES)
def test_it_predicts_better_and_its_intervals_hold_what_they_should(task, method, labels):
    rows = overconfident(RESULTS, task, method, labels, power=4)
    shown = fit_calibration(rows, VALUES, coverage=0.9, column="assignment" if rows.groups is not None else None).shown
    assert shown["crps"][1] < 0.75 * shown["crps"][0] and shown["rmse"][1] < shown["rmse"][0]
    assert shown["coverage"] == pytest.approx(0.9, abs=0.02)
    for each in shown.get("groups", ()):
        low, high = each["interval"]
        assert each["own"] and low <= 0.9 <= high
    assert (rows.groups is None) == ("groups" not in shown)


def test_halves_that_are_not_touched():
    rows = overconfident(RESULTS, "similarity", "raft", 800, power=4)
    table = halves(rows, None, 0.9, splits=2)
    assert (table["crps after"] < 0.75 * table["crps before"]).all() and table["coverage"].between(0.83, 0.97).all()


def test_a_judge_is_one_training_and_each_row_counts_once():
    # Other trainings of the method that are stored, and a second seed, whose test rows are the same
    row = {"id": "a", "group": "a", "target": 4.0, "task": "similarity", "method": "raft"}
    p = {"wanted": [0, 0, 0, 0, 0.5, 0.5], "not": [1.0, 0, 0, 0, 0, 0]}
    results = pd.DataFrame(
        [
            {**row, "probabilities": p["not"], "labels": "all", "fold": 0},
            {**row, "probabilities": p["not"], "labels": "800", "fold": 1},
            {**row, "probabilities": p["wanted"], "labels": "800", "fold": 0},
        ]
    )
    rows = overconfident(results, "similarity", "raft", 800, power=4)
    assert rows.probabilities.tolist() == [p["wanted"]]
