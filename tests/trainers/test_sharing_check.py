# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The first micro-batch of a run is computed both ways: right kernels stay, wrong ones do not train a judge."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from real_trl.forward import packed_attention
from real_trl.trainers import sharing_check
from real_trl.trainers.sharing_check import wants_check, ways_agree
from tests.trainers import test_padding_free as raft
from tests.trainers.test_real_gradient import make_trainer as make_real_trainer
from tests.trainers.test_real_trainer import fixed
from tests.trainers.test_real_trainer import make_trainer as make_sampling_trainer
from tests.trainers.test_shared_prefix_steps import Forwards
from tests.trainers.test_split_groups import TEXTS

STEPS = {"max_steps": 2, "learning_rate": 1e-3, "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True}


def real_trainer(path, **options):
    return make_real_trainer(path, **{**STEPS, "prediction_weight": 0.5, **options})


def fixed_trainer(path, **options):
    return make_sampling_trainer(path, fixed(*TEXTS), **{**STEPS, **options})


def raft_trainer(path, **options):
    labels = options.pop("labels", "one token")
    return raft.trainer_of(path, labels, **{**STEPS, **options})


def direct_trainer(path, **options):
    completions = [f" {raft.MARKER} {label}" for label in (4, 2, 4, 1)]
    dataset = raft.raft_dataset(completions, raft.SCORES)
    return raft.make_trainer(path, train_dataset=dataset, **{**STEPS, **options})


MAKE = {
    "REAL": (real_trainer, {}),
    "REAL, LoRA": (real_trainer, {"lora": True}),
    "REAL, reused": (fixed_trainer, {"num_iterations": 2, "prediction_weight": 1.0}),
    "REAL, bfloat16": (real_trainer, {"bf16": True}),
    "REAL, parts of groups": (fixed_trainer, {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}),
    "RAFT": (raft_trainer, {}),
    "RAFT, bfloat16": (raft_trainer, {"bf16": True}),
    "RAFT, several tokens": (raft_trainer, {"labels": "several"}),
    "RAFT, LoRA": (raft_trainer, {"lora": True}),
    "RAFT, direct": (direct_trainer, {}),
}


def trained(trainer):
    """Losses and weights."""
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == trainer.args.max_steps
    return losses, {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def shares(trainer):
    return trainer._shares_prefixes if hasattr(trainer, "_shares_prefixes") else trainer._padding_free


def warnings(caplog):
    return [record.message for record in caplog.records if "rounding explains" in record.message]


@pytest.mark.parametrize("case", MAKE)
def test_what_is_right_stays_and_nothing_changes(tmp_path, case, caplog):
    make, options = MAKE[case]
    trainer = make(tmp_path / "checked", check_shared_prefix=True, **options)
    forwards = Forwards(trainer.model)
    losses, weights = trained(trainer)
    assert shares(trainer) and not warnings(caplog) and trainer.model.training
    assert forwards.with_gradient[0] is False and True in forwards.with_gradient
    plain = make(tmp_path / "plain", **options)
    assert plain.args.check_shared_prefix is None
    expected, expected_weights = trained(plain)
    assert losses == expected
    for name, weight in expected_weights.items():
        assert torch.equal(weights[name], weight), name


def prompts_that_are_not_seen(monkeypatch):
    """Completions that do not see the first token of their prompt."""
    own = packed_attention._crossings
    monkeypatch.setattr(
        packed_attention, "_crossings", lambda layout: [(rows, slice(s.start + 1, s.stop)) for rows, s in own(layout)]
    )


def rows_that_see_others(monkeypatch):
    """All rows that are packed are one sequence."""
    own = packed_attention.PackedSequences.attend

    def attend(layout, *args):
        joined = [(layout.prefixes[0][0], layout.prefixes[-1][1])]
        branches = [(layout.branches[0][0], layout.branches[-1][1])]
        return own(
            packed_attention.PackedSequences(joined, branches, layout.own, layout.contexts, layout.ancestors), *args
        )

    monkeypatch.setattr(packed_attention.PackedSequences, "attend", attend)


BROKEN = {
    "REAL": (*MAKE["REAL"], prompts_that_are_not_seen),
    "REAL, reused": (*MAKE["REAL, reused"], prompts_that_are_not_seen),
    "REAL, bfloat16": (*MAKE["REAL, bfloat16"], prompts_that_are_not_seen),
    "REAL, parts of groups": (*MAKE["REAL, parts of groups"], prompts_that_are_not_seen),
    "RAFT": (*MAKE["RAFT"], rows_that_see_others),
    "RAFT, bfloat16": (*MAKE["RAFT, bfloat16"], rows_that_see_others),
    "RAFT, several tokens": (*MAKE["RAFT, several tokens"], prompts_that_are_not_seen),
    "RAFT, direct": (*MAKE["RAFT, direct"], prompts_that_are_not_seen),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_named_and_the_run_goes_on_without(tmp_path, case, monkeypatch, caplog):
    make, options, damage = BROKEN[case]
    if make in (real_trainer, fixed_trainer):
        expected, expected_weights = trained(make(tmp_path / "dense", shared_prefix=False, **options))
    else:
        with monkeypatch.context() as patch:
            patch.setattr(
                "real_trl.trainers.raft_trainer.why_not_exact", lambda model, dropout=None: "it is compared with"
            )
            expected, expected_weights = trained(make(tmp_path / "dense", **options))
    damage(monkeypatch)
    unchecked, _ = trained(make(tmp_path / "unchecked", check_shared_prefix=False, **options))
    assert unchecked != pytest.approx(expected, rel=1e-4) and not warnings(caplog)
    trainer = make(tmp_path / "checked", check_shared_prefix=True, **options)
    losses, weights = trained(trainer)
    (warning,) = warnings(caplog)
    assert "check_shared_prefix: false" in warning and not shares(trainer)
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight)


def test_a_run_that_samples_goes_on_sampling(tmp_path, monkeypatch, caplog):
    prompts_that_are_not_seen(monkeypatch)
    trainer = make_sampling_trainer(tmp_path, check_shared_prefix=True, max_steps=2, save_strategy="no")
    trainer.train()
    assert trainer.state.global_step == 2 and len(warnings(caplog)) == 1 and not trainer._shares_prefixes


def test_dropout_is_no_difference(tmp_path, caplog):
    """Of a layer other than attention, which rows without padding allow."""
    from transformers import GPT2Config, GPT2LMHeadModel

    def build(tokenizer):
        torch.manual_seed(1)
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=256,
            n_embd=32,
            n_layer=2,
            n_head=4,
            attn_pdrop=0.0,
            resid_pdrop=0.3,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        return GPT2LMHeadModel(config)

    trainer = raft.trainer_of(tmp_path, "one token", build, check_shared_prefix=True, **STEPS)
    trained(trainer)
    assert trainer._padding_free and not trainer._checks_sharing and not warnings(caplog)


def test_on_a_gpu_unless_told_otherwise():
    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    assert [wants_check(None, device) for device in (cpu, gpu)] == [False, True]
    assert [wants_check(check, gpu) for check in (False, True)] == [False, True] and wants_check(True, cpu)


class Scripted(torch.nn.Module):
    """A model whose log-probabilities are given: those of two tokens and one label in each row."""

    dtype = torch.float32

    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(1, 1)
        torch.nn.init.ones_(self.embedding.weight)

    def get_input_embeddings(self):
        return self.embedding

    def log_probs(self, shared_tokens, shared_labels, rows=1):
        """The dense way gives 1 for each, moved by rounding; the shared way what is given."""

        def log_probs(share, part):
            size = len(range(rows)[part])
            one = self.embedding(torch.zeros(size, dtype=torch.long))
            return (
                (one.new_full((2 * size,), shared_tokens), one * shared_labels)
                if share
                else (one.repeat(2, 1)[:, 0], one)
            )

        return log_probs


@pytest.mark.parametrize(
    ("tokens", "labels", "rows", "agrees"),
    [
        (0, 0, 1, True),
        (7.6, 0, 1, True),  # of two tokens 2 (1 + 4 / √2) = 7.66
        (7.7, 0, 1, False),
        (0, 9.9, 1, True),  # of one row 2 (1 + 4)
        (0, -9.9, 1, True),
        (0, 10.1, 1, False),
        (0, -10.1, 1, False),
        (2.05, 2.07, 10000, True),  # 2.057 and 2.08
        (2.07, 0, 10000, False),
        (0, 2.09, 10000, False),
        (float("nan"), 0, 1, False),
        (0, float("inf"), 1, False),
    ],
)
def test_the_bound(tokens, labels, rows, agrees, monkeypatch):
    unit = 2.0**-10
    monkeypatch.setattr(sharing_check, "_unit", lambda *_: unit)
    model = Scripted()
    log_probs = model.log_probs(1 + tokens * unit, 1 + labels * unit, rows)
    assert ways_agree(Accelerator(cpu=True), model, rows, log_probs) is agrees


def test_without_numbers_of_the_dense_way_nothing_is_said():
    model = Scripted()
    model.embedding.weight.data[:] = torch.nan
    assert ways_agree(Accelerator(cpu=True), model, 1, model.log_probs(1.0, 1.0))


@pytest.mark.parametrize(
    ("mixed", "dtype", "unit"),
    [
        ("bf16", torch.float32, 2**-8),
        ("no", torch.bfloat16, 2**-8),
        ("fp16", torch.float32, 2**-11),
        ("no", torch.float32, 2**-24),
        ("no", torch.float64, 2**-24),
    ],
)
def test_one_rounding(mixed, dtype, unit):
    model = Scripted()
    model.dtype = dtype
    accelerator = type("Mixed", (), {"mixed_precision": mixed, "device": torch.device("cpu")})()
    assert sharing_check._unit(accelerator, model) == unit


def _decide(rank, port, folder):
    os.environ.update(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank)
    )
    model, unit = Scripted(), 2.0**-24
    by = [model.log_probs(1.0, 1 + 100 * unit * (rank == 1)), model.log_probs(1.0, 1.0)]
    answers = [ways_agree(Accelerator(cpu=True), model, 1, log_probs) for log_probs in by]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(answers))


@pytest.mark.slow
def test_processes_decide_alike(tmp_path):
    """One of the two sees a difference."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_decide, (port, str(tmp_path)), nprocs=2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[False, True]] * 2
