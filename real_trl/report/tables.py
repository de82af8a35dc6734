# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of an evaluation."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from real_trl.evaluation.registry import (
    CALIBRATION,
    METRICS,
    UNDEFINED,
    core_metrics,
    is_undefined,
    number,
    paper_metrics,
)
from real_trl.report.cells import (
    Cell,
    Column,
    Sheet,
    interval_cell,
    is_doubtful,
    metric_cell,
    metric_cells,
    used_metrics,
)
from real_trl.report.choices import choice_sheets
from real_trl.report.notation import CALIBRATION_LEGEND, CONFIDENCE, INFERENCES, MARK, malformed_text, p_value
from real_trl.report.people import people_sheet
from real_trl.report.verdict_text import baseline_rows

Evaluation = Mapping[str, Any]
_CEILINGS = {"leave_one_out": "Others", "between": "Another"}  # whom a rater is compared with


def check_evaluation(evaluation: Evaluation) -> None:
    """`ValueError` if there is nothing to report."""
    if evaluation.get("choices") and not evaluation.get("results"):
        return
    for key in ("datasets", "results"):
        if not evaluation.get(key):
            raise ValueError(f"`evaluation` has no {key!r}: pass what `evaluation.json` holds.")
    for dataset, results in evaluation["results"].items():
        if dataset not in evaluation["datasets"] or not results:
            raise ValueError(
                f"`evaluation` lacks {'the results' if not results else 'the size and scale'} of dataset {dataset!r}: "
                "evaluate at least one judge on it, and list it in 'datasets'."
            )


def results_sheet(evaluation: Evaluation, dataset: str) -> Sheet:
    """Judges on one dataset, two rows each (standard decoding, RAIL), intervals, and below: malformed answers, ceiling, notes."""
    results = evaluation["results"][dataset]
    rows = [(judge, inference) for judge in results for inference in INFERENCES]
    metrics = used_metrics(results[judge][inference] for judge, inference in rows)
    columns = [Column("Judge", figures=False), Column("Inference", figures=False)]
    cells = [
        [Cell(judge if inference == "standard" else ""), Cell(INFERENCES[inference])] for judge, inference in rows
    ]
    for metric in metrics:
        columns.append(Column.of(metric))
        column = metric_cells([(results[judge], inference) for judge, inference in rows], metric)
        for row, cell in zip(cells, column, strict=True):
            row.append(cell)
    columns.append(Column("n", rank=1))
    for row, (judge, inference) in zip(cells, rows, strict=True):
        row.append(Cell(str(results[judge][inference]["n"])))

    notes = [f"Malformed answers, {judge}: {malformed_text(result)}." for judge, result in results.items()]
    notes += [f"{base} is what {judge} was trained from." for judge, base in base_models(evaluation).items()]
    cells += baseline_rows(results, metrics)
    ceiling = evaluation.get("ceiling", {}).get(dataset)
    if ceiling:
        for place, (what, label) in enumerate(_CEILINGS.items()):
            figures = [metric_cell(ceiling, what, metric) for metric in metrics]
            cells.append([Cell("" if place else "Raters"), Cell(label), *figures, Cell(str(ceiling["n_rows"]))])
        notes.append(
            f"Raters, the ceiling: one of {ceiling['n_raters']} raters against the mean of the others, and against one other."
        )
        notes += [f"Note, raters: {note}" for note in ceiling.get("notes", ())]
    mapped = evaluation["datasets"][dataset].get("scale_map")
    notes += [*([mapped] if mapped else []), *_notes(results)]
    return Sheet(dataset_title(evaluation, dataset), columns, cells, notes)


def base_models(evaluation: Evaluation) -> dict[str, str]:
    """Judge → the one of the others that its training started from, where that was evaluated too."""
    judges = evaluation.get("judges", {})
    return {name: about["base"] for name, about in judges.items() if about.get("base") in judges}


