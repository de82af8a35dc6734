# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a file of human scores to a folder of recipes that train and evaluate a judge on it."""

from real_trl.onboarding.columns import Roles, Unknown, find_roles
from real_trl.onboarding.inspection import Inspection, inspect
from real_trl.onboarding.project import InitOptions, Project, open_project
from real_trl.onboarding.scores import Scores, guess_scale, read_scores
from real_trl.onboarding.sources import open_data

__all__ = [
    "InitOptions",
    "Inspection",
    "Project",
    "Roles",
    "Scores",
    "Unknown",
    "find_roles",
    "guess_scale",
    "inspect",
    "open_data",
    "open_project",
    "read_scores",
]
