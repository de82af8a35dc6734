# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`REALTrainer`'s own gradient against a dense float64 reference written from the paper's formulas, one completion at a time."""

import copy

import pytest
import torch

from real_trl import REALConfig, REALTrainer
from tests.helpers.reference import Group, Reference, relative_error
from tests.tiny import TOKENIZER, build_model, encode, lora_config, prompt_dataset

MARKER = "So the overall score is"
# Two groups of four: different lengths, one without a score, one that quotes the marker, one that rambles after its score
COMPLETIONS = [
    f"1) 7+4 is 11, close. {MARKER} 4",
    f"{MARKER} 2",
    "1) 7+4 is 11, close. 2) 3-8 is 5, right.",
    f"1) 7+4 is 12, right. {MARKER} 5",
    f"1) 7+4 is 11, wrong. {MARKER} 3 2) 3-8 is 5, right. {MARKER} 1",
    f"2) 3-8 is -5, wrong. {MARKER} 3",
    f"{MARKER} 5 1) 7+4 is 11, close.",
    f"1) 7+4 is 11, close. 2) 3-8 is 5, right. {MARKER} 4",
]
SCORES = [4.0, 2.0]
K = 4


class FixedCompletions(REALTrainer):
    """REALTrainer whose sampler returns `COMPLETIONS`; everything after the sampler is the trainer's own."""

    def _generate(self, prompts):
        prompt_ids = self._tokenize_prompts(prompts)[0]
        return prompt_ids, [encode(text) for text in COMPLETIONS], COMPLETIONS


def make_trainer(tmp_path, architecture="llama", lora=False, trainer_class=FixedCompletions, **kwargs):
    kwargs = {"gradient_checkpointing": False, "bf16": False, "use_cpu": True, **kwargs}
    args = REALConfig(
        str(tmp_path),
        num_generations=K,
        max_completion_length=40,
        per_device_train_batch_size=2 * K,
        shuffle_dataset=False,
        report_to="none",
        **kwargs,
    )
    trainer = trainer_class(
        model=build_model(architecture),
        args=args,
        train_dataset=prompt_dataset(SCORES),
        processing_class=TOKENIZER,
        peft_config=lora_config() if lora else None,
    )
    if lora:  # B starts at zero, which would hide A's gradient
        torch.manual_seed(1)
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    return trainer


def trainer_gradient(trainer):
    trainer.model.train()
    batch = [row for row in trainer.train_dataset for _ in range(K)]
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(batch))
    trainer.accelerator.backward(loss)
    return {name: p.grad.double() for name, p in trainer.model.named_parameters() if p.grad is not None}


def reference_gradient(trainer, architecture="llama", lora=False, **changed):
    """For `SCORES` and `COMPLETIONS`; `changed` settings are not those of the trainer."""
    reference = Reference(trainer, "12345", architecture=architecture, lora=lora)
    reference.args = copy.copy(trainer.args)
    for name, value in changed.items():
        setattr(reference.args, name, value)
    prompts = trainer.train_dataset["prompt"]
    return reference.gradient(
        [Group(prompts[i], score, COMPLETIONS[i * K : (i + 1) * K]) for i, score in enumerate(SCORES)]
    )


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mistral"])
def test_gradient_equals_dense_float64_reference(tmp_path, architecture, checkpointing, lora):
    trainer = make_trainer(
        tmp_path, architecture, lora, gradient_checkpointing=checkpointing, prediction_weight=0.5, temperature=0.8
    )
    expected = reference_gradient(trainer, architecture, lora)
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5


@pytest.mark.parametrize("malformed", ["penalize", "force", "ignore"])
@pytest.mark.parametrize("reward", ["regression", "accuracy", "log_likelihood", "log_marginal"])
@pytest.mark.parametrize("aggregation", ["sequence", "token"])
def test_gradient_of_every_reward(tmp_path, reward, malformed, aggregation):
    if (reward, malformed) == ("accuracy", "force"):
        pytest.skip("refused by REALConfig")
    trainer = make_trainer(tmp_path, reward=reward, malformed=malformed, loss_aggregation=aggregation)
    weight = {"regression": 0.01, "accuracy": 0.0, "log_likelihood": 1.0, "log_marginal": 1.0}[reward]
    expected = reference_gradient(trainer, prediction_weight=weight)
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5


def test_log_likelihood_weight_of_zero(tmp_path):
    trainer = make_trainer(tmp_path, log_likelihood_weight=0.0, prediction_weight=1.0)
    assert relative_error(trainer_gradient(trainer), reference_gradient(trainer)) < 1e-5


def test_first_step_on_a_reused_batch_is_the_on_policy_step(tmp_path):
    expected = trainer_gradient(make_trainer(tmp_path))
    trainer = make_trainer(tmp_path, num_iterations=2)
    assert relative_error(trainer_gradient(trainer), expected) < 1e-5
    inputs = trainer._buffered_inputs[0]
    assert "old_log_probs" in inputs and "advantages" in inputs


def test_a_wrong_reference_is_noticed(tmp_path):
    """The comparison has teeth: without Term 2 the gradients differ."""
    trainer = make_trainer(tmp_path, prediction_weight=0.5)
    expected = reference_gradient(trainer, prediction_weight=0.0)
    assert relative_error(trainer_gradient(trainer), expected) > 1e-3
