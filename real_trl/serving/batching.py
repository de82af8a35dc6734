# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Concurrent requests in common batches: one thread judges, and what waits meanwhile is judged together next. What comes in is
checked by other threads, so that a long prompt, which takes long to be made into tokens, keeps nobody else waiting.
"""

import contextlib
import itertools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

from real_trl.engines import Judgment
from real_trl.engines.base import PromptError
from real_trl.engines.server_answer import NoAnswer
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


_SHORT = 2**16  # characters of a request whose check is a matter of milliseconds


@dataclass(eq=False)
class _Request:
    prompts: list[str]  # none any more when it is answered or given up
    future: "Future[list[Judgment]]" = field(default_factory=Future)
    judged: dict[int, Judgment] = field(default_factory=dict)
    num_checked: int = 0

    def __post_init__(self) -> None:
        self.num_rows = self.waiting = len(self.prompts)  # waiting: rows that the engine has not been given yet
        self.size = sum(map(len, self.prompts))

    def fail(self, error: Exception) -> None:
        with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
            self.future.set_exception(error)

    def answer(self, row: int, judgment: Judgment) -> None:
        self.judged[row] = judgment
        if len(self.judged) == self.num_rows:
            with contextlib.suppress(InvalidStateError):
                self.future.set_result([self.judged[row] for row in range(self.num_rows)])


class Batcher:
    """
    Judges the requests of many threads in batches, in the order in which they came and were found to fit.

    A batch is made of what waits when the engine is free. Every request is checked before it gets into a batch, and one on
    which the engine fails is told from the others of its batch by judging them one by one, so that no request fails for
    another. One thread checks short requests, and one the others, prompt by prompt and shorter requests first.

    Args:
        judge ([`Judge`]):
            The judge. Nothing else may use its engine meanwhile. Its engine's `check` is called beside `judge`.
        batch_size (`int`):
            Prompts that the engine is given at once.
        max_waiting (`int`):
            Prompts that may wait for the engine; a request that would exceed it is refused.
        window (`float`, *optional*, defaults to `0.01`):
            Seconds to wait for a batch to fill up, as far as the requests that were open when the last batch ended let
            expect more of them. A single client never waits.
        seed (`int`, *optional*, defaults to `0`):
            Where the judge samples: seed of the first batch; each has its own.

    Attributes:
        on_batch (`Callable[[int, float], None]`): Called with the rows and seconds of each batch that was judged, before anybody is
            answered; to be set by whoever counts.
    """

    def __init__(
        self, judge: Judge, *, batch_size: int, max_waiting: int, window: float = 0.01, seed: int = 0
    ) -> None:
        self.judge, self.batch_size, self.max_waiting, self.window = judge, batch_size, max_waiting, window
        self.on_batch: Callable[[int, float], None] = lambda rows, seconds: None
        self._seeds = itertools.count(seed)
        self._changed = threading.Condition()
        self._open: set[_Request] = set()  # neither answered nor given up; guarded, as are the next three
        self._arrived: list[_Request] = []  # of these, those that are to be checked
        self._ready: deque[tuple[_Request, int]] = deque()
        self._closing = False
        self._expected = 1  # the judging thread's own, as is the next
        self._batch_seconds = 1.0
        self._thread = threading.Thread(target=self._run, name="judge", daemon=True)
        self._thread.start()
        for long in (False, True):
            threading.Thread(target=self._check_arrived, args=(long,), name="check", daemon=True).start()

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
        request = _Request(list(prompts))
        request.future.add_done_callback(lambda _: self._discard(request))
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
            self._changed.notify_all()
        return request.future

    def drain(self) -> None:
        """Take no more requests; those that wait are still judged."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

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
        """Nothing remains of a request that is answered or given up, however long the engine is busy."""
        with self._changed:
            self._open.discard(request)
            if request in self._arrived:
                self._arrived.remove(request)
            if request.waiting:
                self._ready = deque(each for each in self._ready if each[0] is not request)
            request.prompts, request.waiting = [], 0
            self._changed.notify_all()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:  # else its requests were given up meanwhile
                started = time.monotonic()
                self._judge(batch)
                self._batch_seconds = time.monotonic() - started

    def _next_batch(self) -> list[tuple[_Request, int, str]] | None:
        """Rows to be judged together and their prompts, `None` at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or (self._closing and not self._arrived))
            expected = min(self._expected, self.batch_size)
            self._changed.wait_for(lambda: self._closing or len(self._ready) >= expected, timeout=self.window)
            batch: list[tuple[_Request, int, str]] = []
            while self._ready and len(batch) < self.batch_size:
                request, row = self._ready.popleft()
                request.waiting -= 1
                batch.append((request, row, request.prompts[row]))
            return batch or ([] if self._arrived or not self._closing else None)

    def _check_arrived(self, long: bool) -> None:
        """Check what arrives and is `long`, or is not."""

        def next_request() -> _Request | None:
            mine = (request for request in self._arrived if (request.size > _SHORT) == long)
            return min(mine, key=lambda request: request.size // _SHORT, default=None)

        while True:
            with self._changed:
                self._changed.wait_for(lambda: next_request() or self._closing)
                if (request := next_request()) is None:
                    return
                row, prompt = request.num_checked, request.prompts[request.num_checked]
            error = self._check(prompt, row)
            if error is not None:
                request.fail(error)
            with self._changed:
                request.num_checked += 1
                if request in self._arrived and request.num_checked == request.num_rows:
                    self._arrived.remove(request)
                    self._ready.extend((request, row) for row in range(request.num_rows))
                    self._changed.notify_all()

    def _check(self, prompt: str, row: int) -> Exception | None:
        try:
            self.judge.engine.check([prompt])
        except ValueError as error:
            if isinstance(error, PromptError):
                error.index = row  # of the request
            return PromptTooLong(str(error))
        except Exception as error:
            return _failed(error)
        return None

    def _judge(self, batch: list[tuple[_Request, int, str]]) -> None:
        started = time.monotonic()
        try:
            judgments = self.judge.judge([prompt for *_, prompt in batch], seed=next(self._seeds))
        except Exception as error:
            # What cannot be reached cannot be reached for any of them; but one row may have taken too long
            unreachable = isinstance(error, OSError) and not isinstance(error, TimeoutError)
            if len(batch) > 1 and not unreachable:
                logger.warning("A batch of %d failed (%s); its rows are judged one by one.", len(batch), error)
                for request, row, prompt in batch:
                    if not request.future.done():  # else it has failed for another row, or its client has gone
                        self._judge([(request, row, prompt)])
                return
            if isinstance(error, NoAnswer):  # of a server that has answered nothing yet
                for request, row, _ in batch:
                    request.answer(row, Judgment.unscored(str(error)))
                return
            failed = _failed(error)
            for request, *_ in batch:
                request.fail(failed)
            return
        self.on_batch(len(batch), time.monotonic() - started)
        with self._changed:
            rows = sum(request.num_rows for request in self._open)
        self._expected = rows
        for (request, row, _), judgment in zip(batch, judgments, strict=True):
            request.answer(row, judgment)


def _failed(error: Exception) -> JudgingFailed:
    logger.error("The engine failed", exc_info=error)
    return JudgingFailed(f"The judge failed on this request ({type(error).__name__}); the server's log says why.")
