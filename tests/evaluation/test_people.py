# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""People as raters, against published tables."""

import numpy as np
import pytest

from real_trl.evaluation.people import Alpha, Intraclass, agreement_of_people
from real_trl.evaluation.resampling import bootstrap_weights

NAN = float("nan")
# Four observers, twelve units (Krippendorff, 2011, Computing Krippendorff's Alpha-Reliability, C and D)
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
).T
# Six targets, four judges (Shrout & Fleiss, 1979, Table 2)
TARGETS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


def people(n=300, seed=0, shift=0.0, noise=0.4, raters=4):
    """Raters of the same answers; the last one may be strict or guess."""
    random = np.random.default_rng(seed)
    quality = random.normal(3, 1, n)
    matrix = quality[:, None] + random.normal(0, 0.4, (n, raters))
    matrix[:, -1] = quality + shift + random.normal(0, noise, n)
    return matrix, quality


def test_published_values():
    once = np.ones((1, 12))
    assert Alpha(OBSERVERS, np.arange(12), 12)(once)[0] == pytest.approx(0.849, abs=5e-4)
    single, mean = Intraclass(TARGETS, np.arange(6), 6)(np.ones((1, 6)))
    assert (single[0], mean[0]) == (pytest.approx(0.29, abs=5e-3), pytest.approx(0.62, abs=5e-3))
    found = agreement_of_people(TARGETS.tolist(), n_resamples=200)
    assert found["icc_single"] == pytest.approx(single[0]) and found["n_complete"] == 6
    assert found["icc_mean"] == pytest.approx(4 * single[0] / (1 + 3 * single[0]))  # Spearman and Brown


def test_weights_are_repeated_rows():
    matrix, _ = people(40)
    matrix[np.random.default_rng(1).random(matrix.shape) < 0.2] = NAN
    blocks = np.arange(40) // 2
    for kind in (Alpha, Intraclass):
        statistic = kind(matrix, blocks, 20)
        for weights in bootstrap_weights(20, 5, 0):
            rows = np.repeat(np.arange(40), weights[blocks])
            again = kind(matrix[rows], np.arange(len(rows)), len(rows))
            assert np.ravel(statistic(weights[None])) == pytest.approx(np.ravel(again(np.ones((1, len(rows))))))


def test_a_strict_rater_is_named_and_no_other():
    matrix, _ = people(shift=-0.8)
    (said,) = agreement_of_people(matrix.tolist(), names=["Ann", "Bob", "Cem", "Dee"])["unlike"]
    assert said.startswith("Rater Dee gives 0.8") and said.endswith("less than the median of the raters.")
    assert agreement_of_people(people()[0].tolist())["unlike"] == []
    assert (
        agreement_of_people(people(shift=0.05, n=20000)[0].tolist(), n_resamples=200)["unlike"] == []
    )  # shown, and small


def test_a_rater_who_guesses_is_named():
    found = agreement_of_people(people(noise=3.0)[0].tolist())
    assert [said.split(" agrees less")[0] for said in found["unlike"]] == ["Rater 4"]
    guesses = 100 * found["raters"][3]["pearson"]
    assert f"Pearson's r × 100 with their mean is {guesses:.1f}," in found["unlike"][0] and guesses > 1
    assert found["raters"][3]["pearson_interval"][1] < 0 < found["raters"][0]["pearson_interval"][0]


def test_of_two_raters_it_is_not_told_who_is_off():
    (said,) = agreement_of_people(people(shift=1.0, raters=2)[0].tolist())["unlike"]
    assert "Rater 1 gives" in said and "which of the two is off cannot be told" in said


def test_few_rows_name_nobody_by_chance():
    named = [bool(agreement_of_people(people(25, seed)[0].tolist(), n_resamples=300)["unlike"]) for seed in range(100)]
    assert np.mean(named) <= 0.1


def test_a_judge_in_the_place_of_a_rater():
    matrix, quality = people()
    random = np.random.default_rng(5)
    judges = {
        "as people": quality + random.normal(0, 0.4, 300),
        "better": quality,
        "worse": random.normal(3, 1, 300),
        "harsh": quality - 1.5,
        "half": np.where(np.arange(300) < 150, quality, NAN),
        "none": np.full(300, NAN),
    }
    found = agreement_of_people(matrix.tolist(), groups=np.arange(300) // 3, judges=judges)["judges"]
    low, high = found["as people"]["interval"]
    assert low < 0 < high and high - low < 0.06
    assert found["better"]["interval"][0] > 0
    assert found["worse"]["interval"][1] < 0 and found["harsh"]["interval"][1] < 0
    # By hand: the mean over raters of α with the judge in their column
    once, blocks = np.ones((1, 300)), np.arange(300)
    replaced = [np.column_stack([np.delete(matrix, i, axis=1), quality]) for i in range(4)]
    assert found["better"]["alpha"] == pytest.approx(np.mean([Alpha(each, blocks, 300)(once)[0] for each in replaced]))
    assert found["half"]["change"] > 0 and np.isnan(found["none"]["change"])


def test_ratings_that_all_agree_or_are_missing():
    same = agreement_of_people([[3, 3]] * 10)
    assert np.isnan(same["alpha"]) and same["unlike"] == []
    assert agreement_of_people([[1, 1], [5, 5], [3, 3]] * 4)["alpha"] == 1
    gaps = agreement_of_people([[1, 2, None], [None, 4, 5], [3, None, 3], [2, 2, None]] * 5)
    assert np.isnan(gaps["icc_single"]) and "ICC is undefined" in gaps["notes"][0] and gaps["alpha"] > 0.5
    with pytest.raises(ValueError, match="no row with two ratings"):
        agreement_of_people([[1], [2]])
    with pytest.raises(ValueError, match="2 scores of 'j'"):
        agreement_of_people([[1, 2]], judges={"j": [1, 2]})


def test_of_places_that_are_nobodys_only_alpha_is_said():
    rng = np.random.default_rng(0)
    truth = rng.normal(3, 1, 60)
    ratings = np.column_stack([truth - 1, truth, truth + 1]).tolist()
    people, nobody = (agreement_of_people(ratings, names=names, n_resamples=200) for names in (None, ()))
    assert nobody["alpha"] == people["alpha"] and nobody["intervals"]["alpha"] == people["intervals"]["alpha"]
    assert people["unlike"] and people["n_complete"] == 60
    assert (nobody["unlike"], nobody["raters"], nobody["n_complete"]) == ([], [], 0)
    assert np.isnan(nobody["icc_single"]) and np.isnan(nobody["icc_mean"])
    assert "whose rating stands where differs" in nobody["notes"][0]
