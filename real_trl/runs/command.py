# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What stands around the `main` of every command."""

from collections.abc import Iterator
from contextlib import contextmanager

from real_trl.runs.disk import disk_errors
from real_trl.text.terminal import command_line


@contextmanager
def command() -> Iterator[None]:
    """Around a command, as a decorator of its `main`: [`disk_errors`], and [`~real_trl.text.terminal.command_line`] around them."""
    with command_line(), disk_errors():
        yield
