# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The benchmarks that papers report judges on, by name: Feedback Bench, FLASK, Vicuna Bench and MT Bench, and, with rows of another kind, those
of [`~real_trl.data.scaled_benchmarks`]. Responses that are compared are in [`~real_trl.data.choice_benchmarks`].

One of the first four is a preset of [`~real_trl.data.arguments.DataArguments`]: complete Prometheus prompts in the column `instruction`, and
where the score, the question and the categories are. In a recipe they are listed under `benchmarks`; a `dataset_name` is
always a path or an id of the Hub, never one of these names.

What the layouts were checked against: MT Bench, the whole file of prometheus-eval; Vicuna Bench, the beginning of that
file; FLASK, a published row and code that reads the file, since the file itself was not at hand; Feedback Bench, the column
list of a copy on the Hub and code that reads the set.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from real_trl.data.arguments import DataArguments
from real_trl.data.benchmark_files import BenchmarkFile
from real_trl.data.choice_benchmarks import CHOICE_BENCHMARKS
from real_trl.data.loading import load_judge_dataset
from real_trl.data.scaled_benchmarks import SCALED_BENCHMARKS, ScaledBenchmark, load_scaled_benchmark
from real_trl.data.sources import HubUnreachable
from real_trl.option_values import FieldError
from real_trl.prompts.sections import section_span
from real_trl.prompts.template import add_score_reminder
from real_trl.scale import Scale, abridged

BENCHMARK_SCALE = Scale.parse("1-5")
PROMETHEUS_MARKER = "[RESULT] "

# What the prompts say about the answer, and the same for a judge with another marker
_ASKED = '"Feedback: (write a feedback for criteria) [RESULT] (an integer number between 1 and 5)"'
_ASKED_FOR_MARKER = '"(write a feedback for criteria) {marker}(an integer number between 1 and 5)"'
# Remains of a list of strings behind some prompts, which the evaluation of prometheus-eval cuts too
_REMAINS = re.compile(r'(###Feedback:)\s*[",][\s",]*\Z')

_FILES = "https://github.com/prometheus-eval/prometheus-eval/raw/main/eval/benchmark/data/"


@dataclass(frozen=True)
class Benchmark(BenchmarkFile):
    """
    A benchmark of complete Prometheus prompts, and how it is read.

    Attributes:
        name, description, file, hub_id (`str`):
            As of [`~real_trl.data.benchmark_files.BenchmarkFile`].
        score_column (`str`, *optional*):
            Column of the score, or of the list of ratings whose mean is the score. Default: the first of
            `load_judge_dataset`'s default columns that exists.
        group_column (`str`, *optional*):
            Column with the question, which clusters the rows. Default: the instruction in the prompt.
        category_columns (`tuple[str, ...]`):
            Columns to break results down by.
    """

    score_column: str | None = None
    group_column: str | None = None
    category_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.source:  # of prometheus-eval
            object.__setattr__(self, "source", _FILES + self.file)

    def data_arguments(self, path: str | Path | None, marker: str, max_rows: int | None = None) -> DataArguments:
        """
        The benchmark as data arguments.

        Args:
            path (`str` or `Path`, *optional*):
                The file, or a directory that holds it; the Hub by default.
            marker (`str`):
                What stands before the judge's score. Unless it is `"[RESULT] "`, the prompts' sentence about the output
                format is replaced by one that asks for it.
            max_rows (`int`, *optional*):
                Use the first rows only.

        Raises:
            `ValueError`: if there is no such file, or no path is given for a benchmark that is not on the Hub.
        """
        if path is None and self.hub_id is None:
            raise self.not_on_the_hub()
        replaced = (
            {} if marker.strip() == PROMETHEUS_MARKER.strip() else {_ASKED: _ASKED_FOR_MARKER.format(marker=marker)}
        )
        return DataArguments(
            dataset_name=self.hub_id if path is None else str(self.find(Path(path).expanduser())),
            prompt_column="instruction",
            prompt_replace=replaced,
            score_column=self.score_column,
            keep_columns=list(self.category_columns),
            group_column=self.group_column,
            max_rows=max_rows,
        )


BENCHMARKS: dict[str, Benchmark | ScaledBenchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="feedback_bench",
            description="The test set of Feedback Collection: 1,000 responses to 200 instructions, each with a rubric of its "
            "own. Label: GPT-4's score (`orig_score` on the Hub, `gpt4_score` in prometheus-eval's file).",
            file="feedback_collection_ood_test.json",
            hub_id="prometheus-eval/Feedback-Bench",
        ),
        Benchmark(
            name="flask",
            description="200 instructions, 12 skills as rubrics, four models, 2,000 rows. Label: the mean of GPT-4's scores; "
            "the file also holds those of people, in `human_score`.",
            file="flask_eval.json",
            score_column="gpt4_score",
            group_column="idx",
            category_columns=("criteria", "response_source"),
        ),
        Benchmark(
            name="vicuna_bench",
            description="80 questions of one turn with a rubric each, four models. Label: the mean of three GPT-4 scores.",
            file="vicuna_eval.json",
            score_column="gpt4_score",
            group_column="idx",
            category_columns=("category", "response_source"),
        ),
        Benchmark(
            name="mt_bench",
            description="80 questions in a dialogue with a rubric each, four models. Label: the mean of three GPT-4 scores.",
            file="mt_bench_eval.json",
            score_column="gpt4_score",
            group_column="idx",
            category_columns=("category", "response_source"),
        ),
    )
} | SCALED_BENCHMARKS


