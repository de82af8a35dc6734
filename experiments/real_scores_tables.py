# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The tables of real scores, in Markdown. Correlations are times 100.

Short answers: every answer is predicted once, by what was trained on the other folds. Correlations are within folds, whose predictions
come from different trainings, errors over all rows; intervals are from a bootstrap over questions, each with all its answers. Similarity:
all seeds predict the same test rows, and intervals are those of [`~experiments.analysis.over_seeds`]; a method without a seed has that of the
rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.analysis import LEVEL, Figure, over_seeds, row_weights, weighted
from experiments.real_scores_data import TASKS
from experiments.real_scores_models import TRAINED
from experiments.tables import markdown, with_interval
from real_trl.evaluation.metrics import score_metrics
from real_trl.evaluation.resampling import bootstrap_weights, expanded_percentile_interval

SEEDED = ("similarity",)
_SEEDS = 5  # or folds, of each trained method
_RESAMPLES = 1000


@dataclass(frozen=True)
class Reading:
    """A method, and whether its decoded score is looked at or its expected one."""

    method: str
    decoded: bool = False


READINGS = {
    "zero-shot, decoded": Reading("zero_shot_chat", decoded=True),
    "zero-shot, RAIL": Reading("zero_shot_chat"),
    "zero-shot, RAIL, without the chat template": Reading("zero_shot"),
    "SFT, decoded": Reading("sft", decoded=True),
    "SFT, RAIL": Reading("sft"),
    "RAFT, decoded": Reading("raft", decoded=True),
    "**RAFT, RAIL**": Reading("raft"),
    "regression head": Reading("head"),
    "TF-IDF and ridge": Reading("tfidf"),
    "mean label of the training rows": Reading("mean"),
    "the other grader": Reading("other_grader"),
    "the other grader, at grader 1's level": Reading("other_grader_at_level"),
}
# Judges that write a rationale, and the direct ones beside them
RATIONALES = {
    "zero-shot, RAIL": Reading("zero_shot_chat"),
    "RAFT, RAIL, direct": Reading("raft"),
    "RAFT with rationales, decoded": Reading("rationale_raft", decoded=True),
    "RAFT with rationales, RAIL": Reading("rationale_raft"),
    "Standard RL, decoded": Reading("standard_rl", decoded=True),
    "Standard RL, RAIL": Reading("standard_rl"),
    "JEPO, RAIL": Reading("jepo"),
    "REAL, RAIL": Reading("real"),
}
# The first lines, for README
_FIRST = [
    "zero-shot, RAIL",
    "SFT, decoded",
    "SFT, RAIL",
    "**RAFT, RAIL**",
    "regression head",
    "TF-IDF and ridge",
    "the other grader",
]
CURVES = ["SFT, decoded", "SFT, RAIL", "**RAFT, RAIL**", "regression head", "TF-IDF and ridge"]
_PAIRS = [("**RAFT, RAIL**", other) for other in READINGS if other != "**RAFT, RAIL**" and "without" not in other]
_PAIRS += [
    ("SFT, RAIL", "SFT, decoded"),
    ("regression head", "TF-IDF and ridge"),
    ("TF-IDF and ridge", "the other grader"),
    ("TF-IDF and ridge", "the other grader, at grader 1's level"),
]


class RealScores:
    """
    Stored predictions.

    Args:
        predictions (`pandas.DataFrame`):
            As `experiments.real_scores` stores them.
    """

    def __init__(self, predictions: pd.DataFrame) -> None:
        keys = ["task", "method", "labels"]
        self._parts = {key: part for key, part in predictions.groupby(keys, observed=True)}

    def rows(self, task: str, reading: Reading, labels: str = "all") -> pd.DataFrame | None:
        """`id`, `group`, `fold`, `target` and `score`, sorted; `None` if there are none. What is not trained has no number of labels."""
        found = self._parts.get((task, reading.method, "0" if reading.method.startswith("zero_shot") else labels))
        if found is None:
            return None
        found = found.assign(score=found["sampled_score" if reading.decoded else "expected_score"])
        return found[["id", "group", "fold", "target", "score"]].sort_values(["fold", "id"], ignore_index=True)

    def figure(self, task: str, reading: Reading, metric: str, labels: str = "all") -> Figure | None:
        """A metric of a method over its folds or seeds."""
        rows = self.rows(task, reading, labels)
        return None if rows is None else _figure(task, _resampled(task, rows, metric), rows)

    def difference(self, task: str, a: Reading, b: Reading, metric: str, labels: str = "all") -> Figure | None:
        """`a` less `b` on the rows that both have; a method that has no seed is the same in all."""
        first, second = self.rows(task, a, labels), self.rows(task, b, labels)
        if first is None or second is None:
            return None
        if not any(_has_no_seed(task, each, labels) for each in (a, b)):
            first, second = _shared(first, second), _shared(second, first)
        if first.empty:
            return None
        return _figure(task, _resampled(task, first, metric) - _resampled(task, second, metric), first)


