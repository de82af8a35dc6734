# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether one judge is better than another on the same rows."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from real_trl.evaluation.grouped_scores import GroupedScores
from real_trl.evaluation.registry import METRICS, metric_names
from real_trl.evaluation.resampling import MIN_GROUPS, clustered_intervals, united_blocks
from real_trl.evaluation.rows import (
    INFERENCES,
    CountedRows,
    MalformedHandling,
    Rows,
    column,
    counted_rows,
    group_names,
    numbers,
)
from real_trl.evaluation.unscored import UNSCORED


def paired_comparison(
    rows_a: Rows,
    rows_b: Rows,
    malformed: MalformedHandling = "force",
    values: Sequence[float] | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """
    The metrics of judge A minus those of judge B on the same rows.

    Both judges are evaluated on the same resampled groups. The interval of the difference is
    [`~real_trl.evaluation.resampling.expanded_percentile_interval`], which was nearer to its nominal coverage here than BCa.

    The p-value is that of a paired randomisation test: if the judges are as good as each other, the predictions for
    one question could as well have come from the other judge. So the two are swapped for half of the groups at random,
    `n_resamples` times, and p is the share of swaps, the data as they are included (Phipson & Smyth, 2010), in which
    the difference is at least as far from zero, in either direction.

    A judge's level and spread make no difference to a correlation, but would in a mixture of two judges: for judges
    whose levels are 1 apart on a scale of 1 to 5, swapping the scores as they are rejected 0.3% of true hypotheses at
    5%. So each judge's scores are standardised (for `pearson`) or replaced by their ranks among the judge's own (for
    `spearman` and `kendall`) before they are swapped. For the other metrics they are swapped as they are.

    Args:
        rows_a, rows_b (`pandas.DataFrame` or `Mapping[str, ArrayLike]`):
            Predictions of both judges, in any order. Rows are matched by `id`, or by `row` where either has no `id`.
        malformed (`str`, *optional*, defaults to `"force"`):
            `"force"`, `"drop"` (only rows that are well-formed in both judges count) or `"strict"`.
        n_resamples (`int`, *optional*, defaults to `2000`):
            Bootstrap samples, and swaps.
        values, level, seed (*optional*):
            As in [`~real_trl.evaluation.intervals.evaluate_with_intervals`].

    Returns:
        `dict[str, Any]`: `standard` and `rail`, each `{metric: {"difference", "interval": [low, high], "p_value", "a",
        "b"}}` with the figures `a` and `b` of the judges on the rows that count in both; `n_rows`, the number of
        these; `n_groups`; `notes` (`list[str]`), what is undefined and how many rows don't count.

    Raises:
        `ValueError`: As [`~real_trl.evaluation.metrics.evaluate_predictions`], or if the judges don't have the same rows: one is
        missing, twice there, or differs in target or group. The first such row is named.
    """
    a, b, n_rows = matched_rows(rows_a, rows_b, malformed, values)
    n = len(a.targets)
    result: dict[str, Any] = {"n_rows": n, "n_groups": a.n_groups, "notes": []}
    if n < n_rows:
        why = "malformed or unscored" if UNSCORED in {*a.status, *b.status} else "malformed"
        result["notes"].append(f"{n_rows - n} of {n_rows} rows are {why} in one judge at least: they are left out.")
    for inference in INFERENCES:
        result[inference] = _compare(a, b, inference, values, n_resamples, level, seed, result["notes"])
    return result


def compare_judges(judges: Mapping[str, Rows], **kwargs: Any) -> list[dict[str, Any]]:
    """
    [`paired_comparison`] of every two judges, its p-values adjusted for their number.

    Args:
        judges (`Mapping[str, pandas.DataFrame]`):
            Name of a judge → its predictions on the same rows; `kwargs` are for [`paired_comparison`].

    Returns:
        `list[dict[str, Any]]`: A comparison for each pair, with the names `a` and `b` in it, and beside each
        `p_value`, of one metric and one inference, `p_adjusted` (see [`holm`]) over the pairs of judges.
    """
    comparisons = [
        {"a": a, "b": b, **paired_comparison(judges[a], judges[b], **kwargs)} for a, b in combinations(judges, 2)
    ]
    for inference in INFERENCES if comparisons else ():
        for metric in comparisons[0][inference]:
            figures = [comparison[inference][metric] for comparison in comparisons]
            for figure, p in zip(figures, holm([figure["p_value"] for figure in figures]), strict=True):
                figure["p_adjusted"] = p
    return comparisons


def holm(p_values: Sequence[float]) -> list[float]:
    """
    p-values adjusted for their number by Holm's step-down procedure (Holm, 1979): those at most 0.05 hold together
    with an error rate of 5% for the family. The k-th smallest of m is multiplied by m − k + 1, and none is below a
    smaller one's. A `nan` stays and is no member of the family.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaNs sort last
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return adjusted.tolist()


def _compare(
    a: CountedRows,
    b: CountedRows,
    inference: str,
    values: Sequence[float] | None,
    n_resamples: int,
    level: float,
    seed: int,
    notes: list[str],
) -> dict[str, dict[str, Any]]:
    names = metric_names(values)
    nan = float("nan")
    if a.n_groups == 0:
        notes.append(f"{inference}: all differences are undefined: no row counts in both judges.")
        empty = {"difference": nan, "interval": [nan, nan], "p_value": nan, "a": nan, "b": nan}
        return {name: dict(empty, interval=[nan, nan]) for name in names}
    blocks, n_blocks = united_blocks(a.groups, a.n_groups, seed)
    judges = [
        GroupedScores(judge.predictions[inference], judge.targets, judge.compared, values, judge.wrong, blocks)
        for judge in (a, b)
    ]

    def differences(weights: np.ndarray) -> dict[str, np.ndarray]:
        figures = [judge.metrics(weights) for judge in judges]
        return {name: figures[0][name] - figures[1][name] for name in names}

    intervals = clustered_intervals(
        differences, n_blocks, n_resamples, level, seed, f"{inference}, difference", notes, bca=False
    )
    figures = [judge.metrics(np.ones((1, n_blocks))) for judge in judges]
    result: dict[str, dict[str, Any]] = {
        name: {
            "difference": float(figures[0][name][0] - figures[1][name][0]),
            "interval": intervals[name],
            "p_value": nan,
            "a": float(figures[0][name][0]),
            "b": float(figures[1][name][0]),
        }
        for name in names
    }
    undefined = [name for name in names if np.isnan(result[name]["difference"])]
    if undefined:
        notes.append(
            f"{inference}: the difference of {', '.join(undefined)} is undefined, as it is in one of the judges."
        )
    if n_blocks < MIN_GROUPS:
        notes.append(f"{inference}: no p-values: {n_blocks} groups cannot reach p < 0.05, {MIN_GROUPS} are needed.")
        return result

    p_values = _randomisation_p_values(a, b, inference, values, blocks, n_blocks, n_resamples, seed)
    for name in names:
        if name not in undefined:
            result[name]["p_value"] = p_values[name]
    return result


def _randomisation_p_values(
    a: CountedRows,
    b: CountedRows,
    inference: str,
    values: Sequence[float] | None,
    blocks: np.ndarray,
    n_blocks: int,
    n_swaps: int,
    seed: int,
) -> dict[str, float]:
    """See [`paired_comparison`]."""
    x, y = a.predictions[inference], b.predictions[inference]
    forms: dict[Callable, list[str]] = {}
    for name in metric_names(values):
        forms.setdefault(METRICS[name].swapped, []).append(name)
    # The first sample is the data as they are, the others are swapped
    swaps = np.random.default_rng([seed, 1]).integers(0, 2, (n_swaps + 1, n_blocks))
    swaps[0] = 0
    p_values = {}
    for form, names in forms.items():
        # The rows of both judges are one sample of 2G blocks, and weights choose for each block whose rows count
        both = GroupedScores(
            np.concatenate([form(x), form(y)]),
            np.tile(a.targets, 2),
            np.concatenate([a.compared, a.compared + a.compared.max() + 1]),
            values,
            np.concatenate([a.wrong, b.wrong]),
            np.concatenate([blocks, blocks + n_blocks]),
        )
        first = both.metrics(np.hstack([1 - swaps, swaps]), names)
        second = both.metrics(np.hstack([swaps, 1 - swaps]), names)
        for name in names:
            difference = np.abs(first[name] - second[name])
            # Equal up to rounding is as extreme, and an undefined difference counts as such too
            p_values[name] = float(np.mean(~(difference < difference[0] - 1e-12)))
    return p_values


def matched_rows(
    rows_a: Rows, rows_b: Rows, malformed: MalformedHandling, values: Sequence[float] | None
) -> tuple[CountedRows, CountedRows, int]:
    """The rows that count in both judges, in the order of A, and the number of all; `ValueError` if rows differ."""
    key = "id" if "id" in rows_a and "id" in rows_b else "row"
    keys_a, keys_b = (np.asarray(column(rows, key), dtype=object) for rows in (rows_a, rows_b))
    positions = {}
    for name, keys in (("A", keys_a), ("B", keys_b)):
        positions[name] = {key: index for index, key in enumerate(keys)}
        if len(positions[name]) < len(keys):
            twice = next(key for index, key in enumerate(keys) if positions[name][key] != index)
            raise ValueError(f"`{key}` {twice!r} is twice in the predictions of judge {name}: keep one row of each.")
    for keys, there, name in ((keys_a, positions["B"], "B"), (keys_b, positions["A"], "A")):
        missing = [key for key in keys if key not in there]
        if missing:
            raise ValueError(
                f"`{key}` {missing[0]!r} is not in the predictions of judge {name} ({len(missing)} such rows in all): "
                "compare judges on the same rows."
            )
    order = np.array([positions["B"][key] for key in keys_a], dtype=int)
    rows_b = {name: np.asarray(rows_b[name], dtype=object)[order] for name in rows_b}

    for name, columns in (
        ("target", [numbers(rows, "target") for rows in (rows_a, rows_b)]),
        ("group", [group_names(rows, len(order)) for rows in (rows_a, rows_b)]),
    ):
        differs = np.flatnonzero(columns[0] != columns[1])
        if len(differs):
            first = differs[0]
            raise ValueError(
                f"`{key}` {keys_a[first]!r} has the {name} {columns[0][first]} with judge A and {columns[1][first]} "
                f"with judge B ({len(differs)} such rows in all): compare judges on the same data."
            )
    statuses = [np.asarray(rows["status"], dtype=object) for rows in (rows_a, rows_b)]
    keep = (statuses[0] != UNSCORED) & (statuses[1] != UNSCORED)
    if malformed == "drop":
        keep = (statuses[0] == "ok") & (statuses[1] == "ok")
    a, b = (counted_rows(rows, malformed, values, keep) for rows in (rows_a, rows_b))
    return a, b, len(order)
