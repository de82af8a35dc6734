# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON in which no key stands twice; of two, the libraries take the last."""

import json
from typing import Any

import yaml

from real_trl.text.json_text import unique_names


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
