# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A scale: the labels that a judge chooses from and the numbers they stand for. No tokenizer is involved here."""

import math
import numbers
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from itertools import pairwise

from real_trl.option_values import FieldError, shown
from real_trl.text.cells import plain

_NUMBER = r"((?:0|[1-9][0-9]*)(?:\.[0-9]+)?)"
_NUMBERS = re.compile(rf"{_NUMBER}\s*-\s*{_NUMBER}(?:\s*:\s*{_NUMBER})?")
_LETTERS = re.compile(r"([a-z])\s*-\s*([a-z])|([A-Z])\s*-\s*([A-Z])")
_LARGEST = 1e100  # of a value, so that sums of squares are finite
_MAX_LABELS = 10_000  # a range with more is a slip of the pen
_SHOWN = 12  # labels of a longer scale are shown with an ellipsis


@dataclass(frozen=True)
class Scale:
    """
    Labels and the numbers they stand for. Build it with [`Scale.parse`].

    Attributes:
        labels (`tuple[str, ...]`): The labels as text, from one end of the scale to the other.
        values (`tuple[float, ...]`): The number each label stands for, strictly increasing or strictly decreasing.
    """

    labels: tuple[str, ...]
    values: tuple[float, ...]

    @classmethod
    def parse(
        cls, labels: str | int | float | Sequence[str | int | float], values: Sequence[float] | None = None
    ) -> "Scale":
        """
        Read a scale as recipes write it.

        Args:
            labels (`str` or `Sequence[str | int | float]`):
                `"1-5"`, `"1-5:0.5"`, `"A-E"`, `"poor,fair,good"`, or a list, from the worst to the best; see [`parse_labels`].
            values (`Sequence[float]`, *optional*):
                The number of each label, in their order. Defaults to the label read as a number.

        Raises:
            `ValueError`: If the labels make no scale, if a label has no finite number of its own, or if the numbers
                neither rise nor fall all the way from the first label to the last.
        """
        labels = parse_labels(labels)
        return cls(labels, _parse_values(labels, values))

    @property
    def low(self) -> float:
        """The lowest value of the scale."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The highest value of the scale."""
        return max(self.values)

    @property
    def lower_is_better(self) -> bool:
        """Whether the lowest value is the best: where the labels are numbers that stand for themselves, and fall (`"6-1"`)."""
        falls = self.values[0] > self.values[-1]
        return falls and all(as_number(label) == value for label, value in zip(self.labels, self.values, strict=True))

    @property
    def best(self) -> str:
        """The label of the best score."""
        return self.label_of(self.low if self.lower_is_better else self.high)

    @property
    def worst(self) -> str:
        """The label of the worst score."""
        return self.label_of(self.high if self.lower_is_better else self.low)

    def reward(self, score: float) -> float:
        """
        `score` as a reward: 0 at the worst value of the scale, 1 at the best, linear in between. Beyond the scale, where an expected
        score may lie that is not divided by the probability mass on the labels, it is that of the nearer end.
        """
        share = min(max((score - self.low) / (self.high - self.low), 0.0), 1.0)
        return 1.0 - share if self.lower_is_better else share

    def label_of(self, score: float) -> str:
        """The label whose value is exactly `score`; `ValueError` if there is none."""
        if score not in self.values:
            shown = abridged([f"{value:g}" for value in self.values])
            raise ValueError(f"score={score!r} is none of the values {shown} of the scale: correct or round it.")
        return self.labels[self.values.index(score)]

    def nearest_label(self, score: float) -> str:
        """The label whose value is nearest to `score`; ties go to the lower label."""
        value = min(self.values, key=lambda value: (abs(value - score), value))
        return self.labels[self.values.index(value)]

    def value_of(self, label: str) -> float:
        """The number that `label` stands for, white space around it ignored; `ValueError` if it is no label."""
        if label.strip() not in self.labels:
            raise ValueError(f"{label!r} is none of the labels {self}: correct it, or set score_labels.")
        return self.values[self.labels.index(label.strip())]

    def read(self, cell: object) -> float:
        """
        The number that a cell of data says: of a label's text the label's value, of a number the number itself, on the scale or
        not; NaN if it is neither. A number as text is a number too, unless labels that look like numbers stand for others: then
        all text is read as labels.
        """
        number = as_number(cell)
        if not isinstance(cell, str):
            return number
        if cell.strip() in self.labels:
            return self.value_of(cell)
        return self._numerals.get(number, math.nan) if self._numerals else number

    def comma_hint(self, cell: object) -> str:
        """What to say of a cell that is on the scale only if its comma is a decimal one, such as `3,5`; else nothing."""
        text = cell.strip() if isinstance(cell, str) else ""
        point = text.replace(",", ".")
        if text.count(",") != 1 or not self.low <= self.read(point) <= self.high:
            return ""
        return f" If {text!r} is {point}, with a decimal comma, write a point, or name the texts of the column that are no numbers in na."

    def is_ambiguous(self, cell: object) -> bool:
        """
        Whether `cell` is a number that is a value of the scale, and the label of another: of the labels 1 to 5 with the values 5 to 1, the
        number 2. As text it is the label, but formats that know numbers may hold either.
        """
        number = math.nan if isinstance(cell, str) else as_number(cell)
        return self.low <= number <= self.high and self._numerals.get(number, number) != number

    @cached_property
    def _numerals(self) -> dict[float, float]:
        """Labels that are numbers → their values, if one of these is another number."""
        numerals = {as_number(label): value for label, value in zip(self.labels, self.values, strict=True)}
        return numerals if any(math.isfinite(label) and label != value for label, value in numerals.items()) else {}

    def __str__(self) -> str:
        return abridged(self.labels)


