# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `--help` and `--help-all` of a command print."""

import re
import shutil
import textwrap
from collections.abc import Mapping

from real_trl.arguments.help_groups import groups_of
from real_trl.arguments.options import Option, commands, options_of, takes_recipes

_LEFT = 34  # columns of names and kinds
_LONGEST_KIND = 24  # a longer list of choices stands in the text
_SHORT = 170  # characters of a help text on the short page, if it has more sentences than fit
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z`'\"(])")


def help_page(command: str, *, every: bool = False, width: int | None = None) -> str:
    """
    The help of a command.

    Args:
        every (`bool`, *optional*, defaults to `False`):
            All options with all of their help; by default, of a command that takes recipes, those that people set first.
        width (`int`, *optional*):
            Columns. Defaults to the terminal's, at most 120.
    """
    width = width or max(min(shutil.get_terminal_size((100, 24)).columns, 120), 60)
    about, options = commands()[command], options_of(command)
    parts = [f"usage: {about['usage'] or _usage(command, options)}", about["text"]]
    groups = _groups(command, options)
    shown = {name for names in groups.values() for name in names}
    rest = [name for name in options if name not in shown]
    if every:
        for name in rest:
            groups.setdefault(f"{options[name].group}, all others", []).append(name)
    parts += [_group(title, {name: options[name] for name in names}, every, width) for title, names in groups.items()]
    if rest and not every:
        parts.append(f"{len(rest)} more options: real-trl {command} --help-all")
    if about["epilog"]:
        parts.append(textwrap.fill(about["epilog"], width))
    return "\n\n".join(parts)


def _usage(command: str, options: Mapping[str, Option]) -> str:
    if takes_recipes(command):
        return f"real-trl {command} --config RECIPE [--option value …]"
    words = [names[0] for option in options.values() if not (names := option.names)[0].startswith("-")]
    words += [f"{option.names[0]} {option.kind}" for option in options.values() if option.required]
    return " ".join(["real-trl", command, *words, "[options]"])


def _groups(command: str, options: Mapping[str, Option]) -> dict[str, list[str]]:
    """Title → names, of what the short page shows."""
    groups: dict[str, list[str]] = {}
    if takes_recipes(command):
        for title, names in groups_of(command).items():
            if here := [name for name in names if name in options]:
                groups[title] = here
    else:
        for name, option in options.items():
            groups.setdefault(option.group or "Options", []).append(name)
    return groups


def _group(title: str, options: Mapping[str, Option], every: bool, width: int) -> str:
    return "\n".join([f"{title}:", *(_entry(option, every, width) for option in options.values())])


def _entry(option: Option, every: bool, width: int) -> str:
    name = next((name for name in option.names if not name.startswith("--no")), option.names[0])
    long = len(option.kind) > _LONGEST_KIND
    left = f"  {name} {'one of …' if long else option.kind}".rstrip()
    text = option.help if every else _short(option.help)
    text += "" if text.endswith((".", ")", "?")) else "."
    if long:
        text += f" One of: {option.kind.replace('|', ', ')}."
    if option.required:
        text += " Required."
    elif option.default not in (None, "", [], {}) and "efault" not in option.help:
        text += f" Default: {_shown(option.default)}."
    space = " " * _LEFT
    lines = textwrap.wrap(text.strip(), width, initial_indent=space, subsequent_indent=space) or [space]
    if len(left) < _LEFT:
        lines[0] = left.ljust(_LEFT) + lines[0][_LEFT:]
        return "\n".join(lines)
    return "\n".join([left, *lines])


def _short(text: str) -> str:
    """The first sentences, as many as fit, but at least one, and a last one that says the default."""
    if len(text) <= _SHORT:
        return text
    first, *others = _SENTENCE.split(text)
    for sentence in others:
        if len(first) + len(sentence) >= _SHORT:
            break
        first += f" {sentence}"
    return first


def _shown(default: object) -> str:
    if isinstance(default, str) and default != default.strip():
        return repr(default)
    return str(default).lower() if isinstance(default, bool) else str(default)
