# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The user's file, or a folder with a file for each split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from real_trl.data_files import EXTENSIONS, Source, read_file
from real_trl.onboarding.columns import SPLITS

SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class JoinedSource(Source):
    """
    Rows of several files.

    Attributes:
        places (`Sequence[str]`): Where each row stands.
    """

    places: Sequence[str] = ()

    def where(self, index: int) -> str:
        """File and row."""
        return self.places[index]

    def select(self, indices: Sequence[int]) -> "JoinedSource":
        """Keeps the rows `indices`, in that order."""
        return replace(super().select(indices), places=[self.places[i] for i in indices])


def open_data(path: str | Path) -> Source:
    """
    Read a file, or the files of a folder that are called like splits (`train.csv`, `test.csv`), whose names become the
    column `split`.

    Raises:
        `ValueError`: if there is no such file, or it cannot be read, or has no rows.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"{str(path)!r}: no such file. Give a file of scored responses: {', '.join(EXTENSIONS)}.")
    if not path.is_dir():
        source = _read(path)
    else:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in EXTENSIONS and f.stem.lower() in SPLITS)
        if not files:
            raise ValueError(
                f"{str(path)!r}: no file in this folder is called like a split (train.csv, validation.csv, test.csv). Give one file instead."
            )
        parts = [(file, _read(file)) for file in files]
        rows = [{**row, SPLIT_COLUMN: file.stem} for file, part in parts for row in part.iterate()]
        places = [f"{file.name} {part.where(i)}" for file, part in parts for i in range(len(part))]
        columns = list(dict.fromkeys([column for _, part in parts for column in part.columns] + [SPLIT_COLUMN]))
        source = JoinedSource(str(path), rows, columns, range(len(rows)), None, places)
    if len(source) == 0:
        raise ValueError(
            f"{str(path)!r}: it has no rows. Give a file with a line of column names and a row for each scored response."
        )
    return source


def _read(path: Path) -> Source:
    try:
        source = read_file(path)
    except ValueError as error:
        if path.suffix.lower() not in EXTENSIONS:
            raise ValueError(
                f"{str(path)!r}: the extension {path.suffix!r} is not one of {', '.join(EXTENSIONS)}. Save or export the data as one of them."
            ) from error
        raise
    mark = next((mark for mark in (";", "\t") if len(source.columns) == 1 and mark in source.columns[0]), None)
    if mark and path.suffix.lower() == ".csv":
        raise ValueError(
            f"{str(path)!r}: its columns are separated by {mark!r}, not by commas ({source.columns[0]!r:.80}). Export it again with commas."
        )
    return source
