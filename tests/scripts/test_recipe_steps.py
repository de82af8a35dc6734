# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Every training recipe of the embedded task makes a step, from a small untrained model and on a part of its data."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from real_trl.data.homework import build_model, build_tokenizer
from real_trl.judge_config import JudgeConfig
from real_trl.scripts import rl, self_generate, sft
from tests.tiny import TOKENIZER
from tests.tiny import build_model as build_model_of_any_words

RECIPES = Path(__file__).parents[2] / "recipes"
TRAINING = [
    path
    for folder in ("quickstart", "quickstart-0-100")
    for path in sorted((RECIPES / folder).glob("*.yaml"))
    if path.stem not in ("evaluate", "tract", "tract_self_generate")
]


def untrained(folder: Path, score_range: str) -> Path:
    build_model(hidden_size=32, score_range=score_range).save_pretrained(folder / "untrained")
    build_tokenizer(score_range).save_pretrained(folder / "untrained")
    return folder / "untrained"


def one_step(stage, recipe: Path, model: Path, output: Path, *options: str) -> None:
    paths = ["--model_name_or_path", str(model), "--output_dir", str(output)]
    stage.main(["--config", str(recipe), *paths, "--max_steps", "1", "--eval_strategy", "no", *options])
    state = json.loads((output / "trainer_state.json").read_text())
    assert state["global_step"] == 1
    before, after = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (model, output))
    assert all(value.isfinite().all() for value in after.values())
    if recipe.stem != "standard_rl":  # whose reward is 0 everywhere for an untrained model
        assert any(not torch.equal(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("recipe", TRAINING, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_step_of_every_recipe(tmp_path, recipe):
    keys = yaml.safe_load(recipe.read_text())
    data = {**keys["dataset_options"], "size": 48}
    model = untrained(tmp_path, data.get("score_range", "1-5"))
    # Scores of an untrained model are mostly missing: force one, or take every group
    missing = {"real_released": ["--group_filter", "acc <= 1"]}.get(recipe.stem, [])
    if keys.get("reward") == "accuracy":  # it is 0 everywhere for an untrained model
        missing += ["--preflight_scored_rate", "0", "--max_steps_without_signal", "0"]
    elif "num_generations" in keys:
        missing += ["--malformed", "force"]
    # Without a warm-up the first step has a learning rate above 0
    options = ["--dataset_options", json.dumps(data), "--warmup_steps", "0", "--eval_on_start", "false", *missing]
    one_step(rl if "num_generations" in keys else sft, recipe, model, tmp_path / "judge", *options)


def test_tract_takes_the_rationales_of_a_judge(tmp_path):
    model = untrained(tmp_path, "1-5")
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).save(model)
    rationales = tmp_path / "rationales"
    options = ["--dataset_options", '{"size": 24}', "--malformed", "keep", "--output_dir", str(rationales)]
    recipe = RECIPES / "quickstart" / "tract_self_generate.yaml"
    self_generate.main(["--config", str(recipe), "--model_name_or_path", str(model), *options])
    assert json.loads((rationales / "provenance.json").read_text())
    recipe = RECIPES / "quickstart" / "tract.yaml"
    one_step(sft, recipe, model, tmp_path / "judge", "--dataset_name", str(rationales), "--warmup_steps", "0")


def test_from_scores_to_a_judge_that_reasons(tmp_path):
    """The recipes of short answers, on a file of that form, with an untrained model."""
    header = "question_id,question,reference_answer,student_answer,grader_1,grader_2"
    rows = [f"{i // 2},What is {i}?,It is {i}.,It may be {i}.,{i % 6},{i % 3 + 2}" for i in range(16)]
    (tmp_path / "answers.csv").write_text("\n".join([header, *rows]))
    model = tmp_path / "model"
    build_model_of_any_words().save_pretrained(model)
    TOKENIZER.save_pretrained(model)
    recipes, data = RECIPES / "short-answers", ["--dataset_name", str(tmp_path / "answers.csv")]
    data += ["--prompt_template", str(recipes / "prompt.jinja")]
    paths = ["--model_name_or_path", str(model), "--output_dir", str(tmp_path / "rationales")]
    self_generate.main(["--config", str(recipes / "rationales.yaml"), *paths, *data, "--max_new_tokens", "48"])
    made = [json.loads(line) for line in (tmp_path / "rationales" / "train.jsonl").read_text().splitlines()]
    assert made and all(row["distance"] <= 2.5 for row in made)
    written = ["--dataset_name", str(tmp_path / "rationales"), "--warmup_steps", "0"]
    one_step(sft, recipes / "raft.yaml", model, tmp_path / "raft", *written)
    short = ["--max_completion_length", "48", "--preflight_scored_rate", "0"]
    one_step(rl, recipes / "real.yaml", tmp_path / "raft", tmp_path / "real", *data, *short)
