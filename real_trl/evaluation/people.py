# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
People as raters: Krippendorff's α, intraclass correlations, who disagrees systematically, and a judge as one more rater. Arrays only.

Everything is a function of sums over questions, so that thousands of bootstrap samples are a product of matrices; the package
`krippendorff` computes the same α, one sample at a time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from real_trl.evaluation.agreement import rating_matrix
from real_trl.evaluation.grouped_scores import GroupedScores
from real_trl.evaluation.resampling import clustered_intervals, united_blocks

LEAST_SHIFT = 0.2  # of the standard deviation of all ratings: a smaller one may be there, and matters little
LEAST_DIFFERENCE = 0.1  # of correlations


def agreement_of_people(
    ratings: Sequence[Sequence[float | None]],
    groups: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    judges: Mapping[str, ArrayLike] | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """
    How far people agree, and whether a judge would fit among them.

    Args:
        ratings, groups, n_resamples, level, seed:
            As in [`~real_trl.evaluation.agreement.rater_agreement`]. α needs no raters that are the same in every row; all else does.
        names (`Sequence[str]`, *optional*):
            Of the raters. Defaults to their numbers, from 1. Empty if a place in `ratings` is not the same rater in every row: then `icc_single` and
            `icc_mean` are NaN, `n_complete` is 0, `raters` and `unlike` are empty, and `n_raters` are the most of one row.
        judges (`Mapping[str, ArrayLike]`, *optional*):
            Name → scores `(n,)` of the same rows, NaN where there is none.

    Returns:
        `dict[str, Any]`:

        - `alpha`: Krippendorff's α with the interval metric, of rows with two ratings or more (Krippendorff, 2011). 1 is perfect agreement, 0 chance.
        - `icc_single`, `icc_mean`: ICC(2,1) and ICC(2,k) of Shrout & Fleiss (1979): of one of the raters, and of the mean of all `n_raters`, who
          are a random sample of raters; of the `n_complete` rows that all of them rated.
        - `intervals`: of these three, by a bootstrap of questions.
        - `raters`: of each `name`, `n`, `shift` (how much more he gives than the median of the raters, to the same answers, in score units; of two raters, than the other) and `pearson` (with the mean of the others),
          `pearson_less` (that less the mean of those of the other raters), `shift_interval` and `pearson_interval` (of `pearson_less`) at
          a level that holds for all raters together.
        - `unlike`: a sentence for each rater who disagrees systematically: whose interval leaves out 0, and who is off by a fifth of the standard deviation of
          all ratings at least, or correlates less than the others, by 0.1 at least.
        - `judges`: name → `alpha` (mean over raters of α with the judge in his place), `change` (that less α of the people, in the rows that the judge
          scored) with `interval`, and `with` (α of people and judge together). A judge fits among people if the change is not below 0.
        - `n_rows`, `n_raters`, `n_complete`, `notes`.

    Raises:
        `ValueError`: as [`~real_trl.evaluation.agreement.rater_agreement`], or if a judge has another number of rows.
    """
    matrix = rating_matrix(ratings)
    questions = (
        np.arange(len(matrix)) if groups is None else np.unique(np.asarray(groups).astype(str), return_inverse=True)[1]
    )
    kept = np.isfinite(matrix).sum(axis=1) >= 2
    if not kept.any():
        raise ValueError("`ratings` has no row with two ratings: there is no agreement to measure. Leave it out.")
    judged = {name: np.asarray(scores, dtype=np.float64) for name, scores in (judges or {}).items()}
    for name, scores in judged.items():
        if len(scores) != len(matrix):
            raise ValueError(
                f"`judges` has {len(scores)} scores of {name!r} and `ratings` has {len(matrix)} rows: pass one of each per row."
            )
    there = np.isfinite(matrix[kept]).any(axis=0)
    matrix = matrix[kept][:, there]
    labels = [names[i] if names is not None and i < len(names) else str(i + 1) for i in np.flatnonzero(there).tolist()]
    questions = np.unique(questions[kept], return_inverse=True)[1]
    blocks, n_blocks = united_blocks(questions, int(questions.max()) + 1, seed)
    notes: list[str] = []
    sampling: dict[str, Any] = {"n_blocks": n_blocks, "n_resamples": n_resamples, "seed": seed, "notes": notes}
    once = np.ones((1, n_blocks))

    placed = names is None or len(names) > 0
    alpha = Alpha(matrix, blocks, n_blocks)
    # Of places that are nobody's no row is complete
    classes = Intraclass(matrix if placed else np.full_like(matrix, np.nan), blocks, n_blocks)

    def reliability(weights: np.ndarray) -> dict[str, np.ndarray]:
        single, mean = classes(weights)
        return {"alpha": alpha(weights), "icc_single": single, "icc_mean": mean}

    result: dict[str, Any] = {name: float(value[0]) for name, value in reliability(once).items()}
    if not placed:
        notes.append("ICC and single raters are left out: whose rating stands where differs from row to row.")
    elif classes.n < 2:
        notes.append(f"ICC is undefined: {classes.n} rows were rated by all {matrix.shape[1]} raters.")
    result["intervals"] = clustered_intervals(reliability, level=level, what="people", **sampling)
    result["raters"] = raters = _raters(matrix, blocks, labels, level, sampling) if placed else []
    result["unlike"] = _unlike(raters, float(np.nanstd(matrix)))
    result["judges"] = {
        name: _as_rater(matrix, scores[kept], blocks, level, name, sampling) for name, scores in judged.items()
    }
    return result | {"n_rows": len(matrix), "n_raters": len(labels), "n_complete": classes.n, "notes": notes}


class Alpha:
    """
    Krippendorff's α with the interval metric, of samples in which blocks of rows count `(B, G)` times.

    Of N ratings in rows of two or more, α = 1 − (N − 1) Σ_rows Σ_{i<j} (x_i − x_j)² / (m − 1) / Σ_{all i<j} (x_i − x_j)².

    Args:
        matrix (`np.ndarray` of shape `(n, raters)`): NaN where a rater gave none.
        blocks (`np.ndarray` of shape `(n,)`): Block of each row, from 0 to `n_blocks` − 1.
    """

    def __init__(self, matrix: np.ndarray, blocks: np.ndarray, n_blocks: int):
        given = np.isfinite(matrix)
        m = given.sum(axis=1)
        x = np.where(given, matrix - np.nanmean(matrix), 0.0)
        total, squares = x.sum(axis=1), (x**2).sum(axis=1)
        columns = np.column_stack([m, total, squares, (m * squares - total**2) / np.maximum(m - 1, 1)])
        self._sums = _block_sums(columns * (m >= 2)[:, None], blocks, n_blocks)

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """`(B,)`; NaN where all ratings are the same."""
        n, total, squares, within = (weights @ self._sums).T
        between = n * squares - total**2
        defined = between > 1e-12 * np.maximum(n * squares, 1e-300)
        return np.where(defined, 1 - (n - 1) * within / np.where(defined, between, 1), np.nan)


class Intraclass:
    """ICC(2,1) and ICC(2,k) of rows that all raters rated, from a two-way analysis of variance; arguments as [`Alpha`]."""

    def __init__(self, matrix: np.ndarray, blocks: np.ndarray, n_blocks: int):
        complete = np.isfinite(matrix).all(axis=1)
        x = matrix[complete]
        self.n, self._k = len(x), matrix.shape[1]
        x = x - (x.mean() if self.n else 0.0)
        columns = np.column_stack([np.ones(self.n), x.mean(axis=1) ** 2, (x**2).sum(axis=1), x])
        self._sums = _block_sums(columns, blocks[complete], n_blocks)

    def __call__(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each `(B,)`, NaN where it is undefined."""
        sums, k = weights @ self._sums, self._k
        n, mean_squares, squares, of_raters = sums[:, 0], sums[:, 1], sums[:, 2], sums[:, 3:]
        with np.errstate(divide="ignore", invalid="ignore"):
            raters = of_raters / n[:, None]
            middle = raters.mean(axis=1)
            rows = k * (mean_squares - n * middle**2)
            columns = n * np.sum((raters - middle[:, None]) ** 2, axis=1)
            rest = squares - n * k * middle**2 - rows - columns
            msr, msc, mse = rows / (n - 1), columns / (k - 1), np.maximum(rest, 0) / ((n - 1) * (k - 1))
            single = (msr - mse) / (msr + (k - 1) * mse + k * (msc - mse) / n)
            mean = (msr - mse) / (msr + (msc - mse) / n)
        return np.where(np.isfinite(single), single, np.nan), np.where(np.isfinite(mean), mean, np.nan)


def _block_sums(columns: np.ndarray, blocks: np.ndarray, n_blocks: int) -> np.ndarray:
    return np.column_stack([np.bincount(blocks, column, n_blocks) for column in columns.T])


def _raters(
    matrix: np.ndarray, blocks: np.ndarray, labels: list[str], level: float, sampling: dict[str, Any]
) -> list[dict[str, Any]]:
    """Every rater against the others, see [`agreement_of_people`]."""
    shifts, scores = [], []
    for rater in range(len(labels)):
        others = np.delete(matrix, rater, axis=1)
        common = np.isfinite(matrix[:, rater]) & np.isfinite(others).any(axis=1)
        mean = np.nanmean(np.where(common[:, None], others, 0.0), axis=1)
        own, others, of = matrix[common, rater], mean[common], blocks[common]
        shifts.append(_block_sums(np.column_stack([np.ones(len(own)), own - others]), of, sampling["n_blocks"]))
        scores.append(GroupedScores(own, others, of, blocks=of))

    def against_others(weights: np.ndarray) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        pearson = np.stack([each.metrics(weights, ["pearson"])["pearson"] for each in scores])
        shift = np.stack(
            [sums[:, 1] / np.where(sums[:, 0] > 0, sums[:, 0], np.nan) for sums in map(weights.__matmul__, shifts)]
        )
        if len(labels) > 2:  # one who is off moves the mean of the others, hardly the median
            shift = (shift - np.nanmedian(shift, axis=0)) * (1 - 1 / len(labels))
        for rater in range(len(labels)):
            rest = np.delete(pearson, rater, axis=0)
            known = np.isfinite(rest)
            mean = np.where(
                known.any(axis=0), np.where(known, rest, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan
            )
            found |= {
                f"shift {rater}": shift[rater],
                f"less {rater}": pearson[rater] - mean,
                f"pearson {rater}": pearson[rater],
            }
        return found

    together = 1 - (1 - level) / len(labels)
    once = {name: float(value[0]) for name, value in against_others(np.ones((1, sampling["n_blocks"]))).items()}
    intervals = clustered_intervals(
        against_others, level=together, what="raters", bca=False, **{**sampling, "notes": []}
    )
    return [
        {
            "name": name,
            "n": int(np.isfinite(matrix[:, rater]).sum()),
            "shift": once[f"shift {rater}"],
            "shift_interval": intervals[f"shift {rater}"],
            "pearson": once[f"pearson {rater}"],
            "pearson_less": once[f"less {rater}"],
            "pearson_interval": intervals[f"less {rater}"],
        }
        for rater, name in enumerate(labels)
    ]


def _unlike(raters: list[dict[str, Any]], spread: float) -> list[str]:
    """See [`agreement_of_people`]."""
    said = []
    for each in raters:
        (low, high), shift = each["shift_interval"], each["shift"]
        if (low > 0 or high < 0) and abs(shift) >= LEAST_SHIFT * spread:
            more = "more" if shift > 0 else "less"
            ends = sorted(abs(end) for end in (low, high))
            whom = (
                "the median of the raters" if len(raters) > 2 else "the other; which of the two is off cannot be told"
            )
            said.append(
                f"Rater {each['name']} gives {abs(shift):.2f} [{ends[0]:.2f}, {ends[1]:.2f}] {more} than {whom}."
            )
        if len(raters) == 2 and said:
            return said  # the other one gives as much less
        if each["pearson_interval"][1] < 0 and each["pearson_less"] <= -LEAST_DIFFERENCE:
            said.append(
                f"Rater {each['name']} agrees less with the others than they do: Pearson's r × 100 with their mean is "
                f"{100 * each['pearson']:.1f}, theirs are {100 * (each['pearson'] - each['pearson_less']):.1f} on average."
            )
    return said


def _as_rater(
    matrix: np.ndarray, scores: np.ndarray, blocks: np.ndarray, level: float, name: str, sampling: dict[str, Any]
) -> dict[str, Any]:
    """See [`agreement_of_people`]."""
    scored, n_blocks = np.isfinite(scores), sampling["n_blocks"]
    if not scored.any():
        nan = float("nan")
        return {"alpha": nan, "change": nan, "interval": [nan, nan], "with": nan}
    people, scores, blocks = matrix[scored], scores[scored], blocks[scored]
    before = Alpha(people, blocks, n_blocks)
    after = []
    for rater in range(matrix.shape[1]):
        replaced = people.copy()
        replaced[:, rater] = np.where(np.isfinite(people[:, rater]), scores, np.nan)
        after.append(Alpha(replaced, blocks, n_blocks))

    def change(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"change": np.mean([each(weights) for each in after], axis=0) - before(weights)}

    once = np.ones((1, n_blocks))
    interval = clustered_intervals(change, level=level, what=f"{name} as a rater", bca=False, **sampling)["change"]
    return {
        "alpha": float(np.mean([each(once)[0] for each in after])),
        "change": float(change(once)["change"][0]),
        "interval": interval,
        "with": float(Alpha(np.column_stack([people, scores]), blocks, n_blocks)(once)[0]),
    }
