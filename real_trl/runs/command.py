# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What stands around the `main` of every command, and around what reads the user's options and data."""

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from real_trl.runs.disk import disk_errors, disk_message
from real_trl.text.terminal import command_line


@contextmanager
def command() -> Iterator[None]:
    """
    Around a command, as a decorator of its `main`: [`disk_errors`], and [`~real_trl.text.terminal.command_line`] around them. A command
    that has ended well leaves the group of processes that it was launched in, when Python ends: others may follow before.
    """
    atexit.unregister(_leave_processes)  # one that fails must not wait for the others
    with command_line(), disk_errors():
        yield
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    """Of a launch: left to the end of Python, threads that still serve a group can end a process with a signal, although all is done."""
    distributed = sys.modules.get("torch.distributed")  # most commands never import it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@contextmanager
def user_errors() -> Iterator[None]:
    """
    Turns an error about what the user wrote into a message and exit status 2, without a traceback. With the environment
    variable `REAL_TRL_DEBUG` set, the traceback is shown.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("REAL_TRL_DEBUG"):
            raise
        full = disk_message(error)
        if full or os.environ.get("LOCAL_RANK", "0") == "0":  # every process finds the same fault
            print(f"error: {full or error}", file=sys.stderr)
        raise SystemExit(2) from None
