# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Secrets are planted wherever recipes, command lines, addresses and the environment take text; then everything that was written is searched."""

import dataclasses
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from trl import ModelConfig

from real_trl import RAFTConfig, REALConfig
from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments
from real_trl.arguments.training import StageArguments
from real_trl.data.arguments import DataArguments
from real_trl.scripts import evaluate, push, rl, score, self_generate, sft
from real_trl.scripts.score import ScoreArguments
from real_trl.scripts.self_generate import SelfGenerateArguments
from real_trl.text.terminal import clean
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve
from tests.tiny import TOKENIZER, build_model, prompt_dataset

FORMS = (
    *(
        "hf_{}" + "aB3" * 8,
        "sk-proj-{}" + "Zk9" * 8,
        "ghp_{}" + "q1" * 16,
        "AKIA{}IOSFODNN7EX",
        "xoxb-{}-123456789012",
    ),
    *(
        "github_pat_{}" + "w1" * 14,
        "AIza{}" + "Sy0" * 12,
        "eyJ{}hbGciOiJI.eyJzdWIiOiIxMjM0",
        "Bearer {}abcdefghijklmnop7",
    ),
    *("https://user:pass{}word@host/x", "https://host/x?token={}abcdef", "https://host/x?sv=1&sig={}abc%2B"),
)
TRAINING = {
    "max_steps": 1,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "save_steps": 1,
    "disable_tqdm": True,
    "report_to": "tensorboard",
    "max_steps_without_signal": 0,
}
SFT = {**TRAINING, "per_device_train_batch_size": 4}
RL = {
    **TRAINING,
    "num_generations": 2,
    "per_device_train_batch_size": 4,
    "max_completion_length": 12,
    "preflight_scored_rate": 0,
}
SHORT = {"max_new_tokens": 12}


class Planted:
    """Secrets, each of its own, and what was written since."""

    def __init__(self) -> None:
        self.marks: list[str] = []

    def mark(self) -> str:
        """Text that is in no other secret, nor in anything else."""
        self.marks.append(f"{len(self.marks):03}PLANT")
        return self.marks[-1]

    def text(self) -> str:
        """A secret by its form."""
        form = FORMS[len(self.marks) % len(FORMS)]
        return form.format(self.mark())

    def mapping(self) -> dict:
        """Secrets by name and by form."""
        return {
            "token": f"plain-{self.mark()}",
            "storage_options": {"account": f"plain-{self.mark()}"},
            "headers": {"X-Custom-Key": f"plain-{self.mark()}"},
            "note": self.text(),
        }

    def found_in(self, content: bytes) -> list[str]:
        return [mark for mark in self.marks if mark.encode() in content]


