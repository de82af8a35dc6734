# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
One writer for every output folder or file, and what it writes is written atomically.

The lock is a file beside the output (`.<name>.lock`; inside a folder that is a mount point or whose parent may not be written to).
The system gives it up when the process that holds it ends in any way. Where a file system has no locks, the file itself is one.
"""

import atexit
import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from real_trl.runs.disk import writing
from real_trl.text.json_text import to_json

WRITING = ".writing-"
_LONGEST_NAME = 200  # bytes of a name that others are made from; file systems allow 255
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}


def writing_path(path: Path) -> Path:
    """Where a file or folder is written before it takes its place. What a killed run left there, the next writer deletes."""
    return _beside(path, WRITING)


def _beside(path: Path, prefix: str, suffix: str = "") -> Path:
    name = path.name
    if len(name.encode()) > _LONGEST_NAME:
        name = hashlib.sha256(name.encode()).hexdigest()[:40]
    return path.with_name(prefix + name + suffix)


@contextmanager
def whole_file(path: Path, kept: str = "") -> Iterator[Path]:
    """
    The path of a file to write, which takes the place of `path` in the end: atomically, also if the machine
    loses power. `kept` is as of [`~real_trl.runs.disk.writing`].
    """
    temporary = writing_path(path)
    with writing(path, kept):
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
    os.replace(temporary, path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write `content` by [`whole_file`]."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def only_writer(output: str | Path, option: str = "output_dir", state: PartialState | None = None) -> Iterator[None]:
    """
    Within it, no other process writes to an output, and nothing is left of what a killed run was writing. Of several processes of a
    run the main one holds the lock; all of them have to come here.

    Args:
        output (`str` or `Path`):
            Folder or file. It need not be there.
        option (`str`, *optional*, defaults to `"output_dir"`):
            What names it, for the message.
        state ([`~accelerate.PartialState`], *optional*):
            This process among the others. Defaults to a process of its own.

    Raises:
        `ValueError`: on all processes, naming the one that writes to it.
    """
    output = Path(output).expanduser().resolve()
    several = state is not None and state.num_processes > 1
    refusal, lock = None, None
    if not several or state.is_main_process:
        try:
            lock = _lock(output, option)
            _discard_left_overs(output)
        except (ValueError, OSError) as error:
            refusal = error
    if several:
        (refusal,) = broadcast_object_list([refusal])  # nobody goes on before that
    if refusal is not None:
        if lock is not None:
            _release(lock)
        raise refusal
    if lock is None:
        yield
        return
    release = partial(_release, lock)
    atexit.register(release)
    try:
        yield
    finally:
        atexit.unregister(release)
        release()


def _lock(output: Path, option: str) -> BaseFileLock:
    path = _lock_path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _holder(path)
    lock: BaseFileLock = FileLock(path)
    try:
        try:
            with warnings.catch_warnings(action="ignore"):  # it is said below
                lock.acquire(blocking=False)
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
                raise
            lock = SoftFileLock(path)
            lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{option}: another process is writing to {str(output)!r}{_who(_holder(path))}. Wait for it, or stop it; a run that was killed "
            f"may have left processes behind.{_soft_hint(lock, path)}"
        ) from None
    if isinstance(lock, SoftFileLock):
        print(
            f"warning: {option}: the file system of {str(output)!r} has no locks, so the file {path} stands for one. A run that is killed "
            "leaves it: on the same machine the next run takes it over, on another one it has to be deleted by hand.",
            file=sys.stderr,
        )
        if before:
            print(f"warning: {option}: took over the lock of a run that has ended{_who(before)}", file=sys.stderr)
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    # No options: they may hold secrets
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "command": Path(sys.argv[0]).stem, "since": since}
    with suppress(OSError):
        _holder_path(path).write_text(to_json(holder), encoding="utf-8")
    return lock


def _lock_path(output: Path) -> Path:
    inside = output.is_dir() and (output.is_mount() or not os.access(output.parent, os.W_OK))
    return output / ".lock" if inside else _beside(output, ".", ".lock")


def _holder_path(lock: Path) -> Path:
    return lock.with_name(f"{lock.name}.json")  # not the lock file itself: it is not everywhere readable meanwhile


def _holder(lock: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        holder = json.loads(_holder_path(lock).read_text(encoding="utf-8"))
        return holder if isinstance(holder, dict) else {}
    return {}


def _who(holder: dict[str, object]) -> str:
    if not {"pid", "host", "command", "since"} <= holder.keys():
        return ""
    return f" (process {holder['pid']} on {holder['host']}, {holder['command']!r}, since {holder['since']})"


def _soft_hint(lock: BaseFileLock, path: Path) -> str:
    if not isinstance(lock, SoftFileLock):
        return ""
    return f" If it ran on another machine and has ended, delete {str(path)!r}: this file system has no locks."


def _release(lock: BaseFileLock) -> None:
    path = Path(lock.lock_file)
    with suppress(OSError):
        _holder_path(path).unlink()
    if not isinstance(lock, SoftFileLock):
        with suppress(OSError):  # where an open file cannot be deleted, it stays
            path.unlink()  # who waits for it notices that it has gone
    lock.release()


def _discard_left_overs(output: Path) -> None:
    inside = output.glob(f"{WRITING}*") if output.is_dir() else ()
    for path in [writing_path(output), *(each for each in inside if not _is_being_written(each))]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _is_being_written(path: Path) -> bool:
    """Whether what is half-written in a folder is that of an output with a lock of its own, which somebody holds."""
    lock = path.with_name(f".{path.name.removeprefix(WRITING)}.lock")
    if not lock.exists():
        return False
    try:
        with FileLock(lock).acquire(blocking=False):
            return False
    except (Timeout, OSError):
        return True
