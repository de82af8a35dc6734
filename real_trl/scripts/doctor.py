# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether the library is right and fast on this machine, found out by doing it here, in about two minutes:

    real-trl doctor
    real-trl doctor --recipe recipes/qwen3-8b/real.yaml
    real-trl --accelerate_config recipes/accelerate_configs/zero3.yaml doctor

Environment, attention over shared prompts against float64, precision of scores and updates, speed, and vLLM where it is installed, with the
heads, the precision and the learning rate of a recipe; random weights, nothing is downloaded. Started in several processes it compares them with
one, and skips what one process shows. What this machine cannot show is skipped, and says why. Options that are none of its own go to the recipe, as in
training.
A bug report begins with what it prints.

exit status: 0 nothing failed, 1 a check failed, 2 the command line or the recipe is wrong
"""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import torch
from accelerate import PartialState

from real_trl.arguments.parser import RecipeParser
from real_trl.doctor import environment, kernels, precision, speed
from real_trl.doctor.examined import describe
from real_trl.doctor.findings import Report, as_json, failures, print_report, raised, run_checks, skipped
from real_trl.doctor.processes import check_processes
from real_trl.doctor.subject import Subject
from real_trl.doctor.vllm_engine import check_vllm
from real_trl.planning.recipe import CONFIGS
from real_trl.runs.command import command, user_errors
from real_trl.runs.unscored_exit import end_with
from real_trl.text.json_text import to_json
from real_trl.text.terminal import CleanConsole

GROUPS = {
    "environment": environment.CHECKS,
    "kernels": kernels.CHECKS,
    "precision": precision.CHECKS,
    "speed": speed.CHECKS,
    "vLLM": check_vllm,
    "several processes": check_processes,
}
_TO_REPORT = 10  # seconds that a process which fails leaves the main one, which the launcher then ends


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


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """For what libraries print: Python's output, and that of compiled code and of processes that are started."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _examine_together(subject: Subject, state: PartialState, command_line: str) -> Report:
    """In each of several processes; what needs only one is skipped."""
    report = run_checks({"environment": environment.CHECKS}, subject)
    if state.is_main_process:  # told at once: a process that fails ends all
        print_report(report, CleanConsole(stderr=True))
    alone = f"in one process: {command_line}"
    report |= {title: {title: skipped(alone)} for title in GROUPS if title not in ("environment", "several processes")}
    try:
        return report | {"several processes": check_processes(subject)}
    except Exception as error:
        if not state.is_main_process:
            time.sleep(_TO_REPORT)
            raise
        return report | {"several processes": {"start": raised(error)}}


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run all checks; `argv` defaults to the command line. Ends with status 1 if one has failed."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = make_parser()
    with user_errors():
        args, overrides = parser.parse_known_args(argv)
        if overrides and args.recipe is None:
            parser.error(f"{overrides[0]}: not known; options of a recipe need --recipe FILE")
    command_line = shlex.join(["real-trl", "doctor", *argv])
    with _stdout_to_stderr():
        state = _join_processes()
        with user_errors():
            subject = Subject.of(args.recipe, overrides, args.stage)
        examined = describe(subject, state, command_line)
        if state.num_processes > 1:
            report = _examine_together(subject, state, command_line)
        else:
            report = run_checks(GROUPS, subject)
    if state.is_main_process:
        if args.json:
            sys.stdout.write(to_json(as_json(report, examined), indent=2))
            print()
        else:
            print_report(report, examined=examined)
    if state.num_processes > 1:  # libraries print as a process ends, too
        sys.stdout.flush()
        os.dup2(2, 1)
    if state.is_main_process and failures(report):
        end_with(1)


if __name__ == "__main__":
    main()
