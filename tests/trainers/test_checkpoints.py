# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Complete checkpoints, and runs that go on from them as if nothing had happened."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch.utils.data import RandomSampler
from transformers import TrainerCallback
from trl.trainer.utils import RepeatSampler

from real_trl.data.loading import build_completion
from real_trl.trainers import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer, resume_mixin
from real_trl.trainers.checkpoints import (
    MANIFEST_NAME,
    StopWithCheckpoint,
    check_checkpoint,
    discard_checkpoint,
    find_fault,
    last_complete_checkpoint,
    list_checkpoints,
    rotate_checkpoints,
    write_manifest,
)
from tests.helpers.checkpoint_files import assert_same_checkpoint, flip_a_bit, is_same
from tests.tiny import TOKENIZER, lora_config, prompt_dataset, warm_model

# --- folders -------------------------------------------------------------------------------------------------------------


def make_checkpoint(output: Path, step: int, *, resumable: bool = True) -> Path:
    checkpoint = output / f"checkpoint-{step}"
    (checkpoint / "global_step").mkdir(parents=True)
    for name, size in (("model.safetensors", 100), ("optimizer.pt", 50), ("global_step/shard_0.pt", 7)):
        (checkpoint / name).write_bytes(b"x" * size)
    write_manifest(checkpoint, recipe={"seed": 1}, resumable=resumable)
    return checkpoint


FAULTS = {
    "a bit": (
        lambda path: flip_a_bit(path / "model.safetensors"),
        "model.safetensors has changed since it was written",
    ),
    "a bit in a subfolder": (
        lambda path: flip_a_bit(path / "global_step/shard_0.pt"),
        "global_step/shard_0.pt has changed since it was written",
    ),
    "no manifest": (lambda path: (path / MANIFEST_NAME).unlink(), "it has no manifest.json"),
    "half a manifest": (lambda path: (path / MANIFEST_NAME).write_text('{"files": {"model.saf'), "cannot be read"),
    "another manifest": (lambda path: (path / MANIFEST_NAME).write_text("[]"), "cannot be read"),
    "missing": (lambda path: (path / "optimizer.pt").unlink(), "optimizer.pt is missing, 50 bytes expected"),
    "truncated": (
        lambda path: (path / "model.safetensors").write_bytes(b"x" * 60),
        "model.safetensors has 60 bytes, 100 expected",
    ),
    "in a subfolder": (
        lambda path: (path / "global_step/shard_0.pt").write_bytes(b""),
        "global_step/shard_0.pt has 0 bytes, 7 expected",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_incomplete_checkpoint_is_named_and_passed_over(tmp_path, fault):
    first, second, third = (make_checkpoint(tmp_path, step) for step in (2, 9, 10))
    assert find_fault(third) is None and last_complete_checkpoint(tmp_path) == (third, {})
    check_checkpoint(third)
    damage, expected = FAULTS[fault]
    damage(third)
    assert expected in find_fault(third)
    found, faulty = last_complete_checkpoint(tmp_path)
    assert found == second and list(faulty) == [third] and expected in faulty[third]
    with pytest.raises(ValueError) as error:
        check_checkpoint(third)
    assert f"resume_from_checkpoint: {str(third)!r}" in str(error.value)
    assert expected in str(error.value) and f"Go on from {str(second)!r}" in str(error.value)
    for checkpoint in (first, second):
        damage(checkpoint)
    assert last_complete_checkpoint(tmp_path)[0] is None
    with pytest.raises(ValueError, match="no complete one beside it"):
        check_checkpoint(third)


def test_what_is_no_checkpoint_is_not_looked_at(tmp_path):
    assert last_complete_checkpoint(tmp_path / "nowhere") == (None, {})
    for name in ("checkpoint-x", "checkpoint-3-old", "runs"):
        make_checkpoint(tmp_path, 3).rename(tmp_path / name)
    (tmp_path / "checkpoint-7").write_text("a file")
    assert list_checkpoints(tmp_path) == []
    with pytest.raises(ValueError, match="'.*nowhere' is no directory"):
        check_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_of_the_model_alone_is_complete_but_not_resumed(tmp_path):
    make_checkpoint(tmp_path, 1)
    only_model = make_checkpoint(tmp_path, 2, resumable=False)
    assert "save_only_model" in find_fault(only_model)
    rotate_checkpoints(make_checkpoint(tmp_path, 3, resumable=False), 2, None)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-2"]


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, [50, 40, 30, 20, 10, 2]),
        (1, None, [50, 40]),
        (2, None, [50, 40, 20]),
        (2, "checkpoint-2", [50, 40, 2]),
        (1, "checkpoint-10", [50, 40, 10]),
        (4, "checkpoint-40", [50, 40, 20, 10, 2]),
    ],
)
def test_older_checkpoints_are_deleted_incomplete_ones_first(tmp_path, limit, best, kept):
    """40 was just written; 30 is half-written; 50 is of a run that had got further."""
    for step in (2, 10, 20, 30, 40, 50):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-30" / MANIFEST_NAME).unlink()
    rotate_checkpoints(tmp_path / "checkpoint-40", limit, best and str(tmp_path / best))
    assert [path.name for path in list_checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in kept]


