# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From scores to decisions: which of several systems is better, how sure that is, and which answers people should score next.

What arguments mean everywhere: `n` rows, each the answer of one of `S` systems to one of `G` questions. The judge has scored all of them,
people a random sample.
"""
