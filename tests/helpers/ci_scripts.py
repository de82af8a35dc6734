# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The scripts of `.ci/`, which are in no package."""

import importlib.util
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parents[2] / ".ci"


def load(name: str) -> ModuleType:
    """The script `.ci/<name>.py` as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
