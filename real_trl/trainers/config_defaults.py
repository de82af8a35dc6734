# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Defaults that [`RAFTConfig`] and [`REALConfig`] share."""

from typing import Any

from transformers.utils import is_torch_bf16_gpu_available


def default_precision(config: Any) -> None:
    """TRL turns bfloat16 on unless told otherwise; here that holds only where a device has it, so that a CPU just works."""
    if config.bf16 is None and not is_torch_bf16_gpu_available():
        config.bf16 = False
