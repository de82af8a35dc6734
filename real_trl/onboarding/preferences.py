# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files that say which of two responses is better and have no scores: how to know them, and what a judge is made of them with."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from real_trl.data.files import Source
from real_trl.text.cells import is_empty
from real_trl.text.column_names import NAMES, key, usual_column

_BETTER_AND_WORSE = (
    *(("chosen", "rejected"), ("preferred", "rejected"), ("preferred", "dispreferred"), ("accepted", "rejected")),
    *(("better", "worse"), ("winner", "loser"), ("winning", "losing")),
)
_TWO = (("a", "b"), ("1", "2"), ("0", "1"))
_RESPONSES = {*NAMES["response"], "conversation", "assistant", "text", "summary", "model"}
_VERDICTS = (
    *(
        "winner",
        "preference",
        "preferred",
        "choice",
        "chosen",
        "better",
        "best",
        "verdict",
        "label",
        "humanpreference",
    ),
    *("preferredresponse", "betterresponse", "chosenresponse", "betterresponseid", "preferredoutput", "humanchoice"),
)


@dataclass(frozen=True)
class Preferences:
    """
    Which columns hold preferences.

    Attributes:
        first, second (`str`): The two responses; without a `verdict` the first is the better one.
        verdict (`str`, *optional*): The column that says which is better.
        instruction (`str`, *optional*): What both answer, where a column has a usual name for it.
    """

    first: str
    second: str
    verdict: str | None
    instruction: str | None

    @property
    def options(self) -> Mapping[str, str]:
        """What a recipe says about them."""
        options = {"pair_columns": f"[{self.first}, {self.second}]"}
        if self.verdict:
            options["preference_column"] = self.verdict
        return {**options, "columns": f"{{instruction: {self.instruction or 'COLUMN'}}}"}


def find_preferences(source: Source) -> Preferences | None:
    """The columns of two responses of which one is said to be better, where a file has such; else `None`."""
    texts = [column for column in source.columns if _holds_texts(source, column)]
    pair = _better_and_worse(texts)
    verdict = None
    if pair is None:
        named = {key(column): column for column in reversed(source.columns)}
        verdict = next((named[name] for name in _VERDICTS if name in named), None)
        pair = _two_alike([column for column in texts if column != verdict]) if verdict else None
    if pair is None:
        return None
    asked = usual_column("instruction", source.columns) or usual_column("prompt", source.columns)
    first, second = pair
    if f"{first}.response" in source.columns and f"{second}.response" in source.columns:  # of conversations
        before = f"{first}.instruction"
        asked = asked or (before if before in source.columns else None)
        first, second = f"{first}.response", f"{second}.response"
    return Preferences(first, second, verdict, asked)


def check_no_preferences(source: Source, response: str | None = None) -> None:
    """
    Refuses a file of preferences, of which no recipes are made here.

    Args:
        response (`str`, *optional*):
            The column with the response that was scored, if one has a usual name: one beside the pair, and the file is of scores.

    Raises:
        `ValueError`: which says what a judge is trained on it with.
    """
    found = find_preferences(source)
    if found is None or response not in (None, found.first, found.second):
        return
    what = (
        f"{found.verdict!r} says which of {found.first!r} and {found.second!r} is better"
        if found.verdict
        else f"{found.first!r} is better than {found.second!r}"
    )
    lines = "; ".join(f"{name}: {value}" for name, value in found.options.items())
    raise ValueError(
        f"--score: {source.name!r} holds preferences and no scores: {what}. A judge that scores single responses is trained on them with "
        f"`real-trl sft`, and evaluated with `real-trl evaluate`; in both recipes write {lines}. The page docs/your-data.md has them complete "
        "(Preferences in place of scores). If there are scores as well, say in which columns: --response COLUMN --score COLUMN."
    )


def _holds_texts(source: Source, column: str) -> bool:
    cells = (row[column] for row in source.iterate([column]))
    first = next((cell for cell in cells if not is_empty(cell)), None)
    return isinstance(first, str | list | tuple) and not re.fullmatch(r"\s*-?[\d.,]+\s*", str(first))


def _better_and_worse(columns: Sequence[str]) -> tuple[str, str] | None:
    """`chosen` and `rejected`, `chosen_response` and `rejected_response`; those with the shortest names."""
    lower = {column.lower(): column for column in columns}
    for better, worse in _BETTER_AND_WORSE:
        for name in sorted(lower, key=len):
            other = re.sub(rf"(?<![^\W_]){better}(?![^\W_])", worse, name)
            if other != name and other in lower:
                return lower[name], lower[other]
    return None


def _two_alike(columns: Sequence[str]) -> tuple[str, str] | None:
    """`response_a` and `response_b`, `output_1` and `output_2`."""
    lower = {column.lower(): column for column in columns}
    for first, second in _TWO:
        for name in lower:
            match = re.fullmatch(rf"(.*[a-z])([ _.-]?){first}", name)
            if match and key(match[1]) in _RESPONSES and (other := f"{match[1]}{match[2]}{second}") in lower:
                return lower[name], lower[other]
    return None
