# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Rows with scores: files, columns, scores, splits, and the embedded task."""
