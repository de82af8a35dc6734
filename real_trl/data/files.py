# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows before they are validated, and the readers of local files.

Files are parsed here instead of by `datasets.load_dataset`: its readers infer one type per column, so that one bad
value fails the whole file without saying where, and they write a cache. What comes out keeps the line numbers of the
file.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, load_from_disk

from real_trl.data.delimited import read_delimited
from real_trl.data.excel import read_excel
from real_trl.data.nested import all_paths, look_up, split_path
from real_trl.data.table_rows import class_names, features_of, iterate_table, take
from real_trl.option_values import FieldError
from real_trl.scale import as_number
from real_trl.text.cells import column_names, plain
from real_trl.text.encodings import decode
from real_trl.text.json_text import unique_names
from real_trl.text.shown import first_few

EXTENSIONS = (".json", ".jsonl", ".csv", ".tsv", ".xlsx", ".parquet")
SCORES: tuple[str, ...] = (
    "expected_score",
    "sampled_score",
    "most_likely_score",
    "probabilities",
    "spread",
    "mass",
    "missing_mass",
)
SCORES += ("rationale", "status", "error")
"""The columns that `real-trl score` writes."""
CALIBRATED_SCORES = ("calibrated", "interval_low", "interval_high", "raw_expected_score", "raw_probabilities")
"""What it writes behind them for a calibrated judge."""
_NUMERAL = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d+)?")
"""A number as text; not 007, which is a name."""
_unique_names = partial(unique_names, equal=True)


