# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`REALTrainer` looks at a few answers before its first step, and at nothing else than the answers can anyone tell that it did."""

import logging

import pytest
import torch

from real_trl import REALConfig, REALTrainer
from real_trl.trainers.learning_signal import NoSignalError
from tests.tiny import TOKENIZER, build_model, encode, prompt_dataset, warm_model

K = 4
GOOD = "1) 7+4 is 12, right. So the overall score is 4"
NO_MARKER = "1) 7+4 is 12, right. 2) 3-8 is 5, wrong."
OPTIONS = {
    "num_generations": K,
    "per_device_train_batch_size": 2 * K,
    "max_completion_length": 20,
    "gradient_checkpointing": False,
    "bf16": False,
    "report_to": "none",
    "use_cpu": True,
    "logging_steps": 1,
    "disable_tqdm": True,
    "save_strategy": "no",
    "max_steps": 1,
    "learning_rate": 1e-3,
    "preflight_scored_rate": 0.05,
}


class Counting(REALTrainer):
    """`REALTrainer` that remembers how many completions it was asked for, and can be told what to answer."""

    answers: list[str] | None = None  # of each call

    def _generate(self, prompts):
        self.asked = [*getattr(self, "asked", []), len(prompts)]
        if self.answers is None:
            return super()._generate(prompts)
        text = self.answers[min(len(self.asked), len(self.answers)) - 1]
        return self._tokenize_prompts(prompts)[0], [encode(text)] * len(prompts), [text] * len(prompts)


def make_trainer(tmp_path, model=None, answers=None, rows=2, **kwargs):
    args = REALConfig(str(tmp_path), **{**OPTIONS, **kwargs})
    data = prompt_dataset([float(1 + row % 5) for row in range(rows)])
    trainer = Counting(model or build_model(), args, data, processing_class=TOKENIZER)
    trainer.answers = answers
    return trainer


def test_a_model_that_shows_no_score_is_stopped_before_its_first_step(tmp_path):
    """An untrained one: 64 answers, 8 of the first batch and 56 more."""
    model = build_model()
    before = [parameter.clone() for parameter in model.parameters()]
    trainer = make_trainer(tmp_path, model)
    with pytest.raises(NoSignalError) as error:
        trainer.train()
    message = str(error.value)
    assert "preflight_scored_rate: 0 of 64 answers that were sampled before the first step show a score" in message
    assert "without the marker 'So the overall score is '" in message and "cut at max_completion_length=20" in message
    assert "real-trl sft" in message and "malformed: force" in message
    assert trainer.state.global_step == 0 and sum(trainer.asked) == 64
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (NO_MARKER, "64 without the marker 'So the overall score is '"),
        ("7+4 is 12. So the overall score is", "64 that end at the marker"),
        ("So the overall score is 7", "64 with something else than a label of 1, 2, 3, 4, 5 after the marker"),
    ],
)
def test_what_the_model_wrote_is_shown(tmp_path, text, fault):
    with pytest.raises(NoSignalError) as error:
        make_trainer(tmp_path, answers=[text]).train()
    assert f"0 of 64 answers that were sampled before the first step show a score: {fault}." in str(error.value)
    assert f"The model wrote, for example:\n  {text!r}\n" in str(error.value)


def test_long_answers_are_shown_in_part(tmp_path):
    text = " ".join([NO_MARKER] * 20)
    with pytest.raises(NoSignalError) as error:
        make_trainer(tmp_path, answers=[text]).train()
    assert f"  {text[:150]!r}"[:-1] in str(error.value) and " […] " in str(error.value)
    assert text[-150:] in str(error.value) and text[:160] not in str(error.value)


def test_what_is_left_of_a_run_does_not_tell_that_it_was_looked_at(tmp_path):
    """A batch of 72 completions, of which 32 are sampled first: figures and weights are the same bit for bit."""
    runs = []
    for rate in (0.05, 0.0):
        options = {"preflight_scored_rate": rate, "per_device_train_batch_size": 72, "max_steps": 2}
        torch.manual_seed(7)
        trainer = make_trainer(tmp_path, warm_model(), rows=40, **options)
        trainer.train()
        runs.append(trainer)
    looked, plain = runs
    assert looked.asked == [32, 72, 72] and plain.asked == [72, 72]
    timed = ("runtime", "per_second", "step_time")
    logs = [
        [{name: value for name, value in log.items() if not name.endswith(timed)} for log in run.state.log_history]
        for run in runs
    ]
    assert logs[0] == logs[1] and logs[0][0]["completions/mean_length"] > 0
    for one, other in zip(looked.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_small_batch_is_looked_at_itself(tmp_path):
    trainer = make_trainer(tmp_path, answers=[GOOD])
    trainer.train()
    assert trainer.asked == [8]


def test_a_small_batch_without_scores_is_no_proof(tmp_path):
    trainer = make_trainer(tmp_path, answers=[NO_MARKER, NO_MARKER, GOOD], max_steps_without_signal=0)
    trainer.train()
    assert trainer.asked == [8, 8, 8] and trainer.state.global_step == 1


def test_forced_scores_are_worth_a_warning(tmp_path, caplog):
    trainer = make_trainer(tmp_path, answers=[NO_MARKER], malformed="force")
    with caplog.at_level(logging.WARNING):
        trainer.train()
    (line,) = [record.message for record in caplog.records if "preflight_scored_rate" in record.message]
    assert "0 of 8 answers" in line and repr(NO_MARKER) in line and "malformed: force" in line
    assert trainer.state.global_step == 1 and trainer.asked == [8]


def test_a_run_that_is_gone_on_with_is_not_looked_at(tmp_path):
    trainer = make_trainer(tmp_path, answers=[GOOD], max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    resumed = make_trainer(tmp_path, answers=[NO_MARKER], max_steps=2)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.asked == [8] and resumed.state.global_step == 2


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_a_rate_is_a_share(tmp_path, rate):
    with pytest.raises(ValueError, match=f"preflight_scored_rate: got {rate}. Set it to at least 0"):
        REALConfig(str(tmp_path), **OPTIONS | {"preflight_scored_rate": rate})
