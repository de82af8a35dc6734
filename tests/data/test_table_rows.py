# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Columns of Parquet files and datasets of every type, read as what they say."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDatasetDict, List, Value

from real_trl.data.arguments import DataArguments
from real_trl.data.files import read_file
from real_trl.data.loading import load_judge_dataset
from real_trl.data.table_rows import check_one_split, class_names, features_of, iterate_table, reader_of, take
from real_trl.scale import Scale

DIGITS = Scale.parse("1-5")
WORDS = Scale.parse("poor,fair,good", [1, 2, 4])
PROMPTS = [f"Judge {letter}." for letter in "ABC"]
CODED = ClassLabel(names=["5", "4", "3", "2", "1"])  # whose codes are on the scale as well


def load(path, scale=DIGITS, split=None, **options):
    return load_judge_dataset(DataArguments(str(path), **options), split, scale=scale)


def parquet(folder, **columns):
    path = folder / "data.parquet"
    pq.write_table(pa.table({"prompt": PROMPTS, **columns}), path)
    return path


def labelled(column, feature):
    """A dataset with a column of this feature beside the prompts."""
    return Dataset.from_dict(
        {"prompt": PROMPTS, "score": column}, features=Features({"prompt": Value("string"), "score": feature})
    )


# --- scores

SAYING_421 = {
    "decimal": pa.array([Decimal("4.00"), Decimal("2.00"), Decimal("1.00")]),
    "decimal256": pa.array([Decimal(4), Decimal(2), Decimal(1)], pa.decimal256(50, 2)),
    "dictionary of texts": pa.array(["4", "2", "1"]).dictionary_encode(),
    "dictionary of numbers": pa.DictionaryArray.from_arrays([0, 1, 2], pa.array([4, 2, 1])),
    "large_string": pa.array(["4", "2.0", "1"], pa.large_string()),
    "string_view": pa.array(["4", " 2", "1"], pa.string_view()),
    "uint8": pa.array([4, 2, 1], pa.uint8()),
    "half": pa.array(np.array([4, 2, 1], np.float16)),
}


@pytest.mark.parametrize("kind", SAYING_421)
def test_scores_are_what_the_column_says(tmp_path, kind):
    assert load(parquet(tmp_path, score=SAYING_421[kind]))["score"][:] == [4, 2, 1]


@pytest.mark.parametrize("scale", ["1-5:0.1", "0.3-3.3:0.1"])
def test_single_precision_is_no_other_number(tmp_path, scale):
    scores = pa.array([3.3, 1.7, 0.3 if scale.startswith("0") else 1.1], pa.float32())
    path = parquet(tmp_path, score=scores)
    assert load(path, Scale.parse(scale))["score"][:] == scores.to_numpy().astype(str).astype(float).tolist()
    assert load(path, Scale.parse(scale), raters="histogram")["score"][0] == pytest.approx(3.3)


@pytest.mark.parametrize("how", ["parquet", "saved", "saved splits"])
def test_classes_are_their_names(tmp_path, how):
    dataset = labelled(["4", "2", "1"], CODED)
    assert dataset.data.column("score").to_pylist() == [1, 3, 4]  # codes
    path = tmp_path / "data.parquet"
    if how == "parquet":
        dataset.to_parquet(path)
    else:
        path = tmp_path / "data"
        (dataset if how == "saved" else DatasetDict(train=dataset)).save_to_disk(path)
    assert load(path)["score"][:] == [4, 2, 1]
    assert load(path, keep_columns=["score"], group_column="score")["group"][:] == ["4", "2", "1"]


def test_words_of_classes_are_labels(tmp_path):
    labelled(["good", "poor", "fair"], ClassLabel(names=["poor", "fair", "good"])).to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", WORDS)["score"][:] == [4, 1, 2]


def test_a_name_that_is_no_label_is_refused_and_the_classes_are_named(tmp_path):
    labelled(["good", "bad", "good"], ClassLabel(names=["bad", "good"])).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(
        ValueError, match="row 1: score_column 'score' holds 'bad', .* ClassLabel of the names bad, good"
    ):
        load(tmp_path / "a.parquet", WORDS)
    labelled(["0", "1", "1"], ClassLabel(names=["0", "1"])).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(
        ValueError, match="row 0: .* holds '0', which is outside the scale .* ClassLabel of the names 0, 1"
    ):
        load(tmp_path / "b.parquet")


