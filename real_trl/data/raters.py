# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files with a row for each rating: one row for each item, with the ratings of all its raters."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from real_trl.data.files import Source
from real_trl.data.scores import ratings_in
from real_trl.option_values import FieldError
from real_trl.text.keys import key_of
from real_trl.text.shown import first_few

_FEW_RATERS = 10


@dataclass(frozen=True)
class Merged:
    """
    Attributes:
        source ([`~real_trl.data.files.Source`]): One row for each item.
        raters (`int`): How many there are.
        repeated (`int`): Ratings of an item by someone who had rated it.
    """

    source: Source
    raters: int
    repeated: int


def check_items(
    source: Source,
    column: str | Sequence[str],
    item: Callable[[Mapping[str, Any]], str | None],
    shown: Callable[[Mapping[str, Any]], str | None],
) -> None:
    """
    Raise a `ValueError` if rows about one item show different texts, whose ratings have no mean and of which all but the first would be lost.

    Args:
        column (`str` or `Sequence[str]`):
            The `id_column` that says what a row is about.
        item (`Callable`):
            What it says of a row, `None` for nothing.
        shown (`Callable`):
            What a judge is shown of a row; `None` if nothing can be.
    """
    first: dict[str, tuple[list[str], int]] = {}
    for index, row in enumerate(source.iterate()):
        key, text = item(row), shown(row)
        if key is None or text is None:
            continue
        words = text.split()  # one copy may have a blank more
        before, at = first.setdefault(key, (words, index))
        if before != words:
            said = f"={column!r} holds {key!r:.60} in {source.where(at)} and in {source.where(index)}, which show different texts: "
            said += "with rater_column, rows of one id are ratings of the same response"
            fix = "Name further columns that tell responses apart, such as that of the response, or leave id_column out: then what a prompt shows does."
            raise FieldError("id_column", column, fix, said)


def merge_raters(
    source: Source,
    rater: str,
    listed: Sequence[str],
    item: Callable[[Mapping[str, Any]], str | None],
    setting: str = "rater_column",
) -> Merged:
    """
    Make the rows about one item one row: the first of them, whose cells in `listed` are lists of what its rows have there.

    Of up to 10 raters each has a place in these lists, with `None` where he said nothing; what was rated again stands at the end. Of
    more, the lists have those that rated the item, in the order of their names.

    Args:
        rater (`str`):
            Column that says who gave the rating.
        item (`Callable`):
            What a row is about; `None` for one that belongs to no other.
        setting (`str`):
            What errors call `rater`.

    Raises:
        `ValueError`: if a row does not say who gave its rating.
    """
    rows = list(source.iterate())
    raters = [key_of(row[rater]) for row in rows]
    if nameless := [source.where(index) for index, name in enumerate(raters) if name is None]:
        said = f"={rater!r} is empty in {len(nameless)} of {len(rows)} rows ({first_few(nameless)}), which need not be one person's"
        fix = "Fill in who gave these ratings, another name for each where it is not known, or remove the rows."
        raise FieldError(setting, rater, fix, said)
    about: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        key = item(row)
        about[f"row {index}" if key is None else f"item {key}"].append(index)
    names = _in_order(raters)
    merged, repeated = [], 0
    for indices in about.values():
        by_rater: dict[str | None, list[int]] = defaultdict(list)
        for index in indices:
            by_rater[raters[index]].append(index)
        places = [by_rater[name][0] if name in by_rater else None for name in names]
        if len(names) > _FEW_RATERS:
            places = [place for place in places if place is not None]
        again = [index for name in names for index in by_rater.get(name, [])[1:]]
        repeated += len(again)
        places += again
        cells = {
            column: [None if place is None else _alone(rows[place][column]) for place in places]
            for column in dict.fromkeys([*listed, rater])
        }
        merged.append({**rows[indices[0]], **cells})
    firsts = [indices[0] for indices in about.values()]
    source = replace(source.select(firsts), rows=merged, paths=[path for path in source.paths if path not in listed])
    return Merged(source, len(names), repeated)


def names_of_places(source: Source, rater: str) -> list[str]:
    """Who has each place in the lists of [`merge_raters`], ratings that are repeated aside; empty if places are nobody's."""
    names = _in_order(key_of(row[rater]) for row in source.iterate([rater]))
    return names if len(names) <= _FEW_RATERS else []


def _in_order(names: Iterable[str | None]) -> list[str]:
    return sorted({name for name in names if name is not None}, key=lambda name: (len(name), name))  # 2 before 10


def _alone(cell: Any) -> Any:
    """What is in a list of one."""
    inside = ratings_in(cell)
    return inside[0] if len(inside) == 1 else cell
