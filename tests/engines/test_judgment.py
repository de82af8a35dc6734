# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of an engine that are no distribution never become a score; rounding is taken off."""

import math
from dataclasses import replace

import pytest
import torch

from real_trl.engines import Judgment
from real_trl.engines.averaging import average_judgments
from real_trl.score_space import ScoreLocation, ScoreSpace
from tests.tiny import DIGITS
from tests.tokenizers_zoo import TOKENIZERS

SPACE = ScoreSpace.from_labels("1-5", TOKENIZERS["smollm"]())
TEXT = "Good. So the overall score is 4"


def judgment(probabilities, missing_mass=0.0, normalize=False):
    log_probs = torch.tensor([math.nan if p is None else math.log(p) if p else -math.inf for p in probabilities])
    return Judgment.from_distribution(
        TEXT,
        ScoreLocation("ok", 5, 3),
        log_probs,
        SPACE,
        normalize=normalize,
        prompt_tokens=7,
        num_tokens=9,
        missing_mass=missing_mass,
    )


@pytest.mark.parametrize(
    "probabilities, missing_mass, why",
    [
        ([0.1, 0.1, 0.1, 1.9, 0.1], 0.0, "the log-probability of the label '4' is 0.6419, and none is above 0"),
        ([0.5, 0.4, 0.1, 0.5, 0.2], 0.0, "sum to 1.7, and no distribution to more than 1"),
        ([1, 1, 1, 1, 1], 0.0, "sum to 5"),  # log-probabilities that are all exactly 0
        ([0.1, None, 0.1, 0.1, 0.1], 0.0, "the probability of the label '2' is NaN: the model's output is not finite"),
        ([None] * 5, 0.0, "NaN"),
        ([None] * 5, 1.0, "no label is among the most likely tokens that the server returned"),
        ([math.inf, 0.1, 0.1, 0.1, 0.1], 0.0, "the log-probability of the label '1' is inf"),
        ([0, 0, 0, 0, 0], 0.0, "no label has any probability"),
    ],
)
@pytest.mark.parametrize("normalize", [False, True])
def test_numbers_that_are_no_distribution_are_no_score(probabilities, missing_mass, why, normalize):
    found = judgment(probabilities, missing_mass, normalize)
    assert found.status == "unscored" and why in found.error
    scores = (found.expected_score, found.sampled_score, found.most_likely_score, found.probabilities, found.mass)
    assert scores == (None,) * 5
    assert (found.completion, found.rationale, found.prompt_tokens, found.num_tokens) == (TEXT, "Good.", 7, 9)


def test_rounding_is_no_fault_and_puts_no_mean_beyond_the_scale():
    found = judgment([0.001, 0.001, 0.001, 0.001, 1.00004])
    assert found.status == "ok" and found.error is None
    assert found.mass == pytest.approx(1, abs=1e-12) and sum(found.probabilities.values()) == pytest.approx(
        1, abs=1e-12
    )
    assert found.expected_score == pytest.approx((0.001 * 10 + 5) / 1.004) and found.expected_score <= 5
    exact = judgment([0.02, 0.05, 0.2, 0.6, 0.1])
    assert list(exact.probabilities.values()) == pytest.approx([0.02, 0.05, 0.2, 0.6, 0.1], abs=1e-6)
    assert exact.expected_score == pytest.approx(0.02 + 0.1 + 0.6 + 2.4 + 0.5, abs=1e-6)


def test_labels_that_a_server_did_not_name_stay_unknown():
    found = judgment([None, 0.1, 0.2, 0.3, 0.1], missing_mass=0.3)
    assert found.status == "ok" and math.isnan(found.probabilities["1"]) and found.missing_mass == 0.3


def test_an_average_leaves_out_samples_without_an_answer_and_says_so():
    good, refused = judgment([0, 0, 0, 1, 0]), Judgment.unscored("request 17: filtered")
    mean = average_judgments([refused, good, Judgment.unscored("request 4: filtered")], SPACE.values)
    assert (mean.status, mean.expected_score, mean.completion) == ("ok", 4, TEXT)
    assert mean.error == "2 of 3 samples: request 17: filtered"
    none = average_judgments([refused, refused], SPACE.values)
    assert (none.status, none.expected_score, none.error) == ("unscored", None, "request 17: filtered")
    assert average_judgments([good, good], SPACE.values).error is None


def test_it_is_printed_in_a_line():
    found = replace(judgment([0.02, 0.05, 0.2, 0.6, 0.1]), rationale="It says\nwhat a stack does. " * 20)
    line = repr(found)
    assert line.startswith(
        "Judgment(expected_score=3.62, sampled_score=4, probabilities={'1': 0.020, '2': 0.050, '3': 0.200, "
    )
    assert "status='ok', rationale='It says what a stack does. It says" in line and " …')" in line
    assert len(line) < 240 and "\n" not in line
    assert str(found) == line
    unscored = Judgment.unscored("the server refuses it")
    assert repr(unscored) == (
        "Judgment(expected_score=None, sampled_score=None, status='unscored', error='the server refuses it')"
    )


def test_of_many_labels_the_likeliest_are_printed():
    space = ScoreSpace.from_labels("0-100", DIGITS)
    shares = torch.full((101,), 0.001, dtype=torch.float64)
    shares[42] = 0.8
    wide = Judgment.read(shares.log(), space, normalize=False, prompt_tokens=1)
    assert "'42': 0.800" in repr(wide) and ", …}" in repr(wide) and repr(wide).count(": 0.001") == 6
