# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The same command goes on; a changed one says what has changed, and goes on only where that is safe or when told to."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

from real_trl.scripts import sft
from real_trl.trainers.checkpoints import MANIFEST_NAME, list_checkpoints, write_manifest
from real_trl.trainers.recipe_check import check_recipe, fingerprint
from tests.helpers.checkpoint_files import flip_a_bit
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

RECIPE = {
    "score_labels": "1-5",
    "per_device_train_batch_size": 2,
    "max_steps": 2,
    "learning_rate": 1.0e-3,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "save_steps": 1,
    "report_to": "none",
    "disable_tqdm": True,
    "hub_token": "hf_secret",
    "model_init_kwargs": {"token": "hf_secret"},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with a model, data, a recipe, and a run of two steps."""
    folder = tmp_path_factory.mktemp("finished")
    warm_model().save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    rows = prompt_dataset([4.0, 2.0, 5.0, 1.0])
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({**row, "feedback": "7+4 is 12, right."}) + "\n" for row in rows)
    )
    stage(folder, folder)
    return folder


@pytest.fixture
def output(finished, tmp_path) -> Path:
    """That run's output, to be spoiled."""
    return shutil.copytree(finished / "out", tmp_path / "out")


def stage(folder, output_parent, *options, **changes):
    recipe = {
        "model_name_or_path": str(folder / "model"),
        "dataset_name": str(folder / "train.jsonl"),
        "output_dir": str(output_parent / "out"),
        **RECIPE,
        **changes,
    }
    path = output_parent / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    sft.main(["--config", str(path), *options])


def refusal(capsys, *args, **changes) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        stage(*args, **changes)
    assert error.value.code == 2
    return capsys.readouterr().err


# --- which checkpoint ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--resume_from_checkpoint", "true")])
def test_the_same_command_goes_on(finished, output, capsys, options):
    before = (output / "model.safetensors").read_bytes()
    (output / "model.safetensors").write_bytes(b"half")
    shutil.rmtree(output / "checkpoint-2")
    stage(finished, output.parent, *options)
    assert f"Going on from {output / 'checkpoint-1'}" in capsys.readouterr().out
    assert (output / "model.safetensors").read_bytes() == before
    assert [path.name for path in list_checkpoints(output)] == ["checkpoint-2", "checkpoint-1"]


def test_new_secrets_are_the_same_recipe(finished, output, capsys):
    stage(finished, output.parent, hub_token="hf_other", model_init_kwargs={"token": "hf_other"})
    said = capsys.readouterr().out
    assert f"Going on from {output / 'checkpoint-2'}" in said and "Changed" not in said


def test_a_truncated_checkpoint_is_skipped_with_a_line(finished, output, capsys):
    optimizer = output / "checkpoint-2" / "optimizer.pt"
    size = optimizer.stat().st_size
    optimizer.write_bytes(optimizer.read_bytes()[:1000])
    stage(finished, output.parent)
    lines = capsys.readouterr().out.splitlines()
    assert f"Skipping {output / 'checkpoint-2'}: optimizer.pt has 1000 bytes, {size} expected" in lines
    assert any(line.startswith(f"Going on from {output / 'checkpoint-1'}") for line in lines)
    assert optimizer.stat().st_size == size


def test_a_checkpoint_that_was_asked_for_must_be_complete(finished, output, capsys):
    (output / "checkpoint-2" / "scheduler.pt").unlink()
    wanted = str(output / "checkpoint-2")
    message = refusal(capsys, finished, output.parent, resume_from_checkpoint=wanted)
    assert f"resume_from_checkpoint: {wanted!r} cannot be resumed: scheduler.pt is missing" in message
    assert f"Go on from {str(output / 'checkpoint-1')!r}, which is complete." in message
    missing = str(output / "checkpoint-7")
    assert f"{missing!r} is no directory" in refusal(capsys, finished, output.parent, resume_from_checkpoint=missing)


def test_false_starts_anew_but_overwrites_nothing(finished, output, tmp_path, capsys):
    message = refusal(capsys, finished, output.parent, "--resume_from_checkpoint", "false")
    assert "resume_from_checkpoint: got false" in message and "holds checkpoint-2" in message
    (tmp_path / "new").mkdir()
    stage(finished, tmp_path / "new", "--resume_from_checkpoint", "false")
    assert "Going on" not in capsys.readouterr().out
    assert (tmp_path / "new" / "out" / "model.safetensors").read_bytes() == (output / "model.safetensors").read_bytes()


def test_without_a_complete_checkpoint_it_starts_from_the_beginning(finished, output, capsys):
    for checkpoint in list_checkpoints(output):
        (checkpoint / MANIFEST_NAME).unlink()
    stage(finished, output.parent)
    out = capsys.readouterr().out
    assert out.count("it has no manifest.json, the file that is written last") == 2
    assert f"No complete checkpoint in {output}: starting from the beginning" in out
    assert (output / "checkpoint-2" / MANIFEST_NAME).is_file()


def test_a_file_that_changed_at_equal_size_is_named_and_the_next_older_checkpoint_used(finished, output, capsys):
    before = (output / "model.safetensors").read_bytes()
    flip_a_bit(output / "checkpoint-2" / "model.safetensors")
    stage(finished, output.parent)
    lines = capsys.readouterr().out.splitlines()
    [skipped] = [line for line in lines if line.startswith(f"Skipping {output / 'checkpoint-2'}")]
    assert "model.safetensors has changed since it was written" in skipped
    assert any(line.startswith(f"Going on from {output / 'checkpoint-1'}") for line in lines)
    assert (output / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("damage", ["bit", "truncated", "manifest"])
def test_without_an_undamaged_checkpoint_nothing_is_lost(finished, output, capsys, damage):
    for checkpoint in list_checkpoints(output):
        if damage == "bit":
            flip_a_bit(checkpoint / "optimizer.pt")
        elif damage == "truncated":
            (checkpoint / "optimizer.pt").write_bytes(b"half")
        else:
            (checkpoint / MANIFEST_NAME).write_text('{"files": ')
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    message = refusal(capsys, finished, output.parent)
    assert "no checkpoint in output_dir=" in message and "Nothing was changed" in message
    assert "checkpoint-2: " in message and "checkpoint-1: " in message
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


# --- what has changed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"learning_rate": 2.0e-3}, "learning_rate: 0.001 in the checkpoint, 0.002 now"),
        ({"max_steps": 3}, "max_steps: 2 in the checkpoint, 3 now"),
        ({"seed": 7, "regression_weight": 0.5}, "seed: 42 in the checkpoint, 7 now; regression_weight: 1.0"),
        ({"lora_r": 4}, "lora_r: 16 in the checkpoint, 4 now"),
        ({"max_rows": 3}, "max_rows: None in the checkpoint, 3 now; training_data.rows: 4 in the checkpoint, 3 now"),
    ],
)
def test_a_changed_recipe_is_refused_by_name(finished, output, capsys, changes, named):
    message = refusal(capsys, finished, output.parent, **changes)
    assert f"the recipe is not the one that {output / 'checkpoint-2'} was made with" in message
    assert named in message or all(part in message for part in named.split("; "))
    assert "--allow_changed_recipe true" in message


