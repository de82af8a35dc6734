# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a user's file is like: rows, questions, raters, balance, lengths, duplicates, and leakage between its splits."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

from real_trl.data.files import Source
from real_trl.data.rows import strip_score_sentence
from real_trl.data.scores import ratings_in
from real_trl.onboarding.columns import Roles, ratings_of, values_of
from real_trl.onboarding.scores import Scores
from real_trl.score_space import DEFAULT_MARKER
from real_trl.text.cells import is_empty
from real_trl.text.column_names import split_of
from real_trl.text.near_duplicates import near_duplicates
from real_trl.text.rationales import RationaleFault, is_rationale, rationale_faults
from real_trl.text.shown import first_few

MIN_ROWS = 10
MIN_GROUPS = 3
_FEW_ROWS = 200
_FEW_GROUPS = 30
_CHARACTERS_PER_TOKEN = 3.5  # of English text, cautiously; only where the model's tokenizer is not at hand


@dataclass(frozen=True)
class Lengths:
    """Median and longest of a text, in tokens; `measured` is false where they are estimated from characters."""

    median: int
    longest: int
    measured: bool


@dataclass(frozen=True)
class Inspection:
    """
    What was found.

    Attributes:
        rows, groups (`int`): Rows that are used, and questions.
        keys (`list[str]`): The question of each row.
        raters (`int`): Ratings of the row with the most.
        balance (`dict[str, int]`): Label → rows whose mean score is nearest to it.
        near (`list[tuple[str, str]]`): Texts of questions that are nearly the same, and count as one question.
        duplicates, contradictions (`int`): Rows that repeat another one's prompt, and those with another score.
        rationales (`list[bool]`): Whether each row has one.
        prompt, feedback ([`Lengths`], *optional*): Lengths.
        splits (`list[str]`, *optional*): The file's own split of each row.
        leaking (`int`): Rows of the file's own training split whose question is in another split too.
        notes (`list[str]`): What the user should know.
    """

    rows: int
    groups: int
    keys: list[str]
    raters: int
    balance: dict[str, int]
    near: list[tuple[str, str]]
    duplicates: int
    contradictions: int
    rationales: list[bool]
    prompt: Lengths
    feedback: Lengths | None
    splits: list[str] | None
    leaking: int
    notes: list[str]


def drop_incomplete(source: Source, roles: Roles, drop: bool) -> tuple[Source, int]:
    """
    Leave out rows with an empty score, prompt or response, if that was asked for.

    Raises:
        `ValueError`: naming the first of them, if it was not, or if too few rows are left.
    """
    faults: dict[str, list[int]] = defaultdict(list)
    unscored: list[int] = []
    for index, row in enumerate(source.iterate()):
        for column in roles.texts:
            if is_empty(row[column]):
                faults[column].append(index)
        if all(has_no_score(source, row[column]) for column in roles.scores):
            unscored.append(index)
    if len(unscored) == len(source):
        raise ValueError(
            f"score column {', '.join(map(repr, roles.scores))}: every cell is empty. Fill in the scores, or name another column: --score COLUMN."
        )
    bad = sorted({*unscored, *(index for indices in faults.values() for index in indices)})
    if bad and not drop:
        lines = []
        if len(roles.scores) == 1 and unscored:
            faults[roles.scores[0]] = unscored
        for column, indices in faults.items():
            lines.append(f"{column!r} is empty in {len(indices)} rows: {first_few([*map(source.where, indices)])}")
        if len(roles.scores) > 1 and unscored:
            what = "there is no score by any criterion" if roles.criteria else "no rater gave a score"
            lines.append(
                f"{what} in {len(unscored)} rows: {first_few([*map(source.where, unscored)])} ({missing_by_column(source, roles.scores)}: "
                "a row with one score can stay)"
            )
        raise ValueError(
            f"{source.name!r}: {'; '.join(lines)} (rows count from 0). Fill the cells, remove the rows, or leave them out with --drop_incomplete."
        )
    kept = source.select([index for index in range(len(source)) if index not in set(bad)]) if bad else source
    if len(kept) < MIN_ROWS:
        raise ValueError(
            f"{source.name!r}: {len(kept)} usable rows, of {len(source)}; there must be at least {MIN_ROWS}, and a judge wants hundreds. "
            "Collect more scores."
        )
    return kept, len(bad)


def has_no_score(source: Source, cell: object) -> bool:
    """Whether a cell holds no rating, be it empty or a list of nothing."""
    return all(map(is_empty, ratings_in(cell, source.without_na)))


def missing_by_column(source: Source, columns: Sequence[str]) -> str:
    """In how many rows each column has no rating, in words; the columns that always have one are not named."""
    counts = Counter(
        column for row in source.iterate(columns) for column in columns if has_no_score(source, row[column])
    )
    return ", ".join(f"{column!r} is empty in {counts[column]}" for column in columns if counts[column])


