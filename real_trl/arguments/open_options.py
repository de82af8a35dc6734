# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Options that a training stage passes through to libraries, which validate them only later."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from transformers import Trainer

from real_trl.option_values import shown

_ERRORS = (TypeError, ValueError, AttributeError, LookupError, NotImplementedError, AssertionError, ArithmeticError)
_OPEN = {
    "optim",
    "optim_args",
    "optim_target_modules",
    "attn_implementation",
    "liger_kernel_config",
    "lora_target_modules",
    "lora_target_parameters",
    "lora_modules_to_save",
    "lora_task_type",
    "torch_compile_backend",
    "torch_compile_mode",
    "transformers_continuous_batching_config",
    "parallelism_config",
}


class OpenOptionError(ValueError):
    """A library did not take an option."""


@contextmanager
def naming_open_options(
    recipe: Mapping[str, Mapping[str, Any]], *arguments: Any, trainer: Trainer | None = None
) -> Iterator[None]:
    """
    Around what hands the options to libraries. A fault of the code, which no option could be to blame for, stays a traceback.

    Args:
        recipe (`Mapping`):
            The sections `training` and `model` of [`~real_trl.trainers.recipe_check.resolve_recipe`].
        arguments:
            The parsed arguments of these sections.
        trainer ([`~transformers.Trainer`], *optional*):
            If it is training: after its first step no option is to blame.

    Raises:
        `OpenOptionError`: naming the options that are not at their defaults, with the library's error.
    """
    try:
        yield
    except (*_ERRORS, RuntimeError) as error:
        stated = _stated(recipe, arguments)
        # Which is raised for anything, and says in its text alone what it is about
        if isinstance(error, RuntimeError) and not isinstance(error, _ERRORS):
            stated = {name: value for name, value in stated.items() if str(value) in str(error)}
        begun = trainer is not None and trainer.state.global_step > 0
        if (
            not stated or begun or (trainer is None and isinstance(error, ValueError))
        ):  # which says itself what is wrong
            raise
        options = ", ".join(f"{name}: {shown(value)}" for name, value in stated.items())
        raise OpenOptionError(
            f"{options}: not taken by a library before the first step ({type(error).__name__}: {error}). Correct the option that it is about, "
            "or leave it out."
        ) from error


def _stated(recipe: Mapping[str, Mapping[str, Any]], arguments: tuple[Any, ...]) -> dict[str, Any]:
    defaults = {field.name: field.default for each in arguments for field in fields(each)}
    values = {**recipe.get("training", {}), **recipe.get("model", {})}
    return {
        name: value
        for name, value in values.items()
        if (name in _OPEN or name.endswith("_kwargs"))
        and value
        and value != getattr(defaults.get(name), "value", defaults.get(name))
    }
