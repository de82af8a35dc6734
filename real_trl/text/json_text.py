# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""JSON as it is written, without NaN and infinity, which other programs refuse, and as it is read: without two values under one name."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from real_trl.text.cells import as_json


def to_json(value: Any, *, default: Callable[[Any], Any] = as_json, **options: Any) -> str:
    """
    `value` as JSON text.

    Args:
        value:
            What is written. NaN and infinities become null, NumPy's numbers and arrays plain ones. A lone surrogate, as
            broken text has it, is no UTF-8 and is escaped.
        default (`Callable`, *optional*):
            As in `json.dumps`: what becomes of an object that JSON does not know. By default decimals, times and durations are
            written, see [`~real_trl.text.cells.as_json`].
        options:
            Further arguments of `json.dumps`; `ensure_ascii` is false unless it is among them.

    Raises:
        `TypeError`: of `default`, if there is something that it does not know.
    """

    def known(other: Any) -> Any:
        return finite(default(other))

    options = {"ensure_ascii": False, **options}
    text = json.dumps(finite(value), default=known, allow_nan=False, **options)
    return text.encode("utf-8", "backslashreplace").decode()


def unique_names(pairs: Sequence[tuple[str, Any]], *, equal: bool = False) -> dict[str, Any]:
    """
    As `object_pairs_hook` of `json.loads`: `ValueError` for an object in which a name stands twice, of which readers take different
    ones; with `equal` only if its values differ.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and not (equal and found[name] == value):
            raise ValueError(f"{name[:80]!r} occurs twice in one object, with {found[name]!r:.40} and {value!r:.40}")
        found[name] = value
    return found


def finite(value: Any) -> Any:
    """`value`, with `None` in place of every NaN and infinity in it, and plain numbers and lists in place of NumPy's."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str | int) else str(key): finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return finite(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
