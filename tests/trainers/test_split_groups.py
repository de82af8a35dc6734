# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Groups that are larger than a micro-batch: the same step as in one forward over whole groups."""

import pytest
import torch

from tests.tiny import build_model, warm_model
from tests.trainers.test_real_gradient import COMPLETIONS
from tests.trainers.test_real_trainer import (
    MALFORMED,
    MARKER,
    METRICS,
    RELEASED,
    K,
    distance,
    fixed,
    make_trainer,
    parameters,
)

TEXTS = [
    *COMPLETIONS[:3],
    MALFORMED[0],
    f"{MARKER} 2",
    f"7+4 is 11. {MARKER} 3",
    MALFORMED[1],
    f"7+4 is 12. {MARKER} 1",
]
SGD = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "weight_decay": 0.0, "max_steps": 1}
CASES = [
    {"reward": "regression"},
    {"reward": "regression", "malformed": "ignore", "prediction_weight": 1.0},
    {"reward": "regression", "malformed": "force"},
    {**RELEASED, "loss_aggregation": "token", "prediction_weight": 0.1},
    {"reward": "accuracy"},
    {"reward": "log_likelihood"},
    {"reward": "log_marginal"},
    {"reward": "log_marginal", "malformed": "ignore"},
    {"reward": "regression", "shared_prefix": False},
    {"reward": "number_token"},
    {"reward": "soft_likelihood", "target_sigma": 1.0},
    {"reward": "concordance", "prediction_weight": 1.0},
]


def step(tmp_path, size, texts=TEXTS, **options):
    """What one step changes, and what it logs."""
    trainer = make_trainer(
        tmp_path,
        fixed(*texts),
        per_device_train_batch_size=size,
        gradient_accumulation_steps=2 * K // size,
        **SGD,
        **options,
    )
    before = parameters(trainer)
    trainer.train()
    after = parameters(trainer)
    return {name: after[name] - before[name] for name in before}, trainer.state.log_history[0]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_step_is_that_of_whole_groups(tmp_path, options):
    expected, whole = step(tmp_path, 2 * K, **options)
    for size in (1, 2):
        update, parts = step(tmp_path, size, **options)
        assert distance(update, expected) < 2e-4
        for name in ("frac_reward_zero_std", "reward", "malformed/rate", "score/accuracy", "loss/prediction", "loss"):
            assert parts[name] == pytest.approx(whole[name], rel=1e-3, abs=1e-6), name


def test_the_kl_penalty_is_taken_from_rewards_of_whole_groups(tmp_path):
    path = tmp_path / "model"
    build_model(seed=5).save_pretrained(path)
    updates = []
    for size in (2 * K, 2):
        trainer = make_trainer(
            tmp_path,
            fixed(*TEXTS),
            model=str(path),
            beta=0.5,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=2 * K // size,
            **SGD,
        )
        trainer.model.load_state_dict(build_model().state_dict())
        before = parameters(trainer)
        trainer.train()
        updates.append({name: value - before[name] for name, value in parameters(trainer).items()})
        assert trainer.state.log_history[0]["kl"] != 0
    assert distance(updates[1], updates[0]) < 2e-4


def test_training_with_groups_in_parts(tmp_path):
    """From sampling on, with a filter and two steps; a later step scores its own groups."""
    trainer = make_trainer(
        tmp_path,
        model=warm_model(),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        max_steps=2,
        learning_rate=0.01,
        group_filter="0 <= acc <= 1",
    )
    before = parameters(trainer)
    trainer.train()
    assert all(not torch.equal(before[name], value) for name, value in parameters(trainer).items())
    for log in trainer.state.log_history[:2]:
        assert METRICS - {"score/pearson"} <= log.keys() and log["frac_reward_zero_std"] < 1
    assert trainer.state.log_history[0]["reward"] != trainer.state.log_history[1]["reward"]


def test_a_reward_across_prompts_sees_those_of_all_micro_batches(tmp_path):
    expected, whole = step(tmp_path, 2 * K, reward="concordance", prediction_weight=1.0)
    update, parts = step(tmp_path, K, reward="concordance", prediction_weight=1.0)
    assert distance(update, expected) < 2e-4
    assert parts["reward"] == pytest.approx(whole["reward"]) and whole["reward"] > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"per_device_train_batch_size": K}, f"one holds a single prompt. Set per_device_train_batch_size to {2 * K}"),
        (
            {"per_device_train_batch_size": K, "gradient_accumulation_steps": 2, "num_iterations": 2},
            "used for several steps. Leave num_iterations and steps_per_generation out",
        ),
    ],
)
def test_a_reward_across_prompts_needs_several_of_them(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        make_trainer(tmp_path, fixed(*TEXTS), reward="concordance", **options)
