# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From one row of a source to rows of the canonical schema, or to a `ValueError` that says what is wrong with it."""

import logging
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from real_trl.data.arguments import DataArguments
from real_trl.data.files import Source
from real_trl.data.scores import HISTOGRAM_COLUMN, RATINGS_COLUMN, Ratings, ScoreReader, json_list
from real_trl.option_values import FieldError
from real_trl.prompts.template import PromptTemplate, add_score_reminder, checked_text
from real_trl.scale import Scale
from real_trl.text.cells import is_missing
from real_trl.text.column_names import OWN
from real_trl.text.keys import key_of

logger = logging.getLogger(__name__)

CANONICAL = ("prompt", "score", "feedback", HISTOGRAM_COLUMN)
_RESULT = re.compile(r"\s*\[RESULT\](?:[^\n\d]{0,20}\d+(?:\.\d+)?)?[^\w\n]*$")


class RowReader:
    """
    Reads rows of `source` as `args` says. All that can be known from the column names is checked when it is built.

    Args:
        template ([`~real_trl.prompts.template.PromptTemplate`] or `None`):
            Template of the prompt; `None` reads complete prompts.
        scale ([`~real_trl.scale.Scale`]):
            Labels and values that the scores are on.
        require_feedback (`bool`, *optional*):
            Whether every row needs a rationale; `None`: if there is a column for it.
        marker (`str`):
            What stands before the score.
        keep_ratings (`bool`, *optional*, defaults to `False`):
            Whether to keep the single ratings of several raters.

    Raises:
        `ValueError`: if a column does not exist.
    """

    def __init__(
        self,
        args: DataArguments,
        source: Source,
        template: PromptTemplate | None,
        scale: Scale,
        require_feedback: bool | None,
        marker: str,
        keep_ratings: bool = False,
    ):
        self.args, self.template, self.source = args, template, source
        self.scale, self.marker = scale, marker
        self.replaced = dict.fromkeys(args.prompt_replace, 0)  # text -> number of prompts that had it
        self.prompts = 0
        self.prompt_column = None
        if template is None:
            self.prompt_column = source.column("prompt_column", args.prompt_column, ("prompt",))
        else:
            template.check_columns(args.columns, source.columns)
        self.scores = ScoreReader(args, source, scale)
        self.score_columns = self.scores.columns
        feedback_exists = any(column in source.columns for column in OWN["feedback"])
        self.feedback_columns: list[str] = []
        if require_feedback is None:
            require_feedback = bool(args.feedback_column) or feedback_exists
        self.require_feedback = require_feedback
        if args.feedback_column or require_feedback or feedback_exists:
            self.feedback_columns = source.several_columns("feedback_column", args.feedback_column, OWN["feedback"])
        self._feedback_field = f"feedback_column {', '.join(map(repr, self.feedback_columns))}"
        # No rating of its own is left to keep in a row per rating, or known behind a histogram
        self.keep_ratings = keep_ratings and args.raters != "separate" and not self.scores.from_histogram
        keys = {"id": args.id_column, "group": args.group_column}
        self.keys = {
            key: source.several_columns(f"{key}_column", columns)
            for key, columns in keys.items()
            if columns is not None
        }
        self._seen: dict[str, str] = {}  # id -> where its row stands
        self.several = False  # whether a row with several ratings has been read
        self.keep = [column for column in args.keep_columns or () if column not in self._same_name()]
        taken = {*CANONICAL, *self.keys, *([RATINGS_COLUMN] if self.keep_ratings else [])}
        for column in self.keep:
            source.column("keep_columns", column)
            if column in taken:
                raise ValueError(
                    f"keep_columns: {column!r} is a column of the result with another meaning; remove it."
                )
        roles = [self.prompt_column, *self.scores.columns, *self.feedback_columns, *self.keep]
        roles += [column for columns in self.keys.values() for column in columns]
        # A template may read any column, and its error messages list what there is.
        self.needed = source.columns if template else list(dict.fromkeys(c for c in roles if c is not None))

    def read(self, row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """Returns one canonical row, or one per rating with `raters: separate`; `where` the row stands tells ids apart."""
        prompt = self._prompt(row)
        kept = {column: row[column] for column in self.keep}
        keys = {key: _key(f"{key}_column", columns, row) for key, columns in self.keys.items()}
        rows = [{"prompt": prompt, **verdict, **keys, **kept} for verdict in self._verdicts(row)]
        if "id" in keys:
            first = self._seen.setdefault(keys["id"], where)
            if first != where:
                raise ValueError(
                    f"id_column {', '.join(map(repr, self.keys['id']))} holds {keys['id']!r:.60}, which {first} holds "
                    f"too. Give every row an id of its own, or name further columns that tell them apart."
                )
            if self.args.raters == "separate":
                rows = [{**row, "id": f"{keys['id']}#{rater}"} for rater, row in enumerate(rows, 1)]
        return rows

    def item(self, row: Mapping[str, Any]) -> str | None:
        """What a row is about, which rows of other raters may be about too: its id, else its prompt; `None` if it has none."""
        if "id" not in self.keys:
            return self.shown(row)
        try:
            return _key("id_column", self.keys["id"], row)
        except ValueError:
            return None  # said when it is read

    def shown(self, row: Mapping[str, Any]) -> str | None:
        """What a judge is shown of a row; `None` if nothing can be."""
        try:
            return self._complete_prompt(row).strip()
        except ValueError:
            return None  # said when it is read

    def without_empty_columns(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Leaves out the rationale if no row has one, and the ratings if no row has several."""
        empty = {"feedback"} if all(row["feedback"] is None for row in rows) else set()
        empty |= set() if self.several else {RATINGS_COLUMN} - set(self.keep)
        return [{key: value for key, value in row.items() if key not in empty} for row in rows] if empty else rows

    def check(self) -> None:
        """Raises if a text of `prompt_replace` was in no prompt, and warns if it was in some only."""
        for old, count in self.replaced.items():
            if count == 0:
                said = f": {old!r} occurs in none of the {self.prompts} prompts of {self.source.name!r}"
                fix = "Copy the text from a prompt, character by character, or remove the entry."
                raise FieldError("prompt_replace", old, fix, said)
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
        roles = [("prompt", [self.prompt_column]), (score, self.scores.columns), ("feedback", self.feedback_columns)]
        roles += [*self.keys.items(), *([(RATINGS_COLUMN, self.scores.columns)] if self.keep_ratings else [])]
        return [name for name, columns in roles if columns == [name]]

    def _complete_prompt(self, row: Mapping[str, Any]) -> str:
        if self.template is None:
            return checked_text("prompt_column", row[self.prompt_column], f" {self.prompt_column!r}")
        prompt = self.template.render(row, self.args.columns, scale=self.scale, marker=self.marker)
        return checked_text("prompt_template", prompt, f"={self.args.prompt_template!r}: the prompt")

    def _prompt(self, row: Mapping[str, Any]) -> str:
        prompt = self._complete_prompt(row)
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
            texts = self.source.without_na(list(texts)) if isinstance(texts, (list, tuple)) else None
        if self.args.raters != "separate" or not ratings.several:
            if texts is not None and self.require_feedback:
                raise ValueError(
                    f"{self._feedback_field} holds a list of {len(texts)} rationales, of which none belongs to the "
                    f"mean score. Set raters: separate to get one row per rating, with its rationale."
                )
            text = self._feedback(None if texts is not None else feedback)
            return [{"score": ratings.mean, "feedback": text, **self._optional(ratings)}]
        if not self.feedback_columns:
            return [{"score": score, "feedback": None} for score in ratings.given]
        if texts is None or len(texts) != len(ratings.scores):
            found = f"{len(texts)} rationales" if texts is not None else f"{feedback!r:.60}"
            raise ValueError(
                f"raters: separate: {self.scores.field} holds {len(ratings.scores)} ratings, {self._feedback_field} "
                f"holds {found}. Give one rationale per rating, in a list."
            )
        pairs = zip(ratings.scores, texts, strict=True)
        return [{"score": score, "feedback": self._feedback(text)} for score, text in pairs if score is not None]

    def _optional(self, ratings: Ratings) -> dict[str, list[float | None]]:
        columns: dict[str, list[float | None]] = (
            {} if ratings.histogram is None else {HISTOGRAM_COLUMN: list(ratings.histogram)}
        )
        if self.keep_ratings:
            columns[RATINGS_COLUMN] = ratings.scores
            self.several |= ratings.several
        return columns

    def _read_feedback(self, row: Mapping[str, Any]) -> Any:
        """The rationale, or the list of the raters' rationales."""
        if len(self.feedback_columns) > 1:
            return [row[column] for column in self.feedback_columns]
        return row[self.feedback_columns[0]] if self.feedback_columns else None

    def _feedback(self, text: Any) -> str | None:
        field = self._feedback_field
        if is_missing(text):
            text = None
        if text is not None and not isinstance(text, str):
            raise ValueError(f"{field} holds a {type(text).__name__}, {text!r:.60}; a rationale is text.")
        stripped = strip_score_sentence(text or "", self.marker)
        if self.require_feedback and not stripped:
            raise ValueError(
                f"{field} holds no rationale ({text!r}). Fill it, remove the row, or set rationale: false for a judge that writes none."
            )
        return stripped or None


def _key(setting: str, columns: list[str], row: Mapping[str, Any]) -> str:
    """The text that tells a row, or its group, from others: the values of `columns`, joined with `/`."""
    texts = []
    for column in columns:
        value = row[column]
        text = key_of(value)
        whole = isinstance(value, (float, Decimal)) and value % 1 == 0
        if text is None or not (isinstance(value, (str, int)) or whole):
            raise ValueError(
                f"{setting} {column!r} holds {value!r:.60}. Give text or a whole number, or remove the row."
            )
        texts.append(text)
    return "/".join(texts)


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
