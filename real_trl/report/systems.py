# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A comparison of systems as tables, sentences, Markdown, a plot and an HTML page. `comparison` is what `comparison.json` holds."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from real_trl.evaluation.registry import UNDEFINED, is_undefined, number
from real_trl.report.cells import Cell, Column, Sheet
from real_trl.report.html import embedded_image, write_page
from real_trl.report.markup import markdown_escape, markdown_sheet, plain_line
from real_trl.report.notation import p_value
from real_trl.report.panels import COLORS, MARKERS, new_figure
from real_trl.report.verdict_text import Remark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Comparison = Mapping[str, Any]
WAYS = {"combined": "Judge and people", "judge": "Judge alone", "humans": "People alone"}
_DECIMALS = 3
_SHOWN = 50  # next rows on the page; the file has all


def systems_sheet(comparison: Comparison) -> Sheet:
    """Mean quality of every system, best first, in each of the ways that there are."""
    systems = comparison["systems"]
    ways = [way for way in WAYS if way in systems[0]]
    columns = [Column("System", figures=False), Column("Place"), *(Column(WAYS[way]) for way in ways)]
    combined = "combined" in ways
    columns += [Column("Judge's bias", rank=2), Column("Labels", rank=1), Column("Worth", rank=1)] if combined else []
    rows = []
    for system in systems:
        low, high = system["places"]
        row = [Cell(system["name"]), Cell(f"{low}" if low == high else f"{low}–{high}")]
        row += [_estimate(system[way], "mean", strong=way == comparison["by"]) for way in ways]
        if combined:
            row += [
                _estimate(system["bias"], "mean", sign=True),
                Cell(str(system["n_labels"])),
                Cell(_about(number(system["effective_labels"], 0))),
            ]
        rows.append([*row, Cell(str(system["n_rows"]))])
    notes = []
    if combined:
        notes += [
            f"Judge and people: prediction-powered inference, λ = {number(comparison['weight'], 2)}. Judge alone is as biased as the judge; its bias is what people take "
            "off it. Worth: about how many labels people alone would need for the same interval, from all systems together.",
        ]
    questions = "" if comparison["n_questions"] is None else f" {comparison['n_questions']} questions,"
    title = f"Mean quality: {comparison['n_rows']} rows,{questions} {comparison['n_labels']} human scores"
    return Sheet(title, [*columns, Column("Rows", rank=3)], rows, notes)


def differences_sheet(comparison: Comparison) -> Sheet | None:
    """All pairs of systems; `None` of a single system."""
    differences = comparison["differences"]
    if not differences:
        return None
    by, detect = comparison["by"], comparison["detect"]
    others = [way for way in WAYS if way in differences[0] and way != by]
    columns = [Column("A − B", figures=False), Column("Better", figures=False), Column(WAYS[by]), Column("p adjusted")]
    columns += [Column(WAYS[way], rank=2) for way in others]
    rated = any(row["win_rate"] for row in differences)
    corrected = any(row["win_rate"] and row["win_rate"]["corrected"] for row in differences)
    columns += [Column("A wins, judge", rank=3)] if rated else []
    columns += [Column("A wins, corrected", rank=3)] if corrected else []
    columns += [Column("Detectable", rank=1)] if by == "combined" else []
    columns += [Column(f"Labels for {detect:g}")] if by == "combined" and detect is not None else []
    rows = []
    for row in differences:
        shown = row["better"] is not None
        cells = [
            Cell(f"{row['a']} − {row['b']}"),
            Cell(row["better"] or ("not known" if any(map(is_undefined, row[by]["interval"])) else "not shown")),
        ]
        cells += [_estimate(row[by], "difference", sign=True, strong=shown), Cell(p_value(row["p_adjusted"]))]
        cells += [_estimate(row[way], "difference", sign=True) for way in others]
        rate = row["win_rate"] or {"judge": None, "corrected": None}
        cells += [_estimate(rate["judge"], "mean")] if rated else []
        cells += [_estimate(rate["corrected"], "mean")] if corrected else []
        if by == "combined":
            cells.append(Cell(number(row["detectable"], _DECIMALS)))
            cells += [Cell(_needed(row, by))] if detect is not None else []
        rows.append(cells)
    notes = ["p adjusted: by Holm's procedure, for the number of pairs. Bold: a difference that is shown."]
    if rated:
        notes.append(
            "A wins: share of common questions on which A's answer is better, ties ½, by the judge's distributions"
            + ("; corrected: with human scores of both answers." if corrected else ": as biased as the judge.")
        )
    if by == "combined":
        text = f"Detectable: the true difference that is found with a chance of {comparison['power']:.0%} with the labels there are, at Holm's strictest step."
        if detect is not None:
            text += f" Labels for {detect:g}: human scores of both systems in all, chosen as those there are, with which a true difference of {detect:g} is (in brackets how many more than now)."
        notes.append(text)
    return Sheet("Differences", columns, rows, notes)


