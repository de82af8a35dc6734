# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files of delimited text: separated by commas, semicolons (as spreadsheets write them in half of Europe) or tabs."""

import csv
import io
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from real_trl.text.cells import column_names
from real_trl.text.encodings import decode
from real_trl.text.shown import has_columns, original_cell

_SEPARATORS = (",", ";", "\t", "|")
_NAMES = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}
_RECORDS_LOOKED_AT = 50
_STATED = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # Excel's own first line
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+(?:,\d+)?\s*")


def read_delimited(path: Path, quoted: Sequence[str]) -> tuple[list[dict[str, Any]], list[int], list[str], bool]:
    """
    Read a file of text with a line of column names. All values are text.

    The separator is the one that gives the first records the same number of values, more than one and as many as possible. In a
    column of numbers with a decimal comma this becomes a point, unless commas separate.

    Args:
        quoted (`Sequence[str]`):
            In a file with all of these columns, text that begins as a formula has an apostrophe before it, which is taken off.

    Returns:
        `tuple`: the rows, the line of each, what the user should know, and whether commas in numbers may be decimal ones.

    Raises:
        `ValueError`: naming the line, if the file is corrupt or no text.
    """
    try:
        text, note = decode(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    notes = [note] if note else []
    limit = csv.field_size_limit(sys.maxsize)  # the default, 128 KiB, is less than a long prompt
    try:
        separator = _separator(text, "\t" if path.suffix.lower() == ".tsv" else ",")
        rows, lines = _read(path, text, separator, quoted)
    finally:
        csv.field_size_limit(limit)
    if separator != ",":
        if path.suffix.lower() != ".tsv":
            notes.append(f"its columns are separated by {_NAMES.get(separator, repr(separator))}")
        if points := decimal_points(rows):
            notes.append(f"decimal commas are read as points in {', '.join(map(repr, points))}")
    return rows, lines, notes, separator != ","


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The records that hold something, each with its first line."""
    stated = _STATED.match(text)
    first = 1 if stated else 0
    reader = csv.reader(
        io.StringIO(text[stated.end() if stated else 0 :], newline=""), delimiter=separator, strict=True
    )
    start = 1
    try:
        for record in reader:
            if record:
                yield first + start, record
            start = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(f"line {first + start}: not valid CSV ({error})") from error


def _separator(text: str, usual: str) -> str:
    if stated := _STATED.match(text):
        return stated[1]
    widths = {}
    for separator in sorted(_SEPARATORS, key=lambda each: each != usual):
        counts = []
        try:
            counts += [len(record) for _, record in islice(_records(text, separator), _RECORDS_LOOKED_AT)]
        except csv.Error:
            counts.append(0)
        widths[separator] = counts or [0]
    even = {separator: counts[0] for separator, counts in widths.items() if len(set(counts)) == 1 and counts[0] > 1}
    # Where none is even, a line is broken: said of the separator that the names are separated by
    return max(even or widths, key=lambda separator: even.get(separator) or _width(text, separator))


def _width(text: str, separator: str) -> int:
    try:
        return len(next(_records(text, separator))[1])
    except (csv.Error, StopIteration):
        return 0


def _read(path: Path, text: str, separator: str, quoted: Sequence[str]) -> tuple[list[dict[str, Any]], list[int]]:
    rows, lines, header, formulas = [], [], None, False
    try:
        for line, record in _records(text, separator):
            if header is None:
                names = list(map(original_cell, record))
                formulas = has_columns(names, quoted)
                try:
                    header = column_names(names if formulas else record)
                except ValueError as error:
                    raise ValueError(f"{path}, line {line}: {error}") from error
                continue
            if len(record) != len(header):
                raise ValueError(
                    f"{path}, line {line}: {len(record)} values for the {len(header)} columns {header}. Fix the line."
                )
            rows.append(dict(zip(header, map(original_cell, record) if formulas else record, strict=True)))
            lines.append(line)
    except csv.Error as error:
        raise ValueError(f"{path}, {error}. Fix the file.") from error
    return rows, lines


def decimal_points(rows: list[dict[str, Any]], na: Collection[str] = ()) -> list[str]:
    """
    Writes numbers with a point in the columns that have a comma and hold nothing else but empty cells and the texts `na`; returns these
    columns.
    """
    columns = []
    for column in rows[0] if rows else ():
        numbers = [row for row in rows if (cell := (row.get(column) or "").strip()) and cell not in na]
        commas = any("," in row[column] for row in numbers)
        if commas and all(_DECIMAL_COMMA.fullmatch(row[column]) for row in numbers):
            columns.append(column)
            for row in numbers:
                row[column] = row[column].replace(",", ".")
    return columns
