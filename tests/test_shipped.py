# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Recipes that come with the package, in a folder that has none: found by their names, listed, copied, never before the user's own."""

import re

import pytest
import yaml

from real_trl import shipped
from real_trl.arguments.training import make_parser
from real_trl.planning.recipe import read_recipe, recipe_sharding
from real_trl.planning.setup import Cluster, read_sharding
from real_trl.prompts.template import load_template
from real_trl.scripts import plan, recipes
from real_trl.shipped import FOLDER, find_file
from real_trl.trainers import REALConfig

CLUSTER = Cluster(1, 8, "A100", 80 * 2**30)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped._tell.cache_clear()
    return tmp_path


def test_a_recipe_is_found_by_its_name_and_said_once_to_be_the_packages(capsys):
    for name in ("qwen3-8b/real.yaml", "recipes/qwen3-8b/real.yaml"):
        assert find_file(name) == FOLDER / "qwen3-8b" / "real.yaml" == find_file(name)
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("not in this folder; taken from the package") == 1


def test_a_file_of_the_user_comes_first(empty_folder, capsys):
    (empty_folder / "qwen3-8b").mkdir()
    own = empty_folder / "qwen3-8b" / "real.yaml"
    own.write_text("reward: accuracy\noutput_dir: own\ndataset_name: synthetic\nuse_cpu: true\n")
    *_, config, _ = make_parser(REALConfig).parse_args_and_config(["--config", "qwen3-8b/real.yaml"])
    assert (config.reward, config.output_dir) == ("accuracy", "own") and capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["no.yaml", "qwen3-8b/no.yaml", "../shipped.py", "recipes/../shipped.py", "/recipes", "", "x" * 5000, "\0"]
)
def test_what_is_not_there_stays_as_it_is(name):
    assert str(find_file(name)) == (name or ".")


def test_every_way_to_name_a_recipe_takes_the_packages(capsys):
    *_, config, _ = make_parser(REALConfig).parse_args_and_config(["--config=qwen3-8b/real.yaml", "--use_cpu", "true"])
    assert config.output_dir == "outputs/qwen3-8b/real"
    recipe = read_recipe("qwen3-8b/real.yaml", [], None)
    sharding, source = recipe_sharding(recipe.path, CLUSTER)
    assert (sharding.stage, source) == (3, "recipes/accelerate_configs/zero3.yaml, as in the recipe's command")
    assert read_sharding("accelerate_configs/zero2.yaml")[0].stage == 2
    assert (
        load_template("recipes/short-answers/prompt.jinja").source
        == (FOLDER / "short-answers/prompt.jinja").read_text()
    )
    with pytest.raises(FileNotFoundError, match="qwen3-8b/raal.yaml: no such file.*`real-trl recipes` lists"):
        make_parser(REALConfig).parse_args_and_config(["--config", "qwen3-8b/raal.yaml"])


def test_a_plan_in_an_empty_folder(capsys):
    plan.main(["--config", "qwen3-8b/real.yaml", "--gpus", "8xA100-80GB"])
    told = capsys.readouterr().out
    assert "ZeRO-3" in told and "recipes/accelerate_configs/zero3.yaml, as in the recipe's command" in " ".join(
        told.split()
    )


def test_the_list_has_every_recipe_with_its_stage(capsys):
    recipes.main([])
    told = capsys.readouterr().out
    for path in FOLDER.glob("*/*.yaml"):
        assert re.search(rf"^  {path.name} ", told, re.MULTILINE)
    assert re.search(r"^qwen3-8b/\n(  .*\n)*  real.yaml +rl +REAL \(Eq. 8\) on Qwen3-8B", told, re.MULTILINE)


def test_a_copy_names_itself_and_can_be_run(empty_folder, capsys):
    recipes.main(["copy", "short-answers"])
    assert "short-answers/real.yaml" in capsys.readouterr().out
    assert (
        yaml.safe_load((empty_folder / "short-answers/real.yaml").read_text())["prompt_template"]
        == "short-answers/prompt.jinja"
    )
    recipes.main(["copy", "recipes/qwen3-8b/"])
    copied = {path.relative_to(empty_folder) for path in empty_folder.rglob("*") if path.is_file()}
    named = set()
    for path in copied:
        text = path.read_text()
        assert "recipes/" not in text.replace("real-trl recipes", "")
        named |= set(re.findall(r"--config(?:_file)? (\S+\.yaml)", text))
    assert named and named <= set(map(str, copied)) and "accelerate_configs/zero3.yaml" in named
    # The plan of the copy takes the copied configuration
    (empty_folder / "accelerate_configs/zero3.yaml").write_text((FOLDER / "accelerate_configs/zero2.yaml").read_text())
    assert recipe_sharding(empty_folder / "qwen3-8b/real.yaml", CLUSTER)[0].stage == 2


def test_nothing_is_overwritten(empty_folder, capsys):
    (empty_folder / "accelerate_configs").mkdir()
    own = empty_folder / "accelerate_configs/zero3.yaml"
    own.write_text("# mine\n")
    recipes.main(["copy", "qwen3-8b"])
    assert own.read_text() == "# mine\n"
    (empty_folder / "qwen3-8b/real.yaml").write_text("# changed\n")
    for name, said in (
        ("qwen3-8b", "'qwen3-8b' is there already"),
        ("qwen", "no folder 'qwen'. Give one of: accelerate_configs, "),
    ):
        with pytest.raises(SystemExit) as ended:
            recipes.main(["copy", name])
        assert ended.value.code == 2 and said in capsys.readouterr().err
    assert (empty_folder / "qwen3-8b/real.yaml").read_text() == "# changed\n"
