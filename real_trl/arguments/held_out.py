# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about judging held-out data during training."""

from dataclasses import dataclass, field

from datasets import Dataset

from real_trl.data.arguments import DataArguments
from real_trl.data.benchmarks import load_benchmark
from real_trl.data.loading import load_judge_dataset
from real_trl.option_values import FieldError, MappingOption, as_mapping, check_numbers, mapping_option
from real_trl.score_space import ScoreSpace


@dataclass
class HeldOutArguments:
    """
    Arguments of the evaluation during training.

    Args:
        judge_eval_steps (`int`, *optional*):
            Judge held-out data before the first step and every so many steps, and log correlations, errors, length and
            entropy (see [`JudgeEvaluationCallback`]). By default not at all.
        judge_eval_splits (`list[str]`, *optional*):
            Splits of `dataset_name` for that. Defaults to `dataset_test_split`, unless there are `judge_eval_benchmarks`.
        judge_eval_benchmarks (`list[str]`, *optional*):
            Benchmarks for that, by name (see [`~real_trl.data.benchmarks.BENCHMARKS`]).
        judge_eval_benchmark_paths (`dict`, *optional*):
            Where a benchmark's file is, by name; by default it comes from the Hub.
        judge_eval_rows (`int`, *optional*):
            Use the first rows of each only.
        judge_eval_max_new_tokens (`int`, *optional*):
            Longest completion. Defaults to that of the rollouts, and without rollouts to 1024, or half of a shorter context.
    """

    judge_eval_steps: int | None = field(
        default=None, metadata={"help": "Judge held-out data every so many steps. Default: never."}
    )
    judge_eval_splits: list[str] | None = field(
        default=None, metadata={"help": "Splits of dataset_name to judge. Default: dataset_test_split."}
    )
    judge_eval_benchmarks: list[str] | None = field(default=None, metadata={"help": "Benchmarks to judge, by name."})
    judge_eval_benchmark_paths: MappingOption = mapping_option(
        "Files of the benchmarks, {mt_bench: path, …}. Default: the Hub."
    )
    judge_eval_rows: int | None = field(default=None, metadata={"help": "Judge the first rows only. Default: all."})
    judge_eval_max_new_tokens: int | None = field(default=None, metadata={"help": "Longest completion."})

    def __post_init__(self) -> None:
        self.judge_eval_benchmark_paths = as_mapping("judge_eval_benchmark_paths", self.judge_eval_benchmark_paths)
        check_numbers(self)
        unused = [
            name
            for name in vars(self)
            if name.startswith("judge_eval_") and name != "judge_eval_steps" and getattr(self, name)
        ]
        if unused and self.judge_eval_steps is None:
            said = f": got {getattr(self, unused[0])!r} without judge_eval_steps"
            raise FieldError(unused[0], getattr(self, unused[0]), "Set both, or neither.", said)

    def held_out(self, data_args: DataArguments, space: ScoreSpace) -> dict[str, Dataset]:
        """The datasets that are judged during training, by name; errors as of `load_judge_dataset` and `load_benchmark`."""
        if self.judge_eval_steps is None:
            return {}
        splits = self.judge_eval_splits
        if splits is None:
            splits = [] if self.judge_eval_benchmarks else [data_args.dataset_test_split]
        datasets = {
            split: load_judge_dataset(data_args, split, scale=space.scale, marker=space.marker) for split in splits
        }
        for name in self.judge_eval_benchmarks or ():
            path = self.judge_eval_benchmark_paths.get(name)
            datasets[name] = load_benchmark(
                name, path, scale=space.scale, marker=space.marker, template=data_args.prompt_template
            )
        return {
            name: dataset.select(range(min(len(dataset), self.judge_eval_rows or len(dataset))))
            for name, dataset in datasets.items()
        }
