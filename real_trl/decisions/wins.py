# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How often an answer of one system is better than one of another, from the distributions of a judge. Arrays only."""

from collections.abc import Sequence

import numpy as np

from real_trl.decisions.inference import Contrast, Means, ScoredRows, judge_alone, prediction_powered
from real_trl.evaluation.pairs import wins

MIN_LABELLED_PAIRS = 10  # fewer say too little about how far the judge's win rate is off


def by_question(rows: ScoredRows, probabilities: np.ndarray) -> list[np.ndarray]:
    """
    Mean distribution of each system's answers to each question, `(G, labels)` a system, NaN where there is none.

    Args:
        probabilities (`np.ndarray` of shape `(n, labels)`):
            Of the labels from the worst to the best; NaN in rows without a distribution, which are left out.
    """
    known = np.isfinite(probabilities).all(axis=1)
    counts = rows.sums(known.astype(float))
    sums = np.stack([rows.sums(np.where(known, column, 0.0)) for column in probabilities.T], axis=-1)  # (G, S, labels)
    means = np.where(counts[:, :, None] > 0, sums / np.maximum(counts, 1)[:, :, None], np.nan)
    return list(means.transpose(1, 0, 2))


def win_rate(
    rows: ScoredRows, distributions: Sequence[np.ndarray], a: int, b: int, falls: bool = False
) -> dict | None:
    """
    Share of the questions that both systems answered in which A's answer is better, ties ½.

    Args:
        distributions (`Sequence[np.ndarray]`): Of each system, see [`by_question`].
        a, b (`int`): The systems.
        falls (`bool`, *optional*, defaults to `False`): Whether a lower human score is the better one.

    Returns:
        `dict`, or `None` where they have no two questions in common: `questions` in common, `judge` (a [`Contrast`]: by the judge's distributions
        alone, as biased as they are), and `corrected`, by prediction-powered inference with the questions of which both answers have a
        human score, `labelled` of them, if there are 10 at least and rows were not chosen with unequal probabilities; else `None`. Several answers
        of a system to a question count with their mean distribution.
    """
    of = [distributions[system] for system in (a, b)]
    both = np.isfinite(of[0][:, 0]) & np.isfinite(of[1][:, 0])
    if both.sum() < 2:
        return None
    judged = wins(of[0][both], of[1][both])
    human = _human_wins(rows, a, b, falls)[both]
    questions = np.arange(len(judged))
    pairs = ScoredRows(np.zeros(len(judged), dtype=int), questions, judged, human)
    labelled = int(np.isfinite(human).sum())
    corrects = labelled >= MIN_LABELLED_PAIRS and rows.probability is None
    return {
        "questions": len(judged),
        "judge": _only(judge_alone(pairs)),
        "labelled": labelled,
        "corrected": _only(prediction_powered(pairs)) if corrects else None,
    }


def _only(means: Means) -> Contrast:
    return means.contrast(np.ones(1))


def _human_wins(rows: ScoredRows, a: int, b: int, falls: bool) -> np.ndarray:
    """Share of the pairs of labelled answers to each question in which A's has the better human score, ties ½, `(G,)`; NaN without a pair."""
    sign = -1 if falls else 1
    found = np.full(rows.n_questions, np.nan)
    scores: list[dict[int, list[float]]] = [{}, {}]
    for of, system in zip(scores, (a, b), strict=True):
        for row in np.flatnonzero((rows.systems == system) & rows.is_labelled):
            of.setdefault(int(rows.questions[row]), []).append(sign * rows.human[row])
    for question in scores[0].keys() & scores[1].keys():
        x, y = (np.array(of[question]) for of in scores)
        found[question] = np.mean((np.sign(x[:, None] - y) + 1) / 2)
    return found
