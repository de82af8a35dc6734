# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Writes `real_trl/arguments/options.json`, by which `real-trl <command> --help` and the early checks of recipes know the options of every command. To be
run when an option, its default or its help has changed, or a library that brings options: `make options`. With `--also`, what is other with the
installed version of Transformers, where that is not the pinned one.
"""

import sys
from argparse import ArgumentParser
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from real_trl.arguments.options import FILE, written
from real_trl.cli import STAGES
from real_trl.planning.recipe import CONFIGS
from real_trl.planning.recipe import make_parser as make_training_parser

IMPORTS_LITTLE = ("recipes",)  # has its own help


def parsers() -> dict[str, tuple[str, ArgumentParser]]:
    """What every command does, and its parser."""
    found = {}
    for stage in STAGES:
        if stage in IMPORTS_LITTLE:
            continue
        module = import_module(f"real_trl.scripts.{stage}")
        parser = make_training_parser(CONFIGS[stage]) if stage in CONFIGS else module.make_parser()
        found[stage] = (module.__doc__ or "", parser)
    return found


if __name__ == "__main__":
    FILE.write_text(written(parsers(), also="--also" in sys.argv[1:]), encoding="utf-8")
    print(f"Written: {FILE}")
