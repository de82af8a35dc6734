# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`RAFTTrainer` against Eq. 3, written one row at a time in float64, and against TRL's own `SFTTrainer`."""

import logging

import pytest
import torch
from datasets import Dataset
from peft import PromptTuningConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

from real_trl import JudgeConfig, RAFTConfig, RAFTTrainer
from tests.tiny import DIGITS, TOKENIZER, build_model, chat_tokenizer, encode, lora_config, prompt_dataset

MARKER = "So the overall score is"
COMPLETIONS = [
    f" 1) 7+4 is 11, close. 2) 3-8 is 5, right. {MARKER} 4",
    f" {MARKER} 2",
    f" 1) 7+4 is 12, right. {MARKER} 5",
    f" 2) 3-8 is -5, wrong. {MARKER} 3 1) 7+4 is 11, close. {MARKER} 1",
]
SCORES = [4.0, 2.0, 4.5, 1.0]  # the third lies between two labels: that is the target, and not the label written
VALUES = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
WEIGHTS = [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0.5, 0.5], [1, 0, 0, 0, 0]]  # what SCORES say of the labels
# The second and the third score are means of raters who disagree
HISTOGRAMS = [[0, 0, 0, 1, 0], [0.25, 0.5, 0.25, 0, 0], [0, 0, 0.25, 0, 0.75], [1, 0, 0, 0, 0]]


def raft_dataset(completions=COMPLETIONS, scores=SCORES) -> Dataset:
    return prompt_dataset(scores).add_column("completion", completions)


def make_trainer(tmp_path, trainer_class=RAFTTrainer, config_class=RAFTConfig, lora=False, **kwargs):
    """A trainer on the four rows in one batch, unless `kwargs` (of the config or of the trainer) say otherwise."""
    given = {
        "model": build_model(),
        "train_dataset": raft_dataset(),
        "processing_class": TOKENIZER,
        "peft_config": lora_config(init_lora_weights=False) if lora else None,
    }
    given.update({name: kwargs.pop(name) for name in (*given, "eval_dataset") if name in kwargs})
    options = {
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
        "bf16": False,
        "report_to": "none",
        "use_cpu": True,
        "logging_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
    }
    args = config_class(str(tmp_path), **{**options, **kwargs})
    torch.manual_seed(1)  # for the adapter
    return trainer_class(args=args, **given)


