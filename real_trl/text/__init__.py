# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Text and tokens: cells of tables, spellings of labels, reasoning, what is shown on a terminal, and what must not be shown."""
