# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How tools that ask concurrently share a judge: one call at a time, and what waits meanwhile in one batch."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from weakref import WeakKeyDictionary

import anyio.lowlevel
import anyio.to_thread

from real_trl.engines import Judgment
from real_trl.judge import Judge


@dataclass(eq=False)
class _Request:
    prompts: Sequence[str]
    num_samples: int
    seed: int
    judgments: list[Judgment] | None = None


@dataclass
class _Line:
    """Who waits for a judge."""

    turn: threading.Lock = field(default_factory=threading.Lock)  # several event loops may use it
    waiting: deque[_Request] = field(default_factory=deque)


_LINES: WeakKeyDictionary[Judge, _Line] = WeakKeyDictionary()


async def judge_together(
    judge: Judge, prompts: Sequence[str], *, num_samples: int = 1, seed: int = 0
) -> list[Judgment]:
    """
    As [`Judge.judge`], in a thread, so that the event loop goes on.

    What is asked of the same judge at the same time, by whichever tool, is judged in one batch. A judge that samples judges one
    request after the other, so that a score depends on the request and `seed`, not on what happens to wait beside it.

    Args:
        prompts (`Sequence[str]`):
            Complete prompts that are known to fit the judge, at least one.
        num_samples, seed (*optional*):
            See [`Judge.judge`].
    """
    line, request = _line_up(judge, prompts, num_samples, seed)
    if line.waiting:
        await anyio.lowlevel.checkpoint()  # others that are ready get in line before the first is served
    return await anyio.to_thread.run_sync(_serve, judge, line, request)


def judge_in_threads(judge: Judge, prompts: Sequence[str], *, num_samples: int = 1, seed: int = 0) -> list[Judgment]:
    """As [`judge_together`], for tools that ask from several threads: what threads ask while another is judged is one batch."""
    line, request = _line_up(judge, prompts, num_samples, seed)
    return _serve(judge, line, request)


def _line_up(judge: Judge, prompts: Sequence[str], num_samples: int, seed: int) -> tuple[_Line, _Request]:
    line, request = _LINES.setdefault(judge, _Line()), _Request(prompts, num_samples, seed)
    if not judge.engine.decoding.do_sample:
        line.waiting.append(request)
    return line, request


def _serve(judge: Judge, line: _Line, request: _Request) -> list[Judgment]:
    with line.turn:
        if request.judgments is not None:  # another call took it along
            return request.judgments
        batch = [request]
        while line.waiting:
            other = line.waiting.popleft()
            batch += [other] if other is not request else []
        prompts = [prompt for each in batch for prompt in each.prompts]
        judged = iter(judge.judge(prompts, num_samples=request.num_samples, seed=request.seed))
        for each in batch:
            each.judgments = list(islice(judged, len(each.prompts)))
        assert request.judgments is not None
        return request.judgments
