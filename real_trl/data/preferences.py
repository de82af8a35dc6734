# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a cell says that names the better of two responses."""

import os
from typing import Any

from real_trl.data.files import Source
from real_trl.option_values import FieldError
from real_trl.scale import as_number
from real_trl.text.cells import is_empty

_LETTERED = tuple(tuple(f"{of}{letter}" for of in ("", "model_", "response_", "assistant_")) for letter in "ab")
_TIES = ("c", "draw", "equal", "same", "both", "neither")


class PreferenceReader:
    """
    Reads the column that says which of two responses is better.

    A cell may hold the name of the response's column; a letter or number that the names of the two columns differ in; A or B, 1 or 2, first
    or second; a tie; or, where some cell lies between 0 and 1, the share of raters who prefer the first. Numbers that are all 0 or 1 are
    an index where the names of the columns differ in 0 and 1.

    Args:
        source ([`~real_trl.data.files.Source`]):
            The rows, of which all are looked at to know what their numbers mean.
        column (`str`):
            The column that says it.
        responses (`tuple[str, str]`):
            The columns of the two responses.

    Raises:
        `ValueError`: if the column does not exist, or its numbers may be shares or an index alike.
    """

    def __init__(self, source: Source, column: str, responses: tuple[str, str]) -> None:
        self.column = source.column("preference_column", column)
        self.responses = responses
        ends = _ends(*responses)
        cells = [row[self.column] for row in source.iterate([self.column])]
        numbers = {as_number(cell) for cell in cells if not is_empty(cell)}
        from_0_to_1 = bool(numbers) and all(0 <= number <= 1 for number in numbers)
        indexed = set(ends) == {"0", "1"}
        self.shares = from_0_to_1 and not numbers <= {0, 1}
        if from_0_to_1 and 0 in numbers and not self.shares and not indexed:
            self._refuse("0 and 1")
        if self.shares and indexed and numbers <= {0, 0.5, 1}:  # half is a tie beside an index too
            self._refuse("0, 0.5 and 1")
        letters = _LETTERED[::-1] if ends == ("b", "a") else _LETTERED
        digits = ends if indexed or ends == ("2", "1") else ("1", "2")
        self.named: dict[str, float] = {}
        for preference, aliases, digit, word in zip((1.0, 0.0), letters, digits, ("first", "second"), strict=True):
            self.named |= dict.fromkeys((*aliases, digit, word), preference)
        # What the user calls a response goes before what others call theirs
        own = [name.casefold() for name in responses]
        if own[0] != own[1]:
            self.named |= dict(zip(own, (1.0, 0.0), strict=True))

    def read(self, cell: Any) -> float:
        """The preference for the first response, from 0 to 1; `ValueError` if the cell says none."""
        if self.shares and not is_empty(cell):
            return as_number(cell)
        number = as_number(cell)
        text = "" if is_empty(cell) else str(int(number) if number % 1 == 0 else cell).strip()
        if text in self.responses:  # whose names may differ in capitals only
            return 1.0 if text == self.responses[0] else 0.0
        text = text.casefold()
        if text in self.named:
            return self.named[text]
        if text.startswith("tie") or text in _TIES:
            return 0.5
        raise ValueError(
            f"preference_column {self.column!r} holds {cell!r:.60}, which names neither response. Write {self.responses[0]!r} or "
            f"{self.responses[1]!r}, A or B, 1 or 2, 'tie', or in all rows the share of raters who prefer the first, from 0 to 1."
        )

    def _refuse(self, numbers: str) -> None:
        first, second = map(repr, self.responses)
        said = (
            f"={self.column!r} holds only {numbers}: each may be the share of raters who prefer {first}, or an index that says 0 for {first} "
            f"and 1 for {second}"
        )
        fix = f"Write the name of the better one's column in place of the numbers: {first} or {second} ('tie' where neither is better)."
        raise FieldError("preference_column", self.column, fix, said)


def _ends(first: str, second: str) -> tuple[str, str]:
    """What two names differ in, such as `a` and `b` of `response_a` and `response_b`; a number is not cut in two."""
    first, second = first.casefold(), second.casefold()
    before = len(os.path.commonprefix([first, second]).rstrip("0123456789"))
    first, second = first[before:], second[before:]
    after = len(os.path.commonprefix([first[::-1], second[::-1]]).rstrip("0123456789"))
    return first[: len(first) - after], second[: len(second) - after]
