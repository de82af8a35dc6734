# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Where a Chromium is, which `make browser` installs, and how the tests start it."""

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# As root, without asking its maker's hosts for anything
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium in the PATH (make browser)")
