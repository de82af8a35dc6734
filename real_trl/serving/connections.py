# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Limits on connections, which uvicorn lacks: how many there are, and how long one may keep the server waiting for a request."""

import asyncio
import logging
import os
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from real_trl.serving.wire import Refused
from real_trl.text.json_text import to_json

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 64
"""Connections that are accepted before the limit is looked at."""
_SPARE_FILES = 32
_GRACE = 0.25  # seconds in which a connection may send the head of its request before it can be closed for another


class BoundedConnection(H11Protocol):
    """
    A connection of uvicorn's that is closed if the head of a request does not arrive, half of one included: uvicorn has a
    timeout for idle connections between two requests only, and its `limit_concurrency` counts silent connections, so that
    those would have everybody else refused.

    Where there are too many connections, the one is closed that owes the rest of a request for longest; those that have never
    sent one go first. If all requests are being worked on, or have only just begun, a new connection is refused, with 503.

    Args:
        max_connections (`int`):
            Connections at a time.
        head_timeout (`float`):
            Seconds in which the head of a request has to arrive, counted from the connection's begin, or, after an answer, from
            the head's first byte. An answer has to be taken in that time, too. How long a connection may be idle after an
            answer is uvicorn's `timeout_keep_alive`.
        kwargs:
            What uvicorn gives its protocols.
    """

    def __init__(self, *, max_connections: int, head_timeout: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_connections, self.head_timeout = max_connections, head_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._since = self.loop.time()
        self._answered = False

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Take the connection, if need be in place of another."""
        room = len(self.connections) < self.max_connections or self._make_room()
        super().connection_made(transport)
        self._await_head()
        if not room:
            self._refuse(
                Refused(
                    503,
                    f"{self.max_connections} connections have requests that are being worked on. Try again later.",
                    headers={"Retry-After": "1"},
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the first ones of a head begin its time."""
        if self._answered and self._awaits_head and not self.conn.trailing_data[0]:
            self._await_head()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """The next request may come."""
        self._answered = True
        self._await_head()
        super().on_response_complete()

    @property
    def _awaits_head(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._since = self.loop.time()
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.head_timeout, self._head_is_late)

    def _head_is_late(self) -> None:
        if not self._awaits_head:
            return  # the body and the work have limits of their own
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()  # its client does not take the answer
        elif self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(Refused(408, f"the head of a request did not arrive within {self.head_timeout:g} s."))
        elif not self._answered:
            self.transport.close()

    def _make_room(self) -> bool:
        """Whether another connection could be closed."""
        latest = self.loop.time() - _GRACE
        others: set[Any] = self.connections  # connections of this class, which uvicorn's annotation does not know
        owing = [other for other in others if other._since < latest and (other._awaits_head or other.cycle.more_body)]
        if not owing:
            return False
        victim = min(owing, key=lambda other: (other._answered, other._since))
        self.connections.discard(victim)  # it is lost in the next round of the loop only
        victim.transport.abort()
        return True

    def _refuse(self, refused: Refused) -> None:
        body = to_json(refused.body()).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        response = h11.Response(status_code=refused.status, headers=list((headers | refused.headers).items()))
        for event in (response, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
        self.transport.close()


def possible_connections(asked: int) -> int:
    """
    As many of `asked` connections as the process may have open: a server that runs out of file descriptors accepts nobody any more.
    Its own limit is raised as far as it may be.
    """
    try:
        import resource
    except ImportError:  # no POSIX system
        return asked
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return asked
    others = len(os.listdir("/dev/fd")) + ACCEPTED_AT_ONCE + _SPARE_FILES
    if soft < asked + others:
        raised = asked + others if hard == resource.RLIM_INFINITY else min(hard, asked + others)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
        soft = max(soft, raised)
    possible = max(1, min(asked, soft - others))
    if possible < asked:
        logger.warning(
            "max_connections: got %d, but only %d are possible with the %d open files that the process may have (ulimit -n).",
            asked,
            possible,
            soft,
        )
    return possible
