# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The scores of a user's file: which scale they are on, and what is wrong with those that are on none."""

import math
import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Any

from real_trl.data.files import Source
from real_trl.data.scores import ratings_in
from real_trl.onboarding.columns import Roles, Unknown
from real_trl.onboarding.named_scales import stated_range
from real_trl.option_values import FieldError
from real_trl.scale import Scale, abridged, as_number
from real_trl.text.cells import is_empty
from real_trl.text.shown import first_few

# Where every whole number from 0 or 1 to the highest score occurs, that is the scale
_ENOUGH_SCORES, _LONGEST_FULL = 20, 20
# Else the smallest scale that holds all scores is taken, by its upper end: a rarer one only if both of its ends were given
_RARE_FROM_ONE, _FROM_ONE = (3, 4, 6), (5, 7, 10, 12, 15, 20, 100)
_RARE_FROM_ZERO, _FROM_ZERO = (2, 4, 6), (1, 3, 5, 10, 12, 15, 20, 100)
_ENDS = (*range(2, 8), 10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100)  # of scales that people use
# Of the range, up to the highest score. Below it the upper end is made up, and with it the weight of the squared error
_ENOUGH_OF_RANGE = 0.5
_WORDS = (
    *(("no", "yes"), ("bad", "good"), ("wrong", "right"), ("incorrect", "correct"), ("fail", "pass")),
    *(("low", "medium", "high"), ("bad", "ok", "good"), ("bad", "fair", "good"), ("poor", "fair", "good")),
    *(
        ("incorrect", "partial", "correct"),
        ("poor", "fair", "good", "excellent"),
        ("bad", "poor", "fair", "good", "excellent"),
    ),
    ("very poor", "poor", "fair", "good", "very good"),
)


@dataclass(frozen=True)
class Scores:
    """
    The scores of a file.

    Attributes:
        labels (`str`): The scale, as recipes write it.
        values (`list[float]`, *optional*): Numbers of the labels, where those are words.
        scale ([`~real_trl.scale.Scale`]): The scale.
        rows (`list[list[float]]`): The ratings of each row, or of each row and criterion that has one.
        note (`str`): How sure the scale is.
    """

    labels: str
    values: list[float] | None
    scale: Scale
    rows: list[list[float]]
    note: str = ""

    @property
    def means(self) -> list[float]:
        """Mean rating of each row that has one."""
        return [math.fsum(row) / len(row) for row in self.rows if row]

    @property
    def most_raters(self) -> int:
        """Ratings of the row with the most of them."""
        return max(map(len, self.rows))


def read_scores(source: Source, roles: Roles, labels: str | None) -> Scores:
    """
    Read the scores, and find their scale unless it is stated.

    Args:
        labels (`str`, *optional*):
            The scale, as recipes write it.

    Raises:
        `ValueError`: naming column, rows, values and fix, if scores mix numbers and words, are on no scale, or are all the same.
    """
    classes = next((source.classes[column] for column in roles.scores if column in source.classes), [])
    field = f"score column {', '.join(map(repr, roles.scores))}"
    field += f" (a ClassLabel of the names {', '.join(classes)})" if classes else ""
    together = [[column] for column in roles.criteria] or [roles.scores]
    # Row → its ratings; with criteria, the same row once more for each
    cells = [(i, _cells(source, row, each)) for i, row in enumerate(source.iterate(roles.scores)) for each in together]
    cells = [(i, ratings) for i, ratings in cells if ratings or not roles.criteria]
    given = [cell for _, row in cells for cell in row]
    if truths := [cell for cell in given if isinstance(cell, bool)]:
        raise ValueError(
            f"{field}: {len(truths)} of its cells hold true or false, which is no score. Write numbers, such as 1 and 0, or labels, such as "
            "yes and no, or name another column: --score COLUMN."
        )
    numbers = [cell for cell in given if math.isfinite(as_number(cell))]
    if labels is None and numbers and len(numbers) < len(given):
        raise ValueError(_mixed(source, field, cells))
    if labels is not None:
        labels, values, note = labels, None, ""
        if not _all_numbers(labels):
            values = [float(number) for number in range(1, labels.count(",") + 2)]
    elif numbers:
        labels, note = guess_scale(
            [as_number(cell) for cell in numbers], field, stated_range(roles.scores, source.columns)
        )
        values = None
    else:
        labels, note = _word_scale([str(cell).strip() for cell in given], field, classes)
        values = [float(number) for number in range(1, labels.count(",") + 2)]
    scale = Scale.parse(labels, values)
    rows = _on_scale(source, field, cells, scale)
    if len({score for row in rows for score in row}) == 1:
        only = next(score for row in rows for score in row)
        raise ValueError(
            f"{field}: all {len(given)} scores are {only:g}, so there is nothing to learn from them. Name another column (--score COLUMN), or "
            "collect responses that were scored differently."
        )
    return Scores(labels, values, scale, rows, note)