def next_rows_sheet(rows: Sequence[Mapping[str, Any]], file: str) -> Sheet | None:
    """The rows that people should score next, the most doubtful first; `None` if none were asked for."""
    if not rows:
        return None
    columns = [
        Column("Row", figures=False),
        Column("System", figures=False),
        Column("Question", figures=False),
        Column("ŷ"),
        Column("Spread"),
        Column("Probability"),
    ]
    cells = [
        [
            Cell(str(row["row"])),
            Cell(row["system"]),
            Cell(f"{row['question']:.60}"),
            *(Cell(number(row[name], 2)) for name in ("expected_score", "spread")),
            Cell(number(row["label_probability"], 4)),
        ]
        for row in rows[:_SHOWN]
    ]
    more = f", of which {_SHOWN} are shown," if len(rows) > _SHOWN else ""
    return Sheet(
        f"Next rows to label: {len(rows)}",
        columns,
        cells,
        [
            f"These rows{more} are the first of {file}, which has all rows. Score all of these there, without regard to what the judge said, and compare that file with "
            "--probability label_probability: they were drawn at random, more often where the judge is in doubt, and are weighted by 1 / probability.",
        ],
        folded=True,
    )  # fmt: skip


def comparison_sheets(comparison: Comparison) -> list[Sheet]:
    """The tables, but for the next rows."""
    return [sheet for sheet in (systems_sheet(comparison), differences_sheet(comparison)) if sheet is not None]


def decision(comparison: Comparison) -> list[Remark]:
    """What is known and what is not, a sentence each: first which systems are better than which, then warnings, last notes."""
    better: dict[str, list[str]] = {}
    for row in comparison["differences"]:
        if row["better"] is not None:
            better.setdefault(row["better"], []).append(row["b"] if row["better"] == row["a"] else row["a"])
    place = {system["name"]: index for index, system in enumerate(comparison["systems"])}
    shown = [
        f"{name} is better than {_and(sorted(better[name], key=place.__getitem__))}"
        for name in place
        if name in better
    ]
    alone = " by the judge alone" if comparison["by"] == "judge" else ""
    doubt = (
        ""
        if comparison["random_sample"]
        else ", if the labelled rows were a random sample, which they do not look like"
    )
    what = "; ".join(shown) or "no system is shown to be better than another"
    headline = f"Decision{alone}{doubt}: {what}."
    if len(place) == 1:
        headline, doubt = "One system: there is nothing to compare it with.", ""
    remarks = [Remark(headline, bool(doubt))]
    if sets := [each for each in comparison["alike"] if len(each) > 1]:
        remarks.append(Remark(f"Cannot be told apart: {'; '.join(map(_and, sets))}.", False))
    remarks += [Remark(text, True) for text in comparison["warnings"]]
    level = f"Intervals: {comparison['level']:.0%}, each by itself"
    level += "." if comparison["n_questions"] is None else ", whole questions varying together."
    return [*remarks, Remark(" ".join([level, *comparison["notes"]]), False)]


