# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What RESULTS.md shows of the tables of docs/results/, in Markdown."""

from experiments.analysis import Figure, Reading, Results
from experiments.findings import PAPER, planned_seeds
from experiments.real_scores_data import TASKS
from experiments.real_scores_tables import READINGS, SEEDED, RealScores
from experiments.tables import METHODS, markdown, with_interval

_TRAININGS = 5  # folds or seeds that are planned
_RAFT, _RIDGE, _PERSON = "**RAFT, RAIL**", "TF-IDF and ridge", "the other grader"
_TRAINED = (_RAFT, "regression head", "SFT, decoded")
# What a reader would use in the place of the second
_PAIRS = [
    (_RAFT, _RIDGE),
    (_RAFT, "regression head"),
    (_RAFT, "SFT, decoded"),
    (_RAFT, "RAFT, decoded"),
    (_RAFT, _PERSON),
    (_RIDGE, _PERSON),
]


def brief_methods(results: Results) -> str:
    """The methods of the paper out of domain: the decoded score and the expected one."""
    rows = []
    for run, title in METHODS.items():
        if not results.has(run):
            continue
        seeds = planned_seeds(results, run)
        cells = [with_interval(results.figure(Reading(run, inference), seeds)) for inference in ("sampled", "RAIL")]
        cells.append(f"{results.per_seed(Reading(run, metric='rmse'), seeds).mean():.3f}")
        rows.append([f"**{title}**" if run == "real" else title, *cells])
    return markdown(["method, out of domain", "decoded score: r", "RAIL: r", "RAIL: RMSE"], rows)


def verdicts(results: Results) -> str:
    """How many of the paper's findings are reproduced, in a sentence."""
    found, sized, inside = {"reproduced": 0, "not shown": 0, "opposite": 0}, 0, 0
    for finding in PAPER:
        figure = None if finding.added else finding.measured(results)
        if figure is None:
            continue
        found[finding.verdict(figure)] += 1
        if finding.paper is not None:
            sized += 1
            inside += finding.factor * figure.low <= finding.paper <= finding.factor * figure.high
    return (
        f"Of {sum(found.values())} findings of the paper that were tested, {found['reproduced']} are reproduced in their sign, {found['not shown']} are not shown, and of "
        f"{found['opposite'] or 'none'} the opposite is shown. Of the {sized} that have a size in the paper, the interval holds it in {inside}."
    )


def real_scores_state(scores: RealScores) -> str:
    """How much of the grid is there, in a sentence."""
    rows = [scores.rows(task, READINGS[name]) for task in TASKS for name in _TRAINED]
    planned, there = _TRAININGS * len(rows), sum(0 if each is None else each["fold"].nunique() for each in rows)
    if there >= planned:
        return f"All {planned} trainings with all labels are there."
    return (
        f"**The grid is still being filled:** {there} of {planned} trainings with all labels are there. The tables say how many of five a row has (–: none yet), and the interval of a single "
        "training is that of its test rows alone: a first look, no result."
    )


def real_scores_verdicts(scores: RealScores) -> str:
    """At all labels, what is shown of methods that a reader would choose between, and from how many trainings."""
    table = []
    for task, title in TASKS.items():
        for a, b in _PAIRS:
            pair = READINGS[a], READINGS[b]
            r, rmse = (scores.difference(task, *pair, metric) for metric in ("pearson", "rmse"))
            if r is None or rmse is None:
                continue
            folds = [set(scores.rows(task, each)["fold"]) for each in pair]
            count = len(rmse.per_seed) if task in SEEDED else len(folds[0] & folds[1])
            names = f"{title}: {a} − {b}".replace("**", "")
            cells = [f"{count} of {_TRAININGS}", with_interval(r, sign=True), _verdict(r)]
            table.append([names, *cells, with_interval(rmse, 1, 3, sign=True), _verdict(rmse, lower_is_better=True)])
    return markdown(["all labels", "trainings", "r", "", "RMSE", ""], table)


def _verdict(figure: Figure, lower_is_better: bool = False) -> str:
    if figure.low <= 0 <= figure.high:
        return "not shown"
    return "better" if (figure.low > 0) != lower_is_better else "worse"
