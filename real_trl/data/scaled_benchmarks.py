# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Benchmarks of scores by people or models on scales of their own, with rows that are no judge prompts: BiGGen Bench, SummEval, HelpSteer2 and
UltraFeedback.

The judge's own template makes the prompts. A judge on the benchmark's scale gets the labels as published. For a judge on another one, labels are
mapped linearly, worst to worst and best to best, which the report says; not those of BiGGen Bench, whose rubrics describe the scores 1 to 5.

What the layouts were checked against: HelpSteer2, its dataset card; BiGGen Bench, its dataset card and code that reads the split human_eval;
SummEval, code that reads the published file, and the features of mteb/summeval; UltraFeedback, code that reads the Hub's rows.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset

from real_trl.data.arguments import DataArguments
from real_trl.data.benchmark_files import RowsBenchmark
from real_trl.data.files import Source
from real_trl.data.loading import read_rows
from real_trl.option_values import FieldError
from real_trl.prompts.template import load_template
from real_trl.scale import Scale, as_number
from real_trl.text.cells import is_empty

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ScaledBenchmark(RowsBenchmark):
    """
    A benchmark with scores on a scale of its own. Its rows are read as `instruction`, `response`, a `group`, what a template makes a rubric of, and
    `score`, or a column for each of `criteria`; a score that is missing is `None`.

    Attributes:
        scale ([`~real_trl.scale.Scale`]):
            The scale of its labels.
        criteria (`dict[str, str]`):
            Column with the scores by a criterion → its rubric.
        maps (`bool`, defaults to `True`):
            Whether a judge may have another scale.
    """

    scale: Scale
    criteria: dict[str, str] = field(default_factory=dict)
    maps: bool = True

    def map(self, score: Any, to: Scale) -> Any:
        """A label, or the labels of several raters, on the scale `to`; `None` stays."""
        if isinstance(score, list):
            return [self.map(each, to) for each in score]
        if is_empty(score):
            return None
        number = as_number(score)
        if not self.scale.low <= number <= self.scale.high:
            raise ValueError(f"a score is {score!r:.60}, which is none from {self.scale.low:g} to {self.scale.high:g}")
        if _same(self.scale, to):
            return number
        worst, best = (to.high, to.low) if to.lower_is_better else (to.low, to.high)
        return worst + (number - self.scale.low) / (self.scale.high - self.scale.low) * (best - worst)


