# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The user's file, a folder with a file for each split, or a dataset on the Hub."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from real_trl.data.files import EXTENSIONS, Source, read_file, read_saved
from real_trl.data.sources import read_splits
from real_trl.option_values import FieldError
from real_trl.text.column_names import SPLITS

SPLIT_COLUMN = "split"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


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


def is_on_hub(data: str | Path) -> bool:
    """Whether this is no file or folder, and may be the id of a dataset on the Hub."""
    path = Path(data).expanduser()
    return not path.exists() and path.suffix.lower() not in EXTENSIONS and bool(_HUB_ID.fullmatch(str(data)))


def open_data(data: str | Path, config: str | None = None) -> Source:
    """
    Read a file, or the files of a folder that are called like splits (`train.csv`, `test.csv`), whose names become the
    column `split`, or what `save_to_disk` of `datasets` wrote, or a dataset on the Hub (`org/name`).

    Args:
        config (`str`, *optional*):
            Configuration of a dataset on the Hub.

    Raises:
        [`~real_trl.data.sources.HubUnreachable`], a `ValueError`: if the dataset is neither on this machine nor to be had from the Hub.
        `ValueError`: if there is no such file, or it cannot be read, or has no rows.
    """
    path = Path(data).expanduser()
    on_hub = is_on_hub(data)
    if config is not None and not on_hub:
        said = f": got {config!r}, but {str(data)!r} is a file or folder"
        raise FieldError("--dataset_config", config, "Leave it out.", said)
    if not path.exists() and not on_hub:
        raise ValueError(
            f"{str(path)!r}: no such file. Give a file of scored responses ({', '.join(EXTENSIONS)}), or a dataset on the Hub, as org/name."
        )
    saved = read_splits(str(data), config) if on_hub else read_saved(path) if path.is_dir() else None
    if on_hub and len(saved) == 1:
        source = next(iter(saved.values()))
    elif path.is_file():
        source = _read(path)
    elif saved is not None and None in saved:
        source = saved[None]
    else:
        if saved is None:
            files = sorted(f for f in path.iterdir() if f.suffix.lower() in EXTENSIONS and f.stem.lower() in SPLITS)
            parts = [(file.name, file.stem, _read(file)) for file in files]
        else:
            parts = [(split, split, part) for split, part in saved.items() if split.lower() in SPLITS]
        if not parts:
            found = (
                "no file in this folder is"
                if saved is None
                else f"none of the splits {', '.join(map(repr, saved))} is"
            )
            raise ValueError(
                f"{str(path)!r}: {found} called like a split (train.csv, validation.csv, test.csv). Give one file instead."
            )
        rows = [{**row, SPLIT_COLUMN: split} for _, split, part in parts for row in part.iterate()]
        places = [f"{name} {part.where(i)}" for name, _, part in parts for i in range(len(part))]
        notes = [note for *_, part in parts for note in part.notes]
        columns = list(dict.fromkeys([column for *_, part in parts for column in part.columns] + [SPLIT_COLUMN]))
        commas = all(part.commas for *_, part in parts)
        source = JoinedSource(str(path), rows, columns, range(len(rows)), notes=notes, commas=commas, places=places)
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
