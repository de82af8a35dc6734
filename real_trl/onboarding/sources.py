# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The user's file, or a folder with a file for each split."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from real_trl.data.files import EXTENSIONS, Source, read_file, read_saved
from real_trl.onboarding.names import SPLITS

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
    column `split`, or what `save_to_disk` of `datasets` wrote.

    Raises:
        `ValueError`: if there is no such file, or it cannot be read, or has no rows.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise ValueError(f"{str(path)!r}: no such file. Give a file of scored responses: {', '.join(EXTENSIONS)}.")
    saved = read_saved(path) if path.is_dir() else None
    if not path.is_dir():
        source = _read(path)
    elif saved is not None and None in saved:
        source = saved[None]
    else:
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in EXTENSIONS and f.stem.lower() in SPLITS)
        parts = [(file.name, file.stem, _read(file)) for file in files]
        if saved is not None:
            parts = [(split, split, part) for split, part in saved.items() if split.lower() in SPLITS]
        if not parts:
            found = f"none of the splits {', '.join(map(repr, saved))} is" if saved else "no file in this folder is"
            raise ValueError(
                f"{str(path)!r}: {found} called like a split (train.csv, validation.csv, test.csv). Give one file instead."
            )
        rows = [{**row, SPLIT_COLUMN: split} for _, split, part in parts for row in part.iterate()]
        places = [f"{name} {part.where(i)}" for name, _, part in parts for i in range(len(part))]
        notes = [note for *_, part in parts for note in part.notes]
        columns = list(dict.fromkeys([column for *_, part in parts for column in part.columns] + [SPLIT_COLUMN]))
        source = JoinedSource(str(path), rows, columns, range(len(rows)), notes=notes, places=places)
    if len(source) == 0:
        raise ValueError(
            f"{str(path)!r}: it has no rows. Give a file with a line of column names and a row for each scored response."
        )
    return source


def _read(path: Path) -> Source:
    if path.suffix.lower() not in EXTENSIONS:
        raise ValueError(
            f"{str(path)!r}: the extension {path.suffix!r} is not one of {', '.join(EXTENSIONS)}. Save or export the data as one of them."
        )
    return read_file(path)
