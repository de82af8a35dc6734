# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The stages and commands. Started as one (`python -m real_trl.scripts.rl`), signals are taken care of before the slow imports."""

import os
import sys

from real_trl.runs.processes import COMMAND, command_started, end_with_parent

if sys.argv[:1] == ["-m"]:  # what Python has there until it has found the module
    command_started()
elif COMMAND in os.environ and "--multiprocessing-fork" in sys.orig_argv:
    # A process that a command spawns, as vLLM does for its engine
    end_with_parent()
