# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is found in a completion: where its score stands, or why it holds none."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

MalformedStatus = Literal["missing", "truncated", "outside", "unclosed"]
MALFORMED_STATUSES = get_args(MalformedStatus)
_BLANK_OR_BOLD = re.compile(r"(?<=\W)[\s*]*|[\s*]+")


@dataclass(frozen=True, slots=True)
class ScoreLocation:
    """
    Where the score stands in one completion.

    Attributes:
        status (`str`):
            `"ok"`: a label follows the marker; white space and bold may stand between them. `"missing"`: no marker. `"truncated"`:
            nothing, or only white space, follows it. `"outside"`: what follows is no label of the scale (on 1-5: `"7"`, `"10"`, `"4.5"`, a word).
            `"unclosed"`: the judge's thinking does not end, so that there is no answer, whatever the thinking holds.
        position (`int`, *optional*):
            Index in `completion_ids` of the score's first token: the chain of thought, marker included, is
            `completion_ids[:position]`. With `"outside"`, where a label should have stood (the distribution can still
            be read there), or `None` if one token spans the end of the marker. `None` with the others,
            but for a label that the length limit cut.
        label_index (`int`, *optional*): Index of the label in `ScoreSpace.labels`, if `status` is `"ok"`.
    """

    status: Literal["ok"] | MalformedStatus
    position: int | None = None
    label_index: int | None = None

    @property
    def ok(self) -> bool:
        """Whether a label of the scale was found."""
        return self.status == "ok"


def goes_on(label: str, rest: str) -> bool:
    """Whether `rest`, the text right after `label`, makes another score of it (`"1|0"`, `"4|.5"`, `"A|+"`)."""
    if label[-1].isdigit():
        return rest[:1].isnumeric() or re.match(r"[.,\-–]\d", rest) is not None
    return rest[:1].isalnum() or rest[:1] in {"_", "+", "-"}


def set_off_label(text: str, begin: int, marker: str, labels: Sequence[str]) -> tuple[int, int] | None:
    """
    Where the last `marker` behind `begin` stands that nothing but white space and bold (`"**4**"`) separates from a label, and where
    that label does; `None` if there is none. `marker` comes without white space at its end.
    """
    start = text.rfind(marker, begin)
    while start >= 0:
        gap = _BLANK_OR_BOLD.match(text, start + len(marker))
        if gap and any(text.startswith(label, gap.end()) for label in labels):
            return start, gap.end()
        start = text.rfind(marker, begin, start + len(marker) - 1)
    return None
