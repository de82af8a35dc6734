# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Systems compared: means, differences, win rates, a ranking, and what a decision would need, in plain numbers."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from real_trl.decisions.inference import (
    MIN_LABELS,
    Contrast,
    Means,
    ScoredRows,
    humans_alone,
    judge_alone,
    prediction_powered,
)
from real_trl.decisions.labels import detectable, needed_labels
from real_trl.decisions.random_sample import imbalance
from real_trl.decisions.ranking import alike_sets, possible_places
from real_trl.decisions.reading import ScoredSystems
from real_trl.decisions.wins import by_question, win_rate
from real_trl.evaluation.comparison import holm

_FEW_LABELS = 20  # fewer do not tell what the judge adds to them
_UNLIKE = (
    0.01  # adjusted p below which labelled rows are said to be no random sample: one false alarm in a hundred files
)


def compare_systems(
    systems: ScoredSystems, level: float = 0.95, detect: float | None = None, power: float = 0.8
) -> dict[str, Any]:
    """
    Compare systems by the judge alone, by people alone, and by both.

    Args:
        level (`float`, *optional*, defaults to `0.95`): Coverage of each interval. Differences count as shown where Holm's adjusted p is at most 1 − level.
        detect (`float`, *optional*): A true difference, in score units, for which the number of labels is asked.
        power (`float`, *optional*, defaults to `0.8`): The chance to find it.

    Returns:
        `dict`, of plain numbers and text, an undefined number NaN:

        - `n_rows`, `n_questions` (`None` where no column says which rows are about one), `n_labels`, `level`, `power`, `detect`, `lower_is_better`, `weight` (λ), `random_sample` (`False` where the labelled rows do
          not look like one);
        - `min_labels`: how many human scores a system needs for an interval of both;
        - `by`: `"combined"`, or `"judge"` where there are no labels: what `differences` decide by;
        - `systems`, best first: `name`, `n_rows`, `n_labels`, `judge`, `humans`, `combined` (each `{"mean", "interval"}`; the interval of `combined`
          NaN below `min_labels`, as that of its differences), `labels_lacking` (human scores that it has fewer than these), `bias` (the
          same, of the judge: judge − combined; NaN where people score in another unit), `effective_labels` (about how many human scores people alone would need for the
          variance of both, from the variances of all systems together; NaN with fewer than 20 labels in all), `places`
          (best and worst place that it can have);
        - `differences`, a − b of all pairs: `judge`, `humans`, `combined` (each `{"difference", "interval", "p_value"}`), `p_adjusted` (Holm's, of `by`),
          `better` (a name, or `None`), `n_labels` (of both), `detectable` (the true difference found with that power at Holm's first and strictest step, with the labels there are),
          `labels_needed` (for `detect`, of both systems in all; `None` if all rows would not do), `win_rate` (see [`win_rate`], in numbers);
        - `alike`: the largest sets of systems of which no two are shown to differ, among those about which something is known;
        - `warnings` and `notes`.
    """
    rows, names = systems.rows, systems.names
    ways = {"judge": judge_alone(rows), "humans": humans_alone(rows), "combined": prediction_powered(rows)}
    labelled = bool(rows.is_labelled.any())
    by = "combined" if np.isfinite(ways["combined"].means).any() else "judge"
    if by == "judge":
        ways = {"judge": ways["judge"]}
    pairs = list(combinations(range(len(names)), 2))
    alpha = 1 - level
    means = {way: [_told(way, each, _unit(rows, s)) for s in range(len(names))] for way, each in ways.items()}
    found = {way: [_told(way, each, _unit(rows, a) - _unit(rows, b)) for a, b in pairs] for way, each in ways.items()}
    adjusted = holm([each.p_value for each in found[by]])
    sign = -1 if systems.lower_is_better else 1
    better: dict[str, set[str]] = {name: set() for name in names}
    differences, distributions = [], None
    if systems.probabilities is not None and systems.has_questions:
        distributions = by_question(rows, systems.probabilities)
    for index, (a, b) in enumerate(pairs):
        difference = found[by][index]
        winner = None
        if adjusted[index] <= alpha:
            winner, loser = (a, b) if sign * difference.value > 0 else (b, a)
            better[names[winner]].add(names[loser])
        row: dict[str, Any] = {
            "a": names[a],
            "b": names[b],
            **{way: _difference(each[index], level) for way, each in found.items()},
        }
        row |= {"p_adjusted": adjusted[index], "better": None if winner is None else names[winner]}
        if by == "combined":
            strictest, counts = alpha / len(pairs), [int(sum(each[[a, b]])) for each in (rows.n_labels, rows.n_rows)]
            row["n_labels"] = counts[0]
            row["detectable"] = detectable(difference, strictest, power)
            if detect is not None:
                enough = np.isfinite(difference.error)
                row["labels_needed"] = (
                    needed_labels(difference, counts[0], counts[1], detect, strictest, power) if enough else None
                )
        row["win_rate"] = None if distributions is None else _win_rate(systems, distributions, a, b, level)
        differences.append(row)
    order = sorted(range(len(names)), key=lambda s: _rank_key(sign * means[by][s].value))
    ranked = [names[s] for s in order]
    places = possible_places(ranked, better)
    saved = _saved(rows, means) if by == "combined" else np.nan
    figures = [
        {
            "name": names[s],
            "n_rows": int(rows.n_rows[s]),
            "n_labels": int(rows.n_labels[s]),
            "labels_lacking": int(rows.labels_lacking[s]),
        }
        | {way: _mean(each[s], level) for way, each in means.items()}
        | (_against_judge(ways, s, systems, saved, level) if by == "combined" else {})
        | {"places": list(places[names[s]])}
        for s in order
    ]
    warnings, notes = _remarks(systems, ways, by, labelled)
    odd = _unlike(systems) if by == "combined" else []
    if detect is not None and by == "combined" and (rows.sums(np.ones(len(rows.judge))) > 1).any():
        notes.append(
            f"Several rows of a system are about one question: how many labels {detect:g} needs is rough, as what rows of a question share is told from few questions."
        )
    return {
        "n_rows": len(rows.judge),
        "n_questions": rows.n_questions if systems.has_questions else None,
        "n_labels": int(rows.n_labels.sum()),
        "level": level,
        "power": power,
        "detect": detect,
        "lower_is_better": systems.lower_is_better,
        "min_labels": MIN_LABELS,
        "by": by,
        "weight": ways["combined"].weight if by == "combined" else float("nan"),
        "systems": figures,
        "differences": differences,
        "alike": alike_sets([names[s] for s in order if np.isfinite(means[by][s].error)], better),
        "random_sample": not odd,
        "warnings": [*warnings, *odd],
        "notes": notes,
    }


