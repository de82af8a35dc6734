# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What a training recipe will need, before anyone rents it: memory per GPU, prompts and tokens per step, steps, hours.

    real-trl plan --config recipes/qwen3-8b/real.yaml --gpus 8xA100-80GB
    real-trl plan --config recipes/qwen3-32b/real.yaml --gpus 2x8xA100-80GB --num_generations 8
    real-trl plan --config my-judge/raft.yaml

Options that are none of the plan's own go to the recipe, as in training. Nothing is downloaded: the model is built on the meta device.
Says what does not fit, and which changes make it fit; each of them has been planned as well. Hours are measured where the plan is for
this machine, by steps of a model with random weights and few layers, and else computed from the GPU's published peaks.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from real_trl.arguments.parser import RecipeParser
from real_trl.option_values import FieldError, check_number
from real_trl.planning.advice import Advice, advise, longest_fitting_prompt
from real_trl.planning.hardware import find_hardware
from real_trl.planning.lengths import token_lengths
from real_trl.planning.memory import Memory, kv_bytes, plan_memory
from real_trl.planning.models import GATED_DECODERS
from real_trl.planning.recipe import (
    CONFIGS,
    Lengths,
    Recipe,
    Schedule,
    make_schedule,
    make_setup,
    read_recipe,
    recipe_sharding,
    training_rows,
)
from real_trl.planning.setup import GIB, Setup, Sharding, count, read_sharding
from real_trl.planning.states import GENERATION, UPDATE
from real_trl.planning.time import Time, duration, plan_time
from real_trl.planning.time import as_json as time_json
from real_trl.runs.command import command, user_errors
from real_trl.text.json_text import to_json
from real_trl.text.terminal import CleanConsole


