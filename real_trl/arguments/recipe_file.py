# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A recipe's file and a command line, before they are parsed: what can be read of them, and names that no option has."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from real_trl.option_values import shown
from real_trl.shipped import find_file
from real_trl.text.redaction import remember, yaml_fault
from real_trl.text.yaml_text import DuplicateKeyError, read_yaml

MODEL = "model_name_or_path"
"""What TRL calls the model that a command is about. Every command takes it as `--model`, and a recipe as `model`."""
MODEL_NAMES = ("model", "judge", MODEL)
"""All that it may be called: `judge` is what some commands called it."""


def with_recipe_path(args: Sequence[str], *, tell: bool = True) -> tuple[list[str], Path | None]:
    """
    A command line with the path of its recipe behind `--config`, and that path, found as of [`~real_trl.shipped.find_file`]; `ValueError`
    if `--config` comes last.
    """
    found = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
    if found and found[-1] == "--config":
        raise ValueError("--config: got no value. Give the path of a recipe.")
    if "--config" not in found:
        return found, None
    place = found.index("--config") + 1
    path = find_file(found[place], tell=tell)
    found[place] = str(path)
    return found, path


def read_recipe(path: Path) -> dict[str, Any]:
    """
    The options of a recipe. Its secrets are known from then on, and shown nowhere.

    Raises:
        `FileNotFoundError`: if there is no such file.
        `ValueError`: naming it, if it is no YAML of a mapping, or holds a key twice.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"--config {path}: no such file. Give the path of a recipe, or the name of one that `real-trl recipes` lists."
        )
    try:
        recipe = read_yaml(path.read_text(encoding="utf-8"))
    except DuplicateKeyError as error:
        raise ValueError(f"{path}: {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: not a recipe: its values are nested too deep. Correct it.") from None
    except (yaml.YAMLError, ValueError) as error:  # no UTF-8, a date that is none, a number of thousands of digits
        raise ValueError(f"{path}: not valid YAML ({yaml_fault(error)}). Correct it.") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe is a mapping of options to values, not {type(recipe).__name__}.")
    remember(recipe)
    return with_one_model(recipe)


def with_one_model(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a recipe with the model under TRL's name; `ValueError` if it is there under several."""
    named = [name for name in MODEL_NAMES if name in recipe]
    if len(named) > 1:
        raise ValueError(
            f"{named[0]}: it is also there as {named[1]}, which is the same option. Remove one of the two."
        )
    return {MODEL if name in named else name: value for name, value in recipe.items()}


def check_keys(path: Path, recipe: dict[str, Any], options: Iterable[str]) -> None:
    """`ValueError` naming the first key that is none of the `options`, and what was probably meant."""
    known = {*options, "env"}
    for key in recipe:
        if key not in known:
            # Not its value: it may be a secret, whose name is misspelt
            raise ValueError(f"{path}: unknown key {shown(key)}.{_hint(key, known)} Correct or remove it.")
    for name, value in (recipe.get("env") or {}).items() if isinstance(recipe.get("env"), dict) else ():
        if not isinstance(name, str) or not name or set(name) & {"=", "\0"} or "\0" in str(value):
            raise ValueError(f"{path}: env: {shown(name)} cannot be the name of a variable, or its value. Correct it.")


def check_names(args: Sequence[str], names: Iterable[str]) -> None:
    """`ValueError` naming the first option of a command line that is none of `names` (`--learning_rate`)."""
    known = {*names, "--config"}
    for arg in args:
        name = arg.split("=", 1)[0]
        if arg.startswith("--") and name not in known:
            raise ValueError(f"command line: unknown option {name!r}.{_hint(name, known)} Correct or remove it.")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
