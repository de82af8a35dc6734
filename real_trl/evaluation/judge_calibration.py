# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge's calibration, as it is saved with the judge, and what it is worth on rows with human scores. Arrays only, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from scipy import stats

from real_trl.evaluation.calibration import calibrated_rows
from real_trl.evaluation.conformal import KINDS, Intervals, named
from real_trl.evaluation.recalibration import METHODS, Recalibration, crps, means
from real_trl.evaluation.resampling import MIN_GROUPS, bootstrap_weights, expanded_percentile_interval, united_blocks
from real_trl.evaluation.rows import Rows, group_names, numbers
from real_trl.text.keys import key_of

_RESAMPLES, _LONGEST_NAME = 2000, 200


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
            What it reached on rows that were left out, see [`~real_trl.evaluation.cross_fitting.fit_calibration`].
        made_with (`Mapping`, *optional*):
            The rows that it was fitted on, and how the judge read them.
    """

    recalibration: Recalibration
    intervals: Intervals
    shown: Mapping[str, Any] = field(default_factory=dict)
    made_with: Mapping[str, Any] = field(default_factory=dict)

    def figures(self, rows: "ScoredRows", values: Sequence[float]) -> dict[str, Any]:
        """What it is worth on rows that it was not fitted on: see [`figures_of`]."""
        after = self.recalibration.apply(rows.probabilities, values)
        return figures_of(rows, after, self.intervals.of(after, values, rows.groups), values)

    def stored(self) -> dict[str, Any]:
        """As JSON. An infinite margin is null there; groups are no keys, which could be taken for those of secrets and be redacted."""
        stored = asdict(self)
        margins = [[group, _finite(margin)] for group, margin in self.intervals.margins.items()]
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
        if not isinstance(column, str | None) or len(column or "") > _LONGEST_NAME:
            raise _wrong("intervals.column", column, f"text of at most {_LONGEST_NAME} characters")
        temperature = _number(recalibration.get("temperature"), "recalibration.temperature")
        if not 0.01 <= temperature <= 100:
            raise _wrong("recalibration.temperature", temperature, "a number from 0.01 to 100")
        coverage = _number(intervals.get("coverage"), "intervals.coverage")
        if not 0 < coverage < 1:
            raise _wrong("intervals.coverage", coverage, "a number between 0 and 1")
        knots: list[Any] = [recalibration.get(name) for name in ("mean_from", "mean_to")]
        if not all(isinstance(each, list) and len(each) == len(knots[0]) for each in knots):
            raise _wrong("recalibration.mean_to", knots[1], "a number for each of mean_from")
        knots = [[_number(knot, "recalibration.mean_from and mean_to") for knot in each] for each in knots]
        if np.any(np.diff(knots[0]) <= 0):
            raise _wrong("recalibration.mean_from", knots[0], "rising numbers")
        pairs = intervals.get("margins")
        if not isinstance(pairs, list) or not all(isinstance(each, list) and len(each) == 2 for each in pairs):
            raise _wrong("intervals.margins", pairs, "pairs of a group and its margin")
        margins = {str(group): _margin(margin) for group, margin in pairs}
        for name in ("shown", "made_with"):
            if not isinstance(stored.get(name, {}), dict):
                raise _wrong(name, stored[name], "a mapping")
        if shown := stored.get("shown"):
            _check_figures(shown, "shown", ("rows", "questions", "coverage", "width"))
            for place, figures in enumerate(shown.get("groups") or ()):
                _check_figures(figures, f"shown.groups[{place}]", ("rows", "coverage", "width"))
        return cls(
            Recalibration(method, temperature, *(tuple(each) for each in knots)),
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
            What may have a margin of its own, as text; `None` of a row that has no group.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    questions: np.ndarray
    groups: np.ndarray | None = None

    def of(self, keep: np.ndarray) -> "ScoredRows":
        """Some of them."""
        groups = None if self.groups is None else self.groups[keep]
        return ScoredRows(self.probabilities[keep], self.targets[keep], self.questions[keep], groups)


def figures_of(rows: ScoredRows, after: np.ndarray, bounds: np.ndarray, values: Sequence[float]) -> dict[str, Any]:
    """
    What calibrated distributions and intervals are worth.

    Args:
        after (`np.ndarray` of shape `(n, L)`), bounds (`np.ndarray` of shape `(n, 2)`):
            Calibrated distributions, and intervals.

    Returns:
        `dict[str, Any]`: `rows`, their number; `crps` and `rmse`, each `[before, after]`, both of distributions that are divided by their
        probability on the labels, as the judge's own expected score, that `evaluate` looks at, is not by default; `coverage`, the share of human scores inside;
        `interval`, its 95% binomial interval (Clopper and Pearson, 1934), which takes rows as independent; where questions have several rows,
        `by_question`, its 95% bootstrap interval that resamples questions; `width`, the mean; and where rows have groups, `groups`, the
        same of each, with its name as `group`.
    """
    low, high, y = *bounds.T, rows.targets
    held = (low <= y + 1e-9) & (y <= high + 1e-9)
    inside = int(held.sum())
    exact = stats.binomtest(inside, len(y)).proportion_ci(0.95, "exact")
    figures = {
        "rows": len(y),
        "crps": [float(crps(each, y, values).mean()) for each in (rows.probabilities, after)],
        "rmse": [float(np.sqrt(np.mean((means(each, values) - y) ** 2))) for each in (rows.probabilities, after)],
        "coverage": inside / len(y),
        "interval": [float(exact.low), float(exact.high)],
        "width": float(np.mean(high - low)),
    }
    codes = np.unique(rows.questions, return_inverse=True)[1]
    n_questions = int(codes.max()) + 1
    if MIN_GROUPS <= n_questions < len(y):
        blocks, n_blocks = united_blocks(codes, n_questions, seed=0)
        sums = np.column_stack([np.bincount(blocks, held), np.bincount(blocks)])  # (blocks, 2)
        resampled = bootstrap_weights(n_blocks, _RESAMPLES, seed=0) @ sums
        ends = expanded_percentile_interval(resampled[:, 0] / resampled[:, 1], n_blocks, 0.95)
        figures["by_question"] = [float(end) for end in ends]
    if rows.groups is not None:
        kept = {str(group): rows.groups == group for group in np.unique(named(rows.groups))}
        ungrouped = ScoredRows(rows.probabilities, rows.targets, rows.questions)
        figures["groups"] = [
            {"group": group, **figures_of(ungrouped.of(keep), after[keep], bounds[keep], values)}
            for group, keep in kept.items()
        ]
    return figures


def scored_rows(
    rows: Rows, values: Sequence[float], malformed: str = "force", column: str | None = None
) -> tuple[ScoredRows, list[str]]:
    """
    Of a judge's predictions, those with a human score and a known distribution, and why others are left out.

    Args:
        column (`str`, *optional*):
            Column of the groups, named as [`~real_trl.text.keys.key_of`] does; a row with an empty cell has none.
    """
    status = np.asarray(rows["status"], dtype=object)
    probabilities, counts, notes = calibrated_rows(rows, status, malformed, values)
    if malformed == "drop" and (dropped := int((status != "ok").sum())):
        notes.append(f"calibration: {dropped} rows have no score of their own, or no answer: they are left out.")
    targets = numbers(rows, "target")
    if unlabelled := int((counts & ~np.isfinite(targets)).sum()):
        notes.append(f"calibration: {unlabelled} rows have no human score: they are left out.")
    counts = counts & np.isfinite(targets)
    groups = None if column is None else np.array([key_of(each) for each in rows[column]], dtype=object)[counts]
    return ScoredRows(probabilities[counts], targets[counts], group_names(rows, len(status))[counts], groups), notes


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
    for each in ("crps", "rmse", "interval", *(("by_question",) if "by_question" in shown else ())):
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
