# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""RAFT of direct judges: the loss against Eq. 3 written out in float64, and that what is trained is what the judge is asked."""

import pytest
import torch
from datasets import Dataset

from real_trl import JudgeConfig, RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.engines import TransformersEngine
from real_trl.judge_source import find_judge
from tests.tiny import TOKENIZER, build_model, prompt_dataset, warm_model
from tests.tokenizers_zoo import TOKENIZERS
from tests.trainers.test_raft_trainer import make_trainer, raft_dataset
from tests.trainers.test_same_prompts import ARGS, FORMATS, PROMPTS, zoo_tokenizer

SCORES = [4.0, 2.0, 4.5, 1.0]
COMPLETIONS = [
    " So the overall score is 4",
    "So the overall score is 2",
    " So the overall score is 4 ",
    "So the overall score is 1",
]


def eq3(prompts, targets, weight=1.0, penalty=1.0):
    """Eq. 3 without a rationale, row by row: `(ŷ − y*)² − λ log π(marker, y* | x)`, the latter a mean over the batch's tokens."""
    model = build_model().double()
    marker = TOKENIZER(" So the overall score is", add_special_tokens=False)["input_ids"]
    digits = TOKENIZER.convert_tokens_to_ids(list("12345"))
    eos = TOKENIZER.eos_token_id
    squared, likelihood, tokens = [], [], 0
    for prompt, target in zip(prompts, targets, strict=True):
        ids = TOKENIZER(prompt)["input_ids"]
        written = digits[int(target) - 1]
        answer = [*marker, written, eos]
        log_probs = model(torch.tensor([[*ids, *answer]])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        scores = log_probs[len(marker), digits]
        expected = (scores.exp() * torch.arange(1, 6, dtype=torch.float64)).sum()
        squared.append((expected - target) ** 2)
        likelihoods = log_probs[range(len(answer)), answer].clone()
        if target == 4.5:  # between two labels: half of each
            likelihoods[len(marker)] = 0.5 * scores[3] + 0.5 * scores[4]
        likelihood.append(likelihoods.sum())
        tokens += len(answer)
    loss = weight * torch.stack(squared).mean() - penalty * torch.stack(likelihood).sum() / tokens
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "options", [{}, {"regression_weight": 0.0}, {"log_likelihood_weight": 0.25, "regression_weight": 2.0}]
)
def test_the_loss_is_eq_3_without_a_rationale(tmp_path, options):
    trainer = make_trainer(tmp_path, train_dataset=raft_dataset(COMPLETIONS, SCORES), **options)
    assert trainer.judge_config.rationale is False
    trainer.model.train()
    rows = trainer.train_dataset.remove_columns(["prompt", "completion"])
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([rows[i] for i in range(4)]))
    loss.backward()
    weight, penalty = options.get("regression_weight", 1.0), options.get("log_likelihood_weight", 1.0)
    expected, gradient = eq3(prompt_dataset(SCORES)["prompt"], SCORES, weight, penalty)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad.double(), gradient[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(TOKENIZERS))
@pytest.mark.parametrize("prompt_format", FORMATS)
def test_what_is_trained_is_what_the_judge_is_asked(tmp_path, name, prompt_format):
    options = FORMATS[prompt_format]
    chat = options.get("chat", False)
    tokenizer = zoo_tokenizer(name, chat)
    completion = "So the overall score is 4"
    rows = []
    for prompt in [*PROMPTS, "It ends a line.\n"]:
        system = [{"role": "system", "content": options["system_prompt"]}] if "system_prompt" in options else []
        rows.append(
            {
                "prompt": [*system, {"role": "user", "content": prompt}] if chat else prompt,
                "completion": [{"role": "assistant", "content": completion}] if chat else completion,
                "score": 4.0,
            }
        )
    arguments = RAFTConfig(str(tmp_path), **ARGS, chat_template_kwargs=options.get("chat_template_kwargs"))
    model = build_model(tokenizer=tokenizer)
    trainer = RAFTTrainer(model, arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trained = [row["input_ids"][: row["score_position"]] for row in trainer.train_dataset]
    trainer.save_model(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = find_judge(tmp_path)
    assert not source.config.rationale
    engine = TransformersEngine(model, source.tokenizer, source.space, source.config.decoding())
    asked = [ids + opening for ids, opening in engine.encode.with_openings([*PROMPTS, "It ends a line.\n"])]
    assert asked == trained


def test_rationales_where_there_should_be_none_are_named(tmp_path):
    dataset = raft_dataset([COMPLETIONS[0], " 2 is wrong. So the overall score is 2", *COMPLETIONS[2:]], SCORES)
    with pytest.raises(
        ValueError, match="rationale: got false, but the completion of row 1 of train_dataset says '2 is wrong.'"
    ):
        make_trainer(tmp_path, train_dataset=dataset, rationale=False)
    assert make_trainer(tmp_path, train_dataset=dataset).judge_config.rationale is True
    assert make_trainer(
        tmp_path, train_dataset=raft_dataset(COMPLETIONS, SCORES), rationale=True
    ).judge_config.rationale


def test_reinforcement_learning_does_not_start_from_one(tmp_path):
    warm_model().save_pretrained(tmp_path / "judge")
    TOKENIZER.save_pretrained(tmp_path / "judge")
    JudgeConfig(list("12345"), [1.0, 2.0, 3.0, 4.0, 5.0], rationale=False).save(tmp_path / "judge")
    args = REALConfig(
        str(tmp_path / "out"), num_generations=2, per_device_train_batch_size=2, use_cpu=True, report_to="none"
    )
    with pytest.raises(ValueError, match="model: got the direct judge .*nothing to explore.*self_generate"):
        REALTrainer(str(tmp_path / "judge"), args, train_dataset=prompt_dataset([1.0, 2.0]))
