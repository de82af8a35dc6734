# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `real-trl doctor` does with a recipe, and in several processes: nothing is left behind, nothing missing is passed over, and the report says what it is about."""

import json
import os
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from real_trl.doctor import environment, vllm_engine
from real_trl.doctor.examined import describe
from real_trl.doctor.findings import Finding
from real_trl.doctor.subject import Subject
from real_trl.scripts import doctor


def test_reading_a_recipe_leaves_accelerate_as_it_was(recipe, monkeypatch):
    PartialState()
    monkeypatch.setitem(PartialState._shared_state, "device", torch.device("meta"))
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    subject = Subject.of(recipe(bf16=True))
    assert subject.recipe.config.use_cpu and PartialState().device.type == "meta"
    assert [(k, v) for k, v in os.environ.items() if k.startswith("ACCELERATE_")] == [
        ("ACCELERATE_MIXED_PRECISION", "no")
    ]


@pytest.mark.deepspeed
def test_nor_are_models_spread_that_are_made_after_it(recipe, monkeypatch):
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    subject = Subject.of(recipe())
    assert not is_deepspeed_zero3_enabled()
    assert subject.small_model().lm_head.weight.shape == (512, 32)


def test_a_recipe_that_says_nothing_is_examined_in_what_a_gpu_would_compute(recipe):
    assert Subject.of(recipe()).dtype == torch.bfloat16
    assert Subject.of(recipe(bf16=False)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_vllm": True}, "real_trl[vllm]"),
        ({"load_in_4bit": True, "use_peft": True}, "real_trl[qlora]"),
        ({}, None),
    ],
)
def test_what_the_recipe_needs_and_is_not_there(recipe, monkeypatch, options, named):
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    finding = environment.needed(Subject.of(recipe(**options)))
    assert finding.status == ("failed" if named else "ok") and (named or "") in finding.advice


def test_zero_needs_deepspeed(recipe, monkeypatch):
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    path = recipe()
    config = os.path.abspath("recipes/accelerate_configs/zero3.yaml")
    command = f"# accelerate launch --config_file {config} -m real_trl.scripts.rl --config recipe.yaml\n"
    path.write_text(command + path.read_text())
    finding = environment.needed(Subject.of(path))
    assert finding.status == "failed" and "real_trl[deepspeed]" in finding.advice
    monkeypatch.setattr(environment, "find_spec", lambda name: object())
    assert environment.needed(Subject.of(path)).status == "ok"


def test_vllm_is_passed_over_only_where_nothing_uses_it(recipe, monkeypatch):
    monkeypatch.setattr(vllm_engine, "find_spec", lambda name: None)
    found = [vllm_engine.check_vllm(Subject.of(recipe(use_vllm=use)))["vLLM"].status for use in (True, False)]
    assert found == ["failed", "skipped"]


def test_a_sync_that_is_not_examined_is_said_to_be_none(recipe):
    found = vllm_engine._other_weights(Subject.of(recipe(use_peft=True, load_in_4bit=True)))
    assert {name: row.status for name, row in found.items()} == {
        "sync with LoRA": "skipped",
        "sync with 4 bits": "skipped",
    }
    assert vllm_engine._other_weights(Subject.of(recipe())) == {}


def test_the_report_says_what_it_is_about(recipe):
    path = recipe()
    said = describe(Subject.of(path), SimpleNamespace(num_processes=2), "real-trl doctor")
    assert said["processes"] == 2 and said["recipe"] == str(path) and len(said["sha256 of the recipe"]) == 64
    assert (said["stage"], said["dtype"], said["heads"]) == ("rl", "bfloat16", "4 of 8, 2 to each key")
    assert said["command"] == "real-trl doctor" and said["date"].endswith("+00:00")


@contextmanager
def as_of(monkeypatch, main):
    """`main` of two processes, without the other one."""
    kept = os.dup(1)
    monkeypatch.setattr(doctor, "_join_processes", lambda: SimpleNamespace(num_processes=2, is_main_process=main))
    monkeypatch.setattr(doctor.environment, "CHECKS", {"a": lambda subject: Finding("ok", "found at once")})
    monkeypatch.setattr(doctor, "_TO_REPORT", 0)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def broken(subject):
    raise RuntimeError("NCCL is not there")


def test_an_error_in_several_processes_leaves_the_rest_of_the_report(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "check_processes", broken)
    with as_of(monkeypatch, main=True), pytest.raises(SystemExit) as end:
        doctor.main(["--json"])
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert end.value.code == 1 and "found at once" in said.err
    assert report["failed"] == ["several processes: start"]
    assert report["groups"]["several processes"]["start"]["measured"] == "RuntimeError: NCCL is not there"
    assert report["groups"]["environment"]["a"]["status"] == "ok"
    for title in ("kernels", "precision", "speed", "vLLM"):
        (row,) = report["groups"][title].values()
        assert (row["status"], row["measured"]) == ("skipped", "in one process: real-trl doctor --json")


def test_and_ends_the_other_processes(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "check_processes", broken)
    with as_of(monkeypatch, main=False), pytest.raises(RuntimeError, match="NCCL"):
        doctor.main(["--json"])
    assert capsys.readouterr().out == ""


def test_what_libraries_print_is_not_in_the_report(capfd):
    with doctor._stdout_to_stderr():
        print("by Python")
        sys.stdout.flush()
        os.write(1, b"by the system\n")
    os.write(1, b"{}")
    said = capfd.readouterr()
    assert said.out == "{}" and "by Python" in said.err and "by the system" in said.err
