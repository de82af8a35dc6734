# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Arguments of the commands, and the parser of recipes."""
