# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the columns of a user's file are: prompt parts, scores of one or several raters, rationales, questions, splits."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from real_trl.data.files import Source
from real_trl.data.nested import is_of_people, split_path
from real_trl.data.scores import ratings_in
from real_trl.onboarding.criteria import default_rubric, read_criteria, usual_criteria
from real_trl.onboarding.preferences import check_no_preferences
from real_trl.scale import as_number
from real_trl.text.cells import is_empty
from real_trl.text.column_names import NAMES, RATER, RATERS, SPLITS, key

NONE = "none"
_IDENTIFIER = re.compile(
    r"(^|_|\b)(id|index|idx|row|no|number|seed|year|date|time|timestamp|length|tokens)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Roles:
    """
    Which column is what.

    Attributes:
        prompt (`str`, *optional*): Complete prompts; else `instruction` and `response` are there.
        instruction, response, rubric, reference (`str`, *optional*): What a prompt is made of.
        scores (`list[str]`): One column for each rater, or for each of the `criteria`.
        criteria (`dict[str, str]`): Column → rubric, where the columns with scores are criteria of their own.
        feedback (`list[str]`): Rationales: none, one column, or one for each rater.
        group (`str`, *optional*): What rows about one question have in common.
        split (`str`, *optional*): Which split a row is in.
        rater (`str`, *optional*): Who gave the score, where each row is one rating.
        guessed (`dict[str, str]`): Role → column, where nobody said so.
    """

    prompt: str | None = None
    instruction: str | None = None
    response: str | None = None
    rubric: str | None = None
    reference: str | None = None
    scores: list[str] = field(default_factory=list)
    criteria: Mapping[str, str] = field(default_factory=dict)
    feedback: list[str] = field(default_factory=list)
    group: str | None = None
    split: str | None = None
    rater: str | None = None
    guessed: Mapping[str, str] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """Columns that make the prompt, which no row may lack."""
        columns = [self.prompt] if self.prompt else [self.instruction, self.response, self.rubric]
        return [column for column in columns if column]

    @property
    def item(self) -> list[str]:
        """Columns whose text tells what was rated."""
        columns = [self.prompt] if self.prompt else [self.instruction, self.response, self.rubric, self.reference]
        return [column for column in columns if column]

    @property
    def has_rubrics(self) -> bool:
        """Whether rows or criteria have rubrics of their own."""
        return bool(self.rubric or self.criteria)

    @property
    def question(self) -> list[str]:
        """Columns whose text tells one question from another."""
        return [self.prompt] if self.prompt else [column for column in (self.instruction,) if column]


class Unknown(ValueError):
    """A column or a scale that a person must name; `role` is the option's name."""

    def __init__(self, role: str, message: str) -> None:
        super().__init__(message)
        self.role = role


def find_roles(source: Source, stated: Mapping[str, str | None], criteria: Sequence[str] = ()) -> Roles:
    """
    Find each role's column: the stated one, else one with a usual name.

    Args:
        stated (`Mapping[str, str | None]`):
            Role → column, as the command line has it. `score` and `feedback` may be several, with commas; `group` may be
            `none`, as may `rater`.
        criteria (`Sequence[str]`, *optional*):
            Criteria, as [`~real_trl.onboarding.criteria.read_criteria`] takes them.

    Raises:
        [`Unknown`], a `ValueError`: if the response or the score could not be found.
        `ValueError`: if a stated column does not exist, or the file holds preferences in place of scores.
    """
    chosen: dict[str, str] = {}
    guessed: dict[str, str] = {}
    # Nothing is a group, or a rater, only if the user says so
    absent = {role for role in ("group", "rater") if stated.get(role) == NONE and NONE not in source.columns}
    for role, column in stated.items():
        if column and role not in ("score", "feedback") and role not in absent:
            chosen[role] = source.column(f"--{role}", column)
    if "prompt" in chosen and (other := {"instruction", "response"} & chosen.keys()):
        raise ValueError(
            f"--prompt {chosen['prompt']!r} says that prompts are complete, and --{min(other)} what they are made of. Give one or the other."
        )
    taken = set(chosen.values())
    # "prompt" beside a response is what the response answers
    response = chosen.get("response") or _named(source, "response", taken)
    if "response" not in chosen and not stated.get("score") and not criteria:
        # Before a number beside them, such as a margin, is taken for the score of the prompt
        check_no_preferences(source, response)
    whole = "prompt" in chosen or not response
    roles = ("prompt",) if whole else ("response", "instruction", "rubric", "reference")
    for role in (*roles, *(() if "group" in absent else ("group",)), "split"):
        if role not in chosen and (column := _named(source, role, taken)):
            if role == "split" and not _is_split(source, column):
                continue
            chosen[role] = guessed[role] = column
            taken.add(column)
    if not whole and "instruction" not in chosen and (column := _named(source, "prompt", taken)):
        chosen["instruction"] = guessed["instruction"] = column
        taken.add(column)
    if whole and "prompt" not in chosen:
        raise Unknown(
            "response",
            f"--response: no column of {source.name!r} has a usual name for the response that was scored (response, answer, output, …), "
            f"or for complete prompts (prompt). Say which it is: --response COLUMN, or --prompt COLUMN. Columns: {source.columns}.",
        )
    if not whole and "instruction" not in chosen:
        raise Unknown(
            "instruction",
            f"--instruction: no column of {source.name!r} has a usual name for what the response answers (instruction, question, prompt, …). "
            f"Say which it is: --instruction COLUMN. Columns: {source.columns}.",
        )
    if "rater" not in chosen and "rater" not in absent and (column := _named(source, "rater", taken)):
        texts = [
            chosen[role] for role in ("prompt", "instruction", "response", "rubric", "reference") if role in chosen
        ]
        if _rated_by_several(source, texts, column):
            chosen["rater"] = guessed["rater"] = column
    by_criteria = read_criteria(source, criteria)
    scores = list(by_criteria) or _stated_list(source, "score", stated.get("score"))
    if not scores:
        try:
            scores = find_score_columns(source, taken | {column for column in [chosen.get("rater")] if column})
        except Unknown:
            if "rater" not in guessed:
                raise
            del chosen["rater"], guessed["rater"]  # it may be the score itself
            scores = find_score_columns(source, taken)
        guessed["score"] = ", ".join(scores)
        by_criteria = {column: default_rubric(column) for column in usual_criteria(scores)}
    if by_criteria and whole:
        raise ValueError(
            f"--criterion: prompts are complete (in the column {chosen['prompt']!r}), and have no place for the rubric of a criterion. Name the "
            "columns that a prompt is made of: --instruction COLUMN, --response COLUMN."
        )
    if by_criteria:
        chosen.pop("rubric", None)
        guessed.pop("rubric", None)
    feedback = _stated_list(source, "feedback", stated.get("feedback"))
    if not feedback:
        feedback = _find_feedback(source, taken | set(scores), 1 if by_criteria else len(scores))
        if feedback:
            guessed["feedback"] = ", ".join(feedback)
    return Roles(**chosen, scores=scores, criteria=by_criteria, feedback=feedback, guessed=guessed)


def find_score_columns(source: Source, taken: set[str]) -> list[str]:
    """The column with the score, or the columns of several raters, or of criteria; [`Unknown`] if it is not plain which."""
    raters = [group for group in _numbered(source, taken) if all(_is_numeric(source, column) for column in group)]
    if column := _named(source, "score", taken):
        return [column]
    if raters:
        return max(raters, key=len)
    offered = [column for column in _of_people(source.columns) if column not in taken]
    numeric = [c for c in offered if not _IDENTIFIER.search(c) and _is_numeric(source, c)]
    named = [column for column in numeric if re.search("score|rating|grade", column, re.IGNORECASE)]
    if len(named or numeric) == 1:
        return named or numeric
    if criteria := usual_criteria(named or numeric):
        return criteria
    if numeric:
        raise Unknown(
            "score",
            f"--score: {', '.join(map(repr, named or numeric))} could be the score. Say which it is: --score COLUMN, or for one column "
            "per rater --score COLUMN,COLUMN, or for one per criterion --criterion COLUMN --criterion COLUMN.",
        )
    gaps = [(c, text) for c in offered if (text := _text_among_numbers(source, c))]
    if gaps:
        shown = ", ".join(f"{column!r} holds numbers and {text!r:.40}" for column, text in gaps)
        raise Unknown(
            "score",
            f"--score: {source.name!r} has no column with nothing but numbers; {shown}. If that means that there is no score, add "
            f"--na {shlex.quote(gaps[0][1])}; else name the column: --score COLUMN.",
        )
    raise Unknown(
        "score",
        f"--score: {source.name!r} has no column with numbers that could be a score. Columns: {source.columns}. Add the scores as a "
        "column of numbers, or say which column holds them (words too, with --score_labels in their order): --score COLUMN.",
    )


def values_of(source: Source, column: str) -> list[Any]:
    """All cells of a column."""
    return [row[column] for row in source.iterate([column])]


def ratings_of(source: Source, column: str) -> list[Any]:
    """The ratings, or rationales, of all raters in the cells of a column that hold something; `None` for one that `na` names."""
    cells = (value for value in values_of(source, column) if not is_empty(value))
    return [rating for cell in cells for rating in ratings_in(cell, source.without_na)]


def _named(source: Source, role: str, taken: set[str]) -> str | None:
    """The first column with a usual name of the role that holds something."""
    nested = {split_path(path, source.own_columns)[0] for path in source.paths}
    there = [column for column in reversed(source.columns) if column not in taken and column not in nested]
    if role in ("score", "feedback"):
        there = _of_people(there)
    # Of a path, the last part is the name
    columns = {key(column.removesuffix(".responses").rpartition(".")[2]): column for column in there} | {
        key(column): column for column in there
    }
    found = [columns[name] for name in NAMES[role] if name in columns]
    return next((c for c in found if not all(map(is_empty, values_of(source, c)))), None)


def _of_people(columns: Sequence[str]) -> list[str]:
    """The columns with what people said, in the export of an annotation tool; else all."""
    return list(filter(is_of_people, columns)) or list(columns)


def _stated_list(source: Source, role: str, stated: str | None) -> list[str]:
    return source.several_columns(f"--{role}", stated) if stated else []


def _numbered(source: Source, taken: set[str]) -> list[list[str]]:
    """Columns that differ in a number or letter at the end only, and are called like raters or ratings."""
    groups: dict[str, list[str]] = {}
    for column in source.columns:
        match = RATER.fullmatch(column.lower())
        if column not in taken and match and RATERS.search(match[1]):
            groups.setdefault(match[1], []).append(column)
    return [group for group in groups.values() if len(group) > 1]


def _find_feedback(source: Source, taken: set[str], raters: int) -> list[str]:
    if column := _named(source, "feedback", taken):
        return [column]
    groups: dict[str, list[str]] = {}
    for column in source.columns:
        match = RATER.fullmatch(column.lower())
        if column not in taken and match and key(match[1]) in NAMES["feedback"]:
            groups.setdefault(match[1], []).append(column)
    return next((group for group in groups.values() if len(group) == raters > 1), [])


def _is_numeric(source: Source, column: str) -> bool:
    """Whether a column holds numbers, or lists of them, and nothing else."""
    cells = [rating for rating in ratings_of(source, column) if not is_empty(rating)]
    return bool(cells) and all(as_number(cell) == as_number(cell) for cell in cells)


def _text_among_numbers(source: Source, column: str) -> str | None:
    """The commonest text in a column of which at least half of the cells are numbers."""
    cells = ratings_of(source, column)
    texts = Counter(str(cell).strip() for cell in cells if as_number(cell) != as_number(cell) and not is_empty(cell))
    return texts.most_common(1)[0][0] if 0 < texts.total() <= len(cells) / 2 else None


def _rated_by_several(source: Source, texts: list[str], rater: str) -> bool:
    """Whether the same texts are there more than once, and mostly with another rater."""
    raters: dict[tuple[str, ...], list[str]] = {}
    for row in source.iterate([*texts, rater]):
        raters.setdefault(tuple(str(row[text]).strip() for text in texts), []).append(str(row[rater]))
    rows, different = sum(map(len, raters.values())), sum(len(set(names)) for names in raters.values())
    return different > len(raters) and different - len(raters) >= rows - different


def _is_split(source: Source, column: str) -> bool:
    values = {str(value).strip().lower() for value in values_of(source, column)}
    return values <= set(SPLITS) and "train" in {SPLITS[value] for value in values}