def test_a_missing_class_is_missing(tmp_path):
    labelled([1, -1, None], CODED).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"row 1, row 2: score_column 'score' is missing"):
        load(tmp_path / "a.parquet")


def test_several_raters_in_classes_decimals_and_dictionaries(tmp_path):
    labelled([["4", "1"], ["2"], ["5", "5"]], List(CODED)).to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet")["score"][:] == [2.5, 2, 5]
    path = parquet(
        tmp_path,
        a=pa.array([Decimal(4), Decimal(2), Decimal(5)]),
        b=pa.array(["1", "2", "5"]).dictionary_encode(),
    )
    assert load(path, score_column="a,b", raters="histogram")["score_histogram"][0] == [0.5, 0, 0, 0.5, 0]


@pytest.mark.parametrize(
    "votes",
    [
        pa.array([[Decimal(0), Decimal(1), Decimal(0), Decimal(3), Decimal(0)]] * 3),
        pa.array([[("4", 3), ("2", 1)]] * 3, pa.map_(pa.string(), pa.int64())),
        pa.array([{"4": Decimal(3), "2": Decimal(1), "1": None}] * 3),
    ],
    ids=["decimals", "map", "struct"],
)
def test_histograms(tmp_path, votes):
    dataset = load(parquet(tmp_path, votes=votes), histogram_column="votes")
    assert dataset["score_histogram"][0] == [0, 0.25, 0, 0.75, 0] and dataset["score"][0] == 3.5


def test_enums_of_parquet(tmp_path):
    """As Avro and Protobuf write them. Arrow writes none, so that a column of texts is turned into one in the file's footer."""
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"prompt": PROMPTS, "score": ["4", "2", "1"]}), path, store_schema=False)
    utf8, string = b"\x25\x00", b"\x4c\x1c\x00\x00"  # converted type 0, and logical type 1, which follow the name
    data = path.read_bytes()
    assert data.count(b"score" + utf8 + string) == 1
    path.write_bytes(data.replace(b"score" + utf8 + string, b"score\x25\x08\x4c\x4c\x00\x00"))  # types 4 and 4
    assert pq.read_table(path).schema.field("score").type == pa.binary()
    assert load(path)["score"][:] == [4, 2, 1]


def test_nullable_columns_of_pandas(tmp_path):
    frame = pd.DataFrame(
        {"prompt": PROMPTS, "score": pd.array([4, 2, None], "Int64"), "ok": pd.array([True, None, False])}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"1 of 3 rows .*\n  row 2: score_column 'score' is missing"):
        load(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"row 0: score_column 'ok' holds True, which is not a number"):
        load(tmp_path / "a.parquet", score_column="ok")
    assert load(tmp_path / "a.parquet", max_rows=2)["score"][:] == [4, 2]
    frame = pd.DataFrame({"prompt": PROMPTS, "score": pd.Categorical(["4", "2", "4"], ["2", "4"], ordered=True)})
    frame.to_parquet(tmp_path / "b.parquet")
    assert load(tmp_path / "b.parquet")["score"][:] == [4, 2, 4]


# --- columns that nothing needs, and fields of prompts

EXOTIC = {
    "map": pa.array([[("k", "v")], [], None], pa.map_(pa.string(), pa.string())),
    "uuid": pa.array([b"0123456789abcdef"] * 3, pa.uuid()),
    "binary": pa.array([b"\xff", b"a", None]),
    "structs": pa.array([[{"a": 1}], [], None]),
    "zoned": pa.array([datetime.datetime(2026, 1, 1), None, None], pa.timestamp("ns", "Europe/Paris")),
    "duration": pa.array([datetime.timedelta(1), None, None], pa.duration("us")),
    "json": pa.array(['{"a": 1}', "3", None], pa.json_(pa.string())),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, 1], pa.int8())),
    "list_view": pa.array([[1], [2], None], pa.list_view(pa.int64())),
    "dictionaries": pa.ListArray.from_arrays([0, 1, 2, 3], pa.array(["a", "b", "a"]).dictionary_encode()),
    "period": pa.array(pd.period_range("2020", periods=3, freq="Y")),
    "nothing": pa.nulls(3),
}


