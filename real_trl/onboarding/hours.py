# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How long the stages of a new judge take, as `real-trl plan` counts it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from real_trl.data.arguments import DataArguments
from real_trl.data.loading import load_judge_dataset
from real_trl.onboarding.recipes import Plan, data_options
from real_trl.onboarding.sizing import Sizes
from real_trl.planning.lengths import alike_tokens, recipe_tokenizer, text_counter, token_lengths
from real_trl.planning.recipe import Recipe, make_schedule, make_setup, read_recipe, training_rows
from real_trl.planning.setup import Setup, Sharding
from real_trl.planning.time import Time, duration, machine_for, plan_time, time_parts
from real_trl.planning.work import Part, Texts, judging_parts


def stage_times(plan: Plan, sizes: Sizes, recipes: Mapping[str, Path], target: Path, folder: Path) -> list[str]:
    """
    What there is to say about the time that the recipes take.

    Args:
        plan, sizes:
            What the recipes say.
        recipes (`Mapping[str, Path]`):
            Stage → recipe, of the training stages in their order.
        target, folder (`Path`):
            Where everything is, and where the recipes say that it is.
    """
    said, times = [], []
    for stage, path in recipes.items():
        try:
            recipe = read_recipe(path, _overrides(plan, target, folder), stage)
        except ValueError:  # the model is not known here, which has been said
            return []
        dataset, rows, source = training_rows(recipe)
        lengths = token_lengths(recipe, dataset)
        setup = make_setup(recipe, plan.hardware.cluster, Sharding(), lengths)
        schedule = make_schedule(setup, recipe.config, rows, source, lengths)
        time = plan_time(recipe, setup, schedule.steps, lengths)
        times.append(time)
        if time.run is not None:
            said.append(
                f"{path.stem} {duration(time.run)} ({schedule.steps} updates of {duration(time.update)}, from prompts of {lengths.prompt:.0f} tokens and "
                f"completions of {lengths.completion:.0f}"
                + (f" to {setup.completion})" if setup.stage == "rl" else ")")
            )
    evaluation = _evaluation(plan, sizes, recipe, setup, lengths.completion, target)
    if evaluation.run is not None:
        said.append(f"evaluate {duration(evaluation.run)}")
    notes = [f"Time: {'; '.join(said)}. {_sentence(times[0].how)}" if said else f"Time: {times[0].how}."]
    return notes + [note for note in dict.fromkeys(note for time in times for note in time.notes)]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _overrides(plan: Plan, target: Path, folder: Path) -> list[str]:
    """Options by which a recipe is read where it is now."""
    options = data_options(plan, target)
    overrides = ["--dataset_name", options["dataset_name"]]
    if options.get("prompt_template") != data_options(plan, folder).get("prompt_template"):
        overrides += ["--prompt_template", options["prompt_template"]]
    return overrides


def _evaluation(plan: Plan, sizes: Sizes, recipe: Recipe, setup: Setup, completion: float, target: Path) -> Time:
    """Of the test split, by the judge that the last training stage makes."""
    scale = plan.scores.scale
    prompts = load_judge_dataset(DataArguments(**data_options(plan, target)), "test", scale=scale)["prompt"]
    count = text_counter(recipe_tokenizer(recipe))
    batch, world = sizes.evaluate["batch_size"], setup.cluster.world
    alike = alike_tokens(prompts, count, batch, in_order=True) if plan.direct else 0.0
    prompt = sum(map(count, prompts)) / len(prompts)
    half = sizes.evaluate.get("dtype") == "bfloat16"
    setup = replace(
        setup,
        stage="sft",
        generation="none",
        checkpointing=False,
        half=half,
        weight_bytes=2 if half else 4,
    )

    def parts(length: float) -> list[Part]:
        texts = Texts(prompt, length, alike)
        return judging_parts(-(-len(prompts) // world), batch, texts, direct=plan.direct)

    longest = completion if plan.direct else sizes.evaluate["max_new_tokens"]
    return time_parts(machine_for(recipe, setup), parts(completion), parts(longest), setup)
