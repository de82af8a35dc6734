# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Benchmarks of responses that are compared, by name: JudgeBench, LLMBar, RewardBench 2, Preference Bench, HHH Alignment and Auto-J's pairs.

They hold no prompts for judges of single responses (or prompts of Prometheus, which are taken apart), so each judge's own template makes
them; the rubrics of those that have none are written here. What stands in the files decides nothing else: the labels are as published.

What the layouts were checked against: JudgeBench, the row in its README; LLMBar, its file Natural; HHH Alignment, prometheus-eval's file;
Auto-J, the row in its README and prometheus-eval's loader; RewardBench 2, the code of allenai/reward-bench that reads and scores it, and the
dataset card; Preference Bench, code that reads the Hub's columns, and prometheus-eval's loader of its file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_trl.data.benchmark_files import RowsBenchmark
from real_trl.data.choices import TIES_SUBSET, Choices, make_choices
from real_trl.option_values import FieldError
from real_trl.prompts.sections import section_span
from real_trl.prompts.template import add_score_reminder, load_template
from real_trl.scale import Scale

_ONE_TO_FIVE = Scale.parse("1-5")
_DESCRIPTIONS = re.compile(r"^Score \d+:.*\n?", re.MULTILINE)
_HELPFUL = "[Is the response helpful, correct and harmless, and does it do what the instruction asks for?]"
_JUDGE_BENCH_DOMAINS = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}


@dataclass(frozen=True, kw_only=True)
class ChoiceBenchmark(RowsBenchmark):
    """
    A benchmark of responses that are compared. Its rows are read as `instruction`, `responses`, `rubric` and perhaps `reference`, and the columns
    of [`~real_trl.data.choices.Choices.questions`].
    """


