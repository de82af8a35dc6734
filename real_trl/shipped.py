# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The recipes and the configurations of `accelerate launch` that come with the package. They are found by their names wherever a file is
asked for, so that a command works in an empty folder as in a clone.
"""

import os
import re
import sys
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "recipes"  # in a clone a link to the folder at its top
_FIRST = "recipes/"  # names may have it before them, as they have in a clone
_STAGE = re.compile(r"^#.*-m real_trl\.scripts\.(\w+)", re.MULTILINE)


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder; of a text that is no path, or too long for one, there is none."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def shipped(name: str | Path) -> Path | None:
    """The file or folder of the package that is called so (`qwen3-8b/real.yaml`, `recipes/qwen3-8b`), or `None`."""
    parts = Path(str(name).removeprefix(_FIRST)).parts
    if not parts or parts[0] == os.sep or ".." in parts:
        return None
    path = FOLDER.joinpath(*parts)
    return path if exists(path) else None


def find_file(name: str | Path, *, tell: bool = True) -> Path:
    """
    The path of a file or folder that a user names.

    Args:
        name (`str` or `Path`):
            A path, or the name of what comes with the package.
        tell (`bool`, *optional*, defaults to `True`):
            Say on standard error, once a process, if it is the package's.

    Returns:
        `Path`: what is there under this path; else what the package has under this name; else the path as it is, which whoever
        opens it will miss.
    """
    path = Path(name)
    found = None if exists(path) else shipped(name)
    if found is not None and tell:
        _tell(str(name), found)
    return found or path


@cache
def _tell(name: str, found: Path) -> None:
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"{name}: not in this folder; taken from the package real_trl: {found}", file=sys.stderr)


def folders() -> dict[str, list[Path]]:
    """Name of each folder of the package's recipes → its YAML files."""
    return {path.name: sorted(path.glob("*.yaml")) for path in sorted(FOLDER.iterdir()) if path.is_dir()}


def describe(path: Path) -> tuple[str, str]:
    """The stage that a recipe is for, empty if it is none of one stage, and what its first line says."""
    text = path.read_text(encoding="utf-8")
    stage = _STAGE.search(text) if path.parent.name != "accelerate_configs" else None
    return stage[1] if stage else "", text.partition("\n")[0].lstrip("# ")


def copy(name: str, to: Path) -> list[Path]:
    """
    Copy a folder of the package's recipes into the folder `to`, and beside it the configurations of `accelerate launch` that its commands
    name. The commands and paths in the copies name the copies.

    Args:
        name (`str`):
            Name of the folder: `qwen3-8b`.

    Returns:
        `list[Path]`: the files that were written. A configuration that is there already is left as it is.

    Raises:
        `ValueError`: if there is no such folder, or `to` has something of that name.
    """
    name = name.removeprefix(_FIRST).rstrip("/")
    known = list(folders())
    if name not in known:
        raise ValueError(f"recipes copy: there is no folder {name!r}. Give one of: {', '.join(known)}.")
    target = to / name
    if target.exists():
        raise ValueError(
            f"recipes copy: {str(target)!r} is there already, and would be overwritten. Move it away first."
        )
    own = re.compile(rf"\b{_FIRST}(?=(?:{'|'.join(map(re.escape, known))})/)")
    files = sorted(path for path in (FOLDER / name).rglob("*") if path.is_file())
    texts = {path.relative_to(FOLDER): path.read_text(encoding="utf-8") for path in files}
    for config in folders()["accelerate_configs"]:
        inside = config.relative_to(FOLDER)
        if any(_FIRST + inside.as_posix() in text for text in texts.values()) and not (to / inside).exists():
            texts.setdefault(inside, config.read_text(encoding="utf-8"))
    for inside, text in texts.items():
        path = to / inside
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(own.sub("", text), encoding="utf-8")
    return [to / inside for inside in texts]
