# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Rows out of Arrow tables and `datasets`, with cells as they are meant: the name of a class, not its code.

`Dataset` gives the codes of a `ClassLabel`, has no type for maps, UUIDs, list views and periods, and decodes every image on the
way. Here each column is turned into Python values by its Arrow type and its feature.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from datasets.features.features import FeatureType, generate_from_dict

from real_trl.option_values import FieldError
from real_trl.text.cells import column_names, plain

_ROWS_AT_ONCE = 1000
_TAKEN_AT_ONCE = 10_000  # so that no array of texts passes Arrow's 2 GiB

Read = Callable[[Any], Any]


def check_one_split(rows: Any, field: str) -> None:
    """`ValueError` that names the splits, if `rows` are those of several splits where those of one are expected."""
    if isinstance(rows, (DatasetDict, IterableDatasetDict)) or (
        isinstance(rows, Mapping)
        and rows
        and all(isinstance(each, (Dataset, IterableDataset)) for each in rows.values())
    ):
        name = next(iter(rows), None)
        said = f": got a {type(rows).__name__} of the splits {', '.join(map(repr, rows))}"
        raise FieldError(field, rows, f"Choose one, e.g. [{name!r}].", said)


def features_of(rows: Dataset | IterableDataset | pa.Table) -> dict[str, FeatureType]:
    """Column → feature: of a dataset its own (none of a stream that knows none), of a table those that `datasets` wrote into its schema."""
    if not isinstance(rows, pa.Table):
        return dict(rows.features or {})
    try:
        written = json.loads(rows.schema.metadata[b"huggingface"])["info"]["features"]
        return {name: generate_from_dict(feature) for name, feature in written.items()}
    except (TypeError, KeyError, ValueError):  # nothing written, or by something else
        return {}


def class_names(feature: FeatureType | None) -> list[str] | None:
    """The names of the `ClassLabel` that a column is, or holds; `None` if there is none."""
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    inner = feature.values() if isinstance(feature, Mapping) else [_element(feature)] if _element(feature) else []
    return next((names for names in map(class_names, inner) if names is not None), None)


def iterate_table(
    rows: Dataset | pa.Table, columns: Sequence[str] | None = None, features: Mapping[str, FeatureType] | None = None
) -> Iterator[dict[str, Any]]:
    """
    Yields the rows, with `columns` (default: all), whose names may lack the blanks around those of the table.

    Raises:
        ValueError: naming the column, if two have the same name, or if one cannot be read.
    """
    features = features_of(rows) if features is None else features
    names = dict(zip(column_names(rows.column_names), rows.column_names, strict=True))
    columns = list(names) if columns is None else list(columns)
    chosen = [names[column] for column in columns]
    if isinstance(rows, Dataset):
        tables = rows.select_columns(chosen).with_format("arrow").iter(_ROWS_AT_ONCE)
    else:
        tables = rows.select(chosen).to_batches(_ROWS_AT_ONCE)
    for table in tables:
        cells = [_values(table.column(name), name, features.get(name)) for name in chosen]
        yield from (
            (dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True))
            if cells
            else ({} for _ in range(table.num_rows))
        )


def reader_of(features: Mapping[str, FeatureType]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What turns a row as `datasets` gives it, with codes for classes, into a row with their names, and [`plain`] cells."""
    readers = {name: _of_feature(feature, name) for name, feature in features.items()}
    readers = {name: read for name, read in readers.items() if read}

    def read(row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: plain(_there(readers.get(name), cell)) for name, cell in row.items()}

    return read


def take(table: pa.Table, indices: Sequence[int]) -> pa.Table:
    """The rows `indices`, in that order."""
    parts = [indices[start : start + _TAKEN_AT_ONCE] for start in range(0, max(len(indices), 1), _TAKEN_AT_ONCE)]
    return pa.concat_tables([table.take(pa.array(part, pa.int64())) for part in parts])


def _values(column: pa.Array | pa.ChunkedArray, name: str, feature: FeatureType | None) -> list[Any]:
    read_class, read_type = _of_feature(feature, name), _of_type(column.type)
    try:
        values = [plain(_there(read_type, value)) for value in column.to_pylist()]
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise ValueError(f"the column {name!r} cannot be read as {column.type} ({error}). Remove it.") from error
    return [_there(read_class, value) for value in values] if read_class else values


def _of_feature(feature: FeatureType | None, name: str) -> Read | None:
    """Names for the codes of classes, wherever in a cell they are."""
    if isinstance(feature, ClassLabel):
        names = feature.names

        def read(code: Any) -> Any:
            if not isinstance(code, int):
                return code  # written anew by something that does not know classes
            if not -1 <= code < len(names):
                raise ValueError(
                    f"the column {name!r} holds the code {code}, of which its ClassLabel {names} knows no name."
                )
            return names[code] if code >= 0 else None  # -1 is a missing class

        return read
    if isinstance(feature, Mapping):
        readers = {key: read for key, part in feature.items() if (read := _of_feature(part, name))}
        return (lambda cell: {k: _there(readers.get(k), v) for k, v in cell.items()}) if readers else None
    element = _of_feature(_element(feature), name) if _element(feature) else None
    return (lambda cell: [_there(element, item) for item in cell]) if element else None


def _of_type(type_: pa.DataType) -> Read | None:
    """What is left to do on a value as Arrow gives it; `None` where nothing is."""
    if isinstance(type_, pa.JsonType):
        return json.loads
    if pa.types.is_float16(type_) or pa.types.is_float32(type_):
        return np.float16 if pa.types.is_float16(type_) else np.float32  # `plain` knows what these say
    if pa.types.is_dictionary(type_):
        return _of_type(type_.value_type)
    if pa.types.is_map(type_):
        return _as_mapping(_of_type(type_.item_type))
    if pa.types.is_struct(type_):
        readers = {field.name: read for field in type_ if (read := _of_type(field.type))}
        return (lambda cell: {k: _there(readers.get(k), v) for k, v in cell.items()}) if readers else None
    if hasattr(type_, "value_type"):
        element = _of_type(type_.value_type)
        return (lambda cell: [_there(element, item) for item in cell]) if element else None
    return None


def _as_mapping(read: Read | None) -> Read:
    def convert(pairs: Any) -> Any:
        mapping = {key: _there(read, value) for key, value in pairs}
        return mapping if len(mapping) == len(pairs) else pairs  # a map may hold a key twice: then it is no mapping

    return convert


def _there(read: Read | None, value: Any) -> Any:
    return value if read is None or value is None else read(value)


def _element(feature: FeatureType | None) -> FeatureType | None:
    """The feature of a list's elements."""
    if isinstance(feature, (list, tuple)):
        return feature[0] if feature else None
    return getattr(feature, "feature", None)
