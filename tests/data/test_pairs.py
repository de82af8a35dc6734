# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows that say which of two responses is better."""

import pytest

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.data.pairs import PAIR_COLUMNS
from real_trl.option_values import FieldError
from tests.data.test_loading import DIGITS, load, write

TEXTS = {
    "prompt_template": "direct",
    "columns": {"instruction": "prompt", "rubric": "ask"},
    "pair_columns": ["chosen", "rejected"],
}
ASK = "Is it right?"
ROWS = [
    {"prompt": "2+2?", "ask": ASK, "chosen": "It is four.", "rejected": "It is five."},
    {"prompt": "3+3?", "ask": ASK, "chosen": "Six!", "rejected": "Seven."},
]


def pairs(path, **options):
    args = DataArguments(
        dataset_name=path, dataset_test_split="all", dataset_train_split="all", **{**TEXTS, **options}
    )
    return load_judge_dataset(args, scale=DIGITS, pairs=True)


def test_chosen_and_rejected(tmp_path):
    dataset = pairs(write(tmp_path / "rows.jsonl", ROWS))
    assert dataset.column_names == list(PAIR_COLUMNS)
    assert dataset["preference"][:] == [1.0, 1.0]
    for row, given in zip(dataset, ROWS, strict=True):
        assert given["chosen"] in row["prompt"] and given["rejected"] not in row["prompt"]
        assert row["prompt"].replace(given["chosen"], given["rejected"]) == row["other_prompt"]


