# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""No value of a recipe ends in a traceback, or gets as far as a model if it makes no sense."""

import dataclasses
import json
import pickle
import random
import re
import shutil
from pathlib import Path

import pytest
import yaml
from trl import ModelConfig

from real_trl.arguments.parser import RecipeParser
from real_trl.arguments.training import make_parser
from real_trl.data.arguments import DataArguments
from real_trl.engines.options import EngineOptions, JudgeOptions
from real_trl.judge_config import JudgeConfig
from real_trl.option_values import FieldError, as_mapping, checked_values
from real_trl.runs.command import user_errors
from real_trl.scripts import init, plan, push
from real_trl.scripts.calibrate import CalibrateArguments
from real_trl.scripts.demo import DemoArguments
from real_trl.scripts.evaluate import EvaluateArguments, EvaluateDataArguments
from real_trl.scripts.score import ScoreArguments
from real_trl.scripts.self_generate import SelfGenerateArguments
from real_trl.scripts.serve import ServeArguments
from real_trl.trainers import RAFTConfig, REALConfig
from real_trl.weights.finite import not_finite_in
from tests.helpers.command_runs import STAGES as COMMANDS
from tests.helpers.command_runs import make_inputs, run, start_anew

STAGES = {
    "sft": lambda: make_parser(RAFTConfig),
    "rl": lambda: make_parser(REALConfig),
    "evaluate": lambda: RecipeParser((EvaluateArguments, EvaluateDataArguments, ModelConfig)),
    "self_generate": lambda: RecipeParser((SelfGenerateArguments, DataArguments, ModelConfig)),
    "score": lambda: RecipeParser((ScoreArguments, ModelConfig)),
    "calibrate": lambda: RecipeParser((CalibrateArguments, EvaluateDataArguments, ModelConfig)),
    "serve": lambda: RecipeParser(ServeArguments),
    "demo": lambda: RecipeParser(DemoArguments),
}
BASE = {
    "sft": {"output_dir": "out", "dataset_name": "synthetic", "model_name_or_path": "model", "use_cpu": True},
    "rl": {"output_dir": "out", "dataset_name": "synthetic", "model_name_or_path": "model", "use_cpu": True},
    "evaluate": {"output_dir": "out", "dataset_name": "synthetic", "model_name_or_path": "model"},
    "self_generate": {"output_dir": "out", "dataset_name": "synthetic", "model_name_or_path": "model"},
    "score": {"data": "rows.jsonl", "judge": "model"},
    "calibrate": {"dataset_name": "rows.jsonl", "judge": "."},
    "serve": {"judge": "model"},
    "demo": {"judge": "model"},
}
DEEP = "[" * 20 + "1" + "]" * 20
NASTY = [
    *(
        [
            ".nan",
            ".inf",
            "-.inf",
            "1e20",
            "-1.0e+20",
            "0",
            "-0.0",
            "-1",
            "-5",
            "2.5",
            "1.0e+400",
            "null",
            "true",
            "no",
            "''",
            "'",
            "'",
            "[]",
            "{}",
            "[1,.nan]",
            "[[1]]",
            "{a:",
            "{b:",
            "1}}",
        ]
    ),
    "9" * 400,
    "'nan'",
    "'inf'",
    "'1e20'",
    "'\\0'",
    "'{'",
    "'[1'",
    "'\ud7ff'",
    "'-1'",
    "'2.5'",
    "2026-01-02",
    "12:30:45",
    "0x1F",
    DEEP,
    "!!binary aGk=",
    "!!set {a}",
    "'../../x'",
    "'none'",
    "[null]",
    "{1: 2}",
]


def parse(stage, tmp_path, text):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text, encoding="utf-8")
    with user_errors():
        return STAGES[stage]().parse_args_and_config(["--config", str(recipe)])


def refused(stage, tmp_path, capsys, **values):
    """The message, with `values` as YAML."""
    base = {name: value for name, value in BASE[stage].items() if name not in values}
    text = yaml.safe_dump(base) + "".join(f"{name}: {value}\n" for name, value in values.items())
    with pytest.raises(SystemExit) as info:
        parse(stage, tmp_path, text)
    assert info.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("stage", STAGES)
