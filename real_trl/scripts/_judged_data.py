# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The data that judges are evaluated and calibrated on: with prompts as the judge expects them, and an id and a group for each row."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from datasets import Dataset

from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments
from real_trl.data.benchmarks import default_template, load_benchmark
from real_trl.data.choice_benchmarks import CHOICE_BENCHMARKS, load_choice_benchmark
from real_trl.data.choices import Choices, choices_of_pairs
from real_trl.data.loading import load_judge_dataset
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError
from real_trl.prompts.template import TEMPLATE_NAMES


def load_datasets(
    args: EvaluateArguments, data_args: EvaluateDataArguments, judge: JudgeSource
) -> dict[str, Dataset | Choices]:
    """Every dataset by name, its prompts as `judge` expects them: rows with scores, or responses that are compared."""
    options: dict[str, Any] = {
        "scale": judge.space.scale,
        "marker": judge.space.marker,
        "max_rows": data_args.max_rows,
    }
    template = own_template(judge) or default_template(judge.space.marker, judge.config.rationale)
    options |= {"score_reminder": data_args.prompt_score_reminder, "template": template}
    datasets = {}
    if data_args.dataset_name is not None:
        for split in args.eval_splits or [data_args.dataset_test_split]:
            datasets[split] = load_split(data_args, split, judge)
    for name in args.benchmarks or ():
        load = load_choice_benchmark if name in CHOICE_BENCHMARKS else load_benchmark
        datasets[name] = load(name, args.benchmark_paths.get(name), **options)
    if not datasets:
        raise FieldError("dataset_name", None, "Set one of them.", ": not set, and no benchmarks either")
    return {name: with_identity(dataset) for name, dataset in datasets.items()}


def of_kind(datasets: Mapping[str, Dataset | Choices], kind: type) -> list[str]:
    """The datasets of one kind."""
    return [name for name, dataset in datasets.items() if isinstance(dataset, kind)]


def own_template(judge: JudgeSource) -> str | None:
    """The template that a judge was trained with, where it is at hand."""
    own = judge.config.prompt_template
    return own if own is not None and (own in TEMPLATE_NAMES or Path(own).is_file()) else None


def load_split(data_args: EvaluateDataArguments, split: str, judge: JudgeSource) -> Dataset | Choices:
    """One split; where it has no complete prompts and the recipe names no template, by the judge's own, and by its criteria."""
    options: dict[str, Any] = {"scale": judge.space.scale, "marker": judge.space.marker, "keep_ratings": True}
    # What a hold-out keeps together is what intervals have to resample together
    data_args = replace(data_args, group_column=data_args.group_column or data_args.holdout_group)
    if not data_args.prompt_template and (data_args.columns or data_args.criteria or data_args.pair_columns):
        own = own_template(judge)
        if own is None:
            fix = "Set it to the template that columns are for: the judge does not bring one that is at hand."
            raise FieldError("prompt_template", None, fix)
        data_args = replace(data_args, prompt_template=own)
    if data_args.pair_columns:
        return choices_of_pairs(load_judge_dataset(data_args, split, **options, pairs=True))
    try:
        return load_judge_dataset(data_args, split, **options)
    except FieldError as error:
        own = own_template(judge)
        if own is None or (error.field, error.value) != ("prompt_column", None):
            raise
        stated = data_args.score_column or data_args.histogram_column or "rubric" in data_args.columns
        criteria = {} if stated else judge.config.criteria
        return load_judge_dataset(replace(data_args, prompt_template=own, criteria=criteria), split, **options)


def rater_names(
    data_args: EvaluateDataArguments, datasets: Iterable[str], benchmarks: Sequence[str]
) -> dict[str, list[str]]:
    """Dataset → the columns of its raters, where there is one for each."""
    columns = data_args.score_column
    columns = [name.strip() for name in columns.split(",")] if isinstance(columns, str) else list(columns or ())
    return {name: columns for name in datasets if name not in benchmarks and len(columns) > 1}


def with_identity(dataset: Dataset | Choices) -> Dataset | Choices:
    """The dataset with the columns `id` (by default the row's number) and `group` (by default the id), which choices have anyway."""
    if isinstance(dataset, Choices):
        return dataset
    if "id" not in dataset.column_names:
        dataset = dataset.add_column("id", [str(row) for row in range(len(dataset))])
    if "group" not in dataset.column_names:
        dataset = dataset.add_column("group", dataset["id"][:])
    return dataset
