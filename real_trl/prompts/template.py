# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Judge prompts: the built-in templates, the user's own Jinja file, and how dataset columns fill their variables."""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, UndefinedError, meta
from jinja2.utils import missing

from real_trl.option_values import FieldError
from real_trl.scale import Scale
from real_trl.score_space import DEFAULT_MARKER
from real_trl.shipped import find_file
from real_trl.templates.limited import MAX_SOURCE, TEMPLATE_ERRORS, LimitedEnvironment
from real_trl.text.cells import plain
from real_trl.text.column_names import DESCRIPTION, own_names, usual_column
from real_trl.text.unicode import well_formed

TEMPLATE_DIR = Path(__file__).parent.parent / "templates"
TEMPLATE_NAMES = tuple(sorted(path.stem for path in TEMPLATE_DIR.glob("*.jinja")))
ASKS_FOR_RATIONALE = tuple(name for name in TEMPLATE_NAMES if not name.startswith(("direct", "homework")))

_NUMERAL = re.compile(r"-?\d+(?:\.\d+)?")
TEXTS = ("instruction", "response", "response_a", "response_b", "reference", "rubric", "criteria")
NEEDED_TEXTS = (
    "instruction",
    "rubric",
    "criteria",
)  # blank text is none; a response may be empty, and a reference left out
SETTINGS = frozenset({"low", "high", "best", "worst", "lower_is_better", "labels", "score_step", "marker"})
"""What a template knows of the scale, and the marker."""


class _NamedError(UndefinedError):
    """Jinja's error, which has the variable's name in its text only."""

    def __init__(self, name: str | None, message: str) -> None:
        super().__init__(message)
        self.name = name


class _Undefined(StrictUndefined):
    def __init__(
        self, hint: str | None = None, obj: Any = missing, name: str | None = None, exc: Any = UndefinedError
    ):
        super().__init__(hint, obj, name, partial(_NamedError, name) if obj is missing else exc)


