# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How a judge's own scale and choices meet the recipe's."""

import pytest

from real_trl import JudgeConfig
from real_trl.judge_source import find_judge
from tests.tiny import TOKENIZER

WORDS = {"score_labels": "wrong,close,right", "score_values": [0.0, 0.5, 1.0]}


@pytest.fixture
def judge(tmp_path):
    JudgeConfig(["wrong", "close", "right"], [0.0, 0.5, 1.0], normalize_expectation=True).save(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    return str(tmp_path)


def resolve(model, **arguments):
    source = find_judge(model, **arguments)
    return source.config, source.space


def test_a_judge_brings_its_own_scale(judge):
    for arguments in ({}, WORDS, {"score_labels": "wrong, close, right"}, {"score_values": [0, 0.5, 1]}):
        config, space = resolve(judge, **arguments)
        assert (space.labels, space.values) == (("wrong", "close", "right"), (0.0, 0.5, 1.0))
        assert config.normalize_expectation


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            {"score_labels": "wrong,right"},
            r"score_labels: got \['wrong', 'right'\], but the judge .* was trained with",
        ),
        ({**WORDS, "score_values": [1.0, 2.0, 3.0]}, r"score_values: got \[1.0, 2.0, 3.0\], but the judge"),
        ({"score_marker": "score is "}, "score_marker: got 'score is ', but the judge"),
        ({"chat": True}, "chat: got True, but the judge"),
    ],
)
def test_a_judge_is_not_contradicted(judge, arguments, expected):
    with pytest.raises(ValueError, match=expected):
        resolve(judge, **arguments)


def test_temperature_and_expectation_are_choices_of_the_user(judge):
    config, _ = resolve(judge, temperature=0.5, normalize_expectation=False)
    assert (config.temperature, config.normalize_expectation) == (0.5, False)


def test_another_model_takes_the_recipes_scale(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    config, space = resolve(str(tmp_path), **WORDS, normalize_expectation=True)
    assert space.values == (0.0, 0.5, 1.0) and config.score_values == [0.0, 0.5, 1.0]
    assert config.normalize_expectation and config.temperature == 1.0
    with pytest.raises(ValueError, match="score_values is not set"):
        resolve(str(tmp_path), score_labels="wrong,close,right")
