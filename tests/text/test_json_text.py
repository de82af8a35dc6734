# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""JSON that every reader takes: no NaN and no infinity."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest

import real_trl
from real_trl.text.json_text import to_json


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null_wherever_it_stands():
    value = {
        "a": math.nan,
        "b": [1.5, (math.inf, {"c": -math.inf})],
        "d": np.float32("nan"),
        "e": np.array([1.0, np.nan]),
    }
    assert strict(to_json(value)) == {"a": None, "b": [1.5, [None, {"c": None}]], "d": None, "e": [1.0, None]}
    assert strict(to_json([Path("x")], default=lambda other: math.nan)) == [None]
    assert to_json({"ü": np.int64(3), "yes": True}, indent=None) == '{"ü": 3, "yes": true}'
    with pytest.raises(TypeError, match="a set is no JSON: {1}"):
        to_json({1})


def test_nothing_else_in_the_library_writes_json():
    """A call of `json.dump` or `json.dumps` elsewhere would be one that writes NaN."""
    found = []
    for path in sorted(Path(real_trl.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Attribute)
                and node.attr in ("dump", "dumps")
                and getattr(node.value, "id", "") == "json"
            ):
                found.append(path.name)
    # control_tokens.py hands a tokenizer's own description back to its library
    assert found == ["control_tokens.py", "json_text.py"]
