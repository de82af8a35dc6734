# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A judge's calibration: the map of its distributions and the margins of its intervals, both fitted on the same rows by cross-fitting, and
what they are worth on rows that neither was fitted on. Arrays only, no I/O.

Rows of a question stay together in every split. The map is the one of [`~real_trl.evaluation.recalibration.METHODS`] with the smallest
mean CRPS on left-out folds, and the intervals those of the two kinds that are narrower there; margins are taken from distributions that a
map fitted without their fold has made. All of this is done once on all rows, which gives the calibration, and once without each of five
folds, which shows it: every figure in `shown` is of rows that no part of what made it has seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from scipy import stats

from real_trl.evaluation.conformal import KINDS, Intervals, fit_intervals
from real_trl.evaluation.recalibration import METHODS, Recalibration, crps, fit, grouped_folds, means, parts

_FOLDS = 5
MIN_ROWS = 30


@dataclass(frozen=True)
class Calibration:
    """
    What is saved with a judge.

    Args:
        recalibration ([`Recalibration`]):
            The map.
        intervals ([`Intervals`]):
            The margins.
        shown (`Mapping`, *optional*):
            What it reached on rows that were left out, see [`fit_calibration`].
        made_with (`Mapping`, *optional*):
            The rows that it was fitted on, and how the judge read them.
    """

    recalibration: Recalibration
    intervals: Intervals
    shown: Mapping[str, Any] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)

    def stored(self) -> dict[str, Any]:
        """As JSON. An infinite margin is null there."""
        stored = asdict(self)
        margins = {name: _finite(margin) for name, margin in self.intervals.margins.items()}
        stored["intervals"] |= {"margin": _finite(self.intervals.margin), "margins": margins}
        knots = {name: list(stored["recalibration"][name]) for name in ("mean_from", "mean_to")}
        stored["recalibration"] |= knots
        return stored

    @classmethod
    def read(cls, stored: Any) -> "Calibration":
        """
        From JSON.

        Raises:
            `ValueError`: naming the entry, if it is none.
        """
        _only(stored, "calibration", cls)
        recalibration = _only(stored.get("recalibration"), "calibration.recalibration", Recalibration)
        intervals = _only(stored.get("intervals"), "calibration.intervals", Intervals)
        method, kind, column = recalibration.get("method"), intervals.get("kind"), intervals.get("column")
        if method not in METHODS:
            raise _wrong("recalibration.method", method, f"one of {', '.join(METHODS)}")
        if kind not in KINDS:
            raise _wrong("intervals.kind", kind, f"one of {', '.join(KINDS)}")
        if not isinstance(column, str | None):
            raise _wrong("intervals.column", column, "text")
        temperature = _number(recalibration.get("temperature"), "recalibration.temperature")
        if not 0.01 <= temperature <= 100:
            raise _wrong("recalibration.temperature", temperature, "a number from 0.01 to 100")
        coverage = _number(intervals.get("coverage"), "intervals.coverage")
        if not 0 < coverage < 1:
            raise _wrong("intervals.coverage", coverage, "a number between 0 and 1")
        knots = [recalibration.get(name) for name in ("mean_from", "mean_to")]
        if not all(isinstance(each, list) and len(each) == len(knots[0]) for each in knots):
            raise _wrong("recalibration.mean_to", knots[1], "a number for each of mean_from")
        knots = [[_number(knot, "recalibration.mean_from and mean_to") for knot in each] for each in knots]
        if np.any(np.diff(knots[0]) <= 0):
            raise _wrong("recalibration.mean_from", knots[0], "rising numbers")
        margins = intervals.get("margins")
        if not isinstance(margins, dict):
            raise _wrong("intervals.margins", margins, "a margin by group")
        margins = {str(name): _margin(margin) for name, margin in margins.items()}
        for name in ("shown", "made_with"):
            if not isinstance(stored.get(name, {}), dict):
                raise _wrong(name, stored[name], "a mapping")
        if shown := stored.get("shown"):
            _check_figures(shown, "shown", ("rows", "questions", "coverage", "width"))
            for group, figures in _mapping(shown.get("groups", {}), "shown.groups").items():
                _check_figures(figures, f"shown.groups.{group}", ("rows", "coverage", "width"))
        return cls(
            Recalibration(method, temperature, *map(tuple, knots)),
            Intervals(kind, coverage, _margin(intervals.get("margin")), column, margins),
            stored.get("shown", {}),
            stored.get("made_with", {}),
        )


