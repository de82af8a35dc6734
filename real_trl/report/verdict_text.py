# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a report says of figures that are worth nothing, and what always giving the same answer would have reached."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from real_trl.evaluation.registry import METRICS
from real_trl.evaluation.verdict import CRITERIA, CRITERIA_WITHOUT_LABELS, Fault
from real_trl.report.cells import Cell, interval_cell
from real_trl.report.notation import INFERENCES, MARK

NOTHING_FOUND = "Verdict: nothing found that makes these figures worth nothing."
FOUND = f"Verdict: figures marked {MARK} are worth nothing; bold is the best of the others."
NOTHING_FOUND_IN_SCORES = (
    "Verdict: nothing found that makes these scores worth nothing; how right they are, only labels can tell."
)
FOUND_IN_SCORES = "Verdict: these scores are worth nothing."
_CONSTANTS = {"mean": "the mean", "median": "the median"}


class Remark(NamedTuple):
    """A sentence of the verdict, and whether it makes the figures it is about worth nothing."""

    text: str
    severe: bool


def verdict(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Remark]:
    """
    The verdict on an evaluation, a sentence each: what it comes to, what was found (severe findings first), and what was looked for.

    Args:
        results (`Mapping`):
            Dataset → judge → result, as in `evaluation.json`.

    Returns:
        `list[Remark]`: Empty for an evaluation that was made without one.
    """
    judged = {name: {j: r for j, r in judges.items() if "verdict" in r} for name, judges in results.items()}
    if not any(judged.values()):
        return []
    about: dict[tuple[bool, str, str], dict[str, dict[str, None]]] = {}  # what → judges → inferences
    for dataset, judges in judged.items():
        for judge, result in judges.items():
            for fault in result["verdict"]:
                what = about.setdefault((fault["severe"], dataset, fault["text"]), {})
                what.setdefault(judge, {})[INFERENCES.get(fault["inference"], "")] = None
    remarks = []
    for (severe, dataset, text), by_judge in about.items():
        inferences = dict.fromkeys(each for names in by_judge.values() for each in names if each)
        subject = ", ".join(filter(None, [f"{dataset}: {' and '.join(by_judge)}", " and ".join(inferences)]))
        remarks.append(Remark(f"{MARK + ' ' if severe else ''}{subject}: {text}.", severe))
    remarks.sort(key=lambda remark: not remark.severe)
    severe = any(remark.severe for remark in remarks)
    return [Remark(FOUND if severe else NOTHING_FOUND, severe), *remarks, Remark(CRITERIA, False)]


def verdict_of_scores(faults: Sequence[Fault]) -> list[Remark]:
    """As [`verdict`], on scores that no labels stand beside."""
    remarks = []
    for fault in faults:
        inference = f"{INFERENCES[fault.inference]}: " if fault.inference else ""
        remarks.append(Remark(f"{inference}{fault.text}.", fault.severe))
    severe = any(fault.severe for fault in faults)
    head = Remark(FOUND_IN_SCORES if severe else NOTHING_FOUND_IN_SCORES, severe)
    return [head, *dict.fromkeys(remarks), Remark(CRITERIA_WITHOUT_LABELS, False)]


def baselines(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """
    What a constant answer reaches on one dataset: whom it is about → `baseline` of a result. Judges that were scored on the same rows
    have one, under an empty name.
    """
    found = {judge: result["baseline"] for judge, result in results.items() if result.get("baseline")}
    different = {repr(each) for each in found.values()}  # NaN equals nothing
    return {"": next(iter(found.values()))} if len(different) == 1 else found


def baseline_rows(results: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> list[list[Cell]]:
    """Rows of a table: who, which constant, its errors among `metrics`; what a constant has not is `n/a`."""
    rows = []
    for judge, constants in baselines(results).items():
        first = f"Always, {judge}" if judge else "Always"
        for name, label in _CONSTANTS.items():
            errors = [interval_cell(METRICS[metric], constants[name].get(metric), None) for metric in metrics]
            rows.append([Cell(first), Cell(label), *errors, Cell(str(constants[name]["n"]))])
            first = ""
    return rows
