# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of responses, ordered by a judge that scores single ones: arrays and tables, no I/O."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from real_trl.evaluation.registry import Metric
from real_trl.evaluation.resampling import clustered_intervals, united_blocks
from real_trl.evaluation.rows import INFERENCES, MalformedHandling, column, numbers, probability_matrix, row_name
from real_trl.evaluation.unscored import UNSCORED, unscored_reasons
from real_trl.scale import Scale

if TYPE_CHECKING:
    import pandas as pd

Key = TypeVar("Key")

FOLDS = 5  # in which the threshold for ties is fitted and counted
_LEAST = np.finfo(
    float
).eps  # P is kept this far from 0 and 1, or one wrong certainty would make the log loss infinite
_SHARE: dict[str, Any] = {"factor": 100.0, "decimals": 1, "best": max}

PAIR_METRICS = {
    "accuracy": Metric(title="Acc.", **_SHARE),
    "ties": Metric(title="Equal", factor=100.0, decimals=1),
    "three_way": Metric(title="3-way", **_SHARE),
    "log_loss": Metric(title="Log loss"),
}


def wins(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """
    P(A ≻ B) = Σ p_A(i) p_B(j) [i better than j] + ½ Σ p_A(i) p_B(i): the two scores drawn independently.

    Args:
        a, b (`np.ndarray` of shape `(…, labels)`): Probabilities of the labels, from the worst to the best, which sum to 1.
    """
    below = np.cumsum(b, axis=-1) - b / 2
    return np.sum(a * below, axis=-1)


def fit_tie_threshold(differences: np.ndarray, preferences: np.ndarray) -> float:
    """
    The threshold that says most pairs right of three ways: a tie where scores differ by at most so much, else the higher score.

    Args:
        differences (`np.ndarray` of shape `(n,)`): Score of A minus score of B.
        preferences (`np.ndarray` of shape `(n,)`): The human's, from 1 for A to 0 for B, ½ for a tie.

    Returns:
        `float`: Halfway between two differences that occur, or 0 if only equal scores are ties; of several that are as good, the smallest.
    """
    gaps, human = np.abs(differences), np.sign(preferences - 0.5)
    levels = np.unique(np.append(gaps[np.isfinite(gaps)], 0.0))
    level = np.searchsorted(levels, gaps)
    gain = (human == 0) * 1.0 - (np.sign(differences) == human) * (human != 0)  # of calling it a tie
    best = int(np.argmax(np.cumsum(np.bincount(level, gain, len(levels) + 1)[: len(levels)])))
    if best == 0:
        return 0.0
    return float(levels[best] + levels[min(best + 1, len(levels) - 1)]) / 2


def evaluate_pairs(
    rows: "pd.DataFrame",
    pairs: "pd.DataFrame",
    *,
    scale: Scale,
    malformed: MalformedHandling = "force",
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """
    How well the scores of single responses order pairs as people do. In Python, without the command:

    ```python
    choices = choices_of_pairs(load_judge_dataset(data_args, scale=scale, marker=marker, pairs=True))
    rows = pd.DataFrame([asdict(each) for each in judge.judge(choices.responses["prompt"][:])])
    evaluate_pairs(rows, choices.questions, scale=scale)
    ```

    Args:
        rows (`pandas.DataFrame`):
            A judge's predictions: `status`, `sampled_score`, `expected_score`, and `probabilities`, where it has them.
        pairs (`pandas.DataFrame`):
            `responses` (two positions in `rows`), `preference` (for the first, from 0 to 1; ½ is a tie) and `group`, as
            [`~real_trl.data.choices.Choices`] has them.
        malformed, n_resamples, level, seed (*optional*):
            As of [`~real_trl.evaluation.intervals.evaluate_with_intervals`]. `"strict"`: a pair with a malformed judgment is wrong.

    Returns:
        `dict[str, Any]`: `standard` (by decoded scores) and `rail` (by ŷ), each with `accuracy` (of the `n_decided` pairs that people do not
        call a tie, equal scores counting ½), `ties` (share of all `n` pairs with equal scores), and, where there are human ties, `three_way`
        (see [`fit_tie_threshold`]; each fifth of the groups is counted with the threshold of the others); in `rail` also `log_loss` of P(A ≻ B),
        in nats, of `n_log_loss` pairs, with P kept 2e-16 from 0 and 1; `intervals` in the same form; `tie_threshold` of all pairs, by inference; how many responses were malformed
        or unscored, and why; `n_questions`, `n_unscored_questions` and `notes`. A pair with an unscored response is in no figure.
    """
    first, second = np.array(pairs["responses"].tolist()).reshape(-1, 2).T
    preference = np.asarray(pairs["preference"], dtype=np.float64)
    result, usable, is_ok = judged_responses(rows, malformed)
    counts = usable[first] & usable[second]
    result |= questions_counted(counts, rows, first, second)
    first, second, preference = first[counts], second[counts], preference[counts]
    human = np.sign(preference - 0.5)
    groups = np.unique(np.asarray(pairs["group"]).astype(str)[counts], return_inverse=True)[1]
    wrong = ~(is_ok[first] & is_ok[second]) if malformed == "strict" else np.zeros(len(first), dtype=bool)
    sign = -1.0 if scale.lower_is_better else 1.0
    result |= {"tie_threshold": {}, "intervals": {}, "n_human_ties": int(np.sum(human == 0))}
    for inference, name in INFERENCES.items():
        scores = sign * numbers(rows, name, len(rows))
        difference = scores[first] - scores[second]
        difference[wrong] = np.where(human > 0, -np.inf, np.inf)[wrong]
        right = (1 + np.sign(difference) * human) / 2
        columns = {"n": np.ones(len(human)), "decided": human != 0, "right": right * (human != 0)}
        columns["equal"] = difference == 0
        if 0 < result["n_human_ties"] < len(human):
            if (called := _three_way(difference, preference, groups, seed)) is not None:
                columns["three_way"] = called
                result["tie_threshold"][inference] = fit_tie_threshold(difference, preference)
            else:
                result["notes"].append(f"{inference}: no threshold for ties: the pairs are of one group.")
        if inference == "rail":
            columns |= _log_losses(rows, first, second, preference, wrong, scale, result["notes"])
        result[inference], result["intervals"][inference] = grouped_figures(
            columns, _figures, groups, inference, result["notes"], n_resamples, level, seed
        )
        result[inference] |= {"n": len(human), "n_decided": int(np.sum(human != 0))}
        if "loss" in columns:
            result[inference]["n_log_loss"] = int(np.sum(columns["has_loss"]))
    return result


def judged_responses(
    rows: "pd.DataFrame", malformed: MalformedHandling
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """
    What became of the judgments, for the report; which of them count, and which are well-formed, `(N,)` each.

    Raises:
        `ValueError`: naming the row, if one that counts has no finite score.
    """
    status = np.asarray(column(rows, "status"), dtype=object)
    scored, is_ok = status != UNSCORED, status == "ok"
    reasons, times = np.unique(status[scored & ~is_ok].astype(str), return_counts=True)
    unscored = unscored_reasons(status, rows["error"]) if "error" in rows else {}
    about: dict[str, Any] = {
        "n_rows": len(status),
        "n_unscored": int(np.sum(~scored)),
        "unscored": unscored,
        "malformed": {str(reason): int(count) for reason, count in zip(reasons, times, strict=True)},
        "malformed_rate": float(np.sum(scored & ~is_ok) / scored.sum()) if scored.any() else float("nan"),
        "malformed_handling": malformed,
        "notes": [],
    }
    counts = is_ok if malformed == "drop" else scored
    for name in INFERENCES.values():
        scores = numbers(rows, name, len(status))
        bad = np.flatnonzero(counts & ~np.isfinite(scores) & (is_ok | (malformed != "strict")))
        if len(bad):
            raise ValueError(
                f"Row {row_name(rows, bad[0])} (status {status[bad[0]]!r}) has `{name}` {scores[bad[0]]} ({len(bad)} such rows in all): give "
                f"every row that counts a finite value, or the status {UNSCORED!r}."
            )
    if about["n_unscored"]:
        whys = "; ".join(f"{count} times: {why}" for why, count in unscored.items()) or "the engine gave no answer"
        about["notes"].append(f"{about['n_unscored']} of {len(status)} responses are unscored ({whys}).")
    return about, counts, is_ok


def questions_counted(counts: np.ndarray, rows: "pd.DataFrame", *places: np.ndarray) -> dict[str, Any]:
    """How many questions there are, and how many are in no figure because a response has no score; `places` of their responses in `rows`."""
    unscored = np.asarray(column(rows, "status"), dtype=object) == UNSCORED
    of = np.any([unscored[place] for place in places], axis=0)
    return {
        "n_questions": len(counts),
        "n_unscored_questions": int(np.sum(of)),
        "n_dropped_questions": int(np.sum(~counts & ~of)),
    }


def grouped_figures(
    columns: Mapping[Key, np.ndarray],
    figures: Callable[[Mapping[Key, np.ndarray]], dict[str, np.ndarray]],
    groups: np.ndarray,
    what: str,
    notes: list[str],
    n_resamples: int,
    level: float,
    seed: int,
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """
    Figures that follow from sums over rows, and their bootstrap intervals clustered by group.

    Args:
        columns (`Mapping`): What each row adds, `(n,)` each.
        figures (`Callable`): Sums of the columns, `(B,)` each → figures `(B,)`.
        groups (`np.ndarray` of shape `(n,)`): Number of each row's group, from 0 on.
        what, notes, n_resamples, level, seed: As of [`~real_trl.evaluation.resampling.clustered_intervals`].
    """
    table = np.column_stack([np.asarray(values, dtype=np.float64) for values in columns.values()])
    blocks, n_blocks = united_blocks(groups, int(groups.max(initial=-1)) + 1, seed)
    sums = np.stack([np.bincount(blocks, values, n_blocks) for values in table.T], axis=1)

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return figures(dict(zip(columns, (weights @ sums).T, strict=True)))

    estimates = {name: float(values[0]) for name, values in statistic(np.ones((1, n_blocks))).items()}
    if not n_blocks:
        return estimates, {name: [float("nan")] * 2 for name in estimates}
    return estimates, clustered_intervals(statistic, n_blocks, n_resamples, level, seed, what, notes)


def _figures(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    found = {"accuracy": sums["right"] / sums["decided"], "ties": sums["equal"] / sums["n"]}
    if "three_way" in sums:
        found["three_way"] = sums["three_way"] / sums["n"]
    if "loss" in sums:
        found["log_loss"] = sums["loss"] / sums["has_loss"]
    return found


def _three_way(differences: np.ndarray, preferences: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray | None:
    """Which pairs are said right of three ways, with a threshold that other groups gave; `None` where there are no others."""
    n_groups = int(groups.max()) + 1
    if n_groups < 2:
        return None
    fold = (np.random.default_rng(seed).permutation(n_groups) % FOLDS)[groups]
    said = np.empty(len(groups))
    for each in np.unique(fold):
        threshold = fit_tie_threshold(differences[fold != each], preferences[fold != each])
        held = fold == each
        said[held] = np.where(np.abs(differences[held]) <= threshold, 0, np.sign(differences[held]))
    return said == np.sign(preferences - 0.5)


def _log_losses(
    rows: "pd.DataFrame",
    first: np.ndarray,
    second: np.ndarray,
    preference: np.ndarray,
    wrong: np.ndarray,
    scale: Scale,
    notes: list[str],
) -> dict[str, np.ndarray]:
    matrix = probability_matrix(rows, scale.values, len(rows), scale.labels)
    if matrix is None:
        notes.append("rail: no log loss: the judge gives no distributions.")
        return {}
    order = np.argsort(scale.values)[:: -1 if scale.lower_is_better else 1]
    with np.errstate(invalid="ignore"):
        matrix = matrix[:, order] / matrix.sum(axis=1, keepdims=True)  # a mass outside of the scale is on neither side
    known = np.isfinite(matrix[first]).all(axis=1) & np.isfinite(matrix[second]).all(axis=1) & ~wrong
    if left := int(np.sum(~known)):
        notes.append(
            f"log loss: {left} of {len(known)} pairs are left out: a response has no distribution of its own."
        )
    p = np.clip(wins(matrix[first], matrix[second]), _LEAST, 1 - _LEAST)
    loss = -(preference * np.log(p) + (1 - preference) * np.log1p(-p))
    return {"loss": np.where(known, loss, 0.0), "has_loss": known}
