# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Sections of a prompt of the Prometheus layout, which the built-in templates have too (`###Response to evaluate:`)."""

import re

_SECTIONS = {
    "instruction": "The instruction to evaluate",
    "response": "Response to evaluate",
    "reference": "Reference Answer",
    "rubric": "Score Rubrics",
}
_HEADING = re.compile(
    rf"^###(Task Description|{'|'.join(_SECTIONS.values())}|Score Rubrics?|Feedback)(?: \([^)\n]*\))?:", re.MULTILINE
)


def section_span(prompt: str, section: str) -> slice:
    """
    Where the text of a section (`"instruction"`, `"response"`, `"reference"` or `"rubric"`) stands in a prompt of the Prometheus layout,
    without the white space around it; `ValueError` if its heading is not there, or if one of the headings is there twice.
    """
    headings = list(_HEADING.finditer(prompt))
    names = [heading[1] for heading in headings]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"the prompt has the heading '###{repeated}' {names.count(repeated)} times")
    if _SECTIONS[section] not in names:
        raise ValueError(f"the prompt has no heading '###{_SECTIONS[section]}:'")
    index = names.index(_SECTIONS[section])
    start = headings[index].end()
    end = headings[index + 1].start() if index + 1 < len(headings) else len(prompt)
    text = prompt[start:end]
    if not text.strip():
        return slice(start + text.startswith("\n"), start + text.startswith("\n"))
    return slice(start + len(text) - len(text.lstrip()), start + len(text.rstrip()))
