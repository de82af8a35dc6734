# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Puts a judge's calibration on what it says."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from real_trl.engines.judgment import Judgment
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.evaluation.recalibration import means


def calibrated_judgment(
    judgment: Judgment, calibration: Calibration, values: Sequence[float], group: str | None = None
) -> Judgment:
    """
    The judgment with calibrated probabilities, the scores and the spread that they have, and an interval; as it was, it is its `raw`. One
    without a distribution, or with a probability that is not known, cannot be calibrated: it stays as it is, without an interval.

    Args:
        calibration ([`Calibration`]):
            That of the judge.
        values (`Sequence[float]`):
            Values of the labels.
        group (`str`, *optional*):
            Group of the row, which may have an interval of its own width.
    """
    if judgment.probabilities is None:
        return judgment
    own = np.array([list(judgment.probabilities.values())], dtype=np.float64)
    if not np.isfinite(own).all() or not own.sum() > 0:
        return judgment
    probabilities = calibration.recalibration.apply(own, values)
    (interval,) = calibration.intervals.of(probabilities, values, [group])
    (mean,), scale = means(probabilities, values), np.asarray(values, dtype=np.float64)
    return replace(
        judgment,
        expected_score=float(mean),
        most_likely_score=float(scale[probabilities[0].argmax()]),
        probabilities=dict(zip(judgment.probabilities, probabilities[0].tolist(), strict=True)),
        spread=float(np.sqrt(probabilities[0] @ (scale - mean) ** 2)),
        normalized=True,
        interval=interval.tolist(),
        raw=judgment,
    )
