# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is found in a completion: where its score stands, or why it holds none."""

from dataclasses import dataclass
from typing import Literal, get_args

MalformedStatus = Literal["missing", "truncated", "outside", "unclosed"]
MALFORMED_STATUSES = get_args(MalformedStatus)


@dataclass(frozen=True, slots=True)
class ScoreLocation:
    """
    Where the score stands in one completion.

    Attributes:
        status (`str`):
            `"ok"`: a label follows the marker. `"missing"`: no marker. `"truncated"`: nothing, or only white space,
            follows it. `"outside"`: what follows is no label of the scale (on 1-5: `"7"`, `"10"`, `"4.5"`, a word).
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
