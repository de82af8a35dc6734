# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The data that judges are evaluated and calibrated on: with prompts as the judge expects them, and an id and a group for each row."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from datasets import Dataset

from real_trl.arguments.evaluation import EvaluateArguments, EvaluateDataArguments
from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.data.benchmarks import default_template, load_benchmark
from real_trl.data.choice_benchmarks import CHOICE_BENCHMARKS, load_choice_benchmark
from real_trl.data.choices import Choices, choices_of_pairs
from real_trl.data.loading import load_judge_dataset, names_of_raters
from real_trl.data.questions import question_columns
from real_trl.data.sources import SYNTHETIC, HoldOut, read_source
from real_trl.judge_source import JudgeSource
from real_trl.option_values import FieldError
from real_trl.prompts.template import TEMPLATE_NAMES, load_template

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedSplit:
    """
    One split as it is judged.

    Attributes:
        data ([`~datasets.Dataset`] or [`Choices`]): Its rows.
        grouped_by (`str`, *optional*): The columns that say which rows are about one question; `None` where rows are taken as independent.
        note (`str`, *optional*): What to say where nobody named these columns.
    """

    data: Dataset | Choices
    grouped_by: str | None
    note: str | None


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
            loaded = load_split(data_args, split, judge)
            datasets[split] = loaded.data
            if loaded.note:
                logger.warning("%s: %s", split, loaded.note)
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


def load_split(data_args: EvaluateDataArguments, split: str, judge: JudgeSource) -> JudgedSplit:
    """
    One split, with what rows about one question have in common: the columns that are named, else those that tell it
    ([`~real_trl.data.questions.question_columns`]).
    """
    # What a hold-out keeps together is what intervals have to resample together
    stated = data_args.group_column or data_args.holdout_group
    found = stated or _question_columns(data_args, split, judge)
    data = _load(replace(data_args, group_column=found or None), split, judge)
    names = ", ".join([found] if isinstance(found, str) else found)
    if stated or isinstance(data, Choices) or data_args.dataset_name == SYNTHETIC:
        return JudgedSplit(data, names or None, None)
    if "group" in (data_args.keep_columns or ()):
        return JudgedSplit(data, "group", None)
    if found:
        questions = len(set(data["group"]))
        note = f"{len(data)} rows of {questions} questions: those with the same {names} are taken as being about one. "
        return JudgedSplit(
            data, names, note + "If they are not, name the column that says which are: --group_column COLUMN."
        )
    note = (
        f"{len(data)} rows, no question column: rows are taken as independent of each other. Where several are about one "
        "question, name the column that says which: --group_column COLUMN."
    )
    if "group" in data.column_names:  # of rows with several criteria
        note = note.replace("rows are taken", "rows, each with all of its criteria, are taken", 1)
    return JudgedSplit(data, None, note)


def _question_columns(data_args: EvaluateDataArguments, split: str, judge: JudgeSource) -> list[str]:
    """The columns that tell which rows are about one question; of pairs, which have groups of their own, and generated rows none."""
    if data_args.dataset_name in (None, SYNTHETIC) or data_args.pair_columns:
        return []
    holdout = None
    if data_args.holdout_fraction is not None:
        holdout = HoldOut(data_args.holdout_fraction, None, data_args.holdout_seed, data_args.holdout_split)
    source = read_source(
        str(data_args.dataset_name), data_args.dataset_config, split, data_args.dataset_options, holdout
    ).with_paths(data_args.named_columns)
    template = data_args.prompt_template or own_template(judge)
    try:
        variables = load_template(template).variables if template else ()
    except ValueError:  # said where it is needed
        variables = ()
    columns = question_columns(source, data_args.columns, variables)
    return columns if columns == ["group"] or "group" not in (data_args.keep_columns or ()) else []


def _load(data_args: EvaluateDataArguments, split: str, judge: JudgeSource) -> Dataset | Choices:
    """The rows; where they have no complete prompts and the recipe names no template, by the judge's own, and by its criteria."""
    options: dict[str, Any] = {"scale": judge.space.scale, "marker": judge.space.marker, "keep_ratings": True}
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
    """
    Dataset → the columns of its raters, where there is one for each, or what the `rater_column` calls them; nobody where a place in a row's
    ratings is not the same rater in all rows.
    """
    if data_args.rater_column:
        return {name: names_of_raters(data_args, name) for name in datasets if name not in benchmarks}
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


def rows_are_questions(frame: pd.DataFrame) -> bool:
    """Whether predictions have no groups but their own rows (see [`with_identity`]), or those of the criteria of one row."""
    own = frame["id"].astype(str)
    if CRITERION_COLUMN in frame:
        own = pd.Series(
            [name.removesuffix(f"/{criterion}") for name, criterion in zip(own, frame[CRITERION_COLUMN], strict=True)]
        )
    return own.tolist() == frame["group"].astype(str).tolist()
