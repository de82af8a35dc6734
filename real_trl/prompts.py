# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Judge prompts: two built-in templates, the user's own Jinja file, and how dataset columns fill their variables."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .score_space import DEFAULT_MARKER

TEMPLATE_DIR = Path(__file__).parent / "templates"
TEMPLATE_NAMES = tuple(sorted(path.stem for path in TEMPLATE_DIR.glob("*.jinja")))

# Where a variable comes from when the recipe's `columns` says nothing: Feedback-Collection's name, else its own name.
_FEEDBACK_COLLECTION = {
    "instruction": "orig_instruction",
    "response": "orig_response",
    "reference": "orig_reference_answer",
    "criteria": "orig_criteria",
}
_DESCRIPTION = re.compile(r"score(\d+)_description")
_SETTINGS = frozenset({"low", "high", "marker"})


class PromptTemplate:
    """
    A Jinja template that turns a dataset row into a judge prompt.

    The template sees these variables, all text unless stated: `instruction`, `response`, `rubric`, `reference`,
    `criteria`, `score1_description` …, the numbers `low` and `high` (the ends of the scale), `marker` (what stands
    before the score), and any other name, which is then read from the column of that name. Rendering is sandboxed, and
    strict: a variable without a value is an error unless the template guards it with `{% if name is defined %}`.

    Args:
        source (`str`):
            Text of the template.
        name (`str`, *optional*, defaults to `"<template>"`):
            What error messages call it.

    Raises:
        `ValueError`: if the template has a syntax error.
    """

    def __init__(self, source: str, name: str = "<template>"):
        self.name = name
        self.source = source
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        try:
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ValueError(
                f"prompt_template={name!r}, line {error.lineno}: {error.message}. Fix the template."
            ) from error

    def check_columns(self, columns: Mapping[str, str], available: Iterable[str]) -> None:
        """
        Checks a recipe's `columns` mapping against this template and the columns of a dataset.

        Args:
            columns (`Mapping[str, str]`):
                Variable name to column name.
            available (`Iterable[str]`):
                Columns of the dataset.

        Raises:
            `ValueError`: if the mapping names a variable that the template does not read, or a column that does not
            exist.
        """
        available = list(available)
        for variable, column in columns.items():
            in_rubric = "rubric" in self.variables and (variable == "criteria" or _DESCRIPTION.fullmatch(variable))
            if variable in _SETTINGS or not (variable in self.variables or in_rubric):
                raise ValueError(
                    f"columns: the prompt template {self.name!r} has no column variable {variable!r}; "
                    f"it has {sorted(self.variables - _SETTINGS)}. Remove or rename the entry."
                )
            if column not in available:
                raise ValueError(
                    f"columns: {variable!r} is mapped to column {column!r}, which does not exist. "
                    f"Existing columns: {available}."
                )

    def column_of(
        self, variable: str, available: Iterable[str], columns: Mapping[str, str] | None = None
    ) -> str | None:
        """Returns the column that `variable` is read from, or `None` if there is no such column."""
        if columns and variable in columns:
            return columns[variable]
        default = _FEEDBACK_COLLECTION.get(variable, f"orig_{variable}" if _DESCRIPTION.fullmatch(variable) else "")
        return next((name for name in (default, variable) if name in available), None)

    def render(
        self,
        row: Mapping[str, Any],
        columns: Mapping[str, str] | None = None,
        *,
        low: float,
        high: float,
        marker: str = DEFAULT_MARKER,
    ) -> str:
        """
        Renders the prompt of one row.

        `rubric` is read from the column that `columns` gives it. Without such an entry it is put together from the
        criteria and the score descriptions (`[criteria]`, then `Score 1: …` for every description that is there), and
        without criteria it is read from a column `rubric`.

        Args:
            row (`Mapping[str, Any]`):
                Column name to value; `None` and NaN count as missing.
            columns (`Mapping[str, str]`, *optional*):
                Variable name to column name. By default Feedback-Collection's column names are recognised
                (`orig_instruction`, `orig_response`, `orig_reference_answer`, `orig_criteria`,
                `orig_score1_description`, …), then columns that are called like the variable.
            low (`float`):
                Lowest score of the scale.
            high (`float`):
                Highest score of the scale.
            marker (`str`, *optional*, defaults to `"So the overall score is "`):
                What stands before the score in the judge's answer.

        Returns:
            `str`: the prompt.

        Raises:
            `ValueError`: if a variable has no value, naming the variable, the template and the available columns, or
            if the template fails otherwise.
        """
        columns = columns or {}
        values: dict[str, Any] = {"low": _plain(low), "high": _plain(high), "marker": marker}
        numbers = range(int(low), int(high) + 1)
        descriptions = [f"score{number}_description" for number in numbers]
        for variable in {*self.variables, "criteria", *descriptions} - _SETTINGS:
            column = self.column_of(variable, row, columns)
            if column is not None and not _is_missing(row.get(column)):
                values[variable] = row[column]
        if "rubric" not in columns and "criteria" in values:
            lines = [
                f"Score {number}: {values[name]}"
                for number, name in zip(numbers, descriptions, strict=True)
                if name in values
            ]
            values["rubric"] = "\n".join([f"[{_unbracket(values['criteria'])}]", *lines])
        for variable in self.variables & {"instruction", "response", "reference", "rubric"} & values.keys():
            if isinstance(values[variable], (list, tuple, dict)) and self.name in TEMPLATE_NAMES:
                raise ValueError(
                    f"prompt_template={self.name!r}: the variable {variable!r} must be text, its column "
                    f"{self.column_of(variable, row, columns)!r} holds a {type(values[variable]).__name__}. "
                    f"Turn it into text, or use your own .jinja template."
                )
        try:
            return self._template.render(values)
        except UndefinedError as error:
            raise ValueError(self._undefined_message(error, row, columns, values)) from error
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ValueError(f"prompt_template={self.name!r} failed: {error}. Fix the template.") from error

    def _undefined_message(
        self, error: UndefinedError, row: Mapping[str, Any], columns: Mapping[str, str], values: Mapping[str, Any]
    ) -> str:
        missing = [name for name in sorted(self.variables - values.keys()) if f"'{name}'" in str(error)]
        if not missing:
            return f"prompt_template={self.name!r}: {error}. Available columns: {list(row)}. Fix the template."
        column = self.column_of(missing[0], row, columns)
        reason = "no column gives it" if column is None else f"column {column!r} is empty"
        return (
            f"prompt_template={self.name!r}: the variable {missing[0]!r} is undefined ({reason}). "
            f"Available columns: {list(row)}. Map it with `columns: {{{missing[0]}: <column>}}`, fill the column, or "
            f"guard the variable in the template with `{{% if {missing[0]} is defined %}}`."
        )


