# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A web page to try a judge on: fill in the fields of its prompt, see its rationale, score and distribution.

    real-trl demo --model outputs/my-real

The page runs on this machine and loads nothing from elsewhere. Decoding is greedy unless `--do_sample true`.
"""

import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from real_trl.arguments.evaluation import judge_name
from real_trl.arguments.parser import RecipeParser
from real_trl.arguments.serving import ServedJudge
from real_trl.runs.command import command, user_errors
from real_trl.serving.sockets import bind, is_local, url_of


@dataclass(kw_only=True)
class DemoArguments(ServedJudge):
    """
    Arguments of the page: those of [`ServedJudge`], and

    Args:
        host, port (*optional*, default to `127.0.0.1` and `7860`):
            Where it is. Port 0 takes a free one.
    """

    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for all."})
    port: int = field(default=7860, metadata={"help": "Port; 0 for a free one."})


def make_parser() -> RecipeParser:
    """The options."""
    return RecipeParser(DemoArguments, usage="real-trl demo --model JUDGE [options]")


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Show the page until stopped; `argv` defaults to the command line."""
    with user_errors():
        args: DemoArguments = make_parser().parse_args_and_config(argv)[0]
        if find_spec("gradio") is None:
            raise ImportError("demo needs gradio. Install it: pip install real_trl[demo].")
        listener = bind(args.host, args.port)
        url, port = url_of(listener), listener.getsockname()[1]
        judge = args.load()
        from real_trl.serving.demo_page import build_page, launch

        page = build_page(judge, judge_name(args.model_name_or_path))
        listener.close()  # gradio takes a number, not a socket
        launch(page, args.host, port)
    if not is_local(args.host):
        print(f"warning: whoever reaches {args.host} can use this page.", file=sys.stderr)
    print(f"The page to try {args.model_name_or_path}: {url}", flush=True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ends the page, and this
    page.block_thread()


if __name__ == "__main__":
    main()