def question_keys(
    source: Source, telling: Sequence[str], group: str | None, near: Mapping[str, str] | None = None
) -> list[str]:
    """
    The question of each row: rows with the same `group`, or with the same text in a column of `telling`, or with one of which
    `near` says that it is nearly the same (see [`near_texts`]), belong together, and whoever belongs to both joins them.
    """
    near = near or {}
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    keys = []
    for row in source.iterate():
        texts = [plain(row[column]) for column in telling]
        own = [f"text {near.get(text, text)}" for text in texts]
        if group and not is_empty(row[group]):
            own.append(f"group {row[group]}")
        for other in own[1:]:
            parent[find(other)] = find(own[0])
        keys.append(own[0])
    numbers: dict[str, str] = {}
    return [numbers.setdefault(find(key), f"q{len(numbers):05d}") for key in keys]


def near_texts(source: Source, telling: Sequence[str]) -> dict[str, str]:
    """Of the texts in columns of `telling`, those that are nearly the same as another one → that one."""
    texts = list(dict.fromkeys(plain(row[column]) for row in source.iterate(telling) for column in telling))
    firsts = near_duplicates(texts)
    return {text: texts[first] for text, first in zip(texts, firsts, strict=True) if texts[first] != text}


def merges_all(source: Source, roles: Roles) -> bool:
    """Whether the column of the group leaves too few questions to split, of which there are enough without it."""
    telling = columns_that_tell(source, roles)
    together, apart = (len(set(question_keys(source, telling, group))) for group in (roles.group, None))
    return together < MIN_GROUPS <= apart


def columns_that_tell(source: Source, roles: Roles) -> list[str]:
    """
    Columns whose text tells one question from another. Where the whole file is about one task, or too few to split by, the
    text of the response stands for that of the question.
    """
    texts = {tuple(plain(row[column]) for column in roles.question) for row in source.iterate()}
    return [roles.response] if len(texts) < MIN_GROUPS and roles.response else roles.question


def plain(text: object) -> str:
    """A text without what makes no difference between duplicates: case, and white space."""
    return re.sub(r"\s+", " ", str(text)).strip().lower()


