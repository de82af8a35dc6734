# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A disk that is full, at whatever file: a message with its path, exit status 2, and the same command goes on with what was there."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors import SafetensorError

from real_trl.runs.disk import disk_errors, disk_message, writing
from tests.helpers.command_runs import STAGES, make_inputs, run, start_anew


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


RESULTS = {
    "sft": "out/model.safetensors",
    "rl": "out/model.safetensors",
    "evaluate": "out/evaluation.json",
    "self_generate": "out/train.jsonl",
    "score": "scored.jsonl",
}


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    done = {}

    def result(stage: str) -> bytes:
        if stage not in done:
            folder = start_anew(inputs, tmp_path_factory.mktemp("whole") / stage)
            code, said = run(stage, folder)
            assert code == 0, said
            done[stage] = folder
        return done[stage]

    return result


def check_full(inputs, whole, folder, stage, largest) -> bool:
    """Whether it was full for this stage. Given again with room, the command ends as if nothing had happened."""
    folder = start_anew(inputs, folder)
    code, said = run(stage, folder, largest)
    assert code in (0, 2) and "Traceback" not in said, said[-2000:]
    if code == 2:
        [line] = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "cannot be written: " in line and "give the same command again" in line, line
        again, said = run(stage, folder)
        assert again == 0, said
    same = [path / RESULTS[stage] for path in (folder, whole(stage))]
    assert same[0].read_bytes() == same[1].read_bytes()
    return code == 2


@pytest.mark.parametrize(
    ("stage", "largest"),
    [
        pytest.param("sft", 40_000, marks=pytest.mark.slow),
        pytest.param("evaluate", 9_000, marks=pytest.mark.slow),
        ("score", 700),
    ],
)
def test_a_full_disk(inputs, whole, tmp_path, stage, largest):
    assert check_full(inputs, whole, tmp_path / "full", stage, largest)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_at_every_size(inputs, whole, tmp_path, stage):
    sizes = [0, 100, 300, 1_000, 3_000, 5_000, 10_000, 20_000, 50_000, 80_000, 100_000, 150_000, 200_000, 300_000]
    full = [check_full(inputs, whole, tmp_path / f"{size}", stage, size) for size in sizes]
    assert full[0] and sum(full) >= 3


@pytest.mark.parametrize("stage", ["sft", "evaluate"])
def test_what_was_there_before_is_as_it_was(inputs, whole, tmp_path, stage):
    """A run that is gone on with, and a report that is written again: each file of the earlier result, or none of the new one."""
    folder = start_anew(inputs, tmp_path / "again")
    code, said = run(stage, folder)
    assert code == 0, said
    files = [path for path in (folder / "out").rglob("*") if path.is_file() and "checkpoint-" not in str(path)]
    before = {path: path.read_bytes() for path in files}
    recipe = yaml.safe_load((folder / f"{stage}.yaml").read_text())
    more = {"max_steps": 3, "allow_changed_recipe": True} if stage == "sft" else {"breakdown": None}
    (folder / f"{stage}.yaml").unlink()
    (folder / f"{stage}.yaml").write_text(
        yaml.safe_dump({**recipe, **more, **({"save_strategy": "no"} if stage == "sft" else {})})
    )
    code, said = run(stage, folder, 20_000)
    assert code == 2 and "are as they were" in said, said
    assert {path: path.read_bytes() for path in files} == before
    assert not list((folder / "out").glob(".writing-*/**/*.json")) or stage == "sft"


def test_a_terminal_that_is_full(inputs, whole, tmp_path):
    folder = start_anew(inputs, tmp_path / "full")
    code, _ = run("score", folder, log="/dev/full")
    assert code != 0
    code, said = run("score", folder)
    assert code == 0, said
    assert (folder / "scored.jsonl").read_bytes() == (whole("score") / "scored.jsonl").read_bytes()


@pytest.mark.parametrize("save", ["torch", "safetensors", "arrow", "file"])
def test_every_library_says_so_in_its_own_way(tmp_path, capsys, save):
    """On a device that is always full."""
    target = tmp_path / "weights"
    target.symlink_to("/dev/full")

    @disk_errors()
    def command():
        with writing(target, "The rest is kept"):
            if save == "torch":
                torch.save(torch.zeros(100_000), target)
            elif save == "safetensors":
                raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
            elif save == "arrow":
                import pyarrow as pa
                import pyarrow.parquet as pq

                pq.write_table(pa.table({"a": list(range(100_000))}), target)
            else:
                with target.open("w") as file:
                    file.write("a" * 100_000)

    with pytest.raises(SystemExit) as ended:
        command()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith(f"error: {target}: cannot be written: ")
    assert "The rest is kept. Make room" in message


def test_other_errors_are_not_taken_for_it():
    assert disk_message(RuntimeError("shape mismatch")) is None
    assert disk_message(ValueError("the option 'No space left on device' is unknown")) is None
    with pytest.raises(RuntimeError, match="shape"), disk_errors():
        raise RuntimeError("shape mismatch")
