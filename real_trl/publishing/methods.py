# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a model card says about how a judge was trained: name, equation, and what the training minimises or rewards."""

from typing import NamedTuple


class Method(NamedTuple):
    """A training method: its name, one sentence about it, and its equation in LaTeX (with the paper's number)."""

    name: str
    sentence: str
    equation: str
    tag: str


_PREDICTOR = r"\hat y = \sum_k k \, \pi_\theta(k \mid x, c)"

# By `JudgeConfig.method`
METHODS = {
    "sft": Method(
        "SFT",
        "Supervised training on rationales and scores with the next-token loss.",
        r"\mathcal{L}(\theta) = -\log \pi_\theta(c^*, y^* \mid x)",
        "sft",
    ),
    "raft": Method(
        "RAFT",
        "Supervised, regression-aware training on rationales and scores: the squared error of the expected score beside the "
        "next-token loss (Eq. 3).",
        r"\mathcal{L}(\theta) = (\hat y - y^*)^2 - \lambda \log \pi_\theta(c^*, y^* \mid x), \qquad " + _PREDICTOR,
        "raft",
    ),
    "regression": Method(
        "REAL",
        "Regression-aware reinforcement learning: rationales c are sampled, and the reward is a function of the judge's own score "
        "distribution (Eq. 5), so that it has a gradient of its own, weighted with β (Eq. 8).",
        r"r(\theta, x, c) = -(\hat y - y^*)^2 + \lambda \log \pi_\theta(y^* \mid x, c), \qquad " + _PREDICTOR,
        "real",
    ),
    "accuracy": Method(
        "Standard RL",
        "Reinforcement learning with a reward of 1 where the sampled score s is the right one, and of 0 elsewhere.",
        r"r(s, y^*) = \mathbb{1}[s = y^*]",
        "rloo",
    ),
    "log_likelihood": Method(
        "JEPO",
        "Reinforcement learning with the log-probability of the right score as reward, which has a gradient of its own (Table 1).",
        r"r(\theta, x, c) = \log \pi_\theta(y^* \mid x, c)",
        "jepo",
    ),
    "log_marginal": Method(
        "JEPO (multi-sample)",
        "Reinforcement learning with the log of the group's mean probability of the right score as reward (Table 1, Table 10).",
        r"r(\theta, x, c_{1:K}) = \log \frac{1}{K} \sum_{i=1}^{K} \pi_\theta(y^* \mid x, c_i)",
        "jepo",
    ),
}


def method_of(name: str | None) -> Method | None:
    """The method that `judge_config.json` names; `None` where it names none that is known here."""
    return METHODS.get(name or "")
