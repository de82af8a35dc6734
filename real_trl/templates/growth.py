# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What one operation of a template may cost: those whose output is much larger than their input, or that take superlinear
time. Python runs each of them in one go, so that no clock could stop it.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from string import Formatter
from typing import Any

from jinja2 import TemplateRuntimeError

MAX_TEXT = 2**22
"""Characters of what a template renders, and of everything that it makes on the way."""
MAX_ITEMS = 2**12
"""Values that are told apart at once (`unique`, `dict`)."""
MAX_BITS = 2**14
"""Of a whole number."""
MAX_WIDTH = 10_000
"""Of a field in a format."""
_ITEM = 32
_MAX_SLOW = {"urlize": 4_000, "wordwrap": 100_000, "striptags": 100_000, "unescape": 100_000, "pprint": 100_000}
_MAX_COMPARED = 2**30  # characters, of a search from the right, in which each is compared with all of what is sought
_MAX_DATE = 1000  # characters of a format
_CODECS = {"utf8", "ascii", "latin1"}
_CODEC_ERRORS = {"strict", "ignore", "replace"}
_PRINTF = re.compile(r"%(?:\([^)]{0,100}\))?[#0\- +]*(\*|\d+)?(?:\.(\*|\d+))?")


class TemplateLimit(TemplateRuntimeError):
    """A template asks for more than it may have."""


def size_of(value: Any) -> int:
    """Characters of a value as it would be printed, about; what stands in it twice counts twice."""
    size, rest = 0, [value]
    while rest:
        each = rest.pop()
        if isinstance(each, str | bytes):
            size += len(each)
        elif isinstance(each, Mapping):
            size += _ITEM * len(each)
            rest += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple | set | frozenset):
            size += _ITEM * len(each)
            rest += each
        elif isinstance(each, int) and each.bit_length() > MAX_BITS:
            raise TemplateLimit(f"it makes a number of more than {MAX_BITS:,} bits, the limit")
        check_size(size)
    return size


def check_size(size: float) -> None:
    if size > MAX_TEXT:
        raise TemplateLimit(f"it makes a value of more than {MAX_TEXT:,} characters, the limit")


def check_growth(name: str, value: Any, given: Sequence[Any]) -> None:
    """`TemplateLimit` where a method or filter of this name would make much more than it gets, or take long for it."""
    number = max((abs(each) for each in given if isinstance(each, int)), default=0)
    length = max((len(each) for each in given if isinstance(each, str | bytes)), default=0)
    if name in ("replace", "trim", "format") and not isinstance(value, str | bytes):
        value = str(value)  # as these filters do
    size = len(value) if isinstance(value, str | bytes) else 0
    match name:
        case "center" | "ljust" | "rjust" | "zfill" | "to_bytes" | "batch" | "slice":
            check_size(number)
        case "round":
            check_size(2 ** number.bit_length() * 2**12)  # 10^number
        case "expandtabs" | "indent":
            check_size((value.count("\t" if name == "expandtabs" else "\n") + 1) * max(number, length) if size else 0)
        case "replace" if size and len(given) > 1:
            old, new = str(given[0]), str(given[1])
            check_size(value.count(old) * max(len(new), len(given) > 2 and length))
        case "join":
            items = given[0] if isinstance(value, str | bytes) and given and not isinstance(given[0], str) else value
            check_size((len(items) if hasattr(items, "__len__") else 0) * max(length, size))
        case "translate":
            check_size(size * max(map(size_of, given), default=0))
        case "strip" | "lstrip" | "rstrip" | "trim":
            check_size(size * length // 256)
        case "rfind" | "rindex" | "rsplit" | "rpartition":
            if size * length > _MAX_COMPARED:
                raise TemplateLimit(f"{name} seeks {length:,} characters in {size:,}, which takes too long")
        case "encode" | "decode":
            said = [each for each in given if isinstance(each, str)]
            if any(each not in _CODEC_ERRORS and re.sub("[-_]", "", each.lower()) not in _CODECS for each in said):
                raise TemplateLimit(f"{name} knows only utf-8, ascii and latin-1 here, and strict, ignore and replace")
        case "strftime_now" if length > _MAX_DATE:
            raise TemplateLimit(f"a format of a date has more than {_MAX_DATE:,} characters, the limit")
        case "sum" if any(not isinstance(each, int | float | str | None) for each in given):
            raise TemplateLimit("it adds up lists (sum), which takes too long")
        case "tojson":
            check_size(size_of(value) // _ITEM * max(number, length, size_of(list(given))))
        case _ if name in _MAX_SLOW:  # more than linear in what they get
            if size_of(value) > _MAX_SLOW[name]:
                raise TemplateLimit(f"{name} gets more than {_MAX_SLOW[name]:,} characters, the limit")
        case "format":
            check_printf(value, given)


def check_printf(text: str, given: Any) -> None:
    for field in _PRINTF.finditer(str(text)):
        if any(width and (width == "*" or len(width) > 4) for width in field.groups()):
            raise TemplateLimit(f"a field of a format is wider than {MAX_WIDTH:,} characters, the limit")
    check_size(len(text) + text.count("%") * (size_of(given) if isinstance(given, Mapping) else 0))


def few(values: Any, name: str | None) -> Any:
    """`values`, not too many to be told apart: numbers can be chosen so that each is compared with all others."""
    found = values if hasattr(values, "__len__") else list(islice(values, MAX_ITEMS + 1))
    if len(found) > MAX_ITEMS:
        raise TemplateLimit(f"{name} gets more than {MAX_ITEMS:,} values, the limit")
    return found


class MeasuredFormatter(Formatter):
    """It makes no more than a template may."""

    made = 0

    def format_field(self, value: Any, spec: str) -> str:
        if re.search(r"\d{5}", spec):
            raise TemplateLimit(f"a field of a format is wider than {MAX_WIDTH:,} characters, the limit")
        return self._counted(super().format_field(value, spec))

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        value = super().convert_field(value, conversion)
        return self._counted(value) if conversion else value

    def _counted(self, text: str) -> str:
        self.made += len(text)
        check_size(self.made)
        return text
