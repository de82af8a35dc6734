# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import math

import pytest

from real_trl.scale import Scale, parse_labels


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("1-5", ("1", "2", "3", "4", "5")),
        (" 0 - 9 ", tuple("0123456789")),
        ("8-11", ("8", "9", "10", "11")),
        ("0-100", tuple(str(number) for number in range(101))),
        ("0-100:25", ("0", "25", "50", "75", "100")),
        ("1-3:0.5", ("1", "1.5", "2", "2.5", "3")),
        ("0.5-2.5", ("0.5", "1.5", "2.5")),
        ("0-0.4 : 0.1", ("0", "0.1", "0.2", "0.3", "0.4")),  # 0.1 + 0.2 is 0.3 here
        ("10-30:10.0", ("10", "20", "30")),
        ("6-1", tuple("654321")),
        ("2-0:0.5", ("2", "1.5", "1", "0.5", "0")),
        ("A-E", tuple("ABCDE")),
        ("a - c", tuple("abc")),
        ("poor, fair,very good", ("poor", "fair", "very good")),
        ("1,3,5", ("1", "3", "5")),
        (["B", " A "], ("B", "A")),
        ([1, 2.0, 2.5], ("1", "2", "2.5")),
        (range(3), ("0", "1", "2")),
    ],
)
def test_parse_labels(labels, expected):
    assert parse_labels(labels) == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("1-1", "score_labels='1-1' is not a scale"),
        ("", "score_labels='' is not a scale"),
        ("5", "score_labels='5' is not a scale"),
        (5, "score_labels='5' is not a scale"),
        ("-1-3", "score_labels='-1-3' is not a scale"),
        ("01-05", "score_labels='01-05' is not a scale"),
        ("1-5-9", "score_labels='1-5-9' is not a scale"),
        ("E-A", "score_labels='E-A' is not a scale"),
        ("A-e", "score_labels='A-e' is not a scale"),
        ("good", "score_labels='good' is not a scale: .* or list the labels, as 'poor,fair,good'"),
        ("1-5:0", "score_labels='1-5:0' is not a scale"),
        ("1-5:-1", "score_labels='1-5:-1' is not a scale"),
        ("1-5:", "score_labels='1-5:' is not a scale"),
        ("1-5:0.3", "steps of 0.3 from 1 do not lead to 5"),
        ("1.5-5", "steps of 1 from 1.5 do not lead to 5"),
        ("0-5:0.0000001", "50000001 labels, more than 10000"),
        ("good,", "score_labels holds ''"),
        ([], "at least two labels"),
        (["1"], "at least two labels"),
        (["1", "2", "1"], "the label '1' twice"),
        ([1, "1"], "the label '1' twice"),
        (["1", " "], "score_labels holds ' '"),
        (["1", None], "score_labels holds None"),
        ([True, False], "score_labels holds True: .*in quotes"),
        ([1.0, math.inf], "score_labels holds inf"),
    ],
)
def test_parse_labels_refuses(labels, message):
    with pytest.raises(ValueError, match=message):
        parse_labels(labels)


def test_numbers_are_their_own_values():
    half = Scale.parse("1-5:0.5")
    assert half.values == (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
    assert (half.low, half.high) == (1.0, 5.0)
    assert Scale.parse([5, 3.5, "1"]) == Scale(("5", "3.5", "1"), (5.0, 3.5, 1.0))
    assert Scale.parse("0-1:0.1").values[3] == 0.3


@pytest.mark.parametrize(("labels", "values"), [("poor,fair,good", [1, 2, 4.5]), ("A-C", [0.0, -1, -2])])
def test_words_and_letters_have_stated_values(labels, values):
    scale = Scale.parse(labels, values)
    assert scale.values == tuple(map(float, values))
    assert (scale.low, scale.high) == (min(values), max(values))
    for label, value in zip(scale.labels, values, strict=True):
        assert scale.label_of(value) == label and scale.value_of(f" {label} ") == value


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        ("A-C", None, "score_values is not set, and the score label 'A' is not a number.* A, B, C .* e.g. 1, 2, 3"),
        (["1", "nan"], None, "score_values is not set, and the score label 'nan'"),
        ("A-Z", None, "A, B, C, …, Z .* e.g. 1, 2, 3, …, 26"),
        (["A", "B"], [1.0], "score_values has 1 values for 2 labels, A, B"),
        (["A", "B"], [1.0, math.nan], "label 'B' has the value nan, which is not a finite number"),
        (["A", "B"], [1.0, None], "label 'B' has the value None, which is not a finite number"),
        (["A", "B"], [1.0, True], "label 'B' has the value True, which is not a finite number"),
        (["A", "B"], [1.0, 1], "label 'B' has the value 1, which an earlier label has too"),
        (["4", "4.0"], None, "label '4.0' has the value '4.0', which an earlier label has too"),
    ],
)
def test_values_refused(labels, values, message):
    with pytest.raises(ValueError, match=message):
        Scale.parse(labels, values)


