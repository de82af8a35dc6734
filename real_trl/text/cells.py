# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a cell of a table says, in Python's own types, whoever wrote the table: missing values, numpy, enums, decimals."""

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from real_trl.text.unicode import well_formed

_PLAIN = frozenset({int, bool, type(None)})
_NEVER_MISSING = frozenset({str, int, bool, list, dict})
_MAY_BE_NAN = (float, np.floating, np.complexfloating, np.datetime64, np.timedelta64)


def is_missing(value: Any) -> bool:
    """Whether a cell holds no value: `None`, NaN of any type of number, pandas' `NA` and `NaT`, numpy's `NaT` and `masked`."""
    if type(value) in _NEVER_MISSING:
        return False
    if isinstance(value, Decimal):
        return value.is_nan()
    if isinstance(value, _MAY_BE_NAN):
        return bool(value != value)
    return value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked


def is_empty(value: Any) -> bool:
    """Whether a cell is missing, or blank text, which is how files of text write it."""
    return is_missing(value) or (isinstance(value, str) and not value.strip())


def plain(value: Any) -> Any:
    """
    A cell, and whatever is in it, in Python's own types: a missing one is `None`, numpy's numbers and arrays are numbers and lists,
    a member of an `Enum` is its value, a UUID is text, and text is [`~real_trl.text.unicode.well_formed`]. Within a list or a mapping NaN
    stays NaN, which is no gap there.

    A number in half or single precision is the shortest decimal that it is the nearest number to: 3.3, not 3.299999952.
    """
    return None if is_missing(value) else _converted(value)


def _converted(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if type(value) is str:
        return well_formed(value)
    if is_missing(value):
        return math.nan
    if isinstance(value, Enum):
        return _converted(value.value)
    if isinstance(value, (np.float16, np.float32)):
        return float(str(value))
    if isinstance(value, (np.datetime64, np.timedelta64)):  # whose `item` may be a number of nanoseconds
        return pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (str, UUID)):
        return well_formed(str(value))
    if isinstance(value, Mapping):
        return {_converted(key): _converted(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and not value.ndim:
        return _converted(value.item())
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_converted(item) for item in value]
    return value


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose cells are [`plain`], under [`column_names`]."""
    return dict(zip(column_names(row), map(plain, row.values()), strict=True))


def column_names(names: Iterable[Any]) -> list[str]:
    """
    The names of columns without the blanks, and marks of the byte order, around them.

    Raises:
        ValueError: if two columns have the same name.
    """
    names = list(names)
    clean = [well_formed(str(name)).strip(" \t\r\n\ufeff") for name in names]
    if len(set(clean)) < len(clean):
        twice = next(name for name in clean if clean.count(name) > 1)
        raise ValueError(f"the column name {twice!r} occurs twice in {names}. Rename one.")
    return clean


def as_json(value: Any) -> Any:
    """
    What [`~real_trl.text.json_text.to_json`] is to write for a value that is no JSON (its `default`): a decimal as a number if that is exact,
    times and durations as in ISO 8601.

    Raises:
        TypeError: for anything else.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            return float(value)  # which no JSON has either
        number = int(value) if value == value.to_integral_value() else float(value)
        return number if Decimal(str(number)) == value else str(value)
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return pd.Timedelta(value).isoformat()
    raise TypeError(f"a {type(value).__name__} is no JSON: {value!r:.60}")
