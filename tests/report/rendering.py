# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of rich as text."""

import io
import re

from rich.console import Console


def render(table, width=80, styles=False):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=styles, color_system="standard" if styles else None)
    console.print(table)
    return stream.getvalue()


def lines_of(text):
    """Rendered rows with single spaces, without rules and the caption."""
    return [
        " ".join(line.split())
        for line in text.splitlines()
        if re.search(r"\d|n/a", line) and not re.search("Correlations|Kendall", line)
    ]


def bold_words(text):
    return re.findall(r"\x1b\[1m\s*([^\x1b\s]+)\s*\x1b\[0m", text)
