# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The model has one name in all commands, `--model`; those that it had before still work, on the command line and in recipes."""

import pytest
from trl import ModelConfig

from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments
from real_trl.arguments.options import options_of
from real_trl.arguments.parser import RecipeParser
from real_trl.arguments.serving import ServedJudge
from real_trl.arguments.training import make_parser
from real_trl.cli import STAGES
from real_trl.scripts.push import make_parser as push_parser
from real_trl.trainers import RAFTConfig

OUT, DATA = ("--output_dir", "out"), ("--dataset_name", "synthetic")
PARSERS = {
    "sft": (lambda: make_parser(RAFTConfig), (*OUT, *DATA)),
    "evaluate": (lambda: RecipeParser((EvaluateArguments, EvaluateDataArguments, ModelConfig)), OUT),
    "serve": (lambda: RecipeParser(ServedJudge), ()),
}
NAMES = ("model", "judge", "model_name_or_path")


@pytest.mark.parametrize("command", PARSERS)
def test_each_name_is_the_same_option(command, tmp_path):
    parser, others = PARSERS[command]
    for name in NAMES:
        assert (
            parser().parse_args_and_config([f"--{name}", "some/model", *others])[-1].model_name_or_path == "some/model"
        )
        (tmp_path / "recipe.yaml").write_text(f"{name}: some/model\n")
        parsed = parser().parse_args_and_config(["--config", str(tmp_path / "recipe.yaml"), *others])
        assert parsed[-1].model_name_or_path == "some/model"
    command_line = ["--config", str(tmp_path / "recipe.yaml"), "--model", "another", *others]
    assert parser().parse_args_and_config(command_line)[-1].model_name_or_path == "another"


def test_two_of_them_in_one_recipe_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: a\nmodel_name_or_path: b\n")
    with pytest.raises(ValueError, match="model: it is also there as model_name_or_path"):
        PARSERS["serve"][0]().parse_args_and_config(["--config", str(tmp_path / "recipe.yaml")])


def test_every_command_with_a_model_takes_it():
    without = {
        "recipes",
        "compare",
        "plan",
        "doctor",
        "quickstart",
        "export_smollm2",
    }  # plan and doctor: by their recipe
    for command in STAGES:
        if command not in without:
            assert "--model" in [option.names[0] for option in options_of(command).values()], command


def test_of_a_judge_to_publish():
    for name in ("--model", "--judge"):
        assert push_parser().parse_args([name, "outputs/my-real", "--local_dir", "x"]).judge == "outputs/my-real"
