# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files as spreadsheets and other programs write them."""

import sys
from datetime import datetime

import pytest
from openpyxl import Workbook

from real_trl.data.files import read_file
from tests.data.test_loading import load, refused

HEADER = ("prompt", "score", "feedback")
ROWS = (("Wie heißt „Zürich“, auf Deutsch; kurz?", "4,5", "Gut."), ("Zweite\nZeile", "3", ""))


def delimited(separator: str, end: str = "\n") -> str:
    lines = [separator.join(f'"{cell}"' for cell in row) for row in (HEADER, *ROWS)]
    return end.join(lines) + end


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("extension", ["csv", "tsv"])
def test_separators_and_encodings(tmp_path, separator, encoding, extension):
    path = tmp_path / f"data.{extension}"
    path.write_bytes(delimited(separator, "\r\n").encode(encoding))
    source = read_file(path)
    assert source.columns == list(HEADER)
    assert list(source.iterate()) == [
        {"prompt": ROWS[0][0], "score": "4.5", "feedback": "Gut."},
        {"prompt": "Zweite\nZeile", "score": "3", "feedback": ""},
    ]
    assert source.lines == [2, 3]
    notes = " ".join(source.notes)
    assert ("read as Windows-1252 ('heißt')" in notes) == (encoding == "cp1252")
    assert "decimal commas are read as points in 'score'" in notes
    assert load(path)["score"][:] == [4.5, 3.0]


@pytest.mark.parametrize("na", ["n/a", ["n/a", "-"]], ids=str)
def test_decimal_commas_beside_texts_that_mean_missing(tmp_path, caplog, na):
    path = tmp_path / "data.csv"
    path.write_text("prompt;a;b\nA, b;3,5;4\nB;n/a;4,5\nC;;3\nD; 2;n/a\n")
    loaded = load(path, score_column="a,b", na=na)
    assert loaded["score"][:] == [3.75, 4.5, 3.0, 2.0] and loaded["prompt"][0] == "A, b"
    assert "decimal commas are read as points in 'a', 'b'." in caplog.text
    refused(path, "'3,5', which is not a number", "If '3,5' is 3.5, with a decimal comma", score_column="a,b")


def test_a_comma_in_numbers_of_a_file_with_commas_stays(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(delimited(","), encoding="utf-8")
    source = read_file(path)
    assert [row["score"] for row in source.iterate()] == ["4,5", "3"] and not source.notes


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("prompt\na; b\nc\n", ["prompt"]),
        ("prompt\na\n", ["prompt"]),
        ("prompt;score\na, b, c;3\n", ["prompt", "score"]),
        ('prompt,score\n"a; b",3\nc;d,4\n', ["prompt", "score"]),
        ("sep=;\nprompt,x;score\na;3\n", ["prompt,x", "score"]),
        ('"prompt;x",score\na,3\n', ["prompt;x", "score"]),
    ],
)
def test_the_separator_is_what_separates(tmp_path, text, columns):
    path = tmp_path / "data.csv"
    path.write_text(text)
    assert read_file(path).columns == columns


def test_broken_lines_are_named(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("prompt;score\na;3\nb;c;4\n")
    refused(path, "data.csv, line 3: 3 values for the 2 columns")
    path.write_text('sep=;\nprompt;score\na;3\n"b;4\n')
    refused(path, "data.csv, line 4: not valid CSV")


def test_damaged_utf_8_is_not_taken_for_another_encoding(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes("prompt,score\nÄpfel für Åse,3\nb".encode() + b"\xfc,4\n")
    refused(path, "not UTF-8 text at byte 33 (line 3)")


def test_what_is_not_as_usual_is_said(tmp_path, caplog):
    path = tmp_path / "data.csv"
    path.write_bytes(delimited(";").encode("cp1252"))
    load(path)
    assert "data.csv: its columns are separated by semicolons." in caplog.text
    assert "not in UTF-8, so read as Windows-1252" in caplog.text


def workbook(path, rows, **others):
    book = Workbook()
    book.active.title = "Ratings"
    for row in rows:
        book.active.append(row)
    for title, cells in others.items():
        book.create_sheet(title).append(cells)
    book.save(path)
    return path


def test_excel(tmp_path):
    rows = [
        [None, "prompt", "score", None, "when", None],
        ["x", "Ä=1", 4.5, None, datetime(2026, 1, 2)],
        [],
        [None, "Second", "#N/A", None, None],
        [None, "Third", 2],
    ]
    rows[3][2] = "=NA()"  # never calculated: no value
    path = workbook(tmp_path / "data.xlsx", rows, Notes=["something"])
    source = read_file(path)
    assert source.columns == ["column A", "prompt", "score", "when"]
    assert [row["prompt"] for row in source.iterate()] == ["Ä=1", "Second", "Third"]
    assert [row["score"] for row in source.iterate()] == [4.5, None, 2]
    assert source.where(2) == "row 2 (line 5)"
    assert "the sheet 'Ratings' was read, and not 'Notes'" in source.notes[0]
    refused(path, "row 1 (line 4)", "score_column 'score' is missing")


def test_excel_sheets_that_are_none(tmp_path):
    path = workbook(tmp_path / "twice.xlsx", [["score", "score "], [1, 2]])
    refused(path, "sheet 'Ratings', row 1", "'score' occurs twice")
    path.write_bytes(b"PK")
    refused(path, "not a valid .xlsx file")
    assert len(read_file(workbook(tmp_path / "empty.xlsx", []))) == 0


def test_without_openpyxl_the_extra_is_named(tmp_path, monkeypatch):
    path = workbook(tmp_path / "data.xlsx", [["prompt", "score"], ["a", 1]])
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    refused(path, "pip install 'real_trl[excel]'")