def test_a_changed_recipe_goes_on_when_told_to(finished, output, capsys):
    stage(finished, output.parent, "--allow_changed_recipe", "true", max_steps=3, learning_rate=2.0e-3)
    out = capsys.readouterr().out
    assert "Changed (allow_changed_recipe): max_steps: 2 in the checkpoint, 3 now" in out
    assert "Changed (allow_changed_recipe): learning_rate: 0.001 in the checkpoint, 0.002 now" in out
    state = json.loads((output / "trainer_state.json").read_text())
    assert state["global_step"] == 3
    # The checkpoint written now belongs to the new recipe
    stage(finished, output.parent, max_steps=3, learning_rate=2.0e-3)
    assert "Changed" not in capsys.readouterr().out


def test_what_training_does_not_depend_on_may_change(finished, output, capsys):
    shutil.copy(finished / "train.jsonl", output.parent / "moved.jsonl")
    changes = {"logging_steps": 1, "save_steps": 2, "dataset_name": str(output.parent / "moved.jsonl")}
    stage(finished, output.parent, **changes)
    out = capsys.readouterr().out
    for name in changes:
        assert f"Changed, which makes no difference to training: {name}: " in out


def test_changed_data_under_the_same_name_is_refused(finished, output, tmp_path, capsys):
    folder = tmp_path / "other"
    shutil.copytree(finished / "model", folder / "model")
    rows = (finished / "train.jsonl").read_text()
    (folder / "train.jsonl").write_text(rows.replace('"score": 5.0', '"score": 3.0'))
    checkpoint = output / "checkpoint-2"
    manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
    for section, name, value in (("model", "model_name_or_path", "model"), ("data", "dataset_name", "train.jsonl")):
        manifest["recipe"][section][name] = str(folder / value)
    write_manifest(checkpoint, recipe=manifest["recipe"], resumable=True)
    message = refusal(capsys, folder, output.parent)
    assert "training_data.sha256" in message and "dataset_name:" not in message