class PromptTemplate:
    """
    A Jinja template that turns a dataset row into a judge prompt.

    The template sees these variables, all text unless stated: `instruction`, `response`, `rubric`, `reference`,
    `criteria`, `score1_description` …, `low` and `high` (the labels at the lower and the upper end of the scale, as
    numbers if all labels are numbers), `best` and `worst` (the same two, the other way round on a scale that is `lower_is_better`, such
    as `6-1`), `labels` (all of them, `poor, fair, good` where it is printed), `score_step` (the
    distance of neighbouring labels if it is everywhere the same, else undefined), `marker` (what stands before the
    score), and any other name, which is then read from the column of that name. Rendering is sandboxed, limited in output and
    time ([`~real_trl.templates.limited.LimitedEnvironment`]), and strict: a variable without a value is an error unless the
    template guards it with `{% if name is defined %}`.

    Args:
        name (`str`, *optional*, defaults to `"<template>"`):
            What error messages call it.

    Raises:
        `ValueError`: if the template has a syntax error.
    """

    def __init__(self, source: str, name: str = "<template>"):
        self.name = name
        self.source = source
        environment = LimitedEnvironment(undefined=_Undefined, trim_blocks=True, lstrip_blocks=True)
        try:
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            said = f"={name!r}, line {error.lineno}: {error.message}"
            raise FieldError("prompt_template", name, "Fix the template.", said) from error

    def no_such_field(self, name: str) -> FieldError:
        """What is to be raised for a field `name` that was given, and that this template does not read."""
        read = ", ".join(sorted(self.variables - SETTINGS))
        said = f": the judge's prompt ({self.name}) has no such field; it reads {read}"
        return FieldError(name, None, "Leave it out.", said)

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
            in_rubric = "rubric" in self.variables and (variable == "criteria" or DESCRIPTION.fullmatch(variable))
            if variable in SETTINGS or not (variable in self.variables or in_rubric):
                said = f": the prompt template {self.name!r} has no column variable {variable!r}; it has "
                said += str(sorted(self.variables - SETTINGS))
                raise FieldError("columns", columns, "Remove or rename the entry.", said)
            if column not in available:
                said = f": {variable!r} is mapped to column {column!r}, which does not exist"
                raise FieldError("columns", columns, f"Existing columns: {available}.", said)

    def column_of(
        self, variable: str, available: Iterable[str], columns: Mapping[str, str] | None = None
    ) -> str | None:
        """Returns the column that `variable` is read from, or `None` if there is no such column."""
        if columns and variable in columns:
            return columns[variable]
        return next((name for name in own_names(variable) if name in available), None)

    def text_columns(self, available: Iterable[str], columns: Mapping[str, str] | None = None) -> dict[str, str]:
        """Those of `TEXTS` that the template reads, and the column of each, where there is one."""
        columns = columns or {}
        read = {*self.variables, *({"criteria"} if "rubric" in self.variables else ())}
        found = {name: self.column_of(name, available, columns) for name in TEXTS if name in read}
        found = {name: column for name, column in found.items() if column is not None}
        if "rubric" in columns and "criteria" not in self.variables:
            found.pop("criteria", None)
        elif "rubric" not in columns and "criteria" in found:
            found.pop("rubric", None)  # it is put together from the criteria
        return found

    def render(
        self,
        row: Mapping[str, Any],
        columns: Mapping[str, str] | None = None,
        *,
        scale: Scale,
        marker: str = DEFAULT_MARKER,
        strict: bool | None = None,
        where: str | None = None,
    ) -> str:
        """
        Renders the prompt of one row: the one way to it, for training data, judges, rewards and the service.

        `rubric` is read from the column that `columns` gives it. Without such an entry it is put together from the
        criteria and the score descriptions (`[criteria]`, then `Score 1: …` for every description that is there), and
        without criteria it is read from a column `rubric`. Where the labels are words, `score1_description` describes
        the one whose value is 1 (`Score poor: …`).

        Args:
            row (`Mapping[str, Any]`):
                Column name to value; what [`~real_trl.text.cells.is_missing`] knows, as `None` and NaN, counts as missing.
            columns (`Mapping[str, str]`, *optional*):
                Variable name to column name. By default Feedback-Collection's column names are recognised
                (`orig_instruction`, `orig_response`, `orig_reference_answer`, `orig_criteria`,
                `orig_score1_description`, …), then columns that are called like the variable.
            scale ([`~real_trl.scale.Scale`]):
                Labels and values of the scale.
            marker (`str`, *optional*, defaults to `"So the overall score is "`):
                What stands before the score in the judge's answer.
            strict (`bool`, *optional*):
                Whether each of `TEXTS` has to be text, and each of `NEEDED_TEXTS` more than blanks. Defaults to whether the template
                is a built-in one: the user's own may make something of lists.
            where (`str`, *optional*):
                What errors call the row (`"row 3"`), for those who give fields and know no columns.

        Returns:
            `str`: the prompt, with lone surrogates replaced ([`well_formed`]).

        Raises:
            [`~real_trl.option_values.FieldError`]: whose `field` is the variable that has no value or an impossible one, or
                `prompt_template` if the template fails otherwise.
        """
        columns = columns or {}
        strict = self.name in TEMPLATE_NAMES if strict is None else strict
        if strict:
            for name, column in self.text_columns(row, columns).items():
                if (cell := plain(row.get(column))) is not None:  # what is missing, the template may do without
                    fix = "Say what is judged, or remove the row." if name in NEEDED_TEXTS else None
                    checked_text(name, cell, f": that of {where}" if where else f": the column {column!r}", fix)
        values: dict[str, Any] = {**_scale_variables(scale), "marker": marker}
        headings = _description_headings(scale)
        for variable in {*self.variables, "criteria", *headings} - SETTINGS:
            column = self.column_of(variable, row, columns)
            if column is not None and (cell := plain(row.get(column))) is not None:
                values[variable] = cell
        if "rubric" not in columns and "criteria" in values:
            lines = [f"{heading}: {values[name]}" for name, heading in headings.items() if name in values]
            values["rubric"] = "\n".join([f"[{_unbracket(values['criteria'])}]", *lines])
        try:
            return well_formed(self._template.render(values))
        except UndefinedError as error:
            raise self._undefined(error, row, columns, where) from error
        except TEMPLATE_ERRORS as error:
            said = f"={self.name!r} failed: {error}"
            raise FieldError("prompt_template", self.name, "Fix the template.", said) from error

    def _undefined(
        self, error: UndefinedError, row: Mapping[str, Any], columns: Mapping[str, str], where: str | None
    ) -> FieldError:
        name, available = getattr(error, "name", None), f"Available columns: {list(row)}."
        if name not in self.variables - SETTINGS:
            said = f"={self.name!r}: {error}"
            return FieldError("prompt_template", self.name, f"{available} Fix the template.", said)
        if where:
            said = f": {where} has none, and the judge's prompt ({self.name}) needs it"
            return FieldError(name, None, "Pass it, or a column of that name.", said)
        column = self.column_of(name, row, columns)
        reason = "no column gives it" if column is None else f"column {column!r} is empty"
        fix = (
            f"{available} Map it with `columns: {{{name}: {usual_column(name, row) or '<column>'}}}`, fill the column, or guard the variable in the "
            f"template with `{{% if {name} is defined %}}`."
        )
        said = f": the variable {name!r} is undefined ({reason}) in prompt_template={self.name!r}"
        return FieldError(name, None, fix, said)


