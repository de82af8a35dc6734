# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Where a benchmark's files are, and how rows in a layout of their own are read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_trl.data.files import EXTENSIONS, Source
from real_trl.data.sources import HubUnreachable, read_source


@dataclass(frozen=True)
class BenchmarkFile:
    """
    A benchmark's file.

    Attributes:
        name (`str`):
            What recipes call it.
        description (`str`):
            What it holds, and what its label is.
        file (`str`):
            Name of its file where it was published, and of the file looked for in a directory.
        hub_id (`str`, *optional*):
            The Hub dataset it is loaded from when no local path is given; without one, it has to be downloaded.
        source (`str`):
            Where a person downloads it.
    """

    name: str
    description: str
    file: str
    hub_id: str | None = None
    source: str = ""

    def find(self, path: Path) -> Path:
        """The file at `path` or in the directory `path`, with any extension that can be read."""
        if path.is_file():
            return path.resolve()
        if not path.is_dir():
            raise ValueError(f"benchmark_paths: {self.name}: there is no {str(path)!r}. {self.how_to_get()}")
        stems = (Path(self.file).stem, self.name)
        found = [file for file in sorted(path.iterdir()) if file.stem in stems and file.suffix.lower() in EXTENSIONS]
        if len(found) != 1:
            held = [file.name for file in found] or "none of them"
            raise ValueError(
                f"benchmark_paths: {self.name}: the directory {str(path)!r} must hold one of {self.file} and "
                f"{self.name}{{{','.join(EXTENSIONS)}}}; it holds {held}. Name the file itself. {self.how_to_get()}"
            )
        return found[0].resolve()

    def how_to_get(self) -> str:
        """What to download, and where to write its path."""
        return (
            f"Download {self.source} (any copy of {self.file} will do) and pass its path: "
            f"`benchmark_paths: {{{self.name}: path/to/{self.file}}}`."
        )

    def not_on_the_hub(self) -> HubUnreachable:
        """The error where no path is given."""
        return HubUnreachable(f"benchmarks: {self.name!r} is not on the Hub. {self.how_to_get()}")


@dataclass(frozen=True, kw_only=True)
class RowsBenchmark(BenchmarkFile):
    """
    A benchmark whose rows have a layout of their own, which `rows` reads.

    Attributes:
        rows (`Callable`):
            A row, and the folder of its file (`""` from the Hub) → what it holds, a `dict` each. A column that it needs and that is not there
            is a `KeyError`.
        hub_splits (`tuple[str, ...]`):
            Splits of the Hub dataset, one after the other.
        patterns (`tuple[str, ...]`):
            Several files in a directory, where it has no single one.
        category_columns (`tuple[str, ...]`):
            Columns to break results down by.
    """

    rows: Callable[[Mapping[str, Any], str], list[dict[str, Any]]]
    hub_splits: tuple[str, ...] = ("test",)
    patterns: tuple[str, ...] = ()
    category_columns: tuple[str, ...] = ()

    def read(self, path: str | Path | None, max_rows: int | None = None) -> list[dict[str, Any]]:
        """
        What the benchmark holds, from a file or directory, by default from the Hub.

        Args:
            max_rows (`int`, *optional*):
                Read the first rows only.

        Raises:
            [`~real_trl.data.sources.HubUnreachable`], `ValueError`: as of [`~real_trl.data.benchmarks.load_benchmark`]; of a row that has another
                layout, its place.
        """
        found: list[dict[str, Any]] = []
        count = 0
        for source, part in self._sources(path):
            for index, row in enumerate(source.iterate(source.own_columns)):
                if count == max_rows:
                    return found
                count += 1
                try:
                    found += self.rows(row, part)
                except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
                    what = f"there is no {error}" if isinstance(error, KeyError) else f"{error}"
                    raise ValueError(
                        f"benchmarks: {self.name}: {source.name}, {source.where(index)}: {what}. It has the columns "
                        f"{source.columns}: this is not the layout of {self.file} as published. {self.how_to_get()}"
                    ) from error
        return found

    def _sources(self, path: str | Path | None) -> Iterator[tuple[Source, str]]:
        if path is None:
            if self.hub_id is None:
                raise self.not_on_the_hub()
            for split in self.hub_splits:
                try:
                    yield read_source(self.hub_id, None, split, {}), ""
                except HubUnreachable as error:
                    raise HubUnreachable(
                        f"benchmarks: {self.name!r} cannot be had: {error} {self.how_to_get()}"
                    ) from error
            return
        path = Path(path).expanduser()
        files = sorted(file for pattern in self.patterns for file in path.glob(pattern)) if path.is_dir() else []
        for file in files or [self.find(path)]:
            yield read_source(str(file), None, "all", {}), file.resolve().parent.name
