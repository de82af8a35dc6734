# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
How the processes of a command end: on SIGTERM and SIGINT with the status that a shell gives to them and without a traceback, and
never later than the process that started them.
"""

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType

import psutil

COMMAND = "REAL_TRL_COMMAND"  # variable that is set in commands, and so in what they start
LAUNCHER = "REAL_TRL_LAUNCHER"  # variable with host and process id of what launches the ranks of a stage
_STOPS = (signal.SIGTERM, signal.SIGINT)
_EXIT_SECONDS = 10.0  # for what has to be done at the end
_POLL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1
_KILLED = 128 + 9
_forking: tuple[int, bool] = (0, True)  # the process that forks, and whether its main thread does


def command_started() -> None:
    """
    To be called once, as early as possible, by the process of a command: SIGTERM ends it with status 143 and SIGINT with 130, the
    processes that it forks end with it, and so does itself with its launcher, if it is one of several ranks.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _STOPS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a script
                signal.signal(number, _stop)
    os.environ[COMMAND] = "1"
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
    launcher = os.environ.pop(LAUNCHER, "")
    # Accelerate's launcher sets the second for a single process
    if launcher or "LOCAL_RANK" in os.environ or "ACCELERATE_MIXED_PRECISION" in os.environ:
        end_with_parent()
        host, _, process = launcher.rpartition(":")
        if launcher and host == socket.gethostname() and not psutil.pid_exists(int(process)):
            os._exit(_KILLED)  # it ended while this one started


def this_process() -> str:
    """What `LAUNCHER` holds."""
    return f"{socket.gethostname()}:{os.getpid()}"


def end_with_parent(parent: int | None = None) -> None:
    """End this process as soon as its parent (process id `parent`, if it may have ended by now) has ended, whatever it is doing."""
    parent = parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    os._exit(128 + signal.SIGTERM)


def exit_with(status: int) -> None:
    """
    End this process from anywhere in its main thread. What `SystemExit` would do, were it not for the libraries that swallow it or
    print it when it is raised in a callback of theirs: only what is registered for the end is done, for at most some seconds.
    """
    for number in _STOPS:
        signal.signal(number, lambda *_: os._exit(status))
    timer = threading.Timer(_EXIT_SECONDS, os._exit, (status,))
    timer.daemon = True
    timer.start()
    sys.unraisablehook = threading.excepthook = lambda *_: None  # whatever is in the middle of something
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def _stop(number: int, frame: FrameType | None) -> None:
    exit_with(128 + number)


def _before_fork() -> None:
    global _forking
    _forking = os.getpid(), threading.current_thread() is threading.main_thread()


def _after_fork() -> None:
    """In a child: signals as in any other process, as libraries expect of their workers, and an end with the parent."""
    for number, default in zip(_STOPS, (signal.SIG_DFL, signal.default_int_handler), strict=True):
        handler = signal.getsignal(number)
        if handler is _stop:
            signal.signal(number, default)
    parent, by_main_thread = _forking
    if sys.platform == "linux" and by_main_thread:  # else it would end with that thread
        end_with_parent(parent)