def inspect(
    source: Source, roles: Roles, scores: Scores, prompts: Sequence[str], count: Callable[[str], int] | None
) -> Inspection:
    """
    Look at the file.

    Args:
        prompts (`Sequence[str]`):
            The complete prompt of each row.
        count (`Callable[[str], int]`, *optional*):
            Tokens of a text; by default they are estimated.

    Raises:
        `ValueError`: if there are too few questions to split.
    """
    telling = columns_that_tell(source, roles)
    near = near_texts(source, telling)
    keys = question_keys(source, telling, roles.group, near)
    if near:
        apart = question_keys(source, telling, roles.group)
        largest, before = (max(Counter(each).values()) for each in (keys, apart))
        # Texts that are nearly all alike differ in what matters
        if largest > max(before, len(keys) // 2) or len(set(keys)) < MIN_GROUPS <= len(set(apart)):
            near, keys = {}, apart
    groups = len(set(keys))
    if groups < MIN_GROUPS:
        raise ValueError(
            f"{source.name!r}: {groups} different questions (by {', '.join(filter(None, [*telling, roles.group]))}); training, validation "
            f"and test need at least {MIN_GROUPS}, so that no question is in two of them. Add rows about other questions, or name the column "
            "that tells questions apart: --group COLUMN."
        )
    nearest = Counter(scores.scale.nearest_label(mean) for mean in scores.means)
    balance = {
        label: nearest[label] for label in scores.scale.labels if nearest[label] or len(scores.scale.labels) <= 12
    }
    seen: dict[str, set[float]] = defaultdict(set)
    for prompt, mean in zip(prompts, scores.means, strict=True):
        seen[plain(prompt)].add(mean)
    duplicates = len(prompts) - len(seen)
    contradictions = sum(len(means) > 1 for means in seen.values())
    explains = partial(_explains, labels=scores.scale.labels)
    rationales = [_explained(source, row, roles, explains) for row in source.iterate()]
    texts = [str(text) for column in roles.feedback for text in ratings_of(source, column) if explains(text)]
    splits = [split_of(value) for value in values_of(source, roles.split)] if roles.split else None
    held_out = {key for key, split in zip(keys, splits or (), strict=False) if split != "train"}
    leaking = sum(split == "train" and key in held_out for key, split in zip(keys, splits or (), strict=False))
    found = Inspection(
        rows=len(source),
        groups=groups,
        keys=keys,
        near=list(near.items()),
        raters=scores.most_raters,
        balance=balance,
        duplicates=duplicates,
        contradictions=contradictions,
        rationales=rationales,
        prompt=_lengths(prompts, count),
        feedback=_lengths(texts, count) if texts else None,
        splits=splits,
        leaking=leaking,
        notes=[],
    )
    notes = _notes(found, roles, one_task=telling != roles.question)
    return replace(found, notes=notes + _notes_on_rationales(source, roles, scores.scale.labels))


def _notes(found: Inspection, roles: Roles, one_task: bool) -> list[str]:
    notes = []
    label, most = max(found.balance.items(), key=lambda item: item[1])
    scored = sum(found.balance.values())
    if most > 0.6 * scored:
        notes.append(
            f"{100 * most / scored:.0f}% of the {'scores are' if roles.criteria else 'rows have the score'} {label}: a judge that always says so is right as often. "
            "Correlations say more than accuracy here."
        )
    if missing := [label for label, count in found.balance.items() if not count]:
        notes.append(f"No row has the score {', '.join(missing)}.")
    if found.duplicates:
        notes.append(
            f"Duplicates: {found.duplicates} of the rows repeat another row's prompt; {found.contradictions} of these prompts have different scores. "
            "They stay, all on the same side of the splits."
        )
    if found.near:
        text, other = min(found.near, key=lambda pair: len(pair[0]))
        notes.append(
            f"Near-duplicates: {len(found.near)} of the questions differ from another one in a few words only, such as {text!r:.120} and {other!r:.120}. "
            "They count as one question, on the same side of the splits."
        )
    if found.leaking:
        notes.append(
            f"Leakage: of the file's own training split, {found.leaking} of the rows are about questions of its validation or test split, or about nearly the same. They are "
            "left out of training."
        )
    if roles.prompt and not roles.group:
        notes.append(
            "Prompts are complete, so only equal prompts count as one question. If several prompts are about one question, name the column that "
            "says so: --group COLUMN."
        )
    if one_task and not roles.group:
        notes.append(
            "All rows are about one task, so only equal responses are kept on one side of the splits. If rows have something else in common, such "
            "as their author, name the column: --group COLUMN."
        )
    if found.groups < _FEW_GROUPS:
        notes.append(
            f"{found.groups} questions are few: the shares of training, validation and test are rough, and which questions are in the test "
            "matters to its outcome."
        )
    if found.rows < _FEW_ROWS:
        notes.append(f"{found.rows} rows are few: expect wide intervals in the evaluation.")
    return notes


def one_text(source: Source, roles: Roles, labels: Sequence[str]) -> RationaleFault | None:
    """The text that more than half of the rationales of all raters are, if there is one."""
    texts = [text for column in roles.feedback for text in _texts(source, column)]
    return next((fault for fault in rationale_faults(texts, labels) if fault.same), None)


def _texts(source: Source, column: str) -> list[str]:
    return [_text(text) for text in ratings_of(source, column)]


def _notes_on_rationales(source: Source, roles: Roles, labels: Sequence[str]) -> list[str]:
    notes = []
    for column in roles.feedback:
        for fault in rationale_faults(_texts(source, column), labels):
            use = (
                "" if fault.same else " They are not used for the warm start; --feedback COLUMN names another column."
            )
            notes.append(f"Rationales: the column {column!r}: {fault}.{use}")
    return notes


def _explained(source: Source, row: Mapping[str, Any], roles: Roles, explains: Callable[[object], bool]) -> bool:
    """Whether a row has a rationale; of several raters, one from each that gave a rating."""
    texts = [text for column in roles.feedback for text in ratings_in(row[column], source.without_na)]
    ratings = [rating for column in roles.scores for rating in ratings_in(row[column], source.without_na)]
    if len(texts) == len(ratings) > 1:
        texts = [text for text, rating in zip(texts, ratings, strict=True) if not is_empty(rating)]
    return bool(texts) and all(map(explains, texts))


def _explains(value: object, labels: Sequence[str]) -> bool:
    """Whether a cell holds a rationale, or a list of them."""
    if isinstance(value, list | tuple):
        return bool(value) and all(_explains(each, labels) for each in value)
    return not is_empty(value) and is_rationale(_text(value), labels)


def _text(value: object) -> str:
    """A rationale without the sentence that gives its score; if it is no more than that, the sentence."""
    text = "" if is_empty(value) else str(value)
    return strip_score_sentence(text, DEFAULT_MARKER) or text


def _lengths(texts: Sequence[str], count: Callable[[str], int] | None) -> Lengths:
    counted = [count(text) if count else round(len(text) / _CHARACTERS_PER_TOKEN) for text in texts]
    return Lengths(round(median(counted)), max(counted), count is not None)
