# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A model's files: which there are, whether they are whole and finite, and how they are loaded."""
