# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder and of reports state, they state of these metrics, whatever others there are."""

import pytest

from real_trl.evaluation.registry import METRICS

THESE = {"pearson", "spearman", "kendall", "rmse", "mae", "accuracy", "qwk", "pairwise_accuracy"}


@pytest.fixture(autouse=True)
def only_these_metrics(monkeypatch):
    for name in METRICS.keys() - THESE:
        monkeypatch.delitem(METRICS, name)
