# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with scores: files, columns, scores, splits, and the embedded task."""

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import build_completion, load_judge_dataset

__all__ = ["DataArguments", "build_completion", "load_judge_dataset"]
