# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Versions that are saved with every output."""

import platform
from importlib.metadata import PackageNotFoundError, version

_TRACKED_PACKAGES = ("real_trl", "torch", "transformers", "trl", "accelerate", "peft", "datasets")


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    versions = {"python": platform.python_version()}
    for package in _TRACKED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # peft is optional at run time
            continue
    return versions