def test_a_damaged_checkpoint_takes_the_place_of_no_good_one(tmp_path):
    for step in (1, 2, 3):
        make_checkpoint(tmp_path, step)
    flip_a_bit(tmp_path / "checkpoint-2" / "optimizer.pt")
    rotate_checkpoints(tmp_path / "checkpoint-3", 2, None)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-1"]


def test_hashes_can_be_left_out_and_left_unchecked(tmp_path):
    first = make_checkpoint(tmp_path, 1)
    flip_a_bit(first / "optimizer.pt")
    assert "optimizer.pt has changed" in find_fault(first) and find_fault(first, hashes=False) is None
    write_manifest(first, recipe=None, resumable=True, hashes=False)
    assert "sha256" not in json.loads((first / MANIFEST_NAME).read_text()) and find_fault(first) is None
    trainer = run(raft(tmp_path / "run", max_steps=2, hash_checkpoints=False))
    for name in ("checkpoint-1", "checkpoint-2"):
        assert "sha256" not in json.loads((tmp_path / "run" / name / MANIFEST_NAME).read_text())
    assert trainer.state.global_step == 2


def test_every_file_has_its_hash(tmp_path):
    checkpoint = last_checkpoint(run(raft(tmp_path, max_steps=1)).args.output_dir)
    stated = json.loads((checkpoint / MANIFEST_NAME).read_text())["sha256"]
    names = {path.name for path in checkpoint.iterdir()} - {MANIFEST_NAME}
    assert stated == {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in names}


def test_a_checkpoint_of_an_earlier_version(tmp_path):
    """It states neither hashes nor that its weights are finite: sizes are checked, and weights read."""
    run(raft(tmp_path, max_steps=2))
    for checkpoint in list_checkpoints(tmp_path):
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text())
        del manifest["sha256"], manifest["finite"]
        (checkpoint / MANIFEST_NAME).write_text(json.dumps(manifest))
    last = last_checkpoint(tmp_path)
    assert last.name == "checkpoint-2"
    weights = load_file(last / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, last / "model.safetensors", metadata={"format": "pt"})
    assert find_fault(last) == "model.safetensors: model.norm.weight holds NaN or an infinity: training had diverged"
    assert last_checkpoint(tmp_path).name == "checkpoint-1"
    rotate_checkpoints(make_checkpoint(tmp_path, 3), 2, None)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3", "checkpoint-1"]


def test_the_manifest_is_deleted_first(tmp_path, monkeypatch):
    checkpoint = make_checkpoint(tmp_path, 1)
    monkeypatch.setattr(
        "shutil.rmtree", lambda path, **_: (path / "model.safetensors").unlink()
    )  # killed after one file
    discard_checkpoint(checkpoint)
    assert (checkpoint / "optimizer.pt").is_file() and "no manifest.json" in find_fault(checkpoint)
    monkeypatch.undo()
    discard_checkpoint(checkpoint)
    assert not checkpoint.exists()


# --- trainers ------------------------------------------------------------------------------------------------------------

COMMON = {
    "save_strategy": "steps",
    "save_steps": 1,
    "num_train_epochs": 2,
    "learning_rate": 5e-3,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 100,
}


def noisy_model():
    """Training it draws random numbers."""
    model = warm_model()
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.1
    return model