def make_parser() -> argparse.ArgumentParser:
    """The plan's own options."""
    parser = argparse.ArgumentParser(
        prog="real-trl plan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = RecipeParser.error.__get__(parser)
    parser.add_argument("--config", type=Path, required=True, help="recipe of a training stage")
    parser.add_argument(
        "--gpus",
        help="[nodes x] GPUs x name-memory: 8xA100-80GB, 2x8xA100-80GB for two nodes. Default: this machine",
    )
    sharding = parser.add_mutually_exclusive_group()
    sharding.add_argument(
        "--accelerate_config", metavar="FILE", help="configuration for accelerate launch. Default: the recipe's own"
    )
    sharding.add_argument("--zero", type=int, choices=range(4), help="ZeRO stage, 0 for none, without offloading")
    parser.add_argument("--stage", choices=tuple(CONFIGS), help="for a recipe whose first comment does not say it")
    parser.add_argument("--rows", type=int, help="rows of the training split, if the data is not on this machine")
    parser.add_argument("--prompt_tokens", type=float, help="mean length of a prompt")
    parser.add_argument("--completion_tokens", type=float, help="mean length of a completion")
    parser.add_argument("--max_prompt_tokens", type=int, help="longest prompt, for memory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def find_lengths(args: argparse.Namespace, measured: Lengths) -> Lengths:
    """Token lengths with what the command line says about them."""
    stated = {
        "prompt": args.prompt_tokens,
        "completion": args.completion_tokens,
        "longest_prompt": args.max_prompt_tokens,
    }
    stated = {name: value for name, value in stated.items() if value is not None}
    for name, value in stated.items():
        if value <= 0:
            raise FieldError(name, value, "Give a number above 0.", f": got {value} tokens")
        check_number(name, value)
    if not stated:
        return measured
    lengths = replace(measured, **stated, source="command line")
    if "longest_prompt" not in stated and lengths.prompt > lengths.longest_prompt:
        lengths = replace(lengths, longest_prompt=round(2 * lengths.prompt))
    return lengths


def notes(recipe: Recipe, setup: Setup, memory: Memory, schedule: Schedule, sharding_source: str) -> list[str]:
    """What else is worth knowing."""
    lines = [
        f"Model: {recipe.model_source}.",
        f"Sharding: {setup.sharding} ({sharding_source}). Model states: {memory.source}.",
        f"Lengths: {schedule.lengths.source}; rows: {schedule.rows_source}.",
    ]
    if setup.stage == "sft" and setup.size.context and setup.prompt > setup.size.context:
        lines.append(
            f"max_length: {setup.prompt:,} tokens are planned for, but the model reads {setup.size.context:,}: training refuses longer rows "
            f"unless max_length is at most that."
        )
    if setup.stage == "rl":
        longest = f"Memory is for prompts of up to {setup.prompt:,} tokens (--max_prompt_tokens)"
        lines.append(longest + ("." if memory.problems else f"; it fits for up to {longest_fitting_prompt(setup):,}."))
    if recipe.model_config.model_type not in GATED_DECODERS:
        lines.append(
            f"Activations and operations are counted for {', '.join(GATED_DECODERS)}; for {recipe.model_config.model_type} they are rough."
        )
    if memory.kv_tokens:
        length = setup.prompt + setup.completion
        typical = schedule.lengths.completion + schedule.lengths.prompt / setup.group
        wanted = setup.batch * setup.micro_batches * setup.vllm_parallel
        lines.append(
            f"vLLM's cache holds {memory.kv_tokens // length:,} completions of full length at once, or about "
            f"{min(int(memory.kv_tokens / typical), wanted):,} of the usual length with the prompt shared in a group; each engine "
            f"has {wanted:,} to write."
        )
    if "adamw" not in str(recipe.config.optim).lower() or "8bit" in str(recipe.config.optim):
        lines.append(f"optim: {recipe.config.optim} is counted as AdamW.")
    if getattr(recipe.config, "group_filter", None):
        lines.append(
            f"group_filter {recipe.config.group_filter!r}: prompts whose groups fail are replaced, so a step samples more than "
            f"{schedule.prompts_per_step:,} prompts and an epoch ends sooner."
        )
    return lines


def describe_steps(setup: Setup, schedule: Schedule) -> list[tuple[str, str]]:
    """The schedule as rows of a table."""
    lengths, known = schedule.lengths, schedule.steps is not None
    rows = [
        ("tokens of a prompt, of a completion (mean)", f"{lengths.prompt:,.0f}, {lengths.completion:,.0f}"),
        ("prompts per step" if setup.stage == "rl" else "rows per step", f"{schedule.prompts_per_step:,}"),
    ]
    if setup.stage == "rl":
        rows += [
            ("completions per step", f"{schedule.sequences_per_step:,}"),
            (
                "prompts per generation, updates on them",
                f"{schedule.prompts_per_generation:,}, {schedule.updates_per_generation:,}",
            ),
        ]
    rows += [
        ("tokens per step", count(schedule.tokens_per_step)),
        ("rows", f"{schedule.rows:,}" if schedule.rows is not None else "unknown: give --rows"),
        ("steps per epoch", f"{schedule.steps_per_epoch:,}" if schedule.steps_per_epoch is not None else "unknown"),
        ("steps", f"{schedule.steps:,}" if known else "unknown"),
        (
            "tokens trained on",
            count(schedule.tokens_per_step * schedule.steps) if known else "unknown",
        ),
    ]
    return rows


def time_table(time: Time) -> Table | str:
    """Seconds of an update and the time of the run, part by part; a sentence where nothing is known."""
    if not time.parts:
        return f"Time: {time.how}."
    table = Table("", "an update", "the run", title="Time", title_justify="left")
    for part in time.parts:
        table.add_row(part.name, duration(part.update), duration(part.run) if part.run else "unknown")
    table.add_section()
    table.add_row("together", duration(time.update), duration(time.run) if time.run else "unknown")
    table.caption, table.caption_justify = f"{time.how[0].upper()}{time.how[1:]}.", "left"
    return table


class Plan(NamedTuple):
    """What a recipe needs on given hardware."""

    recipe: Recipe
    setup: Setup
    memory: Memory
    schedule: Schedule
    time: Time
    advice: list[Advice]  # changes with which it fits; none if it fits
    notes: list[str]


def print_plan(plan: Plan) -> None:
    """The tables."""
    recipe, setup, memory, schedule, time, advice, lines = plan
    console, size, title = CleanConsole(), setup.size, str(recipe.path)
    rest = f" on {setup.cluster}: {count(size.total)} parameters, {count(size.trainable)} trained"
    console.print(Text.assemble((title, "bold"), rest, " (LoRA)" if size.lora else ""))
    moments = (GENERATION, UPDATE) if setup.stage == "rl" else (UPDATE,)
    processor = setup.cluster.is_processor
    table = Table(title=f"Memory{'' if processor else ' per GPU'}, GiB", title_justify="left")
    table.add_column("")
    for moment in moments:
        table.add_column(moment, justify="right")
    table.add_column("how")
    for item in memory.items:
        cells = [f"{item.bytes / GIB:.2f}" if moment in item.moments else "" for moment in moments]
        table.add_row(item.name, *cells, item.how)
    table.add_section()
    free = ", the memory that is free now," if processor else ""
    usable = f"{memory.capacity / GIB:.1f} of {setup.cluster.memory / GIB:.4g}{free} are usable"
    table.add_row("together", *(f"{memory.peak(moment) / GIB:.2f}" for moment in moments), usable)
    console.print(table)
    steps = Table(title="Steps", title_justify="left", show_header=False)
    for row in describe_steps(setup, schedule):
        steps.add_row(*row)
    console.print(steps)
    console.print(time_table(time))
    console.print(f"Host memory for model states: {memory.host / GIB:.0f} GiB per node.")
    console.print(f"A training checkpoint takes {memory.checkpoint / 1e9:.1f} GB on disk.")
    for line in lines:
        console.print(line)
    if not memory.problems:
        console.print("It fits.", style="bold green")
        return
    console.print("It does not fit:", style="bold red")
    for problem in memory.problems:
        console.print(f"  {problem}.")
    if not advice:
        larger = (
            "free memory (what other programs hold is not counted as usable)"
            if processor
            else "use more or larger GPUs"
        )
        console.print(f"No four changes known here make it fit: {larger}, or a smaller model.")
        return
    console.print("It fits with" + (" any one of:" if len(advice) > 1 else ":"))
    for each in advice:
        peaks = ", ".join(f"{moment} {each.memory.peak(moment) / GIB:.1f} GiB" for moment in moments)
        text = "\n    and ".join(change.text for change in each.changes)
        console.print(
            f"  - {text}\n      ({peaks}; host {each.memory.host / GIB:.0f} GiB)",
        )


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as one JSON object; memory in bytes."""
    recipe, setup, memory, schedule, time, advice, lines = plan
    return {
        "recipe": str(recipe.path),
        "setup": asdict(setup),
        "model_source": recipe.model_source,
        "memory": {
            **asdict(memory),
            "peaks": {moment: memory.peak(moment) for moment in (GENERATION, UPDATE)},
            "kv_bytes_per_token": kv_bytes(setup.size, setup.vllm_parallel),
        },
        "fits": not memory.problems,
        "schedule": {**asdict(schedule), "tokens_per_step": schedule.tokens_per_step},
        "time": time_json(time),
        "advice": [
            {
                "changes": [change.text for change in each.changes],
                "peaks": {moment: each.memory.peak(moment) for moment in (GENERATION, UPDATE)},
                "host": each.memory.host,
            }
            for each in advice
        ],
        "notes": lines,
    }


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Print the plan; `argv` defaults to the command line."""
    with user_errors():
        args, overrides = make_parser().parse_known_args(argv)
        cluster = find_hardware(args.gpus).cluster
        if args.rows is not None:
            if args.rows < 1:
                raise FieldError("--rows", args.rows, "Give the number of rows, at least 1.")
            check_number("--rows", args.rows, int)
        recipe = read_recipe(args.config, overrides, args.stage)
        if getattr(recipe.config, "max_completion_length", 0) is None:
            said = ": got null, which has no memory to plan for"
            raise FieldError("max_completion_length", None, "Set it to a number of tokens.", said)
        if args.accelerate_config:
            sharding, _, _ = read_sharding(args.accelerate_config)
            source = args.accelerate_config
        elif args.zero is not None:
            sharding, source = Sharding(args.zero), f"--zero {args.zero}"
        else:
            sharding, source = recipe_sharding(recipe.path, cluster)
        dataset, rows, rows_source = training_rows(recipe)
        if args.rows is not None:
            rows, rows_source = args.rows, "--rows"
        lengths = find_lengths(args, token_lengths(recipe, dataset))
        setup = make_setup(recipe, cluster, sharding, lengths)
    memory = plan_memory(setup)
    schedule = make_schedule(setup, recipe.config, rows, rows_source, lengths)
    advice = advise(setup, recipe.with_lora) if memory.problems else []
    time = plan_time(recipe, setup, schedule.steps, lengths)
    lines = [*notes(recipe, setup, memory, schedule, source), *time.notes]
    plan = Plan(recipe, setup, memory, schedule, time, advice, lines)
    if args.json:
        sys.stdout.write(to_json(as_json(plan), indent=2))
        print()
    else:
        print_plan(plan)


if __name__ == "__main__":
    main()
