# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How good a judge's scores are: metrics, intervals, comparisons, verdicts and probes."""
