# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From the cells of a row to its score: a number, the text of a label, the ratings of several raters, or a histogram."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from real_trl.data.arguments import DataArguments
from real_trl.data.files import Source
from real_trl.data.nested import answer
from real_trl.scale import Scale, as_number
from real_trl.text.cells import is_empty
from real_trl.text.column_names import OWN

HISTOGRAM_COLUMN = "score_histogram"
RATINGS_COLUMN = "ratings"
_WRITTEN_HERE = frozenset({"prompt", "score", "feedback", "sampled_score"})
"""The columns of a file of `self_generate`, whose scores are values."""


@dataclass(frozen=True)
class Ratings:
    """
    What the raters of one row say.

    Attributes:
        scores (`list[float | None]`):
            The ratings, one per rater, `None` of one who gave none; of a histogram, its mean alone.
        histogram (`list[float]`, *optional*):
            Share of each label, in label order, if it is asked for.
        several (`bool`):
            Whether the row has room for several raters, so that its rationale may be a list.
    """

    scores: list[float | None]
    histogram: list[float] | None = None
    several: bool = False

    @property
    def given(self) -> list[float]:
        """The ratings of those who gave one."""
        return [score for score in self.scores if score is not None]

    @property
    def mean(self) -> float:
        """Mean of the ratings that were given."""
        return math.fsum(self.given) / len(self.given)


