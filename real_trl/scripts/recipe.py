# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a recipe and the command line, and telling the user what is wrong with them."""

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import yaml
from trl import TrlParser


class RecipeParser(TrlParser):
    """TRL's parser, with errors that name the recipe, the unknown key and what was probably meant."""

    def error(self, message: str) -> NoReturn:
        """argparse would print every option before its message."""
        raise ValueError(f"{message}. Correct the option; --help lists them all.")

    def parse_args_and_config(self, args: Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        args = list(sys.argv[1:] if args is None else args)
        args = [part for arg in args for part in (arg.split("=", 1) if arg.startswith("--config=") else [arg])]
        known = {action.dest for action in self._actions} | {"env"}
        if "--config" in args[:-1]:
            self._check_recipe(Path(args[args.index("--config") + 1]), known)
        options = {option for action in self._actions for option in action.option_strings} | {"--config"}
        for arg in args:
            name = arg.split("=", 1)[0]
            if arg.startswith("--") and name not in options:
                raise ValueError(f"command line: unknown option {name!r}.{_hint(name, options)} Correct or remove it.")
        return super().parse_args_and_config(args, **kwargs)

    def _check_recipe(self, path: Path, known: set[str]) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"--config {path}: no such file. Give the path of a recipe.")
        try:
            recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: not valid YAML ({' '.join(str(error).split())}). Correct it.") from error
        if not isinstance(recipe, dict):
            raise ValueError(f"{path}: a recipe is a mapping of options to values, not {type(recipe).__name__}.")
        for key, value in recipe.items():
            if key not in known:
                raise ValueError(
                    f"{path}: unknown key {key!r} (value {value!r}).{_hint(key, known)} Correct or remove it."
                )


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextmanager
def user_errors() -> Iterator[None]:
    """
    Turns an error about what the user wrote into a message and exit status 2, without a traceback. With the environment
    variable `REAL_TRL_DEBUG` set, the traceback is shown.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("REAL_TRL_DEBUG"):
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":  # every process finds the same fault
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