def _helpsteer2(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    texts = {"instruction": row["prompt"], "response": row["response"], "group": row["prompt"]}
    return [{**texts, **{name: row[name] for name in _HELPSTEER2}}]


def _summeval(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    if "machine_summaries" in row:  # the Hub's: a row an article, with the means of the experts
        summaries = row["machine_summaries"]
        scores = [{name: row[name][place] for name in _SUMMEVAL} for place in range(len(summaries))]
    else:
        summaries, experts = [row["decoded"]], row["expert_annotations"]
        scores = [{name: [each[name] for each in experts] for name in _SUMMEVAL}]
    asked = f"Summarize this article:\n\n{row['text']}"
    return [
        {"instruction": asked, "response": summary, "group": str(row["id"]), **of_summary}
        for summary, of_summary in zip(summaries, scores, strict=True)
    ]


def _ultrafeedback(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    found = []
    for completion in row["completions"]:
        ratings = {name: completion["annotations"][name]["Rating"] for name in _ULTRAFEEDBACK}
        scores = {name: None if rating == "N/A" else rating for name, rating in ratings.items()}
        asked = {"instruction": row["instruction"], "response": completion["response"], "group": row["instruction"]}
        found.append({**asked, **scores, "model": completion["model"], "source": row["source"]})
    return found


def _biggen_bench(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    rubric = {name: row["score_rubric"][name] for name in ("criteria", *_DESCRIPTIONS)}
    texts = {"instruction": row["input"], "response": row["response"], "reference": row["reference_answer"]}
    about = {"group": str(row["id"]), "capability": row["capability"], "model_name": row["model_name"]}
    return [{**texts, **rubric, **about, "score": row["human_score"]}]


_DESCRIPTIONS = [f"score{number}_description" for number in range(1, 6)]
_HELPSTEER2 = {
    "helpfulness": "[Helpfulness: how helpful is the response to the prompt overall?]",
    "correctness": "[Correctness: does the response hold all facts that matter, without errors?]",
    "coherence": "[Coherence: is the response clear and consistent in itself?]",
    "complexity": "[Complexity: how much intellectual depth does it take to write the response? The more, the higher the score.]",
    "verbosity": "[Verbosity: how much detail has the response, for what the prompt asks? The more, the higher the score.]",
}
_SUMMEVAL = {
    "coherence": "[Coherence: do the sentences of the summary together make a well-structured, organized whole?]",
    "consistency": "[Consistency: does the article support all that the summary says, with nothing made up?]",
    "fluency": "[Fluency: is each sentence of the summary well written and grammatical?]",
    "relevance": "[Relevance: does the summary hold what is important in the article, and nothing else?]",
}
_ULTRAFEEDBACK = {
    "instruction_following": "[Instruction following: does the response do what the instruction asks for, in its intent and its restrictions?]",
    "honesty": "[Honesty: does the response express what it knows, and how sure it is, as it should?]",
    "truthfulness": "[Truthfulness: is the response right, without claims that are made up or contradict the instruction?]",
    "helpfulness": "[Helpfulness: is the response correct, useful and informative for who asked?]",
}

SCALED_BENCHMARKS: dict[str, ScaledBenchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        ScaledBenchmark(
            name="biggen_bench",
            description="BiGGen Bench, the responses that people scored: a rubric for each of its instances. Label: their score.",
            file="human_eval-00000-of-00001.parquet",
            hub_id="prometheus-eval/BiGGen-Bench-Results",
            hub_splits=("human_eval",),
            source="https://huggingface.co/datasets/prometheus-eval/BiGGen-Bench-Results/tree/main/data",
            rows=_biggen_bench,
            scale=Scale.parse("1-5"),
            maps=False,
            category_columns=("capability", "model_name"),
        ),
        ScaledBenchmark(
            name="summeval",
            description="1,600 summaries of 100 articles by 16 systems. Label: the mean of three experts, by four criteria.",
            file="model_annotations.aligned.paired.jsonl",
            hub_id="mteb/summeval",
            source="https://github.com/Yale-LILY/SummEval (its annotations, paired with the articles of CNN/DailyMail)",
            rows=_summeval,
            scale=Scale.parse("1-5"),
            criteria=_SUMMEVAL,
        ),
        ScaledBenchmark(
            name="helpsteer2",
            description="HelpSteer2's 1,038 validation rows. Label: the scores of people by five criteria, from 0 to 4.",
            file="validation.jsonl",
            hub_id="nvidia/HelpSteer2",
            hub_splits=("validation",),
            source="https://huggingface.co/datasets/nvidia/HelpSteer2/tree/main",
            rows=_helpsteer2,
            scale=Scale.parse("0-4"),
            criteria=_HELPSTEER2,
        ),
        ScaledBenchmark(
            name="ultrafeedback",
            description="64k instructions with four responses each (set max_rows). Label: GPT-4's scores by four criteria.",
            file="train.jsonl",
            hub_id="openbmb/UltraFeedback",
            hub_splits=("train",),
            source="https://huggingface.co/datasets/openbmb/UltraFeedback/tree/main",
            rows=_ultrafeedback,
            scale=Scale.parse("1-5"),
            criteria=_ULTRAFEEDBACK,
            category_columns=("source",),
        ),
    )
}


def scale_map(name: str, scale: Scale) -> str | None:
    """What a report says of the labels of a benchmark for a judge on `scale`; `None` where they are as published."""
    benchmark = SCALED_BENCHMARKS.get(name)
    if benchmark is None or _same(benchmark.scale, scale):
        return None
    ends = [f"{end:g} is {benchmark.map(end, scale):g}" for end in (benchmark.scale.low, benchmark.scale.high)]
    return f"Labels on {benchmark.scale} are mapped linearly onto the judge's scale: {', '.join(ends)}. Errors are in its units."


def load_scaled_benchmark(
    benchmark: ScaledBenchmark,
    path: str | Path | None,
    *,
    scale: Scale,
    marker: str,
    template: str,
    max_rows: int | None = None,
    score_reminder: bool = False,
) -> Dataset:
    """
    Loads a benchmark in the canonical schema, a row for each response and criterion.

    Args:
        scale, marker, max_rows, score_reminder:
            As of [`~real_trl.data.benchmarks.load_benchmark`]; `max_rows` counts the rows of the file.
        template (`str`):
            The template of the prompts, that of the judge.

    Raises:
        As [`~real_trl.data.benchmarks.load_benchmark`], and `ValueError` if the template needs more than the benchmark has.
    """
    if not benchmark.maps and not _same(benchmark.scale, scale):
        said = f": the rubrics of {benchmark.name!r} describe scores on the scale {benchmark.scale}, the judge gives {scale}"
        raise FieldError("benchmarks", benchmark.name, f"Evaluate a judge on {benchmark.scale}.", said)
    names = list(benchmark.criteria) or ["score"]
    rows = benchmark.read(path, max_rows)
    if not benchmark.criteria and (missing := sum(is_empty(row["score"]) for row in rows)):
        logger.warning(
            f"benchmarks: {benchmark.name}: {missing} of {len(rows)} rows have no score; they are left out."
        )
        rows = [row for row in rows if not is_empty(row["score"])]
    for number, row in enumerate(rows):
        try:
            row.update({name: benchmark.map(row[name], scale) for name in names})
        except ValueError as error:
            raise ValueError(f"benchmarks: {benchmark.name}: response {number}: {error}. Correct the file.") from error
    if not rows:
        raise ValueError(f"benchmarks: {benchmark.name}: there is no row with a score. {benchmark.how_to_get()}")
    source = Source(benchmark.name, rows, list(rows[0]), range(len(rows)))
    made = load_template(template)
    texts: dict[str, Any] = {name: name for name in ("instruction", "response") if name in made.variables}
    args = DataArguments(
        dataset_name=benchmark.name,
        prompt_template=template,
        columns=texts,
        criteria=dict(benchmark.criteria or {}),
        score_column=None if benchmark.criteria else "score",
        group_column="group",
        keep_columns=[name for name in benchmark.category_columns if name in source.columns],
        prompt_score_reminder=score_reminder,
    )
    return read_rows(source, args, made, f"the benchmark {benchmark.name}", scale, False, marker, keep_ratings=True)


def _same(one: Scale, other: Scale) -> bool:
    return dict(zip(one.labels, one.values, strict=True)) == dict(zip(other.labels, other.values, strict=True))
