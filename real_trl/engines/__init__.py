# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a judge's completions and score distributions come from. Every engine takes the judge's `tokenizer` and `score_space` (labels of any
number of tokens), and a [`Decoding`].
"""

from real_trl.engines.base import MALFORMED_HANDLING, Decoding, Engine, Judgment, check_num_samples
from real_trl.engines.registry import ENGINES
from real_trl.engines.server_engine import ServerEngine
from real_trl.engines.transformers_engine import TransformersEngine
from real_trl.engines.vllm_engine import VLLMEngine

__all__ = [
    "ENGINES",
    "MALFORMED_HANDLING",
    "Decoding",
    "Engine",
    "Judgment",
    "ServerEngine",
    "TransformersEngine",
    "VLLMEngine",
    "check_num_samples",
]