def test_every_field_with_nasty_values_ends_in_a_recipe_or_a_message(stage, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = random.Random(stage)
    parser = STAGES[stage]()
    unset = [(action, action.default, action.required) for action in parser._actions]
    names = [f.name for cls in parser.dataclass_types for f in dataclasses.fields(cls) if f.init]
    for name in names:
        for value in draw.sample(NASTY, 4):
            for action, default, required in unset:
                action.default, action.required = default, required
            base = {key: each for key, each in BASE[stage].items() if key != name}
            recipe = tmp_path / "recipe.yaml"
            recipe.write_text(yaml.safe_dump(base) + f"{name}: {value}\n", encoding="utf-8")
            try:
                with user_errors():
                    parsed = parser.parse_args_and_config(["--config", str(recipe)])
            except SystemExit as ended:
                message = capsys.readouterr().err
                assert ended.code == 2 and message.startswith("error: "), (name, value)
                assert len(message) < 2000, (name, value)
            except BaseException as error:
                raise AssertionError(f"{name}: {value}") from error
            else:
                numbers = [x for part in parsed for x in vars(part).values() if isinstance(x, float)]
                assert all(abs(x) < float("inf") for x in numbers), (name, value)


@pytest.mark.parametrize("stage", ["sft", "rl"])
@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("learning_rate", "1.0e+20", "to at most 10"),
        ("learning_rate", ".nan", "to at least 0"),
        ("learning_rate", "'inf'", "to at least 0"),
        ("learning_rate", "-1.0", "to at least 0"),
        ("learning_rate", "[0.1]", "one number"),
        ("weight_decay", ".nan", "to at least 0"),
        ("max_grad_norm", ".inf", "0 or more"),
        ("per_device_train_batch_size", "0", "1 or more"),
        ("per_device_train_batch_size", "-1", "1 or more"),
        ("per_device_train_batch_size", "2.5", "whole number"),
        ("per_device_train_batch_size", "true", "whole number"),
        ("gradient_accumulation_steps", "0", "1 or more"),
        ("max_steps", "-5", "or to -1"),
        ("max_steps", "0", "or to -1"),
        ("warmup_steps", ".nan", "0 or more"),
        ("seed", "-1", "at least 0"),
        ("log_likelihood_weight", ".nan", "0 or more"),
        ("score_values", "[1, 2, 3, 4, .nan]", "finite"),
        ("lr_scheduler_type", "cosin", "cosine"),
        ("eval_strategy", "no", "quotes"),
        ("learning_rate", "null", "to a value"),
    ],
)
def test_training_recipes(stage, field, value, fix, tmp_path, capsys):
    message = refused(stage, tmp_path, capsys, **{field: value})
    assert message.startswith(f"error: {field}: got ") and fix in message


@pytest.mark.parametrize(
    ("field", "value", "fix"),
    [
        ("num_generations", "2.5", "whole number"),
        ("num_generations", "null", "to a value"),
        ("num_iterations", "0", "1 or more"),
        ("top_p", "0", "above 0"),
        ("temperature", ".nan", "above 0"),
        ("epsilon", ".inf", "0 or more"),
        ("beta", ".nan", "0 or more"),
        ("prediction_weight", ".inf", "0 or more"),
        ("advantage_clip", ".nan", "above 0"),
        ("preflight_scored_rate", ".nan", "at most 1"),
    ],
)
def test_rl_recipes(field, value, fix, tmp_path, capsys):
    message = refused("rl", tmp_path, capsys, **{field: value})
    assert message.startswith(f"error: {field}: got ") and fix in message


@pytest.mark.parametrize("stage", ["evaluate", "self_generate", "score", "serve", "demo"])
@pytest.mark.parametrize(
    ("field", "value"), [("temperature", ".inf"), ("top_p", "0"), ("batch_size", "1.5"), ("top_p", ".nan")]
)
def test_stages_that_judge(stage, field, value, tmp_path, capsys):
    assert refused(stage, tmp_path, capsys, **{field: value}).startswith(f"error: {field}: got ")


