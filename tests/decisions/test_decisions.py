# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from scipy import stats

from real_trl.decisions.inference import Contrast, ScoredRows, humans_alone, prediction_powered
from real_trl.decisions.labels import chances, detectable, draw, labelled_probability, needed_labels
from real_trl.decisions.ranking import alike_sets, possible_places
from real_trl.decisions.wins import by_question, win_rate, wins
from tests.decisions.test_inference import NAN, random_rows, rows_of


def test_win_rate_of_two_distributions():
    # P(A=2)=.5, P(A=3)=.5; P(B=1)=.2, P(B=2)=.8: A is better with .5·.2 + .5·1, and ties with .5·.8
    a, b = np.array([0, 0.5, 0.5]), np.array([0.2, 0.8, 0])
    assert wins(a, b) == pytest.approx(0.6 + 0.4 / 2)
    assert wins(b, a) == pytest.approx(0.2) and wins(a, a) == pytest.approx(0.5)


def test_win_rate_is_that_of_common_questions_and_is_corrected_by_people():
    random = np.random.default_rng(0)
    questions, systems = np.repeat(np.arange(600), 2), np.tile([0, 1], 600)
    better = random.random(600) < 0.9  # A's answer is the better one
    quality = np.where(np.repeat(better, 2) == (systems == 0), 1, 0)
    # The judge sees it, but says the same of both for half of the questions
    blind = np.repeat(random.random(600) < 0.5, 2)
    p = np.where(blind, 0.5, quality)
    probabilities = np.column_stack([1 - p, p])
    labelled = np.repeat(random.random(600) < 0.6, 2)
    rows = ScoredRows(systems, questions, p, np.where(labelled, quality, NAN))
    found = win_rate(rows, by_question(rows, probabilities), 0, 1)
    assert found["questions"] == 600 and found["labelled"] == labelled.sum() / 2
    assert found["judge"].value == pytest.approx(np.mean(np.where(blind[::2], 0.5, better)))
    low, high = found["corrected"].interval(0.95)
    assert low < better.mean() < high and found["judge"].value < 0.75 < low
    # B's share is the rest; where lower is better, people's scores are turned round
    assert win_rate(rows, by_question(rows, probabilities), 1, 0)["corrected"].value == pytest.approx(
        1 - found["corrected"].value
    )
    turned = ScoredRows(systems, questions, p, -rows.human)
    assert win_rate(turned, by_question(rows, probabilities), 0, 1, falls=True)["corrected"].value == pytest.approx(
        found["corrected"].value
    )
    apart = rows_of([0.5, 0.5], [NAN, NAN], [0, 1])  # no question in common
    assert win_rate(apart, by_question(apart, np.full((2, 2), 0.5)), 0, 1) is None


def test_places_and_sets_that_cannot_be_told_apart():
    # A is better than C and D, B than D
    better = {"A": {"C", "D"}, "B": {"D"}, "C": set(), "D": set()}
    assert possible_places(list("ABCD"), better) == {"A": (1, 2), "B": (1, 3), "C": (2, 4), "D": (3, 4)}
    assert alike_sets(list("ABCD"), better) == [["A", "B"], ["B", "C"], ["C", "D"]]
    assert alike_sets(["A", "B"], {"A": {"B"}, "B": set()}) == [["A"], ["B"]]
    assert alike_sets(list("ABC"), {name: set() for name in "ABC"}) == [["A", "B", "C"]]


