# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `max_length` takes from rows: the same as TRL's cut, but every row that loses something is counted."""

import logging

import pytest
from accelerate import PartialState
from datasets import Dataset, IterableDataset
from trl import SFTConfig, SFTTrainer

from real_trl import RAFTConfig, RAFTTrainer
from real_trl.score_space import ScoreSpace
from real_trl.trainers.score_positions import NO_SCORE, ScoreRows
from tests.tiny import DIGITS, LINES, PROMPT, TOKENIZER, build_model, encode

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
MARKER = "So the overall score is"
PROMPT_IDS = encode(PROMPT, eos=False)  # 8 tokens


@pytest.fixture(autouse=True)
def state():
    PartialState(cpu=True)  # which accelerate's logger asks for


def rows(*completions, prompts=None, tokenizer=TOKENIZER):
    """Tokenized as TRL does it."""
    made = []
    for number, text in enumerate(completions):
        prompt = encode((prompts or [PROMPT] * len(completions))[number], eos=False, tokenizer=tokenizer)
        ids = encode(text, tokenizer=tokenizer)
        made.append({"input_ids": prompt + ids, "labels": [-100] * len(prompt) + ids})
    return Dataset.from_list(made)


def prepared(dataset, max_length, mode="keep_start", space=SPACE):
    return list(ScoreRows(space, "train", max_length, mode).prepare(dataset))


SHORT = f"right. {MARKER} 4"  # 2 + 5 + 1 tokens and EOS
TRAILING = f"right. {MARKER} 4 right right right"
LONG = f"7+4 = 12 right. wrong. close. {MARKER} 2"


def test_scores_are_found_and_what_is_cut_is_counted(caplog):
    dataset = rows(SHORT, TRAILING, LONG, SHORT, prompts=[PROMPT, PROMPT, PROMPT, " ".join([PROMPT] * 3)])
    with caplog.at_level(logging.WARNING):
        got = prepared(dataset, 17)
    assert [(row["score_position"], row["written_label"], row["cut"]) for row in got] == [
        (15, 3, ""),
        (15, 3, "end"),
        (NO_SCORE, 0, "score"),
    ]
    assert [row["input_ids"] for row in got] == [ids[:17] for ids in dataset["input_ids"][:3]]
    assert [row["labels"] for row in got] == [ids[:17] for ids in dataset["labels"][:3]]
    lines = [record.message for record in caplog.records]
    assert len(lines) == 3 and all("max_length=17" in line for line in lines)
    for line, text in zip(
        lines,
        (
            "1 of 4 rows of the train dataset, the first of them row 2, lost their score",
            "1 of 4 rows of the train dataset, the first of them row 1, lost what follows their score",
            "1 of 4 rows of the train dataset, the first of them row 3, were left out",
        ),
        strict=True,
    ):
        assert text in line


def test_the_end_can_be_kept(caplog):
    dataset = rows(SHORT, LONG, prompts=[" ".join([PROMPT] * 2), PROMPT])
    with caplog.at_level(logging.WARNING):
        got = prepared(dataset, 16, "keep_end")
    assert [row["input_ids"] for row in got] == [ids[-16:] for ids in dataset["input_ids"]]
    assert [row["input_ids"][row["score_position"]] for row in got] == encode("4 2", eos=False)
    assert [row["cut"] for row in got] == ["prompt", "prompt"]
    assert "2 of 2 rows" in caplog.text and "lost the beginning of their prompt" in caplog.text
    with pytest.raises(ValueError, match="none of the 2 rows has its score within max_length=6"):
        prepared(dataset, 6, "keep_end")  # which cuts into the marker


def test_a_quoted_score_does_not_take_the_place_of_one_that_was_cut():
    quoted = f"close. {MARKER} 5 wrong. {MARKER} 1"
    dataset = rows(SHORT, quoted)
    length = len(PROMPT_IDS) + len(encode(f"close. {MARKER} 5 wrong.", eos=False))
    assert [row["cut"] for row in prepared(dataset, length)] == ["", "score"]


def test_a_label_is_not_cut_in_two():
    """Of "10" the "1" is left, which is a label, too."""
    space = ScoreSpace.from_labels("1-10", DIGITS)
    dataset = rows(f"right. {MARKER} 3", f"right. {MARKER} 10", tokenizer=DIGITS)
    length = len(dataset[1]["input_ids"]) - 2
    got = prepared(dataset, length, space=space)
    assert got[1]["input_ids"][-1] == encode("1", eos=False, tokenizer=DIGITS)[0]
    assert (got[1]["score_position"], got[1]["cut"]) == (NO_SCORE, "score")
    assert got[0]["cut"] == "end" and got[0]["written_label"] == 2  # its EOS is cut


def test_rows_of_a_stream_are_found_counted_and_refused_as_they_come(caplog):
    data = list(
        rows(
            SHORT,
            LONG,
            SHORT,
            LONG,
            f"right. {MARKER} 7",
        )
    )
    stream = ScoreRows(SPACE, "train", 17, "keep_start").prepare(IterableDataset.from_generator(lambda: iter(data)))
    with caplog.at_level(logging.WARNING):
        got = list(stream.take(3))
    assert [row["score_position"] for row in got] == [15, NO_SCORE, 15]
    (line,) = [record.message for record in caplog.records]  # at the first, the tenth, …
    assert "1 of 2 rows of the train stream so far, the last of them row 1, lost their score" in line
    with pytest.raises(ValueError, match="no score after the marker .* in row 4 of the stream, which ends .* 7"):
        list(stream)


def test_a_row_that_teaches_nothing_is_refused():
    masked = {"input_ids": PROMPT_IDS, "labels": [-100] * len(PROMPT_IDS)}
    data = Dataset.from_list([*rows(SHORT), masked])
    with pytest.raises(ValueError, match="train dataset: row 1 has no token to learn: its completion is empty"):
        prepared(data, None)


def test_a_mode_that_is_none():
    with pytest.raises(ValueError, match="truncation_mode: got 'middle'. Set it to keep_start or keep_end"):
        ScoreRows(SPACE, "train", 16, "middle")


@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_trainer_cuts_and_shuffles_as_trl_does(tmp_path, mode, shuffle):
    texts = [f" {'right. ' * i}{MARKER} {1 + i % 5}" for i in range(8)]
    columns = {
        "prompt": ["\n".join([PROMPT, *LINES])] * 8,
        "completion": texts,
        "score": [1.0 + i % 5 for i in range(8)],
    }
    options = {"bf16": False, "use_cpu": True, "report_to": "none", "max_length": 36, "truncation_mode": mode}
    got = []
    for trainer, config in ((RAFTTrainer, RAFTConfig), (SFTTrainer, SFTConfig)):
        args = config(str(tmp_path), **options, shuffle_dataset=shuffle)
        made = trainer(build_model(), args, train_dataset=Dataset.from_dict(columns), processing_class=TOKENIZER)
        got.append([made.train_dataset[name][:] for name in ("input_ids", "labels")])
    assert got[0] == got[1] and max(map(len, got[0][0])) == 36
