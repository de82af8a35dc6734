# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How often, and over which tokens, a training step of `REALTrainer` runs the model."""

import copy
import logging

import pytest
import torch
from peft import PromptTuningConfig, get_peft_model

from real_trl import REALConfig, REALTrainer
from real_trl.forward.dense import backbone
from real_trl.forward.packed_attention import PREFIX_ATTENTION
from tests.helpers.reference import relative_error
from tests.tiny import TOKENIZER, build_model, prompt_dataset
from tests.trainers.test_real_gradient import (
    COMPLETIONS,
    SCORES,
    FixedCompletions,
    K,
    make_trainer,
    trainer_gradient,
)


class Forwards:
    """Notes how many positions each forward of a trainer's model computes, and whether it keeps a graph."""

    def __init__(self, model):
        self.positions, self.with_gradient = [], []
        backbone(model).register_forward_hook(self._note)

    def _note(self, module, args, output):
        self.positions.append(output.last_hidden_state.shape[:2].numel())
        self.with_gradient.append(output.last_hidden_state.requires_grad)


def unique_tokens(trainer):
    """Prompts once, and of every completion what the loss depends on."""
    trainer.model.train()
    batch = [row for row in trainer.train_dataset for _ in range(K)]
    rollouts = trainer._generate_and_score_completions(batch)
    read = sum(r.score_position if r.has_score else len(r.completion_ids) - 1 for r in rollouts)
    return sum(len(rollouts[group * K].prompt_ids) for group in range(len(SCORES))) + read


def test_an_on_policy_step_is_one_forward_over_unique_tokens(tmp_path):
    trainer = make_trainer(tmp_path)
    expected, forwards = unique_tokens(trainer), Forwards(trainer.model)
    trainer_gradient(trainer)
    assert forwards.positions == [expected] and forwards.with_gradient == [True]


def test_without_sharing_every_completion_has_its_prompt(tmp_path):
    trainer = make_trainer(tmp_path, shared_prefix=False)
    forwards = Forwards(trainer.model)
    trainer_gradient(trainer)
    (positions,) = forwards.positions
    assert positions % len(COMPLETIONS) == 0 and positions > 2 * unique_tokens(trainer)
    assert trainer.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("correction", ["clip", "none"])
def test_a_reused_batch_pays_one_more_pass_without_gradient(tmp_path, correction):
    trainer = make_trainer(
        tmp_path, num_iterations=3, max_steps=6, reuse_correction=correction, learning_rate=1e-3, save_strategy="no"
    )
    forwards = Forwards(trainer.model)
    trainer.train()
    # Two generations, each with a pass before the first of its three steps
    assert forwards.with_gradient == [False, True, True, True] * 2
    assert set(forwards.positions) == {unique_tokens(trainer)}


@pytest.mark.parametrize(("lora", "beta"), [(False, 0.0), (True, 0.0), (True, 0.1)], ids=["full", "lora", "lora, KL"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_both_ways_train_the_same_weights(tmp_path, lora, checkpointing, beta):
    weights = []
    for shared in (True, False):
        trainer = make_trainer(
            tmp_path / str(shared),
            lora=lora,
            shared_prefix=shared,
            gradient_checkpointing=checkpointing,
            beta=beta,
            max_steps=3,
            learning_rate=1e-3,
            prediction_weight=0.5,
            save_strategy="no",
        )
        assert trainer._shares_prefixes is shared
        start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
        moved = {name: (p.detach() - start[name]).double() for name, p in trainer.model.named_parameters()}
        weights.append({name: delta for name, delta in moved.items() if delta.abs().max() > 0})
    assert weights[0].keys() == weights[1].keys() and weights[0]
    # Adam turns gradients that are zero but for rounding into steps of full size; those are few
    assert relative_error(*weights) < 1e-2


def test_several_groups_in_a_micro_batch_and_several_micro_batches(tmp_path):
    gradients = []
    for batch_size, accumulation in ((2 * K, 1), (K, 2)):
        args = REALConfig(
            str(tmp_path),
            num_generations=K,
            max_completion_length=40,
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            shuffle_dataset=False,
            max_steps=1,
            learning_rate=1e-3,
            optim="sgd",
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
        )
        model = build_model()
        start = copy.deepcopy(model)
        trainer = FixedCompletions(model, args, prompt_dataset(SCORES), processing_class=TOKENIZER)
        trainer.train()
        named = zip(model.named_parameters(), start.parameters(), strict=True)
        gradients.append({name: (p.detach() - q.detach()).double() for (name, p), q in named})
    assert relative_error(*gradients) < 1e-4


def test_a_sliding_window_takes_the_dense_forward_and_says_so(tmp_path, caplog):
    args = REALConfig(
        str(tmp_path),
        num_generations=K,
        per_device_train_batch_size=K,
        max_steps=1,
        max_completion_length=8,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
    )
    model = build_model("mistral", sliding_window=8)
    with caplog.at_level(logging.WARNING):
        trainer = REALTrainer(model, args, prompt_dataset(SCORES), processing_class=TOKENIZER)
    lines = [record.message for record in caplog.records if "sliding window" in record.message]
    assert len(lines) == 1 and "slower" in lines[0]
    assert not trainer._shares_prefixes and model.config._attn_implementation == "sdpa"
    trainer.train()
    assert trainer.state.global_step == 1


def test_adapters_of_virtual_tokens_are_refused(tmp_path):
    args = REALConfig(str(tmp_path), num_generations=K, per_device_train_batch_size=K, bf16=False, use_cpu=True)
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    given = {"args": args, "train_dataset": prompt_dataset(SCORES), "processing_class": TOKENIZER}
    with pytest.raises(ValueError, match="peft_config: got PromptTuningConfig"):
        REALTrainer(build_model(), **given, peft_config=config)
    with pytest.raises(ValueError, match="peft_config: got PromptTuningConfig"):
        REALTrainer(get_peft_model(build_model(), config), **given)


def test_the_saved_judge_does_not_ask_for_prefix_attention(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=1)
    assert trainer.model.config._attn_implementation == PREFIX_ATTENTION
    trainer.save_model(str(tmp_path / "judge"))
    assert PREFIX_ATTENTION not in (tmp_path / "judge" / "config.json").read_text()


def test_sampling_and_judging_go_on_with_the_trained_model(tmp_path):
    """`generate` on the trainer's model is what it would be without the trainer."""
    trainer = make_trainer(tmp_path)
    plain = build_model().eval()
    ids = torch.tensor([[5, 6, 7, 8], [0, 0, 5, 9]])
    options = {"attention_mask": (ids != 0).long(), "max_new_tokens": 6, "do_sample": False}
    assert torch.equal(trainer.model.eval().generate(ids, **options), plain.generate(ids, **options))
