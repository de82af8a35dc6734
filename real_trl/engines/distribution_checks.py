# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether numbers can be a distribution at all, of whatever engine they are: [`checked_log_probs`] looks at what an inference engine
returned for one position, [`impossible`] at the labels of one judgment.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

import torch

Token = TypeVar("Token")

_ROUNDING = 1e-4  # a log-probability may be this much above 0
_SUM_ROUNDING = 1e-2  # that of many rounded probabilities above 1: servers round to as little as two digits
IMPOSSIBLE = -9000.0  # vLLM writes -9999 for minus infinity


class NoDistribution(ValueError):
    """What an engine returned as the log-probabilities of tokens cannot be that."""

    about: Literal["server"] = "server"


def checked_log_probs(log_probs: Iterable[tuple[Token, object]]) -> list[tuple[Token, float]]:
    """
    Tokens at one position and their log-probabilities, of which those that rounding put above 0 are 0.

    Raises:
        [`NoDistribution`]: if one is no number, NaN or above 0, or if the probabilities sum to more than 1.
    """
    checked: list[tuple[Token, float]] = []
    total = 0.0
    for token, log_prob in log_probs:
        if isinstance(log_prob, bool) or not isinstance(log_prob, (int, float)) or math.isnan(log_prob):
            raise NoDistribution(f"the log-probability of the token {token!r} is {log_prob!r:.60}, which is no number")
        if log_prob > _ROUNDING:
            raise NoDistribution(
                f"the log-probability of the token {token!r} is {log_prob!r:.60}, and none is above 0"
            )
        checked.append((token, min(float(log_prob), 0.0)))
        total += math.exp(checked[-1][1])
    if total > 1 + _SUM_ROUNDING:
        raise NoDistribution(
            f"the probabilities of {len(checked)} tokens at one position sum to {total:.4g}, more than 1"
        )
    return checked


def impossible(log_probs: torch.Tensor, missing_mass: float, labels: Sequence[str]) -> str | None:
    """
    Why numbers that an engine gives are no score distribution, or `None` if they may be one.

    Args:
        log_probs (`torch.Tensor` of shape `(L,)`):
            Log-probabilities of the labels, NaN where the engine could not learn them.
        missing_mass (`float`):
            Probability that may be that of such labels; where it is 0, a NaN is no lack of knowledge but a result.
    """
    unknown = log_probs.isnan()
    if unknown.any() and not missing_mass > 0:
        return f"the probability of the label {labels[int(unknown.int().argmax())]!r} is NaN: the model's output is not finite"
    known = log_probs.nan_to_num(nan=-torch.inf, posinf=torch.inf)
    if known.max() > _ROUNDING:
        worst = int(known.argmax())
        return f"the log-probability of the label {labels[worst]!r} is {known[worst].item():.4g}, and none is above 0"
    mass = known.exp().sum().item()
    if mass > 1 + _SUM_ROUNDING:
        return f"the probabilities of the labels sum to {mass:.4g}, and no distribution to more than 1"
    if mass == 0:
        return (
            "no label is among the most likely tokens that the server returned, so nothing is known of the score"
            if unknown.any()
            else "no label has any probability at the place of the score"
        )
    return None
