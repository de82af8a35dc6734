# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Intervals and tests for metrics of judges. Questions are resampled, not rows: answers to one question are alike."""

from real_trl.statistics.agreement import rater_agreement
from real_trl.statistics.comparison import compare_judges, holm, paired_comparison
from real_trl.statistics.intervals import breakdown, evaluate_with_intervals

__all__ = ["breakdown", "compare_judges", "evaluate_with_intervals", "holm", "paired_comparison", "rater_agreement"]
