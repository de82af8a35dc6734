# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Best of several responses, scored as RewardBench 2 does (Malik et al. 2025, arXiv 2506.01937). The rule is that of its code
(`reroll_and_score_dataset` and `process_single_model` in `rewardbench/utils.py` of allenai/reward-bench, read in 2026), written anew:

- a question with one right response gets 1/k if that has the highest score and k responses have it, else 0; a subset's score is the mean;
- of the subset Ties, whose prompts come once with one right answer (`ref`) and once with several (`tied`), see [`ties_score`];
- the benchmark's score is the mean over its subsets, each with the same weight.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from real_trl.data.choices import TIES_SUBSET
from real_trl.evaluation.pairs import grouped_figures, judged_responses
from real_trl.evaluation.registry import Metric
from real_trl.evaluation.rows import INFERENCES, MalformedHandling, numbers
from real_trl.evaluation.unscored import UNSCORED
from real_trl.scale import Scale

if TYPE_CHECKING:
    import pandas as pd

AVERAGE = "average"
_TIES_WEIGHTS = {"tied": 0.30, "ref": 0.30, "preferred": 0.20, "preferred_hard": 0.20, "margin": 0.01}


def best_of_metric(subset: str) -> Metric:
    """How a subset's score is printed."""
    return Metric(title="Average" if subset == AVERAGE else subset, factor=100.0, decimals=1, best=max)


def best_of_credit(scores: Sequence[float] | np.ndarray) -> float:
    """`1/k` if the first response has the highest score, which `k` have; else 0."""
    scores = np.asarray(scores, dtype=np.float64)
    return float(1 / np.sum(scores == scores.max())) if scores[0] == scores.max() else 0.0


