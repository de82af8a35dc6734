# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A folder with what a model generated and its provenance, written batch by batch so that a run that is killed loses at most
the batch it was at.

While it is being made, `provenance.json` says what it is made with, and `parts/` holds a file for each process with a
line for each finished batch. At the end the batches become the result's files, and `parts/` goes, unless rows have no answer:
then the same command asks for these again, and a line with a later attempt takes the place of the batch's earlier one.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_trl.option_values import FieldError
from real_trl.runs.disk import writing
from real_trl.runs.output_lock import WRITING, write_whole
from real_trl.text.json_text import to_json
from real_trl.text.redaction import redacted, without_secrets

PROVENANCE_NAME = "provenance.json"
_PARTS = "parts"
_KEPT = "Every batch that was finished is kept"


@dataclass(frozen=True)
class StoredBatch:
    """
    Where a finished batch stands.

    Attributes:
        path (`Path`), start (`int`): File, and the offset of its line.
        size (`int`): Number of its rows.
        attempt (`int`): How often its rows were asked for before, for want of an answer.
        unscored (`list[int]`): Its rows that have none.
    """

    path: Path
    start: int
    size: int
    attempt: int
    unscored: list[int]

    def rows(self) -> list[dict[str, Any]]:
        """Its rows, read now."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            return json.loads(file.readline())["rows"]


class GeneratedFolder:
    """
    The folder of a generated dataset, or of a judge's predictions. Who writes to it holds its lock
    ([`~real_trl.runs.output_lock.only_writer`]), or that of a folder around it.

    Args:
        made_with (`Mapping[str, Mapping]`):
            Everything that its rows depend on, as JSON, by section. A section that holds a `fingerprint` is compared by
            that alone: its other entries only describe. Secrets in it are not kept.
        result (`str`):
            The file that a complete folder has.
        option (`str`, *optional*, defaults to `"output_dir"`):
            What names the folder, for messages.
    """

    def __init__(
        self,
        folder: str | Path,
        made_with: Mapping[str, Mapping[str, Any]],
        result: str,
        option: str = "output_dir",
    ) -> None:
        self.folder, self.result, self.option = Path(folder), result, option
        self.made_with = redacted(json.loads(to_json(made_with, default=str)))

    def check(self) -> bool:
        """
        Whether the content is complete.

        Raises:
            ValueError: if the folder holds something else, or what was made with something else; it names what differs.
        """
        if not self.folder.exists():
            return False
        if not self.folder.is_dir():
            raise self._other("is a file", f"Choose another {self.option}.")
        path = self.folder / PROVENANCE_NAME
        if not path.is_file():
            # A run that is killed while it starts leaves no more than this, and there may be the lock
            names = {entry.name for entry in self.folder.iterdir()} - {_PARTS}
            if any(not name.startswith((WRITING, ".lock")) for name in names):
                said = f"is not empty and has no {PROVENANCE_NAME}, so its rows are of unknown origin"
                raise self._other(said, f"Choose another {self.option}, or delete the folder.")
            return False
        provenance = _read_json(path)
        differences = list(self._differences(provenance.get("made_with", {})))
        if differences and not provenance.get("complete") and not self.stored():
            return False  # it was refused or stopped before there was anything to keep
        if differences:
            said = f"holds what was made differently: {'; '.join(differences)}"
            fix = f"Put that back to go on with it, choose another {self.option}, or delete the folder to start anew."
            raise self._other(said, fix)
        return bool(provenance.get("complete")) and (self.folder / self.result).is_file()

    def _other(self, said: str, fix: str) -> FieldError:
        return FieldError(self.option, str(self.folder), fix, f": {str(self.folder)!r} {said}")

    def _differences(self, before: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
        for section, now in self.made_with.items():
            then = before.get(section, {})
            if "fingerprint" in now and now["fingerprint"] == then.get("fingerprint"):
                continue
            for name, value in now.items():
                if without_secrets({name: then.get(name)}) != without_secrets({name: value}):
                    yield f"{section}.{name} was {redacted(then.get(name))!r}, now it is {value!r}"

    def start(self, run: Mapping[str, Any]) -> None:
        """Record what the content is made with, and add `run` (versions, processes) to the runs that made it."""
        (self.folder / _PARTS).mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{WRITING}*"):  # of a run that was killed
            left.unlink()
        path = self.folder / PROVENANCE_NAME
        runs = _read_json(path)["runs"] if path.is_file() else []
        self._write_provenance({"complete": False, "runs": [*runs, run]})

    def stored(self) -> dict[int, StoredBatch]:
        """Where every finished batch stands, by its latest attempt. A torn line is none."""
        found: dict[int, StoredBatch] = {}
        for path in sorted((self.folder / _PARTS).glob("*.jsonl")):
            with path.open("rb") as file:
                start = 0
                for number, line in enumerate(file, 1):
                    if line.endswith(b"\n"):
                        try:
                            content = json.loads(line)
                            attempt, unscored = content.get("attempt", 0), content.get("unscored", [])
                            batch = StoredBatch(path, start, len(content["rows"]), attempt, unscored)
                            before = found.get(content["batch"])
                        except (ValueError, TypeError, KeyError, AttributeError) as error:
                            raise ValueError(
                                f"{path}, line {number}: not a batch ({error}). Delete the line."
                            ) from error
                        if before is None or batch.attempt >= before.attempt:
                            found[content["batch"]] = batch
                    start += len(line)
        return found

    def append(
        self,
        process: int,
        batch: int,
        rows: Sequence[Mapping[str, Any]],
        *,
        unscored: Sequence[int] = (),
        attempt: int = 0,
    ) -> None:
        """
        Add a finished batch to the file of a process. When this returns, it is on disk.

        Args:
            process, batch (`int`):
                Number of the process, and of the batch.
            unscored (`Sequence[int]`, *optional*):
                Those of them that have no answer.
            attempt (`int`, *optional*, defaults to `0`):
                One more than that of the batch which this one replaces.
        """
        content: dict[str, Any] = {"batch": batch, "rows": rows}
        if unscored or attempt:
            content |= {"attempt": attempt, "unscored": list(unscored)}
        path = self.folder / _PARTS / f"{process:05d}.jsonl"
        with writing(path, _KEPT), path.open("r+b" if path.exists() else "w+b") as file:
            _discard_torn_line(file)
            file.write(to_json(content).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, files: Mapping[str, str | bytes], counts: Mapping[str, Any], *, unscored: int = 0) -> None:
        """
        Write the result's files, each atomically, and declare the folder complete, unless some rows are
        `unscored`: then the batches stay, and the command goes on with these rows when it is given again.
        """
        for name, content in files.items():
            write_whole(self.folder / name, content)
        runs = _read_json(self.folder / PROVENANCE_NAME)["runs"]
        if unscored:
            self._write_provenance({"complete": False, "runs": runs, "counts": {**counts, "unscored": unscored}})
            return
        self._write_provenance({"complete": True, "runs": runs, "counts": counts})
        self.discard_parts()

    def replace(self, name: str, content: str | bytes) -> None:
        """Write one of the result's files again, there whole or as it was."""
        write_whole(self.folder / name, content)

    def discard_parts(self) -> None:
        """Delete the batches, which a complete folder does not need."""
        shutil.rmtree(self.folder / _PARTS, ignore_errors=True)

    @property
    def counts(self) -> dict[str, Any]:
        """What [`~GeneratedFolder.finish`] recorded."""
        return _read_json(self.folder / PROVENANCE_NAME)["counts"]

    def _write_provenance(self, content: Mapping[str, Any]) -> None:
        text = to_json({**content, "made_with": self.made_with}, indent=2)
        write_whole(self.folder / PROVENANCE_NAME, text + "\n")


def _discard_torn_line(file: Any) -> None:
    """Cut off what a killed process wrote of a line, and go to the end."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 2**16)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    file.truncate(end)
    file.seek(end)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not valid JSON ({error}). Delete its folder to start anew.") from error
