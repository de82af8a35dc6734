# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What TRL's trainers promise: it works here as there, or it is refused by name."""

import warnings

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM, TrainingArguments
from trl import RLOOConfig, SFTConfig, SFTTrainer

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from tests.tiny import DIGITS, TOKENIZER, build_model, prompt_dataset, warm_model
from tests.trainers import test_raft_trainer as raft
from tests.trainers import test_real_trainer as real

QUIET = {"use_cpu": True, "report_to": "none", "disable_tqdm": True}
COEFFICIENT = 0.5


# --- evaluation on default configurations -------------------------------------------------------------------------------


def test_evaluate_raft(tmp_path):
    data = raft.raft_dataset()
    args = RAFTConfig(str(tmp_path), **QUIET)
    trainer = RAFTTrainer(build_model(), args, data, eval_dataset=data, processing_class=TOKENIZER)
    assert trainer.evaluate()["eval_score/squared_error"] > 0


def test_evaluate_real(tmp_path):
    args = REALConfig(str(tmp_path), max_completion_length=20, **QUIET)
    assert args.per_device_eval_batch_size == args.num_generations == 16
    data = prompt_dataset([4.0, 2.0, 3.0])
    trainer = REALTrainer(warm_model(), args, data.select([0]), eval_dataset=data, processing_class=TOKENIZER)
    assert {"eval_reward", "eval_score/abs_error"} <= trainer.evaluate().keys()


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"num_generations": 4, "per_device_train_batch_size": 8}, 8),
        ({"num_generations": 4, "per_device_train_batch_size": 8, "num_generations_eval": 1}, 8),
        ({"num_generations": 4, "per_device_train_batch_size": 4, "num_generations_eval": 3}, 9),
        ({"num_generations": 4, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 12}, 12),
    ],
)
def test_evaluation_batches_hold_whole_groups(tmp_path, options, size):
    assert REALConfig(str(tmp_path), **options, **QUIET).per_device_eval_batch_size == size


def test_evaluation_batches_with_parts_of_groups_are_refused_before_anything_is_generated(tmp_path):
    trainer = real.make_trainer(tmp_path, eval_dataset=prompt_dataset([3.0]), per_device_eval_batch_size=6)
    with pytest.raises(ValueError, match="per_device_eval_batch_size: got 6"):
        trainer.evaluate()


# --- what is given ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["image", "images"])
@pytest.mark.parametrize("made", [raft, real])
@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_images_are_refused(tmp_path, made, column, name):
    data = raft.raft_dataset() if made is raft else prompt_dataset([4.0, 2.0])
    with pytest.raises(ValueError, match=f"{name}: column '{column}' holds images"):
        made.make_trainer(tmp_path, **{name: data.add_column(column, ["x"] * len(data))})


@pytest.mark.parametrize("config_class", [TrainingArguments, SFTConfig])
def test_raft_takes_training_arguments(tmp_path, config_class):
    """As TRL's trainer does: with its own defaults for what they do not have."""
    args = config_class(str(tmp_path), learning_rate=0.003, max_steps=1, bf16=False, hub_token="secret", **QUIET)
    trainer = RAFTTrainer(build_model(), args, raft.raft_dataset(), processing_class=TOKENIZER)
    assert isinstance(trainer.args, RAFTConfig)
    assert (trainer.args.learning_rate, trainer.args.regression_weight, trainer.args.hub_token) == (
        0.003,
        1.0,
        "secret",
    )
    assert trainer.args.max_length == (3000 if config_class is TrainingArguments else SFTConfig.max_length)
    trainer.train()


@pytest.mark.parametrize("config_class", [TrainingArguments, RLOOConfig])
def test_real_says_what_it_takes(tmp_path, config_class):
    args = config_class(str(tmp_path), bf16=False, **QUIET)
    with pytest.raises(ValueError, match=f"args: got a {config_class.__name__}. Give a REALConfig"):
        REALTrainer("no-model", args, prompt_dataset([4.0]), processing_class=TOKENIZER)


# --- what is logged -----------------------------------------------------------------------------------------------------


def test_clip_ratios_have_trls_names(tmp_path):
    trainer = real.make_trainer(
        tmp_path, train_dataset=prompt_dataset([1.0, 2.0]), num_iterations=2, max_steps=2, learning_rate=0.02
    )
    trainer.train()
    first, second = trainer.state.log_history[:2]
    for name in ("low_mean", "low_min", "high_mean", "high_max", "region_mean"):
        assert first[f"clip_ratio/{name}"] == 0.0
    assert second["clip_ratio/low_mean"] + second["clip_ratio/high_mean"] == pytest.approx(
        second["clip_ratio/region_mean"]
    )
    assert second["clip_ratio/region_mean"] > 0
    assert second["clip_ratio/high_max"] >= second["clip_ratio/high_mean"]


# --- noise in the embeddings --------------------------------------------------------------------------------------------


def test_neftune_is_that_of_trl(tmp_path):
    """The same noise, so the same loss after the first step, as of TRL's trainer on the same rows."""
    losses = {}
    for noise in (None, 5.0):
        for classes in ((RAFTTrainer, RAFTConfig), (SFTTrainer, SFTConfig)):
            data = raft.raft_dataset(scores=[4.0, 2.0, 5.0, 1.0])
            own = {"regression_weight": 0.0} if classes[0] is RAFTTrainer else {}
            if not own:
                data = data.remove_columns("score")
            trainer = raft.make_trainer(
                tmp_path,
                *classes,
                train_dataset=data,
                neftune_noise_alpha=noise,
                max_steps=2,
                learning_rate=0.01,
                **own,
            )
            trainer.train()
            losses[noise, classes[0]] = [log["loss"] for log in trainer.state.log_history[:2]]
    for noise in (None, 5.0):
        assert losses[noise, RAFTTrainer] == pytest.approx(losses[noise, SFTTrainer], rel=1e-4)
    assert losses[None, RAFTTrainer] != pytest.approx(losses[5.0, RAFTTrainer], rel=1e-3)


