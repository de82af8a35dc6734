# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The stages `rl` and `sft` on preferences between two responses, from a file of them to a judge."""

import json

import pytest

from real_trl import Judge, JudgeConfig
from real_trl.data.homework import make_dataset
from tests.scripts.test_training_stages import refusal, run, untrained, write_rows

__all__ = ["untrained"]  # a fixture

PAIRS = {
    "dataset_options": None,
    "dataset_train_split": "train",
    "prompt_template": "homework",
    "columns": {"instruction": "orig_instruction", "rubric": "orig_criteria"},
    "pair_columns": ["first", "second"],
    "preference_column": "better",
    "reward": "preference",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rows = make_dataset("rl", 48).to_list()
    pairs = [
        {
            "orig_instruction": a["orig_instruction"],
            "orig_criteria": a["orig_criteria"],
            "first": a["orig_response"],
            "second": b["orig_response"],
            "better": "tie" if a["score"] == b["score"] else "first" if a["score"] > b["score"] else "second",
        }
        for a, b in zip(rows[::2], rows[1::2], strict=True)
    ]
    return write_rows(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", pairs)


def test_a_judge_is_trained_from_pairs(tmp_path, file, untrained):
    output = run("rl", tmp_path, untrained, dataset_name=file, malformed="force", **PAIRS)
    config = JudgeConfig.load(output)
    assert config.method == "preference" and config.prompt_template is not None
    log = json.loads((output / "trainer_state.json").read_text())["log_history"][0]
    assert 0 < log["preference/probability"] < 1 and log["loss/prediction"] > 0
    asked = {"instruction": "Grade this homework from 1 to 5.", "rubric": "Rubric: a close line costs a point."}
    assert Judge.from_pretrained(output).score(**asked, response="1) 3+4 = 8", seed=0).status != "error"


def test_a_direct_judge_is_trained_from_pairs(tmp_path, file, untrained):
    output = run("sft", tmp_path, untrained, dataset_name=file, **{**PAIRS, "reward": None})
    config = JudgeConfig.load(output)
    assert config.method == "raft_pairs" and config.rationale is False
    log = json.loads((output / "trainer_state.json").read_text())["log_history"][0]
    assert 0 < log["preference/probability"] < 1 and "score/abs_error" not in log
    asked = {"instruction": "Grade this homework from 1 to 5.", "rubric": "Rubric: a close line costs a point."}
    judgment = Judge.from_pretrained(output).score(**asked, response="1) 3+4 = 8")
    assert judgment.status == "ok" and 0 < judgment.expected_score <= 5


def test_pairs_and_the_reward_belong_together(tmp_path, file, untrained, capsys):
    said = refusal(capsys, "rl", tmp_path, untrained, dataset_name=file, **{**PAIRS, "reward": "regression"})
    assert "pair_columns: got ['first', 'second'], but scores are needed here" in said
    said = refusal(capsys, "rl", tmp_path, untrained, reward="preference")
    assert "pair_columns is not set" in said
