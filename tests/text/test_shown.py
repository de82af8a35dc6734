# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Text of others: what a terminal and a spreadsheet see of it, and that nothing is lost."""

import csv
import io
import json

import pytest

from real_trl.data.files import SCORES, read_file
from real_trl.text.shown import first_few, first_reasons, original_cell, printable, spreadsheet_cell

HOSTILE = {
    "\x1b[2J\x1b]0;title\x07": r"\u001b[2J\u001b]0;title\u0007",
    "right\rwrong": r"right\u000dwrong",
    "a\x00b\x08c\x7fd\x9be": r"a\u0000b\u0008c\u007fd\u009be",
    "\u202eevil\u2066x\u2069": r"\u202eevil\u2066x\u2069",
    "half \ud83d": r"half \ud83d",
}
FORMULAS = [
    "=1+1",
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "＝1",
    "＋1",
    "－1+1",
    "＠x",
    "'=1",
    "''-x",
]
FORMULAS += ["- a list", "-", "'\t", "\n=1", "\ufeff=1"]
PLAIN = ["1.5", "-1.5", "+2", "-1e-5", "−1.5", "text", "'quoted'", "", "a=b", '{"1": 0.5}', "'", "3-4 = 5"]


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_are_seen(text):
    assert printable(text) == HOSTILE[text]
    assert json.loads(f'"{printable(text)}"') == text  # JSON that is printed is the same JSON


def test_other_text_is_as_it_was():
    text = "Zeilen\n\tmit Umlauten ŷ, 中文, 👍🏽, עברית, a\u200db, \\u001b"
    assert printable(text) == text and printable("two\r\nlines\r\n") == "two\nlines\n"


@pytest.mark.parametrize("text", [*FORMULAS, *PLAIN])
def test_cells_are_text_or_numbers_and_come_back(text):
    cell = spreadsheet_cell(text)
    assert cell == (f"'{text}" if text in FORMULAS else text)
    assert original_cell(cell) == text


@pytest.mark.parametrize("cell", [-1.5, 0, None, True])
def test_cells_that_are_no_text(cell):
    assert spreadsheet_cell(cell) is cell


@pytest.mark.parametrize("prefix", ["", "second_", "=x_"])
def test_a_scored_file_is_read_as_it_was_and_any_other_as_it_is(tmp_path, prefix):
    header = ["=response", *(prefix + name for name in SCORES)]

    def written(columns: list[str]) -> list[str]:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(map(spreadsheet_cell, columns))
        writer.writerows([spreadsheet_cell(value), *([""] * (len(columns) - 1))] for value in FORMULAS)
        (tmp_path / "rows.csv").write_bytes(text.getvalue().encode())
        return [next(iter(row.values())) for row in read_file(tmp_path / "rows.csv").iterate()]

    assert written(header) == FORMULAS and read_file(tmp_path / "rows.csv").columns == header
    # Of a file that someone else wrote, nobody knows what an apostrophe stands for
    assert written(["response", "expected_score"]) == [f"'{value}" for value in FORMULAS]


def test_the_first_of_many_and_how_many_more():
    rows = [f"row {index}" for index in range(7)]
    assert first_few(rows) == "row 0, row 1, row 2, row 3, row 4 and 2 more"
    assert first_few(rows[:5]) == "row 0, row 1, row 2, row 3, row 4" and first_few([]) == ""
    assert first_few(rows, 1, "; ") == "row 0 and 6 more" and first_few(rows[:2], 2, "; ") == "row 0; row 1"
    places = {f"fault {index}": rows[index] for index in range(7)}
    assert first_reasons(places, 1) == ["  row 0: fault 0", "  and 6 other reasons"]
    assert first_reasons({"empty": "row 3"}) == ["  row 3: empty"]
