# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""An evaluation as Markdown and LaTeX, its main table in the layout of the paper's Table 2."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from real_trl.evaluation.registry import METRICS, is_undefined, paper_metrics
from real_trl.methods import METHODS
from real_trl.report.cells import Cell, Sheet, is_doubtful, with_best
from real_trl.report.legend import expectation_text, legend
from real_trl.report.notation import INFERENCES
from real_trl.report.tables import Evaluation, all_sheets, check_evaluation
from real_trl.report.verdict_text import baselines, verdict

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    # What our own sentences hold beyond Latin letters, which pdfLaTeX does not know
    **{"ŷ": r"$\hat{y}$", "Σ": r"$\Sigma$", "π": r"$\pi$", "·": r"$\cdot$", "×": r"$\times$", "−": "$-$", "–": "--"},
    **{
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "ρ": r"$\rho$",
        "τ": r"$\tau$",
        "σ": r"$\sigma$",
        "…": r"\dots{}",
        "†": r"$^\dagger$",
    },
}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class PaperTable:
    """
    The paper's Table 2: a row a judge and inference, a block of `paper_metrics` a dataset, and their average.

    Attributes:
        blocks (`list[str]`): The datasets, and `"Average"` if there are several.
        rows (`list[tuple[str, str, str]]`): Judge, training (`SFT`, `RL`, `–` if unknown), inference.
        figures (`list[list[Cell]]`): Of each row, `len(paper_metrics())` cells a block; the best of a column are strong. The last row may be
            what always the same answer reaches.
    """

    blocks: list[str]
    rows: list[tuple[str, str, str]]
    figures: list[list[Cell]]


def paper_table(evaluation: Evaluation) -> PaperTable:
    """
    The figures of the paper's Table 2, with RMSE beside its three correlations.

    Returns:
        [`PaperTable`]: The average is over datasets, each with the same weight. It is `n/a` for a judge that lacks a
        dataset or has an undefined figure on one, and for errors on scales that differ between datasets.

    Raises:
        `ValueError`: If the evaluation holds no results.
    """
    check_evaluation(evaluation)
    results = evaluation["results"]
    judges = list(dict.fromkeys(judge for of_dataset in results.values() for judge in of_dataset))
    keys = [(judge, inference) for judge in judges for inference in INFERENCES]
    scales = {tuple(evaluation["datasets"][dataset].get("values", ())) for dataset in results}
    blocks = {dataset: {key: results[dataset].get(key[0], {}).get(key[1], {}) for key in keys} for dataset in results}
    doubtful = {
        dataset: {key for key in keys if is_doubtful(results[dataset].get(key[0], {}), key[1])} for dataset in results
    }
    # A constant answer has one figure for all judges, unless they were scored on different rows
    always = {dataset: baselines(results[dataset]).get("") for dataset in results}
    constants = {dataset: each["mean"] for dataset, each in always.items()} if all(always.values()) else {}
    if len(blocks) > 1:
        several = list(blocks.values())
        blocks["Average"] = {key: _average([block[key] for block in several], len(scales) == 1) for key in keys}
        doubtful["Average"] = set().union(*doubtful.values())
        if constants:
            constants["Average"] = _average(constants.values(), len(scales) == 1)

    columns = []
    for name, block in blocks.items():
        for metric in paper_metrics():
            printed = [METRICS[metric].print(block[key].get(metric)) for key in keys]
            cells = [Cell(text, doubtful=key in doubtful[name]) for text, key in zip(printed, keys, strict=True)]
            same = [Cell(METRICS[metric].print(constants[name].get(metric)))] if constants else []
            columns.append([*with_best(cells, metric), *same])
    rows = [(judge, _training(evaluation, judge), INFERENCES[inference]) for judge, inference in keys]
    rows += [("Always the mean of the labels", "–", "–")] if constants else []
    return PaperTable(list(blocks), rows, [list(row) for row in zip(*columns, strict=True)])


