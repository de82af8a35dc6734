# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How a stage ends that is done, but with a status that says something: for rows to which its engine gave no answer."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from real_trl.evaluation.unscored import where_reasons
from real_trl.text.shown import first_reasons

STATUS_FILE = "REAL_TRL_STATUS_FILE"  # variable that names the file in which a stage's launcher wants its exit status
UNSCORED_EXIT = 3  # exit status of a stage that is done but for such rows; 2 is an error that ended it

EXIT_STATUS = (  # for --help
    "exit status: 0 done; 3 done (evaluate, score, self_generate), but for rows that the engine gave no answer to, which the same command "
    "asks for again; anything else is an error"
)


def end_with_unscored(unscored: Mapping[str, Sequence[tuple[str, str]]], totals: Mapping[str, int]) -> None:
    """
    Say how many rows have no answer, which, and why, and end this process with status 3. Nothing if there is none.

    Args:
        unscored (`Mapping[str, Sequence[tuple[str, str]]]`):
            By what is said of them (`"rows"`, `"rows of test"`): which rows, and the reason of each.
        totals (`Mapping[str, int]`):
            By the same: how many rows there are.
    """
    if not any(unscored.values()):
        return
    for what, rows in unscored.items():
        if not rows:
            continue
        print(f"unscored: {len(rows)} of {totals[what]} {what} got no answer that can be believed", file=sys.stderr)
        print("\n".join(first_reasons(where_reasons(rows))), file=sys.stderr)
    print(
        f"Give the same command again to ask for these rows once more. (Exit status {UNSCORED_EXIT})", file=sys.stderr
    )
    end_with(UNSCORED_EXIT)


def end_with(status: int) -> None:
    """Let a command end with a status, also where `real-trl` has launched it, which would make 1 of any other and show a traceback."""
    if path := os.environ.get(STATUS_FILE):
        Path(path).write_text(str(status))
    else:
        raise SystemExit(status)