def abridged(items: Sequence[str]) -> str:
    """`items` joined with commas; of many, the first three and the last one."""
    return ", ".join(items if len(items) <= _SHOWN else [*items[:3], "…", items[-1]])


def parse_labels(labels: str | int | float | Sequence[str | int | float]) -> tuple[str, ...]:
    """
    Spell out the labels of a scale.

    Args:
        labels (`str` or `Sequence[str | int | float]`):
            A range of numbers with both ends, in steps of one (`"1-5"`, `"0-100"`; `"6-1"` where 1 is the best) or of what
            follows a colon (`"1-5:0.5"` is 1, 1.5, …, 5), a range of letters (`"A-E"`), text with commas (`"poor,fair,good"`), or a
            list. Numbers are written the short way: `4.0` in a list is `"4"`.

    Raises:
        `ValueError`: If text is none of these, if a range of letters does not rise or a step does not lead to the end, or if
            there are fewer than two labels, an empty or repeated one, or one that is neither text nor a finite number.
    """
    if isinstance(labels, str) and "," in labels:
        labels = labels.split(",")
    if isinstance(labels, str | int | float):
        return _spell_range(str(labels))
    labels = list(labels)
    if len(labels) > _MAX_LABELS:
        said = f" has {len(labels):,} labels, more than {_MAX_LABELS:,}"
        raise FieldError("score_labels", labels, "List fewer.", said)
    parsed: list[str] = []
    for label in labels:
        if isinstance(label, bool):
            said = f" holds {label!r}: YAML reads yes, no, on and off so"
            raise FieldError("score_labels", labels, "Put such labels in quotes.", said)
        if isinstance(label, int | float) and math.isfinite(label):
            label = str(int(label)) if label == int(label) else repr(label)
        if not isinstance(label, str) or not label.strip():
            fix = "A label must be non-empty text or a finite number."
            raise FieldError("score_labels", labels, fix, f" holds {shown(label)}")
        if label.strip() in parsed:
            said = f"={shown(labels)} holds the label {shown(label.strip())} twice"
            raise FieldError("score_labels", labels, "Remove one.", said)
        parsed.append(label.strip())
    if len(parsed) < 2:
        raise FieldError("score_labels", labels, "Give at least two labels.", f"={shown(labels)} is not a scale")
    return tuple(parsed)


