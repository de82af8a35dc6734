# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What a hostile client does to a service while others use it, for `python -m benchmarks.serve --hostile`: sockets that say nothing,
or half a head, or half a body, and requests of a megabyte.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from typing import Any

import httpx

HALF_HEAD = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Ty"
HALF_BODY = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n{"
MEGABYTE = 1_000_000


def large_bodies(size: int = MEGABYTE) -> dict[str, bytes]:
    """Bodies of about `size` bytes, of the kinds that are dear to look at."""
    row = b'{"prompt":"%s"}' % (b"right " * (size // 100))
    return {
        "one prompt": b'{"prompt":"%s"}' % (b"right " * (size // 6 - 10)),
        "16 prompts": b'{"rows":[%s]}' % b",".join([row] * 16),
        "one word": b'{"prompt":"%s"}' % (b"x" * (size - 20)),
        "many rows": b'{"rows":[%s]}' % b",".join([b"{}"] * (size // 3 - 10)),
        "many fields": b"{%s}" % b",".join(b'"k%06d":1' % n for n in range(size // 11 - 10)),
    }


class Attack:
    """
    Hostile clients, until `end`.

    Args:
        url (`str`), key (`str`):
            The service and its key.
        end (`float`):
            When they stop, on the clock of `time.perf_counter`.
        num_silent (`int`, *optional*, defaults to `160`):
            Sockets that say nothing, and as many again in turns with half a head or half a body. Closed, they come again.
        num_large (`int`, *optional*, defaults to `24`):
            Requests of a megabyte at a time; again every second.

    Attributes:
        health (`list[float]`): Seconds that `/health` took, each on a new connection.
        closed (`int`): Sockets that the service closed.
        answers (`Counter`): Statuses of the large requests.
        errors (`Counter`): What should not have been.
    """

    def __init__(self, url: str, key: str, end: float, num_silent: int = 160, num_large: int = 24) -> None:
        self.url, self.key, self.end, self.num_silent, self.num_large = url, key, end, num_silent, num_large
        self.health: list[float] = []
        self.closed = 0
        self.answers: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    async def run(self) -> None:
        """Attack."""
        sent = itertools.cycle([HALF_HEAD, HALF_BODY])
        sockets = [self._socket(b"") for _ in range(self.num_silent)]
        sockets += [self._socket(next(sent)) for _ in range(self.num_silent)]
        await asyncio.gather(*sockets, self._large_requests(), self._watch_health())

    def figures(self) -> dict[str, Any]:
        """What there was."""
        return {
            "health_ms": {
                "median": 1000 * sorted(self.health)[len(self.health) // 2],
                "largest": 1000 * max(self.health),
            },
            "closed": self.closed,
            "large": dict(sorted(self.answers.items())),
            "errors": dict(self.errors),
        }

    async def _socket(self, sent: bytes) -> None:
        url = httpx.URL(self.url)
        while (left := self.end - time.perf_counter()) > 0:
            with contextlib.suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                try:
                    writer.write(sent)
                    async with asyncio.timeout(left):
                        await reader.read()  # until the service closes it
                    self.closed += 1
                finally:
                    writer.transport.abort()
            await asyncio.sleep(min(1.0, max(0.0, self.end - time.perf_counter())))

    async def _large_requests(self) -> None:
        bodies = itertools.cycle(large_bodies().items())
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits, headers=headers) as http:

            async def send(kind: str, body: bytes) -> None:
                try:
                    answer = await http.post("/score", content=body)
                except httpx.HTTPError as error:
                    self.errors[f"{kind}: {type(error).__name__}"] += 1
                    return
                self.answers[f"{kind}: {answer.status_code}"] += 1
                # Too long, of too many parts, or no room at present; some models read as much
                if answer.status_code not in (200, 413, 422, 503) or (
                    answer.status_code == 503 and "Retry-After" not in answer.headers
                ):
                    self.errors[f"{kind} got {answer.status_code}"] += 1

            while time.perf_counter() < self.end:
                await asyncio.gather(*(send(*next(bodies)) for _ in range(self.num_large)))
                await asyncio.sleep(min(1.0, max(0.0, self.end - time.perf_counter())))

    async def _watch_health(self) -> None:
        while time.perf_counter() < self.end:
            started = time.perf_counter()
            try:
                async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
                    answer = await http.get("/health")
                if answer.status_code != 200:
                    self.errors[f"/health got {answer.status_code}"] += 1
            except httpx.HTTPError as error:
                self.errors[f"/health: {type(error).__name__}"] += 1
            self.health.append(time.perf_counter() - started)
            await asyncio.sleep(0.25)
