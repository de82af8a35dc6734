# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Runs that learn nothing end with the reason; others do not notice."""

import math

import pytest
import torch
from accelerate import Accelerator
from datasets import IterableDataset

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.trainers.checkpoints import StopWithCheckpoint, list_checkpoints
from real_trl.trainers.learning_signal import GroupSignal, NoSignalError
from real_trl.trainers.rewards import score_rewards
from tests.tiny import TOKENIZER, build_model, encode, prompt_dataset

K = 4
TEXTS = [f"1) 7+4 is 12, right. So the overall score is {k}" for k in (1, 2, 3, 4)]
NO_MARKER = "1) 7+4 is 12, right."
COMMON = {
    "gradient_checkpointing": False,
    "bf16": False,
    "report_to": "none",
    "use_cpu": True,
    "logging_steps": 1,
    "disable_tqdm": True,
    "save_strategy": "no",
    "learning_rate": 1e-3,
}


class Scripted(REALTrainer):
    """`REALTrainer` whose completions, of one group, are those of the step: `script[step]`, the last one from then on."""

    script: list[list[str]]

    def _generate(self, prompts):
        texts = self.script[min(self.state.global_step, len(self.script) - 1)]
        return self._tokenize_prompts(prompts)[0], [encode(text) for text in texts], texts


def real(tmp_path, script, **kwargs):
    options = {"num_generations": K, "per_device_train_batch_size": K, "max_completion_length": 20, "max_steps": 8}
    args = REALConfig(str(tmp_path), **{**COMMON, **options, "preflight_scored_rate": 0.0, **kwargs})
    trainer = Scripted(build_model(), args, prompt_dataset([3.0] * 4), processing_class=TOKENIZER)
    trainer.script = script
    return trainer


def raft(tmp_path, cls=RAFTTrainer, rows=None, **kwargs):
    args = RAFTConfig(str(tmp_path), **{**COMMON, "per_device_train_batch_size": 1, "max_steps": 8, **kwargs})
    if rows is None:
        rows = prompt_dataset([4.0] * 4).add_column("completion", [" " + TEXTS[3]] * 4)
    return cls(build_model(), args, rows, processing_class=TOKENIZER)


def weights(trainer):
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


SAME = [TEXTS[3]] * K  # right or wrong, they are so together
SILENT = {"reward": "accuracy", "max_steps_without_signal": 3}


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (SAME, "in none of its 1 groups did the rewards differ"),
        ([NO_MARKER] * K, "none of its 4 completions shows a score"),
    ],
)
def test_steps_in_a_row_without_a_signal_end_a_run(tmp_path, texts, reason):
    trainer = real(tmp_path, [TEXTS, TEXTS, texts], **SILENT)
    with pytest.raises(NoSignalError) as error:
        trainer.train()
    assert "max_steps_without_signal=3: nothing was learned from the last 3 steps, up to step 5." in str(error.value)
    assert reason in str(error.value)
    assert trainer.state.global_step == 4
    norms = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]
    assert [norm > 0 for norm in norms] == [True, True, False, False]


def test_a_step_with_a_signal_begins_the_count_anew(tmp_path):
    trainer = real(tmp_path, [SAME, SAME, TEXTS, SAME, SAME, TEXTS, SAME, SAME], **SILENT)
    trainer.train()
    trainer.check_learned()
    assert trainer.state.global_step == 8


def test_a_rerun_of_such_a_run_ends_at_once(tmp_path):
    kept = {**SILENT, "save_strategy": "steps", "save_steps": 2}
    with pytest.raises(NoSignalError, match="up to step 3"):
        real(tmp_path, [SAME], **kept).train()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2"]
    again = real(tmp_path, [SAME], **kept)
    with pytest.raises(NoSignalError, match="the last 3 steps, up to step 3"):
        again.train(resume_from_checkpoint=True)


