# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A command that is given again when all is done answers before the slow imports, and only if nothing at all has changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from real_trl.arguments.complete import Asked
from real_trl.judge_config import JudgeConfig
from tests.tiny import TOKENIZER, prompt_dataset, warm_model

ROOT = Path(__file__).parents[2]
SCORE = ["rows.jsonl", "--judge", "judge", "--max_new_tokens", "8"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def make_files(folder: Path) -> None:
    (folder / "judge").mkdir()
    for name in ("judge/config.json", "rows.jsonl", "own.jinja"):
        (folder / name).write_text("{}")


def finish(folder: Path, argv: list[str], provenance: str, *results: str) -> Asked:
    """A run, from its start to its record."""
    asked = Asked("score" if provenance.endswith(".provenance") else "self_generate", argv)
    (folder / provenance).mkdir(exist_ok=True)
    for name in (*results, f"{provenance}/provenance.json"):
        (folder / name).write_text("made")
    asked.record("Already complete")
    return asked


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_files(tmp_path)
    return tmp_path


def test_the_same_words_in_the_same_state_are_answered(folder):
    assert Asked("score", SCORE).said() is None
    finish(folder, SCORE, "rows.scored.jsonl.provenance", "rows.scored.jsonl")
    assert Asked("score", SCORE).said() == "Already complete"
    assert Asked("score", [*SCORE, "--seed", "1"]).said() is None
    assert Asked("self_generate", SCORE).said() is None and Asked("evaluate", SCORE).said() is None


CHANGES = {
    "a row": lambda folder: (folder / "rows.jsonl").write_text("[]"),
    "a file of the judge": lambda folder: (folder / "judge" / "judge_config.json").write_text("{}"),
    "the template": lambda folder: (folder / "own.jinja").write_text("[]"),
    "the result": lambda folder: (folder / "out.csv").write_text("other"),
    "no result": lambda folder: (folder / "out.csv").unlink(),
    "the provenance": lambda folder: (folder / "out.csv.provenance" / "provenance.json").write_text("{}"),
    "the recipe": lambda folder: (folder / "score.yaml").write_text((folder / "score.yaml").read_text() + "seed: 3"),
    "the time alone": lambda folder: os.utime(folder / "rows.jsonl", ns=(1, 1)),
    "a record that is torn": lambda folder: (folder / "out.csv.provenance" / ".complete.json").write_text("{"),
    "an adapter": lambda folder: (folder / "judge" / "adapter_config.json").write_text("{}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_differs_is_for_the_command_to_look_at(folder, change):
    (folder / "score.yaml").write_text("data: rows.jsonl\noutput: out.csv\nprompt_template: own.jinja\n")
    argv = ["--config", "score.yaml", "--judge=judge"]
    finish(folder, argv, "out.csv.provenance", "out.csv")
    assert Asked("score", argv).said() == "Already complete"
    CHANGES[change](folder)
    assert Asked("score", argv).said() is None


def test_what_changed_while_the_command_ran_is_not_taken_for_what_it_read(folder):
    asked = Asked("score", SCORE)
    (folder / "rows.jsonl").write_text("changed")
    (folder / "rows.scored.jsonl.provenance").mkdir()
    (folder / "rows.scored.jsonl").write_text("made")
    asked.record("Already complete")
    assert Asked("score", SCORE).said() is None


@pytest.mark.parametrize("argv", [["rows.jsonl", "--judge", "user/judge"], ["--config", "base.yaml"]])
def test_what_is_on_the_hub_is_not_known(folder, argv):
    (folder / "base.yaml").write_text("model_name_or_path: judge\ndataset_name: user/data\noutput_dir: out\n")
    finish(folder, argv, "rows.scored.jsonl.provenance" if "--judge" in argv else "out", "rows.scored.jsonl")
    assert Asked("score" if "--judge" in argv else "self_generate", argv).said() is None


def test_a_generated_folder(folder):
    argv = ["--model_name_or_path", "judge", "--dataset_name", "rows.jsonl", "--output_dir", "out"]
    finish(folder, argv, "out")
    assert Asked("self_generate", argv).said() == "Already complete"
    (folder / "out" / "train.jsonl").write_text("by somebody else")
    assert Asked("self_generate", argv).said() is None


def test_a_call_from_python_records_nothing(folder, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["real-trl", *SCORE])
    (folder / "rows.scored.jsonl.provenance").mkdir()
    (folder / "rows.scored.jsonl").write_text("made")
    Asked.of_process("score", SCORE).record("Already complete")
    assert Asked("score", SCORE).said() is None
    Asked.of_process("score", None).record("Already complete")
    assert Asked("score", SCORE).said() == "Already complete"


def test_score_as_a_command(tmp_path):
    warm_model().save_pretrained(tmp_path / "judge")
    TOKENIZER.save_pretrained(tmp_path / "judge")
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0]).save(tmp_path / "judge")
    rows = prompt_dataset([1.0, 2.0])
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"prompt": row["prompt"]}) + "\n" for row in rows))
    code = f"import sys; from real_trl.cli import main; print(main({['score', *SCORE]!r}), 'torch' in sys.modules)"
    said = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
        )
        said.append(done.stdout)
        assert done.returncode == 0, done.stderr
    assert said[0].endswith("0 True\n") and said[1].endswith("0 False\n")
    again = said[1].removeprefix("Already complete: rows.scored.jsonl\n").removesuffix("0 False\n")
    assert again.startswith("2 rows scored: rows.scored.jsonl\n") and said[0].removesuffix("0 True\n").endswith(again)