def recipe_of(finished) -> dict:
    return json.loads((finished / "out" / "checkpoint-2" / MANIFEST_NAME).read_text())["recipe"]


def changed(recipe, section, **values):
    recipe = deepcopy(recipe)
    recipe[section] |= values
    return recipe


def test_the_number_of_processes_belongs_to_the_recipe(finished):
    checkpoint, recipe = finished / "out" / "checkpoint-2", recipe_of(finished)
    assert check_recipe(checkpoint, recipe, allow_changed=False) == []
    with pytest.raises(ValueError, match="world_size: 1 in the checkpoint, 2 now"):
        check_recipe(checkpoint, changed(recipe, "run", world_size=2), allow_changed=False)
    lines = check_recipe(checkpoint, changed(recipe, "versions", torch="0.1"), allow_changed=False)
    assert len(lines) == 1 and "no difference" in lines[0] and "versions.torch: " in lines[0]


def test_deepspeed_would_undo_a_changed_learning_rate(finished, tmp_path):
    checkpoint = shutil.copytree(finished / "out" / "checkpoint-2", tmp_path / "checkpoint-2")
    recipe = changed(recipe_of(finished), "run", zero_stage=3)
    write_manifest(checkpoint, recipe=recipe, resumable=True)
    with pytest.raises(ValueError, match="learning_rate: 0.001 .*With DeepSpeed it comes back"):
        check_recipe(checkpoint, changed(recipe, "training", learning_rate=1.0), allow_changed=True)


def test_a_checkpoint_that_no_stage_wrote_cannot_be_compared(finished, tmp_path):
    checkpoint = shutil.copytree(finished / "out" / "checkpoint-2", tmp_path / "checkpoint-2")
    write_manifest(checkpoint, recipe=None, resumable=True)
    [line] = check_recipe(checkpoint, recipe_of(finished), allow_changed=False)
    assert "does not record its recipe" in line


# --- what is written down -------------------------------------------------------------------------------------------------


def test_the_manifest_has_the_recipe_and_no_token(finished):
    text = (finished / "out" / "checkpoint-2" / MANIFEST_NAME).read_text()
    assert "hf_secret" not in text and "output_dir" not in text
    recipe = json.loads(text)["recipe"]
    assert recipe["training"]["learning_rate"] == 1e-3 and recipe["training"]["model_init_kwargs"] == {}
    assert recipe["training"]["lr_scheduler_type"] == "linear"
    assert recipe["data"]["dataset_name"] == str(finished / "train.jsonl")
    assert recipe["model"]["dtype"] == "float32" and recipe["run"] == {
        "chat": False,
        "system_prompt": None,
        "world_size": 1,
        "zero_stage": 0,
    }
    assert recipe["training_data"]["rows"] == 4


def test_the_fingerprint_is_of_what_training_reads():
    rows = {"prompt": ["a", "b"], "score": [1.0, 2.0], "other": [1, 2]}
    dataset = Dataset.from_dict(rows)
    same = Dataset.from_dict({"score": [1.0, 2.0], "prompt": ["a", "b"]})
    assert fingerprint(dataset) == fingerprint(same) == fingerprint(same.select([1, 0]).select([1, 0]))
    others = [
        Dataset.from_dict({**rows, "score": [1.0, 2.5]}),
        Dataset.from_dict({**rows, "prompt": ["a", "b "]}),
        Dataset.from_dict({**rows, "score_histogram": [[1.0, 0.0], [0.0, 1.0]]}),
        dataset.select([1, 0]),
        dataset.select([0]),
    ]
    assert len({fingerprint(each) for each in (dataset, *others)}) == 6
