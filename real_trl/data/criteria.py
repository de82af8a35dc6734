# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with scores by several criteria: a canonical row for each row and criterion, with that criterion's rubric in its prompt."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from real_trl.data.arguments import CRITERION_COLUMN, DataArguments
from real_trl.data.files import Source
from real_trl.data.rows import RowReader
from real_trl.data.scores import ratings_in
from real_trl.option_values import FieldError
from real_trl.prompts.template import PromptTemplate
from real_trl.text.cells import is_empty

logger = logging.getLogger(__name__)


class CriteriaReader:
    """
    Reads rows as [`~real_trl.data.rows.RowReader`] does, of which it has one for each of `args.criteria`. Its canonical rows also have

    - `criterion` (`str`), the column of the score;
    - `id`, that of the row and the criterion: `row/criterion`;
    - `group`, by default the row, so that intervals keep its criteria together.

    A row has no canonical row by a criterion that it has no score of; `missing` counts them.

    Args:
        feedback_column (of `args`):
            One column for all criteria, or a list of one for each, in their order.
        rest:
            The other arguments of [`~real_trl.data.rows.RowReader`].

    Raises:
        `ValueError`: if a column does not exist, or the template shows no rubric.
    """

    def __init__(self, args: DataArguments, source: Source, template: PromptTemplate, *rest: Any):
        if "rubric" not in template.variables:
            said = f": {template.name!r} does not show the rubric ({{{{ rubric }}}}), so all criteria would be judged alike"
            raise FieldError("prompt_template", template.name, "Use another template, such as direct_criteria.", said)
        self.criteria, self.needed = args.criteria, source.columns
        self.missing: Counter[str] = Counter()
        self._without_na = source.without_na
        self._rows = 0
        with_rubric = replace(source, columns=list(dict.fromkeys([*source.columns, "rubric"])))
        feedback = args.feedback_column
        each = isinstance(feedback, list) and len(feedback) == len(self.criteria)
        self.readers = {
            name: RowReader(
                replace(
                    args,
                    criteria={},
                    score_column=name,
                    columns={**args.columns, "rubric": "rubric"},
                    feedback_column=feedback[place] if each else feedback,
                ),
                with_rubric,
                template,
                *rest,
            )
            for place, name in enumerate(self.criteria)
        }
        self._first = next(iter(self.readers.values()))
        self.require_feedback, self.keep = self._first.require_feedback, [*self._first.keep, CRITERION_COLUMN]
        columns = [column for reader in self.readers.values() for column in reader.feedback_columns]
        self.feedback_columns = list(dict.fromkeys(columns))
        self.score_columns = list(self.criteria)

    def read(self, row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """The canonical rows of one row, in the order of the criteria; `where` as of [`~real_trl.data.rows.RowReader.read`]."""
        found, number = [], str(self._rows)
        self._rows += 1
        for name, reader in self.readers.items():
            if all(map(is_empty, ratings_in(row[name], self._without_na))):
                self.missing[name] += 1
                continue
            judged = reader.read({**row, "rubric": self.criteria[name]}, where)
            for rater, each in enumerate(judged, 1):
                own = each.get("id", f"{number}#{rater}" if len(judged) > 1 else number)
                group = each.get("group", number)
                found.append({**each, "id": f"{own}/{name}", "group": group, CRITERION_COLUMN: name})
        return found

    def item(self, row: Mapping[str, Any]) -> str | None:
        """As of [`~real_trl.data.rows.RowReader.item`], by the prompt of one criterion."""
        return self._first.item({**row, "rubric": next(iter(self.criteria.values()))})

    def shown(self, row: Mapping[str, Any]) -> str | None:
        """As of [`~real_trl.data.rows.RowReader.shown`], by one criterion."""
        return self._first.shown({**row, "rubric": next(iter(self.criteria.values()))})

    def without_empty_columns(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As of [`~real_trl.data.rows.RowReader.without_empty_columns`]."""
        self._first.several = any(reader.several for reader in self.readers.values())
        return self._first.without_empty_columns(rows)

    def check(self) -> None:
        """Says how many scores are missing; `ValueError` if all are."""
        if not self.missing:
            return
        counts = ", ".join(f"{count} of {self._rows} by {name!r}" for name, count in self.missing.items())
        if self.missing.total() == self._rows * len(self.criteria):
            said = f": no row has a score by any of them ({', '.join(map(repr, self.criteria))})"
            raise FieldError("criteria", self.criteria, "Fill in scores, or name other columns.", said)
        logger.warning(f"criteria: rows without a score are left out, {counts}. Their other scores stay.")
