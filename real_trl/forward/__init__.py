# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a model computes for a policy's rows: attention, the LM head, log-probabilities, and generation."""
