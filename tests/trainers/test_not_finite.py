# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Runs whose numbers are not finite end before the update, with step, rows and the likely cause, and lose no checkpoint."""

import json
import math

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from real_trl.scripts import rl, sft
from real_trl.trainers import RAFTTrainer, REALTrainer
from real_trl.trainers.checkpoints import list_checkpoints
from real_trl.trainers.finite_mixin import NotFiniteError
from tests.tiny import TOKENIZER, lora_config, prompt_dataset, warm_model
from tests.trainers.test_checkpoints import raft, real


def spoiled(cls, where, step, value, micro_batch=1):
    """`cls` whose `micro_batch` of `step` has such a loss, or a loss as ever with such a gradient."""

    class Spoiled(cls):
        calls = 0

        def check_loss(self, loss, inputs):
            if self.model.training:
                self.calls = self.calls + 1 if getattr(self, "at", None) == self.state.global_step else 1
                self.at = self.state.global_step
                if self.state.global_step + 1 == step and self.calls == micro_batch:
                    loss = loss * value if where == "loss" else _Gradient.apply(loss)
            return super().check_loss(loss, inputs)

    return Spoiled


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss):
        return loss.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.full_like(gradient, math.nan)


@pytest.mark.parametrize(
    ("make", "cls", "where", "step", "micro_batch"),
    [
        (raft, RAFTTrainer, "loss", 2, 2),
        (raft, RAFTTrainer, "gradient", 3, 1),
        (real, REALTrainer, "loss", 3, 1),
        (real, REALTrainer, "gradient", 2, 2),
    ],
)
def test_the_run_ends_before_the_update(tmp_path, make, cls, where, step, micro_batch):
    """Gradients are accumulated over two micro-batches; `real` uses each batch for four steps."""
    whole = make(tmp_path / "whole", max_steps=step - 1, lr_scheduler_type="constant")
    whole.train()
    cls = spoiled(cls, where, step, math.nan, micro_batch)
    trainer = make(tmp_path / "run", cls=cls, max_steps=6, save_total_limit=2, lr_scheduler_type="constant")
    with pytest.raises(NotFiniteError) as error:
        trainer.train()
    message = str(error.value)
    assert message.startswith(f"step {step}: its {where} is nan, of row ") and "'Grade this h" in message
    assert "Likely cause" in message and "learning_rate (now 0.005)" in message
    assert trainer.state.global_step == step - 1
    expected = whole.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in trainer.model.state_dict().items())
    kept = [f"checkpoint-{number}" for number in range(step - 1, 0, -1)]
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == kept
    again = make(tmp_path / "run", max_steps=step)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == step


def test_the_rows_are_those_of_the_batch(tmp_path):
    cls = spoiled(RAFTTrainer, "loss", 1, math.inf)
    trainer = raft(tmp_path, cls=cls, per_device_train_batch_size=2, seed=3, max_steps=2)
    seen = []
    trainer.train_dataset = trainer.train_dataset.map(lambda row, i: {"prompt": f"{i}"}, with_indices=True)
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: seen.append([len(row["input_ids"]) for row in rows]) or collate(rows)
    with pytest.raises(NotFiniteError) as error:
        trainer.train()
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    numbers = sorted(lengths.index(length) for length in seen[0])  # the rows have different lengths
    assert all(f"row {number} of train_dataset" in str(error.value) for number in numbers)
    assert str(error.value).count("of train_dataset") == 2
    assert "the model itself, before any update" in str(error.value)


def test_a_loss_that_is_filtered_out_of_the_log_ends_the_run_too(tmp_path):
    trainer = raft(
        tmp_path, cls=spoiled(RAFTTrainer, "loss", 2, math.nan), logging_nan_inf_filter=True, logging_steps=1
    )
    with pytest.raises(NotFiniteError, match="step 2: its loss is nan"):
        trainer.train()
    assert len(trainer.state.log_history) == 1


def nan_model():
    model = warm_model()
    model.model.layers[1].mlp.up_proj.weight.data[3, 4] = math.nan
    return model


@pytest.mark.parametrize("make", [raft, real])
@pytest.mark.parametrize("peft", [None, "lora"])
def test_a_model_that_is_not_finite_is_not_trained(tmp_path, make, peft):
    trainer = make(tmp_path, model=nan_model(), peft_config=peft and lora_config())
    with pytest.raises(NotFiniteError, match=r"model: .*up_proj.*holds NaN"):
        trainer.train()
    assert list_checkpoints(tmp_path) == []


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize("peft", [None, "lora"])
def test_logits_that_are_not_finite_are_not_sampled_from(tmp_path, shared_prefix, peft):
    trainer = real(tmp_path, max_steps=1, shared_prefix=shared_prefix, peft_config=peft and lora_config())
    head = trainer.accelerator.unwrap_model(trainer.model).get_output_embeddings()
    head.register_forward_pre_hook(lambda module, args: (args[0] * math.nan,))
    with pytest.raises(NotFiniteError, match="step 1: the model gives no distribution to sample from"):
        trainer.train()


