# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What every request has to pass before anything looks into it: the key, the size of its body, and the time it takes to send."""

import asyncio
import contextlib
import hmac

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from real_trl.serving.wire import Refused

OPEN_PATHS = ("/health",)
_DISCARDED_BYTES = 2**25


class Guard:
    """
    ASGI middleware that refuses requests without the key (401), with a body that is too large (413) or too slow (408). The
    body is read here, up to the limit, and passed on.

    Args:
        app (`ASGIApp`):
            What is guarded.
        key (`str`, *optional*):
            Required as `Authorization: Bearer <key>`, except at `/health`. It is compared in constant time.
        max_body_bytes (`int`):
            Longest body.
        body_timeout (`float`):
            Seconds in which the body has to arrive.
    """

    def __init__(self, app: ASGIApp, *, key: str | None, max_body_bytes: int, body_timeout: float) -> None:
        self.app, self.max_body_bytes, self.body_timeout = app, max_body_bytes, body_timeout
        self._key = None if key is None else key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        stream = _Stream(receive)
        try:
            headers = Headers(scope=scope)
            self._check_key(scope, headers)
            body = await self._read_body(headers, stream)
        except Refused as refused:
            await self._discard(stream)
            # What has still not been read makes the connection useless
            closing = {} if stream.complete else {"Connection": "close"}
            response = JSONResponse(refused.body(), refused.status, refused.headers | closing)
            return await response(scope, receive, send)
        if body is None:
            return None
        rest = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(rest, None) or await receive()

        return await self.app(scope, replay, send)

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

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        if self._key is None or scope["path"] in OPEN_PATHS:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        # Headers are read as Latin-1; these are the bytes as they were sent
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), self._key):
            raise Refused(
                401,
                "a key is needed, and there was none or another. Send it as 'Authorization: Bearer <key>'.",
                "Authorization",
                {"WWW-Authenticate": "Bearer"},
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
        self.started = asyncio.get_running_loop().time()

    async def next(self) -> bytes:
        message = await self._receive()
        self.disconnected = message["type"] == "http.disconnect"
        self.complete = self.disconnected or not message.get("more_body", False)
        return message.get("body", b"")
