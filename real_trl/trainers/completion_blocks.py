# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What `log_completions` prints: a block for each completion, in place of TRL's table, whose columns are too narrow to read in a terminal."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from real_trl.text.terminal import CleanConsole

_SHOWN_PROMPT = 300  # characters, half of them from the end, where the response mostly is


def print_completions(logs: Mapping[str, Any], step: int, number: int | None, console: Console | None = None) -> None:
    """
    Print completions with their rewards.

    Args:
        logs (`Mapping`):
            TRL's: `prompt`, `completion` and `advantages`, a list each, and `rewards` and `extra`, by name a list each.
        step (`int`):
            Of the training.
        number (`int`, *optional*):
            How many, drawn at random; by default all.
        console ([`~rich.console.Console`], *optional*):
            Where to. Defaults to standard output.
    """
    console = console or CleanConsole()
    total = len(logs["prompt"])
    chosen = range(total)
    if number is not None and number < total:
        chosen = sorted(
            random.Random(step).sample(range(total), max(number, 0))
        )  # the run's own random numbers are left alone
    for place in chosen:
        figures = {
            **{f"reward {name}": values for name, values in logs["rewards"].items()},
            "advantage": logs["advantages"],
        }
        figures |= logs["extra"]
        shown = [f"{name} {_shown(values[place])}" for name, values in figures.items()]
        console.rule(f"step {step}, completion {place + 1} of {total}", align="left")
        console.print(Text.assemble(("prompt      ", "bold"), _shortened(_text(logs["prompt"][place]))))
        console.print(Text.assemble(("completion  ", "bold"), _text(logs["completion"][place])))
        console.print(Text.assemble(("figures     ", "bold"), ", ".join(shown)))


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)


def _text(said: str | Sequence[Mapping[str, Any]]) -> str:
    return said if isinstance(said, str) else "\n".join(f"{each.get('role')}: {each.get('content')}" for each in said)


def _shortened(text: str) -> str:
    half = _SHOWN_PROMPT // 2
    return text if len(text) <= _SHOWN_PROMPT else f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
