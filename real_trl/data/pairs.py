# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows that say which of two responses is better: a canonical row has the prompts about both of them, and the preference."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from real_trl.data.arguments import DataArguments
from real_trl.data.files import Source
from real_trl.data.preferences import PreferenceReader
from real_trl.data.rows import RowReader
from real_trl.option_values import FieldError
from real_trl.prompts.template import PromptTemplate
from real_trl.scale import Scale

PAIR_COLUMNS = ("prompt", "other_prompt", "preference")
"""Columns of a canonical row of a pair: about the first response, about the second, and the preference for the first, from 0 to 1."""


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
        `ValueError`: if a column does not exist, the template shows no response, or the preferences are of more than one meaning.
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
        self.columns = [source.column("pair_columns", column) for column in args.pair_columns or ()]
        first, second = self.columns
        verdict = args.preference_column
        self.preference = None if verdict is None else PreferenceReader(source, verdict, (first, second))
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
        preference = 1.0 if self.preference is None else self.preference.read(row[self.preference.column])
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

    def shown(self, row: Mapping[str, Any]) -> str | None:
        """As of [`~real_trl.data.rows.RowReader.shown`], of the first response."""
        return self.readers[0].shown(row)

    def without_empty_columns(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As of [`~real_trl.data.rows.RowReader.without_empty_columns`]: no column is empty."""
        return rows

    def check(self) -> None:
        """As of [`~real_trl.data.rows.RowReader.check`]."""
        for reader in self.readers:
            reader.check()
