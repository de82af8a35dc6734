# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The process around the endpoint: its port, its key, and its end."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import socket
import threading

import uvicorn
from fastapi import FastAPI

from real_trl.serving.batching import Batcher
from real_trl.serving.connections import ACCEPTED_AT_ONCE, BoundedConnection, possible_connections

API_KEY_VARIABLE = "REAL_TRL_API_KEY"
_MAY_WAIT = 2048  # connections that have not been accepted
# Seconds. A client that reuses a connection just as it is closed loses its request, so that the pools of clients (httpx and Node: 5 s,
# proxies: 60 s) have to drop theirs first
_KEEP_ALIVE = 75


def read_key(variable: str | None) -> str | None:
    """
    The key that clients need, out of the environment.

    Args:
        variable (`str`, *optional*):
            Environment variable, which then has to be set. By default `REAL_TRL_API_KEY`, if it is.

    Raises:
        `ValueError`: if a named variable is not set, or holds what cannot be sent in a header. The key is not shown.
    """
    key = os.environ.get(variable or API_KEY_VARIABLE)
    if key is None and variable is None:
        return None
    name = variable or API_KEY_VARIABLE
    if not key:
        raise ValueError(
            f"api_key_env: the environment variable {name} is not set, or empty. Set it to the key that clients have to send"
            + (", or leave api_key_env out." if variable else ", or unset it.")
        )
    if not key.isprintable() or " " in key or not key.isascii():
        raise ValueError(
            f"api_key_env: the environment variable {name} holds blanks, line breaks or letters beyond ASCII, which a key in a "
            "header cannot have. Set it to another key."
        )
    return key


class Server(uvicorn.Server):
    """
    Uvicorn, ending in this order: no more requests are taken; what waits is judged, for at most `grace` seconds; what then
    still waits is refused with 503; the batch under way is finished.

    Args:
        grace (`float`):
            Seconds.
        max_connections (`int`, *optional*, defaults to `512`), head_timeout (`float`, *optional*, defaults to `15`):
            See [`~real_trl.serving.connections.BoundedConnection`]; there are fewer connections where the process may not have as
            many files open.
    """

    def __init__(
        self, app: FastAPI, batcher: Batcher, grace: float, *, max_connections: int = 512, head_timeout: float = 15.0
    ) -> None:
        connection = functools.partial(
            BoundedConnection, max_connections=possible_connections(max_connections), head_timeout=head_timeout
        )
        # A connection that became a WebSocket would be beyond all limits
        config = uvicorn.Config(
            app,
            http=connection,
            ws="none",
            log_level="info",
            server_header=False,
            backlog=ACCEPTED_AT_ONCE,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        super().__init__(config)
        self.batcher, self.grace = batcher, grace

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin; called by uvicorn."""
        # A full collection looks at all objects of the libraries and the judge, which takes a second in which nobody is answered
        gc.collect()
        gc.freeze()
        await super().startup(sockets)
        for listener in sockets or []:
            # asyncio accepts as many connections at once as may wait, but many may wait without harm
            listener.listen(_MAY_WAIT)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; called by uvicorn on SIGINT and SIGTERM."""
        self.batcher.drain()
        asyncio.get_running_loop().call_later(self.grace, self.batcher.refuse_waiting)
        await super().shutdown(sockets)

    def serve_until_stopped(self, listener: socket.socket) -> None:
        """Serve until SIGINT or SIGTERM, which end the process with status 0."""
        # Uvicorn raises the signal again when it has ended, for whoever handled it before
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            self.run(sockets=[listener])
        if not self.force_exit:
            self.batcher.join()
