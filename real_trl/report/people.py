# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How far people agree, and a judge in the place of one of them, as a table and as sentences."""

from collections.abc import Mapping
from typing import Any

from real_trl.evaluation.registry import UNDEFINED, number
from real_trl.report.cells import Cell, Column, Sheet
from real_trl.report.notation import CONFIDENCE, INFERENCES

_NOTES = (
    "α: Krippendorff's, interval metric; 1 is perfect agreement, 0 is chance. ICC: two-way random, of one rater (2,1) and of the mean of all (2,k).",
    "Judge for a rater: mean over raters of α with the judge in their place. Where the change is not below 0, the judge agrees with people as they do with "
    "each other.",
)


def people_sheet(evaluation: Mapping[str, Any], dataset: str) -> Sheet | None:
    """Agreement of the raters, and what a judge in the place of one would make of it; `None` where rows have one rating each."""
    found = evaluation.get("people", {}).get(dataset)
    if not found:
        return None
    columns = [
        Column("Raters", figures=False),
        Column("α"),
        Column("Change of α"),
        Column("ICC(2,1)"),
        Column("ICC(2,k)"),
    ]
    intervals = found["intervals"]
    own = [_cell(found[name], intervals.get(name)) for name in ("alpha", "icc_single", "icc_mean")]
    rows = [
        [Cell(f"{found['n_raters']} people" if found.get("raters", True) else "People"), own[0], Cell(""), *own[1:]]
    ]
    for name, judge in found["judges"].items():
        who, _, inference = name.rpartition(", ")
        title = f"{who} for one of them, {INFERENCES.get(inference, inference)}"
        rows.append(
            [
                Cell(title),
                _cell(judge["alpha"], None),
                _cell(judge["change"], judge["interval"], True),
                Cell(""),
                Cell(""),
            ]
        )
    notes = [*_NOTES[: 2 if found["judges"] else 1], *found["unlike"]]
    notes += [f"Note, raters: {note}" for note in found.get("notes", ())]
    return Sheet(f"{dataset}: people, {found['n_rows']} rows", columns, rows, notes)


def people_text(found: Mapping[str, Any]) -> str:
    """How far people agree, in a sentence."""
    low, high = (number(end, 2) for end in found["intervals"]["alpha"])
    interval = "" if UNDEFINED in (low, high) else f" ({CONFIDENCE} interval {low} to {high})"
    text = f"People agree with Krippendorff's α = {number(found['alpha'], 2)}{interval}; 1 is perfect, 0 is chance"
    if found["n_complete"] > 1:
        text += (
            f". ICC of one rater {number(found['icc_single'], 2)}, of the mean of all {number(found['icc_mean'], 2)}"
        )
    return f"{text}."


def _cell(value: float | None, interval: Any, sign: bool = False) -> Cell:
    ends = [number(end, 3, sign=sign) for end in interval or (None, None)]
    return Cell(number(value, 3, sign=sign), None if UNDEFINED in ends else (ends[0], ends[1]))
