# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The stages `rl` and `sft` on preferences between two responses, from a file of them to a judge."""

import json
import re
from pathlib import Path

import pytest

from real_trl import Judge, JudgeConfig
from real_trl.data.homework import make_dataset
from real_trl.scripts import evaluate, sft
from tests.onboarding.files import sheet, write_model
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


def test_the_recipes_of_the_page_run_as_written(tmp_path, monkeypatch):
    """But for the model, and the number of steps."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "your-data.md").read_text(encoding="utf-8")
    section = page[page.index("## Preferences in place of scores") : page.index("## Rationales that a model")]
    for block in re.findall(r"```(?:yaml|jinja)\n(.*?)```", section, re.DOTALL):
        name = re.match(r"(?:#|\{#) (\S+)", block)[1]
        Path(name).write_text(block, encoding="utf-8")
    Path("data").mkdir()
    worst_first = sorted(sheet(), key=lambda row: (row["question"], row["score"]))
    pairs = [
        {"prompt": low["question"], "chosen": high["answer"], "rejected": low["answer"]}
        for low, high in zip(worst_first, worst_first[1:], strict=False)
        if low["question"] == high["question"] and low["score"] < high["score"]
    ]
    write_rows(Path("data/pairs.jsonl"), pairs)
    tiny = ["--model_name_or_path", str(write_model(tmp_path / "tiny")), "--report_to", "none"]
    sft.main(["--config", "my-pairs.yaml", *tiny, "--max_steps", "2"])
    evaluate.main(["--config", "my-pairs-evaluate.yaml"])
    config = JudgeConfig.load("outputs/my-pairs")
    assert (config.method, config.rationale) == ("raft_pairs", False)
    found = json.loads(Path("outputs/my-pairs/evaluation/evaluation.json").read_text())["choices"]["test"]
    held_out = found["n_questions"]
    assert found["kind"] == "pairs" and 0 < held_out < len(pairs) / 2
    judge = Judge.from_pretrained("outputs/my-pairs")
    assert judge.score(instruction=pairs[0]["prompt"], response=pairs[0]["chosen"]).status == "ok"
