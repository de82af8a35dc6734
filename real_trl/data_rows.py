# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From one row of a source to rows of the canonical schema, or to a `ValueError` that says what is wrong with it."""

import logging
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .data_files import Source
from .data_scores import HISTOGRAM_COLUMN, ScoreReader, json_list
from .prompts import PromptTemplate, add_score_reminder
from .scale import Scale

if TYPE_CHECKING:
    from .data import DataArguments

logger = logging.getLogger(__name__)

CANONICAL = ("prompt", "score", "feedback", HISTOGRAM_COLUMN)
_FEEDBACK_COLUMNS = ("feedback", "orig_feedback")  # the canonical name, then Feedback-Collection's
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
        scale ([`~real_trl.scale.Scale`]):
            Labels and values that the scores are on.
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
        scale: Scale,
        require_feedback: bool,
        marker: str,
    ):
        self.args, self.template, self.source = args, template, source
        self.scale, self.marker, self.require_feedback = scale, marker, require_feedback
        self.replaced = dict.fromkeys(args.prompt_replace, 0)  # text -> number of prompts that had it
        self.prompts = 0
        self.prompt_column = None
        if template is None:
            self.prompt_column = source.column("prompt_column", args.prompt_column, ("prompt",))
        else:
            template.check_columns(args.columns, source.columns)
        self.scores = ScoreReader(args, source, scale)
        feedback_exists = any(column in source.columns for column in _FEEDBACK_COLUMNS)
        self.feedback_columns: list[str] = []
        if args.feedback_column or require_feedback or feedback_exists:
            self.feedback_columns = source.several_columns("feedback_column", args.feedback_column, _FEEDBACK_COLUMNS)
        self._feedback_field = f"feedback_column {', '.join(map(repr, self.feedback_columns))}"
        self.keep = [column for column in args.keep_columns or () if column not in self._same_name()]
        for column in self.keep:
            source.column("keep_columns", column)
            if column in CANONICAL:
                raise ValueError(
                    f"keep_columns: {column!r} is a column of the result with another meaning; remove it."
                )
        roles = [self.prompt_column, *self.scores.columns, *self.feedback_columns, *self.keep]
        # A template may read any column, and its error messages list what there is.
        self.needed = source.columns if template else list(dict.fromkeys(c for c in roles if c is not None))

    def read(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns one canonical row, or one per rating with `raters: separate`."""
        prompt = self._prompt(row)
        kept = {column: row[column] for column in self.keep}
        return [{"prompt": prompt, **verdict, **kept} for verdict in self._verdicts(row)]

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

    def _same_name(self) -> list[str]:
        """Columns that are in the result under their own name anyway."""
        score = HISTOGRAM_COLUMN if self.scores.from_histogram else "score"
        roles = (("prompt", [self.prompt_column]), (score, self.scores.columns), ("feedback", self.feedback_columns))
        return [name for name, columns in roles if columns == [name]]

    def _prompt(self, row: Mapping[str, Any]) -> str:
        if self.template is not None:
            field = f"prompt_template={self.args.prompt_template!r}"
            prompt = self.template.render(row, self.args.columns, scale=self.scale, marker=self.marker)
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

    def _verdicts(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Score, rationale and, where there is one, histogram of each canonical row that the row stands for."""
        ratings = self.scores.read(row)
        feedback = self._read_feedback(row)
        texts = None  # of several raters
        if ratings.several:
            texts = json_list(feedback) if isinstance(feedback, str) else feedback
            texts = texts if isinstance(texts, (list, tuple)) else None
        if self.args.raters != "separate" or not ratings.several:
            if texts is not None and self.require_feedback:
                raise ValueError(
                    f"{self._feedback_field} holds a list of {len(texts)} rationales, of which none belongs to the "
                    f"mean score. Set raters: separate to get one row per rating, with its rationale."
                )
            text = self._feedback(None if texts is not None else feedback)
            verdict = {"score": ratings.mean, "feedback": text}
            return [verdict if ratings.histogram is None else {**verdict, "score_histogram": ratings.histogram}]
        if not self.feedback_columns:
            return [{"score": score, "feedback": None} for score in ratings.scores]
        if texts is None or len(texts) != len(ratings.scores):
            found = f"{len(texts)} rationales" if texts is not None else f"{feedback!r:.60}"
            raise ValueError(
                f"raters: separate: {self.scores.field} holds {len(ratings.scores)} ratings, {self._feedback_field} "
                f"holds {found}. Give one rationale per rating, in a list."
            )
        pairs = zip(ratings.scores, texts, strict=True)
        return [{"score": score, "feedback": self._feedback(text)} for score, text in pairs]

    def _read_feedback(self, row: Mapping[str, Any]) -> Any:
        """The rationale, or the list of the raters' rationales."""
        if len(self.feedback_columns) > 1:
            return [row[column] for column in self.feedback_columns]
        return row[self.feedback_columns[0]] if self.feedback_columns else None

    def _feedback(self, text: Any) -> str | None:
        field = self._feedback_field
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
