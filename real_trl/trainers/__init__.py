# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""TRL trainers for judges: supervised warm start ([`RAFTTrainer`]) and reinforcement learning ([`REALTrainer`])."""

from real_trl.trainers.raft_config import RAFTConfig
from real_trl.trainers.raft_trainer import RAFTTrainer
from real_trl.trainers.real_config import REALConfig
from real_trl.trainers.real_trainer import REALTrainer

__all__ = ["RAFTConfig", "RAFTTrainer", "REALConfig", "REALTrainer"]
