# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The options of every command, known without importing what it runs, which takes many seconds: names, kinds, defaults and help out of
`options.json`. That file is made of the commands' parsers by `.ci/write_options.py`, and a test compares it with them. It is exact with the
pinned version of Transformers, and with those of which it says what is other in them.
"""

import json
from argparse import Action, ArgumentParser
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from enum import Enum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

FILE = Path(__file__).with_name("options.json")
_OTHERS = ("transformers", "trl")  # whose options are among them
_UNSAID = {"kind": "", "default": None, "help": "", "required": False}
# Of several, the first
_KINDS = {dict: "MAPPING", list: "TEXT …", bool: "true|false", float: "NUMBER", int: "INTEGER", str: "TEXT"}


@dataclass(frozen=True)
class Option:
    """
    An option of a command.

    Attributes:
        names (`tuple[str, ...]`):
            As they are written: `--score_labels`, `--score-labels`. Of a positional argument, its name alone.
        kind (`str`):
            What its value is: `TEXT`, `NUMBER`, …, the choices with `|` between them, or empty for a flag without one.
        default (`Any`):
            What it is without it, as JSON has it; `None` where nothing is set.
        help (`str`):
            What it does.
        required (`bool`):
            Whether it has to be set.
        group (`str`):
            Title that it stands under: of a recipe's options the dataclass that has them.
    """

    names: tuple[str, ...]
    kind: str
    default: Any = None
    help: str = ""
    required: bool = False
    group: str = ""


def describe(parser: ArgumentParser) -> dict[str, Option]:
    """The options of a parser by their destinations, in its order."""
    owners = {
        field.name: (cls.__name__, hints[field.name])
        for cls in getattr(parser, "dataclass_types", ())
        for hints in [get_type_hints(cls)]
        for field in fields(cls)
        if field.init
    }
    found: dict[str, Option] = {}
    for group in parser._action_groups:
        title = group.title if group.title not in ("positional arguments", "options") else ""
        for action in group._group_actions:
            if action.dest == "help":
                continue
            names = tuple(action.option_strings) or (action.metavar or action.dest,)
            if action.dest in found:  # `--no_x` beside `--x`
                before = found[action.dest]
                found[action.dest] = Option(**{**asdict(before), "names": before.names + names})
                continue
            owner, hint = owners.get(action.dest, (title, None))
            kind = _kind_of_action(action) if hint is None or action.choices else _kind_of_field(hint)
            text = " ".join((action.help or "").replace("%%", "%").split())
            found[action.dest] = Option(
                names,
                kind,
                _plain(action.default) if action.nargs != 0 else None,
                text,
                bool(action.required and action.option_strings),
                owner,
            )
    return found


def _usual_names(name: str) -> tuple[str, ...]:
    return (f"--{name}", f"--{name.replace('_', '-')}") if "_" in name else (f"--{name}",)


def _kind_of_action(action: Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return _KINDS.get(action.type, "TEXT")


def _kind_of_field(hint: Any) -> str:
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for member in members:
        if get_origin(member) is Literal and str not in members:
            return "|".join(map(str, get_args(member)))
        if isinstance(member, type) and issubclass(member, Enum):
            return "|".join(str(each.value) for each in member)
        if get_origin(member) in (list, tuple):
            return f"{_KINDS.get(get_args(member)[0], 'TEXT')} …"
    kinds = {get_origin(member) or member for member in members}
    return next((word for kind, word in _KINDS.items() if kind in kinds), "TEXT")


def _plain(default: Any) -> Any:
    if isinstance(default, Enum):
        return default.value
    return default if isinstance(default, bool | int | float | str | list | dict | None) else str(default)


def written(parsers: dict[str, tuple[str, ArgumentParser]], *, also: bool = False) -> str:
    """
    The content of `options.json`: a line an option, and what several commands have alike once. What it says of further versions of
    Transformers is kept.

    Args:
        parsers (`dict[str, tuple[str, argparse.ArgumentParser]]`):
            By command: what it does, in words, and its parser.
        also (`bool`, *optional*, defaults to `False`):
            Whether the installed Transformers is such a further version: what is other in it is added, and nothing else changed.
    """
    from real_trl.text.json_text import to_json  # imports what a help page must not wait for

    groups: dict[str, dict[str, Any]] = {}
    commands = {}
    file = json.loads(FILE.read_text(encoding="utf-8"))
    for command, (text, parser) in parsers.items():
        mine: dict[str, None] = {}
        for name, option in describe(parser).items():
            content = asdict(option)
            del content["group"]
            for key, unsaid in _UNSAID.items():
                if content[key] == unsaid:
                    del content[key]
            if option.names == _usual_names(name):
                del content["names"]
            group = option.group if hasattr(parser, "dataclass_types") else f"{command}: {option.group}"
            groups.setdefault(group, {})[name] = content
            mine[group] = None
        commands[command] = {
            "usage": parser.usage or "",
            "text": text.strip(),
            "epilog": parser.epilog or "",
            "groups": list(mine),
        }
    further = file.get("also", {})
    if also:
        groups = json.loads(to_json(groups))  # as the file has them
        others = {
            group: {name: content for name, content in options.items() if file["groups"][group].get(name) != content}
            for group, options in groups.items()
        }
        further[version("transformers")] = {group: options for group, options in others.items() if options}
        commands, groups = file["commands"], file["groups"]
    lines = []
    for group, options in groups.items():
        inside = ",\n".join(f"   {to_json(n)}: {to_json(o)}" for n, o in options.items())
        lines.append(f"  {to_json(group)}: {{\n{inside}\n  }}")
    versions = to_json(file["versions"] if also else {name: version(name) for name in _OTHERS})
    told, more = to_json(commands, indent=1), to_json(further, indent=1)
    head = f'{{\n "versions": {versions},\n "also": {more},\n "commands": {told},\n'
    return f'{head} "groups": {{\n' + ",\n".join(lines) + "\n }\n}\n"


@cache
def _stored() -> dict[str, Any]:
    """The file, as it is with the installed Transformers."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))
    with suppress(PackageNotFoundError):
        installed = version("transformers")
        if installed in stored["also"]:
            stored["versions"]["transformers"] = installed
            for group, options in stored["also"][installed].items():
                stored["groups"][group] |= options
    return stored


def commands() -> dict[str, dict[str, Any]]:
    """By command: `usage`, `text` and `epilog` of its help."""
    return _stored()["commands"]


def options_of(command: str) -> dict[str, Option]:
    """The options of a command by their destinations."""
    found = {}
    for group in commands()[command]["groups"]:
        for name, stored in _stored()["groups"][group].items():
            content = dict(stored)
            title = group.removeprefix(f"{command}: ")
            names = tuple(content.pop("names", ())) or _usual_names(name)
            found[name] = Option(names, **{"kind": "", **content, "group": title})
    return found


def takes_recipes(command: str) -> bool:
    """Whether it has options of dataclasses, which a recipe can set."""
    return command in commands() and not commands()[command]["groups"][0].startswith(f"{command}: ")


def is_exact() -> bool:
    """Whether the libraries whose options are among these are versions that they were taken from."""
    try:
        return all(version(name) == known for name, known in _stored()["versions"].items())
    except PackageNotFoundError:
        return False
