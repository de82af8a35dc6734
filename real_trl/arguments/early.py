# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a command can say before it imports what it runs: its help, and that an option does not exist."""

from collections.abc import Sequence

from real_trl.arguments.help_page import help_page
from real_trl.arguments.options import commands, is_exact, options_of, takes_recipes
from real_trl.arguments.recipe_file import check_keys, check_names, read_recipe, with_recipe_path
from real_trl.text.redaction import remember

_HELP = {"-h": False, "--help": False, "--help-all": True, "--help_all": True}


def asked_help(command: str, args: Sequence[str]) -> str | None:
    """The page that a command line asks for, or `None`."""
    asked = [_HELP[arg] for arg in args if arg in _HELP]
    return help_page(command, every=any(asked)) if asked and command in commands() else None


def check(command: str, args: Sequence[str]) -> None:
    """
    `ValueError` or `FileNotFoundError`, as the command itself has it later, for a recipe that cannot be read, or a key or option that does
    not exist. With other versions of the libraries than the options were taken from, and for commands without recipes, nothing is checked.
    """
    if not takes_recipes(command) or not is_exact():
        return
    remember(args)
    args, path = with_recipe_path(args, tell=False)
    options = options_of(command)
    if path is not None:
        check_keys(path, read_recipe(path), {*options, "help"})
    check_names(args, {name for option in options.values() for name in option.names})
