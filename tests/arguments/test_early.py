# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Help, versions and wrong options come before the slow imports, and say what the commands themselves would say."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import real_trl
from real_trl.arguments import options
from real_trl.arguments.early import asked_help, check
from real_trl.arguments.help_groups import groups_of
from real_trl.arguments.help_page import help_page
from real_trl.arguments.options import commands, options_of, takes_recipes
from real_trl.arguments.training import make_parser
from real_trl.cli import STAGES
from real_trl.trainers import REALConfig
from tests.helpers.ci_scripts import load

ROOT = Path(__file__).parents[2]
SLOW = ("torch", "transformers", "trl", "datasets", "accelerate", "peft")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def writer():
    return load("write_options")


@pytest.fixture(scope="module")
def parsers(writer):
    return {command: parser for command, (_, parser) in writer.parsers().items()}


def test_the_options_that_help_knows_are_those_of_the_parsers(parsers):
    assert set(commands()) == set(parsers) == set(STAGES) - {"recipes"}
    for command, parser in parsers.items():
        known, real = options_of(command), options.describe(parser)
        assert known.keys() == real.keys(), f"{command}: run `make options`"
        for name in real:
            assert known[name] == real[name], f"{command} {name}: run `make options`"


def test_the_file_is_what_the_writer_writes(writer):
    file = options.FILE.read_text(encoding="utf-8")
    also = version("transformers") != json.loads(file)["versions"]["transformers"]
    assert file == options.written(writer.parsers(), also=also), "run `make options`"


def test_a_further_version_of_transformers_has_its_own_options(monkeypatch):
    assert "activation_checkpointing" not in options_of("rl") or version("transformers") != "5.17.0"
    options._stored.cache_clear()
    monkeypatch.setattr(options, "version", lambda name: {"transformers": "5.24.0"}.get(name) or version(name))
    try:
        assert options.is_exact() and options_of("rl")["activation_checkpointing"].group == "REALConfig"
        check("rl", ["--activation_checkpointing"])
        with pytest.raises(ValueError, match="Did you mean '--activation_checkpointing'"):
            check("rl", ["--activation_checkpoint"])
    finally:
        options._stored.cache_clear()


def test_defaults_and_kinds_by_hand():
    found = options_of("rl")
    assert (found["num_generations"].kind, found["num_generations"].default) == ("INTEGER", 16)
    assert (found["beta"].default, found["advantage_clip"].kind, found["chat"].kind) == (0.0, "NUMBER", "true|false")
    assert (found["raters"].kind, found["columns"].kind) == ("mean|histogram|separate", "MAPPING")
    assert found["dataset_name"].required and not found["reward"].required
    assert "--no_gradient_checkpointing" in found["gradient_checkpointing"].names
    assert options_of("init")["data"].names == ("FILE",) and options_of("init")["yes"].kind == ""


@pytest.mark.parametrize("command", [command for command in STAGES if takes_recipes(command)])
def test_the_short_page_has_what_people_set_first_and_the_long_one_has_all(command):
    short, long = help_page(command, width=100), help_page(command, every=True, width=100)
    first = [name for names in groups_of(command).values() for name in names if name in options_of(command)]
    called = {option.names[0].removeprefix("--"): name for name, option in options_of(command).items()}
    shown = [called[name] for name in re.findall(r"^  --(\w+)", short, re.MULTILINE)]
    assert shown == first and len(set(first)) == len(first)
    assert sorted(re.findall(r"^  --(\w+)", long, re.MULTILINE)) == sorted(called)
    assert f"{len(options_of(command)) - len(first)} more options: real-trl {command} --help-all" in short
    for name in first:
        assert options_of(command)[name].help, name
    assert {name for name, option in options_of(command).items() if option.required} <= set(first)


def test_no_name_of_the_groups_is_a_misprint():
    known = {name for command in STAGES if takes_recipes(command) for name in options_of(command)}
    for command in STAGES:
        assert known >= {name for names in groups_of(command).values() for name in names}