def ties_columns(
    tied: Mapping[int, tuple[np.ndarray, np.ndarray]], ref: Mapping[int, tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """
    What each prompt of the subset Ties adds to its score.

    Args:
        tied, ref (`Mapping[int, tuple]`):
            Number of the prompt → scores of the right and of the wrong responses. Of a prompt in only one of both nothing but its
            accuracy counts.

    Returns:
        `dict[str, np.ndarray]`: A row for each prompt, in the order of [`sorted`] numbers: `tied`, `ref`: whether all right responses have a
        higher score than all wrong ones; `preferred`: whether, where several are right, the lowest of these is further from the wrong ones
        than from the highest; `preferred_hard`: the same with the smaller of both prompts' margins; `margin`: `tanh(margin/spread − 1)`; and
        how many count, `n_tied`, `n_ref`, `n_both`.
    """
    prompts = sorted({*tied, *ref})
    columns = {name: np.zeros(len(prompts)) for name in (*_TIES_WEIGHTS, "n_tied", "n_ref", "n_both")}
    for row, prompt in enumerate(prompts):
        margins = {}
        for name, part in (("tied", tied), ("ref", ref)):
            if prompt in part:
                right, wrong = part[prompt]
                margins[name] = float(np.min(right) - np.max(wrong))
                columns[name][row], columns[f"n_{name}"][row] = margins[name] > 0, 1
        if len(margins) == 2:
            with np.errstate(divide="ignore", invalid="ignore"):
                spread = np.float64(np.max(tied[prompt][0]) - np.min(tied[prompt][0]))
                least = np.float64(min(margins.values()))
                columns["preferred"][row] = margins["tied"] > spread
                columns["preferred_hard"][row] = least > spread
                columns["margin"][row] = np.nan_to_num(np.tanh(least / spread - 1), nan=0.0)
            columns["n_both"][row] = 1
    return columns


def ties_score(sums: Mapping[str, np.ndarray]) -> np.ndarray:
    """
    `0.3 tied + 0.3 ref + 0.2 preferred + 0.2 preferred_hard + 0.01 margin`, each the mean over the prompts that have it (0 where none has
    a `ref`, or `tied`). As published, it can exceed 1 by 0.01.

    Args:
        sums (`Mapping[str, np.ndarray]`): Sums of [`ties_columns`], of any shape.
    """
    n = {"tied": sums["n_tied"], "ref": sums["n_ref"]}
    with np.errstate(divide="ignore", invalid="ignore"):
        means = {name: sums[name] / n.get(name, sums["n_both"]) for name in _TIES_WEIGHTS}
    for name, count in n.items():
        means[name] = np.where(np.asarray(count) == 0, 0.0, means[name])
    return sum(weight * means[name] for name, weight in _TIES_WEIGHTS.items())


def evaluate_best_of(
    rows: "pd.DataFrame",
    questions: "pd.DataFrame",
    *,
    scale: Scale,
    malformed: MalformedHandling = "force",
    n_resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """
    How often the scores of single responses choose the right one, as RewardBench 2 counts it.

    Args:
        rows (`pandas.DataFrame`):
            A judge's predictions, as of [`~real_trl.evaluation.pairs.evaluate_pairs`].
        questions (`pandas.DataFrame`):
            `responses` (positions in `rows`, the right ones first), `num_correct`, `subset`, `group`, and `id`, which is `ref:7` or `tied:7`
            in the subset Ties.
        malformed, n_resamples, level, seed (*optional*):
            As of [`~real_trl.evaluation.intervals.evaluate_with_intervals`]. `"strict"`: a malformed right response has the lowest score of
            all, a malformed wrong one the highest.

    Returns:
        `dict[str, Any]`: `standard` and `rail`, each with the score of every subset by its name, `average`, and `n`, the number of questions that
        count; `intervals` in the same form, and what became of the responses. A question with an unscored response is in no figure.
    """
    result, usable, is_ok = judged_responses(rows, malformed)
    unscored = np.asarray(rows["status"], dtype=object) == UNSCORED
    of = [bool(unscored[places].any()) for places in questions["responses"]]
    kept = np.array([bool(usable[places].all()) for places in questions["responses"]], dtype=bool)
    result |= {
        "n_questions": len(questions),
        "n_unscored_questions": sum(of),
        "n_dropped_questions": int(np.sum(~kept)) - sum(of),
        "intervals": {},
    }
    questions = questions[kept]
    sign = -1.0 if scale.lower_is_better else 1.0
    for inference, name in INFERENCES.items():
        scores = sign * numbers(rows, name, len(rows))
        given = []
        for places, correct in zip(questions["responses"], questions["num_correct"], strict=True):
            of_question = scores[places]
            if malformed == "strict":
                far = np.where(np.arange(len(places)) < correct, -np.inf, np.inf)
                of_question = np.where(is_ok[places], of_question, far)
            given.append(of_question)
        columns, groups = _columns(questions, given)
        result[inference], result["intervals"][inference] = grouped_figures(
            columns, _figures, groups, inference, result["notes"], n_resamples, level, seed
        )
        result[inference]["n"] = len(questions)
    return result


def _columns(
    questions: "pd.DataFrame", given: Sequence[np.ndarray]
) -> tuple[dict[tuple[str, ...], np.ndarray], np.ndarray]:
    """Columns for sums, a row for each question, or each prompt of the Ties, and the groups of these rows."""
    subsets = [str(subset) for subset in questions["subset"]]
    parts: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]] = {"tied": {}, "ref": {}}
    credits: dict[str, list[tuple[int, float]]] = {}
    groups: list[str] = []
    for subset, name, group, correct, scores in zip(
        subsets, questions["id"], questions["group"], questions["num_correct"], given, strict=True
    ):
        if subset.lower() == TIES_SUBSET:
            kind, number = str(name).split(":")
            parts["ref" if kind == "ref" else "tied"][int(number)] = (scores[:correct], scores[correct:])
        else:
            credits.setdefault(subset, []).append((len(groups), best_of_credit(scores)))
            groups.append(f"question {group}")
    own = len(groups)
    ties = ties_columns(parts["tied"], parts["ref"])
    groups += [f"ties {number}" for number in sorted({*parts["tied"], *parts["ref"]})]
    columns: dict[tuple[str, ...], np.ndarray] = {}
    for subset in dict.fromkeys(subsets):
        if subset.lower() == TIES_SUBSET:
            columns |= {("ties", subset, name): np.append(np.zeros(own), each) for name, each in ties.items()}
            continue
        credit, n = np.zeros((2, len(groups)))
        for row, each in credits[subset]:
            credit[row], n[row] = each, 1
        columns |= {("credit", subset): credit, ("n", subset): n}
    return columns, np.unique(groups, return_inverse=True)[1] if groups else np.zeros(0, dtype=int)


def _figures(sums: Mapping[tuple[str, ...], np.ndarray]) -> dict[str, np.ndarray]:
    found = {}
    for kind, subset, *_ in sums:
        if kind == "credit":
            found[subset] = sums["credit", subset] / sums["n", subset]
        elif kind == "ties" and subset not in found:
            found[subset] = ties_score({key[2]: each for key, each in sums.items() if key[:2] == ("ties", subset)})
    return {**found, AVERAGE: np.mean(list(found.values()), axis=0)} if found else {AVERAGE: np.full(1, np.nan)}
