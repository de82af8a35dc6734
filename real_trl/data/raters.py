# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Files with a row for each rating: one row for each item, with the ratings of all its raters."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from real_trl.data.files import Source
from real_trl.data.scores import ratings_in

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


def merge_raters(
    source: Source, rater: str, listed: Sequence[str], item: Callable[[Mapping[str, Any]], str | None]
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
    """
    rows = list(source.iterate())
    about: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        key = item(row)
        about[f"row {index}" if key is None else f"item {key}"].append(index)
    names = sorted({str(row[rater]) for row in rows}, key=lambda name: (len(name), name))  # 2 before 10
    merged, repeated = [], 0
    for indices in about.values():
        by_rater: dict[str, list[int]] = defaultdict(list)
        for index in indices:
            by_rater[str(rows[index][rater])].append(index)
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


def _alone(cell: Any) -> Any:
    """What is in a list of one."""
    inside = ratings_in(cell)
    return inside[0] if len(inside) == 1 else cell