def _unit(rows: ScoredRows, system: int) -> np.ndarray:
    return np.eye(rows.n_systems)[system]


def _told(way: str, means: Means, coefficients: np.ndarray) -> Contrast:
    """The contrast, of judge and people without an error where a system of it has too few labels to tell one."""
    contrast = means.contrast(coefficients)
    few = way == "combined" and (means.rows.labels_lacking[coefficients != 0] > 0).any()
    return replace(contrast, error=np.nan) if few else contrast


def _rank_key(value: float) -> float:
    return -value if np.isfinite(value) else np.inf


def _mean(contrast: Contrast, level: float) -> dict[str, Any]:
    return {"mean": contrast.value, "interval": contrast.interval(level)}


def _difference(contrast: Contrast, level: float) -> dict[str, Any]:
    return {"difference": contrast.value, "interval": contrast.interval(level), "p_value": contrast.p_value}


def _enough(rows: ScoredRows) -> np.ndarray:
    """Systems that have an interval of judge and people, `(S,)`."""
    return rows.is_told & (rows.labels_lacking == 0)


def _saved(rows: ScoredRows, means: dict[str, list[Contrast]]) -> float:
    """How many times as many labels people alone would need: one figure, from all systems, as that of each would be too noisy."""
    told = _enough(rows)
    if rows.n_labels[told].sum() < _FEW_LABELS:
        return np.nan
    humans, both = (np.sum([means[way][s].error ** 2 for s in np.flatnonzero(told)]) for way in ("humans", "combined"))
    return float(humans / both)


def _against_judge(
    ways: dict[str, Means], system: int, systems: ScoredSystems, saved: float, level: float
) -> dict[str, Any]:
    judge, both, rows = ways["judge"], ways["combined"], systems.rows
    bias = replace(
        both,
        means=judge.means - both.means if systems.units.same else np.full(rows.n_systems, np.nan),
        of_labels=-both.of_labels,
        of_all=np.nan_to_num(judge.of_all) - both.of_all,  # of a judge that gives all the same, people tell the bias
        scale=max(judge.scale, both.scale),
    )
    return {
        "bias": _mean(_told("combined", bias, _unit(rows, system)), level),
        "effective_labels": float(rows.n_labels[system] * saved) if _enough(rows)[system] else np.nan,
    }


def _win_rate(
    systems: ScoredSystems, distributions: Sequence[np.ndarray], a: int, b: int, level: float
) -> dict[str, Any] | None:
    rate = win_rate(systems.rows, distributions, a, b, systems.lower_is_better)
    if rate is None:
        return None
    for way in ("judge", "corrected"):
        if rate[way] is not None:
            rate[way] = _mean(rate[way], level)
            rate[way]["interval"] = np.clip(rate[way]["interval"], 0, 1).tolist()
    return rate


