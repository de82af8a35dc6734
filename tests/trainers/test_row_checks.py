# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets given to trainers: scores are what their columns say, and every way in has the same checks."""

from decimal import Decimal

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.score_space import ScoreSpace
from real_trl.trainers.data_checks import checked_data, one_dataset
from real_trl.trainers.evaluation_callback import JudgeEvaluationCallback
from real_trl.trainers.row_checks import read_numbers
from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
PROMPTS = ["\n".join([PROMPT, *LINES[: 1 + row % 3]]) for row in range(4)]
COMPLETIONS = [f" 1) 7+4 is 11, close. So the overall score is {label}" for label in "4215"]
SCORES = [4.0, 2.0, 1.0, 5.0]
CODED = ClassLabel(names=["none", "5", "4", "3", "2", "1"])  # whose codes are on the scale as well
TRAINERS = [RAFTTrainer, REALTrainer]
OPTIONS = {
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_steps": 1,
}


def rows(scores=SCORES, feature=None, **columns):
    columns = {"prompt": PROMPTS, "completion": COMPLETIONS, "score": scores, **columns}
    dataset = Dataset.from_dict({name: cells[: len(scores)] for name, cells in columns.items()})
    return dataset if feature is None else dataset.cast_column("score", feature)


def make_trainer(trainer_class, tmp_path, train=None, **kwargs):
    train = rows() if train is None else train
    if trainer_class is RAFTTrainer:
        args = RAFTConfig(str(tmp_path), per_device_train_batch_size=4, per_device_eval_batch_size=4, **OPTIONS)
        return RAFTTrainer(build_model(), args, train, processing_class=TOKENIZER, **kwargs)
    sizes = {
        "num_generations": 2,
        "per_device_train_batch_size": 8,
        "max_completion_length": 20,
        "shuffle_dataset": False,
    }
    args = REALConfig(str(tmp_path), **sizes, per_device_eval_batch_size=8, num_generations_eval=2, **OPTIONS)
    return REALTrainer(warm_model(), args, train, processing_class=TOKENIZER, **kwargs)


def targets(trainer):
    """What a step is trained on."""
    dataset = trainer.train_dataset
    if isinstance(trainer, RAFTTrainer):
        dataset = dataset.remove_columns(["prompt", "completion"])
        return trainer.data_collator([dataset[row] for row in range(len(dataset))])["targets"].tolist()
    rollouts = trainer._generate_and_score_completions([dataset[row] for row in range(len(dataset))])
    return [rollout.target for rollout in rollouts]