def guess_scale(values: list[float], field: str = "score", stated: tuple[str, str] | None = None) -> tuple[str, str]:
    """
    The scale that scores are probably on, and what should be known about the guess.

    Args:
        stated (`tuple[str, str]`, *optional*):
            Worst and best score as the column's name states them. They are the scale if every score lies between them.

    Raises:
        [`~real_trl.onboarding.Unknown`], a `ValueError`: if they are on none that is usual, or leave open where it ends.
    """
    low, high = min(values), max(values)
    whole = all(value.is_integer() for value in values)
    halves = all((2 * value).is_integer() for value in values)
    other = ""
    if stated:
        least, most = sorted(map(float, stated))
        if least <= low and high <= most:
            step, about = _step(least, most, whole, halves)
            scale = f"{stated[0]}-{stated[1]}{step}"
            best = f", of which {stated[1]} is the best" if float(stated[1]) == least else ""
            return scale, f"the name of the column says {stated[0]}-{stated[1]}{best}: taken as {scale}{about}"
        other = f" (the name of the column says {stated[0]}-{stated[1]}, which does not hold them all)"
    if low < 0 or high > 100:
        shown = ", ".join(f"{value:g}" for value in sorted(set(values))[:5])
        raise Unknown(
            "score_labels",
            f"{field}: the scores go from {low:g} to {high:g} ({shown}, …){other}, which is no usual scale. Correct those that are slips, or state "
            "the scale: --score_labels low-high, low-high:step, or all labels with commas (--score_labels=-1,0,1).",
        )
    if not whole and high <= 1:
        return "0-1:0.1", f"scores from {low:g} to {high:g} with fractions{other}: taken as 0-1, in steps of 0.1"
    enough = len(values) >= _ENOUGH_SCORES
    full = whole and low in (0, 1) and low < high <= _LONGEST_FULL and len(set(values)) == high - low + 1
    if full and enough:
        scale = f"{low:g}-{high:g}"
        said = f"every whole number from {low:g} to {high:g} occurs, and no other{other}: taken as {scale}"
        return scale, said + _about_ends(low, high, high, "")
    least = 0.0 if low < 1 else 1.0
    rare, usual = (_RARE_FROM_ZERO, _FROM_ZERO) if least == 0 else (_RARE_FROM_ONE, _FROM_ONE)
    ends_given = enough and high in rare and low < least + (1 if least == 0 else 0.5)
    most = high if ends_given else float(next(end for end in usual if high <= end))
    if low < high and high - least < _ENOUGH_OF_RANGE * (most - least):
        likely = [end for end in _ENDS if high <= end < most][:2]
        worst = 0.0 if high > _LONGEST_FULL else least  # points begin at 0, whether anybody got none or not
        scales = [f"{worst:g}-{end:g}{_step(worst, float(end), whole, halves)[0]}" for end in (*likely, most)]
        raise Unknown(
            "score_labels",
            f"{field}: the scores go from {low:g} to {high:g}{other}, which does not tell where the scale ends, and the size of an error depends on "
            f"that. State the scale, from the worst score that could be given to the best: --score_labels {', '.join(scales[:-1])} or {scales[-1]}, "
            "say.",
        )
    step, about = _step(least, most, whole, halves)
    scale = f"{least:g}-{most:g}{step}"
    # An end that nobody gave leaves no trace in the scores
    unseen = (
        f"; if 0 could be given too, which none of them has: --score_labels 0-{most:g}{step}" if least == 1 else ""
    )
    said = f"scores from {low:g} to {high:g}{other}: taken as {scale}{about}{unseen}"
    return scale, said + _about_ends(least, most, high, step)


