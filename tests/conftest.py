# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

import signal

import pytest


@pytest.fixture(scope="session", autouse=True)
def commands_are_not_in_the_background():
    """A test run in the background of a script ignores SIGINT, and so would the commands that tests start and stop with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