def latex_table(
    evaluation: Evaluation, underline: Collection[str] = (), caption: str | None = None, label: str = "tab:judges"
) -> str:
    r"""
    The paper's Table 2 as a LaTeX `table*` (needs `\usepackage{booktabs}`).

    Args:
        underline (`Collection[str]`, *optional*, defaults to none):
            Judges whose names are underlined; in the paper, the checkpoint that REAL started from.
        caption (`str`, *optional*):
            LaTeX of the caption. Default: what the figures are, the numbers of rows and how malformed answers count.
        label (`str`, *optional*, defaults to `"tab:judges"`):
            LaTeX label.

    Returns:
        `str`: Names escaped, best of a column bold.

    Raises:
        `ValueError`: If the evaluation holds no results.
    """
    table = paper_table(evaluation)
    width = len(paper_metrics())
    starts = [4 + width * index for index in range(len(table.blocks))]
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering\small\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption if caption is not None else _latex_caption(evaluation)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{lll{('r' * width + ' ') * len(table.blocks)}}}".replace(" }", "}"),
        r"\toprule",
        " & & & "
        + " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{latex_escape(name)}}}" for name in table.blocks)
        + r" \\",
        "".join(rf"\cmidrule(lr){{{start}-{start + width - 1}}}" for start in starts),
        "Method & Training & Inference & "
        + " & ".join(
            [METRICS[metric].latex or METRICS[metric].title for metric in paper_metrics()] * len(table.blocks)
        )
        + r" \\",
        r"\midrule",
    ]
    for (judge, training, inference), figures in zip(table.rows, table.figures, strict=True):
        name = rf"\underline{{{latex_escape(judge)}}}" if judge in underline else latex_escape(judge)
        cells = [
            rf"\textbf{{{latex_escape(cell.text)}}}" if cell.strong else latex_escape(cell.text + cell.mark)
            for cell in figures
        ]
        lines.append(" & ".join([name, training, inference, *cells]) + r" \\")
    remarks = [latex_escape(remark.text) for remark in verdict(evaluation["results"])]
    notes = [rf"\par\smallskip\parbox{{\textwidth}}{{\footnotesize {' '.join(remarks)}}}"] if remarks else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table*}", ""])


def markdown_report(evaluation: Evaluation, underline: Collection[str] = ()) -> str:
    """
    The evaluation as a Markdown document: the paper's Table 2, then every table with intervals, and how it was made.

    Args:
        underline (`Collection[str]`, *optional*, defaults to none):
            Judges whose names are underlined in the first table.

    Returns:
        `str`: GitHub's Markdown. Names and other text are escaped.

    Raises:
        `ValueError`: If the evaluation holds no results.
    """
    table = paper_table(evaluation)
    titles = [f"{block} {METRICS[metric].in_words}" for block in table.blocks for metric in paper_metrics()]
    rows = []
    for (judge, training, inference), figures in zip(table.rows, table.figures, strict=True):
        name = f"<ins>{markdown_escape(judge)}</ins>" if judge in underline else markdown_escape(judge)
        rows.append([name, training, inference, *map(_markdown_cell, figures)])
    header = [*("Method", "Training", "Inference"), *map(markdown_escape, titles)]
    parts = ["# Evaluation"] + (_markdown_table(header, rows, names=3) if rows else [])
    parts += [markdown_escape(legend(evaluation))]
    if remarks := markdown_verdict(evaluation["results"]):
        parts += ["## Verdict", remarks]
    for sheet in all_sheets(evaluation):
        parts += markdown_sheet(sheet)
    parts += ["## How it was made"]
    if evaluation.get("command"):
        parts += [_code_block(evaluation["command"])]
    models = [[judge, str(about.get("model", ""))] for judge, about in evaluation.get("judges", {}).items()]
    versions = [[name, str(version)] for name, version in evaluation.get("versions", {}).items()]
    for header, rows in ((["Judge", "Model"], models), (["Package", "Version"], versions)):
        if rows:
            parts += _markdown_table(header, [list(map(markdown_escape, row)) for row in rows], names=2)
    return "\n\n".join(parts) + "\n"