def trainer_gradient(trainer, rows=None):
    trainer.model.train()
    dataset = trainer.train_dataset.remove_columns(["prompt", "completion"])
    rows = [dataset[i] for i in range(len(dataset))] if rows is None else rows
    loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
    loss.backward()
    gradient = {name: p.grad.double() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return loss.item(), gradient


def reference(trainer, *, weight=1.0, penalty=1.0, lora=False, cut=(), histograms=WEIGHTS, normalize=False):
    """
    `weight · mean (ŷ − y*)² − penalty · mean over tokens of log π`, and its gradient; rows in `cut` have no score. The
    score's share of `log π` is `Σ_k w_k log π(k)`, with the weights of the row in `histograms`.
    """
    model = build_model()
    if lora:
        model = get_peft_model(model, lora_config(init_lora_weights=False))
    model.load_state_dict(trainer.model.state_dict())
    model.double().train()
    label_ids = [encode(str(k), eos=False)[-1] for k in range(1, 6)]
    log_likelihood, num_tokens, errors = 0.0, 0, []
    for row, (text, target) in enumerate(zip(COMPLETIONS, SCORES, strict=True)):
        prompt = TOKENIZER(raft_dataset()[row]["prompt"])["input_ids"]
        ids = (prompt + encode(text))[: trainer.args.max_length]
        score_at = len(prompt) + len(encode(text)) - 2  # the last token before EOS
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        for position in range(len(prompt), len(ids)):
            num_tokens += 1
            if position == score_at and row not in cut:
                assert ids[score_at] in label_ids
                weights = torch.tensor(histograms[row], dtype=torch.float64)
                log_likelihood = log_likelihood + (weights * log_p[position - 1, label_ids]).sum()
            else:
                log_likelihood = log_likelihood + log_p[position - 1, ids[position]]
        if row not in cut:
            probabilities = log_p[score_at - 1, label_ids].exp()
            expected = (probabilities * VALUES).sum() / (probabilities.sum() if normalize else 1)
            errors.append((expected - target) ** 2)
    loss = weight * sum(errors) / len(errors) - penalty * log_likelihood / num_tokens
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def relative_error(actual, expected):
    assert actual.keys() == expected.keys()
    difference = sum((actual[name] - expected[name]).square().sum() for name in expected).sqrt()
    return (difference / sum(g.square().sum() for g in expected.values()).sqrt()).item()


def parameters(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize(("weight", "penalty"), [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0)])
def test_gradient_equals_dense_float64_reference(tmp_path, lora, checkpointing, weight, penalty):
    trainer = make_trainer(
        tmp_path,
        lora=lora,
        gradient_checkpointing=checkpointing,
        regression_weight=weight,
        log_likelihood_weight=penalty,
    )
    loss, gradient = trainer_gradient(trainer)
    expected_loss, expected = reference(trainer, weight=weight, penalty=penalty, lora=lora)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative_error(gradient, expected) < 1e-5


def test_a_wrong_reference_is_noticed(tmp_path):
    trainer = make_trainer(tmp_path)
    assert relative_error(trainer_gradient(trainer)[1], reference(trainer, weight=0.9)[1]) > 1e-3


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_without_regression_it_is_sft_trainer(tmp_path, checkpointing):
    """Where every completion ends with its score."""
    dataset = raft_dataset(scores=[4.0, 2.0, 5.0, 1.0])
    trainer = make_trainer(
        tmp_path, regression_weight=0.0, gradient_checkpointing=checkpointing, train_dataset=dataset
    )
    sft = make_trainer(tmp_path, SFTTrainer, SFTConfig, gradient_checkpointing=checkpointing, train_dataset=dataset)
    loss, gradient = trainer_gradient(trainer)
    expected_loss, expected = trainer_gradient(sft)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    assert relative_error(gradient, expected) < 1e-6
    assert trainer.judge_config.method == "sft"


@pytest.mark.parametrize("weight", [0.0, 0.7], ids=["sft", "raft"])
def test_the_raters_histogram_is_the_target_of_the_next_token_loss(tmp_path, weight):
    """Also where its mean is the label that is written."""
    dataset = raft_dataset().add_column("score_histogram", HISTOGRAMS)
    trainer = make_trainer(tmp_path, train_dataset=dataset, regression_weight=weight)
    loss, gradient = trainer_gradient(trainer)
    expected_loss, expected = reference(trainer, weight=weight, histograms=HISTOGRAMS)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative_error(gradient, expected) < 1e-5
    assert relative_error(gradient, reference(trainer, weight=weight)[1]) > 1e-3


def test_normalized_expectation(tmp_path):
    trainer = make_trainer(tmp_path, normalize_expectation=True)
    loss, gradient = trainer_gradient(trainer)
    expected_loss, expected = reference(trainer, normalize=True)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative_error(gradient, expected) < 1e-5
    assert trainer.judge_config.normalize_expectation is True


LONG = [f" 7+4 is 11, close. {MARKER} {score}" for score in ("10", "1", "4", "7")]
LONG_SCORES = [10.0, 1.0, 4.5, 6.25]  # the third and the fourth between labels; "1" begins "10"


def digit_trainer(tmp_path, architecture="llama", **kwargs):
    dataset = raft_dataset(LONG, LONG_SCORES)
    model = build_model(architecture, tokenizer=DIGITS)
    options = {"score_labels": "1-10", "train_dataset": dataset, "processing_class": DIGITS, "model": model, **kwargs}
    return make_trainer(tmp_path, **options)


def digit_reference(trainer, architecture="llama", weight=1.0):
    """
    `weight · mean (ŷ − y*)² − mean over tokens of log π`, where π(label) is that of its digits, "1" without "10". The
    digits of the label that is written count with `Σ_k w_k log π(k)`; that "1" was not gone on with is part of that.
    """
    model = build_model(architecture, tokenizer=DIGITS)
    model.load_state_dict(trainer.model.state_dict())
    model.double().train()
    log_likelihood, num_tokens, errors = 0.0, 0, []
    for row, (text, target) in enumerate(zip(LONG, LONG_SCORES, strict=True)):
        prompt = DIGITS(raft_dataset(LONG, LONG_SCORES)[row]["prompt"])["input_ids"]
        label = text.split()[-1]
        context = prompt + encode(text.removesuffix(label), eos=False, tokenizer=DIGITS)
        begun = []
        for written in (*range(1, 11), label):
            digits = encode(str(written), tokenizer=DIGITS)
            log_p = model(torch.tensor([context + digits])).logits[0].log_softmax(-1)[len(context) - 1 :]
            begun.append(sum(log_p[i, digit] for i, digit in enumerate(digits[:-1])))
        eos = log_p[len(digits) - 1, DIGITS.eos_token_id]
        labels = [begun[0] + torch.log1p(-(begun[9] - begun[0]).exp()), *begun[1:10]]
        share = target - int(target)
        wanted = (1 - share) * labels[int(target) - 1] + (share * labels[int(target)] if share else 0)
        not_gone_on = labels[int(label) - 1] - begun[-1]  # log (1 − π(0 | 1)) after "1", which EOS implies
        log_p = model(torch.tensor([context])).logits[0].log_softmax(-1)
        cot = sum(log_p[i - 1, context[i]] for i in range(len(prompt), len(context)))
        log_likelihood = log_likelihood + cot + wanted + eos - not_gone_on
        num_tokens += len(context) - len(prompt) + len(digits)
        errors.append((sum(k * p.exp() for k, p in enumerate(labels, start=1)) - target) ** 2)
    loss = weight * sum(errors) / len(errors) - log_likelihood / num_tokens
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
def test_labels_of_several_tokens(tmp_path, architecture, checkpointing):
    trainer = digit_trainer(tmp_path, architecture, gradient_checkpointing=checkpointing, regression_weight=0.5)
    assert trainer.score_space.tree.context_tokens
    loss, gradient = trainer_gradient(trainer)
    expected_loss, expected = digit_reference(trainer, architecture, weight=0.5)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative_error(gradient, expected) < 1e-5


def test_labels_of_several_tokens_train(tmp_path):
    """One SGD step of the real loop, accumulated, with TRL's own metrics of the completion's tokens untouched."""
    trainer = digit_trainer(
        tmp_path,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        max_steps=1,
    )
    before, expected = parameters(trainer), digit_reference(trainer)[1]
    trainer.train()
    update = {name: (p - before[name]).double() for name, p in parameters(trainer).items()}
    assert relative_error(update, {name: -0.1 * g for name, g in expected.items()}) < 1e-4
    log = trainer.state.log_history[0]
    assert 0 < log["score/mass"] < 1 and 0 <= log["mean_token_accuracy"] <= 1


def test_gradient_accumulation_is_one_large_batch(tmp_path):
    """One SGD step of the real training loop, which hands `num_items_in_batch` to the loss."""
    updates = []
    for size, steps in ((4, 1), (2, 2), (1, 4)):
        trainer = make_trainer(
            tmp_path,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=steps,
            optim="sgd",
            learning_rate=0.1,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            max_steps=1,
        )
        before = parameters(trainer)
        gradient = reference(trainer)[1] if steps == 1 else None
        trainer.train()
        updates.append({name: (p - before[name]).double() for name, p in parameters(trainer).items()})
        if gradient is not None:
            assert relative_error(updates[0], {name: -0.1 * g for name, g in gradient.items()}) < 1e-4
    assert relative_error(updates[1], updates[0]) < 1e-4
    assert relative_error(updates[2], updates[0]) < 1e-4


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_one_step_moves_every_parameter(tmp_path, lora):
    trainer = make_trainer(tmp_path, lora=lora, learning_rate=0.1, lr_scheduler_type="constant", max_steps=1)
    before = parameters(trainer)
    trainer.train()
    assert before and [name for name, p in parameters(trainer).items() if torch.equal(p, before[name])] == []
    log = trainer.state.log_history[0]
    assert log["loss"] > 0
    assert log["score/squared_error"] >= log["score/abs_error"] ** 2 > 0
    assert 0 < log["score/mass"] < 1


def test_a_row_cut_at_max_length_keeps_its_next_token_loss(tmp_path, caplog):
    length = len(TOKENIZER(raft_dataset()[3]["prompt"])["input_ids"]) + 10
    with caplog.at_level(logging.WARNING):
        trainer = make_trainer(tmp_path, max_length=length)
    warnings = [r.message for r in caplog.records if "max_length" in r.message and "rows of the train" in r.message]
    assert len(warnings) == 1 and "1 of 4 rows" in warnings[0] and f"max_length={length}" in warnings[0]
    assert trainer.train_dataset["score_position"][3] == -1
    loss, gradient = trainer_gradient(trainer)
    expected_loss, expected = reference(trainer, cut=[3])
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert relative_error(gradient, expected) < 1e-5


def test_a_batch_of_cut_rows_only(tmp_path):
    length = len(TOKENIZER(raft_dataset()[3]["prompt"])["input_ids"]) + 10
    trainer = make_trainer(tmp_path, max_length=length)
    sft = make_trainer(tmp_path, SFTTrainer, SFTConfig, max_length=length)
    row = trainer.train_dataset.remove_columns(["prompt", "completion"])[3]
    assert relative_error(trainer_gradient(trainer, [row])[1], trainer_gradient(sft, [row])[1]) < 1e-6


@pytest.mark.parametrize("length", [16, 2], ids=["in the completion", "in the prompt"])
def test_every_row_cut_is_an_error(tmp_path, length):
    long = [f" 7+4 is 11, close. 7+4 is 11, close. 7+4 is 11, close. {MARKER} {k}" for k in (4, 2, 5, 1)]
    with pytest.raises(ValueError, match=f"max_length={length}"):
        make_trainer(tmp_path, max_length=length, train_dataset=raft_dataset(long))


@pytest.mark.parametrize(
    "bad", [" 1) 7+4 is 11, close.", f" 7+4 is 11, close. {MARKER}", f" 7+4 is 11, close. {MARKER} 7"]
)
def test_a_completion_without_its_score_is_an_error(tmp_path, bad):
    with pytest.raises(ValueError, match=f"no score after the marker '{MARKER} ' in 1 of 4 completions") as error:
        make_trainer(tmp_path, train_dataset=raft_dataset([*COMPLETIONS[:3], bad]))
    assert bad.strip() in str(error.value) and "build_completion" in str(error.value)


def test_a_marker_that_never_appears_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the marker 'the score is ' is in none of the 4 completions"):
        make_trainer(tmp_path, score_marker="the score is ")


def test_a_marker_quoted_in_the_prompt_is_not_the_score(tmp_path):
    dataset = raft_dataset().map(lambda row: {"prompt": f"{row['prompt']} {MARKER} 3"})
    trainer = make_trainer(tmp_path, train_dataset=dataset)
    for row, label in zip(trainer.train_dataset, "4251", strict=True):
        assert row["input_ids"][row["score_position"]] == encode(label)[0]
        assert row["score_position"] == len(row["input_ids"]) - 2
    with pytest.raises(ValueError, match="is in none of the 4 completions"):
        make_trainer(tmp_path, train_dataset=dataset.map(lambda row: {"completion": " 1) 7+4 is 11, close."}))


def test_conversational_rows_give_the_same_gradient(tmp_path):
    trainer = make_trainer(tmp_path, processing_class=chat_tokenizer(), train_dataset=chat_rows())
    plain = raft_dataset().map(lambda row: {"prompt": row["prompt"] + "\n\n"})
    expected = trainer_gradient(make_trainer(tmp_path, train_dataset=plain))[1]
    assert relative_error(trainer_gradient(trainer)[1], expected) < 1e-6


def chat_rows() -> Dataset:
    def to_messages(row):
        return {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "completion": [{"role": "assistant", "content": row["completion"].strip()}],
        }

    dataset = raft_dataset()
    return Dataset.from_list([{**row, **to_messages(row)} for row in dataset])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_evaluation_reports_the_training_loss_and_the_error(tmp_path, accumulation):
    dataset = raft_dataset()
    trainer = make_trainer(
        tmp_path,
        eval_dataset={"whole": dataset, "half": dataset.select([0, 1])},
        per_device_eval_batch_size=4,
        per_device_train_batch_size=4 // accumulation,
        gradient_accumulation_steps=accumulation,
        eval_strategy="steps",
        eval_steps=1,
        max_steps=1,
        learning_rate=0.0,
    )
    expected, _ = reference(trainer)
    trainer.train()
    logs = {key: value for entry in trainer.state.log_history for key, value in entry.items()}
    assert logs["eval_whole_loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["loss"] == pytest.approx(expected, rel=1e-4)
    assert logs["eval_half_loss"] != pytest.approx(expected, rel=1e-3)
    assert {"eval_score/squared_error", "eval_score/abs_error", "eval_score/mass"} <= logs.keys()


def test_judge_config_is_saved_with_checkpoints_and_model(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=1, save_strategy="steps", save_steps=1, regression_weight=0.5)
    trainer.train()
    trainer.save_model(str(tmp_path / "final"))
    for directory in (tmp_path / "checkpoint-1", tmp_path / "final"):
        config = JudgeConfig.load(directory)
        assert config.score_labels == ["1", "2", "3", "4", "5"] and config.score_marker == f"{MARKER} "
        assert config.method == "raft" and config.training["regression_weight"] == 0.5
        assert config == trainer.judge_config


def test_resuming_gives_the_uninterrupted_run(tmp_path):
    def run(directory, max_steps, resume=False):
        trainer = make_trainer(
            directory,
            per_device_train_batch_size=1,
            max_steps=max_steps,
            save_strategy="steps",
            save_steps=2,
            lr_scheduler_type="constant",
        )
        trainer.train(resume_from_checkpoint=resume or None)
        return parameters(trainer)

    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    resumed = run(tmp_path / "parts", 4, resume=True)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value)


# --- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regression_weight": -1.0}, "regression_weight: got -1.0"),
        ({"log_likelihood_weight": -0.5}, "log_likelihood_weight: got -0.5"),
        ({"regression_weight": 0.0, "log_likelihood_weight": 0.0}, "both are 0"),
        ({"packing": True}, "packing: got True, which RAFTTrainer does not support.*free of padding already"),
        ({"padding_free": True}, "padding_free: got True.*free of padding already.*Unset it"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor: got 0.1"),
        ({"pad_to_multiple_of": 8}, "pad_to_multiple_of: got 8"),
    ],
)
def test_config_refuses(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RAFTConfig(str(tmp_path), **options)


def without(column):
    return raft_dataset().remove_columns(column)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_dataset": without("score")}, "train_dataset: no column 'score'"),
        ({"train_dataset": without("completion")}, "train_dataset: no column 'completion'"),
        ({"train_dataset": without("prompt")}, "train_dataset: no column 'prompt'"),
        (
            {"train_dataset": raft_dataset(scores=[4.0, 2.0, None, 1.0])},
            "column 'score' is None in row 2; the scale is 1 to 5",
        ),
        ({"train_dataset": raft_dataset(scores=[4.0, float("nan"), 3.0, 1.0])}, "column 'score' is nan in row 1"),
        ({"train_dataset": raft_dataset(scores=["4", "2", "5", "1"])}, "column 'score' is '4' in row 0"),
        ({"train_dataset": raft_dataset(scores=[4.0, 2.0, 5.0, 5.5])}, "column 'score' is 5.5 in row 3"),
        ({"eval_dataset": raft_dataset(scores=[0, 2, 5, 5])}, "eval_dataset: column 'score' is 0 in row 0"),
        ({"eval_dataset": {"a": without("score")}}, r"eval_dataset\['a'\]: no column 'score'"),
        ({"train_dataset": raft_dataset().map(lambda row: {"prompt": " "})}, "column 'prompt' is empty in row 0"),
        (
            {"train_dataset": raft_dataset().add_column("score_histogram", [[0.0, 0.0, 0.0, 1.0]] * 4)},
            "'score_histogram' is .* in row 0, which is no list of 5 shares",
        ),
        (
            {"train_dataset": raft_dataset().add_column("score_histogram", [*HISTOGRAMS[:3], HISTOGRAMS[0]])},
            "row 3, whose mean is 4, while the column 'score' is 1",
        ),
        ({"score_labels": "A-E"}, "score_values is not set, and the score label 'A' is not a number"),
        ({"score_labels": ["100", "200"]}, "the label '100' cannot be told apart"),
        ({"score_labels": "5-5"}, "score_labels='5-5' is not a scale"),
    ],
)
def test_bad_data_is_refused_before_the_model_is_loaded(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(tmp_path, model=str(tmp_path / "no-model-here"), **given)


def test_virtual_tokens_are_refused(tmp_path):
    adapter = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with pytest.raises(ValueError, match="peft_config: got PromptTuningConfig.*Use LoRA"):
        make_trainer(tmp_path, model=str(tmp_path / "no-model-here"), peft_config=adapter)


def test_a_processor_is_refused(tmp_path):
    with pytest.raises(TypeError, match="processing_class: got str"):
        make_trainer(tmp_path, processing_class="tokenizer")


def test_completion_only_loss_cannot_be_turned_off(tmp_path):
    with pytest.raises(ValueError, match="completion_only_loss: got False.*Unset it"):
        RAFTConfig(str(tmp_path), completion_only_loss=False)
