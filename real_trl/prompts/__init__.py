# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a row to the tokens that a judge reads: its template, what the format puts around it, and its encoding."""

from real_trl.prompts.template import PromptTemplate, load_template

__all__ = ["PromptTemplate", "load_template"]