def _spell_range(text: str) -> tuple[str, ...]:
    letters, numbers = _LETTERS.fullmatch(text.strip()), _NUMBERS.fullmatch(text.strip())
    if letters:
        first, last = (ord(end) for end in letters.groups() if end)
        if first < last:
            return tuple(map(chr, range(first, last + 1)))
    if numbers:
        low, high, step = (Decimal(part or 1) for part in numbers.groups())  # exact: 0.1 + 0.2 is 0.3
        if low != high and step:
            steps = abs(high - low) / step
            if steps != int(steps):
                said = f"={text!r} is not a scale: steps of {step} from {low} do not lead to {high}"
                fix = "Write low-high:step, as '1-5:0.5', with a step that does."
                raise FieldError("score_labels", text, fix, said)
            if steps >= _MAX_LABELS:
                said = f"={text!r} has {int(steps) + 1} labels, more than {_MAX_LABELS}"
                raise FieldError("score_labels", text, "Use a larger step.", said)
            spelled = (f"{low + i * (step if low < high else -step):f}" for i in range(int(steps) + 1))
            return tuple(label.rstrip("0").rstrip(".") if "." in label else label for label in spelled)
    fix = "Write low-high, as '1-5' or 'A-E', low-high:step, as '1-5:0.5', or list the labels, as 'poor,fair,good'."
    raise FieldError("score_labels", text, fix, f"={shown(text)} is not a scale: it is neither a range nor a list")


def _parse_values(labels: tuple[str, ...], values: Sequence[float | str] | None) -> tuple[float, ...]:
    if values is None:
        words = [label for label in labels if not math.isfinite(as_number(label))]
        if words:
            example = abridged([str(number) for number in range(1, len(labels) + 1)])
            fix = f"Set score_values to the number that each of {abridged(labels)} stands for, in this order, e.g. {example}."
            said = f" is not set, and the score label {words[0]!r} is not a number"
            raise FieldError("score_values", None, fix, said)
        values = labels
    if len(values) != len(labels):
        said = f" has {len(values)} values for {len(labels)} labels, {abridged(labels)}"
        raise FieldError("score_values", values, "Give one for each, in this order.", said)
    parsed: list[float] = []
    for label, value in zip(labels, values, strict=True):
        number = as_number(value)
        if not abs(number) <= _LARGEST or number in parsed:
            fault = "which is not a finite number" if not math.isfinite(number) else f"which is beyond {_LARGEST:g}"
            fault = "which an earlier label has too" if number in parsed else fault
            said = f": the score label {label!r} has the value {value!r}, {fault}"
            raise FieldError("score_values", values, "Correct it.", said)
        parsed.append(number)
    _check_order(labels, parsed)
    return tuple(parsed)


def _check_order(labels: Sequence[str], values: Sequence[float]) -> None:
    """Raises unless the values rise all the way or fall all the way."""
    rises = [first < second for first, second in pairwise(values)]
    rising = 2 * sum(rises) >= len(rises)  # what most neighbours say
    if all(rise == rising for rise in rises):
        return
    at = rises.index(not rising)
    order = sorted(range(len(labels)), key=lambda i: values[i], reverse=not rising)
    said = (
        f": {abridged(labels)} are in no order: {labels[at + 1]!r} ({values[at + 1]:g}) stands after {labels[at]!r} "
    )
    said += f"({values[at]:g}), while the others go {'up' if rising else 'down'}"
    fix = (
        f"List the labels from one end of the scale to the other: score_labels {abridged([labels[i] for i in order])} "
    )
    fix += f"with score_values {abridged([f'{values[i]:g}' for i in order])}."
    raise FieldError("score_labels", labels, fix, said)


def as_number(value: object) -> float:
    """
    `value` as a number, NaN if it is none: Python's and numpy's numbers (see [`~real_trl.text.cells.plain`] for those in single
    precision), decimals, and text such as `"4.0"`. `True` and `False` are no numbers.
    """
    value = plain(value)
    if isinstance(value, (str, numbers.Real, Decimal)) and not isinstance(value, bool):
        try:
            # "4_5" is 45 in Python only
            return math.nan if isinstance(value, str) and "_" in value else float(value)
        except (ValueError, OverflowError):  # the second for a whole number of more than 308 digits
            pass
    return math.nan