def raft(output, model=None, cls=RAFTTrainer, peft_config=None, **kwargs):
    """Two epochs of 3 steps, the last of them with one micro-batch."""
    rows = prompt_dataset([1.0, 2.0, 3.0, 4.0, 5.0])
    rows = rows.map(lambda row: {"completion": " " + build_completion("7+4 is 12, right.", str(int(row["score"])))})
    args = RAFTConfig(
        str(output), **{**COMMON, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, **kwargs}
    )
    return cls(
        model or noisy_model(), args, rows, rows.select([0, 1]), processing_class=TOKENIZER, peft_config=peft_config
    )


def real(output, model=None, cls=REALTrainer, peft_config=None, **kwargs):
    """Two epochs of 4 steps, which use one generation batch; surplus groups, and prompts drawn in place of others."""
    rows = prompt_dataset([1.0, 2.0, 3.0, 4.0, 5.0, 1.0])
    options = {
        "num_generations": 4,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "steps_per_generation": 4,
        "num_iterations": 2,
        "group_filter": "acc < 1",
        "group_filter_rounds": 50,
        "max_completion_length": 24,
    }
    args = REALConfig(str(output), **{**COMMON, **options, **kwargs})
    return cls(
        model or noisy_model(), args, rows, rows.select([0, 1]), processing_class=TOKENIZER, peft_config=peft_config
    )


def run(trainer, checkpoint=None):
    trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    return trainer


def last_checkpoint(output: Path) -> Path:
    return last_complete_checkpoint(output)[0]


