# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs ordered by the scores of single responses: values worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from real_trl.data.choices import make_choices
from real_trl.evaluation.pairs import evaluate_pairs, fit_tie_threshold, wins
from real_trl.objectives import order_probability
from real_trl.scale import Scale

SCALE = Scale.parse("1-3")


def judged(distributions, decoded=None, status=None, values=(1, 2, 3)):
    p = np.array(distributions, dtype=float)
    n = len(p)
    return pd.DataFrame(
        {
            "status": status or ["ok"] * n,
            "expected_score": p @ np.array(values),
            "sampled_score": decoded or [float(values[k]) for k in p.argmax(axis=1)],
            "probabilities": list(p),
            "error": [None] * n,
        }
    )


def pairs(*rows, groups=None):
    frame = pd.DataFrame([{"responses": list(places), "preference": w} for *places, w in rows])
    return frame.assign(group=groups or [str(row) for row in range(len(rows))])


# Of four responses; ŷ: 2.5, 2, 1.5, 2
FOUR = judged([[0, 0.5, 0.5], [0.25, 0.5, 0.25], [0.5, 0.5, 0], [0.5, 0, 0.5]], decoded=[3, 2, 2, 1])


def test_the_probability_is_that_of_the_objective():
    random = np.random.default_rng(0)
    a, b = random.dirichlet(np.ones(4), size=(2, 6))
    values = torch.tensor([1.0, 2.0, 4.0, 7.0], dtype=torch.float64)
    expected = order_probability(torch.tensor(a).log(), torch.tensor(b).log(), values)
    np.testing.assert_allclose(wins(a, b), expected.numpy(), atol=1e-12)
    np.testing.assert_allclose(wins(a, b) + wins(b, a), 1, atol=1e-12)


def test_accuracy_equal_scores_and_log_loss():
    result = evaluate_pairs(FOUR, pairs((0, 1, 1.0), (1, 2, 0.0), (1, 3, 1.0), (0, 2, 1.0)), scale=SCALE)
    # by ŷ: right, wrong, equal, right; by decoded scores: right, equal (½), right, right
    assert result["rail"]["accuracy"] == pytest.approx(2.5 / 4) and result["rail"]["ties"] == 1 / 4
    assert result["standard"]["accuracy"] == pytest.approx(3.5 / 4) and result["standard"]["ties"] == 1 / 4
    # P: 0.5·(0.25 + 0.25) + 0.5·(0.75 + 0.125) = 0.6875; 0.25·0.25 + 0.5·0.75 + 0.25·1 = 0.6875; ½; 0.5·0.75 + 0.5 = 0.875
    expected = -(math.log(0.6875) + math.log(1 - 0.6875) + math.log(0.5) + math.log(0.875)) / 4
    assert result["rail"]["log_loss"] == pytest.approx(expected, abs=1e-12)
    assert "three_way" not in result["rail"] and result["n_human_ties"] == 0
    assert (result["rail"]["n"], result["rail"]["n_log_loss"], result["n_questions"]) == (4, 4, 4)


def test_a_mass_outside_of_the_scale_is_on_neither_side():
    rows = judged([[0, 0.25, 0.25], [0.1, 0.2, 0.1]])
    result = evaluate_pairs(rows, pairs((0, 1, 1.0)), scale=SCALE)
    assert result["rail"]["log_loss"] == pytest.approx(-math.log(0.6875))


def test_where_the_lowest_score_is_the_best():
    falls = Scale.parse("3-1")
    rows = judged([[0.5, 0.5, 0], [0, 0.5, 0.5]], values=(3, 2, 1))  # the second is better: nearer to 1
    result = evaluate_pairs(rows, pairs((0, 1, 0.0)), scale=falls)
    assert result["rail"]["accuracy"] == 1 and result["rail"]["log_loss"] == pytest.approx(-math.log(0.875))


def test_shares_of_raters_count_by_majority_and_in_the_log_loss():
    result = evaluate_pairs(FOUR, pairs((0, 1, 0.7)), scale=SCALE)
    assert result["rail"]["accuracy"] == 1
    assert result["rail"]["log_loss"] == pytest.approx(-(0.7 * math.log(0.6875) + 0.3 * math.log(0.3125)))


@pytest.mark.parametrize(
    ("differences", "preferences", "threshold"),
    [
        ([0.1, -0.2, 1.0, -2.0], [0.5, 0.5, 1.0, 0.0], 0.6),  # between 0.2 and 1
        ([0.0, 0.5, -0.5], [0.5, 1.0, 0.0], 0.0),
        ([0.3, -0.3], [0.5, 0.5], 0.3),
        ([0.3, 0.5, 0.7], [1.0, 0.5, 1.0], 0.0),  # 2 right with 0, 2 with 0.6
        ([0.2, np.inf, -np.inf], [0.5, 0.5, 0.5], 0.2),
    ],
)
def test_the_threshold_for_ties(differences, preferences, threshold):
    assert fit_tie_threshold(np.array(differences), np.array(preferences)) == pytest.approx(threshold)


