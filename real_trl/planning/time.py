# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How long a run takes, between two bounds: what it computes, at the speed of this machine or at published ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trl import get_peft_config

from real_trl.data.loading import load_judge_dataset
from real_trl.planning.hardware import is_here
from real_trl.planning.measured import CannotMeasure, MeasuredMachine
from real_trl.planning.peaks import Bounds, PeakMachine, find_peak, known_gpus
from real_trl.planning.recipe import Lengths, Recipe
from real_trl.planning.setup import Setup
from real_trl.planning.work import Part, Texts, judging_parts, training_parts
from real_trl.scale import Scale


@dataclass(frozen=True)
class PartTime:
    """A part of a run: seconds of it in an update, on average, and in the run (`None`: not known)."""

    name: str
    update: Bounds
    run: Bounds | None


@dataclass(frozen=True)
class Time:
    """
    How long a run takes.

    Attributes:
        parts (`list[PartTime]`):
            What it consists of; empty if nothing can be said.
        how (`str`):
            What the seconds come from, or why there are none.
        notes (`list[str]`):
            What is not in them.
    """

    parts: list[PartTime]
    how: str
    notes: list[str] = field(default_factory=list)

    @property
    def update(self) -> Bounds | None:
        """Seconds of an update."""
        return total([part.update for part in self.parts]) if self.parts else None

    @property
    def run(self) -> Bounds | None:
        """Seconds of the run."""
        if not self.parts or any(part.run is None for part in self.parts):
            return None
        return total([part.run for part in self.parts])


def total(bounds: Sequence[Bounds]) -> Bounds:
    """Of parts that follow each other."""
    return Bounds(sum(each.low for each in bounds), sum(each.high for each in bounds))


def duration(seconds: Bounds) -> str:
    """`3 to 8 minutes`, with two digits."""
    unit, size = next(
        (u, s)
        for u, s, most in (("seconds", 1, 120), ("minutes", 60, 7200), ("hours", 3600, 1e30))
        if seconds.high < most
    )
    low, high = (_two_digits(value / size) for value in seconds)
    return f"{low} to {high} {unit}"


def _two_digits(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.10g}"


def machine_for(recipe: Recipe, setup: Setup) -> MeasuredMachine | PeakMachine | None:
    """This machine if the setup is for it, else arithmetic for its GPU; `None` if the GPU is not known."""
    if not is_here(setup.cluster):
        return peak_machine(setup)
    lora = get_peft_config(recipe.model) if setup.size.lora else None
    return MeasuredMachine(recipe.model_config, setup, lora, recipe.model.attn_implementation)


def peak_machine(setup: Setup) -> PeakMachine | None:
    """Arithmetic for the setup's GPU; `None` if it is not known."""
    peak = find_peak(setup.cluster.name)
    return None if peak is None else PeakMachine(setup, peak)


def time_parts(
    machine: MeasuredMachine | PeakMachine | None, low: Sequence[Part], high: Sequence[Part], setup: Setup
) -> Time:
    """
    How long the parts of a run take.

    Args:
        machine:
            As of [`machine_for`].
        low, high (`Sequence[Part]`):
            The same parts with as little and as much work as they may have.
    """
    if isinstance(machine, MeasuredMachine):
        try:
            machine.prepare([part.job for part in high])
        except CannotMeasure as error:
            found = peak_machine(setup)
            why = f"could not be measured on this machine ({error})"
            if found is None:
                return Time([], f"not known: a step {why}")
            return replace(time_parts(found, low, high, setup), notes=[f"A step {why}."])
    if machine is None:
        return Time(
            [],
            f"not known: the speed of {setup.cluster.name!r} is not known here, and it is not in this machine. Plan on the machine itself, or for one of "
            f"{known_gpus()}",
        )
    parts = []
    for least, most in zip(low, high, strict=True):
        first, last = machine.seconds(least.job, like=most.job), machine.seconds(most.job)
        update = Bounds(first.low * least.per_update, last.high * most.per_update)
        run = None if least.times is None else Bounds(first.low * least.times, last.high * most.times)
        parts.append(PartTime(least.name, update, run))
    return Time(parts, machine.how)


def plan_time(recipe: Recipe, setup: Setup, steps: int | None, lengths: Lengths) -> Time:
    """How long a training stage takes: everything but what stands around the steps (loading, tokenizing, checkpoints)."""
    config, notes = recipe.config, []
    if setup.cluster.world > 1:
        notes.append("What GPUs tell each other is counted only in the share of the peak that they reach.")
    if setup.sharding.offload_optimizer or setup.sharding.offload_params:
        notes.append("What is moved to the memory of the host and back is not counted: it takes longer.")
    if setup.generation == "server":
        notes.append("Completions are written on other GPUs, whose time is not counted.")
    if config.eval_strategy != "no":
        notes.append("The evaluation loss (eval_strategy) is not counted.")
    held_out = held_out_rows(recipe)
    if held_out is None:
        notes.append("The evaluation during training is not counted: its rows are not on this machine.")
    if getattr(config, "group_filter", None):
        notes.append(
            f"group_filter: the writing of completions is counted once a step; it is done up to {config.group_filter_rounds} times."
        )
    longest = config.max_completion_length if setup.stage == "rl" else lengths.completion
    cases = []
    for texts in (
        Texts(lengths.prompt, lengths.completion, lengths.prompt - 1 if lengths.alike is None else lengths.alike),
        Texts(lengths.prompt, longest, lengths.alike or 0.0),
    ):
        parts = training_parts(setup, texts, steps, penalty=getattr(config, "beta", 0) != 0)
        every = recipe.stage_args.judge_eval_steps
        if held_out and every:
            # Before the first step, every so many, and after the last
            often = None if steps is None else 1 + -(-steps // every)
            rows = -(-held_out // setup.cluster.world)
            batch = config.per_device_eval_batch_size
            name = " (evaluation during training)"
            parts += judging_parts(rows, batch, texts, direct=lengths.direct, name=name, often=often, every=every)
        cases.append(parts)
    low, high = cases
    time = time_parts(machine_for(recipe, setup), low, high, setup)
    return replace(time, notes=[*time.notes, *notes])


def held_out_rows(recipe: Recipe) -> int | None:
    """Rows that are judged each time during training; `None` if there are some, and not known how many."""
    asked, data = recipe.stage_args, recipe.data
    if asked.judge_eval_steps is None:
        return 0
    splits = asked.judge_eval_splits
    if splits is None:
        splits = [] if asked.judge_eval_benchmarks else [data.dataset_test_split]
    sizes: list[int | None] = [None] * len(asked.judge_eval_benchmarks or ())
    for split in splits:
        here = data.dataset_name == "synthetic" or Path(data.dataset_name).exists()
        sizes.append(_rows(recipe, split) if here else None)
    limit = asked.judge_eval_rows
    if limit is None and None in sizes:
        return None
    return sum(min(size for size in (rows, limit) if size is not None) for rows in sizes)


def _rows(recipe: Recipe, split: str) -> int:
    scale = Scale.parse(recipe.config.score_labels, recipe.config.score_values)
    return len(load_judge_dataset(recipe.data, split, scale=scale, marker=recipe.config.score_marker))


def as_json(time: Time) -> dict[str, Any]:
    """As `real-trl plan --json` has it: seconds of an update and hours of the run, `null` where they are not known."""
    run = time.run
    return {
        "how": time.how,
        "seconds_per_update": time.update,
        "hours": None if run is None else run.times(1 / 3600),
        "parts": [{"name": part.name, "seconds_per_update": part.update, "seconds": part.run} for part in time.parts],
    }
