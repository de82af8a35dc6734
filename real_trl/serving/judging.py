# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From the body of a request to judgments: what all endpoints that judge have in common."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request

from real_trl.engines import Judgment
from real_trl.evaluation.unscored import UNSCORED, grouped_reasons
from real_trl.serving.batching import Batcher, Busy, JudgingFailed, PromptTooLong
from real_trl.serving.guard import SMALL_BODY_BYTES
from real_trl.serving.metrics import HUNG_UP, Metrics
from real_trl.serving.wire import Refused

Read = TypeVar("Read")


class Judging:
    """
    Reads requests and has their prompts judged.

    Args:
        timeout (`float`):
            Seconds until a request is answered with 504.
    """

    def __init__(self, batcher: Batcher, timeout: float, metrics: Metrics) -> None:
        self.batcher, self.timeout, self.metrics = batcher, timeout, metrics
        self._reading = CapacityLimiter(2)

    async def read(self, request: Request, reader: Callable[[bytes], Read]) -> Read:
        """
        What `reader` makes of the body.

        Raises:
            [`Refused`]: with 415 if the body is not said to be JSON, and what `reader` raises.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "the body has to be JSON. Send it as application/json.", "Content-Type")
        content = await request.body()
        if len(content) <= SMALL_BODY_BYTES:
            return reader(content)
        return await to_thread.run_sync(
            reader, content, limiter=self._reading
        )  # takes long enough for others to notice

    async def judge(self, request: Request, prompts: list[str], groups: list[str | None]) -> list[Judgment]:
        """
        The judgments of complete prompts, some of which may be unscored.

        Args:
            groups (`list[str]`):
                Of each prompt, its [`Judge.group`].

        Raises:
            [`Refused`]: with 413 if a prompt is too long for the judge, 499 if the client hung up, 500 if the judge failed, 502 if its
                engine gave no answer to any of the prompts, 503 if there is no room, 504 if it took too long.
        """
        try:
            judgments = await _answer(request, self.batcher.submit(prompts), self.timeout)
        except Busy as error:
            raise Refused(503, str(error), headers={"Retry-After": str(error.retry_after)}) from None
        except PromptTooLong as error:
            raise Refused(413, str(error), "prompt") from None
        except JudgingFailed as error:
            raise Refused(500, str(error)) from None
        self.metrics.judged(judgments)
        if all(judgment.status == UNSCORED for judgment in judgments):
            reasons = "; ".join(grouped_reasons(judgment.error or "" for judgment in judgments))
            raise Refused(502, f"the judge's engine gave no answer that can be scored: {reasons}")
        if any(group is not None for group in groups):  # engine and batches know no groups
            judgments = [self.batcher.judge.calibrated(*each) for each in zip(judgments, groups, strict=True)]
        return judgments


async def _answer(request: Request, future: "Future[list[Judgment]]", timeout: float) -> list[Judgment]:
    """The judgments, unless the client hangs up or the time is up before they are there."""
    answer = asyncio.wrap_future(future)
    gone = asyncio.create_task(_disconnected(request))
    try:
        done, _ = await asyncio.wait({answer, gone}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if answer in done:
            return answer.result()
        if gone in done:
            raise Refused(HUNG_UP, "the client has hung up.")
        raise Refused(504, f"it was not judged within {timeout:g} s. Send less, or try again later.")
    finally:
        gone.cancel()
        answer.cancel()  # nothing if it is there; else the engine skips what it has not begun


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
