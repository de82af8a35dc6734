# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A command that is given once more when it has nothing left to do. It is known by its words, and by size and time of every file that they
name and that it has written, before anything slow is imported; whatever differs, the command itself looks at everything.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from real_trl.arguments.options import Option, options_of
from real_trl.arguments.recipe_file import MODEL, read_recipe, with_recipe_path
from real_trl.shipped import exists, find_file, shipped
from real_trl.text.redaction import redact_text
from real_trl.text.yaml_text import read_json_or_yaml
from real_trl.versions import package_versions

_COMMANDS = ("score", "self_generate")
_RECORD = ".complete.json"  # beside provenance.json
_NAMES = (MODEL, "data", "dataset_name", "tokenizer")  # what could also be on the Hub
_MOST_FILES = 10_000


class Asked:
    """
    A command line, and the state of the files that it names when this is made: before the command reads them.

    Args:
        command (`str`), args (`Sequence[str]`):
            `score` or `self_generate`, and its options. Of others nothing is recorded.
    """

    def __init__(self, command: str, args: Sequence[str]) -> None:
        self._outputs: list[Path] = []
        self._state: list[Any] | None = None
        if command not in _COMMANDS:
            return
        stated = _stated(args, options_of(command))
        self._outputs = _outputs(command, stated)
        paths = [find_file(text, tell=False) for text in _texts(stated) if text and (exists(text) or shipped(text))]
        named = _state(paths, self._outputs)
        if any(not exists(str(stated[name])) for name in _NAMES if stated.get(name)):
            named = None  # a model or data on the Hub cannot be looked at here
        self._state = None if named is None else [command, *args, os.getcwd(), package_versions(), *named]

    @classmethod
    def of_process(cls, command: str, argv: Sequence[str] | None) -> "Asked":
        """For the `main` of a command: what its process was started with; with an `argv` of a caller, one of which nothing is recorded."""
        return cls(command if argv is None else "", sys.argv[1:])

    def said(self) -> str | None:
        """What the command said when it was done, if nothing has changed since; else `None`."""
        try:
            record = json.loads((self._outputs[0] / _RECORD).read_text(encoding="utf-8"))
            return record["said"] if record["state"] == self._fingerprint() else None
        except (OSError, ValueError, LookupError, TypeError):
            return None

    def record(self, said: str) -> None:
        """To be called when the command is done, with nothing unscored: what it says if it is given again."""
        if (fingerprint := self._fingerprint()) is not None:
            from real_trl.text.json_text import to_json  # by now its imports cost nothing

            text = to_json({"state": fingerprint, "said": redact_text(said)})
            with suppress(OSError):  # all that matters has been written
                (self._outputs[0] / _RECORD).write_text(text, encoding="utf-8")

    def _fingerprint(self) -> str | None:
        written = _state(self._outputs)
        if self._state is None or not written:
            return None
        return hashlib.sha256(repr([self._state, written]).encode("utf-8", "backslashreplace")).hexdigest()


def _state(paths: Iterable[Path], without: Sequence[Path] = ()) -> list[tuple[str, int, int]] | None:
    """Size and time of all files of some paths; `None` if there are too many, or one names others that are elsewhere."""
    files = {file for path in paths for file in _files(path)}
    files = {file for file in files if not any(file.is_relative_to(path) for path in without)}
    if len(files) > _MOST_FILES or any(file.name == "adapter_config.json" for file in files):
        return None
    try:
        return [(str(file), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in sorted(files)]
    except OSError:  # gone meanwhile, or a link to nothing
        return None


def _stated(args: Sequence[str], options: Mapping[str, Option]) -> dict[str, Any]:
    """Recipe and command line, not parsed: option → text, or what YAML made of it."""
    if args and not args[0].startswith("-"):
        args = ["--data", *args]
    args, path = with_recipe_path(args, tell=False)
    stated = {} if path is None else {**read_recipe(path), "config": str(path)}
    names = {name: dest for dest, option in options.items() for name in option.names}
    for place, arg in enumerate(args):
        name, separator, value = arg.partition("=")
        if name in names:
            following = args[place + 1 :]
            end = next((i for i, word in enumerate(following) if word.startswith("--")), len(following))
            words = [value] if separator else list(following[:end])
            stated[names[name]] = words[0] if len(words) == 1 else words
    return stated


def _outputs(command: str, stated: Mapping[str, Any]) -> list[Path]:
    """The folder with the provenance, first, and the result where it is elsewhere."""
    if command == "self_generate" and stated.get("output_dir"):
        return [Path(str(stated["output_dir"]))]
    if command == "score" and stated.get("data"):
        output = Path(str(stated.get("output") or Path(str(stated["data"])).with_suffix(".scored.jsonl")))
        return [Path(f"{output}.provenance"), output]
    return []


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value.lstrip().startswith(("{", "[")):
            with suppress(yaml.YAMLError, ValueError, RecursionError):
                yield from _texts(read_json_or_yaml(value))
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _files(path: Path) -> Iterator[Path]:
    """A file, or those of a folder, without hidden ones, among which are locks."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))
