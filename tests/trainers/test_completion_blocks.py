# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Completions as they are printed while training: within 80 columns, with their figures in words that are whole."""

import io
import math

from real_trl.text.terminal import CleanConsole
from real_trl.trainers.completion_blocks import print_completions

PROMPT = "Grade the answer. " + "A stack is last in, first out. " * 40 + "The response ends here."
RATIONALE = "The answer names what push and pop do, and leaves out what happens when the stack is empty. " * 4
LOGS = {
    "prompt": [PROMPT, [{"role": "user", "content": "Grade it."}], "third"],
    "completion": [f"{RATIONALE}So the overall score is 4", "no [bold]score[/bold]\x1b[2J", "x"],
    "rewards": {"regression": [-0.25, math.nan, 0.0]},
    "advantages": [0.6123, -1.0, 0.0],
    "extra": {"expected_score": [3.5, math.nan, 1.0], "target": [4.0, 2.0, 1.0]},
}


def printed(number: int | None) -> str:
    file = io.StringIO()
    print_completions(LOGS, 12, number, CleanConsole(file=file, width=80))
    return file.getvalue()


def test_it_is_readable_at_80_columns():
    text = printed(None)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("step 12, completion ") == 3 and "step 12, completion 1 of 3" in text
    whole = " ".join(text.split())
    assert "figures reward regression -0.25, advantage 0.612, expected_score 3.5, target 4 " in whole
    assert RATIONALE.strip() in whole and "So the overall score is 4" in whole  # the completion is not cut
    assert "prompt Grade the answer." in whole and " … " in whole and "The response ends here." in whole
    assert "user: Grade it." in text and "no [bold]score[/bold]" in text and "\x1b" not in text
    assert "expected_score nan, target 2" in whole


def test_as_many_as_are_asked_for():
    assert printed(1).count("step 12") == 1 and printed(0) == "" and printed(5).count("step 12") == 3
    assert printed(2) == printed(2)