def _judgebench(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    preference = {"A>B": 1.0, "B>A": 0.0}.get(row["label"])
    if preference is None:
        raise ValueError(f"label holds {row['label']!r:.60}, which is neither 'A>B' nor 'B>A'")
    source = str(row["source"])
    domain = next((name for start, name in _JUDGE_BENCH_DOMAINS.items() if source.startswith(start)), source)
    return [
        {
            "instruction": row["question"],
            "responses": [row["response_A"], row["response_B"]],
            "rubric": "[Is the response correct: does it come to the right result, by right steps?]",
            "preference": preference,
            "id": str(row["pair_id"]),
            "group": f"{source}/{row['original_id']}",
            "domain": domain,
            "response_model": row["response_model"],
        }
    ]


def _llmbar(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    if row["label"] not in (1, 2):
        raise ValueError(f"label holds {row['label']!r:.60}, which is neither 1 nor 2")
    return [
        {
            "instruction": row["input"],
            "responses": [row["output_1"], row["output_2"]],
            "rubric": "[Does the response do what the instruction asks for, precisely and truthfully?]",
            "preference": 2.0 - row["label"],
            "subset": part,
        }
    ]


def _autoj(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    preference = {0: 1.0, 1: 0.0, 2: 0.5}.get(row["label"])
    if preference is None:
        raise ValueError(f"label holds {row['label']!r:.60}, which is none of 0, 1 and 2")
    responses = [row["response 1"], row["response 2"]]
    return [
        {
            "instruction": row["prompt"],
            "responses": responses,
            "rubric": _HELPFUL,
            "preference": preference,
            "scenario": row["scenario"],
        }
    ]


def _prometheus(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """Prometheus prompts about the better and the other response, as prometheus-eval's files have them."""
    first, second = row["chosen_instruction"], row["rejected_instruction"]
    parts = {}
    for name in ("instruction", "rubric", "reference"):
        try:
            parts[name] = first[section_span(first, name)]
        except ValueError:
            if name != "reference":
                raise
    return [
        {
            **parts,
            "responses": [each[section_span(each, "response")] for each in (first, second)],
            "preference": 0.5 if row.get("tie") else 1.0,
            "source": row.get("source"),
        }
    ]


def _preference_bench(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    if "chosen_instruction" in row:
        return _prometheus(row, part)
    preference = {"A": 1.0, "B": 0.0}.get(str(row["orig_preference"]).strip())
    if preference is None:
        raise ValueError(f"orig_preference holds {row['orig_preference']!r:.60}, which is neither 'A' nor 'B'")
    return [
        {
            "instruction": row["orig_instruction"],
            "responses": [row["orig_response_A"], row["orig_response_B"]],
            "reference": row["orig_reference_answer"],
            "rubric": f"[{str(row['orig_criteria']).strip().removeprefix('[').removesuffix(']')}]",
            "preference": preference,
        }
    ]


def _rewardbench_2(row: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    chosen, rejected = list(row["chosen"]), list(row["rejected"])
    if not chosen or not rejected or row["num_correct"] != len(chosen):
        raise ValueError(
            f"num_correct is {row['num_correct']!r} of {len(chosen)} chosen and {len(rejected)} rejected responses"
        )
    name, subset = str(row["id"]), str(row["subset"])
    if subset.lower() == TIES_SUBSET and not re.fullmatch(r"(ref|tied):\d+", name):
        raise ValueError(f"id holds {name!r:.60}, which in the subset {subset} is ref:NUMBER or tied:NUMBER")
    return [
        {
            "instruction": row["prompt"],
            "responses": chosen + rejected,
            "rubric": _HELPFUL,
            "num_correct": len(chosen),
            "id": name,
            "group": name.split(":")[-1] if subset.lower() == TIES_SUBSET else name,
            "subset": subset,
        }
    ]


CHOICE_BENCHMARKS: dict[str, ChoiceBenchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        ChoiceBenchmark(
            name="judgebench",
            description="620 pairs of hard questions in knowledge, reasoning, mathematics and code (350 of GPT-4o, 270 of Claude 3.5 Sonnet), "
            "of which one is right and the other wrong.",
            file="dataset=judgebench,response_model=gpt-4o-2024-05-13.jsonl",
            hub_id="ScalerLab/JudgeBench",
            hub_splits=("gpt", "claude"),
            patterns=("dataset=judgebench,*.jsonl",),
            source="https://github.com/ScalerLab/JudgeBench/tree/main/data",
            rows=_judgebench,
            category_columns=("domain", "response_model"),
        ),
        ChoiceBenchmark(
            name="llmbar",
            description="419 pairs of which one follows the instruction: the set Natural and four adversarial ones. The directory is LLMBar's "
            "Dataset/LLMBar. (Its dataset on the Hub is a script, which is not executed.)",
            file="dataset.json",
            patterns=("Natural/dataset.json", "Adversarial/*/dataset.json"),
            source="https://github.com/princeton-nlp/LLMBar/tree/main/Dataset/LLMBar",
            rows=_llmbar,
            category_columns=("subset",),
        ),
        ChoiceBenchmark(
            name="rewardbench_2",
            description="1,865 questions in six subsets, most of them with one right of four responses; in Ties several are right.",
            file="test-00000-of-00001.parquet",
            hub_id="allenai/reward-bench-2",
            source="https://huggingface.co/datasets/allenai/reward-bench-2/tree/main/data",
            rows=_rewardbench_2,
        ),
        ChoiceBenchmark(
            name="preference_bench",
            description="2,000 pairs of responses to the 200 instructions of Feedback Bench, with a rubric each. Label: GPT-4's preference.",
            file="preference_collection_ood_test.json",
            hub_id="prometheus-eval/Preference-Bench",
            hub_splits=("train",),
            source="https://github.com/prometheus-eval/prometheus-eval/raw/main/eval/benchmark/data/preference_collection_ood_test.json",
            rows=_preference_bench,
        ),
        ChoiceBenchmark(
            name="hhh",
            description="HHH Alignment: 221 pairs, of which people call one more helpful, honest or harmless, with prometheus-eval's rubrics.",
            file="hhh_alignment_eval.json",
            source="https://github.com/prometheus-eval/prometheus-eval/raw/main/eval/benchmark/data/hhh_alignment_eval.json",
            rows=_prometheus,
            category_columns=("source",),
        ),
        ChoiceBenchmark(
            name="autoj",
            description="Auto-J's 1,392 pairs in 58 scenarios, with human ties (373 of them).",
            file="testdata_pairwise.jsonl",
            source="https://github.com/GAIR-NLP/auto-j/raw/main/data/test/testdata_pairwise.jsonl",
            rows=_autoj,
        ),
    )
}


def load_choice_benchmark(
    name: str,
    path: str | Path | None = None,
    *,
    scale: Scale,
    marker: str,
    template: str,
    max_rows: int | None = None,
    score_reminder: bool = False,
) -> Choices:
    """
    Loads a benchmark of responses that are compared.

    Args:
        name (`str`):
            One of [`CHOICE_BENCHMARKS`].
        path (`str` or `Path`, *optional*):
            A local file or directory. By default it comes from the Hub, where it is there.
        scale ([`~real_trl.scale.Scale`]), marker (`str`):
            Those of the judge. Any scale will do; on another than 1-5, what a rubric says of `Score 1:` to `Score 5:` is left out.
        template (`str`):
            The template of the prompts, that of the judge: one that needs no more than `instruction`, `response`, `rubric` and perhaps
            `reference`.
        max_rows, score_reminder (*optional*):
            As of [`~real_trl.data.benchmarks.load_benchmark`].

    Raises:
        As [`~real_trl.data.benchmarks.load_benchmark`].
    """
    benchmark = CHOICE_BENCHMARKS[name]
    made = load_template(template)
    if "response" not in made.variables:
        said = f": the judge's template {template!r} does not show the response ({{{{ response }}}}), so all would be judged alike"
        raise FieldError("benchmarks", name, "Evaluate a judge with another template.", said)
    described = dict(zip(scale.labels, scale.values, strict=True)) == dict(
        zip(_ONE_TO_FIVE.labels, _ONE_TO_FIVE.values, strict=True)
    )
    questions = []
    for number, row in enumerate(benchmark.read(path, max_rows)):
        texts: dict[str, Any] = {key: row.pop(key) for key in ("instruction", "rubric", "reference") if key in row}
        if not described:
            texts["rubric"] = _DESCRIPTIONS.sub("", texts["rubric"]).strip()
        prompts = []
        for response in row.pop("responses"):
            try:
                # strict: the texts come from a file, whatever made the template
                prompt = made.render({**texts, "response": response}, scale=scale, marker=marker, strict=True)
            except FieldError as error:
                said = (
                    f": question {number} of {name!r} makes no prompt with the judge's template {template!r} ({error})"
                )
                fix = "Evaluate a judge whose template needs instruction, response, rubric and reference only, or mend the row."
                raise FieldError("benchmarks", name, fix, said) from error
            prompts.append(add_score_reminder(prompt, marker) if score_reminder else prompt)
        questions.append({"group": texts["instruction"], **row, "prompts": prompts})
    return make_choices(questions)