def comparison_sheet(evaluation: Evaluation, dataset: str, brief: bool = False) -> Sheet | None:
    """Paired differences between judges on one dataset, a row a metric (`brief`: some); `None` if nothing was compared."""
    comparisons = evaluation.get("comparisons", {}).get(dataset, [])
    adjusted = len(comparisons) > 1 and any("p_adjusted" in row for row in _compared(comparisons))
    columns = [Column(title, figures=False) for title in ("A − B", "Inference", "Metric")]
    columns += [Column("Difference"), Column(f"{CONFIDENCE} interval"), Column("p")]
    columns += [Column("p adjusted")] if adjusted else []
    cells = []
    for comparison in comparisons:
        pair = f"{comparison['a']} − {comparison['b']}"
        for inference, label in INFERENCES.items():
            both = (evaluation["results"].get(dataset, {}).get(comparison[side], {}) for side in ("a", "b"))
            doubtful = any(is_doubtful(result, inference) for result in both)
            for metric, row in _by_metric(comparison.get(inference, {})):
                if brief and metric not in paper_metrics():
                    continue
                spec = METRICS[metric]
                p = row.get("p_adjusted", row["p_value"])
                low, high = (spec.print(end, sign=True) for end in row.get("interval") or (None, None))
                line = [Cell(pair), Cell(label), Cell(spec.in_words)]
                strong = not is_undefined(p) and p < 0.05 and not doubtful
                line.append(Cell(spec.print(row["difference"], sign=True), strong=strong, doubtful=doubtful))
                line.append(Cell(UNDEFINED if UNDEFINED in (low, high) else f"{low} to {high}"))
                line.append(Cell(p_value(row["p_value"])))
                cells.append([*line, Cell(p_value(p))] if adjusted else line)
                pair = label = ""
    if not cells:
        return None
    notes = [f"Paired on the same rows, resampled by group. Bold: {'adjusted ' if adjusted else ''}p < 0.05."]
    if adjusted:
        notes.append("p adjusted: by Holm's procedure, for the number of pairs of judges in one metric and inference.")
    if brief:
        notes.append("The reports have every metric.")
    notes += _notes({f"{each['a']} − {each['b']}": each for each in comparisons})
    return Sheet(f"{dataset}: paired differences", columns, cells, notes)


def calibration_sheet(evaluation: Evaluation, dataset: str) -> Sheet | None:
    """How far the probabilities of the labels can be believed; `None` where that was not computed."""
    results = {judge: result for judge, result in evaluation["results"][dataset].items() if result.get("calibration")}
    if not results:
        return None
    columns = [Column("Judge", figures=False), *(Column(spec.title) for spec in CALIBRATION.values()), Column("n")]
    cells = []
    for judge, result in results.items():
        figures, intervals = result["calibration"], result.get("intervals", {}).get("calibration", {})
        row = [interval_cell(spec, figures.get(name), intervals.get(name)) for name, spec in CALIBRATION.items()]
        cells.append([Cell(judge), *row, Cell(str(figures["n"]))])
    return Sheet(
        f"{dataset}: calibration of the distribution over labels", columns, cells, (CALIBRATION_LEGEND,), folded=True
    )


def calibrated_sheet(evaluation: Evaluation, dataset: str) -> Sheet | None:
    """What the calibrations of judges are worth; `None` where no judge has one."""
    found = {
        judge: result["calibrated"]
        for judge, result in evaluation["results"][dataset].items()
        if result.get("calibrated")
    }
    if not found:
        return None
    names = ("CRPS", "calibrated", "RMSE", "calibrated", "Inside", "asked", "Width", "n")
    cells, notes = (
        [],
        ["Of the calibrated scores and their intervals; every other table is of the judge's own scores."],
    )
    for judge, figures in found.items():
        low, high = (f"{100 * end:.1f}" for end in figures.get("by_question", figures["interval"]))
        texts = [f"{each:.3f}" for name in ("crps", "rmse") for each in figures[name]]
        inside = Cell(f"{100 * figures['coverage']:.1f}", (low, high))
        texts_after = [f"{100 * figures['asked']:.4g}", f"{figures['width']:.2f}", str(figures["rows"])]
        cells.append([Cell(judge), *map(Cell, texts), inside, *map(Cell, texts_after)])
        if figures.get("fitted_here"):
            notes.append(
                f"{judge} was calibrated on these very rows, which shows more than it is worth; `real-trl calibrate` said what it is."
            )
    title = f"{dataset}: calibrated scores, and the human scores (%) inside their intervals"
    return Sheet(title, [Column("Judge", figures=False), *map(Column, names)], cells, notes)