@pytest.mark.parametrize("kind", EXOTIC)
def test_columns_that_nothing_needs_do_not_matter(tmp_path, kind):
    path = parquet(tmp_path, score=[4, 2, 1], response=["a", "b", "c"], meta=EXOTIC[kind])
    assert load(path)["score"][:] == [4, 2, 1]
    (tmp_path / "own.jinja").write_text("{{ response }}? So the overall score is")  # a template may read any column
    options = {"prompt_template": str(tmp_path / "own.jinja"), "holdout_fraction": 0.4}
    assert len(load(path, split="test", **options)) == 1 and len(load(path, **options)) == 2


def test_what_exotic_cells_say():
    table = pa.table({**EXOTIC, "none": pa.nulls(3)})
    first, second, third = iterate_table(table)
    assert first["map"] == {"k": "v"} and second["map"] == {} and third["map"] is None
    assert (
        first["uuid"] == "30313233-3435-3637-3839-616263646566" and first["json"] == {"a": 1} and second["json"] == 3
    )
    assert (
        first["bool8"] is True
        and first["list_view"] == [1]
        and first["dictionaries"] == ["a"]
        and first["none"] is None
    )
    doubled = pa.table({"map": pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))})
    assert list(iterate_table(doubled)) == [{"map": [["a", 1], ["a", 2]]}]  # neither is lost


def test_fields_of_a_prompt_are_what_they_say(tmp_path):
    (tmp_path / "own.jinja").write_text("{{ response }}|{{ kind }}|{{ price }}|{{ share }}. So the overall score is")
    path = parquet(
        tmp_path,
        score=[4, 2, 1],
        response=pa.array(["a", "b", "c"]).dictionary_encode(),
        price=pa.array([Decimal("1.50")] * 3),
        share=pa.array([0.1] * 3, pa.float32()),
    )
    table = pq.read_table(path)
    kinds = Dataset.from_dict({"kind": [1, 0, 1]}, features=Features({"kind": ClassLabel(names=["essay", "poem"])}))
    both = Dataset(table.drop_columns("response")).add_column("kind", [1, 0, 1])
    both = both.cast_column("kind", kinds.features["kind"]).add_column("response", ["a", "b", "c"])
    both.to_parquet(path)
    prompts = load(path, prompt_template=str(tmp_path / "own.jinja"))["prompt"][:]
    assert prompts[0].startswith("a|poem|1.50|0.1.") and prompts[1].startswith("b|essay|")


# --- names of columns


def test_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table([pa.array(["a"]), pa.array([1]), pa.array([5])], names=["prompt", "score", "score"]), path)
    with pytest.raises(ValueError, match="a.parquet: the column name 'score' occurs twice in .*Rename one"):
        load(path)