def contents(folder: Path, *given: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder but those that were `given`, archives and columns unpacked."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path not in given):
        content = path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                content += b"".join(archive.read(name) for name in archive.namelist())
        elif path.suffix == ".parquet":
            content += json.dumps(pq.read_table(path).to_pylist(), default=str).encode()
        yield str(path.relative_to(folder)), content


def start(folder: Path) -> tuple[Path, Path]:
    """A model and rows."""
    build_model().save_pretrained(folder / "model")
    TOKENIZER.save_pretrained(folder / "model")
    rows = prompt_dataset([4.0, 2.0, 5.0, 1.0])
    lines = (json.dumps({**row, "feedback": "7+4 is 12, right."}) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text("".join(lines))
    return folder / "model", folder / "rows.jsonl"


def run(script, folder: Path, name: str, recipe: dict, *argv: str) -> int:
    """Exit status of a stage."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    try:
        script.main([*argv, "--config", str(path)])
    except SystemExit as end:
        return end.code or 0
    return 0


def test_a_run_writes_no_secret(tmp_path, capsys, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    planted = Planted()
    model, rows = start(tmp_path)
    environment = f"words-of-{planted.mark()}"
    monkeypatch.setenv("MY_SERVICE_API_KEY", environment)
    monkeypatch.setenv("REAL_TRL_DEBUG", "")

    def secrets() -> dict:
        return {
            "hub_token": f"plain-{planted.mark()}",
            "run_name": f"{environment} and {planted.text()}",
            "project": planted.text(),
            "trackio_space_id": planted.text(),
            "hub_model_id": planted.text(),
            "hub_revision": planted.text(),
            "model_init_kwargs": {"token": f"plain-{planted.mark()}"},
        }

    data = {"dataset_name": str(rows)}
    recipe = {**SFT, **data, "model_name_or_path": str(model), "output_dir": str(tmp_path / "sft"), **secrets()}
    assert run(sft, tmp_path, "1", recipe) == 0
    recipe = {
        **RL,
        **data,
        "model_name_or_path": str(tmp_path / "sft"),
        "output_dir": str(tmp_path / "rl"),
        **secrets(),
    }
    assert run(rl, tmp_path, "3", recipe, "--hub_token", f"plain-{planted.mark()}") == 0

    with serve(TinyServer(build_model(), TOKENIZER, key=environment, extensions=True)) as url:
        monkeypatch.setenv("OPENAI_API_KEY", environment)
        extra = {"user": planted.text(), "metadata": planted.mapping()}
        options = {"base_url": url, "model": MODEL_NAME, "extra_body": extra, "max_retries": 0}
        served = {**SHORT, "engine": "server", "engine_options": options}
        judge = str(tmp_path / "rl")
        recipe = {**served, **data, "model_name_or_path": judge, "output_dir": str(tmp_path / "evaluation")}
        assert run(evaluate, tmp_path, "4", {**recipe, "eval_splits": ["train"]}) in (0, 3)
        argv = ["--engine_options", json.dumps({**options, "extra_body": planted.mapping()})]
        generated = {**recipe, "output_dir": str(tmp_path / "generated")}
        assert run(self_generate, tmp_path, "5", generated, *argv) in (0, 2, 3)
        recipe = {**served, "judge": judge, "prompt_column": "prompt", "output": str(tmp_path / "scored.csv")}
        assert run(score, tmp_path, "6", recipe, str(rows)) in (0, 3)
        monkeypatch.setenv("OPENAI_API_KEY", f"wrong-{planted.mark()}")  # which this server repeats
        assert run(score, tmp_path, "7", {**recipe, "output": str(tmp_path / "none.csv")}, str(rows)) == 2
    with pytest.raises(SystemExit):  # its files have paths of this machine or it goes well
        push.main([str(tmp_path / "rl"), "--local_dir", str(tmp_path / "published")])
        raise SystemExit
    shown = "".join(capsys.readouterr()) + caplog.text
    assert "[redacted]" in shown and planted.found_in(shown.encode()) == []
    written = dict(contents(tmp_path, *tmp_path.glob("*.yaml")))
    for name in ("sft/training_args.bin", "rl/checkpoint-1/training_args.bin", "sft/checkpoint-1/manifest.json"):
        assert name in written
    for name in ("rl/judge_config.json", "evaluation/report.html", "evaluation/evaluation.json", "scored.csv"):
        assert name in written
    assert any("tfevents" in name for name in written) and any("published" in name for name in written)
    assert {name: found for name, content in written.items() if (found := planted.found_in(content))} == {}
    assert b"[redacted]" in written["evaluation/evaluation.json"]


def texts(classes: tuple[type, ...], planted: Planted) -> dict:
    """A secret for every field that takes text or a mapping; new ones come by themselves."""
    values = {}
    for cls in classes:
        for field in dataclasses.fields(cls):
            kinds = str(field.type)
            if not field.init or field.name in values:
                continue
            if "dict" in kinds:
                values[field.name] = planted.mapping()
            elif "list[str]" in kinds or "tuple[str" in kinds:
                values[field.name] = [planted.text()]
            elif "str" in kinds or "Any" in kinds:
                values[field.name] = planted.text()
    return values


STAGES = {
    "sft": (sft, (StageArguments, DataArguments, RAFTConfig, ModelConfig), SFT),
    "rl": (rl, (StageArguments, DataArguments, REALConfig, ModelConfig), RL),
    "evaluate": (evaluate, (EvaluateArguments, EvaluateDataArguments, ModelConfig), SHORT),
    "self_generate": (self_generate, (SelfGenerateArguments, DataArguments, ModelConfig), SHORT),
    "score": (score, (ScoreArguments, ModelConfig), SHORT),
}
NEEDED = {
    "engine_options",  # of a server: in the run above
    "torch_compile_backend",  # of which a library shows capital letters
    "model_name_or_path",
    "dataset_name",
    "output_dir",
    "data",
    "judge",
    "output",
    "prompt_column",
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_field_of_any_stage_leads_to_a_secret(stage, tmp_path, capsys, caplog, monkeypatch):
    """All fields at once; the one that a message names is left out of the next try, until the stage runs."""
    monkeypatch.setenv("REAL_TRL_DEBUG", "")
    caplog.set_level(logging.INFO)
    script, classes, recipe = STAGES[stage]
    planted = Planted()
    model, rows = start(tmp_path)
    if stage != "sft":  # a judge
        assert (
            run(
                sft,
                tmp_path,
                "judge",
                {
                    **SFT,
                    "dataset_name": str(rows),
                    "model_name_or_path": str(model),
                    "output_dir": str(tmp_path / "judge"),
                },
            )
            == 0
        )
        model = tmp_path / "judge"
    needed = {
        "model_name_or_path": str(model),
        "dataset_name": str(rows),
        "output_dir": str(tmp_path / "out"),
        "dataset_train_split": "train",
        "dataset_test_split": "train",
    }
    if stage == "score":
        needed = {
            "data": str(rows),
            "judge": str(model),
            "prompt_column": "prompt",
            "output": str(tmp_path / "out.jsonl"),
        }
    values = {name: value for name, value in texts(classes, planted).items() if name not in NEEDED | set(recipe)}
    assert len(values) > 20
    capsys.readouterr()
    shown, ran, refused = "", False, []
    while not ran and values:
        try:
            ran = run(script, tmp_path, "recipe", {**values, **recipe, **needed}) in (0, 3)
            error = ""
        except Exception as crash:  # of a library; what it says would be shown clean by the command's hook
            error = clean(str(crash))
        said = "".join(capsys.readouterr())
        shown += said
        named = [name for name in values if name in said.partition("error: ")[2] + error]
        if not ran:
            # One that is named, else any: it is not this test's subject that a library fails
            refused.append(min(named, key=(said + error).index) if named else next(reversed(values)))
            del values[refused[-1]]
            why = said.partition("error: ")[2] or error
            shown += f"left out {refused[-1]}: {why:.200}\n"
    print(f"{stage}: {len(values)} fields ran, {len(refused)} were refused")
    assert ran or not values
    assert planted.found_in((shown + caplog.text).encode()) == []
    written = dict(contents(tmp_path, *tmp_path.glob("*.yaml")))
    assert {name: found for name, content in written.items() if (found := planted.found_in(content))} == {}