def load_template(name_or_path: str | Path) -> PromptTemplate:
    """
    Loads a prompt template.

    Args:
        name_or_path (`str` or `Path`):
            `"feedback_collection"` (the score follows the marker, `So the overall score is `), `"prometheus"` (the
            score follows `[RESULT]`), or the path of a `.jinja` file.

    Returns:
        [`PromptTemplate`].

    Raises:
        `ValueError`: if the name is unknown, the file is missing or not a `.jinja` file, or it has a syntax error.
    """
    name = str(name_or_path)
    path = TEMPLATE_DIR / f"{name}.jinja" if name in TEMPLATE_NAMES else Path(name).expanduser()
    if path.suffix != ".jinja" or not path.is_file():
        raise ValueError(
            f"prompt_template={name!r} is unknown: it is neither one of {list(TEMPLATE_NAMES)} nor an existing "
            f".jinja file."
        )
    return PromptTemplate(path.read_text(encoding="utf-8"), name)


def plain_prompt(prompt: str) -> str:
    """
    A prompt as text for a model without a chat template: blanks at its end are cut, since most tokenizers join a blank to
    the word after it, and the completion brings its own.
    """
    return prompt.rstrip(" \t")


def add_score_reminder(prompt: str, marker: str = DEFAULT_MARKER) -> str:
    """Ends `prompt` with a sentence that asks for `marker` and the score at the very end, which helps base models."""
    return f'{prompt.rstrip()} Please think step by step, and at the very end write "{marker}(score)".'


def _plain(number: float) -> int | float:
    """5.0 is shown as 5 in a prompt."""
    return int(number) if float(number).is_integer() else float(number)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _unbracket(criteria: Any) -> str:
    """Criteria come with or without their brackets."""
    text = str(criteria).strip()
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
