# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
from tests.evaluation.conftest import only_these_metrics  # noqa: F401
