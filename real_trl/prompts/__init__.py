# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a row to the tokens that a judge reads."""
