# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a command writes: locked output folders, predictions that are gone on from, fingerprints of what made them."""
