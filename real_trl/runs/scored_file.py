# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A file's rows with a judge's scores beside them, written row by row as the scores are read."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from real_trl.data.files import CALIBRATED_SCORES, SCORES, Source
from real_trl.engines import Judgment
from real_trl.option_values import FieldError
from real_trl.runs.output_lock import whole_file
from real_trl.text.json_text import finite, to_json
from real_trl.text.shown import spreadsheet_cell

EXTENSIONS = (".jsonl", ".csv", ".parquet")
_ROWS_AT_ONCE = 1000


def score_columns(judgment: Judgment, prefix: str = "", *, calibrated: bool = False) -> dict[str, Any]:
    """
    The new columns of a row. A probability that the engine could not learn is null, which JSON has in place of NaN.

    Args:
        calibrated (`bool`, *optional*, defaults to `False`):
            Whether the judge is: then there are the columns of `CALIBRATED_SCORES`, also for a judgment that could not be calibrated.
    """
    columns = {name: getattr(judgment, name) for name in SCORES}
    columns["probabilities"] = finite(judgment.probabilities)
    if calibrated:
        raw = judgment.raw or judgment
        ends: Sequence[float | None] = judgment.interval or (None, None)
        own = (judgment.calibrated, *ends, raw.expected_score, finite(raw.probabilities))
        columns |= dict(zip(CALIBRATED_SCORES, own, strict=True))
    return {prefix + name: value for name, value in columns.items()}


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as JSON, a line each."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{to_json(row)}\n" for row in rows)


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """
    Rows, all with `columns` in this order, as a table. Cells that hold no text or number are JSON, and no text is a formula, see
    [`~real_trl.text.shown.spreadsheet_cell`].
    """
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(map(spreadsheet_cell, columns))
        for row in rows:
            cells = (to_json(cell) if isinstance(cell, (dict, list, bool)) else cell for cell in row.values())
            writer.writerow(map(spreadsheet_cell, cells))


class ScoredFile:
    """
    The file to be written. That it can be is checked when this is built.

    Args:
        path (`Path`):
            `.jsonl`, `.csv` (of which cells that hold no text or number are JSON, and no text is a formula, see
            [`~real_trl.text.shown.spreadsheet_cell`]) or `.parquet`.
        prefixes (`Sequence[str]`, *optional*, defaults to `[""]`):
            What the names of the new columns begin with: of several, there is a set of columns for each.
        calibrated (`bool`, *optional*, defaults to `False`):
            Whether there are the columns of a calibrated judge.

    Raises:
        `ValueError`: if the format is unknown or cannot hold the rows, if a new column has the name of one that is there, or
            if the file would replace the data.
    """

    def __init__(
        self,
        path: Path,
        source: Source,
        labels: Sequence[str],
        prefixes: Sequence[str] = ("",),
        *,
        calibrated: bool = False,
    ) -> None:
        self.path, self.source, self.prefixes = path, source, prefixes
        names = SCORES + CALIBRATED_SCORES * calibrated
        self.columns = [prefix + name for prefix in prefixes for name in names]
        if path.suffix.lower() not in EXTENSIONS:
            raise FieldError("output", path, "Rename it.", f": {str(path)!r} ends in none of {', '.join(EXTENSIONS)}")
        if path.exists() and (path.is_dir() or path.samefile(source.name)):
            what = "a folder" if path.is_dir() else "the data itself"
            raise FieldError("output", path, "Choose another output.", f": {str(path)!r} is {what}")
        if not path.absolute().parent.is_dir():
            raise ValueError(
                f"output: the folder {str(path.parent)!r} does not exist. Create it, or choose another output."
            )
        if taken := [name for name in self.columns if name in source.columns]:
            raise ValueError(
                f"data: has a column {taken[0]!r} already, as the scores will have. Rename it in the data, or set prefix, e.g. "
                "second_, which the names of the new columns begin with."
            )
        if path.suffix.lower() == ".parquet":
            self._schema = _schema(source, labels, prefixes, names)
        else:
            for index, row in enumerate(source.iterate()):
                try:
                    to_json(row)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"output: {source.where(index)} cannot be written as {path.suffix} ({error}). Choose a .parquet output."
                    ) from error

    def write(self, scores: Iterable[Mapping[str, Any]]) -> None:
        """Write all rows, each with the new columns that `scores` has for it, one set for each prefix. The file is written atomically."""
        sets = zip(*[iter(scores)] * len(self.prefixes), strict=True)
        scores = ({name: cell for one in row for name, cell in one.items()} for row in sets)
        extension = self.path.suffix.lower()
        with whole_file(self.path, "Every row that was scored is kept") as temporary:
            if extension == ".parquet":
                self._write_parquet(temporary, scores)
            elif extension == ".csv":
                write_csv(temporary, [*self.source.columns, *self.columns], self._rows(scores))
            else:
                write_jsonl(temporary, self._rows(scores))

    def _rows(self, scores: Iterator[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        return ({**row, **new} for row, new in zip(self.source.iterate(), scores, strict=True))

    def _write_parquet(self, path: Path, scores: Iterator[Mapping[str, Any]]) -> None:
        width = len(self.source.columns)
        schemas = pa.schema(list(self._schema)[:width]), pa.schema(list(self._schema)[width:])
        with pq.ParquetWriter(path, self._schema) as writer:
            for given in self._tables(schemas[0]):
                new = pa.Table.from_pylist(list(islice(scores, len(given))), schema=schemas[1])
                writer.write_table(pa.table([*given.columns, *new.columns], schema=self._schema))

    def _tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The data in parts; that of a Parquet file is as it is there, with codes for classes."""
        rows = self.source.rows
        if isinstance(rows, pa.Table):
            yield from (rows.slice(start, _ROWS_AT_ONCE) for start in range(0, len(rows), _ROWS_AT_ONCE))
            return
        rows = self.source.iterate()
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            yield pa.Table.from_pylist(some, schema=schema)


def _schema(source: Source, labels: Sequence[str], prefixes: Sequence[str], names: Sequence[str]) -> pa.Schema:
    """Types of the columns: those of the data, which must have one each, and those of the scores."""
    fields, metadata = [], None
    if isinstance(source.rows, pa.Table):
        fields, written = list(source.rows.schema), source.rows.schema.metadata or {}
        metadata = {key: value for key, value in written.items() if key == b"huggingface"}  # the names of classes
    else:
        for column in source.columns:
            try:
                fields.append(pa.field(column, pa.array([row[column] for row in source.iterate([column])]).type))
            except (pa.ArrowException, OverflowError) as error:
                raise ValueError(
                    f"output: the column {column!r} of the data mixes types ({error}), which .parquet cannot hold. Choose a .jsonl output."
                ) from error
    types = dict.fromkeys(
        ("probabilities", "raw_probabilities"), pa.struct([(label, pa.float64()) for label in labels])
    )
    types["calibrated"] = pa.bool_()
    types |= dict.fromkeys(("rationale", "status", "error"), pa.string())
    new = [(prefix + name, types.get(name, pa.float64())) for prefix in prefixes for name in names]
    return pa.schema([*fields, *new], metadata=metadata)
