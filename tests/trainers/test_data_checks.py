# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The rows of a stream are checked as those of a dataset are: when they are read, before a step is trained on them."""

import math

import pytest
from datasets import Dataset, IterableDataset

from real_trl import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer
from real_trl.score_space import ScoreSpace
from real_trl.trainers.data_checks import checked_data, targets_are_labels
from tests.tiny import LINES, PROMPT, TOKENIZER, build_model, warm_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
COMPLETION = " 1) 7+4 is 11, close. So the overall score is 4"
OPTIONS = {
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "max_steps": 3,
    "logging_steps": 1,
}


def rows(count=6, **last):
    """Good rows, and then one that has `last`."""
    good = [
        {"prompt": "\n".join([PROMPT, *LINES[: 1 + i % 3]]), "score": 4.0, "completion": COMPLETION}
        for i in range(count)
    ]
    return [*good, {**good[0], **last}]


def stream(rows):
    return IterableDataset.from_generator(lambda: iter(rows))


def make_trainer(method, tmp_path, data, **kwargs):
    if method == "RAFT":
        args = RAFTConfig(str(tmp_path), per_device_train_batch_size=2, **OPTIONS, **kwargs)
        return RAFTTrainer(build_model(), args, data, processing_class=TOKENIZER)
    options = {
        "num_generations": 2,
        "per_device_train_batch_size": 4,
        "max_completion_length": 20,
        "shuffle_dataset": False,
    }
    args = REALConfig(str(tmp_path), **options, **OPTIONS, **kwargs)
    return REALTrainer(warm_model(), args, data, processing_class=TOKENIZER)


HISTOGRAM = [0.0, 0.0, 0.0, 1.0, 0.0]
FAULTS = [
    ({"score": math.nan}, "column 'score' is nan in row {}"),
    ({"score": math.inf}, "column 'score' is inf in row {}"),
    ({"score": None}, "column 'score' is None in row {}"),
    ({"score": 7.0}, "column 'score' is 7.0 in row {}"),
    ({"prompt": " \n"}, "column 'prompt' is empty in row {}"),
    ({"score_histogram": [0.5, 0.0, 0.0, 0.0, 0.0]}, "column 'score_histogram' is .* in row {}, which sums to 0.5"),
]


@pytest.mark.parametrize(("fault", "message"), FAULTS, ids=[str(fault) for fault, _ in FAULTS])
def test_a_stream_and_a_dataset_are_refused_alike(fault, message):
    data = [row | ({"score_histogram": HISTOGRAM} if "score_histogram" in fault else {}) for row in rows()]
    data[-1] |= fault
    columns = ("prompt", "score")
    with pytest.raises(ValueError, match="train_dataset: " + message.format("6")):
        checked_data(Dataset.from_list(data), "train_dataset", columns, SPACE)
    checked = checked_data({"a": stream(data)}, "train_dataset", columns, SPACE)["a"]
    assert list(checked.take(5)) == data[:5]
    with pytest.raises(ValueError, match=r"train_dataset\['a'\]: " + message.format("6 of the stream")):
        list(checked)


def test_targets_of_a_reward_for_the_right_label():
    data, check = rows(score=3.5), targets_are_labels(SPACE)
    with pytest.raises(ValueError, match="'score' is 3.5 in row 6, which is no label of 1,2,3,4,5; reward='accuracy'"):
        checked_data(Dataset.from_list(data), "train_dataset", ("prompt", "score"), SPACE, check)
    with pytest.raises(ValueError, match="'score' is 3.5 in row 6 of the stream, which is no label"):
        list(checked_data(stream(data), "train_dataset", ("prompt", "score"), SPACE, check))


def test_columns_and_forms_of_a_stream():
    data = rows()
    del data[-1]["score"]
    with pytest.raises(ValueError, match="row 6 of the stream: no column 'score'"):
        list(checked_data(stream(data), "train_dataset", ("prompt", "score"), SPACE))
    columns = ("prompt", "completion", "score")
    chat = [{"role": "user", "content": PROMPT}]
    for column, last in (("prompt", {"prompt": chat}), ("completion", {"completion": chat})):
        with pytest.raises(
            ValueError, match=f"column '{column}' is a conversation in row 6 of the stream, where text"
        ):
            list(checked_data(stream(rows(**last)), "train_dataset", columns, SPACE))


def test_what_is_read_of_a_stream_is_what_it_holds():
    """Also its columns, where they are known, and again after a shuffle."""
    typed = Dataset.from_list(rows()).to_iterable_dataset()
    checked = checked_data(typed, "train_dataset", ("prompt", "score"), SPACE)
    assert checked.column_names == typed.column_names and list(checked) == list(typed)
    assert sorted(map(str, checked.shuffle(seed=0))) == sorted(map(str, typed))
    bad = checked_data(stream(rows(score=9.0)), "train_dataset", ("prompt", "score"), SPACE)
    with pytest.raises(ValueError, match="row 6 of the stream"):
        list(bad.shuffle(seed=3, buffer_size=100))


@pytest.mark.parametrize("method", ["REAL", "RAFT"])
def test_a_bad_target_stops_a_run_before_its_step(tmp_path, method):
    trainer = make_trainer(method, tmp_path, stream(rows(4, score=math.nan)))
    with pytest.raises(ValueError, match="train_dataset: column 'score' is nan in row 4 of the stream"):
        trainer.train()
    assert trainer.state.global_step <= 2
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())


def test_held_out_streams_too(tmp_path):
    trainer = make_trainer("REAL", tmp_path, Dataset.from_list(rows(4)))
    checked = REALTrainer(
        trainer.model, trainer.args, trainer.train_dataset, stream(rows(1, score=0.0)), processing_class=TOKENIZER
    )
    with pytest.raises(ValueError, match="eval_dataset: column 'score' is 0.0 in row 1 of the stream"):
        checked.evaluate()
