# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a cell says, whoever wrote the table."""

import json
import math
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from real_trl.scale import Scale, as_number
from real_trl.text.cells import as_json, column_names, is_empty, is_missing, plain, plain_row
from real_trl.text.json_text import to_json


class Grade(str, Enum):  # noqa: UP042, whose text is 'Grade.GOOD'
    GOOD = "good"


class Points(Enum):
    FOUR = 4


GAPS = [
    None,
    math.nan,
    np.nan,
    np.float32("nan"),
    Decimal("NaN"),
    Decimal("sNaN"),
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    np.ma.masked,
]


@pytest.mark.parametrize("gap", GAPS, ids=repr)
def test_gaps_of_all_kinds_are_missing(gap):
    assert is_missing(gap) and is_empty(gap) and plain(gap) is None and math.isnan(as_number(gap))


@pytest.mark.parametrize(
    "value", ["", " ", 0, 0.0, False, Decimal(0), [], {}, [math.nan], "nan", math.inf, pd.Timestamp(0)]
)
def test_what_is_there_is_not_missing(value):
    assert not is_missing(value) and is_empty(value) is (isinstance(value, str) and not value.strip())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.int64(4), 4),
        (np.bool_(True), True),
        (np.float32(3.3), 3.3),  # 3.299999952316284 in double precision
        (np.float16(0.1), 0.1),
        (np.float64(3.3), 3.3),
        (np.str_("a"), "a"),
        (Grade.GOOD, "good"),
        (Points.FOUR, 4),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.array([1.5, 2], np.float32), [1.5, 2.0]),
        (np.array(3), 3),
        ((1, [Points.FOUR]), [1, [4]]),
        ({Grade.GOOD: np.int8(3)}, {"good": 3}),
        (np.datetime64("2026-01-02", "ns"), pd.Timestamp("2026-01-02")),
        (np.timedelta64(4, "ns"), pd.Timedelta(4)),
        ("half \ud83d of one", "half \ufffd of one"),
        (["\ud83d\ude00"], ["\U0001f600"]),
    ],
)
def test_cells_in_pythons_own_types(value, said):
    got = plain(value)
    assert got == said and type(got) is type(said)


def test_within_a_list_nan_is_no_gap():
    assert [math.isnan(item) for item in plain([math.nan, pd.NA, np.float32("nan")])] == [True] * 3
    assert plain([None]) == [None]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Decimal("4.0"), 4.0),
        (np.float32(3.3), 3.3),
        (np.int64(4), 4.0),
        (Points.FOUR, 4.0),
        (" 4.5 ", 4.5),
        ("1e1", 10.0),
    ],
)
def test_a_number_is_a_number(value, number):
    assert as_number(value) == number


@pytest.mark.parametrize(
    "value",
    [True, np.True_, "true", "4_5", "four", [4], b"4", Grade.GOOD, 10**400, timedelta(4), np.timedelta64(4, "ns")],
)
def test_what_is_no_number(value):
    assert math.isnan(as_number(value))


def test_a_scale_reads_labels_and_numbers():
    words, digits = Scale.parse("poor,fair,good", [1, 2, 4]), Scale.parse("1-5")
    assert [words.read(cell) for cell in ("fair", " good", 2, Decimal(4), "2.5", Grade.GOOD)] == [2, 4, 2, 4, 2.5, 4]
    assert [digits.read(cell) for cell in ("4", "4.0", 4, 3.5, 9)] == [4, 4, 4, 3.5, 9]
    assert all(math.isnan(words.read(cell)) for cell in ("bad", True, None, ""))


def test_labels_that_look_like_other_numbers_are_what_text_means():
    scale = Scale.parse("1-5", [0, 0.25, 0.5, 0.75, 1])
    # In a file of text "1" is the label, worth 0; so are "1.0" and " 1", and "0.75" is no label
    assert [scale.read(cell) for cell in ("1", "1.0", " 5")] == [0, 0, 1]
    assert math.isnan(scale.read("0.75")) and scale.read(0.75) == 0.75 and scale.read(1) == 1


def test_names_of_columns_are_without_blanks():
    assert plain_row({" score ": 4, "\ufeffprompt": "a", 3: pd.NA}) == {"score": 4, "prompt": "a", "3": None}
    with pytest.raises(ValueError, match="'score' occurs twice in .* Rename one"):
        column_names(["score", "score "])


def test_json_of_what_has_none():
    row = {"a": Decimal("4.0"), "b": Decimal("0.1"), "d": date(2026, 1, 2), "e": timedelta(days=1)}
    assert json.loads(to_json(row, default=as_json)) == {"a": 4, "b": 0.1, "d": "2026-01-02", "e": "P1DT0H0M0S"}
    # No number of JSON is that exact
    assert to_json(Decimal("0.12345678901234567890"), default=as_json) == '"0.12345678901234567890"'
    with pytest.raises(TypeError, match="a bytes is no JSON"):
        to_json([b"a"], default=as_json)
