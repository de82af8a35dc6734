# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A judge behind an HTTP endpoint that returns scores with their distributions.

    real-trl serve --model outputs/my-real
    curl http://127.0.0.1:8000/score -H "Content-Type: application/json" \\
        -d '{"instruction": "…", "rubric": "…", "response": "…"}'

`POST /score` takes one row (the fields that the judge's prompt has, or a complete `prompt`) or several under `rows`; `GET /health` says
whether the service is ready, by which judge, on which scale. `POST /v1/grader` answers the same requests with rewards between 0 and 1;
`POST /v1/chat/completions` and `GET /v1/models` are for clients of OpenAI's API (see [`real_trl.serving.chat`]), `GET /metrics` is for
Prometheus. Concurrent requests are judged in common batches. Decoding is greedy unless `--do_sample true`: an answer is then that of
`Judge.score` on the row alone, up to the rounding of floating-point numbers, whatever it shares its batch with. If the environment
variable `REAL_TRL_API_KEY` is set, clients have to send its value as `Authorization: Bearer <key>`.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

from real_trl.arguments.evaluation import judge_name
from real_trl.arguments.parser import RecipeParser
from real_trl.arguments.serving import ServedJudge
from real_trl.engines import ENGINES
from real_trl.runs.command import command, user_errors
from real_trl.serving.sockets import bind, is_local, url_of


@dataclass(kw_only=True)
class ServeArguments(ServedJudge):
    """
    Arguments of the endpoint: those of [`ServedJudge`], and

    Args:
        host, port (*optional*, default to `127.0.0.1` and `8000`):
            Where it listens. Port 0 takes a free one.
        api_key_env (`str`, *optional*):
            Environment variable with the key that clients need; it then has to be set. By default `REAL_TRL_API_KEY`,
            if it is.
        max_body_bytes, max_prompt_bytes, max_rows, max_waiting, request_timeout:
            See [`~real_trl.serving.app.Limits`].
        max_connections (`int`, *optional*, defaults to `512`):
            Connections at a time; where there are more, those go first that owe the rest of a request.
        shutdown_timeout (`float`, *optional*, defaults to `30`):
            Seconds in which what waits is still judged when the service is stopped; the rest is refused.
    """

    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for all."})
    port: int = field(default=8000, metadata={"help": "Port; 0 for a free one."})
    api_key_env: str | None = field(
        default=None,
        metadata={"help": "Environment variable with the clients' key. Default: REAL_TRL_API_KEY, if set."},
    )
    max_body_bytes: int = field(default=2**20, metadata={"help": "Longest body of a request."})
    max_prompt_bytes: int | None = field(
        default=None, metadata={"help": "Longest prompt in bytes. Default: 32 for every token that the model reads."}
    )
    max_rows: int = field(default=64, metadata={"help": "Rows in one request."})
    max_waiting: int = field(default=256, metadata={"help": "Rows that may wait; more are refused with 503."})
    request_timeout: float = field(default=300.0, metadata={"help": "Seconds until an unanswered request gets 504."})
    max_connections: int = field(default=512, metadata={"help": "Connections at a time."})
    shutdown_timeout: float = field(
        default=30.0, metadata={"help": "Seconds for what waits when the service is stopped."}
    )


def make_parser() -> RecipeParser:
    """The options."""
    return RecipeParser(ServeArguments, usage="real-trl serve --model JUDGE [options]")


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Serve until stopped; `argv` defaults to the command line."""
    with user_errors():
        args: ServeArguments = make_parser().parse_args_and_config(argv)[0]
        if missing := [name for name in ("fastapi", "uvicorn", "prometheus_client") if find_spec(name) is None]:
            raise ImportError(f"serve needs {missing[0]}. Install it: pip install real_trl[serve].")
        from real_trl.serving.app import Limits, create_app
        from real_trl.serving.batching import Batcher
        from real_trl.serving.server import API_KEY_VARIABLE, Server, read_key

        limits = Limits(
            args.max_body_bytes,
            args.max_rows,
            args.max_waiting,
            args.request_timeout,
            max_prompt_bytes=args.max_prompt_bytes,
        )
        key = read_key(args.api_key_env)
        listener = bind(args.host, args.port)
        judge = args.load()
    if key is None and not is_local(args.host):
        print(
            f"warning: no key is set, so whoever reaches {args.host} can use the judge. Set {API_KEY_VARIABLE} in the environment.",
            file=sys.stderr,
        )
    logging.basicConfig(format="%(levelname)s: %(message)s")
    size = ENGINES[args.engine].units_per_call(args.batch_size)
    batcher = Batcher(judge, batch_size=size, max_waiting=args.max_waiting)
    app = create_app(judge, batcher, judge_name(args.model_name_or_path), limits, key)
    print(
        f"Serving {args.model_name_or_path} at {url_of(listener)} ({'with' if key else 'without'} a key)", flush=True
    )
    server = Server(app, batcher, args.shutdown_timeout, max_connections=args.max_connections)
    server.serve_until_stopped(listener)


if __name__ == "__main__":
    main()
