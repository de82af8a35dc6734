# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of an evaluation on compared responses: pairs, and best of several."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from real_trl.data.choices import TIES_SUBSET
from real_trl.evaluation.best_of import AVERAGE, best_of_metric
from real_trl.evaluation.pairs import FOLDS, PAIR_METRICS
from real_trl.evaluation.registry import UNDEFINED, Metric, number
from real_trl.report.cells import Cell, Column, Sheet, interval_cell
from real_trl.report.notation import CONFIDENCE, INFERENCES, malformed_text

_PAIR_NOTES = {
    "accuracy": "Acc.: pairs in which the better response, by people, has the higher score, equal scores counting ½, %; human ties left out.",
    "ties": "Equal: pairs with equal scores, %.",
    "three_way": f"3-way: better, worse or tie, %; a tie where scores differ by less than a threshold, in {FOLDS} parts of the groups, each "
    "counted with the threshold that the others gave.",
    "log_loss": "Log loss: of P(A ≻ B), from both distributions, nats; 0.693 for always ½.",
}


def choice_sheets(choices: Mapping[str, Any], name: str, breakdown: bool = True) -> list[Sheet]:
    """The tables of one dataset of choices, as [`~real_trl.evaluation.choices.assemble_choices`] has it."""
    results, is_pairs = choices["results"], choices["kind"] == "pairs"
    found = [name for result in results.values() for each in INFERENCES for name in result["intervals"].get(each, ())]
    names = list(dict.fromkeys(found))
    if is_pairs:
        metrics = {name: metric for name, metric in PAIR_METRICS.items() if name in names}
    else:
        metrics = {name: best_of_metric(name) for name in sorted(names, key=lambda each: each == AVERAGE)}
    sheet = _sheet(_title(choices, name), ["Judge"], [([judge], result) for judge, result in results.items()], metrics)
    sheets = [replace(sheet, notes=list(_notes(results, is_pairs, metrics)))]
    for column, values in choices["breakdown"].items() if breakdown else ():
        cells = [([value, judge], result) for value, judges in values.items() for judge, result in judges.items()]
        sheets.append(_sheet(f"{name} by {column}", [column, "Judge"], cells, metrics, folded=True))
    return sheets


def _title(choices: Mapping[str, Any], name: str) -> str:
    what = "pairs" if choices["kind"] == "pairs" else "questions"
    return (
        f"{name}: {choices['n_questions']} {what} of {choices['n_responses']} responses, {choices['n_groups']} groups"
    )


def _sheet(
    title: str,
    names: list[str],
    results: list[tuple[list[str], Mapping[str, Any]]],
    metrics: Mapping[str, Metric],
    folded: bool = False,
) -> Sheet:
    columns = [Column(name, figures=False) for name in (*names, "Inference")]
    columns += [Column(metric.title) for metric in metrics.values()] + [Column("n", rank=1)]
    cells = []
    for named, result in results:
        for inference, label in INFERENCES.items():
            figures = [
                interval_cell(metric, result[inference][name], result["intervals"][inference].get(name))
                if name in result[inference]
                else Cell("")
                for name, metric in metrics.items()
            ]
            first = inference == next(iter(INFERENCES))
            texts = [Cell(text if first else "") for text in named]
            cells.append([*texts, Cell(label), *figures, Cell(str(result[inference]["n"]))])
    return Sheet(title, columns, cells, (), folded)


def _notes(results: Mapping[str, Mapping[str, Any]], is_pairs: bool, metrics: Mapping[str, Metric]) -> Iterator[str]:
    if is_pairs:
        yield " ".join(_PAIR_NOTES[name] for name in metrics)
    else:
        yield (
            f"Score × 100 as RewardBench 2 counts it: 1/k where k responses have the highest score and the right one is among them"
            f"{', and its weighted score of the Ties' * any(name.lower() == TIES_SUBSET for name in metrics)}; Average: of the subsets."
        )
    yield f"Ranges: {CONFIDENCE} bootstrap intervals, whole groups resampled."
    for judge, result in results.items():
        yield f"Malformed answers, {judge}: {malformed_text(dict(result))}."
        left = [
            f"{result[key]} of {result['n_questions']} {'pairs' if is_pairs else 'questions'} {why}"
            for key, why in (
                ("n_unscored_questions", "have an unscored response"),
                ("n_dropped_questions", "have a malformed one"),
            )
            if result[key]
        ]
        if left:
            yield f"Left out, {judge}: {', '.join(left)}."
        for inference, threshold in result.get("tie_threshold", {}).items():
            fitted = UNDEFINED if threshold is None else number(threshold, 3)
            yield f"Threshold for ties, {judge}, {INFERENCES[inference]}: {fitted} (fitted on all {result[inference]['n']} pairs)."
        yield from (f"Note, {judge}: {note}" for note in dict.fromkeys(result["notes"]))