def _remarks(systems: ScoredSystems, ways: dict[str, Means], by: str, labelled: bool) -> tuple[list[str], list[str]]:
    rows, names = systems.rows, systems.names
    warnings, notes = list(systems.units.warnings), list(systems.notes)
    if by == "judge":
        few = "hardly any row has a human score" if labelled else "no row has a human score (--human)"
        warnings.append(
            f"{few.capitalize()}: all figures are the judge's alone. A judge that favours a system is not seen, and intervals do not allow for it."
        )
        for s in np.flatnonzero(np.isnan(ways["judge"].of_all).any(axis=0)):
            given, asked = rows.judge[rows.systems == s], int(rows.has_answer[:, s].sum())
            what = (
                f"The {len(given)} scores of {names[s]} are of one question"
                if asked < 2
                else f"The scores of {names[s]} are {given[0]:.4g} for every question"
            )
            if len(given) == 1:
                what = f"{names[s]} has a single score"
            warnings.append(
                f"{what}: how much they vary cannot be told. It has no interval, and nothing is decided about it."
            )
    else:
        if unknown := [names[s] for s in np.flatnonzero(~np.isfinite(ways["combined"].means))]:
            warnings.append(
                f"Fewer than two questions have a human score of {', '.join(unknown)}: nothing is said about {'it' if len(unknown) == 1 else 'them'}."
            )
        warnings += _too_few(systems, ways["combined"])
        for s in np.flatnonzero(~rows.is_told & (rows.labels_lacking == 0)):
            given = rows.human[rows.is_labelled & (rows.systems == s)]
            if np.isfinite(ways["combined"].means[s]):
                warnings.append(
                    f"All {len(given)} human scores of {names[s]} are {given[0]:g}: how much they vary cannot be told. It has no interval, and nothing is decided about it."
                )
        notes.append(
            "Rows with a human score must be a random sample of the rows"
            + (", with the probabilities given" if rows.probability is not None else "")
            + ": chosen without regard to how good they seemed. Only what the judge gave can be checked."
        )
    if not systems.has_questions:
        notes.append(
            f"{len(rows.judge)} rows, no question column: rows are taken as independent of each other. Where several are about one question, name the column that says which: --group COLUMN."
        )
    else:
        answered = rows.sums(np.ones(len(rows.judge))) > 0
        common = int(answered.all(axis=1).sum())
        if common < rows.n_questions:
            notes.append(
                f"All systems answered {common} of {rows.n_questions} questions. Where questions differ, a difference of means is one of questions too."
            )
    return warnings, notes


def _too_few(systems: ScoredSystems, both: Means) -> list[str]:
    """What to say of systems whose interval of judge and people is left out for want of labels."""
    rows = systems.rows
    few = [s for s in np.flatnonzero(rows.labels_lacking) if np.isfinite(both.means[s])]
    if not few:
        return []
    each = [
        f"{systems.names[s]} has {rows.n_labels[s]} human scores, {rows.labels_lacking[s]} too few"
        + (f" (and only {rows.n_rows[s]} rows)" if rows.n_rows[s] < MIN_LABELS else "")
        for s in few
    ]
    return [
        f"{'; '.join(each)}: below {MIN_LABELS} of a system an interval of judge and people is too narrow. It is left out, those of its differences too, and nothing "
        "is decided about them; --label_next chooses rows that people should score."
    ]


def _unlike(systems: ScoredSystems) -> list[str]:
    """Where the labelled rows are no random sample by what the judge gave, a sentence each."""
    rows = systems.rows
    values = {"the judge's score": rows.judge} | (
        {"the spread of its distribution": systems.doubt} if systems.doubt is not None else {}
    )
    checks = []
    for what, each in values.items():
        for name, *check in zip(systems.names, *imbalance(rows, each), strict=True):
            if np.isfinite(check).all():
                checks.append((what, name, *check))
    adjusted = holm([p for *_, p in checks])
    found = [
        f"The rows of {name} with a human score look like no random sample: in them, {what} is {abs(difference):.3g} "
        f"{'higher' if difference > 0 else 'lower'} on average than in all of its rows (adjusted p = {p:.1g}; of random samples, one file in a "
        "hundred looks like that)."
        for (what, name, difference, _), p in zip(checks, adjusted, strict=True)
        if p < _UNLIKE
    ]
    if found:
        of = (
            "figures of all systems, whose rows were chosen in the same way, are"
            if len(systems.names) > 1
            else "figures are"
        )
        found.append(
            f"If labelled rows are no random sample, {of} biased, unless --probability says how rows were chosen."
        )
    return found