def load_benchmark(
    name: str,
    path: str | Path | None = None,
    *,
    scale: Scale,
    marker: str,
    max_rows: int | None = None,
    score_reminder: bool = False,
    template: str | None = None,
) -> Dataset:
    """
    Loads a benchmark in the canonical schema, with the label that papers report against.

    Args:
        name (`str`):
            One of [`BENCHMARKS`].
        path (`str` or `Path`, *optional*):
            A local file, or a directory that holds it under its own or the benchmark's name. By default it comes from the
            Hub.
        scale ([`~real_trl.scale.Scale`]):
            The judge's scale, which must be the benchmark's, 1-5; of some, other scales are mapped (see
            [`~real_trl.data.scaled_benchmarks`]).
        marker (`str`):
            What stands before the judge's score.
        max_rows (`int`, *optional*):
            Use the first rows only. Default: all rows.
        score_reminder (`bool`, *optional*, defaults to `False`):
            End each prompt with a sentence that asks for the score after the marker (for base models).
        template (`str`, *optional*):
            The judge's template, for benchmarks that have no prompts of their own. Default: of those that ask for a rationale the one
            with this marker.

    Returns:
        [`~datasets.Dataset`] with the columns `prompt` (`str`), `score` (`float`, from 1 to 5), `id` (`str`, the row's
        number in the file), `group` (`str`, the question), `ratings` (`list[float]`, where there are several raters),
        `feedback` (`str`, where there is one), and the benchmark's category columns.

    Raises:
        [`~real_trl.data.sources.HubUnreachable`], a `ValueError`: if the data are not on this machine and cannot be had
        from the Hub; it says what to download, and where to write the path.
        `ValueError`: if there is no such benchmark or file, if the judge has another scale, or if rows cannot be used.
    """
    if name not in BENCHMARKS:
        said = f": {name!r} is unknown; the known ones are {', '.join([*BENCHMARKS, *CHOICE_BENCHMARKS])}"
        if name in CHOICE_BENCHMARKS:
            said = f": {name!r} has responses that are compared, and no scores; only evaluate reads it"
        raise FieldError("benchmarks", name, "Other data are loaded with dataset_name.", said)
    benchmark = BENCHMARKS[name]
    if isinstance(benchmark, ScaledBenchmark):
        template = template or default_template(marker)
        options: dict[str, Any] = {"max_rows": max_rows, "score_reminder": score_reminder}
        return load_scaled_benchmark(benchmark, path, scale=scale, marker=marker, template=template, **options)
    own, asked = (dict(zip(s.labels, s.values, strict=True)) for s in (scale, BENCHMARK_SCALE))
    if own != asked:
        values = f" (with the values {abridged([f'{value:g}' for value in scale.values])})" * (
            own.keys() == asked.keys()
        )
        said = f": {name!r} asks for a score on the scale {BENCHMARK_SCALE}, the judge gives {scale}{values}"
        fix = f"Evaluate a judge on {BENCHMARK_SCALE}, or convert prompts and scores and load them with dataset_name."
        raise FieldError("benchmarks", name, fix, said)
    args = benchmark.data_arguments(path, marker, max_rows)
    try:
        dataset = load_judge_dataset(args, scale=scale, marker=marker, keep_ratings=True)
    except HubUnreachable as error:
        raise HubUnreachable(f"benchmarks: {name!r} cannot be had: {error} {benchmark.how_to_get()}") from error
    columns = dataset.to_dict()
    columns["prompt"] = [_REMAINS.sub(r"\1 ", prompt) for prompt in columns["prompt"]]
    if score_reminder:
        columns["prompt"] = [add_score_reminder(prompt, marker) for prompt in columns["prompt"]]
    columns["id"] = [str(row) for row in range(len(dataset))]
    if benchmark.group_column is None:
        columns["group"] = [
            _instruction(prompt, row, args.dataset_name) for row, prompt in enumerate(columns["prompt"])
        ]
    return Dataset.from_dict(columns)


def default_template(marker: str, rationale: bool = True) -> str:
    """The built-in template for judges with this marker that write a rationale, or none."""
    if not rationale:
        return "direct"
    return "prometheus" if marker.strip() == PROMETHEUS_MARKER.strip() else "feedback_collection"


def _instruction(prompt: str, row: int, where: str) -> str:
    try:
        return prompt[section_span(prompt, "instruction")]
    except ValueError as error:
        raise ValueError(f"{where!r}, row {row}: {error}. The rows of a benchmark are Prometheus prompts.") from error
