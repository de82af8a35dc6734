# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a server refuses one prompt, which is then unscored, or all of them, which ends the run."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TypeAlias, TypeVar

from real_trl.engines.base import Judgment, PromptError
from real_trl.engines.distribution_checks import NoDistribution
from real_trl.engines.server_answer import About, NoAnswer, StaysBusy, TooSlow

Refusal: TypeAlias = NoAnswer | NoDistribution | StaysBusy | TooSlow
REFUSALS = (NoAnswer, NoDistribution, StaysBusy, TooSlow)
HOPELESS = 32  # so many refusals without an answer between them are not about the prompts

T = TypeVar("T")


class NoAnswerTo(PromptError, NoAnswer):
    """[`NoAnswer`] to a certain prompt."""

    def __init__(self, index: int, said: str, about: About = "server") -> None:
        PromptError.__init__(self, index, said)
        self.about = about


def outcome_of(future: "Future[Judgment]") -> Judgment | Refusal:
    """What was answered, or the refusal; other errors are raised."""
    try:
        return future.result()
    except REFUSALS as error:
        return error


def believed(
    outcomes: Iterable[tuple[int, T | Refusal]], total: int, answered: bool
) -> Iterator[tuple[int, T | Refusal]]:
    """
    Passes on answers and refusals. A refusal that might apply to all prompts is held until some prompt is answered: "busy" until the
    next answer; an unknown reason is passed on at once if the server has ever answered.

    Args:
        outcomes (`Iterable[tuple[int, T | Refusal]]`):
            Index of each prompt, and its answer or the refusal.
        answered (`bool`):
            Whether the server has answered before.

    Raises:
        The first refusal (as a [`NoAnswerTo`], unless the server was too busy or
        too slow), if 32 have been held back, or all prompts at the end.
    """
    held: list[tuple[int, Refusal]] = []
    for index, outcome in outcomes:
        if isinstance(outcome, REFUSALS):
            if outcome.about == "prompt" or (outcome.about == "server" and answered):
                yield index, outcome
                continue
            held.append((index, outcome))
            if len(held) < HOPELESS:
                continue
            break
        answered = True
        yield from held
        held = []
        yield index, outcome
    if held and len(held) in (HOPELESS, total):
        index, refusal = min(held, key=lambda each: each[0])
        if isinstance(refusal, (StaysBusy, TooSlow)):
            raise refusal
        raise NoAnswerTo(index, f": {refusal}", refusal.about) from refusal
    yield from held
