# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Takes secrets out of what is written: settings (provenance, manifests, reports, pickled arguments, trackers), messages and logs.

A secret is known by the name that it has (`token`, `api_key`, …), by its form (`hf_…`, `Bearer …`, `user:password@host`, …), or as the
value of an environment variable with such a name. Rows of data are the user's own and are not touched.

What is named as a credential can change from run to run. What only has a form may be something else, say a model's name: in settings, a
digest of it stays (`[redacted 3fa9c1d2]`), so that two of them are never taken for one.
"""

import copy
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from real_trl.text.json_text import to_json
from real_trl.text.secret_forms import LEAST, MARK, REDACTED, WORDS, digest, is_secret_name, redact_forms

_STANDS_FOR_ONE = re.compile(
    r"(?:^|:\s*[\"'])(?:\w+ )?\[redacted\](?:$|[\"'])|(?:://|[?&;])[^\s\"']{0,256}\[redacted\]|\[redacted [0-9a-f]{8}\]"
)
# The keys of these are names that the user gives to other things
_OWN_NAMES = frozenset("columns prompt_replace judges benchmark_paths".split())
# Their values are secrets however short they are, and whatever word they are
_SHORT = re.compile("token|key|secret|pass|pwd|credential", re.IGNORECASE)
_HEADER_OF_A_SECRET = re.compile(
    "auth(?!or)|authoriz|cookie|key|token(?!s)|secret|passw|session|signature", re.IGNORECASE
)

_remembered: set[str] = set()


def known_secrets(*more: str | None) -> list[str]:
    """
    The secrets of this process, the longest first: `more`, the login of the Hub, what the environment has under the name of a secret,
    and what recipes had ([`remember`]). What the environment has may be an ordinary word: of that, what is long or mixed.
    """
    # For every line that is shown: names, which are remembered, are looked at before values
    named = {os.environ.get(name, "") for name in os.environ if is_secret_name(name)}
    found = {value for value in named if _is_long(value.strip())}
    found |= {value for value in (get_token(), *more) if value and value.strip()} | _remembered
    return sorted({value.strip() for value in found}, key=len, reverse=True)


def redact_text(text: object, *more: str | None) -> str:
    """`text` with [`REDACTED`] in the place of every secret: those of this process, `more`, and what has a secret's form or name."""
    return redact_forms(str(text), known_secrets(*more))


def redacted(value: Any, *more: str | None) -> Any:
    """
    A copy of `value`, settings of any depth (mappings, sequences, dataclasses, texts), with [`REDACTED`], or the like with a digest, in
    the place of every secret. Anything else in it stays as it is. Redacting again changes nothing.
    """
    return _walk(value, known_secrets(*more))


def redact_command(arguments: Sequence[str]) -> list[str]:
    """A command line without secrets, also in options whose values are mappings."""
    known = known_secrets()
    shown = _walk(list(arguments), known)
    for place, argument in enumerate(shown):
        option, sign, mapping = ("", "", argument) if argument.startswith("{") else argument.partition("=")
        try:
            value = yaml.safe_load(mapping) if mapping.startswith("{") else None
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
        without = _walk(value, known, _kind(option or shown[place - 1].lstrip("-")))
        if isinstance(value, dict) and without != value:
            shown[place] = option + sign + to_json(without, default=str)
    return shown


def remember(settings: Any) -> None:
    """From now on, the secrets that `settings` name as such are known wherever else they turn up."""
    found = [*_named(settings)]
    for argument in settings if isinstance(settings, list) else ():
        mapping = argument[argument.find("{") :] if isinstance(argument, str) and "{" in argument else ""
        try:
            found += _named(yaml.safe_load(mapping))
        except (yaml.YAMLError, ValueError, RecursionError):
            continue
    _remembered.update(
        value.strip()
        for name, value in found
        if (_is_long(value.strip()) or len(value.strip()) >= LEAST and _SHORT.search(name)) and not MARK.search(value)
    )


