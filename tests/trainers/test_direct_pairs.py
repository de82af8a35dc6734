# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Direct judges that are trained on preferences: the loss against its formula written out in float64."""

import pytest
import torch
from datasets import Dataset, IterableDataset

from real_trl.trainers.direct_pairs import PairSampler
from tests.tiny import TOKENIZER, build_model, prompt_dataset
from tests.trainers.test_raft_trainer import make_trainer

PROMPTS = prompt_dataset([1.0] * 4)["prompt"][:]
PREFERENCES = [1.0, 0.25]
MARKER = TOKENIZER(" So the overall score is", add_special_tokens=False)["input_ids"]
LABELS = TOKENIZER.convert_tokens_to_ids(list("12345"))
EOS = TOKENIZER.eos_token_id


def pairs(preferences=PREFERENCES):
    rows = [
        {"prompt": PROMPTS[i % 4], "other_prompt": PROMPTS[(i + 1) % 4], "preference": w}
        for i, w in enumerate(preferences)
    ]
    return Dataset.from_list(rows)


def written_out(dataset, weight=1.0, penalty=1.0):
    """`−[w log P(A ≻ B) + (1 − w) log P(B ≻ A)]` of each pair, beside the next-token loss of marker, any label, and the end."""
    model = build_model().double()
    losses, likelihoods, tokens = [], [], 0
    for row in dataset:
        sides = []
        for prompt in (row["prompt"], row["other_prompt"]):
            ids = TOKENIZER(prompt)["input_ids"]
            answer = [*MARKER, LABELS[0], EOS]
            log_probs = model(torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
            scores = log_probs[len(MARKER), LABELS].exp()
            sides.append(scores / scores.sum())
            likelihoods += [*log_probs[range(len(MARKER)), MARKER], scores.sum().log(), log_probs[-1, EOS]]
            tokens += len(answer)
        above = sum(
            sides[0][i] * sides[1][j] * (1.0 if i > j else 0.5 if i == j else 0.0) for i in range(5) for j in range(5)
        )
        w = row["preference"]
        losses.append(-(w * above.log() + (1 - w) * (1 - above).log()))
    loss = weight * torch.stack(losses).mean() - penalty * torch.stack(likelihoods).sum() / tokens
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def batch_of(trainer):
    rows = trainer.train_dataset.remove_columns(["prompt", "completion"])
    return trainer.data_collator([rows[i] for i in range(len(rows))])


@pytest.mark.parametrize("options", [{}, {"log_likelihood_weight": 0.25, "regression_weight": 2.0}], ids=str)
def test_the_loss_and_its_gradient(tmp_path, options):
    trainer = make_trainer(tmp_path, train_dataset=pairs(), **options)
    assert trainer.judge_config.method == "raft_pairs" and trainer.judge_config.rationale is False
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch_of(trainer))
    loss.backward()
    expected, gradient = written_out(
        pairs(), options.get("regression_weight", 1.0), options.get("log_likelihood_weight", 1.0)
    )
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(parameter.grad.double(), gradient[name], atol=2e-6, rtol=1e-4)
    metrics = trainer._metrics["train"]
    assert 0 < metrics["preference/probability"][0] < 1 and metrics["preference/accuracy"][0] in (0.0, 0.5, 1.0)


def test_where_one_is_the_best_score_the_lower_one_is_preferred(tmp_path):
    """What a rising scale learns from the opposite preferences."""
    found = []
    for labels, preferences in (("1-5", PREFERENCES), ("5-1", [1 - w for w in PREFERENCES])):
        options = {
            "score_labels": labels,
            "log_likelihood_weight": 0.0,
        }  # the end of text is read behind another label
        trainer = make_trainer(tmp_path, train_dataset=pairs(preferences), **options)
        trainer.model.train()
        loss = trainer.compute_loss(trainer.model, batch_of(trainer)).item()
        found.append(
            [loss, *(trainer._metrics["train"][f"preference/{name}"][0] for name in ("probability", "accuracy"))]
        )
    assert found[1] == pytest.approx(found[0], abs=1e-6)


def test_several_micro_batches_make_the_same_step(tmp_path):
    data, updates = pairs([1.0, 0.0, 0.5, 0.25]), []
    for size in (8, 2):
        trainer = make_trainer(
            tmp_path,
            train_dataset=data,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=8 // size,
            max_steps=1,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=0.0,
        )
        before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
        trainer.train()
        updates.append(torch.cat([(p - before[name]).flatten() for name, p in trainer.model.named_parameters()]))
    assert ((updates[0] - updates[1]).norm() / updates[0].norm()).item() < 1e-4


def test_both_rows_of_a_pair_stay_together_in_an_order_of_each_epoch(tmp_path):
    trainer = make_trainer(tmp_path, train_dataset=pairs([1.0, 0.0, 0.25, 0.75, 0.5]), per_device_train_batch_size=2)
    sampler = trainer._get_train_sampler()
    assert isinstance(sampler, PairSampler) and len(sampler) == 10
    orders = []
    for epoch in (0, 1, 0):
        trainer._train_sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(10))
        assert all(
            second == first + 1 and first % 2 == 0 for first, second in zip(order[::2], order[1::2], strict=True)
        )
        orders.append(order)
    assert orders[0] == orders[2] != orders[1]
    preferences = trainer.train_dataset["preference"][:]
    assert preferences[::2] == preferences[1::2] == [1.0, 0.0, 0.25, 0.75, 0.5]


def test_training_from_pairs_orders_them(tmp_path):
    data = pairs([1.0, 0.0, 1.0, 0.0] * 4)
    trainer = make_trainer(
        tmp_path, train_dataset=data, learning_rate=1e-2, num_train_epochs=6, eval_dataset=data, eval_strategy="epoch"
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "eval_loss" in log]
    assert logs[-1]["eval_preference/accuracy"] == 1.0 and logs[-1]["eval_loss"] < logs[0]["eval_loss"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rationale": True}, "rationale: got true with preferences"),
        ({"regression_weight": 0.0}, "regression_weight: got 0 with preferences"),
        ({"per_device_train_batch_size": 3}, "per_device_train_batch_size: got 3, but the two responses"),
        ({"max_length": 10, "truncation_mode": "keep_start"}, "max_length=10"),
    ],
)
def test_what_does_not_go_with_pairs(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        make_trainer(tmp_path, train_dataset=pairs(), **options)


def test_a_stream_of_pairs_is_refused(tmp_path):
    stream = IterableDataset.from_generator(lambda: iter(pairs().to_list()), features=pairs().features)
    with pytest.raises(ValueError, match="train_dataset: got a IterableDataset of preferences"):
        make_trainer(tmp_path, train_dataset=stream, max_steps=1)
