# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A test that states complete lists of figures states them of these metrics, whatever others there are."""

import pytest

from real_trl.evaluation.registry import METRICS

THESE = {"pearson", "spearman", "kendall", "rmse", "mae", "accuracy", "qwk", "pairwise_accuracy"}


@pytest.fixture
def only_these_metrics(monkeypatch):
    for name in METRICS.keys() - THESE:
        monkeypatch.delitem(METRICS, name)
