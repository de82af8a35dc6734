# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""One definition of a judge's options: every way to use a judge takes all of them, and they mean the same everywhere."""

import json
from dataclasses import fields
from importlib.util import find_spec

import pytest
import transformers
import yaml
from trl import ModelConfig

from real_trl import Judge, JudgeConfig
from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments
from real_trl.arguments.parser import RecipeParser
from real_trl.data.arguments import DataArguments
from real_trl.engines.options import EngineOptions, JudgeOptions, SourceOptions
from real_trl.integrations import JudgeReward
from real_trl.judge_source import find_judge
from real_trl.scripts import self_generate
from real_trl.scripts.demo import DemoArguments
from real_trl.scripts.score import ScoreArguments
from real_trl.scripts.self_generate import SelfGenerateArguments
from real_trl.scripts.serve import ServeArguments
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

PARSERS = {
    "evaluate": (EvaluateArguments, EvaluateDataArguments, ModelConfig),
    "score": (ScoreArguments, ModelConfig),
    "self_generate": (SelfGenerateArguments, DataArguments, ModelConfig),
    "serve": (ServeArguments,),
    "demo": (DemoArguments,),
}
# What TRL's ModelConfig calls otherwise, where there is one
OF_TRL = {"revision": "model_revision"}
NAMES = [each.name for each in fields(JudgeOptions)]
WORDS = {"score_labels": "wrong,close,right", "score_values": [0.0, 0.5, 1.0]}
ON_THE_COMMAND_LINE = ["--score_labels", "wrong,close,right", "--score_values", "0", "0.5", "1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that was not trained as a judge: it has no scale of its own."""
    path = tmp_path_factory.mktemp("model")
    warm_model().save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    (path / "own.jinja").write_text("{{ instruction }}\n{{ response }}\n")
    return path


@pytest.mark.parametrize("entry", PARSERS)
def test_every_command_takes_every_option(entry):
    options = {option for action in RecipeParser(PARSERS[entry])._actions for option in action.option_strings}
    names = [OF_TRL.get(name, name) if ModelConfig in PARSERS[entry] else name for name in NAMES]
    assert [name for name in names if f"--{name}" not in options] == []


@pytest.mark.parametrize("entry", PARSERS)
def test_every_option_has_a_help(entry):
    for action in RecipeParser(PARSERS[entry])._actions:
        if action.dest in NAMES:
            assert action.help, action.dest


def test_the_halves_are_the_whole():
    halves = [each.name for half in (SourceOptions, EngineOptions) for each in fields(half)]
    assert sorted(halves) == sorted(NAMES) and len(set(halves)) == len(halves)


def test_defaults_are_the_same_but_for_those_that_are_said():
    defaults = {each.name: each.default for each in fields(JudgeOptions)}
    differ = {}
    for entry, (arguments, *_) in PARSERS.items():
        own = {each.name: each.default for each in fields(arguments) if each.name in NAMES and each.init}
        differ[entry] = {name: value for name, value in own.items() if value != defaults[name]}
    greedy = {"do_sample": False, "batch_size": 16}
    assert differ == {
        "evaluate": {},
        "score": {},
        "self_generate": {"malformed": "drop"},
        "serve": greedy,
        "demo": greedy,
    }


@pytest.mark.parametrize("entry", ["serve", "demo"])
def test_a_scale_of_words_behind_an_endpoint(entry, model):
    options = ["--judge", str(model), "--prompt_template", str(model / "own.jinja"), *ON_THE_COMMAND_LINE]
    options += ["--max_new_tokens", "16", "--temperature", "0.5", "--malformed", "drop", "--top_p", "0.9"]
    (args,) = RecipeParser(PARSERS[entry]).parse_args_and_config(options)
    judge = args.load()
    assert (judge.labels, judge.values) == (("wrong", "close", "right"), (0.0, 0.5, 1.0))
    decoding = judge.engine.decoding
    assert (decoding.temperature, decoding.malformed, decoding.top_p) == (0.5, "drop", 0.9)
    assert not decoding.do_sample and judge.engine.batch_size == 16


@pytest.mark.parametrize("entry", ["evaluate", "score", "self_generate"])
def test_a_scale_of_words_in_a_stage(entry, model, tmp_path):
    given = {"evaluate": ["--output_dir", "out"], "score": ["--data", "x.jsonl", "--judge", "x"]}
    given["self_generate"] = ["--output_dir", "out", "--dataset_name", "x.jsonl"]
    parser = RecipeParser(PARSERS[entry])
    args, *_, model_args = parser.parse_args_and_config(
        [*given[entry], *ON_THE_COMMAND_LINE, "--max_new_tokens", "16", "--dtype", "bfloat16", "--do_sample", "false"]
    )
    source = args.find(str(model), model_args)
    assert source.space.values == (0.0, 0.5, 1.0)
    engine = args.load(source, model_args, malformed="drop")
    assert str(engine.model.dtype) == "torch.bfloat16" and engine.decoding.malformed == "drop"
    assert engine.decoding.max_new_tokens == 16 and not engine.decoding.do_sample
    described = args.describe(source, model_args)
    assert described["judge"]["score_values"] == [0.0, 0.5, 1.0] and described["decoding"]["max_new_tokens"] == 16
    assert described["loading"]["dtype"] == "bfloat16"


def test_what_is_described_is_every_option(model, tmp_path):
    """So that predictions which were made with other options are not taken for the same."""
    args, *_, model_args = RecipeParser(PARSERS["evaluate"]).parse_args_and_config(
        ["--output_dir", "out", *ON_THE_COMMAND_LINE]
    )
    described = args.describe(args.find(str(model), model_args), model_args)
    names = {name for section in described.values() for name in section}
    elsewhere = {"batch_size", "device", "malformed", "preset", "prompt_template", "tokenizer", "trust_remote_code"}
    assert set(NAMES) - elsewhere <= names and not elsewhere & names


def test_python_takes_the_same(model):
    options = {**WORDS, "prompt_template": model / "own.jinja", "max_new_tokens": 8}
    assert Judge.from_pretrained(model, **options).values == (0.0, 0.5, 1.0)
    assert JudgeReward(model, **options).judge.values == (0.0, 0.5, 1.0)
    if find_spec("inspect_ai"):
        from real_trl.integrations import judge_scorer

        assert judge_scorer(model, **options) is not None


@pytest.mark.parametrize("use", [Judge.from_pretrained, JudgeReward])
def test_an_unknown_option_is_named_with_what_was_meant(use, model):
    with pytest.raises(TypeError, match=r"score_value: got \[1\], .* Did you mean 'score_values'\?"):
        use(model, score_labels="1-5", score_value=[1])


# --- a model that only a server has -------------------------------------------------------------------------------------


@pytest.fixture
def no_configs(monkeypatch, model):
    """Nobody may look for the configuration of a model, but for that beside the tokenizer, which loading that one does."""
    load = transformers.AutoConfig.from_pretrained

    def only_of_the_tokenizer(name, *args, **kwargs):
        assert str(name) == str(model), f"the configuration of {name!r} was looked for"
        return load(name, *args, **kwargs)

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", only_of_the_tokenizer)


# The second is a name as Ollama has them, which no directory and no model on the Hub can have
@pytest.mark.parametrize("name", [MODEL_NAME, "tiny:8b"])
def test_self_generation_by_a_model_that_only_a_server_has(name, model, tmp_path, no_configs, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in prompt_dataset([4.0, 2.5, 1.0])))
    with serve(TinyServer(warm_model().eval(), TOKENIZER, context_length=256, extensions=True)) as url:
        recipe = {
            "model_name_or_path": name,
            "tokenizer": str(model),
            "engine": "server",
            "engine_options": {"base_url": url, "model": MODEL_NAME},
            "score_labels": "1-5",
            "dataset_name": str(data),
            "dataset_train_split": "train",
            "output_dir": str(tmp_path / "made"),
            "max_new_tokens": 24,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        self_generate.main(["--config", str(path)])
        rows = [json.loads(line) for line in (tmp_path / "made" / "train.jsonl").read_text().splitlines()]
        assert [row["score"] for row in rows] == [4.0, 2.5, 1.0] and all(row["feedback"] for row in rows)
        provenance = json.loads((tmp_path / "made" / "provenance.json").read_text())
        assert provenance["made_with"]["model"] == {"name_or_path": name, "revision": "main", "fingerprint": name}
        self_generate.main(["--config", str(path)])
    assert "Already complete" in capsys.readouterr().out


def test_without_a_server_such_a_name_is_still_refused(model):
    with pytest.raises(ValueError, match="model: no model could be loaded from 'tiny:8b'"):
        Judge.from_pretrained("tiny:8b", tokenizer=str(model), score_labels="1-5")


def test_the_judge_beside_the_tokenizer_is_the_one_that_the_server_has(model, tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    JudgeConfig(list("1234"), [1.0, 2.0, 3.0, 4.0], score_marker="score is ", normalize_expectation=True).save(
        tmp_path
    )
    source = find_judge("tiny:8b", tokenizer=str(tmp_path))
    assert source.space.values == (1.0, 2.0, 3.0, 4.0) and source.space.marker == "score is "
    assert source.config.normalize_expectation
    with pytest.raises(ValueError, match="score_labels: got .*, but the judge 'tiny:8b' was trained with"):
        find_judge("tiny:8b", tokenizer=str(tmp_path), score_labels="1-5")
    # A model that is here brings its own, whatever its tokenizer's directory says
    with pytest.raises(ValueError, match="score_labels: not set"):
        find_judge(str(model), tokenizer=str(tmp_path))
