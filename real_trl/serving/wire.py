# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire: the rows that a client sends, the scores that it gets, and errors that name field and fix."""

import difflib
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from real_trl.engines import Judgment
from real_trl.judge import Judge
from real_trl.option_values import FieldError
from real_trl.serving.fields import ROW_FIELDS, check_size, prompt_fields, reads
from real_trl.text.json_text import finite

_NAMES = {str: "text", int: "a number", float: "a number", bool: "a truth value", list: "a list", dict: "an object"}
_NAMES |= {type(None): "null"}
_OBJECT = 'Give an object such as {"instruction": …, "rubric": …, "response": …}, or {"prompt": …}.'
_MAX_FIELDS = 64
_SHOWN_NAME = 100  # characters
# pydantic's type of error → how to mend it
_FIXES = {
    "string_type": "Give text, in quotes.",
    "list_type": "Give a list of objects, one for each response.",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
}


class Refused(Exception):
    """
    A request that gets an error for an answer.

    Attributes:
        status (`int`): HTTP status.
        field (`str`, *optional*): What in the request is wrong.
        headers (`dict[str, str]`): Further headers of the answer.
        code (`str`, *optional*): What OpenAI calls such an error, where it has a name for it.
    """

    def __init__(
        self,
        status: int,
        message: str,
        field: str | None = None,
        headers: dict[str, str] | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.field, self.headers, self.code = status, field, headers or {}, code

    def body(self) -> dict[str, Any]:
        """The answer's JSON: status, field and message, and the names that OpenAI's clients look for (`type`, `param`, `code`)."""
        error = {"status": self.status, "field": self.field, "message": str(self)}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {**error, "type": kind, "param": self.field, "code": self.code}}