@dataclass(frozen=True)
class Source:
    """
    Rows before they are validated.

    Args:
        name (`str`):
            What error messages call it.
        columns (`list[str]`):
            All column names, without the blanks around them, and the `paths`.
        numbers (`Sequence[int]`):
            Row number of each row in the original, from 0.
        lines (`Sequence[int]`, *optional*):
            Line of each row in its file, from 1.
        paths (`Sequence[str]`):
            Those of `columns` that are paths into a cell (see [`~real_trl.data.nested`]). [`Source.with_paths`] adds them.
        na (`frozenset[str]`):
            Texts that mean a missing cell.
        notes (`Sequence[str]`):
            How the file was read, where that may not be what was meant.
        commas (`bool`):
            Whether all cells are text, and commas in numbers may be decimal ones.
    """

    name: str
    rows: Sequence[Mapping[str, Any]] | Dataset | pa.Table
    columns: list[str]
    numbers: Sequence[int]
    lines: Sequence[int] | None = None
    paths: Sequence[str] = ()
    na: frozenset[str] = frozenset()
    notes: Sequence[str] = ()
    commas: bool = False

    @classmethod
    def from_dataset(cls, name: str, dataset: Dataset | pa.Table) -> "Source":
        """Wraps a [`~datasets.Dataset`] or an Arrow table; `ValueError` if two columns have the same name."""
        try:
            columns = column_names(dataset.column_names)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return cls(name, dataset, columns, range(dataset.num_rows))

    @cached_property
    def classes(self) -> dict[str, list[str]]:
        """The names of every column that is a `ClassLabel`, or holds one."""
        if not isinstance(self.rows, (Dataset, pa.Table)):
            return {}
        names = self.rows.column_names
        features = zip(column_names(names), map(features_of(self.rows).get, names), strict=True)
        return {column: classes for column, feature in features if (classes := class_names(feature))}

    def __len__(self) -> int:
        return len(self.numbers)

    def where(self, index: int) -> str:
        """Says where row `index` stands: `row 3 (line 5)`."""
        return f"row {self.numbers[index]}" + (f" (line {self.lines[index]})" if self.lines else "")

    @property
    def own_columns(self) -> list[str]:
        """The columns that the rows have."""
        return [column for column in self.columns if column not in self.paths]

    def with_paths(self, named: Iterable[str] | None = None) -> "Source":
        """With those paths into nested cells among its columns that are `named` and lead to something; by default with all of them."""
        own = self.own_columns
        if named is None:
            nested = own
            if isinstance(self.rows, (Dataset, pa.Table)):
                schema = self.rows.data.schema if isinstance(self.rows, Dataset) else self.rows.schema
                names = column_names(schema.names)
                nested = [name for name, kind in zip(names, schema.types, strict=True) if pa.types.is_nested(kind)]
            found = all_paths(self._iterate(nested)) if nested else []
        else:
            named = [path for path in named if path not in own and split_path(path, own)]
            found = [path for path in named if any(row[path] is not None for row in self._iterate([path]))]
        found = [path for path in dict.fromkeys(found) if path not in self.columns]
        return replace(self, columns=[*self.columns, *found], paths=[*self.paths, *found]) if found else self

    def column(self, setting: str, column: str | None, defaults: Sequence[str] = ()) -> str:
        """
        The column that a recipe's `setting` names, or the first of `defaults` that exists if it names none.

        Raises:
            `ValueError`: if there is no such column; it lists those that exist.
        """
        if column is not None:
            column = column.strip()
            if column not in self.columns:
                said = f"={column!r} is not a column of {self.name!r}"
                raise FieldError(setting, column, f"Existing columns: {self.with_paths().columns}.", said)
            return column
        found = next((name for name in defaults if name in self.columns), None)
        if found is None:
            other = " or prompt_template" if setting == "prompt_column" else ""
            said = f" is not set, and {self.name!r} has no column {' or '.join(map(repr, defaults))}"
            raise FieldError(setting, None, f"Set {setting}{other}. Existing columns: {self.columns}.", said)
        return found

    def several_columns(
        self, setting: str, columns: str | Sequence[str] | None, defaults: Sequence[str] = ()
    ) -> list[str]:
        """Like [`Source.column`] where a list, or text with commas that is no column itself, names several columns."""
        if isinstance(columns, str) and "," in columns and columns not in self.columns:
            columns = [column.strip() for column in columns.split(",")]
        if columns is None or isinstance(columns, str):
            return [self.column(setting, columns, defaults)]
        if not columns or len(set(columns)) < len(columns):
            raise FieldError(setting, list(columns), "Name at least one column, and none twice.")
        return [self.column(setting, column) for column in columns]

    def select(self, indices: Sequence[int]) -> "Source":
        """Keeps the rows `indices`, in that order."""
        if isinstance(self.rows, pa.Table):
            rows = take(self.rows, indices)
        else:
            rows = self.rows.select(indices) if isinstance(self.rows, Dataset) else [self.rows[i] for i in indices]
        return replace(
            self,
            rows=rows,
            numbers=[self.numbers[i] for i in indices],
            lines=[self.lines[i] for i in indices] if self.lines else None,
        )

    def iterate(self, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """
        Yields the rows as dicts with `columns` (all of them by default), whose cells are [`~real_trl.text.cells.plain`]; what a row
        lacks is `None`.
        """
        rows = self._iterate(self.columns if columns is None else columns)
        return map(self._without_na, rows) if self.na else rows

    def _iterate(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        own = self.own_columns
        paths = {column: parts for column in columns if column not in own and (parts := split_path(column, own))}
        if not paths:
            yield from self._iterate_own(columns)
            return
        needed = [paths[column][0] if column in paths else column for column in columns]
        for index, row in enumerate(self._iterate_own(list(dict.fromkeys(needed)))):
            try:
                found = {path: plain(look_up(row[root], rest)) for path, (root, rest) in paths.items()}
            except ValueError as error:
                raise ValueError(f"{self.name!r}, {self.where(index)}: {error}") from error
            yield {column: found[column] if column in found else row[column] for column in columns}

    def _iterate_own(self, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        if isinstance(self.rows, (Dataset, pa.Table)):
            try:
                yield from iterate_table(self.rows, columns)
            except ValueError as error:
                raise ValueError(f"{self.name}: {error}") from error
        else:
            for row in self.rows:
                yield {column: plain(row.get(column)) for column in columns}

    @cached_property
    def _na_numbers(self) -> frozenset[float]:
        return frozenset(number for text in self.na if math.isfinite(number := as_number(text)))

    def without_na(self, cell: Any) -> Any:
        """`cell`, or `None` if it or, in a list, each item that a text of `na` means; of numbers what they are counts, not how they are written."""
        if isinstance(cell, list):
            return [self.without_na(item) if not isinstance(item, list) else item for item in cell]
        if isinstance(cell, str):
            text = cell.strip()
            missing = text in self.na or bool(_NUMERAL.fullmatch(text)) and as_number(text) in self._na_numbers
        else:
            missing = as_number(cell) in self._na_numbers
        return None if missing else cell

    def _without_na(self, row: dict[str, Any]) -> dict[str, Any]:
        return {column: self.without_na(cell) for column, cell in row.items()}


def read_file(path: Path, option: str = "dataset_name") -> Source:
    """
    Reads the file that an `option` names: a `.json` (a list of objects), `.jsonl`, `.csv` or `.tsv` (all values are text; of a file that
    `score` wrote, without the apostrophes that it put before formulas), `.xlsx` or `.parquet` file.

    Raises:
        `ValueError`: if the extension is not supported or the file is corrupt.
    """
    readers = {".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    extension, commas = path.suffix.lower(), False
    if extension in (".csv", ".tsv", ".xlsx"):
        if extension == ".xlsx":
            rows, lines, notes = read_excel(path)
        else:
            rows, lines, notes, commas = read_delimited(path, SCORES)
        return replace(_from_rows(path, rows, lines), notes=[f"{path}: {note}." for note in notes], commas=commas)
    reader = readers.get(extension)
    if reader is None:
        said = f"={str(path)!r} has the unsupported extension {path.suffix!r}"
        raise FieldError(option, str(path), f"Use one of {', '.join(EXTENSIONS)}.", said)
    return reader(path)


def read_saved(folder: Path) -> dict[str | None, Source] | None:
    """Split → rows of a folder that `save_to_disk` of `datasets` wrote, under `None` where it is one dataset; `None` if none wrote it."""
    if not any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return None
    try:
        saved = load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise ValueError(
            f"{folder}: written by save_to_disk, but it cannot be read ({error}). Save it again."
        ) from error
    if isinstance(saved, Dataset):
        return {None: Source.from_dataset(str(folder), saved)}
    return {split: Source.from_dataset(f"{folder}/{split}", dataset) for split, dataset in saved.items()}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(column_names(row), row.values(), strict=True))


def _from_rows(path: Path, rows: list[dict[str, Any]], lines: list[int] | None = None) -> Source:
    return Source(str(path), rows, list(dict.fromkeys(key for row in rows for key in row)), range(len(rows)), lines)


def _text(path: Path) -> str:
    """The text of a JSON file, which is in Unicode."""
    try:
        return decode(path.read_bytes(), fallback=None)[0]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_json(path: Path) -> Source:
    try:
        text = _text(path)
        rows = json.loads(text, object_pairs_hook=_unique_names)
    except json.JSONDecodeError as error:
        # Many .json files hold one object per line; then the first one ends where the next one starts.
        if error.msg == "Extra data" and text.lstrip().startswith("{"):
            return _read_jsonl(path)
        if text.startswith("version https://git-lfs"):
            raise ValueError(
                f"{path}: a Git LFS pointer, not the data. Fetch the file with `git lfs pull`, or download it."
            ) from error
        raise ValueError(
            f"{path}, line {error.lineno}: not valid JSON ({error.msg}, column {error.colno}). Fix the file."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Fix the file.") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path}: a .json dataset is a list of objects, this one is a {type(rows).__name__}.")
    wrong = [i for i, row in enumerate(rows) if not isinstance(row, dict)]
    if wrong:
        raise ValueError(
            f"{path}, row {wrong[0]}: expected an object, got {rows[wrong[0]]!r:.80} ({len(wrong)} such rows)."
        )
    for number, row in enumerate(rows):
        try:
            rows[number] = _row(row)
        except ValueError as error:
            raise ValueError(f"{path}, row {number}: {error}") from error
    return _from_rows(path, rows)


def _read_jsonl(path: Path) -> Source:
    rows, lines, bad = [], [], []
    for number, line in enumerate(re.split("\r\n|\n|\r", _text(path)), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_unique_names)
            if not isinstance(row, dict):
                raise ValueError(f"expected an object, got {row!r:.80}")
            rows.append(_row(row))
            lines.append(number)
        except ValueError as error:
            bad.append(f"line {number}: {error}")
    if bad:
        raise ValueError(
            f"{path}: {len(bad)} corrupt JSON lines. " + first_few(bad, between="; ") + ". Fix or remove these lines."
        )
    return _from_rows(path, rows, lines)


def _read_parquet(path: Path) -> Source:
    try:
        with pq.ParquetFile(
            path
        ) as file:  # `read_table` refuses names that occur twice, and reads further columns out of the path
            table = file.read()
            columns = [file.schema.column(index) for index in range(len(file.schema))]
        for name in [each.name for each in columns if each.logical_type.type == "ENUM" and each.path == each.name]:
            index = table.column_names.index(name)  # of which Arrow knows the bytes only
            table = table.set_column(index, name, table.column(index).cast(pa.string()))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a valid Parquet file ({error}).") from error
    return Source.from_dataset(str(path), table)
