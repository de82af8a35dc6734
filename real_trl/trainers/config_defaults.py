# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Defaults and checks that [`RAFTConfig`] and [`REALConfig`] share."""

from typing import Any

from transformers.utils import is_torch_bf16_gpu_available


def default_precision(config: Any) -> None:
    """TRL turns bfloat16 on unless told otherwise; here that holds only where a device has it, so that a CPU just works."""
    if config.bf16 is None and not is_torch_bf16_gpu_available():
        config.bf16 = False


def check_not_negative(config: Any, *names: str) -> None:
    """Raises `ValueError` naming the first of the fields `names` that is below 0."""
    for name in names:
        if getattr(config, name) < 0:
            raise ValueError(f"{name}: got {getattr(config, name)}. Set it to 0 or more.")


def check_steps_without_signal(config: Any) -> None:
    """Raises `ValueError` if `max_steps_without_signal` is no number of steps."""
    limit = config.max_steps_without_signal
    if limit < 0:
        raise ValueError(
            f"max_steps_without_signal: got {limit}. Set it to 1 or more, or to 0 to go on whatever happens."
        )
