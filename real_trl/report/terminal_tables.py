# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""An evaluation in the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from real_trl.report.cells import Cell, Sheet
from real_trl.report.legend import legend
from real_trl.report.tables import Evaluation, all_sheets
from real_trl.report.verdict_text import Remark, verdict
from real_trl.text.shown import printable


def evaluation_table(evaluation: Evaluation, breakdown: Iterable[str] = ()) -> "EvaluationTable":
    """
    The tables of an evaluation, for `rich.console.Console.print`: judges on every dataset, in either inference, with
    intervals; what always the same answer reaches; how malformed answers were counted; the agreement between raters; paired
    comparisons; probes; and a verdict: which figures are worth nothing, and why.

    Args:
        breakdown (`Iterable[str]`, *optional*, defaults to none):
            Columns whose breakdowns are shown, on the datasets that have them.

    Returns:
        [`EvaluationTable`]: Fits itself to the width of the terminal: where that is narrow, columns are left out, and
        the caption names them. The best value of a column is bold; figures that are worth nothing are red, and never bold.

    Raises:
        `ValueError`: If the evaluation holds no results, or no breakdown by one of the columns was made.
    """
    sheets = all_sheets(evaluation, breakdown, brief=True)
    return EvaluationTable(sheets, legend(evaluation), verdict(evaluation["results"]))


class EvaluationTable:
    """
    Sheets, one below the other, a legend and the verdict; a renderable of rich.

    Args:
        sheets (`Sequence[Sheet]`): The tables.
        legend (`str`): What the titles mean, printed once at the end.
        verdict (`Sequence[Remark]`, *optional*): What the figures are worth, printed last.
    """

    def __init__(self, sheets: Sequence[Sheet], legend: str, verdict: Sequence[Remark] = ()):
        self.sheets, self.legend, self.verdict = sheets, legend, verdict

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for sheet in self.sheets:
            yield Text(sheet.title, style="bold")
            table, left_out = _fitting_table(sheet, console, options)
            yield table
            if left_out:
                yield Text(f"Left out at this width: {', '.join(left_out)}.", style="dim")
            for note in sheet.notes:
                yield Text(note, style="dim")
            yield Text()
        yield Text(self.legend, style="dim italic")
        yield from verdict_texts(self.verdict)


def verdict_texts(remarks: Sequence[Remark]) -> Iterator[Text]:
    """The verdict, line by line: what makes figures worth nothing in red, the criteria at its end dim."""
    for place, remark in enumerate(remarks):
        style = "bold" if place == 0 else "dim" if place == len(remarks) - 1 else ""
        yield Text(remark.text, style=f"{style} red".strip() if remark.severe else style)


def _fitting_table(sheet: Sheet, console: Console, options: ConsoleOptions) -> tuple[Table, list[str]]:
    """The table with as many columns as fit, and the titles of the others."""
    ranks = sorted({column.rank for column in sheet.columns if column.rank}, reverse=True)
    left_out: list[str] = []
    for limit in [*ranks, 0]:
        kept = [index for index, column in enumerate(sheet.columns) if column.rank <= limit]
        table = _rich_table(sheet, kept)
        if Measurement.get(console, options.update(max_width=10_000), table).maximum <= options.max_width:
            break
    left_out = [column.title for index, column in enumerate(sheet.columns) if index not in kept]
    return table, left_out


def _rich_table(sheet: Sheet, kept: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for index in kept:
        column = sheet.columns[index]
        # A name may wrap where it must; a figure never does
        table.add_column(
            Text(column.title), justify="right" if column.figures else "left", no_wrap=column.figures, overflow="fold"
        )
    in_blocks = any(not row[0].text for row in sheet.rows)  # named in their first rows, with a gap between them
    for row, following in zip_longest(sheet.rows, sheet.rows[1:]):
        is_last = in_blocks and following is not None and following[0].text != ""
        table.add_row(*(_text(row[index]) for index in kept), end_section=is_last)
    return table


def _text(cell: Cell) -> Text:
    text = Text(printable(cell.text) + cell.mark, style="bold" if cell.strong else "red" if cell.doubtful else "")
    if cell.interval:
        low, high = cell.interval
        signed = low[0] in "+-" or high[0] in "+-"  # a dash beside a sign would be read as one
        text.append(f"\n{low}{' to ' if signed else '–'}{high}", style="not bold dim")
    return text
