# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a recipe and the command line."""

import difflib
import sys
from collections.abc import Iterable, Sequence, Set
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser

from real_trl.option_values import checked_values, shown
from real_trl.shipped import find_file
from real_trl.text.redaction import check_not_redacted, redact_command, remember, yaml_fault
from real_trl.text.yaml_text import DuplicateKeyError, read_yaml


class RecipeParser(TrlParser):
    """TRL's parser, with errors that name the recipe, the unknown key and what was probably meant."""

    _stated: Set[str] = frozenset()  # what the recipe says

    def error(self, message: str) -> NoReturn:
        """argparse would print every option before its message."""
        raise ValueError(f"{message.rstrip('.')}. Correct the option; --help lists them all.")

    def parse_args_and_config(self, args: Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        own = args is None
        args = list(sys.argv[1:] if own else args)
        remember(args)
        if own:  # trackers record the command line
            sys.argv[1:] = redact_command(args)
        args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
        known = {action.dest for action in self._actions} | {"env"}
        if args and args[-1] == "--config":
            raise ValueError("--config: got no value. Give the path of a recipe.")
        if "--config" in args:
            place = args.index("--config") + 1
            args[place] = str(find_file(args[place]))
            self._check_recipe(Path(args[place]), known)
        options = {option for action in self._actions for option in action.option_strings} | {"--config"}
        for arg in args:
            name = arg.split("=", 1)[0]
            if arg.startswith("--") and name not in options:
                raise ValueError(f"command line: unknown option {name!r}.{_hint(name, options)} Correct or remove it.")
        try:
            return super().parse_args_and_config(args, **kwargs)
        except (TypeError, AttributeError, LookupError, ArithmeticError, RecursionError, AssertionError) as error:
            # Values that fit their fields, but not each other or what they name, in the checks of libraries
            raise ValueError(
                f"the options cannot be read together: {type(error).__name__}: {error}. Correct the one that it is about."
            ) from error

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse does it; every value, of the command line, the recipe or a default, is one that its field can have."""
        namespace, rest = super().parse_known_args(args, namespace)
        # argparse has None for some fields that nobody set, whatever their default
        stated = {name: value for name, value in vars(namespace).items() if value is not None or name in self._stated}
        for cls in self.dataclass_types:
            for name, value in checked_values(cls, stated).items():
                check_not_redacted(name, value)
                setattr(namespace, name, value)
        return namespace, rest

    def _check_recipe(self, path: Path, known: set[str]) -> None:
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
        self._stated = set(recipe)
        remember(recipe)
        for key in recipe:
            if key not in known:
                # Not its value: it may be a secret, whose name is misspelt
                raise ValueError(f"{path}: unknown key {shown(key)}.{_hint(key, known)} Correct or remove it.")

        for name, value in (recipe.get("env") or {}).items() if isinstance(recipe.get("env"), dict) else ():
            if not isinstance(name, str) or not name or set(name) & {"=", "\0"} or "\0" in str(value):
                raise ValueError(
                    f"{path}: env: {shown(name)} cannot be the name of a variable, or its value. Correct it."
                )


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
