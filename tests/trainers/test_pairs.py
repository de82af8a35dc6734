# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`REALTrainer` on preferences between two responses. That its two terms are the gradient: `test_order_gradients`."""

from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset

from real_trl import objectives
from real_trl.trainers import group_generation_mixin
from tests.tiny import prompt_dataset
from tests.trainers.test_real_gradient import COMPLETIONS
from tests.trainers.test_real_trainer import MALFORMED, MARKER, K, distance, fixed, make_trainer, parameters, unmoved
from tests.trainers.test_split_groups import SGD, step

TEXTS = [
    f"{MARKER} 4",
    COMPLETIONS[0],
    f"{MARKER} 2",
    COMPLETIONS[1],
    COMPLETIONS[3],
    MALFORMED[0],
    f"{MARKER} 3",
    f"{MARKER} 1",
]
PREFERENCES = [1.0, 0.0]
PROMPTS = prompt_dataset([1.0, 2.0])["prompt"][:]


def pair_dataset(preferences=PREFERENCES):
    return Dataset.from_list(
        [{"prompt": PROMPTS[0], "other_prompt": PROMPTS[1], "preference": preference} for preference in preferences]
    )


def trainer_of(tmp_path, *classes, **options):
    return make_trainer(tmp_path, *classes, reward="preference", train_dataset=pair_dataset(), **options)


def test_half_of_a_group_is_asked_about_either_response(tmp_path):
    trainer = trainer_of(tmp_path, learning_rate=0.1)
    before = parameters(trainer)
    trainer.train()
    assert unmoved(trainer, before) == []
    asked = [rollout.prompt for rollout in trainer._buffered_inputs[0]["rollouts"]]
    assert asked == ([PROMPTS[0]] * (K // 2) + [PROMPTS[1]] * (K // 2)) * 2
    log = trainer.state.log_history[0]
    assert {"preference/probability", "preference/accuracy", "score/mass", "reward"} <= log.keys()
    assert not {"score/accuracy", "score/abs_error", "rewards/squared_error"} & log.keys()
    assert trainer.judge_config.method == "preference"


def test_reward_and_metrics_of_known_completions(tmp_path):
    trainer = trainer_of(tmp_path, fixed(*TEXTS), **SGD)
    trainer.model.train()
    inputs = trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(K)])
    scores = trainer._forward(trainer.model, inputs).score_log_probs.detach().double()
    trainer.compute_loss(trainer.model, inputs)
    values = trainer._label_values.double()
    assert inputs["has_score"].tolist() == [text != MALFORMED[0] for text in TEXTS]

    def above(i, j):
        return objectives.order_probability(scores[i], scores[j], values).item()

    # The first pair's first response is better, the second pair's second one; completion 5 has no score, nor a part in the metrics
    right = [above(i, j) for i in (0, 1) for j in (2, 3)] + [1 - above(4, j) for j in (6, 7)]
    metrics = trainer._metrics["train"]
    assert metrics["preference/probability"] == [pytest.approx(sum(right) / 6, rel=1e-5)]
    means = (scores.softmax(-1) * values).sum(-1).tolist()
    ordered = [means[i] > means[j] for i in (0, 1) for j in (2, 3)] + [means[j] > means[4] for j in (6, 7)]
    assert metrics["preference/accuracy"] == [pytest.approx(sum(ordered) / 6)]
    uniform = torch.full_like(scores[0], -1.0)
    scores[5] = uniform
    logs = torch.tensor([[above(i, j) for j in (2, 3)] for i in (0, 1)]).log()
    others = torch.tensor([[1 - above(i, j) for j in (6, 7)] for i in (4, 5)]).log()
    rewards = torch.cat([logs.mean(1), logs.mean(0), others.mean(1), others.mean(0)])
    lowest = rewards[[4, 6, 7]].min()
    rewards[5] = torch.minimum(rewards[5], lowest)
    assert metrics["reward"] == [pytest.approx(rewards.mean().item(), rel=1e-4)]


