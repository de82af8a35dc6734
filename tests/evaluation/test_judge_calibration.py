# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge's calibration, fitted and shown: on rows that it has not seen, with a known truth."""

import copy
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from real_trl.evaluation.cross_fitting import fit_calibration
from real_trl.evaluation.judge_calibration import Calibration, ScoredRows, figures_of, scored_rows
from real_trl.evaluation.recalibration import crps, means, tempered
from tests.evaluation.test_recalibration import VALUES, distributions, drawn


def overconfident(n: int, seed: int, power: float = 4.0) -> ScoredRows:
    """Scores drawn from distributions that the judge knows, and says to a power."""
    truth = distributions(n, seed)
    questions = np.arange(n) // 4
    return ScoredRows(tempered(truth, 1 / power), drawn(truth, seed + 1), questions, np.where(questions % 3, "a", "b"))


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit_calibration(overconfident(600, 10), VALUES, coverage=0.8, column="kind")


def test_it_holds_on_rows_that_were_not_used(calibration):
    rows = overconfident(4000, 20)
    after = calibration.recalibration.apply(rows.probabilities, VALUES)
    before, fitted, known = (
        crps(each, rows.targets, VALUES).mean()
        for each in (rows.probabilities, after, tempered(rows.probabilities, 4))
    )
    assert fitted < before - 0.05 and fitted == pytest.approx(known, abs=0.005)
    assert calibration.shown["crps"] == pytest.approx([before, fitted], abs=0.05)
    low, high = calibration.intervals.of(after, VALUES, rows.groups).T
    covered = float(((low <= rows.targets) & (rows.targets <= high)).mean())
    # Scores are labels, so that intervals can hold more than asked for, but not less: margins are from 600 rows
    assert covered > 0.8 - 4 * np.sqrt(0.16 / 600)
    assert calibration.shown["coverage"] == pytest.approx(covered, abs=0.06)


def test_what_is_shown(calibration):
    shown = calibration.shown
    assert (shown["rows"], shown["questions"]) == (600, 150)
    inside = round(shown["coverage"] * 600)
    exact = stats.binomtest(inside, 600).proportion_ci(0.95, "exact")
    assert shown["interval"] == pytest.approx([exact.low, exact.high])
    assert {group["group"]: group["rows"] for group in shown["groups"]} == {"a": 400, "b": 200}
    together = sum(group["rows"] * group["coverage"] for group in shown["groups"])
    assert together == pytest.approx(inside) and all(group["own"] for group in shown["groups"])
    assert set(shown["methods"]) == {"none", "temperature", "affine", "isotonic"}
    assert calibration.recalibration.method == min(shown["methods"], key=shown["methods"].get)
    assert calibration.intervals.kind == min(shown["kinds"], key=shown["kinds"].get)


def test_questions_are_what_an_interval_of_the_coverage_resamples():
    """20 questions of 50 rows, all rows of a question inside or all outside: 16 of 20 are, ±0.18 and not the binomial's ±0.025."""
    questions = np.repeat(np.arange(20), 50)
    targets, p = np.where(questions < 16, 3.0, 5.0), np.full((1000, 5), 0.2)
    figures = figures_of(ScoredRows(p, targets, questions), p, np.tile([2.5, 3.5], (1000, 1)), VALUES)
    assert figures["coverage"] == 0.8 and figures["interval"] == pytest.approx([0.774, 0.824], abs=0.002)
    assert figures["by_question"] == pytest.approx([0.6, 0.96], abs=0.06)
    assert "by_question" not in figures_of(
        ScoredRows(p, targets, np.arange(1000)), p, np.tile([2.5, 3.5], (1000, 1)), VALUES
    )


def test_a_judge_that_is_right_is_left_nearly_alone():
    rows = overconfident(1000, 30, power=1)
    calibration = fit_calibration(rows, VALUES)
    before, after = calibration.shown["crps"]
    assert after <= before + 0.003
    new = calibration.recalibration.apply(rows.probabilities, VALUES)
    assert means(new, VALUES) == pytest.approx(means(rows.probabilities, VALUES), abs=0.3)


def test_nothing_is_learnt_from_the_question_that_is_predicted():
    """
    Six questions of which the judge says 1, 2, 3, 4, 1 and 5, and people 1, 1, 1, 1, 1 and 5. From the other five, the last one's score
    has to be thought to be 1: an error of 4 in a sixth of the rows. A row of it would give it away.
    """
    questions = np.repeat(np.arange(6), 20)
    p = np.full((5, 5), 0.01) + 0.95 * np.eye(5)
    targets = np.where(questions == 5, 5.0, 1.0)
    shown = fit_calibration(ScoredRows(p[np.array([0, 1, 2, 3, 0, 4])[questions]], targets, questions), VALUES).shown
    assert shown["rmse"][1] >= np.sqrt(16 / 6) - 0.01


def test_too_few_rows():
    with pytest.raises(ValueError, match="29 rows of 8 questions"):
        fit_calibration(overconfident(29, 1), VALUES)
    rows = overconfident(40, 1)
    with pytest.raises(ValueError, match="40 rows of 1 question have"):
        fit_calibration(ScoredRows(rows.probabilities, rows.targets, np.zeros(40)), VALUES)


