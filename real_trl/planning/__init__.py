# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a training run will need, worked out from its recipe before any GPU is rented: see `real-trl plan`."""