def convention_sheet(evaluation: Evaluation, dataset: str) -> Sheet | None:
    """The figures under each way to count malformed answers; `None` if none were malformed or they were not computed."""
    judges = evaluation.get("malformed_conventions", {}).get(dataset, {})
    results = evaluation["results"][dataset]
    judges = {judge: by for judge, by in judges.items() if judge in results and results[judge]["malformed_rate"]}
    if not judges:
        return None
    columns = [Column("Judge", figures=False), Column("Malformed", figures=False), Column("Inference", figures=False)]
    columns += [*map(Column.of, core_metrics()), Column("n")]
    cells = []
    for judge, conventions in judges.items():
        for convention, result in conventions.items():
            for inference, label in INFERENCES.items():
                figures = [Cell(METRICS[metric].print(result[inference].get(metric))) for metric in core_metrics()]
                cells.append([*map(Cell, (judge, convention, label)), *figures, Cell(str(result[inference]["n"]))])
                judge = convention = ""  # named in the first of their rows
    notes = ["force: as read at a forced marker. drop: left out. strict: counted as wrong."]
    if any(cell.text == UNDEFINED for row in cells for cell in row):
        notes.append(f"{UNDEFINED}: no rows are left, or all predictions are equal.")
    return Sheet(f"{dataset}: ways to count malformed answers", columns, cells, notes, folded=True)


def breakdown_sheet(evaluation: Evaluation, dataset: str, column: str, inference: str = "rail") -> Sheet:
    """One dataset by the values of a column; `ValueError` if that breakdown was not made."""
    made = evaluation.get("breakdown", {}).get(dataset, {})
    if column not in made:
        known = f"made were {', '.join(map(repr, made))}" if made else "none was made"
        raise ValueError(f"No breakdown of {dataset!r} by {column!r}: {known}. Evaluate with that column.")
    results = [(value, judge, result) for value, judges in made[column].items() for judge, result in judges.items()]
    metrics = used_metrics(result[inference] for _, _, result in results)
    columns = [Column(column, figures=False), Column("Judge", figures=False)]
    columns += [*map(Column.of, metrics), Column("n")]
    cells, previous = [], None
    for value, judge, result in results:
        doubtful = is_doubtful(result, inference)
        figures = [replace(metric_cell(result, inference, metric), doubtful=doubtful) for metric in metrics]
        first = Cell("" if value == previous else str(value))
        cells.append([first, Cell(judge), *figures, Cell(str(result[inference]["n"]))])
        previous = value
    notes = _notes({f"{value}, {judge}": result for value, judge, result in results})
    if any(cell.mark for row in cells for cell in row):
        notes.append(f"{MARK} worth nothing in these rows, by the criteria of the verdict.")
    return Sheet(f"{dataset} by {column}, {INFERENCES[inference]}", columns, cells, notes, folded=True)


def probe_sheet(evaluation: Evaluation, dataset: str) -> Sheet | None:
    """How far responses that try to sway the judge moved its expected score; `None` without probes."""
    judges = evaluation.get("probes", {}).get(dataset)
    if not judges:
        return None
    columns = [Column("Judge", figures=False), Column("Probe", figures=False), Column("Shift of ŷ")]
    columns += [Column("Raised"), Column("Lowered"), Column("Malformed", rank=2), Column("n", rank=1)]
    columns += [Column("Wanted", figures=False), Column("Found", figures=False)]
    cells = []
    notes = ["Shift: mean ŷ of the altered minus that of the original response, in score units."]
    for judge, probes in judges.items():
        notes += [f"{judge}, {probe}: {note}" for probe, result in probes.items() for note in result.get("notes", ())]
        for probe, result in probes.items():
            shift = interval_cell(METRICS["mae"], result["mean_shift"], result.get("interval"), sign=True)
            shares = [_percent(result.get(key)) for key in ("share_raised", "share_lowered", "malformed_rate")]
            held = _found(result)
            texts = [*shares, str(result["n"]), result.get("expected", ""), held]
            cells.append(
                [
                    Cell(judge),
                    Cell(probe),
                    shift,
                    *(Cell(text, strong=text in ("swayed", "not lowered")) for text in texts),
                ]
            )
            judge = ""
    return Sheet(f"{dataset}: responses that try to sway the judge", columns, cells, notes)


