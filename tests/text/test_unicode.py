# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from real_trl.text.unicode import well_formed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("naïve 😀 \x00 \uffff \U0010fffd", "naïve 😀 \x00 \uffff \U0010fffd"),
        ("a \ud83d b", "a \ufffd b"),
        ("\ud83d", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),  # the halves in the wrong order
        ("\ud83d\ude00!", "😀!"),  # both halves, as two characters
        ("\ud83d\ud83d\ude00 \ude00", "\ufffd😀 \ufffd"),
    ],
)
def test_lone_surrogates_are_replaced_and_nothing_else(text, expected):
    assert well_formed(text) == expected
    well_formed(text).encode()
