# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Prompt templates, those that come with the package and the limits within which anybody's are rendered."""