def comparison_markdown(comparison: Comparison, sheets: Sequence[Sheet], command: str) -> str:
    """Tables and decision as a Markdown document."""
    parts = ["# Systems compared"]
    parts.append(
        "\n".join(
            f"- {'**' * each.severe}{markdown_escape(each.text)}{'**' * each.severe}" for each in decision(comparison)
        )
    )
    for sheet in sheets:
        parts += markdown_sheet(sheet)
    return "\n\n".join([*parts, f"Made by {markdown_escape(command)}"]) + "\n"


def comparison_figure(comparison: Comparison) -> "Figure":
    """Means with their intervals, a line a system and way; `ImportError` without matplotlib."""
    systems = comparison["systems"]
    ways = [way for way in WAYS if way in systems[0]]
    figure = new_figure(7.5, 1 + 0.22 * (len(ways) + 1) * len(systems))
    axes = figure.subplots()
    for index, way in enumerate(ways):
        places = [-(position + 0.24 * (index - (len(ways) - 1) / 2)) for position in range(len(systems))]
        known = [
            (place, each[way])
            for place, each in zip(places, systems, strict=True)
            if not is_undefined(each[way]["mean"])
        ]
        middle = [each["mean"] for _, each in known]
        ends = [[0.0, 0.0] if any(map(is_undefined, each["interval"])) else each["interval"] for _, each in known]
        errors = [
            [abs(mean - end[side]) if end != [0.0, 0.0] else 0.0 for mean, end in zip(middle, ends, strict=True)]
            for side in (0, 1)
        ]
        axes.errorbar(
            middle,
            [place for place, _ in known],
            xerr=errors,
            fmt=MARKERS[index],
            color=COLORS[index],
            capsize=3,
            label=WAYS[way],
        )
    axes.set_yticks(
        [-position for position in range(len(systems))],
        [plain_line(each["name"]).replace("$", r"\$") for each in systems],
    )
    axes.set_xlabel(f"mean quality, {comparison['level']:.0%} intervals")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="best", fontsize="small")
    return figure


def comparison_page(
    comparison: Comparison, sheets: Sequence[Sheet], path: Path, command: str, title: str = "Systems compared"
) -> Path:
    """Writes decision, plot and tables as one HTML file that needs no network and runs no script."""
    try:
        buffer = io.BytesIO()
        comparison_figure(comparison).savefig(buffer, format="png", dpi=110)
        plot = embedded_image(buffer.getvalue())
    except ImportError:
        plot = None
    return write_page(
        "page_systems.html.jinja",
        path,
        title=title,
        command=command,
        decision=decision(comparison),
        sheets=sheets,
        plot=plot,
    )


def _estimate(figures: Mapping[str, Any] | None, name: str, sign: bool = False, strong: bool = False) -> Cell:
    if figures is None:
        return Cell(UNDEFINED)
    ends = [number(end, _DECIMALS, sign=sign) for end in figures["interval"]]
    text = number(figures[name], _DECIMALS, sign=sign)
    if UNDEFINED in ends:  # said, since a figure by itself looks sure
        return Cell(text if text == UNDEFINED else f"{text} ± {UNDEFINED}", None, strong and text != UNDEFINED)
    return Cell(text, (ends[0], ends[1]), strong)


def _needed(row: Mapping[str, Any], by: str) -> str:
    if any(map(is_undefined, row[by]["interval"])):
        return UNDEFINED
    if row["labels_needed"] is None:
        return "not with these rows"
    more = row["labels_needed"] - row["n_labels"]
    return f"{row['labels_needed']} ({f'+{more}' if more > 0 else 'enough'})"


def _about(text: str) -> str:
    return text if text == UNDEFINED else f"≈ {text}"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