def all_sheets(evaluation: Evaluation, breakdown: Iterable[str] | None = None, brief: bool = False) -> list[Sheet]:
    """
    Every table of an evaluation, dataset by dataset.

    Args:
        breakdown (`Iterable[str]`, *optional*):
            Columns whose breakdowns are shown where they were made; default: all.
        brief (`bool`, *optional*, defaults to `False`):
            Whether to compare judges in the metrics of the paper's Table 2 and RMSE only, and to leave out calibration and the
            other ways to count malformed answers.

    Raises:
        `ValueError`: If the evaluation holds no results, or no dataset has a breakdown by one of the columns.
    """
    check_evaluation(evaluation)
    made = evaluation.get("breakdown", {})
    wanted = None if breakdown is None else list(breakdown)
    compared = {column for choices in evaluation.get("choices", {}).values() for column in choices["breakdown"]}
    for column in wanted or ():
        if column not in compared and not any(column in columns for columns in made.values()):
            breakdown_sheet(evaluation, next(iter(evaluation["results"])), column)  # raises, and names what was made
    sheets: list[Sheet | None] = []
    for dataset in evaluation["results"]:
        sheets += [results_sheet(evaluation, dataset), people_sheet(evaluation, dataset)]
        sheets += [comparison_sheet(evaluation, dataset, brief)]
        further = (probe_sheet,) if brief else (calibration_sheet, convention_sheet, probe_sheet)
        further = (calibrated_sheet, *further)
        sheets += [make(evaluation, dataset) for make in further]
        columns = [column for column in made.get(dataset, {}) if wanted is None or column in wanted]
        sheets += [breakdown_sheet(evaluation, dataset, column) for column in columns]
    for name, choices in evaluation.get("choices", {}).items():
        sheets += choice_sheets(choices, name, breakdown=not brief)
    return [sheet for sheet in sheets if sheet is not None]


def dataset_title(evaluation: Evaluation, dataset: str) -> str:
    """`mt_bench: 320 rows, 80 groups`."""
    size = evaluation["datasets"][dataset]
    return f"{dataset}: {size['n_rows']} rows, {size['n_groups']} groups"


def _compared(comparisons: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    return (row for each in comparisons for inference in INFERENCES for _, row in _by_metric(each.get(inference, {})))


def _by_metric(rows: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(metric, rows[metric]) for metric in METRICS if metric in rows]


def _notes(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Notes on results, each said once: `Note, judge A and judge B, standard and rail: why`."""
    said: dict[str, dict[str, dict[str, None]]] = {}  # why → inference or "" → judges
    for name, result in results.items():
        for note in result.get("notes", ()):
            inference, _, why = note.partition(": ")
            if inference not in INFERENCES:
                inference, why = "", note
            said.setdefault(why, {}).setdefault(inference, {})[name] = None
    notes = []
    for why, by_inference in said.items():
        judges = list(dict.fromkeys(name for names in by_inference.values() for name in names))
        if len({tuple(names) for names in by_inference.values()}) == 1:
            named = "all" if len(judges) == len(results) > 2 else " and ".join(judges)
            about = [named, " and ".join(filter(None, by_inference))]
            notes.append(f"Note, {', '.join(filter(None, about))}: {why}")
        else:
            notes += [
                f"Note, {', '.join(filter(None, [' and '.join(names), inference]))}: {why}"
                for inference, names in by_inference.items()
            ]
    return notes


def _percent(value: float | None) -> str:
    return UNDEFINED if is_undefined(value) else f"{number(value, 1, 100)}%"


def _found(result: Mapping[str, Any]) -> str:
    """What a probe showed. That nothing was shown is no proof: the interval may be wide."""
    if result.get("as_expected") is None:
        return UNDEFINED
    if result.get("expected") == "down":
        return "lowered" if result["as_expected"] else "not lowered"
    return "not shown" if result["as_expected"] else "swayed"
