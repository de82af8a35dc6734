# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Sampling in batches whose outcome depends on the seed and the batch, not on the process or on how often a run was stopped."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from accelerate import PartialState
from tqdm import tqdm

from real_trl.engines import Engine
from real_trl.engines.refusals import HOPELESS
from real_trl.engines.server_answer import NoAnswer, StaysBusy, TooSlow
from real_trl.runs.folder import GeneratedFolder

Unit = TypeVar("Unit")


def plan_batches(prompts: Sequence[str], num_samples: int, batch_size: int) -> list[list[tuple[int, int]]]:
    """`(row, sample)` of every completion, in batches of prompts of similar length, the longest first."""
    units = [(row, sample) for row in range(len(prompts)) for sample in range(num_samples)]
    units.sort(key=lambda unit: (-len(prompts[unit[0]]), unit))
    return [units[start : start + batch_size] for start in range(0, len(units), batch_size)]


def batch_seed(seed: int, batch: int) -> int:
    """Seed of the sampling of one batch."""
    return int(np.random.SeedSequence([seed, batch]).generate_state(1)[0])


class MissingUnits:
    """
    What a folder still lacks: the batches that are not stored, and, of those that are, the units (rows, or completions) that the
    engine gave no answer to.

    Args:
        output ([`~real_trl.runs.folder.GeneratedFolder`]):
            The folder.
        batches (`Sequence[Sequence[Unit]]`):
            The units of every batch.
    """

    def __init__(self, output: GeneratedFolder, batches: Sequence[Sequence[Unit]]) -> None:
        self.output, self.batches, self.stored = output, batches, output.stored()
        # Whatever is known of an engine, it has answered before: a refusal is of the row
        self._has_answers = any(len(batch.unscored) < batch.size for batch in self.stored.values())
        wanted = [
            self.stored[number].unscored if number in self.stored else range(len(units))
            for number, units in enumerate(batches)
        ]
        self.wanted = {number: list(units) for number, units in enumerate(wanted) if units}

    def __bool__(self) -> bool:
        return bool(self.wanted)

    @property
    def again(self) -> str:
        """What a message adds about units that are asked for again; empty if there are none."""
        count = sum(len(batch.unscored) for number, batch in self.stored.items() if number < len(self.batches))
        return f"; {count} without an answer are asked for again" if count else ""

    def judge(
        self,
        engine: Engine,
        ask: Callable[[Sequence[Unit], int], Iterator[tuple[int, Mapping[str, Any], bool]]],
        seed: int,
        state: PartialState,
        desc: str,
        unit: str = "it",
    ) -> None:
        """
        Ask for this process's share of it, and store each batch when it is there.

        Args:
            engine ([`~real_trl.engines.Engine`]):
                What is asked.
            ask (`Callable`):
                Given units and a seed, yields for each, in any order, its index among them, its row, and whether it is without an
                answer.
            seed (`int`):
                Seed of the sampling, see [`batch_seed`].
            state ([`~accelerate.PartialState`]):
                This process among the others.
            desc, unit (`str`):
                What the progress bar says.
        """
        if self._has_answers and hasattr(engine, "answered"):
            engine.answered = True
        share = list(self.wanted)[state.process_index :: state.num_processes]
        total = sum(len(self.wanted[number]) for number in share)
        with tqdm(total=total, desc=desc, unit=unit, disable=not state.is_main_process) as progress:
            for number in share:
                before, wanted = self.stored.get(number), self.wanted[number]
                rows: list[Any] = before.rows() if before else [None] * len(self.batches[number])
                unscored = []
                units = [self.batches[number][place] for place in wanted]
                try:
                    for index, row, is_unscored in ask(units, batch_seed(seed, number)):
                        rows[wanted[index]] = row
                        unscored += [wanted[index]] * is_unscored
                        progress.update()
                except (NoAnswer, StaysBusy, TooSlow):
                    if before is None or len(units) >= HOPELESS:
                        raise
                    continue  # they are without an answer as before
                attempt = before.attempt + 1 if before else 0
                self.output.append(state.process_index, number, rows, unscored=sorted(unscored), attempt=attempt)
