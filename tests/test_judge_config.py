# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from real_trl.finite_weights import check_finite, check_finite_files
from real_trl.judge_config import JUDGE_CONFIG_NAME, JudgeConfig, package_versions
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER, build_model

SPACE = ScoreSpace.from_labels(["5", "3", "1"], TOKENIZER, marker="the score is ", values=[1.0, 0.5, 0.0])


def test_what_is_saved_is_what_is_loaded(tmp_path):
    config = JudgeConfig.from_space(
        SPACE, chat=True, temperature=0.7, method="regression", base_model="café/judge", training={"seed": 3}
    )
    config.save(tmp_path)
    assert JudgeConfig.load(tmp_path) == JudgeConfig.load(str(tmp_path)) == config
    text = (tmp_path / JUDGE_CONFIG_NAME).read_text(encoding="utf-8")
    assert "café" in text and text.endswith("}\n")


def test_the_score_space_comes_back(tmp_path):
    JudgeConfig.from_space(SPACE).save(tmp_path)
    space = JudgeConfig.load(tmp_path).score_space(TOKENIZER)
    assert space == SPACE
    assert (space.labels, space.values, space.marker) == (("5", "3", "1"), (1.0, 0.5, 0.0), "the score is ")


def test_versions_of_the_run_are_recorded():
    versions = JudgeConfig.from_space(SPACE).versions
    assert versions == package_versions()
    assert {"python", "torch", "transformers", "trl"} <= versions.keys()


def test_a_missing_file_says_what_to_state_instead(tmp_path):
    with pytest.raises(FileNotFoundError, match="no judge_config.json found.*score_labels"):
        JudgeConfig.load(tmp_path)


def test_corrupt_json_is_named(tmp_path):
    (tmp_path / JUDGE_CONFIG_NAME).write_text('{"score_labels": ["1", ')
    with pytest.raises(ValueError, match="judge_config.json: not valid JSON"):
        JudgeConfig.load(tmp_path)


def test_unknown_fields_are_named(tmp_path):
    JudgeConfig.from_space(SPACE).save(tmp_path)
    path = tmp_path / JUDGE_CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), "bias": 1}))
    with pytest.raises(ValueError, match=r"unknown fields \['bias'\]"):
        JudgeConfig.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"score_labels": ["1", "2"]}'])
def test_missing_fields_are_named(tmp_path, text):
    (tmp_path / JUDGE_CONFIG_NAME).write_text(text)
    with pytest.raises(ValueError, match="judge_config.json: .*score_values"):
        JudgeConfig.load(tmp_path)


def test_a_judge_whose_weights_are_not_finite_is_refused(tmp_path):
    model = build_model()
    model.get_input_embeddings().weight.data[3, 1] = float("nan")
    with pytest.raises(ValueError, match="some/judge: its weights are not finite .*embed.*lower learning_rate"):
        check_finite(model, "some/judge")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="some/judge: its weights are not finite .*embed"):
        check_finite_files(tmp_path, "some/judge")
    check_finite(build_model(), "some/judge")
