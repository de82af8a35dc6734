# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl doctor` finds nothing where all is well, and names what was broken on purpose."""

import json
import os
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from accelerate import PartialState
from transformers import GPT2Config, MistralConfig, Qwen3Config

from real_trl.doctor import environment, kernels, precision, speed
from real_trl.doctor import subject as examined
from real_trl.doctor.findings import Finding, failures, print_report, run_checks
from real_trl.doctor.subject import TREES, Subject
from real_trl.forward import logits, packed_attention, selected_log_probs
from real_trl.planning.hardware import Hardware
from real_trl.planning.setup import GIB, Cluster
from real_trl.scripts import doctor
from real_trl.text.terminal import CleanConsole

NUMBERS = {"kernels": kernels.CHECKS, "precision": precision.CHECKS}


def make_subject(config=None, dtype=torch.bfloat16):
    """On the CPU, of a model like the usual one but with smaller heads."""
    usual = Qwen3Config(
        hidden_size=64, intermediate_size=96, num_attention_heads=8, num_key_value_heads=2, head_dim=16, vocab_size=900
    )
    return Subject(config or usual, dtype, torch.device("cpu"))


@pytest.fixture
def subject():
    return make_subject()


def found(subject, *names):
    """What the checks of these names find, by name."""
    checks = {name: check for group in NUMBERS.values() for name, check in group.items() if name in names}
    assert len(checks) == len(names)
    return run_checks({"": checks}, subject)[""]


def failed(subject, *names):
    return {name for name, finding in found(subject, *names).items() if finding.status == "failed"}


def test_nothing_fails_where_all_is_well(subject):
    report = run_checks(NUMBERS, subject)
    assert [finding for rows in report.values() for finding in rows.values() if finding.status != "ok"] == []


