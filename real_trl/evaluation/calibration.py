# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the probabilities that a judge gives to the labels can be believed. Arrays only, no I/O."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from real_trl.evaluation.registry import CALIBRATION
from real_trl.evaluation.rows import Rows, probability_matrix
from real_trl.evaluation.unscored import UNSCORED

MIN_PROBABILITY = float(np.finfo(np.float32).tiny)
_ROWS_OF_A_BIN = 10


def calibration_columns(
    probabilities: np.ndarray, targets: np.ndarray, values: Sequence[float]
) -> dict[str, np.ndarray]:
    """
    What one row adds to the figures of [`calibration_metrics`].

    Args:
        probabilities (`np.ndarray` of shape `(n, L)`):
            Probability of every label, in the order of `values`. Rows are divided by their sum, so all figures are
            about the distribution conditional on the scale.

    Returns:
        `dict[str, np.ndarray]`: Each of shape `(n,)`. `confidence`, the probability of the most likely label (of equal
        ones the lower); `correct`, whether it is the label nearest to y* (ties go to the lower label); `nll`, the negative
        log-likelihood of y* in nats, where y* between two labels is shared out between them by distance (3.25 on 1-5
        is −0.75 log p(3) − 0.25 log p(4)), y* beyond the scale is its end, and a probability that underflowed counts
        as 1.2e-38, the least normal float32 (87 nats); `crps`, the continuous ranked probability score
        `∫ (F(t) − 1[t ≥ y*])² dt = E|X − y*| − ½ E|X − X'|` (Gneiting & Raftery, 2007, Eq. 21), in units of the score:
        0 is best, and that of a judge that is certain of one label is its absolute error. On labels one apart and y*
        one of them, it is the ranked probability score (Epstein, 1969).
    """
    order = np.argsort(values)
    v = np.asarray(values, dtype=np.float64)[order]  # (L,), rising
    p = probabilities[:, order]
    p = p / p.sum(axis=1, keepdims=True)
    upper = np.clip(np.searchsorted(v, targets), 1, len(v) - 1)
    share = np.clip((targets - v[upper - 1]) / (v[upper] - v[upper - 1]), 0, 1)  # of the upper neighbour
    nearest = np.where(targets - v[upper - 1] <= v[upper] - targets, upper - 1, upper)

    rows = np.arange(len(p))
    log_p = np.log(np.maximum(p, MIN_PROBABILITY))
    cdf = np.cumsum(p, axis=1)[:, :-1]
    return {
        "confidence": p.max(axis=1),
        "correct": (p.argmax(axis=1) == nearest).astype(np.float64),
        "nll": -(1 - share) * log_p[rows, upper - 1] - share * log_p[rows, upper],
        "crps": (p * np.abs(v - targets[:, None])).sum(axis=1) - (np.diff(v) * cdf * (1 - cdf)).sum(axis=1),
    }


def calibration_metrics(columns: dict[str, np.ndarray], n_bins: int = 10) -> dict[str, Any]:
    """
    Figures of calibration.

    Args:
        n_bins (`int`, *optional*, defaults to `10`):
            Largest number of bins of `ece`; there are fewer where a bin would have fewer than 10 rows.

    Returns:
        `dict[str, Any]`: `ece`, the expected calibration error Σ_b n_b/n · |correct_b − confidence_b| over bins b of
        equally many rows by confidence (Naeini et al., 2015; equal confidences share a bin), in [0, 1]: the absolute
        values make it come out too high on few rows, even for a perfectly calibrated judge; `overconfidence`, the mean
        confidence minus the share correct, in [-1, 1], which has no such bias; the means of `nll` and `crps`; `n`; and
        `bins`, from the least confident, each with its mean `confidence`, `accuracy` and number of rows `n`. With no
        rows, `nan`.
    """
    n = len(columns["confidence"])
    if n == 0:
        return dict.fromkeys(CALIBRATION, float("nan")) | {"n": 0, "bins": []}
    confidence, correct = columns["confidence"], columns["correct"]
    n_bins = max(1, min(n_bins, n // _ROWS_OF_A_BIN))
    codes = (stats.rankdata(confidence, method="min").astype(int) - 1) * n_bins // n
    counts, confidences, hits = (np.bincount(codes, weights, n_bins) for weights in (None, confidence, correct))
    bins = [
        {"confidence": float(c / count), "accuracy": float(hit / count), "n": int(count)}
        for count, c, hit in zip(counts, confidences, hits, strict=True)
        if count
    ]
    return {
        "ece": float(np.abs(hits - confidences).sum() / n),
        "overconfidence": float(np.mean(confidence - correct)),
        "nll": float(np.mean(columns["nll"])),
        "crps": float(np.mean(columns["crps"])),
        "n": n,
        "bins": bins,
    }


def calibrated_rows(
    rows: Rows, status: np.ndarray, malformed: str, values: Sequence[float], labels: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """
    Which rows count in the calibration.

    Returns:
        `tuple[np.ndarray, np.ndarray, list[str]]`: Probabilities `(N, L)` of all rows; a mask `(N,)` of those that
        count; and why others don't. A malformed completion has no distribution of its own: only `"force"` counts that
        which was read at the forced marker.
    """
    probabilities = probability_matrix(rows, values, len(status), labels)
    if probabilities is None:
        reason = "calibration is undefined: the predictions have no column `probabilities`."
        return np.full((len(status), len(values)), np.nan), np.zeros(len(status), dtype=bool), [reason]
    eligible = status != UNSCORED if malformed == "force" else status == "ok"
    known = ~np.isnan(probabilities).any(axis=1)
    counts = eligible & known & (np.where(known[:, None], probabilities, 0).sum(axis=1) > 0)
    notes = []
    count = int(((status != UNSCORED) & ~eligible).sum())
    if malformed == "strict" and count:
        notes.append(
            f"calibration: {count} malformed of {len(status)} rows are left out: they have no distribution of their own."
        )
    if (eligible & ~counts).any():
        unknown, zero = int((eligible & ~known).sum()), int((eligible & known & ~counts).sum())
        whys = [f"{unknown} lack the probability of a label"] * (unknown > 0) + [f"{zero} give no label any"] * (
            zero > 0
        )
        notes.append(f"calibration: of {int(eligible.sum())} rows, {' and '.join(whys)}: they are left out.")
    if not counts.any():
        notes.append("calibration is undefined: no row counts in it.")
    return probabilities, counts, notes