def test_it_is_read_as_it_was_stored(calibration):
    stored = json.loads(json.dumps(calibration.stored()))
    assert Calibration.read(stored).stored() == stored
    few = fit_calibration(overconfident(30, 2), VALUES, coverage=0.99)  # too few for a margin
    stored = json.loads(json.dumps(few.stored()))
    assert stored["intervals"]["margin"] is None
    read = Calibration.read(stored).intervals
    assert read.of(np.full((1, 5), 0.2), VALUES)[0] == pytest.approx([1, 5])


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("recalibration", "method"), "magic", "calibration.recalibration.method: got 'magic'"),
        (("recalibration", "temperature"), 0, "calibration.recalibration.temperature: got 0"),
        (("recalibration", "temperature"), float("nan"), "calibration.recalibration.temperature"),
        (("recalibration", "mean_from"), [1, 1], "calibration.recalibration.mean_"),
        (("recalibration", "mean_to"), ["x"], "calibration.recalibration.mean_"),
        (("recalibration", "code"), "x", "calibration.recalibration: got"),
        (("intervals", "kind"), None, "calibration.intervals.kind"),
        (("intervals", "coverage"), 90, "calibration.intervals.coverage: got 90"),
        (("intervals", "margin"), "wide", "calibration.intervals.margin"),
        (("intervals", "margins"), [["a", True]], "calibration.intervals.margin"),
        (("intervals", "margins"), [1], "calibration.intervals.margins"),
        (("intervals", "margins"), {"a": 1}, "calibration.intervals.margins"),
        (("intervals", "column"), 3, "calibration.intervals.column"),
        (("intervals", "column"), "x" * 201, "calibration.intervals.column"),
        (("shown", "crps"), [1], "calibration.shown.crps"),
        (("shown", "groups"), [{}], "calibration.shown.groups[0].rows"),
        (("shown",), "good", "calibration.shown"),
        (("intervals",), None, "calibration.intervals: got None"),
        (("other",), 1, "calibration: got"),
    ],
)
def test_what_somebody_elses_judge_says_is_checked(calibration, path, value, named):
    stored = copy.deepcopy(calibration.stored())
    holder = stored
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = value
    with pytest.raises(ValueError) as error:
        Calibration.read(stored)
    assert str(error.value).startswith(named)
    for other in (None, [], "x"):
        with pytest.raises(ValueError, match="^calibration: got"):
            Calibration.read(other)


def test_a_group_is_shown_with_the_kind_of_margin_that_is_saved():
    """Of a group that is just large enough for a margin of its own, the parts that show it are too small by themselves."""
    rng = np.random.default_rng(5)
    easy, hard = 300, 55
    scores = np.concatenate([np.full(easy, 2), rng.integers(0, 5, hard)])
    probabilities = np.full((easy + hard, 5), 0.02)
    probabilities[:, 2] = 0.92
    rows = ScoredRows(
        probabilities,
        np.array(VALUES)[scores],
        np.arange(easy + hard),
        np.array(["easy"] * easy + ["hard"] * hard),
    )
    calibration = fit_calibration(rows, VALUES, coverage=0.9, column="kind")
    shown = next(group for group in calibration.shown["groups"] if group["group"] == "hard")
    assert shown["own"] and calibration.intervals.margins["hard"] > calibration.intervals.margin
    assert shown["coverage"] > 0.75


def test_groups_of_a_column_of_numbers_with_an_empty_cell_are_those_of_rows_to_be_scored():
    """pandas makes 1 into 1.0 and the empty cell into NaN."""
    rows = overconfident(600, 10)
    grade = pd.Series([None, *(1 + np.arange(599) % 2)], dtype="float64")
    frame = {"status": ["ok"] * 600, "target": rows.targets, "probabilities": list(rows.probabilities), "grade": grade}
    read, _ = scored_rows(frame | {"group": rows.questions}, VALUES, column="grade")
    assert list(read.groups[:3]) == [None, "1", "2"]
    fitted = fit_calibration(read, VALUES, coverage=0.8, column="grade")
    assert fitted.intervals.margins.keys() == {"1", "2"}
    assert [(each["group"], each["rows"]) for each in fitted.shown["groups"]] == [("1", 300), ("2", 299)]


@pytest.mark.parametrize("questions", [2, 5])
def test_too_few_questions_to_leave_some_out_are_refused(questions):
    rows = overconfident(200, 10)
    few = ScoredRows(rows.probabilities, rows.targets, np.arange(200) % questions)
    with pytest.raises(ValueError, match=f"200 rows of {questions} questions .* of at least 6 questions"):
        fit_calibration(few, VALUES)
    assert np.isfinite(
        fit_calibration(ScoredRows(few.probabilities, few.targets, np.arange(200) % 6), VALUES).shown["crps"]
    ).all()


def test_scores_that_are_not_finite_are_refused():
    rows = overconfident(200, 10)
    rows.targets[3] = np.nan
    with pytest.raises(ValueError, match="CRPS of none, temperature, affine, isotonic on left-out rows is not finite"):
        fit_calibration(rows, VALUES)