def test_conversations(tmp_path):
    rows = [
        {"ask": ASK}
        | {
            side: [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
            for side in ("chosen", "rejected")
        }
        for row in ROWS
    ]
    options = {
        "pair_columns": "chosen.response, rejected.response",
        "columns": {"instruction": "chosen.instruction", "rubric": "ask"},
    }
    assert pairs(write(tmp_path / "rows.jsonl", rows), **options)[:] == pairs(write(tmp_path / "b.jsonl", ROWS))[:]


SAID = {
    1.0: ["a", "A", "first_answer", "1", 1, "model_a"],
    0.0: ["b", "SECOND_ANSWER", "2", 2, 2.0, "response_b"],
    0.5: ["tie", "Tie (both bad)", "C", "draw"],
    0.25: [0.25],
}


@pytest.mark.parametrize(("preference", "said"), [(w, text) for w, texts in SAID.items() for text in texts], ids=str)
def test_what_preferences_may_be_called(tmp_path, preference, said):
    rows = [{"q": "2+2?", "ask": ASK, "first_answer": "4", "second_answer": "5", "winner": said}]
    options = {
        "columns": {"instruction": "q", "rubric": "ask"},
        "pair_columns": ["first_answer", "second_answer"],
        "preference_column": "winner",
    }
    assert pairs(write(tmp_path / "rows.jsonl", rows), **options)["preference"][:] == [preference]


@pytest.mark.parametrize("extension", [".jsonl", ".csv"])
@pytest.mark.parametrize("shares", [[0.33, 0, 1], [0, 0.5, 1], [0.0, 0.75]], ids=str)
def test_shares_of_raters(tmp_path, shares, extension):
    rows = [{**ROWS[i % 2], "share": share} for i, share in enumerate(shares)]
    assert pairs(write(tmp_path / f"rows{extension}", rows), preference_column="share")["preference"][:] == shares


@pytest.mark.parametrize(
    ("names", "said", "preferences"),
    [
        # PKU-SafeRLHF's better_response_id
        (["response_0", "response_1"], [0, 1, 1.0, "tie", "response_0"], [1.0, 0.0, 0.0, 0.5, 1.0]),
        (["response_1", "response_0"], [0, "1"], [0.0, 1.0]),
        (["response_1", "response_0"], [1, 1], [1.0, 1.0]),
        (["response_2", "response_1"], [1, 2, "first"], [0.0, 1.0, 1.0]),
        (["response_b", "response_a"], ["response_a", "A", "model_b", "Response_B"], [0.0, 0.0, 1.0, 1.0]),
        (["output_b", "output_a"], ["model_a", "b"], [0.0, 1.0]),
        (["b", "first"], ["b", "first"], [1.0, 0.0]),
        (["response_0", "response_1"], [0.25, 0, 1], [0.25, 0.0, 1.0]),
        (["answer_10", "answer_11"], ["answer_11", 2, 1], [0.0, 0.0, 1.0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("extension", [".jsonl", ".csv"])
def test_the_users_own_names_go_before_others(tmp_path, names, said, preferences, extension):
    rows = [{"q": f"{i}?", "ask": ASK, names[0]: "4", names[1]: "5", "winner": each} for i, each in enumerate(said)]
    options = {"columns": {"instruction": "q", "rubric": "ask"}, "pair_columns": names, "preference_column": "winner"}
    assert pairs(write(tmp_path / f"rows{extension}", rows), **options)["preference"][:] == preferences


@pytest.mark.parametrize("extension", [".jsonl", ".csv"])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["chosen", "rejected"], [0, 1, 1]),
        (["response_a", "response_b"], [0.0, 1.0]),
        (["response_1", "response_2"], [0, 0]),
        (["response_0", "response_1"], [0, 0.5, 1]),
    ],
    ids=str,
)
def test_an_index_that_may_be_a_share_is_refused(tmp_path, names, said, extension):
    rows = [{"q": f"{i}?", "ask": ASK, names[0]: "4", names[1]: "5", "winner": each} for i, each in enumerate(said)]
    options = {"columns": {"instruction": "q", "rubric": "ask"}, "pair_columns": names, "preference_column": "winner"}
    with pytest.raises(FieldError, match=f"'winner' holds only 0.* Write .*: '{names[0]}' or '{names[1]}'") as error:
        pairs(write(tmp_path / f"rows{extension}", rows), **options)
    assert error.value.field == "preference_column"


def test_of_shares_the_empty_one_is_named(tmp_path):
    rows = [{**ROWS[i % 2], "share": share} for i, share in enumerate([0.25, None, 1])]
    with pytest.raises(ValueError, match="1 of 3 rows .*\n.*row 1 .*holds None"):
        pairs(write(tmp_path / "rows.jsonl", rows), preference_column="share")


def test_ones_and_twos_are_names(tmp_path):
    rows = [{**ROWS[i % 2], "winner": said} for i, said in enumerate([1, 1, 2])]
    assert pairs(write(tmp_path / "rows.jsonl", rows), preference_column="winner")["preference"][:] == [1, 1, 0]


@pytest.mark.parametrize("said", ["", "0", 0, 3, "neither of them", None, -0.5, float("nan")], ids=str)
def test_a_preference_that_says_nothing_is_refused_with_its_row(tmp_path, said):
    rows = [{**ROWS[0], "winner": "chosen"}, {**ROWS[1], "winner": said}]
    with pytest.raises(ValueError, match=r"row 1 .*preference_column 'winner' holds .*Write 'chosen' or 'rejected'"):
        pairs(write(tmp_path / "rows.jsonl", rows), preference_column="winner")


def test_keys_and_kept_columns(tmp_path):
    rows = [{**row, "key": f"k{i}", "topic": "sums"} for i, row in enumerate(ROWS)]
    dataset = pairs(write(tmp_path / "a.jsonl", rows), id_column="key", group_column="topic", keep_columns=["key"])
    assert (dataset["id"][:], dataset["group"][:], dataset["key"][:]) == (["k0", "k1"], ["sums"] * 2, ["k0", "k1"])


def test_the_same_response_twice_cannot_be_better(tmp_path):
    rows = [{**ROWS[0], "rejected": "It is four.", "winner": "chosen"}]
    path = write(tmp_path / "rows.jsonl", rows)
    with pytest.raises(ValueError, match="hold the same response, of which one is said to be better"):
        pairs(path)
    path = write(tmp_path / "ties.jsonl", [{**rows[0], "winner": "tie"}])
    assert pairs(path, preference_column="winner")["preference"][:] == [0.5]


@pytest.mark.parametrize(
    ("changed", "field", "text"),
    [
        ({"pair_columns": ["chosen"]}, "pair_columns", "Name two columns"),
        ({"pair_columns": ["chosen", "chosen"]}, "pair_columns", "Name two columns"),
        ({"pair_columns": ["chosen", "other"]}, "pair_columns", "'other' is not a column"),
        ({"pair_columns": None, "preference_column": "winner"}, "preference_column", "Set pair_columns"),
        ({"prompt_template": None, "columns": None}, "prompt_template", "Set it"),
        ({"columns": {"instruction": "prompt", "rubric": "ask", "response": "chosen"}}, "columns", "Remove response"),
        ({"score_column": "score"}, "score_column", "whose rows have no score"),
        ({"preference_column": "winner"}, "preference_column", "'winner' is not a column"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, changed, field, text):
    with pytest.raises(FieldError, match=text) as error:
        pairs(write(tmp_path / "rows.jsonl", ROWS), **changed)
    assert error.value.field == field


def test_where_scores_are_needed_pairs_are_refused_and_the_other_way_round(tmp_path):
    path = write(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(FieldError, match="scores are needed here, not preferences"):
        load(path, **TEXTS)
    with pytest.raises(FieldError, match="preferences between two responses are trained on"):
        pairs(path, pair_columns=None)
