# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Publishing a judge: which of its files, with which card, to a folder or to the Hub."""

from real_trl.publishing.card import build_card, check_card
from real_trl.publishing.files import JudgeFiles, find_judge_files
from real_trl.publishing.push import Publication, upload, write_folder
from real_trl.publishing.results import read_evaluation

__all__ = [
    "JudgeFiles",
    "Publication",
    "build_card",
    "check_card",
    "find_judge_files",
    "read_evaluation",
    "upload",
    "write_folder",
]
