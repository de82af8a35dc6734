# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether the library is right and fast on this machine, found out by doing it here, in about two minutes:

    real-trl doctor
    real-trl doctor --recipe recipes/qwen3-8b/real.yaml
    real-trl --accelerate_config recipes/accelerate_configs/zero3.yaml doctor

Environment, attention over shared prompts against float64, precision of scores and updates, speed, and vLLM where it is installed, with the
heads, the precision and the learning rate of a recipe; random weights, nothing is downloaded. Started in several processes it compares them with
one instead. What this machine cannot show is skipped, and says why. Options that are none of its own go to the recipe, as in training.
A bug report begins with what it prints.

exit status: 0 nothing failed, 1 a check failed, 2 the command line or the recipe is wrong
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import torch
from accelerate import PartialState

from real_trl.arguments.parser import RecipeParser, user_errors
from real_trl.doctor import environment, kernels, precision, speed
from real_trl.doctor.findings import as_json, failures, print_report, run_checks
from real_trl.doctor.processes import check_processes
from real_trl.doctor.subject import Subject
from real_trl.doctor.vllm_engine import check_vllm
from real_trl.planning.recipe import CONFIGS
from real_trl.runs.command import command
from real_trl.runs.unscored_exit import end_with
from real_trl.text.json_text import to_json

GROUPS = {
    "environment": environment.CHECKS,
    "kernels": kernels.CHECKS,
    "precision": precision.CHECKS,
    "speed": speed.CHECKS,
    "vLLM": check_vllm,
    "several processes": check_processes,
}


def make_parser() -> argparse.ArgumentParser:
    """The command's own options."""
    parser = argparse.ArgumentParser(
        prog="real-trl doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = RecipeParser.error.__get__(parser)
    parser.add_argument(
        "--recipe", type=Path, help="recipe of a training stage, whose model and settings are examined"
    )
    parser.add_argument("--stage", choices=tuple(CONFIGS), help="for a recipe whose first comment does not say it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _join_processes() -> PartialState:
    """That of `accelerate launch`; on a processor with gloo, which accelerate would not take under DeepSpeed."""
    if torch.cuda.is_available():
        return PartialState()
    deepspeed = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    return PartialState(backend="gloo") if deepspeed else PartialState(cpu=True)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run all checks; `argv` defaults to the command line. Ends with status 1 if one has failed."""
    parser = make_parser()
    with user_errors():
        args, overrides = parser.parse_known_args(argv)
        if overrides and args.recipe is None:
            parser.error(f"{overrides[0]}: not known; options of a recipe need --recipe FILE")
        state = _join_processes()
        subject = Subject.of(args.recipe, overrides, args.stage)
    with redirect_stdout(sys.stderr):  # for what libraries print
        if state.num_processes > 1:
            # An error ends this process, and so all that would wait for it
            together = {"several processes": check_processes(subject)}
            report = run_checks({"environment": environment.CHECKS}, subject) | together
        else:
            report = run_checks(GROUPS, subject)
    if not state.is_main_process:
        return
    if args.json:
        sys.stdout.write(to_json(as_json(report), indent=2))
        print()
    else:
        print_report(report)
    if failures(report):
        end_with(1)


if __name__ == "__main__":
    main()