@pytest.mark.parametrize(
    ("stage", "field", "value", "words"),
    [
        ("sft", "lr_scheduler_kwargs", "{num_cycles: .nan}", "lr_scheduler_kwargs.num_cycles: got nan"),
        ("sft", "lr_scheduler_kwargs", "'{\"num_cycles\": Infinity}'", "lr_scheduler_kwargs.num_cycles: got inf"),
        (
            "sft",
            "model_init_kwargs",
            "{rope_scaling: {factor: .inf}}",
            "model_init_kwargs.rope_scaling.factor: got inf",
        ),
        ("rl", "generation_kwargs", "{a: [1, .nan]}", "generation_kwargs.a: got nan"),
        ("sft", "chat_template_kwargs", "{1: 2}", "chat_template_kwargs: got the key 1"),
        ("sft", "optim_args", "eps=1e-8,weight=nan", "optim_args.weight: got nan"),
        ("sft", "dataset_options", "{size: 1.0e+400}", "dataset_options.size: got inf"),
        ("evaluate", "engine_options", "{timeout: -.inf}", "engine_options.timeout: got -inf"),
        (
            "score",
            "chat_template_kwargs",
            "{deep: {deeper: {n: .nan}}}",
            "chat_template_kwargs.deep.deeper.n: got nan",
        ),
    ],
)
def test_numbers_within_mappings(stage, field, value, words, tmp_path, capsys):
    assert refused(stage, tmp_path, capsys, **{field: value}).startswith(f"error: {words}. Set it to")


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "log_likelihood_weight"])
def test_python_is_checked_like_a_recipe(name, tmp_path):
    for config in (RAFTConfig, REALConfig):
        with pytest.raises(ValueError, match=f"{name}: got nan"):
            config(str(tmp_path), **{name: float("nan")})
    with pytest.raises(ValueError, match="temperature: got inf"):
        JudgeOptions(temperature=float("inf"))


def test_the_command_line_is_checked_like_a_recipe(tmp_path, capsys):
    with pytest.raises(SystemExit), user_errors():
        make_parser(RAFTConfig).parse_args_and_config(
            ["--output_dir", "o", "--dataset_name", "synthetic", "--learning_rate", "nan"]
        )
    assert "learning_rate: got nan" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["--config"], ["--output_dir", "o", "--config"], ["--config="]])
