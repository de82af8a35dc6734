# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Reading a recipe and the command line."""

import argparse
import sys
from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any, NoReturn

from trl import TrlParser

from real_trl.arguments.recipe_file import (
    MODEL,
    MODEL_NAMES,
    check_keys,
    check_names,
    read_recipe,
    with_one_model,
    with_recipe_path,
)
from real_trl.option_values import checked_values
from real_trl.text.redaction import check_not_redacted, redact_command, remember
from real_trl.text.shown import printable

_MODEL_HELP = (
    "Directory or Hub id of the model or judge. Also --judge and --model_name_or_path, which is its name in recipes."
)


class RecipeParser(TrlParser):
    """TRL's parser, with errors that name the recipe, the unknown key and what was probably meant."""

    _stated: Set[str] = frozenset()  # what the recipe says

    if TYPE_CHECKING:  # TRL's signature names a type of its own for any dataclass

        def __init__(self, dataclass_types: type | Iterable[type], **kwargs: Any) -> None: ...

    def add_argument(self, *names: str, **options: Any) -> argparse.Action:
        """As argparse's; the model is `--model`, with its other names as aliases."""
        if f"--{MODEL}" in names:
            names = tuple(dict.fromkeys([*(f"--{name}" for name in MODEL_NAMES), *names]))
            options |= {"dest": MODEL, "help": _MODEL_HELP}
        return super().add_argument(*names, **options)

    def set_defaults_with_config(self, **recipe: Any) -> list[str]:
        """As TRL's, of a recipe that may call the model by another of its names."""
        return super().set_defaults_with_config(**with_one_model(recipe))

    def error(self, message: str) -> NoReturn:
        """argparse would print every option before its message."""
        raise ValueError(f"{message.rstrip('.')}. Correct the option; --help-all lists them all.")

    def parse_args_and_config(self, args: Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, ...]:
        own = args is None
        args = list(sys.argv[1:] if args is None else args)
        remember(args)
        if own:  # trackers record the command line
            sys.argv[1:] = redact_command(args)
        args, path = with_recipe_path(args)
        if path is not None:
            recipe = read_recipe(path)
            self._stated = set(recipe)
            check_keys(path, recipe, {action.dest for action in self._actions})
        check_names(args, {option for action in self._actions for option in action.option_strings})
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
        if stray := next((each for each in rest if "=" in each and not each.startswith("-")), None):
            raise ValueError(
                f"{printable(stray)!r} on the command line belongs to no option. Separate entries of a mapping by commas (a=b,c=d), or put "
                "the whole in quotes."
            )
        # argparse has None for some fields that nobody set, whatever their default
        stated = {name: value for name, value in vars(namespace).items() if value is not None or name in self._stated}
        for cls in self.dataclass_types:
            for name, value in checked_values(cls, stated).items():
                check_not_redacted(name, value)
                setattr(namespace, name, value)
        return namespace, rest
