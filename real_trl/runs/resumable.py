# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The loop of everything that a judge generates (`evaluate`, `score`, `self_generate`): what is stored is skipped, the rest is asked for
in batches that are stored as they come, by one process or several, and at the end one of them makes the result.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from accelerate import PartialState
from tqdm import tqdm

from real_trl.engines import Engine, Judgment
from real_trl.engines.refusals import HOPELESS
from real_trl.engines.server_answer import NoAnswer, StaysBusy, TooSlow
from real_trl.runs.batches import batch_seed
from real_trl.runs.folder import GeneratedFolder, StoredBatch
from real_trl.versions import package_versions

Unit = TypeVar("Unit")  # what has one answer: a row of a file, or a sample of a prompt
Row = dict[str, Any]


@dataclass(frozen=True)
class Resumable(Generic[Unit]):
    """
    What a judge is asked, and what becomes of its answers.

    Args:
        output ([`~real_trl.runs.folder.GeneratedFolder`]):
            Where batches are stored and the result is written. It has been checked and is not complete, and this run has its lock.
        prompts (`Sequence[str]`):
            All prompts; the engine looks at their lengths before it is asked anything.
        batches (`Sequence[Sequence[Unit]]`):
            The units of every batch. A batch is sampled with a seed of its own, and shared out to processes as a whole.
        ask (`Callable[[Engine, Sequence[Unit], int], Iterable[tuple[int, Judgment]]]`):
            Given the engine, units and a seed, yields the judgment of each with its index among them, in any order.
        as_row (`Callable[[Unit, Judgment], dict]`):
            What is stored of a judgment, as JSON.
        merge (`Callable[[Iterator[dict]], tuple[Mapping[str, str | bytes], Mapping]]`):
            Given what is stored of all units, batch by batch, makes the files of the result and its counts
            ([`GeneratedFolder.finish`]).
        seed (`int`):
            Seed of the sampling, of which each batch has its own ([`batch_seed`]).
        desc, unit (`str`):
            What the progress bar says, and what it counts.
    """

    output: GeneratedFolder
    prompts: Sequence[str]
    batches: Sequence[Sequence[Unit]]
    ask: Callable[[Engine, Sequence[Unit], int], Iterable[tuple[int, Judgment]]]
    as_row: Callable[[Unit, Judgment], Row]
    merge: Callable[[Iterator[Row]], tuple[Mapping[str, str | bytes], Mapping[str, Any]]]
    seed: int
    desc: str
    unit: str = "completion"

    def run(self, load: Callable[[], Engine], state: PartialState) -> list[tuple[Unit, Row]]:
        """
        Go on with it until it is done.

        Args:
            load (`Callable[[], Engine]`):
                Gives the engine. Called only if something is missing.
            state ([`~accelerate.PartialState`]):
                This process among the others, all of which have to come here.

        Returns:
            On the main process, the units that got no answer, sorted, with what is stored of them: the result is written, but not
            complete, and the next run asks for these again. On the others, nothing.

        Raises:
            `ValueError`: if a prompt is too long for the model, or what is stored cannot be read.
        """
        stored = self.output.stored()
        # Number of a batch → places of its units that are still to be asked for
        wanted = {
            number: stored[number].unscored if number in stored else list(range(len(units)))
            for number, units in enumerate(self.batches)
        }
        wanted = {number: places for number, places in wanted.items() if places}
        if wanted:
            if stored and state.is_main_process:
                again = sum(len(batch.unscored) for batch in stored.values())
                print(
                    f"Going on in {self.output.folder}: {sum(batch.size for batch in stored.values())} {self.unit}s are there"
                    + (f"; {again} without an answer are asked for again" if again else "")
                )
            engine = load()
            engine.check(self.prompts)
        state.wait_for_everyone()  # nobody adds batches before all have counted them
        if state.is_main_process:
            self.output.start({"processes": state.num_processes, "versions": package_versions()})
        state.wait_for_everyone()
        if wanted:
            self._judge(engine, stored, wanted, state)
        state.wait_for_everyone()
        return self._finish() if state.is_main_process else []

    def _judge(
        self,
        engine: Engine,
        stored: Mapping[int, StoredBatch],
        wanted: Mapping[int, Sequence[int]],
        state: PartialState,
    ) -> None:
        """Ask for this process's share of the batches, and store each when it is there."""
        if hasattr(engine, "answered") and any(len(batch.unscored) < batch.size for batch in stored.values()):
            engine.answered = True  # it did before, so that a refusal is of the row
        share = list(wanted)[state.process_index :: state.num_processes]
        total = sum(len(wanted[number]) for number in share)
        with tqdm(total=total, desc=self.desc, unit=self.unit, disable=not state.is_main_process) as progress:
            for number in share:
                before, places = stored.get(number), wanted[number]
                rows: list[Any] = before.rows() if before else [None] * len(self.batches[number])
                units = [self.batches[number][place] for place in places]
                unscored = []
                try:
                    for index, judgment in self.ask(engine, units, batch_seed(self.seed, number)):
                        rows[places[index]] = self.as_row(units[index], judgment)
                        unscored += [places[index]] * (judgment.error is not None)
                        progress.update()
                except (NoAnswer, StaysBusy, TooSlow):
                    if before is None or len(units) >= HOPELESS:
                        raise
                    continue  # they are without an answer as before
                attempt = before.attempt + 1 if before else 0
                self.output.append(state.process_index, number, rows, unscored=sorted(unscored), attempt=attempt)

    def _finish(self) -> list[tuple[Unit, Row]]:
        stored = self.output.stored()
        files, counts = self.merge(row for number in range(len(self.batches)) for row in stored[number].rows())
        unscored = []
        for number, units in enumerate(self.batches):
            rows = stored[number].rows() if stored[number].unscored else []
            unscored += [(units[place], rows[place]) for place in stored[number].unscored]
        self.output.finish(files, counts, unscored=len(unscored))
        return sorted(unscored, key=lambda each: each[0])
