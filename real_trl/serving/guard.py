# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What every request has to pass before anything looks into it: the key, the size of its body, the time it takes to send, and
room for it beside the others.
"""

import asyncio
import contextlib
import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from real_trl.serving.wire import Refused

OPEN_PATHS = ("/health",)
SMALL_BODY_BYTES = 2**16
"""Bodies up to this size are always taken: the number of connections bounds them."""
_DISCARDED_BYTES = 2**25


class Guard:
    """
    ASGI middleware that refuses requests without the key (401), with a body that is too large (413) or too slow (408), or for
    which there is no room beside those that are not answered yet (503). The body is read here, up to the limit, and passed on;
    that of a request to `/health` is not read at all.

    Args:
        key (`str`, *optional*):
            Required as `Authorization: Bearer <key>`, except at `/health`. It is compared in constant time.
        max_body_bytes (`int`):
            Longest body.
        body_timeout (`float`):
            Seconds in which the body has to arrive.
        max_held_bytes (`int`):
            Bytes of all bodies above 64 KiB whose requests are not answered yet.
    """

    def __init__(
        self, app: ASGIApp, *, key: str | None, max_body_bytes: int, body_timeout: float, max_held_bytes: int
    ) -> None:
        self.app, self.max_body_bytes, self.body_timeout = app, max_body_bytes, body_timeout
        self.max_held_bytes, self._held = max_held_bytes, 0
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            return await self.app(scope, receive, send)
        stream, refusal = _Stream(receive), None
        try:
            headers = Headers(scope=scope)
            self._check_key(headers)
            body = await self._read_body(headers, stream)
            if body is not None:
                rest = [{"type": "http.request", "body": body, "more_body": False}]

                async def replay() -> Message:
                    return rest.pop() if rest else await receive()

                return await self.app(scope, replay, send)
        except Refused as refused:
            refusal = refused.with_traceback(None)  # which holds the body
        finally:
            self._hold(stream, 0)
        if refusal is not None:
            await self._discard(stream)
            # What has still not been read makes the connection useless
            closing = {} if stream.complete else {"Connection": "close"}
            await JSONResponse(refusal.body(), refusal.status, refusal.headers | closing)(scope, receive, send)

    async def _discard(self, stream: "_Stream") -> None:
        """
        Read on, within limits: many clients look at the answer only when they have sent everything, and lose it if the
        connection is reset before.
        """
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(stream.started + self.body_timeout):
                while not stream.complete and size < _DISCARDED_BYTES:
                    size += len(await stream.next())

    def _hold(self, stream: "_Stream", size: int) -> None:
        """Count the `size` bytes that are held of a body; [`Refused`] if there is no room for them."""
        counted = size if size > SMALL_BODY_BYTES else 0
        held = self._held - stream.held + counted
        if counted and held > self.max_held_bytes:
            raise Refused(
                503,
                f"the bodies of other requests take {self._held - stream.held} bytes, of at most {self.max_held_bytes}. Try again "
                f"later, or send less than {SMALL_BODY_BYTES} bytes in a request.",
                "body",
                {"Retry-After": "1"},
            )
        self._held, stream.held = held, counted

    def _check_key(self, headers: Headers) -> None:
        if self._key is None:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Headers are read as Latin-1; these are the bytes as they were sent
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            raise Refused(
                401,
                "a key is needed, and there was none or another. Send it as 'Authorization: Bearer <key>'.",
                "Authorization",
                {"WWW-Authenticate": "Bearer"},
                "invalid_api_key",
            )

    async def _read_body(self, headers: Headers, stream: "_Stream") -> bytes | None:
        """The body; `None` if the client hung up."""
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.max_body_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_timeout):
                while not stream.complete:
                    body += await stream.next()
                    if len(body) > self.max_body_bytes:
                        raise self._too_large()
                    self._hold(stream, len(body))
        except TimeoutError:
            raise Refused(408, f"it did not arrive within {self.body_timeout:g} s. Send it at once.", "body") from None
        return None if stream.disconnected else bytes(body)

    def _too_large(self) -> Refused:
        return Refused(
            413, f"it is longer than {self.max_body_bytes} bytes. Send fewer or shorter texts in a request.", "body"
        )


class _Stream:
    """The body of a request, piece by piece."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.complete = self.disconnected = False
        self.held = 0
        self.started = asyncio.get_running_loop().time()

    async def next(self) -> bytes:
        message = await self._receive()
        self.disconnected = message["type"] == "http.disconnect"
        self.complete = self.disconnected or not message.get("more_body", False)
        return message.get("body", b"")
