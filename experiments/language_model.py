# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The tables of a cross-validated language model, in Markdown.

Correlations are times 100 and within folds: the judges of a fold are trained towards the level of the other folds' labels, which
would pull a pooled correlation down. Errors are over all rows, once in every repeat. Bootstrap intervals over questions, each with
its rows of all repeats, for these weights: other seeds of the training would give others.
"""

import math

import pandas as pd

from experiments.tables import METHODS, estimate, markdown
from real_trl.evaluation.comparison import holm, paired_comparison
from real_trl.evaluation.intervals import evaluate_with_intervals
from real_trl.evaluation.metrics import score_metrics

_PAIRS = [
    ("raft", "base"),
    ("tract", "raft"),
    ("standard_rl", "raft"),
    ("real", "raft"),
    ("real", "tract"),
    ("real", "standard_rl"),
]


def judges(predictions: pd.DataFrame) -> str:
    """Every judge on the rows of all folds, and a guess that reads nothing."""
    header = ["judge", "standard r", "RAIL r", "RAIL ρ", "RAIL τ", "RAIL RMSE", "RAIL MAE"]
    header += ["RAIL r of each fold", "ŷ on average", "mass", "malformed"]
    rows = []
    for name, frame in predictions.groupby("judge", sort=False):
        within, pooled = (evaluate_with_intervals(each) for each in (within_folds(frame), frame))
        rows.append(
            [
                METHODS[name],
                *(
                    estimate(within[each]["pearson"], within["intervals"][each]["pearson"])
                    for each in ("standard", "rail")
                ),
                *(f"{100 * within['rail'][metric]:.1f}" for metric in ("spearman", "kendall")),
                estimate(pooled["rail"]["rmse"], pooled["intervals"]["rail"]["rmse"], 1, 3),
                f"{pooled['rail']['mae']:.3f}",
                ", ".join(f"{100 * r:.1f}" for r in _of_folds(frame, "pearson")),
                f"{frame['expected_score'].mean():.2f}",
                f"{pooled['mean_mass']:.2f}",
                f"{100 * pooled['malformed_rate']:.0f}%",
            ]
        )
    guess = mean_of_the_other_folds(frame)
    guessed = score_metrics(guess, frame["target"])
    row = ["mean label of the training rows", *["–"] * 4, f"{guessed['rmse']:.3f}", f"{guessed['mae']:.3f}", "–"]
    rows.append([*row, f"{guess.mean():.2f}", "–", "–"])
    return markdown(header, rows)


def differences(predictions: pd.DataFrame) -> str:
    """Pairs of judges on the same rows, over all folds and in each; p-values adjusted for the number of pairs (Holm)."""
    frames = dict(list(predictions.groupby("judge")))
    pairs = [(a, b) for a, b in _PAIRS if a in frames and b in frames]
    rows = [[f"{METHODS[a]} − {METHODS[b]}"] for a, b in pairs]
    for metric, factor, decimals in (("pearson", 100, 1), ("rmse", 1, 3)):
        form = within_folds if metric == "pearson" else pd.DataFrame.copy
        found = [paired_comparison(form(frames[a]), form(frames[b]))["rail"][metric] for a, b in pairs]
        adjusted = holm([each["p_value"] for each in found])
        for row, (a, b), each, p in zip(rows, pairs, found, adjusted, strict=True):
            folds = [_of_folds(frames[name], metric) for name in (a, b)]
            by_fold = [f"{factor * (x - y):+.{decimals}f}" for x, y in zip(*folds, strict=True)]
            row += [
                estimate(each["difference"], each["interval"], factor, decimals, sign=True),
                f"{p:.2f}",
                ", ".join(by_fold),
            ]
    header = ["under RAIL", "r", "p", "r of each fold", "RMSE", "p", "RMSE of each fold"]
    return markdown(header, rows)


def within_folds(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores and targets less their mean over the fold, for correlations only."""
    columns = ["expected_score", "sampled_score", "target"]
    return frame.assign(**{name: frame[name] - frame.groupby("fold")[name].transform("mean") for name in columns})


def _of_folds(frame: pd.DataFrame, metric: str) -> list[float]:
    return [score_metrics(part["expected_score"], part["target"])[metric] for _, part in frame.groupby("fold")]


def training(history: pd.DataFrame) -> str:
    """What every run logged, the mean over its first and its last quarter."""
    columns = {
        "mean_token_accuracy": "token accuracy",
        "score/abs_error": "absolute error of ŷ",
        "reward": "reward",
        "frac_reward_zero_std": "groups without a signal",
        "malformed/rate": "malformed",
        "completions/mean_length": "tokens",
        "step_time": "seconds a step",
    }
    columns = {name: title for name, title in columns.items() if name in history}
    rows = []
    for (judge, fold), run in history.groupby(["judge", "fold"], sort=False):
        steps = run[run["loss"].notna()]
        quarter = max(1, len(steps) // 4)
        row = [METHODS[judge], str(fold), str(int(steps["step"].max()))]
        for name in columns:
            first, last = steps[name].head(quarter).mean(), steps[name].tail(quarter).mean()
            row.append("–" if math.isnan(first) else f"{first:.2f} → {last:.2f}")
        rows.append(row)
    return markdown(["judge", "fold", "steps", *columns.values()], rows)


def mean_of_the_other_folds(frame: pd.DataFrame) -> pd.Series:
    """For every row the mean target of the folds of its repeat that it is not in."""
    of_all, own = frame.groupby("repeat")["target"], frame.groupby("fold")["target"]
    return (of_all.transform("sum") - own.transform("sum")) / (of_all.transform("size") - own.transform("size"))
