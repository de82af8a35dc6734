# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How well raters agree with each other: what a judge can be expected to reach."""

from collections.abc import Sequence
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from real_trl.evaluation.grouped_scores import GroupedScores
from real_trl.evaluation.registry import metric_names
from real_trl.evaluation.resampling import clustered_intervals, united_blocks
from real_trl.evaluation.rows import by_criterion


def rater_agreement(
    ratings: Sequence[Sequence[float | None]],
    values: Sequence[float] | None = None,
    groups: ArrayLike | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    criteria: ArrayLike | None = None,
) -> dict[str, Any]:
    """
    Agreement between the raters of the same rows.

    Args:
        ratings (`Sequence[Sequence[float | None]]`):
            For each row, the rating of each rater, in the same order in every row. A list may be shorter than others,
            and a rating `None` or `nan` where a rater gave none; a row with fewer than two ratings is left out. Where
            the order means nothing, as with several samples of one model, only the averages over raters do.
        groups (`ArrayLike`, *optional*):
            Question of each row, which intervals are clustered by and `pairwise_accuracy` compares within. By default
            each row is a group.
        criteria (`ArrayLike`, *optional*):
            Criterion of each row, where rows have several: of a group, `pairwise_accuracy` compares rows by the same one.
        values, n_resamples, level, seed (*optional*):
            As in [`~real_trl.evaluation.intervals.evaluate_with_intervals`].

    Returns:
        `dict[str, Any]`:

        - `between`: metrics of one rater against another, averaged over all ordered pairs of raters that have a row in
          common.
        - `leave_one_out`: metrics of a rater against the mean of the other ratings of the row, averaged over raters.
          This is the ceiling for a judge whose target is a mean of ratings. It is a little low: the target has one
          rating fewer in it.
        - `raters`: the metrics of each rater behind `leave_one_out`, with its number of rows `n`.
        - `intervals`: `{"between" | "leave_one_out": {metric: [low, high]}}`.
        - `n_rows` with two ratings or more, `n_groups`, `n_raters`, and `notes` (`list[str]`) on what is left out or
          undefined.

        An average leaves out raters for whom the metric is undefined, as for one who always gives the same rating.

    Raises:
        `ValueError`: If no row has two ratings, if a rating is no finite number, or if `groups` has another length.
    """
    matrix = rating_matrix(ratings)
    names = np.arange(len(matrix)) if groups is None else np.asarray(groups)
    if len(names) != len(matrix):
        raise ValueError(f"`groups` has {len(names)} rows and `ratings` has {len(matrix)}: pass one of each per row.")
    rated = np.isfinite(matrix).sum(axis=1) >= 2
    if not rated.any():
        raise ValueError(
            "`ratings` has no row with two ratings: there is no agreement to measure with a single rater. Leave it out."
        )
    notes = []
    if not rated.all():
        notes.append(f"{int((~rated).sum())} of {len(matrix)} rows have fewer than two ratings: they are left out.")
    matrix = matrix[rated]
    codes = np.unique(names[rated].astype(str), return_inverse=True)[1]
    compared = by_criterion(codes, None if criteria is None else np.asarray(criteria)[rated])
    blocks, n_blocks = united_blocks(codes, int(codes.max()) + 1, seed)
    is_rated = np.isfinite(matrix)

    def scores(predictions: np.ndarray, targets: np.ndarray, common: np.ndarray) -> GroupedScores:
        return GroupedScores(predictions[common], targets[common], compared[common], values, blocks=blocks[common])

    raters = [rater for rater in range(matrix.shape[1]) if is_rated[:, rater].any()]
    pairs, against_others = [], {}
    for i, j in permutations(raters, 2):
        if (is_rated[:, i] & is_rated[:, j]).any():
            pairs.append(scores(matrix[:, i], matrix[:, j], is_rated[:, i] & is_rated[:, j]))
    for rater in raters:
        others = np.delete(matrix, rater, axis=1)
        common = is_rated[:, rater]
        mean = np.nansum(others, axis=1) / np.maximum(np.isfinite(others).sum(axis=1), 1)
        against_others[rater] = scores(matrix[:, rater], mean, common)

    result: dict[str, Any] = {"intervals": {}}
    metrics = metric_names(values)
    everything = np.ones((1, n_blocks))
    kinds = {"between": (pairs, "pairs of raters"), "leave_one_out": (list(against_others.values()), "raters")}
    for what, (members, kind) in kinds.items():
        figures = [member.metrics(everything) for member in members]
        result[what] = {name: float(_mean([figure[name] for figure in figures])[0]) for name in metrics}
        for name in metrics:
            undefined = sum(bool(np.isnan(figure[name][0])) for figure in figures)
            if undefined:
                then = ", which the mean leaves out" if undefined < len(figures) else ""
                notes.append(f"{what}: {name} is undefined for {undefined} of {len(figures)} {kind}{then}.")
        result["intervals"][what] = clustered_intervals(
            partial(_mean_metrics, members),
            n_blocks,
            n_resamples,
            level,
            seed,
            what,
            notes,
        )
    result["raters"] = []
    for rater, member in against_others.items():
        own = member.metrics(everything)
        result["raters"].append({name: float(own[name][0]) for name in metrics} | {"n": int(is_rated[:, rater].sum())})
    n_groups = int(codes.max()) + 1
    return result | {"n_rows": len(matrix), "n_groups": n_groups, "n_raters": len(raters), "notes": notes}


def _mean_metrics(members: list[GroupedScores], weights: np.ndarray) -> dict[str, np.ndarray]:
    figures = [member.metrics(weights) for member in members]
    return {name: _mean([figure[name] for figure in figures]) for name in figures[0]}


def _mean(figures: list[np.ndarray]) -> np.ndarray:
    """Mean of `(B,)` over those that are defined, NaN where none is."""
    stacked = np.stack(figures)
    defined = np.isfinite(stacked)
    counts = defined.sum(axis=0)
    return np.where(counts > 0, np.where(defined, stacked, 0).sum(axis=0) / np.maximum(counts, 1), np.nan)


def rating_matrix(ratings: Sequence[Sequence[float | None]]) -> np.ndarray:
    """`(n, raters)`, NaN where a row has no rating."""
    rows = [[] if row is None else list(row) for row in ratings]
    matrix = np.full((len(rows), max(map(len, rows), default=0)), np.nan)
    for index, row in enumerate(rows):
        try:
            matrix[index, : len(row)] = np.asarray(row, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`ratings` of row {index} are {row}: give numbers, or None for no rating.") from error
    if np.isinf(matrix).any():
        index = int(np.flatnonzero(np.isinf(matrix).any(axis=1))[0])
        raise ValueError(f"`ratings` of row {index} hold an infinity: give finite numbers, or None for no rating.")
    return matrix
