# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What names a row is the same in every kind of table."""

from decimal import Decimal

import numpy as np
import pytest

from real_trl.text.keys import key_of


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("q3", "q3"),
        (" q3 ", "q3"),
        (3, "3"),
        (3.0, "3"),
        (np.float64(3), "3"),
        (np.int64(3), "3"),
        (Decimal("3.00"), "3"),
        ("3", "3"),
        ("3.0", "3.0"),  # a text says what it says: versions 1.0 and 1 are two
        (3.5, "3.5"),
        (-0.0, "0"),
        (True, "True"),
        (float("inf"), "inf"),
        (1e300, "1e+300"),
        *((nothing, None) for nothing in (None, "", "  ", float("nan"), np.nan)),
    ],
)
def test_a_cell_gives_one_name(value, key):
    assert key_of(value) == key
