# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
How good a judge's scores are: metrics, intervals, comparisons, verdicts and probes.

What arguments mean everywhere: `rows` are the predictions of one judge, see [`~real_trl.evaluation.metrics.evaluate_predictions`];
`malformed` is `"force"`, `"drop"` or `"strict"`; `values` and `labels` are those of the scale, in one order; `predictions` and `targets` are
scores of shape `(n,)`; `n_resamples` bootstrap samples, made from `seed`, give intervals of the nominal coverage `level`.
"""