class ScoreReader:
    """
    Reads the scores of rows of `source` as `args` says.

    Args:
        args ([`~real_trl.data.arguments.DataArguments`]):
            `score_column`, `histogram_column`, `raters`.
        scale ([`~real_trl.scale.Scale`]):
            Labels and values that the scores are on.

    Raises:
        `ValueError`: if a column does not exist.
    """

    def __init__(self, args: DataArguments, source: Source, scale: Scale):
        self.scale, self.raters, self._without_na = scale, args.raters, source.without_na
        histogram = args.histogram_column
        # Canonical rows, which hold both columns, are read back without being told
        if histogram is None and args.score_column is None and args.raters != "separate":
            histogram = HISTOGRAM_COLUMN if HISTOGRAM_COLUMN in source.columns else None
        self.from_histogram = histogram is not None
        if histogram is not None:
            self.columns = [source.column("histogram_column", histogram)]
        else:
            self.columns = source.several_columns("score_column", args.score_column, OWN["score"])
        setting = "histogram_column" if self.from_histogram else "score_column"
        self.field = f"{setting} {self.columns[0]!r}" if len(self.columns) == 1 else f"{setting} {self.columns}"
        self._are_values = _WRITTEN_HERE.issubset(source.columns) and self.columns == ["score"]
        self._form: str | None = None  # of the first histogram: list or mapping
        classes = next((source.classes[column] for column in self.columns if column in source.classes), None)
        # Said in errors: the user may know the codes only
        self._classes = f" The column is a ClassLabel of the names {', '.join(classes)}." if classes else ""

    def read(self, row: Mapping[str, Any]) -> Ratings:
        """The ratings of one row; `ValueError` if they are none."""
        if self.from_histogram:
            shares = self._shares(row[self.columns[0]])
            mean = math.fsum(share * value for share, value in zip(shares, self.scale.values, strict=True))
            return Ratings([mean], shares, several=True)
        values, several = [row[column] for column in self.columns], len(self.columns) > 1
        if not several:
            cell = values[0]
            listed = json_list(cell) if isinstance(cell, str) and cell.strip() not in self.scale.labels else cell
            several = isinstance(answer(listed), (list, tuple))
            values = ratings_in(listed, self._without_na) if several or isinstance(cell, Mapping) else values
        if not values:
            raise ValueError(f"{self.field} holds an empty list. Give at least one rating.")
        fields = [f"score_column {c!r}" for c in self.columns] if len(self.columns) > 1 else [self.field] * len(values)
        if several and all(map(is_empty, values)):
            raise ValueError(f"{self.field} holds no rating ({values!r:.60}). Give at least one.")
        # Of several raters, one may have given none
        scores = [
            None if several and is_empty(value) else self._score(field, value)
            for field, value in zip(fields, values, strict=True)
        ]
        if self.raters != "histogram":
            return Ratings(scores, several=several)
        for field, value, score in zip(fields, values, scores, strict=True):
            if score is not None and score not in self.scale.values:
                raise ValueError(
                    f"raters: histogram: {field} holds {value!r}, the value of none of the labels {self.scale}. "
                    f"Correct or round it, or set raters: mean."
                )
        ratings = Ratings(scores, several=several)
        counts = Counter(ratings.given)
        return replace(ratings, histogram=[counts[value] / counts.total() for value in self.scale.values])

    def _score(self, field: str, value: Any) -> float:
        bounds = f"from {self.scale.low:g} to {self.scale.high:g}"
        if is_empty(value):
            raise ValueError(f"{field} is missing ({value!r}). Give a label or a number {bounds}.")
        number = self.scale.read(value)
        if not self._are_values and self.scale.is_ambiguous(value):
            text = f"{as_number(value):g}"
            raise ValueError(
                f"{field} holds the number {value!r}, which may be the label {text!r}, that stands for {self.scale.read(text):g}, or a value of "
                f'the scale. Write labels, as text ("{text}"), or remove score_values.'
            )
        if math.isnan(number):
            what = "none of the labels" if math.isfinite(as_number(value)) else "not a number and none of the labels"
            raise ValueError(
                f"{field} holds {value!r:.60}, which is {what} {self.scale}.{self._classes} Give a label or a number {bounds}."
                + self.scale.comma_hint(value)
            )
        if not self.scale.low <= number <= self.scale.high:
            raise ValueError(
                f"{field} holds {value!r}, which is outside the scale {bounds}.{self._classes} Correct the score, or set the "
                f"labels of the scale that the scores were given on."
            )
        return number

    def _shares(self, cell: Any) -> list[float]:
        """Counts as shares of the labels, in their order."""
        form = "counts in label order or a mapping from label to count"
        if isinstance(cell, str):
            try:
                cell = json.loads(cell)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{self.field} holds {cell!r:.60}, which is not JSON ({error}). Give {form}."
                ) from error
        if not isinstance(cell, (list, tuple, Mapping)):
            raise ValueError(f"{self.field} holds {cell!r:.60}, which is no histogram. Give {form}.")
        self._check_form("mapping" if isinstance(cell, Mapping) else "list", cell)
        counts = self._by_label(cell) if isinstance(cell, Mapping) else list(cell)
        if len(counts) != len(self.scale.labels):
            raise ValueError(
                f"{self.field} holds {len(counts)} counts, {cell!r:.60}, for the {len(self.scale.labels)} labels "
                f"{self.scale}. Give one count per label, in this order, or a mapping from label to count."
            )
        shares = [as_number(count) for count in counts]
        for label, count, share in zip(self.scale.labels, counts, shares, strict=True):
            if not 0 <= share < math.inf:
                raise ValueError(
                    f"{self.field} holds the count {count!r} for the label {label!r}. A count is a finite number, 0 "
                    f"or more; correct it."
                )
        largest = max(shares)
        if not largest:
            raise ValueError(f"{self.field} holds no rating at all, {cell!r:.60}. Correct it or remove the row.")
        shares = [share / largest for share in shares]  # so that their sum is finite
        total = math.fsum(shares)
        return [share / total for share in shares]

    def _by_label(self, cell: Mapping[Any, Any]) -> list[Any]:
        """The counts of a mapping in label order; what is not there, or null as in Parquet, counts 0."""
        counts = {str(key).strip(): count for key, count in cell.items() if count is not None}
        unknown = [key for key in counts if key not in self.scale.labels]
        if unknown:
            raise ValueError(
                f"{self.field} holds a count for {unknown[0]!r}, which is none of the labels {self.scale}. Correct "
                f"the histogram, or set score_labels."
            )
        return [counts.get(label, 0) for label in self.scale.labels]

    def _check_form(self, form: str, cell: Any) -> None:
        self._form = self._form or form
        if form != self._form:
            raise ValueError(
                f"{self.field} holds a {form}, {cell!r:.60}, where rows before it hold a {self._form}. Write all "
                f"histograms in the same way."
            )


def ratings_in(cell: Any, without_na: Callable[[Any], Any] | None = None) -> list[Any]:
    """
    The ratings in a cell: a list, JSON text of a list, or one value.

    Args:
        without_na (`Callable`, *optional*):
            [`~real_trl.data.files.Source.without_na`] of the rows, for what is only in JSON text.
    """
    if isinstance(cell, str) and (listed := json_list(cell)) is not None:
        cell = listed
    cell = answer(cell)
    ratings = list(cell) if isinstance(cell, list | tuple) else [cell]
    return without_na(ratings) if without_na else ratings


def json_list(text: str) -> list[Any] | None:
    """The list that JSON text such as `"[4, 5]"` stands for, as CSV files hold lists; `None` for other text."""
    if not text.strip().startswith("["):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None