OTHER_FORMS = {
    "class": rows(["4", "2", "1", "5"], CODED),
    "decimal": rows([Decimal("4.00"), Decimal(2), Decimal(1), Decimal(5)]),
    "single precision": rows(np.array(SCORES, np.float32)),
    "whole numbers": rows([4, 2, 1, 5]),
    "numpy": rows().with_format("numpy"),
    "torch": rows().with_format("torch"),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_targets_are_what_the_column_says(tmp_path, trainer_class, form):
    assert targets(make_trainer(trainer_class, tmp_path, OTHER_FORMS[form])) == SCORES


@pytest.mark.parametrize("form", ["class", "decimal", "single precision", "torch"])
def test_targets_of_streams_are_what_the_column_says(form):
    stream = OTHER_FORMS[form].to_iterable_dataset()
    checked = checked_data(
        stream.with_format("torch") if form == "torch" else stream, "train_dataset", ("prompt", "score"), SPACE
    )
    assert [row["score"] for row in checked] == SCORES


def test_a_bad_class_of_a_stream_is_named_with_its_row():
    stream = rows(["4", "none"], CODED).to_iterable_dataset()
    read = iter(checked_data(stream, "train_dataset", ("prompt", "score"), SPACE))
    with pytest.raises(ValueError, match="train_dataset: column 'score' is 'none' in row 1"):
        list(read)


def test_conversations_of_a_dataset_with_a_format_are_messages():
    messages = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    chats = Dataset.from_dict({"prompt": messages, "score": SCORES})
    for name in ("numpy", "torch"):
        assert one_dataset(chats.with_format(name), "train_dataset")[0] == {"prompt": messages[0], "score": 4.0}
    own = chats.with_transform(lambda batch: {"prompt": ["a"], "score": [1.0]})
    assert one_dataset(own, "train_dataset")[0] == {"prompt": "a", "score": 1.0}


def test_true_and_false_are_no_shares(tmp_path):
    voted = rows([4.0], score_histogram=[[False, False, False, True, False]])
    with pytest.raises(ValueError, match="row 0, which holds something else than numbers"):
        make_trainer(RAFTTrainer, tmp_path, voted)


def test_numbers_of_datasets_and_streams():
    histograms = [[Decimal(0), Decimal("0.25"), Decimal(0), Decimal("0.75"), Decimal(0)]] * 2
    dataset = rows([3.5, 3.5], Value("float32"), score_histogram=histograms)
    for data in (dataset, dataset.to_iterable_dataset()):
        read = read_numbers(data, "train_dataset", SPACE)
        assert read.features["score"] == Value("float64") and read.features["score_histogram"] == List(
            Value("float64")
        )
        assert [row["score_histogram"] for row in read] == [[0, 0.25, 0, 0.75, 0]] * 2
    precise = read_numbers(rows([3.3, 1.7], Value("float32")), "train_dataset", SPACE)
    assert precise["score"][:] == [3.3, 1.7]
    plain = rows()
    assert read_numbers(plain, "train_dataset", SPACE) is plain  # nothing to do
    gaps = Dataset.from_dict({"score": [None, 0]}, features=Features({"score": CODED}))
    with pytest.raises(
        ValueError, match="train_dataset: column 'score' is 'none' in row 1, by the names of its ClassLabel"
    ):
        read_numbers(gaps, "train_dataset", SPACE)


@pytest.mark.parametrize("names", [["bad", "good"], ["0", "9"]])
@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_a_class_that_is_no_label_is_refused(tmp_path, trainer_class, names):
    wrong = Dataset.from_dict(
        {"prompt": PROMPTS, "completion": COMPLETIONS, "score": [1, 1, 0, 1]},
        features=Features(
            {"prompt": Value("string"), "completion": Value("string"), "score": ClassLabel(names=names)}
        ),
    )
    message = f"column 'score' is '{names[1]}' in row 0, by the names of its ClassLabel, {', '.join(names)}; the scale is 1, 2"
    with pytest.raises(ValueError, match=f"train_dataset: {message}"):
        make_trainer(trainer_class, tmp_path, wrong)
    trainer = make_trainer(trainer_class, tmp_path)
    with pytest.raises(ValueError, match=f"eval_dataset: {message}"):
        trainer.evaluate(wrong)


@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_evaluate_checks_its_rows_as_training_does(tmp_path, trainer_class):
    trainer = make_trainer(trainer_class, tmp_path)
    for bad, message in (
        (rows([4.0, float("nan")]), "eval_dataset: column 'score' is nan in row 1"),
        (rows([4.0, 9.0]), "eval_dataset: column 'score' is 9.0 in row 1"),
        (rows([True, False]), "eval_dataset: column 'score' is True in row 0"),
        (rows([4.0, 2.0], prompt=[PROMPTS[0], " "]), "eval_dataset: column 'prompt' is empty in row 1"),
        (rows().remove_columns("score"), "eval_dataset: no column 'score'"),
        ({"good": rows(), "bad": rows([7.0])}, r"eval_dataset\['bad'\]: column 'score' is 7.0 in row 0"),
        ({"both": DatasetDict(a=rows())}, r"eval_dataset\['both'\]: got a DatasetDict of the splits 'a'. Choose one"),
    ):
        with pytest.raises(ValueError, match=message):
            trainer.evaluate(bad)
    coded, floats = rows(["4", "2", "1", "5"], CODED), rows()
    losses = trainer.evaluate({"coded": coded, "floats": floats})
    assert {"eval_coded_loss", "eval_floats_loss"} <= losses.keys()
    if trainer_class is RAFTTrainer:  # which samples nothing
        assert losses["eval_coded_loss"] == losses["eval_floats_loss"] == trainer.evaluate(floats)["eval_loss"]
        with pytest.raises(ValueError, match="eval_dataset: the marker .* is in none of the 4 completions"):
            trainer.evaluate(rows(completion=["fine"] * 4))


def test_predict_checks_its_rows_too(tmp_path):
    trainer = make_trainer(REALTrainer, tmp_path)
    with pytest.raises(ValueError, match="test_dataset: column 'score' is 9.0 in row 0"):
        trainer.predict(rows([9.0, 2.0]))


@pytest.mark.parametrize("trainer_class", TRAINERS)
def test_several_splits_are_no_training_set(tmp_path, trainer_class):
    splits = DatasetDict(train=rows(), test=rows([4.0]))
    with pytest.raises(ValueError, match="train_dataset: got a DatasetDict of the splits 'train', 'test'. Choose one"):
        make_trainer(trainer_class, tmp_path, splits)
    assert make_trainer(trainer_class, tmp_path, eval_dataset=splits)  # are evaluated one by one
    for other, kind in ((rows().to_pandas(), "DataFrame"), (rows().to_list(), "list"), ("train.jsonl", "str")):
        with pytest.raises(ValueError, match=f"train_dataset: got a {kind}. Give a `datasets.Dataset`"):
            make_trainer(trainer_class, tmp_path, other)


def test_held_out_data_are_checked(tmp_path):
    trainer = make_trainer(REALTrainer, tmp_path)
    for bad, message in (
        ({"ood": rows([9.0])}, "judge_eval: the dataset 'ood': column 'score' is 9.0 in row 0"),
        ({"ood": rows().remove_columns("score")}, "judge_eval: the dataset 'ood': no column 'score'"),
        ({"ood": DatasetDict(a=rows())}, "judge_eval: the dataset 'ood': got a DatasetDict of the splits 'a'"),
        (rows(), "judge_eval: got a Dataset"),
    ):
        with pytest.raises(ValueError, match=message):
            JudgeEvaluationCallback(trainer, bad, 1)
    callback = JudgeEvaluationCallback(trainer, {"ood": rows(["4", "2", "1", "5"], CODED)}, 1)
    assert callback.datasets["ood"]["score"][:] == SCORES