GPT2 = GPT2Config(n_embd=96, n_head=6, n_layer=3, vocab_size=900, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
FIVE = MistralConfig(
    hidden_size=320,
    intermediate_size=64,
    num_attention_heads=10,
    num_key_value_heads=2,
    vocab_size=900,
    sliding_window=None,
)


@pytest.mark.parametrize(
    ("config", "dtype", "head_dim", "groups"),
    [
        pytest.param(None, torch.float32, 16, 4, id="float32"),
        pytest.param(None, torch.float16, 16, 4, id="float16"),
        pytest.param(GPT2, torch.bfloat16, 16, 1, id="gpt2"),
        pytest.param(FIVE, torch.bfloat16, 32, 5, id="five heads to a key", marks=pytest.mark.slow),
    ],
)
def test_nor_with_other_models_and_types(config, dtype, head_dim, groups):
    other = make_subject(config, dtype)
    small = other.small_config()
    assert (other.head_dim, other.groups) == (head_dim, groups)
    assert small.num_hidden_layers == 2 and small.num_attention_heads == 2 * groups
    assert failures(run_checks(NUMBERS, other)) == []


def test_models_that_share_no_prompts_have_no_such_check(subject):
    windows = replace(subject, config=MistralConfig(sliding_window=64, num_hidden_layers=2))
    finding = found(windows, "whole model")["whole model"]
    assert finding.status == "skipped" and "sliding window" in finding.measured


# --- broken on purpose


def test_a_tree_that_sees_what_it_must_not(subject, monkeypatch):
    """The nodes of different labels see each other."""
    make = packed_attention.make_tree_buckets
    monkeypatch.setattr(
        packed_attention,
        "make_tree_buckets",
        lambda contexts, trees, ancestors, device: make(contexts, trees, torch.ones_like(ancestors), device),
    )
    assert failed(subject, "packed rows", "label trees", "whole model") == {"label trees", "whole model"}


def test_a_tree_that_sees_the_score(subject, monkeypatch):
    """One token too many of the text: off by one."""
    make = packed_attention.make_tree_buckets
    monkeypatch.setattr(
        packed_attention,
        "make_tree_buckets",
        lambda contexts, *rest: make([(start, end + (end > start)) for start, end in contexts], *rest),
    )
    assert failed(subject, "packed rows", "label trees", "under autocast") == {"label trees", "under autocast"}


def test_completions_that_see_the_prompt_of_another_group(subject, monkeypatch):
    crossings = packed_attention._crossings
    monkeypatch.setattr(
        packed_attention,
        "_crossings",
        lambda layout: [(rows, crossings(layout)[0][1]) for rows, _ in crossings(layout)],
    )
    names = {"packed rows", "label trees", "whole model", "checkpointing", "reentrant checkpointing"}
    assert failed(subject, *names) == names


def test_a_prompt_that_sees_what_follows(subject, monkeypatch):
    attend = packed_attention.attend
    monkeypatch.setattr(packed_attention, "attend", lambda *parts, causal: attend(*parts, causal=False))
    assert failed(subject, "packed rows", "under autocast") == {"packed rows", "under autocast"}


def test_a_backward_that_forgets_a_part(subject, monkeypatch):
    """The forward is right."""
    backward = packed_attention.attend_backward

    def forgetful(*parts, causal):
        grads = backward(*parts, causal=causal)
        return grads if causal else (grads[0], 0 * grads[1], grads[2])

    monkeypatch.setattr(packed_attention, "attend_backward", forgetful)
    findings = found(subject, "packed rows", "whole model")
    assert {finding.status for finding in findings.values()} == {"failed"}
    assert "dK" in findings["packed rows"].measured and "gradient" in findings["whole model"].measured


def rounded(hidden, weight, bias):
    return (hidden @ weight.to(hidden.dtype).T).bfloat16().float()


def test_an_output_head_in_bfloat16(subject, monkeypatch):
    names = ("scores in training", "scores in judging", "signs of advantages", "packed rows")
    monkeypatch.setattr(selected_log_probs, "precise_logits", rounded)
    assert failed(subject, *names) == {"scores in training", "signs of advantages"}
    monkeypatch.setattr(logits, "precise_logits", rounded)
    assert failed(subject, *names) == {"scores in training", "scores in judging", "signs of advantages"}


def test_an_error_in_a_check_is_its_finding(subject, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no kernel image is available\nfor execution")

    monkeypatch.setattr(packed_attention, "attend", broken)
    finding = found(subject, "packed rows")["packed rows"]
    assert finding.status == "failed" and finding.measured == "RuntimeError: no kernel image is available"
    assert "test_doctor.py" in finding.advice


# --- what a recipe says


def test_a_rate_at_which_nothing_is_seen(subject):
    """
    Of weights with a standard deviation of 0.02 that begin in bfloat16: 20 steps of 5e-8 are seen below 2⁻¹¹ (1.95 % of them), where half a
    step of bfloat16 is less, in the upper binade 1.9 times too large: 0.98 % x 1.9 + 0.98 % = 2.8 %. Of 1e-6 below 2⁻⁷:
    14.9 % x 1.53 + 7.7 % x 0.76 + 3.9 % x 1.14 + 3.9 % = 37 %.
    """
    slow, usual = (precision.visible(replace(subject, learning_rate=rate)) for rate in (5e-8, 1e-6))
    assert (slow.status, usual.status) == ("warning", "ok")
    share = [float(finding.measured.split(", ")[1].split("%")[0]) for finding in (slow, usual)]
    assert share == pytest.approx([2.8, 37.0], abs=0.3)
    assert precision.masters(replace(subject, learning_rate=5e-8)).status == "ok"


def test_the_recipes_heads_type_and_rate(recipe, monkeypatch):
    machine = Hardware("the processor", False, Cluster(1, 1, "CPU", 64 * GIB))
    monkeypatch.setattr(examined, "find_hardware", lambda: machine)
    subject = Subject.of(recipe(learning_rate=3e-7, bf16=True))
    assert (subject.head_dim, subject.groups, subject.dtype, subject.learning_rate) == (8, 2, torch.bfloat16, 3e-7)
    assert Subject.of(recipe(), ["--fp16", "true"]).dtype == torch.float16
    assert [check(subject).status for check in (environment.fit, environment.disk)] == ["ok", "ok"]
    finding = speed.step_time(subject)
    assert finding.status == "ok" and "an update, measured" in finding.measured


def test_weights_that_nothing_keeps_in_float32(recipe):
    finding = precision.masters(Subject.of(recipe(dtype="bfloat16")))
    assert finding.status == "failed" and finding.measured == "bfloat16" and "dtype" in finding.advice


# --- environment


def test_a_package_out_of_its_bounds_is_named(subject, monkeypatch):
    assert environment.packages(subject).status == "ok"
    wanted = ["trl>=99", "torch>=2.8", "no-such-package>=1", 'nothing>=1; extra == "dev"', "real_trl[dev]"]
    monkeypatch.setattr(environment, "requires", lambda name: wanted)
    finding = environment.packages(subject)
    assert finding.status == "failed"
    assert finding.advice.startswith(f"trl {version('trl')} is not >=99; no-such-package is missing. ")


def test_a_lock_that_was_left_behind_is_named(subject, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    assert environment.compile_locks(subject).status == "ok"
    lock = tmp_path / "py311_cpu" / "deepspeed_shm_comm" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    assert environment.compile_locks(subject).status == "ok"  # something compiles
    os.utime(lock, (0, 0))
    finding = environment.compile_locks(subject)
    assert finding.status == "warning" and str(lock) in finding.advice


def test_what_a_cpu_cannot_show_is_skipped(subject):
    findings = {name: check(subject) for name, check in speed.CHECKS.items() if name in ("peak memory", "an update")}
    assert {name: (f.status, f.measured) for name, f in findings.items()} == {
        "peak memory": ("skipped", "needs a GPU"),
        "an update": ("skipped", "without --recipe"),
    }


def test_speed(subject):
    finding = speed.shared_prompts(subject)
    assert finding.status == "ok" and "x as fast as dense (of 4.1 x by its operations)" in finding.measured
    assert speed.matrix_products(subject).measured.endswith("TFLOP/s in bfloat16")


# --- the command


def test_the_report(subject):
    report = {
        "kernels": {"a": Finding("ok", "1e-3", "2e-3"), "b": Finding("failed", "1", "2e-3", "Do something.")},
        "speed": {"c": Finding("skipped", "needs a GPU")},
    }
    console = CleanConsole(record=True, width=100, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    print_report(report, console)
    text = console.export_text()
    assert "failed: kernels, b: Do something." in text and text.endswith("1 ok, 1 failed, 1 skipped.\n")
    assert failures(report) == ["kernels: b"]


def test_the_command(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_join_processes", PartialState)
    good = {"kernels": {"a": lambda subject: Finding("ok", "fine")}}
    monkeypatch.setattr(doctor, "GROUPS", good)
    doctor.main(["--json"])
    assert json.loads(capsys.readouterr().out)["failed"] == []
    monkeypatch.setattr(doctor, "GROUPS", {"speed": {"b": lambda subject: Finding("failed", "slow")}, **good})
    with pytest.raises(SystemExit) as end:
        doctor.main(["--json"])
    assert end.value.code == 1 and json.loads(capsys.readouterr().out)["failed"] == ["speed: b"]
    with pytest.raises(SystemExit) as end:
        doctor.main(["--recipe", "none.yaml"])
    assert end.value.code == 2 and "none.yaml: no such file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        doctor.main(["--learning_rate", "1"])
    assert end.value.code == 2 and "--learning_rate" in capsys.readouterr().err


def test_trees_have_the_labels_of_small_vocabularies():
    assert {token for tree in TREES.values() for path in tree.paths for token in path} == set(range(5, 10))
