# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows to which the engine gave no answer: they count in no figure, and how many there are, and why, is said."""

import math

import numpy as np
import pandas as pd
import pytest

from real_trl.evaluation.comparison import compare_judges
from real_trl.evaluation.intervals import evaluate_with_intervals
from real_trl.evaluation.metrics import evaluate_predictions
from real_trl.evaluation.probes import probe_shifts
from real_trl.evaluation.unscored import grouped_reasons, unscored_reasons

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0]


def predictions(unscored=(), malformed=(), shift=0.0):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"target": rng.integers(1, 6, 30).astype(float)})
    frame["id"], frame["group"] = [f"row {i}" for i in range(30)], [f"question {i % 10}" for i in range(30)]
    frame["expected_score"] = (frame["target"] + rng.normal(0, 0.5, 30)).clip(1, 5) + shift
    frame["sampled_score"] = frame["target"]
    frame["probabilities"] = [[0.2] * 5] * 30
    frame["status"], frame["error"], frame["num_tokens"], frame["missing_mass"] = "ok", None, 10, 0.5
    frame.loc[list(malformed), "status"] = "missing"
    for row in unscored:
        frame.loc[row, ["status", "error"]] = "unscored", f"request {row}: filtered"
        frame.loc[row, ["expected_score", "sampled_score", "num_tokens", "missing_mass"]] = math.nan, math.nan, 0, 0.0
        frame.at[row, "probabilities"] = None
    return frame


@pytest.mark.parametrize("convention", ["force", "drop", "strict"])
def test_unscored_rows_count_in_no_figure(convention):
    unscored = [3, 11]
    frame = predictions(unscored, malformed=[5])
    result = evaluate_with_intervals(frame, convention, VALUES, n_resamples=50)
    without = evaluate_with_intervals(frame.drop(unscored), convention, VALUES, n_resamples=50)
    assert (result["n_rows"], without["n_rows"]) == (30, 28)
    assert (result["n_unscored"], result["unscored"]) == (2, {"request 3: filtered": 2})
    assert (without["n_unscored"], without["unscored"]) == (0, {})
    for part in ("standard", "rail", "calibration", "intervals", "malformed", "malformed_rate", "mean_tokens"):
        assert result[part] == without[part], part
    assert result["malformed"] == {"missing": 1} and result["malformed_rate"] == 1 / 28
    assert (result["mean_tokens"], result["missing_mass"]) == (10, 0.5)
    (note,) = [note for note in result["notes"] if "unscored" in note]
    assert note == "2 of 30 rows are unscored and count in no figure (2 times: request 3: filtered)."


def test_when_nothing_was_answered_there_is_no_figure():
    result = evaluate_predictions(predictions(range(30)), "force", VALUES)
    assert result["rail"]["n"] == 0 and math.isnan(result["rail"]["rmse"]) and math.isnan(result["malformed_rate"])
    assert any("the engine answered none of them" in note for note in result["notes"])


def test_judges_are_compared_on_what_both_answered():
    judges = {"a": predictions([3]), "b": predictions([7], shift=0.1)}
    (result,) = compare_judges(judges, values=VALUES, n_resamples=50)
    assert result["n_rows"] == 28
    assert "2 of 30 rows are malformed or unscored in one judge at least: they are left out." in result["notes"]


def test_probes_count_unanswered_prompts_apart():
    shifts = probe_shifts(predictions([3]), predictions([7], malformed=[9]), "order")
    assert (shifts["n"], shifts["left_out"], shifts["n_unscored"]) == (28, 2, 1)
    assert (shifts["malformed_rate"], shifts["base_malformed_rate"]) == (1 / 29, 0)


def test_reasons_that_differ_in_numbers_and_ids_are_one():
    errors = [
        "Too long: 5,012 tokens (request 9f-3a)",
        "filtered",
        "Too long: 6100 tokens (request 77-b2)",
        "filtered by 4x",
    ]
    assert grouped_reasons(errors) == {errors[0]: 2, "filtered": 1, "filtered by 4x": 1}
    assert list(grouped_reasons(["a", "b", "b"])) == ["b", "a"]
    assert unscored_reasons(["ok", "unscored", "missing"], ["1 of 2 samples: x", "y", None]) == {"y": 1}
