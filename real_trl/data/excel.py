# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Excel's files, read with openpyxl."""

import warnings
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from real_trl.text.cells import column_names, is_empty


def read_excel(path: Path) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """
    Read the first sheet with something in it, whose first row with something in it has the names of the columns. Values are those
    that Excel calculated last; errors such as `#N/A` are empty cells.

    Returns:
        `tuple`: the rows that hold something, the row of each in the sheet, and what the user should know.

    Raises:
        `ValueError`: if openpyxl is not installed, or the file is no workbook.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils import get_column_letter
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        raise ValueError(
            f"{path}: .xlsx needs openpyxl. Install it: pip install 'real_trl[excel]'. Or save the sheet as .csv."
        ) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles and lists that are not read here
            book = load_workbook(path, read_only=True, data_only=True)
            sheets = {sheet.title: _cells(sheet) for sheet in book.worksheets}
            book.close()
    except (InvalidFileException, BadZipFile, KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path}: not a valid .xlsx file ({error}). Save it again, or as .csv.") from error
    filled = {title: cells for title, cells in sheets.items() if cells}
    if not filled:
        return [], [], []
    title, ((at, names), *records) = next(iter(filled.items()))
    width = max(len(cells) for _, cells in filled[title])
    used = [index for index in range(width) if any(not is_empty(_at(cells, index)) for _, cells in filled[title])]
    header = [str(name) if not is_empty(name := _at(names, i)) else f"column {get_column_letter(i + 1)}" for i in used]
    try:
        header = column_names(header)
    except ValueError as error:
        raise ValueError(f"{path}, sheet {title!r}, row {at}: {error}") from error
    rows = [dict(zip(header, (_at(cells, index) for index in used), strict=True)) for _, cells in records]
    others = ", ".join(repr(other) for other in filled if other != title)
    notes = [f"the sheet {title!r} was read, and not {others}"] if others else []
    return rows, [row for row, _ in records], notes


def _cells(sheet: Any) -> list[tuple[int, list[Any]]]:
    """The rows of a sheet that hold something, each with its number in the sheet."""
    sheet.reset_dimensions()  # which are wrong in files that other programs wrote
    rows = (
        (number, [None if cell.data_type == "e" else cell.value for cell in row])
        for number, row in enumerate(sheet.iter_rows(), 1)
    )
    return [(number, cells) for number, cells in rows if not all(map(is_empty, cells))]


def _at(cells: list[Any], index: int) -> Any:
    return cells[index] if index < len(cells) else None
