# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Train LLM judges that give calibrated numeric scores: REAL, RAFT and their baselines on top of TRL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Resolved on first use, so that `import real_trl.objectives` or `real-trl --help` does not pay for importing TRL
_EXPORTS = {
    "DataArguments": "real_trl.data",
    "Decoding": "real_trl.engines",
    "Judge": "real_trl.judge",
    "JudgeConfig": "real_trl.judge_config",
    "Judgment": "real_trl.engines",
    "RAFTConfig": "real_trl.trainers",
    "RAFTTrainer": "real_trl.trainers",
    "REALConfig": "real_trl.trainers",
    "REALTrainer": "real_trl.trainers",
    "Scale": "real_trl.scale",
    "ScoreSpace": "real_trl.score_space",
    "TransformersEngine": "real_trl.engines",
    "build_completion": "real_trl.data",
    "load_judge_dataset": "real_trl.data",
}
__all__ = [
    "DataArguments",
    "Decoding",
    "Judge",
    "JudgeConfig",
    "Judgment",
    "RAFTConfig",
    "RAFTTrainer",
    "REALConfig",
    "REALTrainer",
    "Scale",
    "ScoreSpace",
    "TransformersEngine",
    "build_completion",
    "load_judge_dataset",
]

if TYPE_CHECKING:
    from real_trl.data import DataArguments, build_completion, load_judge_dataset
    from real_trl.engines import Decoding, Judgment, TransformersEngine
    from real_trl.judge import Judge
    from real_trl.judge_config import JudgeConfig
    from real_trl.scale import Scale
    from real_trl.score_space import ScoreSpace
    from real_trl.trainers import RAFTConfig, RAFTTrainer, REALConfig, REALTrainer


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