def test_a_page_is_within_its_width_and_says_defaults_once():
    page = help_page("rl", every=True, width=100)
    options_part = page.partition("Model and output:")[2]
    assert max(map(len, options_part.splitlines())) <= 100
    assert "  --learning_rate NUMBER          The initial learning rate for AdamW. Default: 1e-06." in page
    assert "Use the chat template. Default: if the tokenizer has one.\n" in page


def run_here(code: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)


def test_nothing_slow_is_imported_for_help_versions_and_wrong_options(tmp_path):
    (tmp_path / "wrong.yaml").write_text("learning_rat: 1.0e-6\n")
    asked = [["--help"], ["--version"], [], ["recipes"], ["recipes", "copy", "quickstart"]]
    asked += [
        [stage, flag] for stage in STAGES for flag in ("--help", *(["--help-all"] if stage != "recipes" else []))
    ]
    wrong = [
        ["rl", "--config", "wrong.yaml"],
        ["sft", "--config", "quickstart/raft.yaml", "--no_such"],
        ["score", "--config", "no.yaml"],
    ]
    code = f"""
import json, sys
from real_trl.cli import main
ends = []
for argv in {asked + wrong!r}:
    try:
        ends.append(main(argv))
    except SystemExit as end:
        ends.append(end.code)
slow = [name for name in {SLOW!r} if name in sys.modules]
print(json.dumps([ends, slow]))
"""
    done = run_here(code, tmp_path)
    ends, slow = json.loads(done.stdout.splitlines()[-1])
    assert slow == [] and ends == [0] * len(asked) + [2] * len(wrong), done.stderr
    assert f"real_trl {real_trl.__version__}\n" in done.stdout
    assert "wrong.yaml: unknown key 'learning_rat'. Did you mean 'learning_rate'?" in done.stderr
    assert "command line: unknown option '--no_such'." in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("module", ["real_trl", "real_trl.scripts.rl"])
def test_modules_that_are_run(module, tmp_path):
    options_of_python = [sys.executable, "-X", "importtime", "-m", module]
    done = subprocess.run(
        [*options_of_python, "--help"], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0 and not re.search(r"\| +(torch|transformers|trl)$", done.stderr, re.MULTILINE)
    if module == "real_trl":
        assert done.stdout.startswith("usage: real-trl [-h]")
        return
    assert done.stdout.startswith("usage: real-trl rl --config RECIPE")
    wrong = ["--config", "qwen3-8b/real.yaml", "--lerning_rate", "1"]
    done = subprocess.run([*options_of_python, *wrong], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2 and not re.search(r"\| +(torch|transformers|trl)$", done.stderr, re.MULTILINE)
    assert "error: command line: unknown option '--lerning_rate'. Did you mean '--learning_rate'?" in done.stderr


@pytest.mark.parametrize(
    "recipe", ["", "[1]", "a: [", "reward: accuracy\nreward: regression\n", "nam: x\n", "env: {'': 1}\n"]
)
def test_early_refusals_are_those_of_the_command(recipe, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    for argv in (["--config", str(path)], [f"--config={path}"], ["--config", str(path), "--x"]):
        said = []
        for refuse in (lambda argv: check("rl", argv), make_parser(REALConfig).parse_args_and_config):
            with pytest.raises((ValueError, OSError)) as refused:
                refuse(argv)
            said.append(str(refused.value))
        assert said[0] == said[1]


def test_what_is_right_is_not_refused():
    check("rl", ["--config", "qwen3-8b/real.yaml", "--learning-rate", "1", "--no_gradient_checkpointing", "-x"])
    check("score", ["answers.jsonl", "--judge", "x"])
    check("plan", ["--config", "qwen3-8b/real.yaml", "--reward", "accuracy"])  # goes to the recipe
    assert asked_help("recipes", ["--help"]) is None and asked_help("rl", ["--config", "help"]) is None


def test_with_other_versions_of_the_libraries_the_command_decides(monkeypatch):
    with pytest.raises(ValueError):
        check("rl", ["--of_a_later_version"])
    monkeypatch.setattr(options, "version", lambda name: "999")
    check("rl", ["--of_a_later_version"])
