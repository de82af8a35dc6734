# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which Python files belong to a model with code of its own: those that `auto_map` names, and what these import from beside them."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real_trl.publishing.regular_files import check_regular
from real_trl.weights.files import check_inside, read_json

_MAX_BYTES = 2**22


def own_code(folder: Path) -> list[str]:
    """
    Names of the modules, relative to `folder`.

    Raises:
        `ValueError`: naming the file, if `auto_map` or an import names a module that is not beside it, or one is no Python.
    """
    found: dict[str, None] = {}
    waiting = [
        (folder / config, f"{module}.py")
        for config in ("config.json", "tokenizer_config.json")
        if check_regular(folder, config)
        for module in _named(folder / config)
    ]
    while waiting:
        says, name = waiting.pop()
        check_inside(says, name)
        if name in found:
            continue
        if not check_regular(folder, name):
            raise ValueError(f"{says}: it names the module {name!r}, which is not beside it. Copy it there.")
        found[name] = None
        waiting += [(folder / name, f"{module}.py") for module in _imported(folder / name)]
    return sorted(found)


def _named(path: Path) -> Iterator[str]:
    """The modules in `auto_map`: `modeling_mine.MyModel`, or a list of such for tokenizers; what is in another repository is not here."""
    given = read_json(path).get("auto_map") or {}
    names = [each for value in _values(path, given) for each in (value if isinstance(value, list) else [value])]
    for name in names:
        if name is None:
            continue
        if not isinstance(name, str) or "." not in name:
            raise ValueError(f"{path}: auto_map holds {name!r:.80}, not module.Class. Correct it.")
        if "--" not in name:
            yield name.rpartition(".")[0]


def _values(path: Path, given: Any) -> list[Any]:
    if isinstance(given, list):  # of older tokenizers
        return given
    if not isinstance(given, dict):
        raise ValueError(f"{path}: auto_map is {given!r:.80}, not a mapping. Correct it.")
    return list(given.values())


def _imported(path: Path) -> Iterator[str]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES:,} bytes")
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{path}: auto_map names it, and it is no Python ({error}). Copy it again.") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > 1:
                raise ValueError(
                    f"{path}: line {node.lineno} imports from outside the judge's folder. Put the module beside it."
                )
            yield from [node.module] if node.module else [alias.name for alias in node.names]
