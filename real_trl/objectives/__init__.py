# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The mathematics of REAL (arXiv 2603.17145), on tensors alone.

Notation, as in the paper: a prompt *x* with target score *y\\**, a chain of thought *c* (everything the judge writes
before its score, the marker included), and the judge's distribution *π(k | x, c)* over the labels *k* of the score
space. Shapes: `N` completions, or `G` groups of `K` completions of one prompt; `L` labels. Log-probabilities are
natural logarithms over the *whole* vocabulary, so that the labels' probabilities sum to at most 1.

Every RL method is a choice of reward on that distribution and of `prediction_weight` β on its gradient: see [`real_trl.methods.METHODS`].

Arguments that mean the same in every function:

- `score_log_probs` `(..., L)`: `log π(k | x, c)` of every label; `values` `(L,)`: the number that each label stands for.
- `targets` `(...)`: target scores y*; where several raters scored a response their mean, and `label_weights` `(..., L)` their
  histogram. Without it a target between two labels has the weights of [`target_weights`].
- `normalize` (`bool`): whether ŷ is divided by the probability mass on the labels.
- `mask` `(G, K)`: `True` for completions that take part, by default all; masked-out completions are excluded from all means and get 0.
- `rounding` (the shape of the rewards): bound on the rounding error of each logit (functions `…_rounding`) or of each reward.

Rewards have the shape of `targets`.
"""

from real_trl.objectives.advantages import (
    leave_one_out_advantages,
    log_marginal,
    log_marginal_advantages,
    side_advantages,
    standardize_advantages,
)
from real_trl.objectives.losses import LossTerms, raft_loss, real_loss, sequence_ratio
from real_trl.objectives.order import (
    concordance_reward,
    order_probability,
    preference_reward,
)
from real_trl.objectives.rewards import (
    absolute_error,
    accuracy_reward,
    expected_score,
    gaussian_weights,
    label_weights,
    likelihood_reward,
    log_likelihood_reward,
    log_likelihood_rounding,
    regression_reward,
    squared_error,
    squared_error_rounding,
    target_weights,
    worst_squared_error,
)

__all__ = [
    "LossTerms",
    "absolute_error",
    "accuracy_reward",
    "concordance_reward",
    "expected_score",
    "gaussian_weights",
    "label_weights",
    "leave_one_out_advantages",
    "likelihood_reward",
    "log_likelihood_reward",
    "log_likelihood_rounding",
    "log_marginal",
    "log_marginal_advantages",
    "order_probability",
    "preference_reward",
    "raft_loss",
    "real_loss",
    "regression_reward",
    "sequence_ratio",
    "side_advantages",
    "squared_error",
    "squared_error_rounding",
    "standardize_advantages",
    "target_weights",
    "worst_squared_error",
]