ON_POLICY = {"gradient_accumulation_steps": 1, "steps_per_generation": 1, "num_iterations": 1, "group_filter": None}
CASES = {
    "raft": (raft, {}, [1, 2, 3, 4]),
    "raft by length": (raft, {"train_sampling_strategy": "group_by_length"}, [4]),
    "raft lora": (raft, {"peft_config": lora_config(lora_dropout=0.1)}, [4]),
    "real": (real, {}, [1, 4, 7]),
    "real lora": (real, {"peft_config": lora_config(lora_dropout=0.1), "beta": 0.1}, [5]),
    # A generation batch of one prompt for every step, 6 an epoch
    "real on-policy": (real, {**ON_POLICY, "max_steps": 9}, [7]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_exactly_from_every_kind_of_step(tmp_path, case):
    """In the middle of an epoch, between epochs, in the second one; in the middle of a generation batch, and after it."""
    make, options, steps = CASES[case]
    run(make(tmp_path / "whole", **options))
    end = last_checkpoint(tmp_path / "whole")
    for step in steps:
        output = tmp_path / f"from-{step}"
        trainer = run(make(output, **options), tmp_path / "whole" / f"checkpoint-{step}")
        assert_same_checkpoint(output / end.name, end)
        assert len(list_checkpoints(output)) == trainer.state.global_step - step


@pytest.mark.parametrize("make", [raft, real])
def test_the_next_older_checkpoint_is_gone_on_from(tmp_path, caplog, make):
    run(make(tmp_path, max_steps=3))
    before = load_file(tmp_path / "checkpoint-3" / "model.safetensors")
    flip_a_bit(tmp_path / "checkpoint-3" / "optimizer.pt")
    flip_a_bit(tmp_path / "checkpoint-2" / "rng_state.pth")
    with caplog.at_level("WARNING"):
        make(tmp_path, max_steps=3).train(resume_from_checkpoint=True)
    [line] = [line for line in caplog.messages if "Going on from" in line]
    assert str(tmp_path / "checkpoint-1") in line
    assert "checkpoint-3: optimizer.pt has changed" in line and "checkpoint-2: rng_state.pth has changed" in line
    after = load_file(last_checkpoint(tmp_path) / "model.safetensors")
    assert last_checkpoint(tmp_path).name == "checkpoint-3"
    assert all(torch.equal(before[name], after[name]) for name in before)


TIMES = ("step_time", "train_runtime", "train_samples_per_second", "train_steps_per_second", "eval_runtime")


def log_of(trainer):
    kept = [{k: v for k, v in entry.items() if k not in TIMES} for entry in trainer.state.log_history]
    return [dict(sorted(entry.items())) for entry in kept]


@pytest.mark.parametrize("logging_steps", [1, 3])
@pytest.mark.parametrize("make", [raft, real])
def test_the_log_goes_on_as_if_nothing_had_happened(tmp_path, make, logging_steps):
    """With one line a step, and with lines over steps before and after the interruption."""
    options = {"logging_steps": logging_steps, "max_steps": 5}
    whole = log_of(run(make(tmp_path / "whole", **options)))
    assert len(whole) == {1: 6, 3: 2}[logging_steps]
    losses = [entry["loss"] for entry in whole if "loss" in entry]
    if logging_steps == 1:
        assert whole[-1]["train_loss"] == pytest.approx(sum(losses) / 5)
        tokens = [entry["num_tokens"] for entry in whole if "num_tokens" in entry]
        assert tokens == sorted(tokens) and tokens[0] > 0
    for folder, step in (
        ("whole", 2),
        ("again", 4),
    ):  # interrupted twice, in the middle of a line over three steps and of another
        trainer = run(make(tmp_path / "again", **options), tmp_path / folder / f"checkpoint-{step}")
        assert is_same(log_of(trainer), whole)


def test_speeds_are_those_of_the_steps_that_were_taken(tmp_path):
    run(raft(tmp_path, max_steps=4))
    entry = run(raft(tmp_path, max_steps=4), tmp_path / "checkpoint-3").state.log_history[-1]
    assert entry["train_steps_per_second"] * entry["train_runtime"] == pytest.approx(1, rel=0.05)
    assert entry["train_samples_per_second"] * entry["train_runtime"] == pytest.approx(2, rel=0.05)


class StopAfterTwoSteps(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 2


def test_speeds_of_a_run_that_stops_early_are_those_of_its_steps(tmp_path):
    trainer = raft(tmp_path, max_steps=6)
    trainer.add_callback(StopAfterTwoSteps())
    entry = run(trainer).state.log_history[-1]
    assert entry["train_steps_per_second"] * entry["train_runtime"] == pytest.approx(2, rel=0.05)


def test_the_log_goes_on_from_a_checkpoint_of_an_earlier_version(tmp_path):
    whole = log_of(run(raft(tmp_path, max_steps=4, logging_steps=1)))
    checkpoint = tmp_path / "checkpoint-2"
    (checkpoint / "log_state_0.pt").unlink()
    write_manifest(checkpoint, recipe=None, resumable=True)
    resumed = log_of(run(raft(tmp_path / "again", max_steps=4, logging_steps=1), checkpoint))
    assert resumed[-1]["train_loss"] == pytest.approx(whole[-1]["train_loss"])
    assert [e.get("num_tokens") for e in resumed] == [e.get("num_tokens") for e in whole]


def test_every_process_has_its_sampling_state_in_the_checkpoint(tmp_path):
    trainer = run(real(tmp_path, max_steps=1))
    manifest = json.loads((tmp_path / "checkpoint-1" / MANIFEST_NAME).read_text())
    path = tmp_path / "checkpoint-1" / "sampling_state_0.pt"
    assert manifest["files"][path.name] == path.stat().st_size
    state = torch.load(path, weights_only=False)
    assert is_same(state, trainer.sampling_state())
    assert state["step"] == 2 and len(state["micro_batches"]) == 4
    manifest_files = {*manifest["files"], MANIFEST_NAME}
    assert manifest_files == {file.name for file in (tmp_path / "checkpoint-1").iterdir()}


@pytest.mark.parametrize("max_steps", [4, 5])
def test_a_run_killed_after_its_last_step_is_not_trained_further(tmp_path, max_steps):
    run(raft(tmp_path / "whole", max_steps=max_steps))
    end = last_checkpoint(tmp_path / "whole")
    trainer = run(raft(tmp_path / "again", max_steps=max_steps), end)
    assert trainer.state.global_step == max_steps and list_checkpoints(tmp_path / "again") == []
    weights = load_file(end / "model.safetensors")
    assert all(
        torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items() if name in weights
    )


@pytest.mark.parametrize("make", [raft, real])
def test_evaluation_leaves_no_trace_in_training(tmp_path, make):
    """So a checkpoint between two evaluations, or one whose evaluation was killed, leads to the same end."""
    run(make(tmp_path / "without", max_steps=4, save_steps=4))
    evaluated = run(
        make(tmp_path / "with", max_steps=4, save_steps=4, eval_strategy="steps", eval_steps=3, eval_on_start=True)
    )
    assert sum("eval_loss" in log for log in evaluated.state.log_history) == 3
    assert_same_checkpoint(tmp_path / "with" / "checkpoint-4", tmp_path / "without" / "checkpoint-4")


def epochs_of(trainer, count):
    """The rows' order, epoch by epoch, as the sampler of the training dataloader gives them."""
    trainer.get_train_dataloader()
    sampler, orders = trainer._train_sampler, []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    return orders


def test_the_order_of_the_data_is_that_of_the_libraries(tmp_path):
    """RAFT: accelerate's in every epoch; REAL: TRL's in the first one, which alone is a function of the seed there."""
    orders = epochs_of(raft(tmp_path, seed=5), 3)
    reference = SeedableRandomSampler(RandomSampler(range(5)).data_source, data_seed=5)
    assert orders == [list(reference) for _ in range(3)] and orders[0] != orders[1]
    assert epochs_of(raft(tmp_path, seed=4, data_seed=5), 1) == orders[:1]
    orders = epochs_of(real(tmp_path, seed=5), 3)
    reference = RepeatSampler(range(6), mini_repeat_count=4, batch_size=4, repeat_count=8, shuffle=True, seed=5)
    assert orders[0] == list(reference)
    assert len({tuple(order) for order in orders}) == 3


def test_the_best_model_is_kept_and_loaded(tmp_path):
    trainer = run(
        raft(
            tmp_path,
            eval_strategy="steps",
            eval_steps=1,
            load_best_model_at_end=True,
            metric_for_best_model="loss",
            greater_is_better=True,  # so that the best is not the last
            save_total_limit=2,
        )
    )
    best = Path(trainer.state.best_model_checkpoint)
    losses = [log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log]
    assert best.name == f"checkpoint-{1 + losses.index(max(losses))}" != "checkpoint-6"
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-6", best.name]
    assert find_fault(best) is None
    weights = load_file(best / "model.safetensors")
    assert all(
        torch.equal(value, weights[name]) for name, value in trainer.model.state_dict().items() if name in weights
    )


def test_older_checkpoints_are_deleted_only_when_the_new_one_is_complete(tmp_path, monkeypatch):
    seen = []

    def rotate(current, *args, **options):
        seen.append([find_fault(current), *(path.name for path in list_checkpoints(tmp_path))])
        rotate_checkpoints(current, *args, **options)

    monkeypatch.setattr(resume_mixin, "rotate_checkpoints", rotate)
    trainer = run(raft(tmp_path, max_steps=3, save_total_limit=1))
    assert seen == [
        [None, "checkpoint-1"],
        [None, "checkpoint-2", "checkpoint-1"],
        [None, "checkpoint-3", "checkpoint-2"],
    ]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-3"]
    saved = torch.load(tmp_path / "checkpoint-3" / "training_args.bin", weights_only=False)
    assert saved.save_total_limit == trainer.args.save_total_limit == 1


def test_what_a_killed_run_left_in_a_checkpoint_is_gone(tmp_path):
    run(raft(tmp_path, max_steps=1))
    (tmp_path / "checkpoint-2").mkdir()
    (tmp_path / "checkpoint-2" / "model-00001-of-00002.safetensors").write_text("half a")
    trainer = raft(tmp_path, max_steps=2)
    trainer.train(resume_from_checkpoint=True)
    assert sorted(path.name for path in (tmp_path / "checkpoint-2").iterdir()) == sorted(
        path.name for path in (tmp_path / "checkpoint-1").iterdir()
    )


def test_the_trainer_itself_refuses_what_is_not_complete(tmp_path):
    trainer = run(raft(tmp_path, max_steps=1))
    (tmp_path / "checkpoint-1" / "optimizer.pt").write_bytes(b"")
    for checkpoint in (True, str(tmp_path / "checkpoint-1")):
        with pytest.raises(ValueError, match="resume_from_checkpoint.*optimizer.pt has 0 bytes"):
            trainer.train(resume_from_checkpoint=checkpoint)


# --- a run that has to stop -------------------------------------------------------------------------------------------------


class StoppingRAFTTrainer(RAFTTrainer):
    """Stops in the second micro-batch of its second step."""

    calls = 0

    def training_step(self, *args, **kwargs):
        self.calls += 1
        loss = super().training_step(*args, **kwargs)
        if self.calls == 4:
            raise StopWithCheckpoint("enough")
        return loss


class StoppingREALTrainer(REALTrainer):
    """Stops when it cannot fill its second generation batch, after some sampling."""

    fills = 0

    def _replace_filtered(self, rollouts):
        self.fills += 1
        kept = super()._replace_filtered(rollouts)
        if self.fills == 2:
            raise StopWithCheckpoint("enough")
        return kept


@pytest.mark.parametrize(
    ("make", "stopping", "step"), [(raft, StoppingRAFTTrainer, 1), (real, StoppingREALTrainer, 4)]
)
def test_a_run_that_cannot_go_on_saves_its_last_finished_step(tmp_path, capsys, make, stopping, step):
    run(make(tmp_path / "whole", save_steps=3))
    trainer = make(tmp_path / "stopped", cls=stopping, save_steps=3)
    with pytest.raises(StopWithCheckpoint, match="enough"):
        trainer.train()
    assert trainer.state.global_step == step
    assert f"Saved the last finished step: checkpoint-{step}" in capsys.readouterr().out
    assert last_checkpoint(tmp_path / "stopped").name == f"checkpoint-{step}"
    run(make(tmp_path / "stopped", save_steps=3), last_checkpoint(tmp_path / "stopped"))
    end = last_checkpoint(tmp_path / "whole")
    assert_same_checkpoint(tmp_path / "stopped" / end.name, end)


def test_nothing_is_saved_where_nothing_is_to_be_saved(tmp_path):
    trainer = raft(tmp_path, cls=StoppingRAFTTrainer, save_strategy="no")
    with pytest.raises(StopWithCheckpoint):
        trainer.train()
    assert list_checkpoints(tmp_path) == []


# --- recipes that were changed on purpose ---------------------------------------------------------------------------------


def test_a_learning_rate_changed_on_purpose_takes_effect(tmp_path):
    run(raft(tmp_path / "a", max_steps=2, lr_scheduler_type="constant"))
    checkpoint = last_checkpoint(tmp_path / "a")
    changed = {"max_steps": 4, "lr_scheduler_type": "constant", "learning_rate": 1e-4, "weight_decay": 0.1}
    trainer = run(raft(tmp_path / "b", logging_steps=1, save_steps=2, **changed), checkpoint)
    assert [log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log] == [1e-4, 1e-4]
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.1, 0.0}  # 0: norms
    assert [path.name for path in list_checkpoints(tmp_path / "b")] == ["checkpoint-4"]  # save_steps too


def test_a_raised_number_of_steps_is_a_new_schedule(tmp_path):
    """From the step where the old schedule ended, at 0."""
    run(raft(tmp_path / "a", max_steps=2, lr_scheduler_type="linear", learning_rate=1e-3))
    trainer = raft(tmp_path / "b", max_steps=4, lr_scheduler_type="linear", learning_rate=1e-3, logging_steps=1)
    run(trainer, last_checkpoint(tmp_path / "a"))
    rates = [log["learning_rate"] for log in trainer.state.log_history if "learning_rate" in log]
    assert rates[-2:] == pytest.approx([5e-4, 2.5e-4])


# --- reference models ----------------------------------------------------------------------------------------------------


def test_a_trained_adapter_with_a_reference_adapter_goes_on(tmp_path):
    torch.manual_seed(3)
    start = get_peft_model(warm_model(), lora_config())
    for name, parameter in start.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    start.save_pretrained(tmp_path / "start")

    def make(output):
        model = PeftModel.from_pretrained(warm_model(), tmp_path / "start", is_trainable=True)
        return real(output, model, beta=0.1, max_steps=3)

    run(make(tmp_path / "whole"))
    run(make(tmp_path / "again"), tmp_path / "whole" / "checkpoint-1")
    assert_same_checkpoint(tmp_path / "again" / "checkpoint-3", tmp_path / "whole" / "checkpoint-3")


def test_a_reference_model_that_follows_the_policy_goes_on(tmp_path):
    warm_model().save_pretrained(tmp_path / "start")

    def make(output):
        options = {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1, "max_steps": 3}
        return real(output, str(tmp_path / "start"), **options)

    run(make(tmp_path / "whole"))
    run(make(tmp_path / "again"), tmp_path / "whole" / "checkpoint-1")
    end = tmp_path / "whole" / "checkpoint-3"
    assert_same_checkpoint(tmp_path / "again" / "checkpoint-3", end)
    assert not is_same(
        *(torch.load(path / "reference_model.pt") for path in (end, tmp_path / "whole" / "checkpoint-1"))
    )
