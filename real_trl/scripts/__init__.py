# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The stages and commands. Started as one (`python -m real_trl.scripts.rl`), signals are taken care of before the slow imports, help is
printed and a wrong option is refused without them.
"""

import os
import sys

from real_trl.runs.processes import COMMAND, command_started, end_with_parent


def _before_imports() -> None:
    from real_trl.arguments.early import asked_help, check
    from real_trl.runs.command import user_errors
    from real_trl.text.terminal import command_line

    options = sys.argv[1:]
    command = sys.orig_argv[len(sys.orig_argv) - len(options) - 1].removeprefix(f"{__name__}.")
    with command_line():
        if (page := asked_help(command, options)) is not None:
            print(page)
            raise SystemExit(0)
        with user_errors():
            check(command, options)


if sys.argv[:1] == ["-m"]:  # what Python has there until it has found the module
    command_started()
    _before_imports()
elif COMMAND in os.environ and "--multiprocessing-fork" in sys.orig_argv:
    # A process that a command spawns, as vLLM does for its engine
    end_with_parent()
