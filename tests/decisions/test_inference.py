# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy import stats

from experiments.compare_simulation import DESIGNS, simulate
from real_trl.decisions.inference import MIN_LABELS, ScoredRows, humans_alone, judge_alone, prediction_powered
from real_trl.decisions.labels import detectable
from real_trl.decisions.random_sample import imbalance
from real_trl.evaluation.comparison import holm

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
    assert imbalance(rows, rows.judge)[1][0] > 0.01
    best = np.where(rows.judge > np.quantile(rows.judge, 0.6), rows.judge, NAN)
    ((value,), (p_value,)) = imbalance(rows_of(rows.judge, best), rows.judge)
    assert value > 0.3 and p_value < 1e-6


@pytest.mark.parametrize("whole_questions", [False, True])
@pytest.mark.parametrize("labels", [6, 45])
def test_random_samples_of_skewed_values_are_rarely_called_odd(labels, whole_questions):
    """Two skewed values of three systems, Holm's step: at most one file in a hundred; binomial bound of 400 files at three standard errors."""
    odd = 0
    for repetition in range(400):
        random = np.random.default_rng([3, repetition])
        questions = np.repeat(np.arange(300), 3) // (5 if whole_questions else 1)
        groups = questions.max() + 1
        high = np.clip(4.3 + 0.9 * random.normal(size=900) + 0.5 * random.normal(size=groups)[questions], 1, 5)
        skewed = random.gamma(0.5, 1, 900) + random.gamma(0.5, 1, groups)[questions]
        if whole_questions:
            chosen = np.isin(questions, random.choice(groups, max(2, labels // 15), replace=False))
        else:
            chosen = np.isin(np.arange(900), random.choice(900, labels, replace=False))
        rows = rows_of(high, np.where(chosen, 1.0, NAN), np.arange(900) % 3, questions)
        p_values = np.concatenate([imbalance(rows, values)[1] for values in (high, skewed)])
        odd += np.nanmin(holm(p_values), initial=1) < 0.01
    assert odd <= 400 * 0.01 + 3 * np.sqrt(400 * 0.01 * 0.99)


def test_the_difference_of_a_random_sample_is_told_from_all_rows():
    """20 of 200 normal values: the p-value is that of the finite population's standard error, worked out here."""
    random = np.random.default_rng(0)
    values = stats.norm.ppf((np.arange(200) + 0.5) / 200)  # no skewness
    chosen = np.isin(np.arange(200), random.choice(200, 20, replace=False))
    (difference,), (p_value,) = imbalance(rows_of(values, np.where(chosen, 1.0, NAN)), values)
    error = np.sqrt(np.var(values, ddof=1) / 20 * (1 - 20 / 200))
    assert difference == pytest.approx(values[chosen].mean() - values.mean())
    assert p_value == pytest.approx(2 * stats.norm.sf(abs(difference) / error))
    # Weighted by 1 / probability: a sample with such probabilities is a fair one, and without them it is not
    probability = np.linspace(0.02, 0.3, 200)
    fair, plain = [], []
    for repetition in range(100):
        chosen = np.random.default_rng(repetition).random(200) < probability
        human = np.where(chosen, 1.0, NAN)
        known = np.where(chosen, probability, NAN) if repetition % 2 else probability  # gaps where nobody was asked
        fair.append(imbalance(rows_of(values, human, probability=known), values)[1][0] < 0.05)
        plain.append(imbalance(rows_of(values, human), values)[1][0] < 0.05)
    assert np.mean(fair) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 100) and np.mean(plain) > 0.5


def test_human_scores_without_spread_decide_nothing():
    """Rounding of 4.0 is no standard error; nor is that of the other system alone one of the difference."""
    random = np.random.default_rng(0)
    systems, questions = np.tile([0, 1, 2], 120), np.repeat(np.arange(120), 3)
    human = np.where(random.random(360) < 0.15, 4.0, NAN)
    judge = random.normal(3, 1, 360)
    means = prediction_powered(rows_of(judge, human, systems, questions))
    for pair in ([1, -1, 0], [0, 1, -1]):
        found = means.contrast(pair)
        assert found.value == pytest.approx(0, abs=1e-9) and np.isnan(found.error) and np.isnan(found.p_value)
    varied = np.where(np.isfinite(human) & (systems == 1), random.integers(1, 6, 360), human)
    for estimate in (humans_alone, prediction_powered):
        means = estimate(rows_of(judge, varied, systems, questions))
        assert np.isnan(means.contrast([1, -1, 0]).p_value) and means.means[0] > 0
        assert np.isfinite(means.contrast([0, 1, 0]).error)


def test_pass_or_fail_without_a_failure_shows_no_difference():
    """93% pass in both systems, 15 labels each: where one has no failure, no difference is shown."""
    shown, constant = 0, 0
    for repetition in range(300):
        random = np.random.default_rng([5, repetition])
        systems, quality = np.tile([0, 1], 300), (random.random(600) < 0.93) * 1.0
        judge = np.clip(np.where(quality > 0, 0.8, 0.45) + 0.2 * random.normal(size=600), 0, 1)
        chosen = np.concatenate([random.choice(np.flatnonzero(systems == s), 15, replace=False) for s in (0, 1)])
        human = np.where(np.isin(np.arange(600), chosen), quality, NAN)
        rows = rows_of(judge, human, systems, np.repeat(np.arange(300), 2))
        same = not all(np.ptp(human[chosen][systems[chosen] == s]) for s in (0, 1))
        constant += same
        shown += same and prediction_powered(rows).contrast([1, -1]).p_value < 0.05
    assert constant > 100 and shown == 0


def test_a_system_without_labels_has_no_error():
    rows = random_rows(systems=3)
    rows = rows_of(rows.judge, np.where(rows.systems == 2, NAN, rows.human), rows.systems, rows.questions)
    found = prediction_powered(rows).contrast([1, 0, -1])
    assert np.isnan(found.value) and np.isnan(found.error) and np.isnan(detectable(found, 0.05, 0.8))
    assert np.isfinite(prediction_powered(rows).contrast([1, -1, 0]).error)


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


@pytest.mark.parametrize(("labels", "covers"), [(2, False), (MIN_LABELS, True)])
def test_from_how_many_labels_on_intervals_hold(labels, covers):
    """Two systems and 60 questions, 300 draws: below the minimum nominal 95% covers far less."""
    inside = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        quality = 0.4 * random.normal(size=60)[np.repeat(np.arange(60), 2)] + 0.7 * random.normal(size=120)
        human = np.full(120, NAN)
        for system in (0, 1):
            chosen = 2 * random.choice(60, labels, replace=False) + system
            human[chosen] = quality[chosen]
        judge = 0.7 * quality + 0.5 * random.normal(size=120)
        found = prediction_powered(rows_of(judge, human, np.tile([0, 1], 60), np.repeat(np.arange(60), 2)))
        low, high = found.contrast([1, 0]).interval(0.95)
        inside += low <= 0 <= high
    assert (inside / 300 > 0.925) == covers and (covers or inside / 300 < 0.85)