def markdown_verdict(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The verdict on results (dataset → judge → result) as a list; what makes figures worth nothing is bold. Empty without one."""
    lines = []
    for remark in verdict(results):
        text = markdown_escape(remark.text)
        lines.append(f"- **{text}**" if remark.severe else f"- {text}")
    return "\n".join(lines)


def markdown_sheet(sheet: Sheet) -> list[str]:
    """A table with its title and notes, in blocks."""
    rows = [[_markdown_cell(cell) for cell in row] for row in sheet.rows]
    header = [markdown_escape(column.in_words) for column in sheet.columns]
    names = sum(not column.figures for column in sheet.columns)
    notes = ["\n".join(f"- {markdown_escape(note)}" for note in sheet.notes)] if sheet.notes else []
    return [f"## {markdown_escape(sheet.title)}", *_markdown_table(header, rows, names), *notes]


def latex_escape(text: str) -> str:
    """`text` with LaTeX's special characters escaped, on one line."""
    return "".join(_LATEX.get(char, char) for char in " ".join(str(text).split()))


def markdown_escape(text: str) -> str:
    """`text` with Markdown's and HTML's special characters escaped, on one line; it becomes no link, and holds no control character."""
    return re.sub(r"([\\`*_\[\]<>&|#~$@]|:(?=//)|(?<=www)\.)", r"\\\1", plain_line(text))


def markdown_code(text: str) -> str:
    """`text` as code, on one line; what would end the code, or a cell of a table, is escaped text instead."""
    line = plain_line(text)
    return f"`{line}`" if line and not re.search(r"[`|]", line) else markdown_escape(line)


def plain_line(text: object) -> str:
    """`text` on one line, with U+FFFD for each control character: of terminals, of the direction of writing, and lone surrogates."""
    return _CONTROL.sub("\ufffd", " ".join(str(text).split()))


def _average(figures: Iterable[dict[str, Any]], same_scale: bool) -> dict[str, float]:
    figures = list(figures)
    average = {}
    for metric in paper_metrics():
        values = [figure.get(metric) for figure in figures]
        if values and not any(map(is_undefined, values)) and (same_scale or METRICS[metric].factor != 1):
            average[metric] = math.fsum(values) / len(values)
    return average


def _training(evaluation: Evaluation, judge: str) -> str:
    method = (evaluation.get("judges", {}).get(judge, {}).get("judge") or {}).get("method")
    if method is None:  # of a judge that does not say how it was made, nothing is claimed
        return "–"
    return "SFT" if method in METHODS and METHODS[method].parts is None else "RL"


def _latex_caption(evaluation: Evaluation) -> str:
    sizes = ", ".join(f"{name} {size['n_rows']}" for name, size in evaluation["datasets"].items())
    handlings = {result["malformed_handling"] for of in evaluation["results"].values() for result in of.values()}
    text = f"Pearson ($r$), Spearman ($\\rho$), Kendall ($\\tau$), $\\times 100$, and RMSE in score units. Rows: {latex_escape(sizes)}. "
    text += f"Malformed answers: {latex_escape(', '.join(sorted(handlings)))}. Best of each column in bold. "
    return (text + latex_escape(expectation_text(evaluation))).rstrip()


def _markdown_cell(cell: Cell) -> str:
    text = markdown_escape(cell.text) + cell.mark
    if cell.strong:
        text = f"**{text}**"
    return f"{text} [{', '.join(cell.interval)}]" if cell.interval else text


def _markdown_table(header: list[str], rows: list[list[str]], names: int) -> list[str]:
    """One block: the first `names` columns to the left, figures to the right."""
    rule = [":--" if index < names else "--:" for index in range(len(header))]
    return ["\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))]


def _code_block(text: str) -> str:
    """`text` in a fence longer than any run of backticks within."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
