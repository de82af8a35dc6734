# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What runs on a GPU against the same on the CPU in higher precision: `pytest -m gpu tests/gpu`.

With `REAL_TRL_TEST_DEVICE=cpu` the same tests run without a GPU, all but what only one can show.
"""

import os

import pytest
import torch
from accelerate.state import AcceleratorState

DEVICE = torch.device(os.environ.get("REAL_TRL_TEST_DEVICE", "cuda"))
ON_GPU = DEVICE.type == "cuda"


def error(actual, expected):
    """Norm of the difference over that of `expected`, which is in float64 on the CPU."""
    return ((actual.detach().cpu().double() - expected).norm() / expected.norm()).item()


def total_error(actual, expected):
    """Mean of the errors of two lists of tensors."""
    return sum(error(*pair) for pair in zip(actual, expected, strict=True)) / len(expected)


@pytest.fixture(autouse=True)
def a_fresh_process():
    """accelerate's state, which holds the device, is that of the last trainer, which may have been told to use the CPU."""
    if ON_GPU and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.manual_seed(0)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
