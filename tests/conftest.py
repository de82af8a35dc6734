# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

import signal

import datasets
import pytest
from huggingface_hub import constants

from real_trl.weights import hub

_OFFLINE = constants.HF_HUB_OFFLINE


@pytest.fixture(scope="session", autouse=True)
def commands_are_not_in_the_background():
    """A test run in the background of a script ignores SIGINT, and so would the commands that tests start and stop with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def nobody_has_looked_for_the_hub():
    """What one test finds out about the Hub is no matter of the next."""
    hub._unreachable = None
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = _OFFLINE
