# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The table of methods: one entry says what a method rewards, with which weight, and how a model card describes it. `REALConfig.reward`
(its choices, checks and help), the rewards of [`REALTrainer`] and the model card are read from it, so that a new reward is a function of
tensors in [`real_trl.objectives`] and an entry here (see docs/how-to-add.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from real_trl import objectives

CITATION = """@inproceedings{zhang2026real,
  title     = {{REAL: Regression-Aware Reinforcement Learning for LLM-as-a-Judge}},
  author    = {Yasi Zhang and Tianyu Chen and Mingyuan Zhou and Oscar Leong and Ying Nian Wu and Michal Lukasik},
  booktitle = {International Conference on Machine Learning},
  year      = {2026},
  note      = {arXiv:2603.17145},
}"""


class Scored(NamedTuple):
    """What a reward may look at, of `N` completions on a scale of `L` labels."""

    log_probs: Tensor  # (N, L) log π(k | x, c); a uniform guess where a completion has no score
    values: Tensor  # (L,) of the labels
    targets: Tensor  # (N,) y*
    label_weights: Tensor  # (N, L) of the labels that stand for each target
    sampled: Tensor  # (N,) value of the sampled label, NaN for none
    rounding: Tensor  # (N,) bound on the rounding error of the logits
    normalize: bool  # whether ŷ is divided by the probability mass on the labels
    group_size: int = 1  # K; the completions of a prompt stand together

    @property
    def expected(self) -> Tensor:
        """ŷ `(N,)`, with its gradient."""
        return objectives.expected_score(self.log_probs, self.values, self.normalize)


class Part(NamedTuple):
    """A reward, or one of several whose advantages are standardised apart and added with their weights; `(N,)` each."""

    reward: Tensor  # with its gradient, which is Term 2 of Lemma 4.1
    # Reward of a malformed completion, lowered to its group's minimum; default: that of the uniform distribution
    worst: Tensor | None = None
    # Bound on the rounding error of `reward`; default: to first order, from its gradient
    rounding: Tensor | None = None
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Method:
    """A training method: how a model card describes it (`equation` in LaTeX, `tag` of the Hub), and what it rewards."""

    name: str
    sentence: str
    equation: str
    tag: str
    direct_sentence: str = ""  # of a judge that writes no rationale, where there is such a one
    parts: Callable[[Scored, Any], tuple[Part, ...]] | None = None  # of a `REALConfig`; None: the method is supervised
    prediction_weight: float = 0.0  # default of β in Eq. 8, the weight on the reward's own gradient
    # The reward is of the score that was sampled: the policy gradient runs over it too, the reward has no gradient of its own, and a
    # forced score, which is no sample, cannot be rewarded
    on_sample: bool = False
    label_targets: bool = False  # targets must be values of labels
    options: tuple[str, ...] = ()  # fields of `REALConfig` that no other method may set
    # A group holds two sides, one half each: completions about the first response of a pair, and about the second. Targets are the preference
    # for the first, from 0 to 1
    pairs: bool = False
    # The reward looks at the completions of other prompts of the batch too
    across_prompts: bool = False
    # In how many completions' rewards one and the same term stands: their policy gradient is the mean's divided by it, and so is the objective
    shared_by: int = 1
    # Rewards (G, K) and which of them take part → what is maximised (G,); default: each reward by itself
    of_group: Callable[[Tensor, Tensor | None], Tensor] | None = None
    # Rewards, which of them take part, and rounding, all (G, K) → advantages (G, K)
    advantages: Callable[..., Tensor] = objectives.leave_one_out_advantages


def reward_names() -> tuple[str, ...]:
    """What `REALConfig.reward` may be."""
    return tuple(name for name, method in METHODS.items() if method.parts)


def unread_options(method: str | None) -> dict[str, list[str]]:
    """Fields of `REALConfig` that a method with a reward does not read → the methods that do."""
    if method not in reward_names():
        return {}
    found: dict[str, list[str]] = {}
    for other in METHODS:
        for name in METHODS[other].options:
            if name not in METHODS[method].options:
                found.setdefault(name, []).append(other)
    return found


def _regression(scored: Scored, args: Any) -> tuple[Part, ...]:
    """Eq. 5, in one part or two, with log π(y*) or π(y*)."""
    log_probs, values, targets, label_weights, _, rounding, normalize, _ = scored
    weight = args.log_likelihood_weight
    reward = -objectives.squared_error(log_probs, values, targets, normalize)
    worst = -objectives.worst_squared_error(values, targets)
    off = objectives.squared_error_rounding(log_probs.detach(), values, targets, rounding, normalize)
    (likelihood,) = _log_likelihood(scored, args)
    if args.likelihood_form == "probability":
        probability = objectives.likelihood_reward(log_probs, values, targets, label_weights)
        likelihood = likelihood._replace(reward=probability, worst=torch.zeros_like(targets))
    if args.advantage_streams == "separate":
        return Part(reward, worst, off), likelihood._replace(weight=weight)
    if weight:
        reward = reward + weight * likelihood.reward
    return (Part(reward, worst, off + weight * likelihood.rounding),)


def _log_likelihood(scored: Scored, args: Any) -> tuple[Part, ...]:
    log_probs, values, targets, label_weights, _, rounding, *_ = scored
    reward = objectives.log_likelihood_reward(log_probs, values, targets, label_weights)
    return (Part(reward, rounding=objectives.log_likelihood_rounding(log_probs.detach(), label_weights, rounding)),)


def _accuracy(scored: Scored, args: Any) -> tuple[Part, ...]:
    return (Part(objectives.accuracy_reward(scored.sampled, scored.targets), torch.zeros_like(scored.targets)),)


def _soft_likelihood(scored: Scored, args: Any) -> tuple[Part, ...]:
    weights = objectives.gaussian_weights(scored.targets, scored.values, args.target_sigma)
    return _log_likelihood(scored._replace(label_weights=weights), args)


def _number_token(scored: Scored, args: Any) -> tuple[Part, ...]:
    """The number token loss beside the log-likelihood, as its authors have it beside the next-token loss."""
    reward = -objectives.absolute_error(scored.log_probs, scored.values, scored.targets)
    worst = -objectives.worst_squared_error(scored.values, scored.targets).sqrt()
    if args.log_likelihood_weight:
        (likelihood,) = _log_likelihood(scored, args)
        reward = reward + args.log_likelihood_weight * likelihood.reward
    return (Part(reward, worst),)


def _concordance(scored: Scored, args: Any) -> tuple[Part, ...]:
    log_probs, values, targets = scored[:3]
    reward = objectives.concordance_reward(log_probs, values, targets, scored.group_size)
    return (Part(reward, torch.zeros_like(targets)),)


def _preference(scored: Scored, args: Any) -> tuple[Part, ...]:
    log_probs, values, preferences = scored[:3]
    return (Part(objectives.preference_reward(log_probs, values, preferences, scored.group_size)),)


_PREDICTOR = r"\hat y = \sum_k k \, \pi_\theta(k \mid x, c)"

# By `JudgeConfig.method`; those with a reward are the choices of `REALConfig.reward`
METHODS = {
    "sft": Method(
        name="SFT",
        sentence="Supervised training on rationales and scores with the next-token loss.",
        direct_sentence="Supervised training on scores with the next-token loss.",
        equation=r"\mathcal{L}(\theta) = -\log \pi_\theta(c^*, y^* \mid x)",
        tag="sft",
    ),
    "raft": Method(
        name="RAFT",
        sentence="Supervised, regression-aware training on rationales and scores: the squared error of the expected score beside the "
        "next-token loss (Eq. 3).",
        direct_sentence="Supervised, regression-aware training on scores: the squared error of the expected score beside the next-token loss "
        "(Eq. 3 without a rationale).",
        equation=r"\mathcal{L}(\theta) = (\hat y - y^*)^2 - \lambda \log \pi_\theta(c^*, y^* \mid x), \qquad "
        + _PREDICTOR,
        tag="raft",
    ),
    "raft_pairs": Method(
        name="RAFT from pairs",
        sentence="Supervised training on preferences between two responses: minus the log-probability that scores drawn from the judge's two "
        "distributions are ordered as the human says, beside the next-token loss of the marker and of any score.",
        equation=r"\mathcal{L}(\theta) = -\log P(A \succ B), \qquad P(A \succ B) = \sum_{i, j} p_A(i) \, p_B(j) \left( [i > j] + "
        r"\tfrac{1}{2} [i = j] \right), \qquad p_A(k) \propto \pi_\theta(k \mid x_A)",
        tag="preference",
    ),
    "regression": Method(
        name="REAL",
        sentence="Regression-aware reinforcement learning: rationales c are sampled, and the reward is a function of the judge's own score "
        "distribution (Eq. 5), so that it has a gradient of its own, weighted with β (Eq. 8).",
        equation=r"r(\theta, x, c) = -(\hat y - y^*)^2 + \lambda \log \pi_\theta(y^* \mid x, c), \qquad " + _PREDICTOR,
        tag="real",
        parts=_regression,
        prediction_weight=0.01,
        options=("log_likelihood_weight", "likelihood_form", "advantage_streams"),
    ),
    "accuracy": Method(
        name="Standard RL",
        sentence="Reinforcement learning with a reward of 1 where the sampled score s is the right one, and of 0 elsewhere.",
        equation=r"r(s, y^*) = \mathbb{1}[s = y^*]",
        tag="rloo",
        parts=_accuracy,
        on_sample=True,
        label_targets=True,
    ),
    "log_likelihood": Method(
        name="JEPO",
        sentence="Reinforcement learning with the log-probability of the right score as reward, which has a gradient of its own (Table 1).",
        equation=r"r(\theta, x, c) = \log \pi_\theta(y^* \mid x, c)",
        tag="jepo",
        parts=_log_likelihood,
        prediction_weight=1.0,
    ),
    "log_marginal": Method(
        name="JEPO (multi-sample)",
        sentence="Reinforcement learning with the log of the group's mean probability of the right score as reward (Table 1, Table 10).",
        equation=r"r(\theta, x, c_{1:K}) = \log \frac{1}{K} \sum_{i=1}^{K} \pi_\theta(y^* \mid x, c_i)",
        tag="jepo",
        parts=_log_likelihood,
        prediction_weight=1.0,
        of_group=objectives.log_marginal,
        advantages=objectives.log_marginal_advantages,
    ),
    "soft_likelihood": Method(
        name="Soft labels",
        sentence="Reinforcement learning with minus the cross-entropy of the judge's distribution to a Gaussian around the right score as reward, "
        "which has a gradient of its own.",
        equation=r"r(\theta, x, c) = \sum_k w_k \log \pi_\theta(k \mid x, c), \qquad w_k \propto e^{-(k - y^*)^2 / 2\sigma^2}",
        tag="soft-labels",
        parts=_soft_likelihood,
        prediction_weight=1.0,
        options=("target_sigma",),
    ),
    "number_token": Method(
        name="Number token loss",
        sentence="Reinforcement learning with minus the number token loss (arXiv 2411.02083), the mean distance of the judge's distribution to the "
        "right score, beside its log-probability, as reward, which has a gradient of its own.",
        equation=r"r(\theta, x, c) = -\sum_k p(k) \, |k - y^*| + \lambda \log \pi_\theta(y^* \mid x, c), \qquad "
        r"p(k) = \pi_\theta(k \mid x, c) / \textstyle\sum_j \pi_\theta(j \mid x, c)",
        tag="number-token-loss",
        parts=_number_token,
        prediction_weight=0.01,
        options=("log_likelihood_weight",),
    ),
    "concordance": Method(
        name="Listwise",
        sentence="Reinforcement learning with a listwise reward: how probably scores drawn for this prompt and for the others of the batch are "
        "ordered as the right ones are (slices of completions as in PoLi-RL, arXiv 2510.04080); it has a gradient of its own.",
        equation=r"r(\theta, x_g, c_{g,i}) = \frac{1}{G - 1} \sum_{h:\, y_h^* \neq y_g^*} P(s_{g,i}, s_{h,i} \text{ ordered as } y_g^*, y_h^*)",
        tag="listwise",
        parts=_concordance,
        prediction_weight=0.01,
        across_prompts=True,
        shared_by=2,
    ),
    "preference": Method(
        name="REAL from pairs",
        sentence="Reinforcement learning from preferences between two responses: rationales are sampled for both, and the reward is the "
        "log-probability that scores drawn from the judge's two distributions are ordered as the human says; it has a gradient of its own.",
        equation=r"r(\theta, c_A, c_B) = \log P(A \succ B), \qquad P(A \succ B) = \sum_{i, j} p_A(i) \, p_B(j) \left( [i > j] + "
        r"\tfrac{1}{2} [i = j] \right), \qquad p_A(k) \propto \pi_\theta(k \mid x_A, c_A)",
        tag="preference",
        parts=_preference,
        prediction_weight=0.01,
        pairs=True,
        shared_by=2,
        advantages=objectives.side_advantages,
    ),
}