def _named(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The texts and numbers in `value` whose own name is that of a secret, with the name."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str) and not (key in _OWN_NAMES and isinstance(item, Mapping)):
                yield from _named(item, key)
    elif isinstance(value, list | tuple):
        for before, item in zip([None, *value], value, strict=False):
            yield from _named(item, before[2:] if _is_secret_option(before) else name)
    elif value is not None and not isinstance(value, bool) and is_secret_name(name):
        yield name, str(value)


def _is_long(value: str) -> bool:
    """Whether a value that has no more than a name is hardly an ordinary word."""
    mixed = any(map(str.isalpha, value)) and any(map(str.isdigit, value))
    return len(value) >= (10 if mixed else 16)


def yaml_fault(error: Exception) -> str:
    """What is wrong with a YAML text, and where, without anything of the text: it may be a secret."""
    fault = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).partition("\n")[0]
    fault = re.sub(r"(['\"])(?!<).{2,}\1", "what stands there", fault)
    mark = getattr(error, "problem_mark", None)
    return f"{fault}, line {mark.line + 1}, column {mark.column + 1}" if mark else fault


def without_secrets(value: Any) -> Any:
    """Settings to be compared: [`redacted`], and without the names of secrets. A new token makes no other run."""
    return _bare(redacted(value))


def check_not_redacted(name: str, value: Any) -> None:
    """`ValueError` if `value`, of the field `name`, is out of a file whose secrets were taken out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_not_redacted(f"{name}: {key}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            check_not_redacted(name, item)
    elif isinstance(value, str) and _STANDS_FOR_ONE.search(value):
        raise ValueError(
            f"{name}: got {value!r:.120}, which stands where a secret was, in a file that real_trl wrote. Put in the secret itself, as the "
            "recipe or the environment has it, or leave the field out."
        )


def holds_secret(text: str) -> bool:
    """Whether `text`, a prompt or a part of one, holds a secret of this process, or what has the form of one."""
    return redact_forms(text, known_secrets(), prose=True) != text


class _Kind(Enum):
    """What stands under a name: a secret; headers, some of which are; options of a store, whose names say little."""

    SECRET = 1
    HEADERS = 2
    STORAGE = 3


def _kind(name: Any, outer: _Kind | None = None) -> _Kind | None:
    if not isinstance(name, str) or outer is _Kind.SECRET:
        return outer
    if is_secret_name(name) or (outer is _Kind.HEADERS and _HEADER_OF_A_SECRET.search(name)):
        return _Kind.SECRET
    words = [word.lower() for word in WORDS.findall(name[:64])]
    if words[-1:] in (["headers"], ["header"]):
        return _Kind.HEADERS
    return _Kind.STORAGE if words[-2:] == ["storage", "options"] else outer


def _walk(value: Any, known: Sequence[str], kind: _Kind | None = None) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            if isinstance(key, str) and key in _OWN_NAMES and isinstance(item, Mapping) and kind is None:
                items[key] = {_key(each, known): _walk(text, known) for each, text in item.items()}
            else:
                items[_key(key, known)] = _walk(item, known, _kind(key, kind))
        return items
    if isinstance(value, list | tuple | set | frozenset):
        before = [None, *value][:-1]
        items = [
            _walk(item, known, _Kind.SECRET if _is_secret_option(option) else kind)
            for item, option in zip(value, before, strict=True)
        ]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__"):
        copied = copy.copy(value)
        for name, item in vars(value).items():
            # Frozen ones, too
            copied.__dict__[name] = _walk(item, known, _kind(name, kind))
        return copied
    if kind is _Kind.SECRET:
        return value if value == "" else REDACTED
    if isinstance(value, str | Path):
        text = str(value)
        if kind is _Kind.STORAGE and text:
            return digest(text)
        shown = redact_forms(text, known, any(map(str.isspace, text)), digest)
        return value if shown == text else shown
    config = getattr(value, "config", None)
    if isinstance(config, dict):  # DeepSpeed's settings
        shown = copy.copy(value)
        shown.config = _walk(config, known)
        return shown
    return value


def _key(key: Any, known: Sequence[str]) -> Any:
    return redact_forms(key, known, mark=digest) if isinstance(key, str) else key


def _is_secret_option(before: Any) -> bool:
    """Whether this is an option of a command line, whose value, a secret, comes next."""
    return isinstance(before, str) and before.startswith("--") and "=" not in before and is_secret_name(before[2:])


def _bare(value: Any, kind: _Kind | None = None) -> Any:
    if isinstance(value, Mapping):
        items = {}
        for key, item in value.items():
            inner = _kind(key, kind)
            bare = _bare(item, inner)
            secret = inner is _Kind.SECRET and (item == REDACTED or isinstance(item, Mapping | list | tuple))
            if not secret and not (inner is not None and bare == {}):  # headers that were all secrets
                items[key] = bare
        return items
    return [_bare(item, kind) for item in value] if isinstance(value, list | tuple) else value
