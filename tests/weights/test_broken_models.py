# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Damaged or pickled weights and broken settings: every command that loads a model says which file, with status 2 and no traceback."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from real_trl.judge_source import find_judge
from real_trl.scripts import demo, evaluate, push, rl, score, self_generate, serve, sft
from tests.publishing.judges import write_adapter, write_judge
from tests.scripts.test_training_stages import EVALUATE, RL, SFT
from tests.tiny import build_model, prompt_dataset

RECIPES = {"sft": (sft, SFT), "rl": (rl, RL), "evaluate": (evaluate, EVALUATE), "self_generate": (self_generate, {})}
COMMANDS = (*RECIPES, "score", "serve", pytest.param("demo", marks=pytest.mark.integrations), "push")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_judge(folder / "whole")
    write_adapter(folder / "adapter", str(folder / "base"))
    (folder / "row.jsonl").write_text(json.dumps({"response": "r"}) + "\n")
    rows = [{**row, "feedback": "right."} for row in prompt_dataset([4.0, 2.0])]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def refused(capsys: pytest.CaptureFixture, command: str, judge: Path, made: Path, folder: Path) -> str:
    """What a command writes about the judge to standard error."""
    capsys.readouterr()
    if command in RECIPES:
        script, recipe = RECIPES[command]
        if command == "self_generate":
            recipe = {"dataset_name": str(made / "rows.jsonl"), "dataset_train_split": "train"}
        recipe = {**recipe, "model_name_or_path": str(judge), "output_dir": str(folder / "out")}
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        argv = ["--config", str(path)]
    else:
        script = {"score": score, "serve": serve, "demo": demo, "push": push}[command]
        argv = {
            "score": [str(made / "row.jsonl"), "--judge", str(judge), "--output", str(folder / "scores.jsonl")],
            "push": [str(judge), "--local_dir", str(folder / "out"), "--base_model", "acme/base"],
        }.get(command, ["--judge", str(judge), "--port", "0"])
    with pytest.raises(SystemExit) as status:
        script.main(argv)
    message = capsys.readouterr().err
    assert status.value.code == 2 and "Traceback" not in message and message.count("error: ") == 1, message
    return message[message.index("error: ") :]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def cut_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:50])


def wrong_length(path: Path) -> None:
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pickled(path: Path) -> None:
    torch.save({}, path)


def pickle_only(path: Path) -> None:
    path.unlink()
    torch.save({}, path.with_name("adapter_model.bin" if path.name.startswith("adapter") else "pytorch_model.bin"))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", [cut, wrong_length, pickle_only], ids=lambda fault: fault.__name__)
def test_weights_that_are_none_are_named(made, tmp_path, capsys, command: str, fault: Callable[[Path], None]):
    judge = shutil.copytree(made / "whole", tmp_path / "judge")
    fault(judge / "model.safetensors")
    message = refused(capsys, command, judge, made, tmp_path)
    assert ("pytorch_model.bin is a pickle" if fault is pickle_only else "model.safetensors is not whole") in message


def without_a_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(path).items() if ".layers.1." not in k}, path, {"format": "pt"})


def with_layers(number: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        kinds = {"layer_types": ["full_attention"] * number} if "layer_types" in config else {}
        path.write_text(json.dumps({**config, **kinds, "num_hidden_layers": number}))

    return change


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (without_a_layer, "9 weights of the model are not in its files"),
        (with_layers(3), "9 weights of the model are not in its files"),
        (with_layers(1), "files have 9 weights of layers that config.json leaves out"),
    ],
    ids=["lost", "one more", "one fewer"],
)
def test_weights_that_are_missing_are_not_made_at_random(made, tmp_path, capsys, fault, expected):
    judge = shutil.copytree(made / "whole", tmp_path / "judge")
    fault(judge)
    for command in ("score", "sft", "rl"):
        message = refused(capsys, command, judge, made, tmp_path)
        assert expected in message and ".layers." in message and str(judge) in message
    AutoModelForCausalLM.from_pretrained(judge)  # whoever loads it without this library decides for himself
    if fault is without_a_layer:
        adapter = shutil.copytree(made / "adapter", tmp_path / "second")
        base = shutil.copytree(made / "base", tmp_path / "base")
        config = adapter / "adapter_config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(base)}))
        fault(base)
        assert expected in refused(capsys, "score", adapter, made, tmp_path)


def test_tied_and_other_weights_are_not_missing(made, tmp_path, caplog):
    judge = shutil.copytree(made / "whole", tmp_path / "judge")
    model = build_model(tie_word_embeddings=True)
    model.save_pretrained(judge)
    path = judge / "model.safetensors"
    weights = load_file(path)
    assert "lm_head.weight" not in weights
    save_file({**weights, "value_head.weight": torch.ones(1)}, path, {"format": "pt"})
    engine = find_judge(judge).load_engine()
    assert torch.equal(engine.model.lm_head.weight.cpu(), model.lm_head.weight)
    assert "1 weights of its files are no part of the model (first value_head.weight)" in caplog.text
    find_judge(made / "adapter").load_engine()


@pytest.mark.parametrize(
    "fault", [cut, cut_header, wrong_length, empty, pickled, pickle_only], ids=lambda fault: fault.__name__
)
def test_weights_of_an_adapter_and_of_its_base_are_named(made, tmp_path, capsys, fault):
    judge = shutil.copytree(made / "adapter", tmp_path / "judge")
    fault(judge / "adapter_model.safetensors")
    expected = "adapter_model.bin is a pickle" if fault is pickle_only else "adapter_model.safetensors is not whole"
    for command in ("score", "push"):
        assert expected in refused(capsys, command, judge, made, tmp_path)
    judge = shutil.copytree(made / "adapter", tmp_path / "second")
    base = shutil.copytree(made / "base", tmp_path / "base")
    config = judge / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(base)}))
    fault(base / "model.safetensors")
    expected = "pytorch_model.bin is a pickle" if fault is pickle_only else "model.safetensors is not whole"
    assert expected in refused(capsys, "score", judge, made, tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", '{"model_type": 7}'),
        ("config.json", '{"model_type": "llama", "hidden_size": "wide"}'),
        ("config.json", '{"model_type": "llama", "num_hidden_layers": 1}'),  # of another shape
        ("tokenizer.json", "{}"),
        ("tokenizer_config.json", "[" * 100_000),
        ("generation_config.json", '{"eos_token_id": {"a": '),
        ("judge_config.json", '{"score_labels": 7}'),
    ],
)
@pytest.mark.parametrize("command", ["score", "sft"])
def test_broken_settings_are_named(made, tmp_path, capsys, command, name, content):
    judge = shutil.copytree(made / "whole", tmp_path / "judge")
    (judge / name).write_text(content)
    message = refused(capsys, command, judge, made, tmp_path)
    assert str(judge) in message or name in message