# --- the loss of routers ------------------------------------------------------------------------------------------------


def build_experts(kind, tokenizer=TOKENIZER, coefficient=COEFFICIENT):
    torch.manual_seed(1)
    size = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    size |= {"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 48, "max_position_embeddings": 256}
    size |= {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    size |= {"num_experts_per_tok": 2, "router_aux_loss_coef": coefficient, "initializer_range": 0.15}
    if kind == "mixtral":
        return MixtralForCausalLM(MixtralConfig(**size, num_local_experts=4, sliding_window=None))
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**size, num_experts=4, moe_intermediate_size=24))


each_kind = pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])


def router_of(kind, input_ids, attention_mask, tokenizer=TOKENIZER):
    """The model's own load-balancing loss of a padded batch, and its gradient."""
    model = build_experts(kind, tokenizer).train()
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
    loss = model(input_ids, attention_mask=attention_mask, position_ids=positions, output_router_logits=True).aux_loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def check_router(with_it, without, router):
    """Of two (loss, gradient): the one is the other with the routers' loss times its coefficient."""
    assert with_it[0] - without[0] == pytest.approx(COEFFICIENT * router[0], rel=1e-3)
    assert any(name.endswith("gate.weight") for name in router[1])
    expected = {name: without[1][name] + COEFFICIENT * router[1].get(name, 0.0) for name in without[1]}
    assert real.distance(with_it[1], expected) < 1e-4
    assert real.distance(without[1], expected) > 1e-3


@each_kind
def test_raft_trains_routers_whatever_the_weight_of_the_next_tokens(tmp_path, kind):
    results = []
    for coefficient in (COEFFICIENT, 0.0):
        options = {"log_likelihood_weight": 0.1, "router_aux_loss_coef": coefficient}
        trainer = raft.make_trainer(tmp_path, model=build_experts(kind), **options)
        results.append(raft.trainer_gradient(trainer))
        assert ("aux_loss" in trainer._metrics["train"]) == bool(coefficient)
    dataset = trainer.train_dataset.remove_columns(["prompt", "completion"])
    batch = trainer.data_collator([dataset[i] for i in range(len(dataset))])
    check_router(*results, router_of(kind, batch["input_ids"], batch["attention_mask"]))


@each_kind
def test_sft_of_experts_is_trls(tmp_path, kind):
    data, losses = raft.raft_dataset(scores=[4.0, 2.0, 5.0, 1.0]), []
    for classes in ((RAFTTrainer, RAFTConfig), (SFTTrainer, SFTConfig)):
        own = {"regression_weight": 0.0} if classes[0] is RAFTTrainer else {}
        rows = data if own else data.remove_columns("score")
        options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 2}
        trainer = raft.make_trainer(
            tmp_path, *classes, model=build_experts(kind), train_dataset=rows, learning_rate=0.01, **options, **own
        )
        trainer.train()
        losses.append([(log["loss"], log["aux_loss"]) for log in trainer.state.log_history[:2]])
    assert losses[0] == [pytest.approx(pair, rel=1e-3) for pair in losses[1]]


@each_kind
def test_real_trains_routers(tmp_path, kind):
    results = []
    for coefficient in (COEFFICIENT, 0.0):
        options = {"log_likelihood_weight": 0.1, "router_aux_loss_coef": coefficient}
        trainer = real.make_trainer(tmp_path, real.Fixed, model=build_experts(kind), **options)
        results.append(real.loss_and_gradient(trainer))
        assert ("aux_loss" in trainer._metrics["train"]) == bool(coefficient)
    inputs = trainer._buffered_inputs[0]
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    check_router(*results, router_of(kind, ids, mask))


def test_the_tokens_of_label_trees_do_not_count(tmp_path):
    texts = ["7+4 is 11. So the overall score is 40", "7+4 is 12, right. So the overall score is 7"]
    data = prompt_dataset([40.0, 7.0]).add_column("completion", texts)
    results = []
    for coefficient in (COEFFICIENT, 0.0):
        model = build_experts("qwen3_moe", DIGITS)
        given = {"processing_class": DIGITS, "train_dataset": data, "score_labels": "0-100"}
        trainer = raft.make_trainer(tmp_path, model=model, router_aux_loss_coef=coefficient, **given)
        assert trainer.score_space.tree.context_tokens
        results.append(raft.trainer_gradient(trainer))
    dataset = trainer.train_dataset.remove_columns(["prompt", "completion"])
    batch = trainer.data_collator([dataset[i] for i in range(2)])
    check_router(*results, router_of("qwen3_moe", batch["input_ids"], batch["attention_mask"], DIGITS))


def test_old_names_of_options_are_not_told_to_users(tmp_path):
    """With Transformers 5.24, which has new names that 5.17 and TRL do not know."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        for config in (RAFTConfig, REALConfig):
            for gradient_checkpointing in (False, True):
                args = config(
                    str(tmp_path), use_cpu=True, report_to="none", gradient_checkpointing=gradient_checkpointing
                )
                assert args.gradient_checkpointing == gradient_checkpointing