def test_float16_is_named(tmp_path):
    trainer = raft(tmp_path, max_steps=1)
    trainer.model.half()
    assert "overflow of float16. Use bf16 or float32" in trainer._likely_cause(None)


@pytest.mark.parametrize(
    ("norm", "fp16", "ends"), [(-1.0, False, True), (math.inf, False, True), (math.inf, True, False)]
)
def test_deepspeed_says_its_norms_in_its_own_way(tmp_path, monkeypatch, norm, fp16, ends):
    trainer = raft(tmp_path, max_steps=1)
    trainer.train()
    trainer.is_deepspeed_enabled, trainer.args.fp16 = True, fp16
    monkeypatch.setattr("transformers.Trainer._get_grad_norm", lambda self, *args, **kwargs: norm)
    if not ends:
        assert trainer._get_grad_norm(trainer.model) == norm
        return
    with pytest.raises(NotFiniteError, match=f"its gradient is {norm}") as error:
        trainer._get_grad_norm(trainer.model)
    assert not error.value.keeps_last_step


def test_deepspeed_updates_are_looked_at_after_them(tmp_path, monkeypatch):
    """With bf16 it may say 1 of a norm that is not finite, and has updated the weights by then."""
    trainer = raft(tmp_path, max_steps=1)
    trainer.train()
    trainer.is_deepspeed_enabled = True
    monkeypatch.setattr("transformers.Trainer._get_grad_norm", lambda self, *args, **kwargs: 1.0)
    trainer.model.lm_head.weight.data[0, 0] = math.inf
    with pytest.raises(NotFiniteError, match="step 2: its update was not finite.*lm_head.weight"):
        trainer._get_grad_norm(trainer.model)


# --- through the stages ---------------------------------------------------------------------------------------------------


def start(folder, stage, **changes):
    rows = prompt_dataset([4.0, 2.0, 5.0, 1.0])
    (folder / "train.jsonl").write_text(
        "".join(json.dumps({**row, "feedback": "7+4 is 12, right."}) + "\n" for row in rows)
    )
    recipe = {
        "model_name_or_path": str(folder / "model"), "dataset_name": str(folder / "train.jsonl"), "output_dir": str(folder / "out"),
        "score_labels": "1-5", "per_device_train_batch_size": 4, "max_steps": 6, "learning_rate": 1e-3, "bf16": False,
        "gradient_checkpointing": False, "use_cpu": True, "save_steps": 1, "save_strategy": "steps", "save_total_limit": 1,
        "report_to": "none", "disable_tqdm": True, **({"num_generations": 4, "max_completion_length": 24} if stage is rl else {}), **changes,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    stage.main(["--config", str(folder / "recipe.yaml")])


@pytest.mark.parametrize("stage", [sft, rl])
def test_a_stage_that_diverges_ends_with_2_and_keeps_the_last_finite_checkpoint(tmp_path, capsys, monkeypatch, stage):
    """A rate that recipes can have, and that ruins this model: its weights overflow in a few steps."""
    warm_model().save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    name = "RAFTTrainer" if stage is sft else "REALTrainer"
    monkeypatch.setattr(stage, name, spoiled(getattr(stage, name), "gradient", 3, math.nan))
    with pytest.raises(SystemExit) as ended:
        start(tmp_path, stage)
    assert ended.value.code == 2
    assert "error: step 3: its gradient is nan, of row " in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.safetensors").exists()
    [kept] = list_checkpoints(tmp_path / "out")
    assert kept.name == "checkpoint-2"
    assert all(value.isfinite().all() for value in load_file(kept / "model.safetensors").values())
    monkeypatch.undo()
    start(tmp_path, stage)
    assert f"Going on from {kept}" in capsys.readouterr().out
    assert all(value.isfinite().all() for value in load_file(tmp_path / "out" / "model.safetensors").values())


@pytest.mark.parametrize("stage", [sft, rl])
def test_a_stage_does_not_start_from_such_a_model(tmp_path, capsys, stage):
    warm_model().save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["model.norm.weight"][0] = math.inf
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SystemExit) as ended:
        start(tmp_path, stage)
    assert ended.value.code == 2 and "model.norm.weight holds NaN" in capsys.readouterr().err
    assert list_checkpoints(tmp_path / "out") == []
