# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judges in other people's tools: reward functions for TRL's trainers, a scorer for Inspect AI.

A tool that is an extra is imported on first use only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "AsyncJudgeReward": "real_trl.integrations.async_judge_reward",
    "JudgeReward": "real_trl.integrations.judge_reward",
    "judge_scorer": "real_trl.integrations.inspect_scorer",
}
__all__ = ["AsyncJudgeReward", "JudgeReward", "judge_scorer"]

if TYPE_CHECKING:
    from real_trl.integrations.async_judge_reward import AsyncJudgeReward
    from real_trl.integrations.inspect_scorer import judge_scorer
    from real_trl.integrations.judge_reward import JudgeReward


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