def test_three_ways_are_counted_with_a_threshold_of_other_groups():
    # Ties differ by up to 0.2, others by 1: any four fifths give 0.1 to 0.6
    n = 40
    gaps = np.where(np.arange(n) % 2, 1.0, 0.2)
    rows = judged(np.tile([0, 1, 0], (2 * n, 1)), decoded=[2.0] * 2 * n)
    rows["expected_score"] = np.column_stack([2 + gaps, np.full(n, 2.0)]).ravel()
    asked = pairs(*((2 * i, 2 * i + 1, 1.0 if i % 2 else 0.5) for i in range(n)))
    result = evaluate_pairs(rows, asked, scale=SCALE)
    assert result["rail"]["three_way"] == 1 and result["tie_threshold"]["rail"] == pytest.approx(0.6)
    assert result["standard"]["three_way"] == 0.5 and result["tie_threshold"]["standard"] == 0  # all are equal
    assert result["rail"]["accuracy"] == 1 and result["rail"]["n_decided"] == n // 2
    low, high = result["intervals"]["standard"]["three_way"]
    assert low < 0.5 < high
    # one odd group in which the gaps are the other way round is not fitted on itself
    rows.loc[:1, "expected_score"] = [4.0, 2.0]
    assert evaluate_pairs(rows, asked, scale=SCALE)["rail"]["three_way"] == pytest.approx((n - 1) / n)


def test_the_threshold_is_not_fitted_on_what_it_is_counted_on():
    """Preferences at random: fitted on themselves they would look better than the most frequent class."""
    random = np.random.default_rng(1)
    n = 60
    rows = judged(np.tile([0, 1, 0], (2 * n, 1)))
    rows["expected_score"] = random.uniform(1, 3, 2 * n)
    human = random.choice([0.0, 0.5, 1.0], n)
    asked = pairs(*((2 * i, 2 * i + 1, human[i]) for i in range(n)))
    difference = rows["expected_score"].to_numpy().reshape(-1, 2) @ [1, -1]
    threshold = fit_tie_threshold(difference, human)
    said = np.where(np.abs(difference) <= threshold, 0, np.sign(difference))
    honest = evaluate_pairs(rows, asked, scale=SCALE, n_resamples=100)["rail"]["three_way"]
    assert honest < np.mean(said == np.sign(human - 0.5))


def test_unscored_responses_are_in_no_figure_and_counted():
    rows = FOUR.copy()
    rows.loc[3, ["status", "error"]] = ["unscored", "the server said no"]
    rows.loc[3, ["expected_score", "sampled_score"]] = np.nan
    rows.at[3, "probabilities"] = None
    result = evaluate_pairs(rows, pairs((0, 1, 1.0), (1, 3, 1.0), (1, 2, 1.0)), scale=SCALE)
    assert (result["rail"]["n"], result["n_unscored_questions"], result["n_unscored"]) == (2, 1, 1)
    assert result["rail"]["accuracy"] == 1 and result["unscored"] == {"the server said no": 1}
    assert "1 of 4 responses are unscored (1 times: the server said no)." in result["notes"]
    nothing = evaluate_pairs(rows, pairs((1, 3, 1.0)), scale=SCALE)
    assert nothing["rail"]["n"] == 0 and math.isnan(nothing["rail"]["accuracy"])


def test_malformed_responses():
    rows = judged([[0, 0, 1], [1, 0, 0], [0, 1, 0]], status=["ok", "no_marker", "ok"])
    asked = pairs((0, 1, 1.0), (2, 1, 0.5), (0, 2, 1.0))
    figures = {each: evaluate_pairs(rows, asked, scale=SCALE, malformed=each) for each in ("force", "drop", "strict")}
    assert figures["force"]["rail"]["accuracy"] == 1 and figures["force"]["rail"]["n"] == 3
    assert figures["drop"]["rail"]["n"] == 1 and figures["drop"]["n_dropped_questions"] == 2
    assert figures["strict"]["rail"]["accuracy"] == 0.5 and figures["strict"]["rail"]["n"] == 3
    assert figures["strict"]["rail"]["n_log_loss"] == 1  # the others have no distribution of their own
    assert figures["force"]["malformed"] == {"no_marker": 1}


def test_intervals_are_clustered_by_group():
    """The same pair sixteen times in each of eight groups tells no more than once."""
    random = np.random.default_rng(0)
    once = [(0, 1, 1.0) if right else (1, 0, 1.0) for right in random.random(8) < 0.6]
    few = evaluate_pairs(FOUR, pairs(*once), scale=SCALE)["intervals"]["rail"]
    groups = [str(row) for row in range(8) for _ in range(16)]
    many = evaluate_pairs(FOUR, pairs(*(pair for pair in once for _ in range(16)), groups=groups), scale=SCALE)
    assert many["intervals"]["rail"]["accuracy"] == pytest.approx(few["accuracy"])
    assert many["intervals"]["rail"]["log_loss"] == pytest.approx(few["log_loss"])


def test_choices_judge_each_prompt_once_and_group_what_shares_one():
    asked = [["a", "b"], ["b", "c"], ["d", "e"], ["e", "d"]]
    choices = make_choices([{"prompts": prompts, "preference": 1.0} for prompts in asked])
    assert choices.responses["prompt"][:] == list("abcde")
    assert choices.questions["responses"].tolist() == [[0, 1], [1, 2], [3, 4], [4, 3]]
    groups = choices.questions["group"].tolist()
    assert groups[0] == groups[1] != groups[2] == groups[3] and choices.questions["id"].tolist() == list("0123")


@pytest.mark.parametrize("column", ["expected_score", "sampled_score"])
def test_a_score_that_is_no_number_is_refused(column):
    rows = FOUR.assign(**{column: [2.5, math.nan, 1.5, 2.0]})
    with pytest.raises(
        ValueError, match=rf"Row 1 \(status 'ok'\) has `{column}` nan .*finite value, or the status 'unscored'"
    ):
        evaluate_pairs(rows, pairs((0, 1, 1.0), (2, 3, 1.0)), scale=SCALE)
    unscored = rows.assign(status=["ok", "unscored", "ok", "ok"])
    assert evaluate_pairs(unscored, pairs((0, 1, 1.0), (2, 3, 1.0)), scale=SCALE)["n_unscored"] == 1