@pytest.mark.parametrize(
    ("labels", "values", "out_of_order", "fix"),
    [
        ("1,2,4,3,5", None, "'3' (3) stands after '4' (4), while the others go up", "1, 2, 3, 4, 5"),
        ([5, 1, 2, 3], None, "'1' (1) stands after '5' (5), while the others go up", "1, 2, 3, 5"),
        ("A-D", [4, 2, 3, 1], "'C' (3) stands after 'B' (2), while the others go down", "A, C, B, D"),
        (["good", "poor", "fair"], [3, 1, 2], "'poor' (1) stands after 'good' (3)", "poor, fair, good"),
    ],
)
def test_labels_in_no_order(labels, values, out_of_order, fix):
    with pytest.raises(ValueError) as error:
        Scale.parse(labels, values)
    assert "are in no order" in str(error.value)
    assert out_of_order in str(error.value) and f"score_labels {fix} with score_values" in str(error.value)


def test_no_such_label_or_value():
    scale = Scale.parse("0-100")
    with pytest.raises(ValueError, match="score=0.5 is none of the values 0, 1, 2, …, 100 of the scale"):
        scale.label_of(0.5)
    with pytest.raises(ValueError, match="'007' is none of the labels 0, 1, 2, …, 100: correct it"):
        scale.value_of("007")
    assert str(Scale.parse("0-9")) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"


@pytest.mark.parametrize(
    ("labels", "values", "best", "worst"),
    [
        ("1-5", None, "5", "1"),
        ("6-1", None, "1", "6"),
        ("1-6", [6, 5, 4, 3, 2, 1], "1", "6"),  # these values say that more is better
        ("good,fair,poor", [3, 2, 1], "good", "poor"),
        ("poor,fair,good", [1, 2, 3], "good", "poor"),
    ],
)
def test_which_end_is_the_best(labels, values, best, worst):
    scale = Scale.parse(labels, values)
    assert (scale.best, scale.worst) == (best, worst)
    assert scale.lower_is_better == (labels == "6-1")
    assert (
        Scale.parse(scale.labels, scale.values).lower_is_better == scale.lower_is_better
    )  # as a judge's config has it


@pytest.mark.parametrize(
    ("labels", "score", "reward"),
    [("1-5", 1, 0), ("1-5", 5, 1), ("1-5", 4.5, 0.875), ("1-5", 0.7, 0), ("1-5", 5.2, 1), ("6-1", 1, 1), ("6-1", 5, 0.2), ("6-1", 0.5, 1)],
)  # fmt: skip
def test_a_reward_is_the_way_from_the_worst_to_the_best(labels, score, reward):
    assert Scale.parse(labels).reward(score) == pytest.approx(reward)


def test_scores_on_a_scale_where_1_is_the_best_are_the_numbers_that_are_written():
    scale = Scale.parse("6-1")
    assert (scale.read("1"), scale.read(2.5), scale.low, scale.high) == (1.0, 2.5, 1.0, 6.0)
    assert scale.nearest_label(1.2) == "1" and scale.value_of("6") == 6.0


@pytest.mark.parametrize(
    ("labels", "values", "ambiguous", "plain"),
    [
        ("1-5", [5, 4, 3, 2, 1], [1, 2.0, 5], [3, 2.5, 6, "1", None]),
        ("1-5", [1, 2, 3, 5, 8], [4, 5], [1, 2, 3, 8, "5", 4.5]),
        ("1-3", [0, 1, 2], [1, 2], [0, 3, "2"]),
        ("1-5", None, [], [1, 5, 2.5]),
        ("poor,good", [1, 2], [], [1, 2]),
    ],
)
def test_a_number_that_is_a_label_of_another_is_ambiguous(labels, values, ambiguous, plain):
    scale = Scale.parse(labels, values)
    assert all(map(scale.is_ambiguous, ambiguous)) and not any(map(scale.is_ambiguous, plain))