def _has_no_seed(task: str, reading: Reading, labels: str) -> bool:
    """Whether all seeds of a method would predict the same."""
    untrained = reading.method == "mean" or reading.method.startswith("zero_shot")
    return task in SEEDED and (untrained or (reading.method, labels) == ("tfidf", "all"))


def _shared(rows: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The rows that the other method has predicted in the same fold too."""
    keys = ["fold", "id"]
    return rows.merge(other[keys], on=keys)


def _resampled(task: str, rows: pd.DataFrame, metric: str) -> np.ndarray:
    """The metric on all rows (first column) and on every resample: `(S, 1 + B)` of seeds, `(1, 1 + B)` of folds."""
    if task in SEEDED:
        target = rows[rows["fold"] == rows["fold"].min()]["target"].to_numpy(np.float64)
        scores = rows["score"].to_numpy(np.float64).reshape(-1, len(target))
        return _metric(metric, scores, target, row_weights(len(target)))
    if metric == "pearson":
        columns = ["score", "target"]
        rows = rows.assign(**{name: rows[name] - rows.groupby("fold")[name].transform("mean") for name in columns})
    groups, count = np.unique(rows["group"].astype(str), return_inverse=True)
    weights = np.vstack([np.ones((1, len(groups))), bootstrap_weights(len(groups), _RESAMPLES, seed=0)])
    scores, target = (rows[name].to_numpy(np.float64) for name in ("score", "target"))
    return _metric(metric, scores[None], target, weights[:, count])


def _metric(metric: str, scores: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if metric == "pearson" and np.allclose(scores, scores[:, :1]):  # a constant
        return np.full((len(scores), len(weights)), np.nan)
    return weighted(metric, scores, target, weights)


def _figure(task: str, resampled: np.ndarray, rows: pd.DataFrame) -> Figure:
    if np.isnan(resampled).all():
        return Figure(resampled[:, 0], np.nan, np.nan)
    if task not in SEEDED:
        low, high = expanded_percentile_interval(resampled[0, 1:], rows["group"].nunique(), LEVEL)
        return Figure(resampled[:, 0], low, high)
    if len(resampled) > 1:
        return over_seeds(resampled)
    half = stats.norm.ppf((1 + LEVEL) / 2) * resampled[0, 1:].std()
    return Figure(resampled[:, 0], float(resampled[0, 0] - half), float(resampled[0, 0] + half))


def methods(scores: RealScores, task: str) -> str:
    """Every method at all labels."""
    header = ["", "seeds" if task in SEEDED else "folds", "r", "ρ", "RMSE", "MAE"]
    table = []
    for title, reading in READINGS.items():
        if (rows := scores.rows(task, reading)) is None:
            continue
        r, rmse, mae = (scores.figure(task, reading, metric) for metric in ("pearson", "rmse", "mae"))
        ranks = np.mean([score_metrics(part["score"], part["target"])["spearman"] for _, part in rows.groupby("fold")])
        cells = [str(rows["fold"].nunique()), _cell(r), f"{100 * ranks:.1f}" if np.isfinite(ranks) else "–"]
        table.append([title, *cells, _cell(rmse, 1, 3), f"{mae.mean:.3f}"])
    return markdown(header, table)


def first_lines(scores: RealScores) -> str:
    """What stands in README: r and RMSE of some methods at all labels, on all tasks; of a trained method also how many of its seeds are there."""
    header, table = [""], []
    for title in TASKS.values():
        header += [f"{title}: r", "RMSE"]
    for title in _FIRST:
        reading, line = READINGS[title], [title]
        for task in TASKS:
            r, rmse = (scores.figure(task, reading, metric) for metric in ("pearson", "rmse"))
            rows = scores.rows(task, reading, "all")
            count = 0 if rows is None else rows["fold"].nunique()
            partly = f" ({count} of {_SEEDS})" if reading.method in TRAINED and 0 < count < _SEEDS else ""
            line += [_cell(r) + partly, _cell(rmse, 1, 3)]
        table.append(line)
    return markdown(header, table)


def differences(scores: RealScores, labels: str = "all") -> str:
    """Pairs of methods on the same rows; baselines that were made with all labels only are left out of fewer."""
    table = []
    for task, title in TASKS.items():
        for a, b in _PAIRS:
            pair = READINGS[a], READINGS[b]
            if (rmse := scores.difference(task, *pair, "rmse", labels)) is None:
                continue
            r = scores.difference(task, *pair, "pearson", labels)
            counted = min(scores.rows(task, each, labels)["fold"].nunique() for each in pair)
            names = f"{a} − {b}".replace("**", "")
            table.append([title, names, str(counted), _cell(r, sign=True), _cell(rmse, 1, 3, sign=True)])
    return markdown(["", f"{labels} labels", "folds or seeds", "r", "RMSE"], table, left=2)


def rationales(scores: RealScores, labels: str = "200") -> str:
    """Does a rationale pay? All on the rows that the warm start with rationales has judged, and its difference to the direct judge."""
    task, table = "unseen_questions", []
    judged = scores.rows(task, Reading("rationale_raft"), labels)
    if judged is None:
        return "Not run yet."
    for title, reading in RATIONALES.items():
        if (rows := scores.rows(task, reading, labels)) is None:
            continue
        rows = _shared(rows, judged)
        r, rmse = (_figure(task, _resampled(task, rows, metric), rows) for metric in ("pearson", "rmse"))
        less = [scores.difference(task, reading, Reading("raft"), metric, labels) for metric in ("pearson", "rmse")]
        direct = reading.method in ("raft", "zero_shot_chat")
        cells = ["–", "–"] if direct else [_cell(less[0], sign=True), _cell(less[1], 1, 3, sign=True)]
        table.append([title, str(rows["fold"].nunique()), _cell(r), _cell(rmse, 1, 3), *cells])
    header = [f"{labels} labels", "folds", "r", "RMSE", "less the direct judge, r", "RMSE"]
    return markdown(header, table)


def curve(scores: RealScores) -> str:
    """Learning curves: r and RMSE over the number of labels."""
    sizes, table = ["50", "200", "800", "all"], []
    for task, title in TASKS.items():
        for name in CURVES:
            found = [[scores.figure(task, READINGS[name], m, n) for m in ("pearson", "rmse")] for n in sizes]
            counts = [
                rows["fold"].nunique() if (rows := scores.rows(task, READINGS[name], n)) is not None else 0
                for n in sizes
            ]
            cells = [
                f"{_cell(r)}; {rmse.mean:.3f} ({count})" if rmse is not None else ""
                for (r, rmse), count in zip(found, counts, strict=True)
            ]
            if any(cells[:-1]):
                table.append([title, name, *cells])
    return markdown(["r; RMSE (folds or seeds)", "", *(f"{size} labels" for size in sizes)], table, left=2)


def rates(record: Mapping[str, Any]) -> str:
    """RMSE of each learning rate on the validation rows."""
    tried = sorted({rate for errors in record["validation_rmse"].values() for rate in errors}, key=float)
    table = []
    for name, errors in sorted(record["validation_rmse"].items()):
        task, method = name.split(": ")
        best = min(errors, key=errors.__getitem__)
        cells = [f"**{errors[rate]:.3f}**" if rate == best else f"{errors[rate]:.3f}" for rate in tried]
        table.append([TASKS[task], {"raft": "RAFT", "sft": "SFT", "head": "regression head"}[method], *cells])
    return markdown(["validation RMSE at", "", *(f"{float(rate):g}" for rate in tried)], table, left=2)


def runs(record: Mapping[str, Any]) -> str:
    """What was run, for how long, with which versions."""
    seconds = sum(cell["seconds"] for cell in record["cells"])
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in sorted(record["versions"].items()))
    return f"{len(record['cells'])} cells, {seconds / 3600:.1f} hours of one core (the other learning rates come on top), with {versions}."


def _cell(figure: Figure | None, factor: float = 100.0, decimals: int = 1, sign: bool = False) -> str:
    if figure is None or not np.isfinite(figure.mean):
        return "–"
    return with_interval(figure, factor, decimals, sign)


def blocks(predictions: pd.DataFrame, record: Mapping[str, Any]) -> dict[str, str]:
    """Every block of RESULTS.md about real scores by name."""
    scores = RealScores(predictions)
    made = {f"real-scores-{task.replace('_', '-')}": methods(scores, task) for task in TASKS}
    made |= {"real-scores-differences": differences(scores), "real-scores-curve": curve(scores)}
    made["real-scores-differences-800"] = differences(scores, "800")
    made["real-scores-rationales"] = rationales(scores)
    return made | {"real-scores-rates": rates(record), "real-scores-runs": runs(record)}
