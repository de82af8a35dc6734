# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy import stats

from experiments.compare_simulation import DESIGNS, simulate
from real_trl.decisions.inference import ScoredRows, humans_alone, imbalance, judge_alone, prediction_powered

NAN = float("nan")


def rows_of(judge, human, systems=None, questions=None, probability=None) -> ScoredRows:
    n = len(judge)
    systems = np.zeros(n, dtype=int) if systems is None else np.asarray(systems)
    questions = np.arange(n) if questions is None else np.asarray(questions)
    return ScoredRows(systems, questions, np.asarray(judge, float), np.asarray(human, float), probability)


def random_rows(n=300, labels=60, seed=0, systems=2):
    random = np.random.default_rng(seed)
    quality = random.normal(3, 1, n)
    human = np.full(n, NAN)
    chosen = random.choice(n, labels, replace=False)
    human[chosen] = quality[chosen] + random.normal(0, 0.3, labels)
    return rows_of(quality + random.normal(0, 0.5, n), human, np.arange(n) % systems, np.arange(n) // systems)


def test_worked_out_by_hand():
    # Labelled: y = 1, 3, 5 and ŷ = 2, 3, 4; not labelled: ŷ = 3, 8. With λ = 1: mean of y − ŷ = 0, mean of all ŷ = 4.
    rows = rows_of([2, 3, 4, 3, 8], [1, 3, 5, NAN, NAN])
    means = prediction_powered(rows, weight=1.0)
    assert means.means[0] == pytest.approx(0 + 4)
    # Residuals −1, 0, 1 over 3, widened by √(3/2); ŷ less its mean, −2, −1, 0, −1, 4, over 5, widened by √(5/4)
    of_labels = np.sqrt(1.5) * np.array([-1, 0, 1, 0, 0]) / 3
    of_all = np.sqrt(1.25) * np.array([-2, -1, 0, -1, 4]) / 5
    assert means.contrast([1.0]).error == pytest.approx(np.sqrt(np.sum((of_labels + of_all) ** 2)))
    assert humans_alone(rows).means[0] == 3 and judge_alone(rows).means[0] == 4


def test_people_alone_without_clusters_are_student_s_t():
    human = np.array([1.0, 2, 4, 5, 3, 4])
    found = humans_alone(rows_of(np.arange(6.0), human)).contrast([1.0])
    expected = stats.ttest_1samp(human, 0)
    assert found.interval(0.95) == pytest.approx(list(expected.confidence_interval(0.95)))
    assert found.p_value == pytest.approx(expected.pvalue)


def test_questions_that_both_systems_answered_are_paired():
    random = np.random.default_rng(0)
    level = random.normal(3, 2, 40)
    a, b = level + random.normal(0, 0.2, 40), level + random.normal(0.1, 0.2, 40)
    rows = rows_of(np.zeros(80), np.concatenate([a, b]), np.repeat([0, 1], 40), np.tile(np.arange(40), 2))
    found, paired = humans_alone(rows).contrast([1, -1]), stats.ttest_rel(a, b)
    assert found.value == pytest.approx(np.mean(a - b))
    assert found.value / found.error == pytest.approx(paired.statistic)
    apart = humans_alone(rows_of(rows.judge, rows.human, rows.systems)).contrast([1, -1])
    assert apart.error > 5 * found.error  # as if the questions were others


def test_the_weight_is_the_paper_s():
    """λ Cov(Y, f) / ((1 + n/N) Var(f)) of the unlabelled mean (PPI++, Eq. 7) is Cov / Var of the mean over all rows."""
    rows = random_rows(n=2000, labels=1000, systems=1)
    labelled = rows.is_labelled
    n, unlabelled = labelled.sum(), (~labelled).sum()
    covariance = np.cov(rows.human[labelled], rows.judge[labelled])
    paper = covariance[0, 1] / ((1 + n / unlabelled) * np.var(rows.judge))
    weight = prediction_powered(rows).weight
    assert weight * unlabelled / (n + unlabelled) == pytest.approx(paper, rel=0.02)


def test_a_constant_bias_of_the_judge_for_a_system_changes_nothing():
    rows = random_rows()
    favoured = rows_of(rows.judge + 2.5 * rows.systems, rows.human, rows.systems, rows.questions)
    before, after = (prediction_powered(each) for each in (rows, favoured))
    assert after.means == pytest.approx(before.means)
    assert after.contrast([1, -1]).error == pytest.approx(before.contrast([1, -1]).error)
    assert judge_alone(favoured).means[1] - judge_alone(rows).means[1] == pytest.approx(2.5)


def test_another_unit_of_the_judge_changes_nothing():
    rows = random_rows()
    percent = rows_of(20 * rows.judge - 7, rows.human, rows.systems, rows.questions)
    assert prediction_powered(percent).means == pytest.approx(prediction_powered(rows).means)


def test_a_row_written_twice_tells_nothing_new():
    rows = random_rows(systems=1)
    twice = rows_of(*(np.tile(each, 2) for each in (rows.judge, rows.human)), questions=np.tile(rows.questions, 2))
    for estimate in (judge_alone, humans_alone, prediction_powered):
        assert estimate(twice).contrast([1.0]).error == pytest.approx(estimate(rows).contrast([1.0]).error)


@pytest.mark.parametrize("judge", [lambda y: np.full(len(y), 3.3), lambda y: -y])
def test_a_judge_that_knows_nothing_or_the_contrary_counts_nothing(judge):
    rows = random_rows(systems=1)
    rows = rows_of(judge(rows.judge), rows.human)
    both = prediction_powered(rows)
    assert both.weight == 0 and both.means == pytest.approx(humans_alone(rows).means)


def test_rows_are_weighted_by_one_over_their_probability():
    # Rows of quality 5 are labelled nine times as often as those of quality 1
    quality = np.repeat([1.0, 5.0], 5000)
    probability = np.repeat([0.02, 0.18], 5000)
    random = np.random.default_rng(0)
    human = np.where(random.random(10000) < probability, quality + random.normal(0, 0.1, 10000), NAN)
    judge = random.normal(3, 1, 10000)
    assert humans_alone(rows_of(judge, human)).means[0] > 4.4
    found = humans_alone(rows_of(judge, human, probability=probability)).contrast([1.0])
    low, high = found.interval(0.95)
    assert low < 3 < high and high - low < 0.6


def test_too_few_labels_give_no_figure():
    rows = rows_of([1, 2, 3, 4], [1, 2, 3, NAN], systems=[0, 0, 1, 1])
    means = prediction_powered(rows)
    assert np.isfinite(means.means[0]) and np.isnan(means.means[1])
    assert np.isnan(means.contrast([1, -1]).interval(0.95)).all() and np.isnan(means.contrast([1, -1]).p_value)
    same = prediction_powered(rows_of([3, 3, 3, 3], [5, 5, 5, NAN])).contrast([1.0])
    assert same.value == 5 and np.isnan(same.interval(0.95)).all()  # no interval of width 0


def test_labelled_rows_that_the_judge_likes_better_are_found():
    rows = random_rows(n=600, labels=200, systems=1)
    assert imbalance(rows, rows.judge).contrast([1.0]).p_value > 0.01
    best = np.where(rows.judge > np.quantile(rows.judge, 0.6), rows.judge, NAN)
    found = imbalance(rows_of(rows.judge, best), rows.judge).contrast([1.0])
    assert found.value > 0.3 and found.p_value < 1e-6


def test_rows_of_one_question_depend_on_each_other():
    """Four answers of every system to each of 50 of 80 questions, half of whose spread they share: taken as independent, intervals are too narrow."""
    covers = np.zeros((300, 2, 3), dtype=bool)
    true = np.array([3.0, 3.2, 3.5])
    for repetition in range(len(covers)):
        random = np.random.default_rng([0, repetition])
        systems = np.repeat(np.arange(3), 200)
        questions = np.concatenate([np.repeat(random.choice(80, 50, replace=False), 4) for _ in range(3)])
        shared = 0.5 * random.normal(size=80)[questions] + 0.5 * random.normal(size=(3, 80))[systems, questions]
        quality = true[systems] + shared + 0.5 * random.normal(size=600)
        judge = quality + np.array([0.5, 0, -0.3])[systems] + 0.4 * random.normal(size=600)
        human = np.where(np.isin(np.arange(600), random.choice(600, 200, replace=False)), quality, NAN)
        for way, of in enumerate((questions, np.arange(600))):
            means = prediction_powered(rows_of(judge, human, systems, of))
            for index, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
                low, high = means.contrast(np.eye(3)[a] - np.eye(3)[b]).interval(0.95)
                covers[repetition, way, index] = low <= true[a] - true[b] <= high
    clustered, independent = covers.mean(axis=(0, 2))
    assert 0.925 <= clustered <= 0.975 and independent < 0.91


@pytest.mark.parametrize("design", ["180 answers at random", "45 answers at random", "90 at random, 90 by label_next"])
def test_intervals_cover_what_they_say_where_the_judge_alone_does_not(design):
    """A small run of experiments/compare_simulation.py; 3 × 250 draws that depend on each other, so the band is wide."""
    found = simulate(DESIGNS[design], repetitions=250, seed=1)
    assert 0.92 <= np.mean(found["both"]["coverage"]) <= 0.98
    assert np.max(found["judge"]["coverage"]) < 0.8
    number = DESIGNS[design].labels + DESIGNS[design].more
    assert np.mean(found["both"]["labels"]) > 1.3 * number  # labels that people alone would need
