# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judges in other people's tools: reward functions for TRL's trainers and verifiers, metrics and scorers for DeepEval, Inspect AI,
lm-evaluation-harness, MLflow and Ragas.

A tool that is an extra is imported on first use only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_EXPORTS = {
    "AsyncJudgeReward": "real_trl.integrations.async_judge_reward",
    "DeepEvalJudge": "real_trl.integrations.deepeval_metric",
    "JudgeReward": "real_trl.integrations.judge_reward",
    "LMEvalJudge": "real_trl.integrations.lm_eval_filter",
    "RagasJudge": "real_trl.integrations.ragas_metric",
    "VerifiersJudge": "real_trl.integrations.verifiers_reward",
    "judge_scorer": "real_trl.integrations.inspect_scorer",
    "mlflow_judge": "real_trl.integrations.mlflow_scorer",
}
__all__ = [
    "AsyncJudgeReward",
    "DeepEvalJudge",
    "JudgeReward",
    "LMEvalJudge",
    "RagasJudge",
    "VerifiersJudge",
    "judge_scorer",
    "mlflow_judge",
]

if TYPE_CHECKING:
    from real_trl.integrations.async_judge_reward import AsyncJudgeReward
    from real_trl.integrations.deepeval_metric import DeepEvalJudge
    from real_trl.integrations.inspect_scorer import judge_scorer
    from real_trl.integrations.judge_reward import JudgeReward
    from real_trl.integrations.lm_eval_filter import LMEvalJudge
    from real_trl.integrations.mlflow_scorer import mlflow_judge
    from real_trl.integrations.ragas_metric import RagasJudge
    from real_trl.integrations.verifiers_reward import VerifiersJudge


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
