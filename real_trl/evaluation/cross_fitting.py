# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Fitting a judge's calibration, its map and the margins of its intervals, on the same rows by cross-fitting, and showing what they are worth
on rows that neither was fitted on. Arrays only, no I/O.

Rows of a question stay together in every split. The map is the one of [`~real_trl.evaluation.recalibration.METHODS`] with the smallest
mean CRPS on left-out folds, and the intervals those of the two kinds that are narrower there; margins are taken from distributions that a
map fitted without their fold has made. All of this is done once on all rows, which gives the calibration, and once without each of five
folds, which shows it: every figure in `shown` is of rows that no part of what made it has seen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from real_trl.evaluation.conformal import KINDS, Intervals, fit_intervals, large_groups
from real_trl.evaluation.judge_calibration import Calibration, ScoredRows, figures_of
from real_trl.evaluation.recalibration import METHODS, Recalibration, crps, fit, grouped_folds, parts
from real_trl.evaluation.resampling import MIN_GROUPS

_FOLDS = 5
MIN_ROWS = 30
MIN_QUESTIONS = MIN_GROUPS  # fewer leave hardly any in the folds of folds, of which nothing can be fitted or shown


def fit_calibration(
    rows: ScoredRows,
    values: Sequence[float],
    *,
    coverage: float = 0.9,
    column: str | None = None,
    seed: int = 0,
    made_with: Mapping[str, Any] | None = None,
) -> Calibration:
    """
    Fit and show a calibration.

    Args:
        rows ([`ScoredRows`]):
            At least 30, of at least [`MIN_QUESTIONS`] questions.
        values (`Sequence[float]`):
            Values of the labels.
        coverage (`float`, *optional*, defaults to `0.9`):
            Probability with which an interval shall hold the human score.
        column (`str`, *optional*):
            Name of the groups of `rows`.
        seed (`int`, *optional*, defaults to `0`):
            Of the folds.

    Returns:
        [`Calibration`], with `shown`: `questions`, their number; `methods`, method → mean CRPS on left-out folds; `kinds`, kind → mean width
        there; and [`figures_of`] on rows that were left out of everything, where each of `groups` has `own`, whether it has a margin of
        its own.

    Raises:
        `ValueError`: if there are too few rows or questions, or a human score or probability is not finite.
    """
    n_questions = len(np.unique(rows.questions))
    check_enough(len(rows.targets), n_questions, "have a human score and a distribution of the judge")
    # By the numbers of rows alone, and the same in every part: what is shown of a group is of margins of its kind
    own_margin = None if rows.groups is None else large_groups(rows.groups, coverage)
    folds = grouped_folds(rows.questions, _FOLDS, seed)
    after, bounds = np.empty_like(rows.probabilities, dtype=np.float64), np.empty((len(rows.targets), 2))
    for others, own in parts(folds):
        recalibration, intervals, _ = _fit(rows.of(others), values, coverage, column, own_margin, seed + 1)
        left_out = rows.of(own)
        after[own] = recalibration.apply(left_out.probabilities, values)
        bounds[own] = intervals.of(after[own], values, left_out.groups)
    recalibration, intervals, compared = _fit(rows, values, coverage, column, own_margin, seed)

    figures = figures_of(rows, after, bounds, values) | {"questions": n_questions} | compared
    for each in figures.get("groups", ()):
        each["own"] = each["group"] in intervals.margins
    return Calibration(recalibration, intervals, figures, dict(made_with or {}))


def check_enough(n_rows: int, n_questions: int, what: str) -> None:
    """
    Whether so many rows do for a calibration.

    Args:
        what (`str`): What is true of these rows.

    Raises:
        `ValueError`: if there are too few rows or questions.
    """
    if n_rows < MIN_ROWS or n_questions < MIN_QUESTIONS:
        of = "" if n_questions == n_rows else f" of {n_questions} question{'s' * (n_questions != 1)}"
        raise ValueError(
            f"data: {n_rows} rows{of} {what}. Give at least {MIN_ROWS} rows, of at least {MIN_QUESTIONS} questions."
        )


def _fit(
    rows: ScoredRows,
    values: Sequence[float],
    coverage: float,
    column: str | None,
    own_margin: list[str] | None,
    seed: int,
) -> tuple[Recalibration, Intervals, dict[str, Any]]:
    """
    Map and margins, and what the choice between them was made by.

    Raises:
        `ValueError`: if a method has no finite CRPS, among which the smallest would be the first.
    """
    folds, made, scores = grouped_folds(rows.questions, _FOLDS, seed), {}, {}
    for method in METHODS:
        made[method] = np.empty_like(rows.probabilities, dtype=np.float64)
        for others, own in parts(folds):
            fitted = fit(method, rows.probabilities[others], rows.targets[others], values)
            made[method][own] = fitted.apply(rows.probabilities[own], values)
        scores[method] = float(crps(made[method], rows.targets, values).mean())
    if unknown := [name for name, score in scores.items() if not np.isfinite(score)]:
        raise ValueError(
            f"data: the CRPS of {', '.join(unknown)} on left-out rows is not finite: give every row a finite human score and probabilities."
        )
    method = min(scores, key=scores.__getitem__)
    given = made[method], rows.targets, values, coverage, column, rows.groups, own_margin
    candidates = {kind: fit_intervals(kind, *given) for kind in KINDS}
    widths = {
        kind: float(np.ptp(each.of(made[method], values, rows.groups), axis=1).mean())
        for kind, each in candidates.items()
    }
    kind = min(widths, key=widths.__getitem__)
    recalibration = fit(method, rows.probabilities, rows.targets, values)
    return recalibration, candidates[kind], {"methods": scores, "kinds": widths}