@dataclass(frozen=True)
class ScoredRows:
    """
    Rows with human scores.

    Args:
        probabilities (`np.ndarray` of shape `(n, L)`):
            Of every label, as of [`Recalibration.apply`].
        targets (`np.ndarray` of shape `(n,)`):
            Human scores.
        questions (`np.ndarray` of shape `(n,)`):
            What stays together in every split.
        groups (`np.ndarray` of shape `(n,)`, *optional*):
            What may have a margin of its own, as text.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    questions: np.ndarray
    groups: np.ndarray | None = None

    def of(self, keep: np.ndarray) -> "ScoredRows":
        """Some of them."""
        return ScoredRows(*(None if each is None else each[keep] for each in vars(self).values()))


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
            At least 30, of at least two questions.
        values (`Sequence[float]`):
            Values of the labels.
        coverage (`float`, *optional*, defaults to `0.9`):
            Probability with which an interval shall hold the human score.
        column (`str`, *optional*):
            Name of the groups of `rows`.
        seed (`int`, *optional*, defaults to `0`):
            Of the folds.

    Returns:
        [`Calibration`], with `shown`: `rows`, `questions`; `methods`, method → mean CRPS on left-out folds; `kinds`, kind → mean width there;
        and on rows that were left out of everything: `crps` and `rmse`, each `[before, after]`, `coverage` (share inside), `interval` (its
        95% binomial interval, Clopper and Pearson, 1934, which takes rows as independent), `width` (mean), and by group of `column` in
        `groups` the same of its `rows`, with `own`, whether it has a margin of its own.

    Raises:
        `ValueError`: if there are too few rows or questions.
    """
    n_questions = len(np.unique(rows.questions))
    if len(rows.targets) < MIN_ROWS or n_questions < 2:
        raise ValueError(
            f"data: {len(rows.targets)} rows of {n_questions} questions have a human score and a distribution of the judge. Give at least "
            f"{MIN_ROWS} rows, of at least 2 questions."
        )
    folds = grouped_folds(rows.questions, _FOLDS, seed)
    after, bounds = np.empty_like(rows.probabilities, dtype=np.float64), np.empty((len(rows.targets), 2))
    for others, own in parts(folds):
        recalibration, intervals, _ = _fit(rows.of(others), values, coverage, column, seed + 1)
        left_out = rows.of(own)
        after[own] = recalibration.apply(left_out.probabilities, values)
        bounds[own] = intervals.of(after[own], values, left_out.groups)
    recalibration, intervals, compared = _fit(rows, values, coverage, column, seed)

    def shown(keep: np.ndarray) -> dict[str, Any]:
        low, high, y = *bounds[keep].T, rows.targets[keep]
        inside = int(((low <= y + 1e-9) & (y <= high + 1e-9)).sum())
        both = rows.probabilities[keep], after[keep]
        exact = stats.binomtest(inside, len(y)).proportion_ci(0.95, "exact")
        return {
            "rows": len(y),
            "crps": [float(crps(each, y, values).mean()) for each in both],
            "rmse": [float(np.sqrt(np.mean((means(each, values) - y) ** 2))) for each in both],
            "coverage": inside / len(y),
            "interval": [float(exact.low), float(exact.high)],
            "width": float(np.mean(high - low)),
        }

    figures = shown(np.ones(len(rows.targets), dtype=bool)) | {"questions": n_questions} | compared
    if rows.groups is not None:
        figures["groups"] = {
            str(group): shown(rows.groups == group) | {"own": str(group) in intervals.margins}
            for group in np.unique(rows.groups)
        }
    return Calibration(recalibration, intervals, figures, dict(made_with or {}))


def _fit(
    rows: ScoredRows, values: Sequence[float], coverage: float, column: str | None, seed: int
) -> tuple[Recalibration, Intervals, dict[str, Any]]:
    """Map and margins, and what the choice between them was made by."""
    folds, made, scores = grouped_folds(rows.questions, _FOLDS, seed), {}, {}
    for method in METHODS:
        made[method] = np.empty_like(rows.probabilities, dtype=np.float64)
        for others, own in parts(folds):
            fitted = fit(method, rows.probabilities[others], rows.targets[others], values)
            made[method][own] = fitted.apply(rows.probabilities[own], values)
        scores[method] = float(crps(made[method], rows.targets, values).mean())
    method = min(scores, key=scores.get)
    given = made[method], rows.targets, values, coverage, column, rows.groups
    candidates = {kind: fit_intervals(kind, *given) for kind in KINDS}
    widths = {
        kind: float(np.ptp(each.of(made[method], values, rows.groups), axis=1).mean())
        for kind, each in candidates.items()
    }
    kind = min(widths, key=widths.get)
    recalibration = fit(method, rows.probabilities, rows.targets, values)
    return recalibration, candidates[kind], {"methods": scores, "kinds": widths}


def _finite(margin: float) -> float | None:
    return margin if np.isfinite(margin) else None


def _margin(stored: Any) -> float:
    return float("inf") if stored is None else _number(stored, "intervals.margin")


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise _wrong(name, value, "a number")
    return float(value)


def _mapping(stored: Any, name: str) -> dict[str, Any]:
    if not isinstance(stored, dict):
        raise _wrong(name, stored, "a mapping")
    return stored


def _check_figures(shown: Any, name: str, numbers: Sequence[str]) -> None:
    """`ValueError` unless there are the figures that are printed."""
    shown = _mapping(shown, name)
    for each in numbers:
        _number(shown.get(each), f"{name}.{each}")
    for each in ("crps", "rmse", "interval"):
        if not isinstance(shown.get(each), list) or len(shown[each]) != 2:
            raise _wrong(f"{name}.{each}", shown.get(each), "two numbers")
        for figure in shown[each]:
            _number(figure, f"{name}.{each}")


def _only(stored: Any, name: str, cls: type) -> dict[str, Any]:
    """`stored`, if it is a mapping with no other entries than the fields of `cls`."""
    known = [each.name for each in fields(cls)]
    if not isinstance(stored, dict) or set(stored) - set(known):
        raise ValueError(f"{name}: got {stored!r:.100}. Give a mapping of {', '.join(known)}.")
    return stored


def _wrong(name: str, value: Any, wanted: str) -> ValueError:
    return ValueError(f"calibration.{name}: got {value!r:.100}. Give {wanted}.")
