# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Counters and histograms of the service, as Prometheus reads them."""

import time
from collections.abc import Sequence

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from real_trl.engines import Judgment
from real_trl.serving.batching import Batcher

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
HUNG_UP = (
    499  # the status of a request whose client has closed the connection: nobody reads it, but log and figures have it
)


class Metrics:
    """
    The figures of one application, in a registry of its own.

    | name | type | labels |
    |---|---|---|
    | `real_trl_requests_total` | counter | `endpoint`, `status` (HTTP; 499: the client hung up) |
    | `real_trl_request_seconds` | histogram | `endpoint` |
    | `real_trl_rows_total` | counter | `status` of the judgment: `ok`, `unscored`, or why its completion shows no score |
    | `real_trl_batch_rows`, `real_trl_batch_seconds` | histograms | |
    | `real_trl_waiting_rows` | gauge | |

    Connections that are closed before the head of a request has arrived are in none of them.

    Args:
        batcher ([`Batcher`]):
            Whose batches are counted; its `on_batch` is set.
    """

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "real_trl_requests", "Requests by HTTP status.", ["endpoint", "status"], registry=self.registry
        )
        self._request_seconds = Histogram(
            "real_trl_request_seconds",
            "Seconds from a request's head to the begin of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Counter(
            "real_trl_rows", "Rows that were judged, by the judgment's status.", ["status"], registry=self.registry
        )
        self._batch_rows = Histogram(
            "real_trl_batch_rows", "Rows that were judged together.", buckets=_ROWS, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "real_trl_batch_seconds", "Seconds in which they were judged.", buckets=_SECONDS, registry=self.registry
        )
        waiting = Gauge("real_trl_waiting_rows", "Rows that wait for the judge.", registry=self.registry)
        waiting.set_function(lambda: batcher.waiting)
        batcher.on_batch = self._batch

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that was answered, or given up."""
        self._requests.labels(endpoint, str(status)).inc()
        self._request_seconds.labels(endpoint).observe(seconds)

    def judged(self, judgments: Sequence[Judgment]) -> None:
        """Count rows."""
        for judgment in judgments:
            self._rows.labels(judgment.status).inc()

    def page(self) -> Response:
        """The figures in Prometheus' text format."""
        return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

    def _batch(self, rows: int, seconds: float) -> None:
        self._batch_rows.observe(rows)
        self._batch_seconds.observe(seconds)


class Measured:
    """
    ASGI middleware that counts requests, those that the others refuse included.

    Args:
        endpoints (`Sequence[str]`):
            Paths that are counted by name; all others are `other`, so that clients cannot add to the labels.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, endpoints: Sequence[str]) -> None:
        self.app, self.metrics, self.endpoints = app, metrics, frozenset(endpoints)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, counted = time.monotonic(), False

        def count(status: int) -> None:
            nonlocal counted
            if not counted:
                endpoint = scope["path"] if scope["path"] in self.endpoints else "other"
                self.metrics.request(endpoint, status, time.monotonic() - started)
            counted = True

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                count(message["status"])  # before the client sees it, and may ask for the figures
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception:
            count(500)  # which the server makes of it
            raise
        finally:
            count(HUNG_UP)