@pytest.mark.parametrize("extension", ["csv", "jsonl", "json", "parquet"])
def test_blanks_and_byte_order_marks_around_names_do_not_matter(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    if extension == "csv":
        path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfprompt, score ,kind\r\nJudge A., 4,x\r\nJudge B.,2,y\r\n")
    elif extension == "parquet":
        pq.write_table(
            pa.table({"\ufeffprompt": ["Judge A.", "Judge B."], " score ": [4, 2], "kind": ["x", "y"]}), path
        )
    else:
        rows = ['{"prompt": "Judge A.", " score ": 4, "kind": "x"}', '{"prompt": "Judge B.", "score": 2, "kind": "y"}']
        text = "\r\n".join(rows) if extension == "jsonl" else f"[{', '.join(rows)}]"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(path, keep_columns=["kind"]).to_dict() == {
        "prompt": ["Judge A.", "Judge B."],
        "score": [4, 2],
        "kind": ["x", "y"],
    }
    assert load(path, score_column=" score")["score"][:] == [4, 2]


@pytest.mark.parametrize("extension", ["jsonl", "json"])
def test_two_values_under_one_name_are_refused(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    row = '{"prompt": "Judge A.", "score": 4, "score": 2}'
    path.write_text(row if extension == "jsonl" else f"[{row}]")
    with pytest.raises(ValueError, match="'score' occurs twice in one object, with 4 and 2"):
        load(path)
    path.write_text(row.replace("2", "4") if extension == "jsonl" else f"[{row.replace('2', '4')}]")
    assert load(path)["score"][:] == [4]  # says one thing


@pytest.mark.parametrize("extension", ["jsonl", "json"])
def test_half_a_character_is_replaced(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    row = r'{"prompt": "A \ud83d b", "score": 4, "feedback": "\ude00 c", "kind": "\ud83d", "id": "x\udc00"}'
    path.write_text(row if extension == "jsonl" else f"[{row}]")
    dataset = load(path, keep_columns=["kind"], id_column="id")
    assert dataset[0] == {
        "prompt": "A \ufffd b",
        "score": 4,
        "feedback": "\ufffd c",
        "id": "x\ufffd",
        "kind": "\ufffd",
    }


# --- sources


def test_splits_that_were_saved(tmp_path):
    rows = labelled([4, 3, 2], Value("int64"))
    DatasetDict(train=rows, test=rows.select([0])).save_to_disk(tmp_path / "both")
    assert load(tmp_path / "both", split="test")["score"][:] == [4]
    with pytest.raises(
        ValueError, match="split 'valid' is unknown: .* a DatasetDict of the splits 'train', 'test'. Name one"
    ):
        load(tmp_path / "both", split="valid")
    rows.select([2, 0]).save_to_disk(tmp_path / "one")
    assert load(tmp_path / "one")["score"][:] == load(tmp_path / "one", split="all")["score"][:] == [2, 4]
    with pytest.raises(ValueError, match="split 'test' is unknown: .*'train' and 'all'"):
        load(tmp_path / "one", split="test")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="written by save_to_disk, but it cannot be read"):
        load(tmp_path / "one")


def test_several_splits_are_not_one_dataset():
    rows = labelled([4, 3, 2], Value("int64"))
    streams = IterableDatasetDict(train=rows.to_iterable_dataset())
    for several in (DatasetDict(train=rows, dev=rows), {"train": rows, "dev": rows}, streams):
        with pytest.raises(ValueError, match="data: got a .*ict of the splits 'train'.* Choose one"):
            check_one_split(several, "data")
    for one in (rows, rows.to_iterable_dataset(), {"prompt": "a"}, {}, [], None):
        check_one_split(one, "data")


def test_rows_of_streams_and_tables():
    dataset = labelled(["4", "2", "1"], CODED)
    read = reader_of(features_of(dataset.to_iterable_dataset()))
    assert [read(row)["score"] for row in dataset.to_iterable_dataset()] == ["4", "2", "1"]
    assert (
        class_names(List(CODED)) == class_names({"a": [CODED]}) == CODED.names and class_names(Value("int8")) is None
    )
    shuffled = dataset.select([2, 0])
    assert [row["score"] for row in iterate_table(shuffled, ["score"])] == ["1", "4"]
    assert [row["score"] for row in iterate_table(take(dataset.data.table, [1, 0]), ["score"])] == ["2", "4"]


def test_a_column_that_cannot_be_read_is_named(tmp_path):
    path = parquet(
        tmp_path, score=[4, 2, 1], far=pa.array([10**13] * 3, pa.timestamp("s"))
    )  # a year that Python has not
    assert load(path)["score"][:] == [4, 2, 1]
    with pytest.raises(ValueError, match="data.parquet: the column 'far' cannot be read as timestamp"):
        list(read_file(path).iterate())
    code = Dataset(pa.table({"score": [7]})).cast_column("score", Value("int64"))
    with pytest.raises(ValueError, match="'score' holds the code 7, of which its ClassLabel .* knows no name"):
        list(iterate_table(code, features={"score": CODED}))
