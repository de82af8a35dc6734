# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What others wrote, where it is shown: no terminal obeys it, and no spreadsheet calculates it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# C0 but for tab and line feed, DEL, C1, line and paragraph separators, marks that change the direction, halves of characters. A
# carriage return before a line feed only ends the line
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_FORMULA = re.compile(r"'*(?:[\s\0\u200b\ufeff]*[=+\-@＝＋－＠]|[\t\r\n])")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def printable(text: str) -> str:
    r"""
    `text` with every control character but tab and line feed as its escape, `\u001b`: what it does to a terminal (colours, titles,
    a line that writes over the last one, an order of reading that is not the order of the letters) is seen and not done. JSON
    stays JSON, since it reads the escape.
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text.replace("\r\n", "\n"))


def spreadsheet_cell(cell: Any) -> Any:
    """
    A cell of a CSV file: text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-` or `@`, in either width, or
    with white space before them) gets an apostrophe before it. Numbers are numbers, also as text.

    [`original_cell`] takes the apostrophe off; text that begins with apostrophes and then so gets one more, so that nothing is
    lost.
    """
    is_formula = isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell)
    return f"'{cell}" if is_formula else cell


def original_cell(cell: str) -> str:
    """The text that [`spreadsheet_cell`] made `cell` of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def first_few(items: Sequence[str], most: int = 5, between: str = ", ") -> str:
    """The first of `items`, and how many more there are: `row 1, row 4 and 3 more`."""
    more = len(items) - most
    return between.join(items[:most]) + (f" and {more} more" if more > 0 else "")


def first_reasons(places: Mapping[str, str], most: int = 5) -> list[str]:
    """A line for each of the first reasons of `places` (reason → where), and one for how many others there are."""
    lines = [f"  {where}: {reason}" for reason, where in places.items()]
    return [*lines[:most], *([f"  and {len(lines) - most} other reasons"] if len(lines) > most else [])]


def has_columns(header: Sequence[str], names: Sequence[str]) -> bool:
    """Whether `header` has all of `names`, with one prefix before each."""
    prefixes = (column[: -len(names[0])] for column in header if column.endswith(names[0]))
    return any({prefix + name for name in names} <= set(header) for prefix in prefixes)
