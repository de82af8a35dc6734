# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Where a judge's completions and score distributions come from."""

from real_trl.engines.transformers_engine import Judgment, TransformersEngine

__all__ = ["Judgment", "TransformersEngine"]
