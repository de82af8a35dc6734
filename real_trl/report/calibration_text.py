# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a judge's calibration is and what it is worth, in words and as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from real_trl.evaluation.conformal import least_rows
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.report.cells import Cell, Column, Sheet

_METHODS = {
    "none": "the distribution as the judge gives it",
    "temperature": "a temperature",
    "affine": "a temperature and an affine map of the mean",
    "isotonic": "a temperature and an isotonic map of the mean",
}
_FLAT = 10  # temperature from which on it is: odds of a million to one become 4 to 1
_KINDS = {
    "absolute": "the calibrated score plus and minus a margin",
    "quantiles": "quantiles of the calibrated distribution, widened by a margin",
}


def calibration_text(calibration: Calibration) -> list[str]:
    """Sentences: what maps the distributions, what they and the intervals reached on rows that were left out."""
    shown, intervals = calibration.shown, calibration.intervals
    temperature = calibration.recalibration.temperature
    how = _METHODS[calibration.recalibration.method] + (f" (T = {temperature:.3g})" if temperature != 1 else "")
    asked = f"{100 * intervals.coverage:.4g}%"
    lines = [f"Scores are calibrated by {how}. {asked} intervals are {_KINDS[intervals.kind]}."]
    if calibration.recalibration.method != "none":
        use = "Use the calibrated mean score and its interval: the most likely label was not fitted, and can be far from them."
        if temperature >= _FLAT:
            use += f" T = {temperature:.3g} makes distributions nearly flat: which label is the most likely is then noise."
        lines.append(use)
    if not shown:
        return lines
    (crps, crps_after), (rmse, rmse_after) = shown["crps"], shown["rmse"]
    rows, unit = f"{shown['rows']:,} rows of {shown['questions']:,} questions", "its question"
    by_rows = "grouped_by" in calibration.made_with and calibration.made_with["grouped_by"] is None
    if shown["rows"] == shown["questions"]:
        rows, unit = f"{shown['rows']:,} rows", "it"
    elif by_rows:  # with several criteria each
        rows, unit = f"{shown['rows']:,} scores of {shown['questions']:,} rows", "its row"
    what = "rows" if by_rows else "questions"
    over = f"; resampling {what}, {_range(shown['by_question'])}" if "by_question" in shown else ""
    lines.append(
        f"On {rows}, each predicted by what was fitted without {unit}: CRPS {crps:.3f} "
        f"before and {crps_after:.3f} after, RMSE {rmse:.3f} and {rmse_after:.3f}, all of distributions divided by their probability on the labels; {100 * shown['coverage']:.1f}% of the human scores lie in "
        f"their interval (95% binomial interval {_range(shown['interval'])}{over}), whose mean width is {shown['width']:.2f}."
    )
    if groups := shown.get("groups"):
        few = [each for each in groups if not each.get("own")]
        lines.append(
            f"Intervals are by {intervals.column}"
            + (
                f"; {len(few)} of its {len(groups)} values have fewer than {least_rows(intervals.coverage)} rows, and the intervals of all rows."
                if few
                else "."
            )
        )
    return lines


def _range(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f}"


def calibration_sheets(calibration: Calibration) -> list[Sheet]:
    """What the maps and intervals were chosen by, and the figures by group where there are groups."""
    shown, intervals = calibration.shown, calibration.intervals
    chosen = (calibration.recalibration.method, intervals.kind)
    compared = {**shown["methods"], **shown["kinds"]}
    rows = [
        [
            Cell(name, strong=name in chosen),
            Cell("mean width" if name in shown["kinds"] else "CRPS"),
            Cell(f"{figure:.4f}"),
        ]
        for name, figure in compared.items()
    ]
    columns = [Column("Choice", figures=False), Column("Figure", figures=False), Column("On left-out folds")]
    notes = [
        "These left-out folds choose map and interval, so what is taken looks a little better here than it is; in the sentences below, the choice too is made without "
        "the rows that are predicted."
    ]
    sheets = [Sheet("Maps and intervals: the smallest is taken", columns, rows, notes)]
    if groups := shown.get("groups"):
        sheets.append(_by_group(groups, str(intervals.column), f"{100 * intervals.coverage:.4g}%"))
    return sheets


def _by_group(groups: Sequence[Mapping[str, Any]], column: str, asked: str) -> Sheet:
    names: Sequence[str] = (column, "Rows", "Inside", "95% interval", "Width", "CRPS before", "after", "Margin of")
    rows = []
    for figures in sorted(groups, key=lambda each: each["coverage"]):
        before, after = figures["crps"]
        texts = [
            figures["group"],
            str(figures["rows"]),
            f"{100 * figures['coverage']:.1f}%",
            _range(figures["interval"]),
        ]
        texts += [
            f"{figures['width']:.2f}",
            f"{before:.3f}",
            f"{after:.3f}",
            "its own" if figures["own"] else "all rows",
        ]
        rows.append([Cell(text) for text in texts])
    return Sheet(
        f"{asked} intervals by {column}, on rows that were left out",
        [Column(names[0], figures=False), *map(Column, names[1:])],
        rows,
    )
