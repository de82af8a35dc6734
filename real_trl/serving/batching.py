# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Concurrent requests in common batches: one thread owns the engine, and what waits meanwhile is judged together next."""

import contextlib
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from real_trl.engines import Judgment
from real_trl.judge import Judge

logger = logging.getLogger(__name__)


class Busy(Exception):
    """
    No room, or no judge, for a request at present.

    Attributes:
        retry_after (`int`): Seconds after which it is worth trying again.
    """

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PromptTooLong(Exception):
    """A request with a prompt that the engine refuses. The others are not touched."""


class JudgingFailed(Exception):
    """The engine failed on a request, for a reason that is in the log."""


@dataclass(eq=False)
class _Request:
    prompts: list[str]
    future: "Future[list[Judgment]]" = field(default_factory=Future)
    judged: dict[int, Judgment] = field(default_factory=dict)
    waiting: int = 0  # rows that the engine has not been given yet

    def fail(self, error: Exception) -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
            self.future.set_exception(error)

    def answer(self, row: int, judgment: Judgment) -> None:
        self.judged[row] = judgment
        if len(self.judged) == len(self.prompts):
            with contextlib.suppress(InvalidStateError):
                self.future.set_result([self.judged[row] for row in range(len(self.prompts))])


class Batcher:
    """
    Judges the requests of many threads in batches, in the order in which they came.

    A batch is made of what waits when the engine is free. Every request is checked before it gets into a batch, and one on
    which the engine fails is told from the others of its batch by judging them one by one, so that no request fails for
    another.

    Args:
        judge ([`Judge`]):
            The judge. Nothing else may use its engine meanwhile.
        batch_size (`int`):
            Prompts that the engine is given at once.
        max_waiting (`int`):
            Prompts that may wait for the engine; a request that would exceed it is refused.
        window (`float`, *optional*, defaults to `0.01`):
            Seconds to wait for a batch to fill up, as far as the requests that were open when the last batch ended let
            expect more of them. A single client never waits.
        seed (`int`, *optional*, defaults to `0`):
            Where the judge samples: seed of the first batch; each has its own.
    """

    def __init__(
        self, judge: Judge, *, batch_size: int, max_waiting: int, window: float = 0.01, seed: int = 0
    ) -> None:
        self.judge, self.batch_size, self.max_waiting, self.window = judge, batch_size, max_waiting, window
        self._seeds = itertools.count(seed)
        self._changed = threading.Condition()
        self._open: set[_Request] = set()  # neither answered nor given up; guarded, as are the next two
        self._arrived: list[_Request] = []
        self._closing = False
        self._ready: deque[tuple[_Request, int]] = deque()  # the thread's own, as are the next two
        self._expected = 1
        self._batch_seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._thread.is_alive() and not self._closing

    @property
    def waiting(self) -> int:
        """Prompts that wait for the engine."""
        with self._changed:
            return sum(request.waiting for request in self._open)

    def submit(self, prompts: Sequence[str]) -> "Future[list[Judgment]]":
        """
        Have `prompts` judged.

        Args:
            prompts (`Sequence[str]`):
                Complete judge prompts, at least one.

        Returns:
            `Future[list[Judgment]]`: the judgments in the order of the prompts, or [`PromptTooLong`], [`JudgingFailed`] or
            [`Busy`]. Cancelled, it makes the engine skip what it has not begun.

        Raises:
            [`Busy`]: if too many prompts wait already, or if the service ends.
        """
        request = _Request(list(prompts), waiting=len(prompts))
        with self._changed:
            if not self.ready:
                raise Busy("The service is shutting down. Try again when it is back.", retry_after=5)
            if self.waiting + len(prompts) > self.max_waiting:
                batches = math.ceil(self.waiting / self.batch_size)
                raise Busy(
                    f"{self.waiting} prompts are waiting, of at most {self.max_waiting}. Try again later.",
                    retry_after=max(1, math.ceil(batches * self._batch_seconds)),
                )
            self._open.add(request)
            self._arrived.append(request)
            self._changed.notify()
        request.future.add_done_callback(lambda _: self._discard(request))
        return request.future

    def drain(self) -> None:
        """Take no more requests; those that wait are still judged."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def refuse_waiting(self) -> None:
        """Take no more requests, and refuse those that wait. The batch under way is finished."""
        self.drain()
        with self._changed:
            waiting = [request for request in self._open if request.waiting]
        for request in waiting:
            request.fail(Busy("The service is shutting down. Try again when it is back.", retry_after=5))

    def join(self, timeout: float | None = None) -> None:
        """Wait until everything that was taken has been answered, after [`drain`] or [`refuse_waiting`]."""
        self._thread.join(timeout)

    def _discard(self, request: _Request) -> None:
        with self._changed:
            self._open.discard(request)

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                started = time.monotonic()
                self._judge(batch)
                self._batch_seconds = time.monotonic() - started

    def _next_batch(self) -> list[tuple[_Request, int]] | None:
        """Rows to be judged together, `None` at the end. Whatever has arrived is checked first."""
        with self._changed:
            self._changed.wait_for(lambda: self._arrived or self._ready or self._closing)
            expected = min(self._expected, self.batch_size)
            self._changed.wait_for(lambda: self._closing or self._num_rows() >= expected, timeout=self.window)
            arrived, self._arrived = self._arrived, []
            if not arrived and not self._ready:
                return None
        for request in arrived:
            self._check(request)
        batch: list[tuple[_Request, int]] = []
        while self._ready and len(batch) < self.batch_size:
            request, row = self._ready.popleft()
            request.waiting -= 1
            if not request.future.done():  # else its client has gone
                batch.append((request, row))
        return batch

    def _num_rows(self) -> int:
        return len(self._ready) + sum(len(request.prompts) for request in self._arrived)

    def _check(self, request: _Request) -> None:
        if request.future.done():
            return
        try:
            self.judge.engine.check(request.prompts)
        except ValueError as error:
            request.fail(PromptTooLong(str(error)))
        except Exception as error:
            request.fail(_failed(error))
        else:
            self._ready.extend((request, row) for row in range(len(request.prompts)))

    def _judge(self, batch: list[tuple[_Request, int]]) -> None:
        try:
            judgments = self.judge.judge([request.prompts[row] for request, row in batch], seed=next(self._seeds))
        except Exception as error:
            # What cannot be reached cannot be reached for any of them; but one row may have taken too long
            unreachable = isinstance(error, OSError) and not isinstance(error, TimeoutError)
            if len(batch) > 1 and not unreachable:
                logger.warning("A batch of %d failed (%s); its rows are judged one by one.", len(batch), error)
                for request, row in batch:
                    if not request.future.done():  # else it has failed for another row, or its client has gone
                        self._judge([(request, row)])
                return
            failed = _failed(error)
            for request, _ in batch:
                request.fail(failed)
            return
        with self._changed:
            rows = sum(len(request.prompts) for request in self._open)
        self._expected = rows
        for (request, row), judgment in zip(batch, judgments, strict=True):
            request.answer(row, judgment)


def _failed(error: Exception) -> JudgingFailed:
    logger.error("The engine failed", exc_info=error)
    return JudgingFailed(f"The judge failed on this request ({type(error).__name__}); the server's log says why.")