def test_config_without_a_value(argv, capsys):
    with pytest.raises(SystemExit) as info, user_errors():
        make_parser(RAFTConfig).parse_args_and_config(argv)
    assert info.value.code == 2 and "error: --config" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seed: 1\nmax_steps: 2\nseed: 2\n", "'seed' stands twice, in lines 1 and 3"),
        ("dataset_options:\n  size: 1\n  'size': 2\n", "'size' stands twice, in lines 2 and 3"),
        ("seed: " + "[" * 5000, "nested too deep"),
        ("seed: 2026-13-45", "not valid YAML"),
        ("seed: " + "9" * 5000, "not valid YAML"),
        ("env: {1: 2}", "env"),
        ("? [a]\n: 1", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe(text, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as info:
        parse("sft", tmp_path, text)
    message = capsys.readouterr().err
    assert info.value.code == 2 and words in message and len(message) < 2000


def test_deep_json_in_a_mapping(tmp_path, capsys):
    message = refused("sft", tmp_path, capsys, dataset_options="'" + '{"a":' * 5000 + "'")
    assert message.startswith("error: dataset_options") and len(message) < 2000


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("{base_url: http://x/v1, n: 2}", {"base_url": "http://x/v1", "n": 2}),
        ('{"rate": 1e-5,\t"face": "\\ud83d\\ude00"}', {"rate": 1e-5, "face": "😀"}),  # JSON as JSON has it
        ("", {}),
        ("response: answer", {"response": "answer"}),
        ("response=answer, instruction = question", {"response": "answer", "instruction": "question"}),
        ("help=Is it of use, and right?,n=2", {"help": "Is it of use, and right?", "n": 2}),
        ("base_url=http://x/v1?a=b", {"base_url": "http://x/v1?a=b"}),
    ],
)
def test_a_mapping_on_the_command_line_is_yaml_or_json_or_pairs(text, read):
    assert as_mapping("columns", text) == read and EngineOptions(engine_options=text).engine_options == read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{a: 1, b: {c: 1, c: 2}}", "'c' stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
        ("a=1,a=2", "'a' is there twice"),
        ("[a", "got '[a'. Give a mapping"),
        ("rubric", "got 'rubric'. Give a mapping, not a str"),
        ("{a: .nan}", "columns.a: got nan"),
        ("{1: a}", "got the key 1"),
        ("{a: !!python/name:os.system }", "Give a mapping"),
    ],
)
def test_text_that_is_no_mapping(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        as_mapping("columns", text)


def test_what_was_meant_is_taken(tmp_path):
    args, data, config, model = parse(
        "sft",
        tmp_path,
        yaml.safe_dump(BASE["sft"]) + "run_name: 2026\nlora_target_modules: all-linear\nlearning_rate: 5e-8\n",
    )
    assert (config.run_name, model.lora_target_modules, config.learning_rate) == ("2026", "all-linear", 5e-8)


def test_whole_numbers_as_keys_and_a_date_as_a_name(tmp_path, capsys):
    memory = "model_init_kwargs: {max_memory: {0: 20GiB, cpu: 60GiB}}\nrun_name: 2026-11-29\n"
    config = parse("sft", tmp_path, yaml.safe_dump(BASE["sft"]) + memory)[2]
    assert config.model_init_kwargs == {"max_memory": {0: "20GiB", "cpu": "60GiB"}}
    assert config.run_name == "2026-11-29"
    for mapping in ({0: 1}, {"max_memory": {True: 1}}, {"max_memory": {1.5: 1}}):
        with pytest.raises(ValueError, match="got the key"):
            checked_values(RAFTConfig, {"model_init_kwargs": mapping})


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "null", "[" * 5000, '{"score_labels": 5, "score_values": [1, 2]}', '{"score_labels": ["1"], "score_values": null}',
        '{"score_labels": ["1", "2"], "score_values": [1, NaN]}', '{"score_labels": ["1", "2"], "score_values": [1, 2], "temperature": Infinity}',
        '{"score_labels": ["1", "2"], "score_values": [1, 2], "score_marker": {}}',
    ],
)  # fmt: skip
def test_a_broken_judge_config(text, tmp_path):
    (tmp_path / "judge_config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="judge_config.json"):
        JudgeConfig.load(tmp_path)


def test_a_judge_config_that_is_no_text(tmp_path):
    (tmp_path / "judge_config.json").write_bytes(json.dumps({}).encode("utf-16"))
    with pytest.raises(ValueError, match="judge_config.json"):
        JudgeConfig.load(tmp_path)


# --- what only a run of the command shows ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def end_of(inputs, folder, stage, name, value):
    """Of a stage with one field set to `value`, as YAML: what it said, and whether it was refused. It must be one or the other."""
    folder = start_anew(inputs, folder)
    recipe = yaml.safe_load((inputs / f"{stage}.yaml").read_text())
    (folder / f"{stage}.yaml").unlink()
    text = yaml.safe_dump({key: each for key, each in recipe.items() if key != name}) + f"{name}: {value}\n"
    (folder / f"{stage}.yaml").write_text(text, encoding="utf-8")
    code, said = run(stage, folder)
    assert code in (0, 2) and "Traceback" not in said, (name, value, said[-2000:])
    assert code == 0 or "error: " in said, (name, value)
    if code == 0 and stage in ("sft", "rl"):
        saved = [path for path in folder.rglob("*.safetensors") if not path.is_symlink()]
        assert any("checkpoint-" not in str(path) for path in saved), (name, value)
        assert not any(not_finite_in(path) for path in saved), (name, value)
    return said if code else None


@pytest.mark.parametrize(
    ("stage", "field", "value"),
    [
        ("sft", "lr_scheduler_kwargs", "{a: 1}"),
        ("sft", "gradient_checkpointing_kwargs", "{a: 1}\ngradient_checkpointing: true"),
        ("sft", "model_init_kwargs", "{a: 1}"),
        ("evaluate", "engine_options", "{a: 1}"),
    ],
)
def test_what_only_a_library_refuses(inputs, tmp_path, stage, field, value):
    recipe = inputs / f"{stage}.yaml"
    if "gradient_checkpointing: true" in value:
        inputs = start_anew(inputs, tmp_path / "inputs")
        (inputs / recipe.name).unlink()
        (inputs / recipe.name).write_text(recipe.read_text().replace("gradient_checkpointing: false\n", ""))
    message = end_of(inputs, tmp_path / "run", stage, field, value)
    [line] = [line for line in message.splitlines() if line.startswith("error: ")]
    # Transformers 5.24 copies some options into those of their new names, which are named with them
    assert re.match(rf"error: (\w+: .*, )?{field}: ", line) and "'a'" in line and "Correct" in line


@pytest.mark.slow
@pytest.mark.parametrize("stage", COMMANDS)
def test_runs_with_nasty_values_end_in_a_result_or_a_message(inputs, tmp_path, stage):
    draw = random.Random(f"runs of {stage}")
    names = [f.name for cls in STAGES[stage]().dataclass_types for f in dataclasses.fields(cls) if f.init]
    ends = [
        end_of(inputs, tmp_path / f"{number}", stage, draw.choice(names), draw.choice(NASTY)) for number in range(40)
    ]
    assert None in ends and any(ends)


WRONG = [
    "",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "2.5",
    "9" * 400,
    "{",
    "\ud7ff",
    "a" * 5000,
    "../../x",
    "1xA100",
    "-1xA100-80GB",
    "5-1",
]
COMMAND_LINES = {
    "plan": (plan, ["--config", "recipes/quickstart/real.yaml", "--gpus", "1xA100-80GB"]),
    "init": (init, ["rows.csv", "--yes", "--model", "model", "--output_dir", "new"]),
    "push": (push, ["judge", "--local_dir", "new"]),
}


@pytest.mark.parametrize("name", COMMAND_LINES)
def test_command_lines_with_wrong_values_end_in_a_result_or_a_message(name, inputs, tmp_path, capsys, monkeypatch):
    module, argv = COMMAND_LINES[name]
    folder = start_anew(inputs, tmp_path / "run")
    (folder / "rows.csv").write_text(
        "question,answer,score\n" + "".join(f"q{i},a{i},{1 + i % 5}\n" for i in range(30))
    )
    (folder / "recipes").symlink_to(Path(__file__).parents[1] / "recipes")
    monkeypatch.chdir(folder)
    draw = random.Random(name)
    actions = [action for action in module.make_parser()._actions if action.option_strings and action.nargs != 0]
    for option in (action.option_strings[-1] for action in actions):
        for value in draw.sample(WRONG, 1 if name == "init" else 2):  # `init` reads the tokenizer each time
            shutil.rmtree("new", ignore_errors=True)
            try:
                module.main([*argv, f"{option}={value}"])
            except SystemExit as ended:
                assert ended.code == 2 and "error: " in capsys.readouterr().err, (option, value)
            except BaseException as error:
                raise AssertionError(f"{option}={value}") from error


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--rows", "9" * 400),
        ("--prompt_tokens", "nan"),
        ("--completion_tokens", "inf"),
        ("--max_prompt_tokens", "9" * 400),
    ],
)
def test_a_plan_is_of_finite_numbers(option, value, capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[1])
    with pytest.raises(SystemExit) as ended:
        plan.main([*COMMAND_LINES["plan"][1], f"{option}={value}"])
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_an_error_of_a_field_is_made_of_its_parts():
    error = FieldError("top_k", -3, "Set it to -1 or more.")
    assert str(error) == "top_k: got -3. Set it to -1 or more."
    assert (error.field, error.value, error.fix) == ("top_k", -3, "Set it to -1 or more.")
    assert str(FieldError("judge", None, "Give a directory.")) == "judge: not set. Give a directory."
    assert str(FieldError("raters", 2, "Wait.", " are two")) == "raters are two. Wait."
    error.kept = "all"  # as of `real_trl.runs.disk.writing`
    copy = pickle.loads(pickle.dumps(error))  # as the other processes of a run get it
    assert (type(copy), str(copy), copy.field, copy.kept) == (FieldError, str(error), "top_k", "all")