class Row(BaseModel):
    """One response to score: the columns of the judge's prompt template, or a complete prompt."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, str | None] = Field(init=False)

    instruction: str | None = None
    response: str | None = None
    rubric: str | None = None
    reference: str | None = None
    prompt: str | None = Field(default=None, description="The complete prompt, instead of the other fields.")


class ScoreRequest(Row):
    """One row, or several under `rows`."""

    rows: list[Row] | None = Field(default=None, description="Several responses, instead of one.")


class Tokens(BaseModel):
    """Tokens read and generated."""

    prompt: int
    completion: int


class Score(BaseModel):
    """A judgment; see [`~real_trl.engines.Judgment`]. Scores are null where there is none."""

    expected_score: float | None
    sampled_score: float | None = Field(description="The score that was decoded.")
    most_likely_score: float | None
    probabilities: dict[str, float | None] | None = Field(description="Of every label; null where it is not known.")
    spread: float | None
    mass: float | None
    missing_mass: float
    normalized: bool = Field(description="Whether the expected score is divided by the mass.")
    rationale: str
    status: str
    error: str | None = Field(
        description="Why there is no score, if the judge's engine gave no answer (status unscored)."
    )
    tokens: Tokens
    calibrated: bool = Field(
        default=False, description="Whether scores and probabilities are those of the judge's calibration."
    )
    interval: list[float] | None = Field(
        default=None,
        description="Between these two the human score lies with the probability that the judge was calibrated for.",
    )
    raw_expected_score: float | None = Field(default=None, description="Of a calibrated score, the judge's own.")
    raw_probabilities: dict[str, float | None] | None = None

    @classmethod
    def of(cls, judgment: Judgment) -> "Score":
        """Of a judgment."""
        raw = judgment.raw
        return cls(
            expected_score=finite(judgment.expected_score),
            sampled_score=finite(judgment.sampled_score),
            most_likely_score=finite(judgment.most_likely_score),
            probabilities=finite(judgment.probabilities),
            spread=finite(judgment.spread),
            mass=finite(judgment.mass),
            missing_mass=finite(judgment.missing_mass),
            normalized=judgment.normalized,
            rationale=judgment.rationale,
            status=judgment.status,
            error=judgment.error,
            tokens=Tokens(prompt=judgment.prompt_tokens, completion=judgment.num_tokens),
            calibrated=judgment.calibrated,
            interval=judgment.interval,
            raw_expected_score=None if raw is None else finite(raw.expected_score),
            raw_probabilities=None if raw is None else finite(raw.probabilities),
        )


class Scores(BaseModel):
    """Answer to a request with `rows`, in their order."""

    scores: list[Score]


class Reward(BaseModel):
    """A score as a reward between 0 and 1."""

    reward: float = Field(
        description="0 for the worst value of the scale, 1 for the best; the expected score in between."
    )
    score: Score


class Rewards(BaseModel):
    """Answer to a request with `rows`, in their order."""

    rewards: list[float]
    scores: list[Score]


class RowReader:
    """
    Turns the body of a request into prompts.

    Args:
        max_rows (`int`):
            Rows that one request may have.
        max_prompt_bytes (`int`, *optional*):
            Longest prompt in bytes, as of [`~real_trl.serving.fields.check_size`].
    """

    def __init__(self, judge: Judge, max_rows: int, max_prompt_bytes: int | None = None) -> None:
        self.judge, self.max_rows, self.max_prompt_bytes = judge, max_rows, max_prompt_bytes
        self._template = judge.config.template()
        self.fields = prompt_fields(judge.config)
        self._group_field = judge.calibration and judge.calibration.intervals.column

    def read(self, body: bytes) -> tuple[list[str], bool]:
        """
        The prompts of a request, and whether it was one row rather than a list.

        Raises:
            [`Refused`]: with 400 if the body is not JSON, 413 if it has too many rows or a prompt is too long, and 422 if a field
                is unknown, missing, or of another type.
        """
        given = parsed(body)
        self._check_counts(given)
        try:
            request = ScoreRequest.model_validate(given)
        except ValidationError as error:
            raise _invalid(error) from None
        if single := "rows" not in request.model_fields_set:
            rows = [request]
        else:
            rows = request.rows
            if others := (request.model_fields_set | set(request.model_extra)) - {"rows"}:
                name = shown_name(min(others))
                raise Refused(422, "it stands beside rows. Put it into every row.", name)
            if not rows:
                raise Refused(422, "there is none. Give at least one.", "rows")
        return [self._prompt(row, "" if single else f"rows[{place}].") for place, row in enumerate(rows)], single

    def row(self, given: object, path: str) -> str:
        """
        The prompt of one row, which errors call `path`.

        Raises:
            [`Refused`]: as [`read`].
        """
        self.check_count(given, path)
        try:
            row = Row.model_validate(given)
        except ValidationError as error:
            raise _invalid(error, path) from None
        return self._prompt(row, path and f"{path}.")

    def groups(self, body: bytes) -> list[str | None]:
        """
        Of a request that was read, the group of each row that the judge's calibration has intervals by, as far as rows say it; empty
        if it has none by group.
        """
        if not self._group_field:
            return []
        given = from_json(body)
        return [self.judge.group(row) for row in given.get("rows") or [given]]

    def _check_counts(self, request: object) -> None:
        """Refuse what has too many parts, before an object, and perhaps an error, is made of each of them."""
        rows = request.get("rows") if isinstance(request, dict) else None
        rows = rows if isinstance(rows, list) else []
        if len(rows) > self.max_rows:
            raise Refused(
                413, f"got {len(rows)}, the limit is {self.max_rows}. Send them in several requests.", "rows"
            )
        self.check_count(request, "the request")
        for place, row in enumerate(rows):
            self.check_count(row, f"rows[{place}]")

    def check_count(self, fields: object, path: str) -> None:
        """[`Refused`] with 422 if `fields` is an object with too many of them."""
        if isinstance(fields, dict) and len(fields) > _MAX_FIELDS:
            raise Refused(
                422,
                f"{path} has {len(fields)} fields, of at most {_MAX_FIELDS}. Send {', '.join(self.fields)} only.",
                None if path == "the request" else path,
            )

    def _prompt(self, row: Row, path: str) -> str:
        prompt = self._rendered(row, path)
        try:
            check_size(self.judge, prompt, self.max_prompt_bytes)
        except FieldError as error:
            raise Refused(413, _without_field(error, error.fix), path + "prompt") from None
        return prompt

    def _rendered(self, row: Row, path: str) -> str:
        given = {name: getattr(row, name) for name in ROW_FIELDS} | row.model_extra
        given = {name: value for name, value in given.items() if value is not None}
        for name in given:
            if name == self._group_field and not (self._template and reads(self._template, name)):
                continue  # it says which interval a row gets, and stands in no prompt
            if name == "prompt":
                if set(given) - {"prompt", self._group_field}:
                    raise Refused(422, "a complete prompt stands alone. Remove it, or the other fields.", path + name)
            elif self._template is not None and not reads(self._template, name):
                name = shown_name(name)
                near = difflib.get_close_matches(name, self.fields, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise Refused(
                    422, f"this judge's prompt reads {', '.join(self.fields)}.{hint} Rename or remove it.", path + name
                )
        try:
            return self.judge.prompt(given, path.removesuffix(".") or "the request")
        except FieldError as error:
            fix = error.fix if error.field in given else f'Add "{error.field}": "…".'
            raise Refused(422, _without_field(error, fix), path + error.field) from None
        except ValueError as error:
            raise Refused(422, str(error)) from None


def parsed(body: bytes) -> Any:
    """JSON; [`Refused`] with 400 if it is none."""
    try:
        return from_json(body)
    except ValueError as error:
        raise Refused(400, f"the body is not valid JSON ({error}). Correct it.") from None


def shown_name(name: str) -> str:
    """The name of a field, as far as an answer shows it."""
    return name[:_SHOWN_NAME]


def _without_field(error: FieldError, fix: str) -> str:
    return f"{error.said.removeprefix(': ')}. {fix}"  # the answer has the field beside its message


def _invalid(error: ValidationError, path: str = "") -> Refused:
    """The first of pydantic's findings, in what is called `path`."""
    first = error.errors(include_url=False, include_context=False)[0]
    for part in first["loc"]:
        part = part if isinstance(part, int) else shown_name(part)
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    path = path.removesuffix(".[key]")
    found = _NAMES.get(type(first["input"]), "something else")
    fix = _FIXES.get(first["type"], "Correct it.")
    return Refused(422, f"{first['msg']}, and is {found}. {fix}", path or "body")