def test_labels_that_show_a_difference_do_show_it():
    """As many as it asks for are drawn, and the difference is found with about the power asked for."""
    random = np.random.default_rng(0)

    def draw_rows(labels):
        n = 2000
        systems, quality = np.arange(n) % 2, random.normal(0, 1, n)
        quality = quality + 0.4 * systems
        human = np.full(n, NAN)
        chosen = random.choice(n, labels, replace=False)
        human[chosen] = quality[chosen]
        return rows_of(quality + random.normal(0, 0.7, n), human, systems, np.arange(n) // 2)

    pilot = prediction_powered(draw_rows(400)).contrast([1, -1])
    needed = needed_labels(pilot, 400, 2000, 0.4, 0.05, 0.8)
    assert 60 < needed < 400
    found = np.mean([prediction_powered(draw_rows(needed)).contrast([1, -1]).p_value < 0.05 for _ in range(300)])
    assert found == pytest.approx(0.8, abs=0.08)


def test_labels_needed_by_hand():
    # Variance 0.01 from 100 labels, 0.001 stays; with (1.960 + 0.842)² = 7.849: 0.3² / 7.849 = 0.011467 is allowed
    contrast = Contrast(0.1, np.sqrt(0.011), 1e9, 0.01, 0.001)
    assert needed_labels(contrast, 100, 1000, 0.3, 0.05, 0.8) == np.ceil(0.01 * 100 / (0.3**2 / 7.8489 - 0.001))
    assert needed_labels(contrast, 100, 1000, 0.05, 0.05, 0.8) is None  # what stays is too much
    assert needed_labels(contrast, 100, 90, 0.3, 0.05, 0.8) is None  # more than there are rows
    assert detectable(contrast, 0.05, 0.8) == pytest.approx(2.8016 * np.sqrt(0.011), rel=1e-4)


@pytest.mark.parametrize("whole_questions", [False, True])
def test_what_answers_of_one_question_share_stays_however_many_are_labelled(whole_questions):
    """
    20 questions with 50 answers of each of two systems, of which 100 rows, or all rows of 4 questions, are labelled: the variance that is predicted with labels of all
    rows is what it then is. Where rows were chosen one by one, more labels are of the same questions; where questions were, of other ones.
    """
    predicted, found = [], []
    systems, questions = np.tile([0, 1], 1000), np.repeat(np.arange(20), 100)
    for repetition in range(100):
        random = np.random.default_rng(repetition)
        quality = 3 + 0.4 * random.normal(size=(20, 2))[questions, systems] + 0.6 * random.normal(size=2000)
        judge = quality + 0.5 * random.normal(size=2000)
        chosen = random.choice(2000, 100, replace=False)
        if whole_questions:
            chosen = np.flatnonzero(np.isin(questions, random.choice(20, 4, replace=False)))
        human = np.where(np.isin(np.arange(2000), chosen), quality, NAN)
        now, then = (prediction_powered(rows_of(judge, y, systems, questions)) for y in (human, quality))
        now, then = now.contrast([1, -1]), then.contrast([1, -1])
        predicted.append(now.from_all + now.from_labels * len(chosen) / 2000)
        found.append(then.error**2)
        assert now.error**2 == pytest.approx(now.from_all + now.from_labels)
        assert now.most_freedom == 20 - 2 - 1
    error = np.std(predicted) / 10
    assert error < 0.3 * np.mean(found) and np.mean(predicted) == pytest.approx(np.mean(found), abs=3.5 * error)
    assert np.mean(predicted) > 0.7 * np.mean(found)


def test_rows_that_are_labelled_together():
    systems, questions = np.tile([0, 0, 1, 1], 200), np.repeat(np.arange(200), 4)
    random = np.random.default_rng(0)

    def together(labelled):
        return rows_of(np.zeros(800), np.where(labelled, 1.0, NAN), systems, questions).labelled_together

    assert together(questions < 40) == pytest.approx((1, 1))
    assert together(random.random(800) < np.where(systems == 0, 0.5, 0.1)) == pytest.approx((0, 0), abs=0.12)
    cells = np.isin(2 * questions + systems, random.choice(400, 100, replace=False))
    assert together(cells) == pytest.approx((1, 0), abs=0.15)


def test_labels_of_the_same_questions_do_not_add_degrees_of_freedom():
    contrast = Contrast(0.1, np.sqrt(0.011), 9, 0.01, 0.001, most_freedom=10)
    freely = Contrast(0.1, np.sqrt(0.011), 9, 0.01, 0.001)
    few, more = (needed_labels(each, 100, 10_000, 0.15, 0.05, 0.8) for each in (freely, contrast))
    t = stats.t.ppf(0.975, 10) + stats.t.ppf(0.8, 10)
    assert more == np.ceil(0.01 * 100 / ((0.15 / t) ** 2 - 0.001)) > few


def test_rows_are_drawn_with_the_probabilities_that_are_said():
    rows = random_rows(n=60, labels=12)
    doubt = np.linspace(0.1, 2, 60)
    chance = chances(rows, doubt, 20)
    free = ~rows.is_labelled
    assert chance[free].sum() == pytest.approx(20)
    assert chance[free].min() >= 0.4 * 20 / free.sum()  # none is neglected
    counts = np.zeros(60)
    for seed in range(3000):
        drawn = draw(rows, chance, 20, seed)
        assert len(set(drawn)) == 20 and free[drawn].all() and (np.diff(chance[drawn]) <= 0).all()
        counts[drawn] += 1
    assert counts[free] / 3000 == pytest.approx(chance[free], abs=0.04)
    before = (rows.n_labels / rows.n_rows)[rows.systems]
    assert labelled_probability(rows, chance) == pytest.approx(1 - (1 - before) * (1 - chance))
    assert chances(rows, None, int(free.sum())) == pytest.approx(np.ones(60))  # all of them
    wide = chances(rows, np.where(np.arange(60) < 5, 100.0, 0.1), 40)
    assert wide.max() == 1 and wide[free].sum() == pytest.approx(40)


def test_labels_chosen_by_doubt_do_not_bias_the_mean():
    """The judge is in doubt where answers are good: unweighted, the mean of the labels is far too high."""
    weighted, plain = [], []
    for seed in range(150):
        random = np.random.default_rng(seed)
        quality = random.normal(0, 1, 600)
        doubt = np.exp(quality)
        human = np.full(600, NAN)
        human[:30] = quality[:30]
        rows = rows_of(np.zeros(600), human)
        chance = chances(rows, doubt, 60)
        following = draw(rows, chance, 60, seed)
        probability = labelled_probability(rows, chance)
        human[following] = quality[following]
        weighted.append(humans_alone(rows_of(np.zeros(600), human, probability=probability)).means[0])
        plain.append(humans_alone(rows_of(np.zeros(600), human)).means[0])
    assert np.mean(plain) > 0.2 and abs(np.mean(weighted)) < 4 * np.std(weighted) / np.sqrt(150) + 0.01