def load_template(name_or_path: str | Path) -> PromptTemplate:
    """
    Loads a prompt template.

    Args:
        name_or_path (`str` or `Path`):
            `"feedback_collection"` (a rationale, and the score behind the marker, `So the overall score is `), `"prometheus"` (a
            rationale, and the score behind `[RESULT]`), `"direct"` (the score alone, behind the marker; the response comes last,
            so that those to one instruction share what is before it), `"direct_criteria"` (the same with the rubric last, so that all
            criteria of a response share what is before it), the template of a preset ([`~real_trl.judge_source.PRESETS`]), or the path of
            a `.jinja` file.

    Returns:
        [`PromptTemplate`].

    Raises:
        `ValueError`: if the name is unknown, the file is missing or not a `.jinja` file, or it has a syntax error.
    """
    name = str(name_or_path)
    path = TEMPLATE_DIR / f"{name}.jinja" if name in TEMPLATE_NAMES else find_file(Path(name).expanduser())
    if path.suffix != ".jinja" or not path.is_file():
        raise ValueError(
            f"prompt_template={name!r} is unknown: it is neither one of {list(TEMPLATE_NAMES)} nor an existing "
            f".jinja file."
        )
    if path.stat().st_size > 4 * MAX_SOURCE:  # bytes of a character
        raise ValueError(
            f"prompt_template={name!r} has {path.stat().st_size:,} bytes; the limit is {MAX_SOURCE:,} characters."
        )
    try:
        return PromptTemplate(path.read_text(encoding="utf-8"), name)
    except UnicodeDecodeError as error:
        said = f"={name!r} is not text in UTF-8 ({error})"
        raise FieldError("prompt_template", name, "Save it as UTF-8.", said) from error


def checked_text(field: str, value: Any, place: str, fix: str | None = "Fill it, or remove the row.") -> str:
    """
    A text that is to be shown to a judge: `value`, if it is one.

    Args:
        field (`str`), value (`Any`):
            What it is, and the plain cell that holds it.
        place (`str`):
            Where that is, as the error says it after the field (`": the column 'answer'"`).
        fix (`str`, *optional*):
            How to mend what is missing or blank; `None` if it may be blank.

    Raises:
        [`~real_trl.option_values.FieldError`]: if it is no text, or blank.
    """
    if fix and (value is None or (isinstance(value, str) and not value.strip())):
        raise FieldError(field, value, fix, f"{place} is empty")
    if not isinstance(value, str):
        said = f"{place} holds {value!r:.60} (a {type(value).__name__})"
        raise FieldError(field, value, "Turn it into text.", said)
    return value


def plain_prompt(prompt: str) -> str:
    """
    A prompt as text for a model without a chat template: blanks at its end are cut, since most tokenizers join a blank to
    the word after it, and the completion brings its own.
    """
    return prompt.rstrip(" \t")


def add_score_reminder(prompt: str, marker: str = DEFAULT_MARKER) -> str:
    """Ends `prompt` with a sentence that asks for `marker` and the score at the very end, which helps base models."""
    return f'{prompt.rstrip()} Please think step by step, and at the very end write "{marker}(score)".'


class _Labels(tuple[str, ...]):
    """Labels that a template can print as well as go through."""

    def __str__(self) -> str:
        return ", ".join(self)


def _numerals(scale: Scale) -> list[Decimal] | None:
    """The labels as numbers from the lowest up, or `None` if one of them is no number."""
    if not all(map(_NUMERAL.fullmatch, scale.labels)):
        return None
    return sorted(map(Decimal, scale.labels))


def _scale_variables(scale: Scale) -> dict[str, Any]:
    """What templates see of the scale."""
    values: dict[str, Any] = {"labels": _Labels(scale.labels), "best": scale.best, "worst": scale.worst}
    numerals = _numerals(scale)
    if numerals is None:
        low, high = scale.label_of(scale.low), scale.label_of(scale.high)
        return {**values, "low": low, "high": high, "lower_is_better": False}
    best, worst = _plain(Decimal(scale.best)), _plain(Decimal(scale.worst))
    values |= {"low": _plain(numerals[0]), "high": _plain(numerals[-1])}
    values |= {"best": best, "worst": worst, "lower_is_better": best < worst}
    steps = {second - first for first, second in pairwise(numerals)}
    return {**values, "score_step": _plain(steps.pop())} if len(steps) == 1 else values


def _description_headings(scale: Scale) -> dict[str, str]:
    """Columns that may describe a score, each with its heading in the rubric, from the lowest score up."""
    numerals = _numerals(scale)
    if numerals is not None:
        scores = range(math.floor(numerals[0]), math.floor(numerals[-1]) + 1)
        return {f"score{score}_description": f"Score {score}" for score in scores}
    words = sorted(zip(scale.values, scale.labels, strict=True))
    return {f"score{value:.0f}_description": f"Score {word}" for value, word in words if value.is_integer()}


def _plain(number: Decimal) -> int | float:
    """5.0 is shown as 5 in a prompt."""
    return int(number) if number == int(number) else float(number)


def _unbracket(criteria: Any) -> str:
    """Criteria come with or without their brackets."""
    text = str(criteria).strip()
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text