def test_where_one_is_the_best_score_the_lower_one_is_preferred(tmp_path):
    """What a rising scale learns from the opposite preferences."""
    found = []
    for labels, preferences in (("1-5", PREFERENCES), ("5-1", [1 - w for w in PREFERENCES])):
        options = {"score_labels": labels, "train_dataset": pair_dataset(preferences), **SGD}
        trainer = make_trainer(tmp_path, fixed(*TEXTS), reward="preference", **options)
        trainer.model.train()
        trainer.compute_loss(
            trainer.model, trainer._prepare_inputs([row for row in trainer.train_dataset for _ in range(K)])
        )
        metrics = trainer._metrics["train"]
        found.append([metrics[name][0] for name in ("reward", "preference/probability", "preference/accuracy")])
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize(
    "options", [{}, {"malformed": "ignore"}, {"malformed": "force", "prediction_weight": 1.0}], ids=str
)
def test_pairs_that_are_larger_than_a_micro_batch(tmp_path, options):
    options |= {"reward": "preference", "train_dataset": pair_dataset()}
    updates = [step(tmp_path, size, TEXTS, **options)[0] for size in (2 * K, 2, 1)]
    assert distance(updates[1], updates[0]) < 2e-4 and distance(updates[2], updates[0]) < 2e-4


def test_a_pair_and_its_mirror_image_teach_the_same(tmp_path):
    updates = []
    for swap in (False, True):
        row = {"prompt": PROMPTS[swap], "other_prompt": PROMPTS[not swap], "preference": float(not swap)}
        texts = TEXTS[K // 2 : K] + TEXTS[: K // 2] if swap else TEXTS[:K]
        options = {"train_dataset": Dataset.from_list([row]), "per_device_train_batch_size": K}
        trainer = make_trainer(tmp_path, fixed(*texts), reward="preference", prediction_weight=1.0, **options, **SGD)
        before = parameters(trainer)
        trainer.train()
        updates.append({name: value - before[name] for name, value in parameters(trainer).items()})
    assert distance(updates[1], updates[0]) < 1e-4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_generations": 3, "per_device_train_batch_size": 6}, "num_generations: got 3.*even number from 4 on"),
        ({"num_generations": 2, "per_device_train_batch_size": 4}, "num_generations: got 2.*even number from 4 on"),
        ({"group_filter": "0 < acc < 1"}, "group_filter: .*a pair has no right score"),
        ({"use_vllm": True, "vllm_importance_sampling_correction": True}, "of several completions together"),
        ({"log_likelihood_weight": 2.0}, "log_likelihood_weight: got 2.0 with reward='preference'"),
    ],
)
def test_settings_that_pairs_have_no_use_for(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        trainer_of(tmp_path, **options)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"preference": 1.5}, "column 'preference' is 1.5 in row 0"),
        ({"preference": None}, "column 'preference' is None in row 0"),
        ({"other_prompt": " "}, "column 'other_prompt' is empty in row 0"),
        ({"other_prompt": "1) 7+4 = 11\n" * 60}, r"row 0 \(other_prompt\) has .* tokens"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, changed, said):
    row = {"prompt": PROMPTS[0], "other_prompt": PROMPTS[1], "preference": 1.0} | changed
    with pytest.raises(ValueError, match=said):
        make_trainer(tmp_path, reward="preference", train_dataset=Dataset.from_list([row] * 2))


def test_scores_are_no_pairs(tmp_path):
    with pytest.raises(ValueError, match="no column 'other_prompt'"):
        make_trainer(tmp_path, reward="preference")


def test_held_out_pairs(tmp_path):
    options = {"eval_dataset": pair_dataset(), "num_generations_eval": 2, "per_device_eval_batch_size": 4}
    trainer = trainer_of(tmp_path, malformed="force", **options)
    found = trainer.evaluate()
    assert 0 < found["eval_preference/probability"] < 1 and found["eval_reward"] < 0
    with pytest.raises(ValueError, match="num_generations_eval: got 1 .*even number from 2 on"):
        trainer_of(tmp_path, eval_strategy="steps", eval_steps=1, **{**options, "num_generations_eval": 1})


@pytest.mark.parametrize(("reward", "size"), [("preference", K // 2), ("regression", K)])
def test_vllm_is_told_how_many_completions_a_prompt_has(tmp_path, monkeypatch, reward, size):
    """In server mode TRL asks for every so manieth prompt: with those of a whole group it would drop the second response."""
    asked = []

    def generate(generation, prompt_ids, group_size, profiler):
        asked.append(group_size)
        return [[7]] * len(prompt_ids), None

    monkeypatch.setattr(group_generation_mixin, "generate_groups_with_vllm", generate)
    monkeypatch.setattr(group_generation_mixin, "weights_in_sync", lambda trainer: nullcontext())
    data = {"train_dataset": pair_dataset()} if reward == "preference" else {}
    trainer = make_trainer(tmp_path, reward=reward, **data)
    trainer.model.train()
    trainer.vllm_generation = None
    assert trainer._generate_with_vllm([[1]] * K) == [[7]] * K
    assert asked == [size]
