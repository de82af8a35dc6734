# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""By what rows of a table are told apart or belong together: ids, questions, raters, systems, groups."""

from decimal import Decimal
from numbers import Real
from typing import Any


def key_of(value: Any) -> str | None:
    """
    The name that a cell gives. A whole number is the same whether the table has it as `3`, as `3.0` (as it comes out of a table with gaps, or
    of a database) or as the text `3`, and blanks around a text do not count. `None` for a cell that gives none: empty, blank or NaN.
    """
    if value is None or value != value:
        return None
    if isinstance(value, (Real, Decimal)) and not isinstance(value, bool):
        number: Any = value
        if abs(number) < 2**63 and number == number // 1:
            value = int(number)
    return str(value).strip() or None
