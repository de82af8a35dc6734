# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How far the raters of a user's file agree, and who of them disagrees systematically."""

from collections.abc import Sequence
from typing import Any

from real_trl.data.files import Source
from real_trl.data.scores import ratings_in
from real_trl.evaluation.people import agreement_of_people
from real_trl.onboarding.columns import Roles
from real_trl.onboarding.scores import Scores
from real_trl.report.people import people_text
from real_trl.text.cells import is_empty


def notes_on_people(source: Source, roles: Roles, scores: Scores, keys: Sequence[str]) -> list[str]:
    """
    What should be known about the raters, a sentence each; nothing where no row has two ratings, or columns are criteria.

    Args:
        keys (`Sequence[str]`): The question of each row.
    """
    if roles.criteria or scores.most_raters < 2:
        return []
    rows = list(source.iterate(list(dict.fromkeys([*roles.scores, *filter(None, [roles.rater])]))))
    ratings = [_ratings(source, row, roles, scores) for row in rows]
    if not any(sum(rating is not None for rating in row) > 1 for row in ratings):
        return []
    names = _names(rows, roles)
    found = agreement_of_people(ratings, groups=keys, names=names, n_resamples=1000)
    if roles.rater and names is None:  # whose rating stands where differs from row to row
        return [people_text({**found, "n_complete": 0})]
    return [people_text(found), *found["unlike"]]


def _ratings(source: Source, row: dict[str, Any], roles: Roles, scores: Scores) -> list[float | None]:
    """A rating for each column, or each place of a list, `None` where there is none."""
    if len(roles.scores) > 1:
        cells = [next(iter(ratings_in(row[column], source.without_na)), None) for column in roles.scores]
    else:
        cells = ratings_in(row[roles.scores[0]], source.without_na)
    return [None if is_empty(cell) else scores.scale.read(cell) for cell in cells]


def _names(rows: Sequence[dict[str, Any]], roles: Roles) -> list[str] | None:
    """Of the raters, where columns or a column of raters give them, and each has one place."""
    if len(roles.scores) > 1:
        return list(roles.scores)
    if not roles.rater:
        return None
    names: dict[int, set[str]] = {}
    for row in rows:
        for place, name in enumerate(ratings_in(row[roles.rater])):
            if not is_empty(name):
                names.setdefault(place, set()).add(str(name))
    if not names or any(len(each) > 1 for each in names.values()):
        return None
    return [next(iter(names.get(place, {str(place + 1)}))) for place in range(max(names) + 1)]
