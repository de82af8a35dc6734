# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Every recipe is one that its script takes, opens with the command that runs it, and names no particular machine."""

import re
from pathlib import Path

import pytest
import yaml
from trl import ModelConfig

from real_trl.data import DataArguments
from real_trl.scripts.common import make_parser
from real_trl.scripts.evaluate import EvaluateArguments
from real_trl.scripts.recipe import RecipeParser
from real_trl.trainers import RAFTConfig, REALConfig

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for path in ROOT.glob("recipes/*/*.yaml") if path.parent.name != "accelerate_configs")
PARSERS = {
    "sft": lambda: make_parser(RAFTConfig),
    "rl": lambda: make_parser(REALConfig),
    "evaluate": lambda: RecipeParser((EvaluateArguments, DataArguments, ModelConfig)),
}
COMMAND = re.compile(r"^#\s+accelerate launch .*-m real_trl\.scripts\.(\w+) .*--config (\S+)", re.MULTILINE)
MACHINE_PATH = re.compile(r"""(?:^|[\s"'=:\[{,])(?:/|~|[A-Za-z]:\\)[\w.~-]""")

each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: f"{path.parent.name}/{path.name}")


def command(recipe: Path) -> tuple[str, str]:
    """Stage and recipe path of the command in the comment that opens the recipe."""
    header = "".join(line for line in recipe.read_text(encoding="utf-8").splitlines(True) if line.startswith("#"))
    found = COMMAND.search(header)
    assert found, f"{recipe}: no `accelerate launch … -m real_trl.scripts.<stage> --config …` in its comments"
    return found[1], found[2]


@each_recipe
def test_opens_with_its_own_command(recipe):
    lines = recipe.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    stage, path = command(recipe)
    assert ROOT / path == recipe
    assert stage in PARSERS
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert any(COMMAND.match(line) for line in header)


@each_recipe
def test_is_taken_by_its_script(recipe, tmp_path):
    parsed = PARSERS[command(recipe)[0]]().parse_args_and_config(["--config", str(recipe)])
    stated = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    taken = {name: getattr(part, name) for part in parsed for name in stated if hasattr(part, name)}
    assert stated.keys() - {"env"} == taken.keys()
    for name in ("model_name_or_path", "output_dir", "dataset_name"):
        assert stated[name] == taken[name]


@each_recipe
def test_names_no_machine(recipe):
    text = recipe.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), 1):
        assert not MACHINE_PATH.search(line.replace("://", "")), f"{recipe}:{number}: {line}"


@pytest.mark.parametrize(("reward", "weight"), [("accuracy", 0.0), ("log_likelihood", 1.0), ("regression", 0.01)])
def test_baselines_are_one_override_away(reward, weight):
    recipe = str(ROOT / "recipes" / "quickstart" / "real.yaml")
    _, _, config, _ = make_parser(REALConfig).parse_args_and_config(["--config", recipe, "--reward", reward])
    assert (config.reward, config.prediction_weight) == (reward, weight)
