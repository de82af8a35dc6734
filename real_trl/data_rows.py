# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From one row of a source to rows of the canonical schema, or to a `ValueError` that says what is wrong with it."""

import logging
import math
import numbers
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .data_files import Source
from .prompts import PromptTemplate, add_score_reminder

if TYPE_CHECKING:
    from .data import DataArguments

logger = logging.getLogger(__name__)

CANONICAL = ("prompt", "score", "feedback")
_SCORE_COLUMNS = ("score", "orig_score")  # the canonical name, then Feedback-Collection's
_FEEDBACK_COLUMNS = ("feedback", "orig_feedback")
_RESULT = re.compile(r"\s*\[RESULT\](?:[^\n\d]{0,20}\d+(?:\.\d+)?)?[^\w\n]*$")


class RowReader:
    """
    Reads rows of `source` as `args` says. All that can be known from the column names is checked when it is built.

    Args:
        args ([`~real_trl.data.DataArguments`]):
            Columns and prompt.
        source ([`~real_trl.data_files.Source`]):
            The rows' source.
        template ([`~real_trl.prompts.PromptTemplate`] or `None`):
            Template of the prompt; `None` reads complete prompts.
        low (`float`):
            Lowest score of the scale.
        high (`float`):
            Highest score of the scale.
        require_feedback (`bool`):
            Whether every row needs a rationale.
        marker (`str`):
            What stands before the score.

    Raises:
        `ValueError`: if a column does not exist.
    """

    def __init__(
        self,
        args: "DataArguments",
        source: Source,
        template: PromptTemplate | None,
        low: float,
        high: float,
        require_feedback: bool,
        marker: str,
    ):
        self.args, self.template, self.source = args, template, source
        self.low, self.high, self.marker, self.require_feedback = low, high, marker, require_feedback
        self.replaced = dict.fromkeys(args.prompt_replace, 0)  # text -> number of prompts that had it
        self.prompts = 0
        self.prompt_column = None
        if template is None:
            self.prompt_column = self._column("prompt_column", args.prompt_column, ("prompt",))
        else:
            template.check_columns(args.columns, source.columns)
        self.score_column = self._column("score_column", args.score_column, _SCORE_COLUMNS)
        feedback_exists = any(column in source.columns for column in _FEEDBACK_COLUMNS)
        self.feedback_column = None
        if args.feedback_column or require_feedback or feedback_exists:
            self.feedback_column = self._column("feedback_column", args.feedback_column, _FEEDBACK_COLUMNS)
        self.keep = [column for column in args.keep_columns or () if column not in self._same_name()]
        for column in self.keep:
            self._column("keep_columns", column, ())
            if column in CANONICAL:
                raise ValueError(
                    f"keep_columns: {column!r} is a column of the result with another meaning; remove it."
                )
        roles = [self.prompt_column, self.score_column, self.feedback_column, *self.keep]
        # A template may read any column, and its error messages list what there is.
        self.needed = source.columns if template else list(dict.fromkeys(c for c in roles if c is not None))

    def read(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns one canonical row, or one per rating with `raters: separate`."""
        prompt = self._prompt(row)
        kept = {column: row[column] for column in self.keep}
        return [
            {"prompt": prompt, "score": score, "feedback": feedback, **kept} for score, feedback in self._verdicts(row)
        ]

    def check_replacements(self) -> None:
        """Raises if a text of `prompt_replace` was in no prompt, and warns if it was in some only."""
        for old, count in self.replaced.items():
            if count == 0:
                raise ValueError(
                    f"prompt_replace: {old!r} occurs in none of the {self.prompts} prompts of {self.source.name!r}. "
                    f"Copy the text from a prompt, character by character, or remove the entry."
                )
            if count < self.prompts:
                logger.warning(
                    "prompt_replace: %r occurs in %d of %d prompts; the others stay as they are.",
                    old,
                    count,
                    self.prompts,
                )

    def _column(self, setting: str, column: str | None, defaults: Sequence[str]) -> str:
        columns = self.source.columns
        if column is not None:
            if column not in columns:
                raise ValueError(
                    f"{setting}={column!r} is not a column of {self.source.name!r}. Existing columns: {columns}."
                )
            return column
        found = next((name for name in defaults if name in columns), None)
        if found is None:
            other = " or prompt_template" if setting == "prompt_column" else ""
            raise ValueError(
                f"{setting} is not set, and {self.source.name!r} has no column {' or '.join(map(repr, defaults))}. "
                f"Set {setting}{other}. Existing columns: {columns}."
            )
        return found

    def _same_name(self) -> list[str]:
        """Columns that are in the result under their own name anyway."""
        roles = zip(CANONICAL, (self.prompt_column, self.score_column, self.feedback_column), strict=True)
        return [name for name, column in roles if name == column]

    def _prompt(self, row: Mapping[str, Any]) -> str:
        if self.template is not None:
            field = f"prompt_template={self.args.prompt_template!r}"
            prompt = self.template.render(row, self.args.columns, low=self.low, high=self.high, marker=self.marker)
        else:
            field, prompt = f"prompt_column {self.prompt_column!r}", row[self.prompt_column]
            if prompt is not None and not isinstance(prompt, str):
                raise ValueError(f"{field} holds a {type(prompt).__name__}, {prompt!r:.60}; a prompt is text.")
        if prompt is None or not prompt.strip():
            raise ValueError(f"{field} gives an empty prompt, {prompt!r}. Fill it or remove the row.")
        self.prompts += 1
        for old, new in self.args.prompt_replace.items():
            self.replaced[old] += old in prompt
            prompt = prompt.replace(old, new)
        return add_score_reminder(prompt, self.marker) if self.args.prompt_score_reminder else prompt

    def _verdicts(self, row: Mapping[str, Any]) -> list[tuple[float, str | None]]:
        """Returns (score, rationale) of each rating that the row stands for."""
        value = row[self.score_column]
        feedback = row[self.feedback_column] if self.feedback_column else None
        if not isinstance(value, (list, tuple)):
            return [(self._score(value), self._feedback(feedback))]
        if not value:
            raise ValueError(f"score_column {self.score_column!r} holds an empty list. Give at least one rating.")
        scores = [self._score(rating) for rating in value]
        texts = feedback if isinstance(feedback, (list, tuple)) else None
        if self.args.raters == "mean":
            if texts is not None and self.require_feedback:
                raise ValueError(
                    f"feedback_column {self.feedback_column!r} holds a list of {len(texts)} rationales, of which "
                    f"none belongs to the mean score. Set raters: separate to get one row per rating, with its "
                    f"rationale."
                )
            return [(math.fsum(scores) / len(scores), self._feedback(None if texts is not None else feedback))]
        if self.feedback_column is None:
            return [(score, None) for score in scores]
        if texts is None or len(texts) != len(scores):
            found = f"{len(texts)} rationales" if texts is not None else f"{feedback!r:.60}"
            raise ValueError(
                f"raters: separate: score_column {self.score_column!r} holds {len(scores)} ratings, feedback_column "
                f"{self.feedback_column!r} holds {found}. Give one rationale per rating, in a list."
            )
        return [(score, self._feedback(text)) for score, text in zip(scores, texts, strict=True)]

    def _score(self, value: Any) -> float:
        field = f"score_column {self.score_column!r}"
        scale = f"from {self.low:g} to {self.high:g}"
        if value is None or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"{field} is missing ({value!r}). Give a number {scale}.")
        number = math.nan
        if isinstance(value, (str, numbers.Real)) and not isinstance(value, bool):
            try:
                number = float(value)
            except ValueError:
                number = math.nan
        if math.isnan(number):
            raise ValueError(f"{field} holds {value!r:.60}, which is not a number. Give a number {scale}.")
        if not self.low <= number <= self.high:
            raise ValueError(
                f"{field} holds {value!r}, which is outside the scale {scale}. Correct the score, or set the labels "
                f"of the scale that the scores were given on."
            )
        return number

    def _feedback(self, text: Any) -> str | None:
        field = f"feedback_column {self.feedback_column!r}"
        if isinstance(text, float) and math.isnan(text):
            text = None
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{field} holds a {type(text).__name__}, {text!r:.60}; a rationale is text.")
        stripped = strip_score_sentence(text or "", self.marker)
        if self.require_feedback and not stripped:
            raise ValueError(f"{field} holds no rationale ({text!r}). Fill it or remove the row.")
        return stripped or None


def strip_score_sentence(feedback: str, marker: str) -> str:
    """
    Removes the score from the end of a rationale: `So the overall score is 4.` (or another sentence that starts with
    `So the overall` or with `marker` and gives a score), and Prometheus' `[RESULT] 4`. A sentence that more text
    follows is kept: there the rationale quotes.
    """
    start = re.compile(rf"(?P<marker>{re.escape(marker.strip())})|\bSo,? the overall\b", re.IGNORECASE)
    text = feedback.strip()
    while True:
        shorter = _RESULT.sub("", text)
        last = next(reversed(list(start.finditer(shorter))), None)
        if last is not None:
            rest = shorter[last.end() :]
            ends_text = re.fullmatch(r"[^.!?\n]*(?:\d\.\d[^.!?\n]*)?[^\w\n]*", rest)
            gives_score = last["marker"] is not None or not rest.strip() or re.search(r"score|rating|\d", rest)
            if ends_text and gives_score:
                shorter = shorter[: last.start()]
        shorter = shorter.strip()
        if shorter == text:
            return text
        text = shorter
