# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a command says when it cannot write: which path, why, and what is kept. The one place that makes a message of an error of the disk."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}
# How torch, safetensors and tokenizers, which write by themselves, report the same
_TEXTS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Read-only file system|Input/output error|"
    r"PytorchStreamWriter failed[^.\n]*|unexpected pos \d+ vs \d+|os error (?:5|27|28|30|122)\b"
)


@contextmanager
def writing(path: str | Path, kept: str = "") -> Iterator[None]:
    """Whatever cannot be written meanwhile is said to be in `path`, with what is `kept` of what was done before."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "written_path"):
            error.written_path, error.kept = str(path), kept
        raise


def disk_message(error: BaseException) -> str | None:
    """Path, reason, and what is kept, if the error is that something could not be written."""
    path = getattr(error, "written_path", None)
    kept = getattr(error, "kept", "")
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        found = _TEXTS.search(str(cause))
        if isinstance(cause, OSError) and cause.errno in _FULL:
            reason = os.strerror(cause.errno)
        elif found and not isinstance(cause, (ValueError, TypeError)):
            reason = found.group()
        else:
            cause = cause.__cause__ or cause.__context__
            continue
        path = path or getattr(cause, "written_path", None) or getattr(cause, "filename", None) or "an output file"
        return f"{path}: cannot be written: {reason}. {kept or 'What was there before is as it was'}. Make room, then give the same command again."
    return None


@contextmanager
def disk_errors() -> Iterator[None]:
    """
    An error of the operating system, or a package that is not installed, ends a command with a message and status 2. With the
    environment variable `REAL_TRL_DEBUG` set, the traceback is shown.
    """
    try:
        yield
        with writing("standard output", "What was written to files is there"):
            sys.stdout.flush()
    except Exception as error:
        message = disk_message(error)
        if message and getattr(error, "written_path", "") == "standard output":
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
            )  # what is left would fail once more at the end
        if message is None and isinstance(error, OSError | ImportError) and not isinstance(error, BrokenPipeError):
            message = str(error)  # also of a package that an option needs
        if message is None or os.environ.get("REAL_TRL_DEBUG"):
            raise
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2) from None
