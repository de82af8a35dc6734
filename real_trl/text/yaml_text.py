# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Mappings and values as text: YAML and JSON, or `name=value,name=value`, in which no key stands twice; of two, the libraries take the last."""

import json
import re
from typing import Any

import yaml

from real_trl.text.json_text import unique_names

_PAIR = re.compile(r"(?:^|,)\s*([^\s=,:/{}\[\]\"']+)\s*=")  # no path has a name before its first `=`


class DuplicateKeyError(ValueError):
    """A key stands twice in a mapping."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and name in lines:
                text = f"{name[1]!r} stands twice, in lines {lines[name]} and {line}"
                raise DuplicateKeyError(f"{text}. Remove one of them.")
            lines[name] = line
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """As `yaml.safe_load`, and `DuplicateKeyError`."""
    return yaml.load(text, _Loader)


def read_json_or_yaml(text: str) -> Any:
    """As [`read_yaml`]; a JSON text as JSON has it, whose `1e-5` is text in YAML and whose tabs are an error."""
    try:
        return json.loads(text, object_pairs_hook=unique_names)
    except ValueError:  # no JSON, or a key that stands twice, whose lines YAML knows
        return read_yaml(text)


def is_pairs(text: str) -> bool:
    """Whether `text` is a mapping written as `name=value,name=value`."""
    return bool(_PAIR.match(text))


def read_pairs(text: str) -> dict[str, Any]:
    """
    A mapping for which [`is_pairs`]: each value as YAML has it, if that is one text or number; a comma that no name follows is a part of it.

    Raises:
        `DuplicateKeyError`: if a name is there twice.
    """
    found = list(_PAIR.finditer(text))
    pairs: dict[str, Any] = {}
    for match, end in zip(found, [*(match.start() for match in found[1:]), len(text)], strict=True):
        if match[1] in pairs:
            raise DuplicateKeyError(f"{match[1]!r} is there twice. Remove one of the two.")
        said = text[match.end() : end].strip()
        try:
            value = read_json_or_yaml(said)
        except (yaml.YAMLError, ValueError, RecursionError):
            value = said
        pairs[match[1]] = value if isinstance(value, str | bool | int | float) else said
    return pairs
