# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The day that chat templates write which ask for that of today (`strftime_now`): a judge's own, while it is rendered for one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

_DAY: ContextVar[datetime | None] = ContextVar("day", default=None)


@contextmanager
def day_in_templates(day: datetime | None) -> Iterator[None]:
    """What is rendered inside, in this thread, writes `day`; with `None` that of today."""
    before = _DAY.set(day)
    try:
        yield
    finally:
        _DAY.reset(before)


def strftime_now(format: str) -> str:
    """The function of this name in chat templates, where Transformers has one that knows no day but today."""
    return (_DAY.get() or datetime.now()).strftime(format)
