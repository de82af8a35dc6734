# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0

import pytest

from tests.integrations.judges import save_judge


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the judge of [`save_judge`] is."""
    return save_judge(tmp_path_factory.mktemp("judge"))