def _about_ends(least: float, most: float, high: float, step: str) -> str:
    """What to say of the upper end, and of which end is the best."""
    said = ""
    if high < most:
        said = f"; that it ends at {most:g}, which none of them has, is a guess"
    elif more := [end for end in _ENDS if end > most]:
        said = f"; if more than {most:g} could be given: --score_labels {least:g}-{more[0]:g}{step}, say"
    if (least, most) == (1, 6):  # school grades, in some countries
        said += "; if 1 is the best, as of school grades: --score_labels 6-1"
    return said


def _step(least: float, most: float, whole: bool, halves: bool) -> tuple[str, str]:
    """The end of a scale from `least` to `most` that gives its step, and what to say of it."""
    ends_whole = least.is_integer() and most.is_integer()
    if whole and ends_whole:
        return "", ""
    if halves and (2 * least).is_integer() and (2 * most).is_integer() and most <= 10 and most - least > 1:
        return ":0.5", ", in steps of 0.5"
    if most - least <= 1 or not ends_whole:
        return ":0.1", ", in steps of 0.1"
    return "", "; a score between two labels stays what it is, and is written as the nearest one"


def _cells(source: Source, row: dict[str, Any], columns: list[str]) -> list[Any]:
    return [
        cell
        for column in columns
        if not is_empty(row[column])
        for cell in ratings_in(row[column], source.without_na)
        if not is_empty(cell)
    ]


def _all_numbers(labels: str) -> bool:
    try:
        Scale.parse(labels)
    except ValueError as error:
        if isinstance(error, FieldError) and (error.field, error.value) == ("score_values", None):
            return False
        raise ValueError(f"--score_labels: {error}") from error
    return True


def _mixed(source: Source, field: str, cells: list[tuple[int, list[Any]]]) -> str:
    words = [(i, cell) for i, row in cells for cell in row if not math.isfinite(as_number(cell))]
    shown = first_few([f"{cell!r:.40} in {source.where(i)}" for i, cell in words])
    return (
        f"{field}: numbers and text are mixed: {shown}. Write a number in these cells, say which texts mean that there is none "
        f"(--na {shlex.quote(str(words[0][1]).strip())}), or name another column: --score COLUMN."
    )


def _word_scale(words: list[str], field: str, classes: list[str]) -> tuple[str, str]:
    counts = Counter(words)
    by_key = {word.lower(): word for word in counts}
    for order in _WORDS:
        if set(by_key) <= set(order) and len(by_key) > 1:
            labels = ",".join(by_key.get(word, word) for word in order)
            return labels, f"words in the order {labels.replace(',', ' < ')}, as 1 to {len(order)}"
    shown = abridged([repr(word) for word, _ in counts.most_common(12)])
    kind = "no numbers, but words" if len(counts) <= 12 else f"no numbers, but {len(counts)} different texts"
    raise ValueError(
        f"{field}: it holds {kind}: {shown}. If they are labels, list them from worst to best: --score_labels {','.join(classes or list(counts)[:3])}; if "
        "not, name another column: --score COLUMN."
    )


def _on_scale(source: Source, field: str, cells: list[tuple[int, list[Any]]], scale: Scale) -> list[list[float]]:
    rows, outside = [], []
    for index, row in cells:
        scores = []
        for cell in row:
            score = scale.read(cell)
            if not scale.low <= score <= scale.high:  # NaN too
                outside.append(f"{cell!r:.40} in {source.where(index)}")
            scores.append(score)
        rows.append(scores)
    if outside:
        hint = next(filter(None, (scale.comma_hint(cell) for _, row in cells for cell in row)), "")
        raise ValueError(
            f"{field}: outside the scale {scale}: {first_few(outside)}. Correct these cells, or state the scale that the "
            f"scores were given on: --score_labels.{hint}"
        )
    return rows
