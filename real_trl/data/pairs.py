# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows that say which of two responses is better: a canonical row has the prompts about both of them, and the preference."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from real_trl.data.arguments import DataArguments
from real_trl.data.files import Source
from real_trl.data.rows import RowReader
from real_trl.option_values import FieldError
from real_trl.prompts.template import PromptTemplate
from real_trl.scale import Scale, as_number
from real_trl.text.cells import is_missing

PAIR_COLUMNS = ("prompt", "other_prompt", "preference")
"""Columns of a canonical row of a pair: about the first response, about the second, and the preference for the first, from 0 to 1."""

_FIRST = ("a", "1", "first", "model_a", "response_a", "assistant_a")
_SECOND = ("b", "2", "second", "model_b", "response_b", "assistant_b")
_TIES = ("c", "draw", "equal", "same", "both", "neither")


class _PromptReader(RowReader):
    """Reads what a row of a pair has: no score."""

    def _verdicts(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [{}]


class PairReader:
    """
    Reads rows as [`~real_trl.data.rows.RowReader`] does, of which it has one for each of the two responses. Its canonical rows have the columns
    [`PAIR_COLUMNS`], and `id`, `group` and kept columns where those are asked for.

    Args:
        args ([`~real_trl.data.arguments.DataArguments`]):
            With `pair_columns`, and `preference_column` if the first response is not always the better one.
        source, template, scale, require_feedback, marker, keep_ratings:
            As of [`~real_trl.data.rows.RowReader`].

    Raises:
        `ValueError`: if a column does not exist, or the template shows no response.
    """

    require_feedback = False
    feedback_columns: tuple[str, ...] = ()
    score_columns: tuple[str, ...] = ()

    def __init__(
        self,
        args: DataArguments,
        source: Source,
        template: PromptTemplate,
        scale: Scale,
        require_feedback: bool | None,
        marker: str,
        keep_ratings: bool = False,
    ) -> None:
        if "response" not in template.variables:
            said = (
                f": {template.name!r} does not show the response ({{{{ response }}}}), so both would be judged alike"
            )
            raise FieldError("prompt_template", template.name, "Use another template, such as direct.", said)
        self.columns = [source.column("pair_columns", column) for column in args.pair_columns]
        self.preference = args.preference_column
        self.shares = False
        if self.preference is not None:
            source.column("preference_column", self.preference)
            shares = [as_number(row[self.preference]) for row in source.iterate([self.preference])]
            # 1 and 2 name the responses; 0, or what lies between 0 and 1, does not
            self.shares = all(0 <= n <= 1 for n in shares) and any(n < 1 for n in shares)
        self.needed = source.columns
        self.readers = [
            _PromptReader(
                replace(
                    args,
                    pair_columns=None,
                    preference_column=None,
                    score_column=column,  # never read
                    columns={**args.columns, "response": column},
                ),
                source,
                template,
                scale,
                False,
                marker,
            )
            for column in self.columns
        ]
        self.keep = self.readers[0].keep

    def read(self, row: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
        """The canonical row of one row; `where` as of [`~real_trl.data.rows.RowReader.read`]."""
        preference = self._preference(row)
        (first,), (second,) = (reader.read(row, where) for reader in self.readers)
        if first["prompt"] == second["prompt"] and preference != 0.5:
            raise ValueError(
                f"pair_columns: {self.columns[0]!r} and {self.columns[1]!r} hold the same response, of which one is said to be better. "
                "Remove the row, or call it a tie."
            )
        return [{**first, "other_prompt": second["prompt"], "preference": preference}]

    def item(self, row: Mapping[str, Any]) -> str | None:
        """As of [`~real_trl.data.rows.RowReader.item`], by the prompt about the first response."""
        return self.readers[0].item(row)

    def without_empty_columns(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As of [`~real_trl.data.rows.RowReader.without_empty_columns`]: no column is empty."""
        return rows

    def check(self) -> None:
        """As of [`~real_trl.data.rows.RowReader.check`]."""
        for reader in self.readers:
            reader.check()

    def _preference(self, row: Mapping[str, Any]) -> float:
        if self.preference is None:
            return 1.0
        said = row[self.preference]
        if self.shares:
            return as_number(said)
        text = "" if is_missing(said) else str(int(said) if isinstance(said, float) and said % 1 == 0 else said)
        text = text.strip().casefold()
        for preference, names in ((1.0, (self.columns[0], *_FIRST)), (0.0, (self.columns[1], *_SECOND))):
            if text in map(str.casefold, names):
                return preference
        if text.startswith("tie") or text in _TIES:
            return 0.5
        raise ValueError(
            f"preference_column {self.preference!r} holds {said!r:.60}, which names neither response. Write {self.columns[0]!r} or "
            f"{self.columns[1]!r}, A or B, 1 or 2, 'tie', or in all rows the share of raters who prefer the first, from 0 to 1."
        )
