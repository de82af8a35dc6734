# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the demo's page asks for, and nothing else of what the library that shows it offers: no uploads, above all."""

import json
from collections.abc import Mapping

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from real_trl.serving.wire import Refused

_API = "/gradio_api/"
# `run` and `call` are for programs that ask the page's one question
_SENT_TO = {
    _API + name for name in ("queue/join", "cancel", "reset", "run/score", "api/score", "call/score", "call/v2/score")
}
_OF_GRADIO = {
    "data",
    "fn_index",
    "trigger_id",
    "session_hash",
    "event_id",
    "batched",
    "simple_format",
    "event_data",
    "api_name",
}
_CLOSED = tuple(_API + name for name in ("upload", "proxy=", "stream/", "dev/", "vibe", "component_server"))


class PageRequests:
    """
    ASGI middleware for the demo, behind [`~real_trl.serving.guard.Guard`]. Only texts are taken, at the addresses that the page
    sends them to: everything else that is sent gets 403, uploads of files in all their forms among it, and texts that are no texts,
    because gradio fetches what they name, get 422.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        path = scope["path"].rstrip("/")
        reads = scope["method"] in ("GET", "HEAD")
        try:
            if reads and path.startswith(_CLOSED):
                raise Refused(403, "this page does not use that address.", "path")
            if reads:
                return await self.app(scope, receive, send)
            if path not in _SENT_TO:
                raise Refused(403, "this page takes texts only, no files. Fill in its fields.", "path")
            message = await receive()  # the guard has the whole body
            if message["type"] != "http.request":
                return None
            _check_texts(message.get("body", b""))
        except Refused as refused:
            return await JSONResponse(refused.body(), refused.status, refused.headers)(scope, receive, send)
        rest = [message]

        async def replay() -> Message:
            return rest.pop() if rest else await receive()

        return await self.app(scope, replay, send)


def _check_texts(body: bytes) -> None:
    """Refuse fields that are no texts."""
    try:
        asked = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not valid JSON. Correct it.", "body") from None
    if not isinstance(asked, Mapping):
        raise Refused(422, "the body is no object. Send the fields of the page.", "body")
    data = asked.get("data")
    values = [*data] if isinstance(data, list) else [data]
    # Version 2 of gradio's calls has the fields by name
    values += [value for name, value in asked.items() if name not in _OF_GRADIO]
    if any(value is not None and not isinstance(value, str) for value in values):
        raise Refused(422, "a field is no text. Send text, in quotes.", "data")