def test_a_short_run_that_did_not_move_is_no_judge(tmp_path):
    options = {"reward": "accuracy", "max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = real(tmp_path, [SAME], **options)
    before = weights(trainer)
    trainer.train()
    assert all(torch.equal(old, new) for old, new in zip(before, weights(trainer), strict=True))
    message = "nothing was learned from the last 2 steps, up to step 2.*rewards differ.*Nothing is saved"
    with pytest.raises(NoSignalError, match=message):
        trainer.check_learned()
    again = real(tmp_path, [SAME], **options)
    again.train(resume_from_checkpoint=True)  # there is nothing left to do
    with pytest.raises(NoSignalError, match=message):
        again.check_learned()
    off = real(tmp_path / "off", [SAME], **options, max_steps_without_signal=0)
    off.train()
    off.check_learned()


def test_a_reward_with_a_gradient_of_its_own_is_a_signal(tmp_path):
    trainer = real(tmp_path, [SAME], reward="regression", max_steps_without_signal=2, max_steps=4)
    trainer.train()
    trainer.check_learned()
    assert trainer.state.global_step == 4


def signal(log_probs, missing=(), **options):
    """Of one group of 4 whose distributions are given by the probability of the label 5, the rest on 1."""
    size = {"num_generations": K, "per_device_train_batch_size": K}
    args = REALConfig("unused", use_cpu=True, report_to="none", **size, **options)
    five = torch.tensor(log_probs)
    rows = torch.stack([1 - five, *[torch.full_like(five, 1e-9)] * 3, five], 1).log()
    has_score = torch.tensor([i not in missing for i in range(K)])
    sampled = torch.where(has_score, torch.where(five > 0.5, 5.0, 1.0), torch.nan)
    values, targets = torch.arange(1.0, 6.0), torch.full((K,), 5.0)
    rewards = score_rewards(args, rows, values, targets, torch.eye(5)[[4] * K], sampled, has_score, group_size=K)
    counts = GroupSignal(torch.device("cpu"))
    counts.add(args, rewards, has_score)
    return counts.pop(Accelerator(cpu=True))


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_what_a_group_can_be_learned_from(beta):
    """Whether there is a KL penalty or not: it has a gradient, and says nothing about scores."""
    same, apart = [0.9] * 4, [0.9, 0.8, 0.2, 0.1]
    nothing, no_score = "did the rewards differ", "none of its 4 completions shows a score"
    assert signal(apart, reward="accuracy", beta=beta) is None
    assert nothing in signal(same, reward="accuracy", beta=beta)
    assert nothing in signal(same, prediction_weight=0.0, beta=beta)
    assert signal(same, beta=beta) is None  # by β
    for malformed in ("penalize", "ignore"):
        for reward in ("regression", "accuracy", "log_likelihood", "log_marginal"):
            assert no_score in signal(apart, missing=range(4), reward=reward, malformed=malformed, beta=beta)
    # One score among malformed completions: more than they get, where they are penalized; alone, where they are ignored
    assert signal(apart, missing=(1, 2, 3), reward="accuracy", malformed="penalize", beta=beta) is None
    assert nothing in signal(apart, missing=(1, 2, 3), reward="accuracy", malformed="ignore", beta=beta)


class Multiplied(RAFTTrainer):
    """A loss that is multiplied with something, from the third step on."""

    factor = 0.0

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) * (self.factor if self.state.global_step >= 2 else 1.0)


def test_supervised_training_without_a_gradient(tmp_path):
    trainer = raft(tmp_path, Multiplied, max_steps_without_signal=2)
    with pytest.raises(NoSignalError, match="the last 2 steps, up to step 4. Of the last one: its gradient was zero"):
        trainer.train()


@pytest.mark.parametrize("clip", [1.0, 0.0])
def test_a_gradient_that_is_not_finite_is_not_applied(tmp_path, clip):
    cls = type("Nan", (Multiplied,), {"factor": math.nan})
    trainer = raft(tmp_path, cls, max_grad_norm=clip, save_strategy="steps", save_steps=5)
    with pytest.raises(NoSignalError, match="step 3: its gradient is nan.*Lower learning_rate"):
        trainer.train()
    assert trainer.state.global_step == 2
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2"]


def test_deepspeed_may_know_no_norms(tmp_path):
    """It says 0 then, always; a 0 among others is one."""
    trainer = raft(tmp_path, max_steps_without_signal=2)
    trainer.is_deepspeed_enabled = True
    for _ in range(5):
        trainer._watch(0.0)
    trainer._watch(0.5)
    trainer._watch(0.0)
    with pytest.raises(NoSignalError, match="its gradient was zero"):
        trainer._watch(0.0)


class Overflowing(RAFTTrainer):
    """The third step's update leaves weights that are not finite, though its gradient was."""

    def _maybe_log_save_evaluate(self, *args, **kwargs):
        if self.state.global_step == 3:
            next(self.model.parameters()).data.flatten()[0] = math.inf
        super()._maybe_log_save_evaluate(*args, **kwargs)


@pytest.mark.parametrize(("save_steps", "kept"), [(1, "checkpoint-2"), (2, "checkpoint-2")])
def test_weights_that_are_not_finite_replace_no_checkpoint(tmp_path, save_steps, kept):
    trainer = raft(tmp_path, Overflowing, save_strategy="steps", save_steps=save_steps, save_total_limit=1)
    with pytest.raises(StopWithCheckpoint, match="step 3: its update|step 4: its"):
        trainer.train()
    assert [path.name for path in list_checkpoints(tmp_path)] == [kept]
    with pytest.raises(StopWithCheckpoint, match="weights that are not finite, which are not saved"):
        trainer.check_weights()


def test_a_stream_without_rows_trains_no_step(tmp_path):
    stream = IterableDataset.from_generator(lambda: iter([{"prompt": "Grade", "score": 3.0}]))
    options = {"num_generations": K, "per_device_train_batch_size": 2 * K, "max_completion_length": 20}
    args = REALConfig(str(tmp_path), **COMMON, **options, max_steps=2)
    trainer = REALTrainer(build_model(), args, stream, processing_class=TOKENIZER)
    trainer.train()
    with pytest.raises(NoSignalError, match="train_dataset: training ended before its first step"):
        trainer.check_learned()


@pytest.mark.parametrize("config", [REALConfig, RAFTConfig])
def test_a_number_of_steps_is_not_below_zero(tmp_path, config):
    with pytest.raises(ValueError, match="max_steps_without_signal: got -1. Set it to 1 or more, or to 0"):
        config(str(tmp_path), max_steps_without_signal=-1)
