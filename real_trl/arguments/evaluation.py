# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about an evaluation."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from real_trl.arguments.judging import JudgingArguments
from real_trl.data.arguments import DataArguments
from real_trl.data.benchmarks import BENCHMARKS
from real_trl.data.choice_benchmarks import CHOICE_BENCHMARKS
from real_trl.engines import check_num_samples
from real_trl.evaluation.assemble import MALFORMED_CONVENTIONS
from real_trl.evaluation.probes import PROBES, find_probe
from real_trl.option_values import FieldError, MappingOption, as_mapping, mapping_option
from real_trl.text.yaml_text import is_pairs


@dataclass
class EvaluateArguments(JudgingArguments):
    """
    Arguments of an evaluation beside data and model: those of [`JudgingArguments`], and

    Args:
        judges (`dict` or `list[str]`, *optional*):
            Judges to compare: a mapping from a name to a directory or Hub id, or a list of the latter. Defaults to
            `model_name_or_path`.
        benchmarks (`list[str]`, *optional*):
            Benchmarks by name (see [`~real_trl.data.benchmarks.BENCHMARKS`] and
            [`~real_trl.data.choice_benchmarks.CHOICE_BENCHMARKS`]), beside or instead of `dataset_name`.
        benchmark_paths (`dict`, *optional*):
            Where a benchmark's file is, by name; by default it comes from the Hub.
        eval_splits (`list[str]`, *optional*):
            Splits of `dataset_name`. Defaults to `dataset_test_split`.
        malformed (`str`, *optional*, defaults to `"force"`):
            How completions without a score count: `"force"`, with the score read at an appended marker; `"drop"`, not at
            all (TRACT's convention); `"strict"`, as wrong.
        num_samples (`int`, *optional*, defaults to `1`):
            Completions for each prompt, which are averaged (Table 3).
        breakdown (`list[str]`, *optional*):
            Kept columns whose values are reported one by one. Defaults to the benchmarks' categories.
        probes (`list[str]`, *optional*):
            Attempts to sway the judge, by name (see [`~real_trl.evaluation.probes.PROBES`]), or `all` of those that apply to the data.
        num_resamples (`int`, *optional*, defaults to `2000`):
            Bootstrap resamples and permutations.
    """

    malformed_handling: ClassVar[tuple[str, ...]] = MALFORMED_CONVENTIONS

    # The parser knows no more than this; a list in a recipe is passed on as it is
    judges: dict | str | None = field(
        default=None,
        metadata={"help": "Judges to compare, name=path,… or {name: path, …}. Default: the one that --model names."},
    )
    benchmarks: list[str] | None = field(
        default=None, metadata={"help": f"Benchmarks by name: {', '.join([*BENCHMARKS, *CHOICE_BENCHMARKS])}."}
    )
    benchmark_paths: MappingOption = mapping_option("Files of the benchmarks, {mt_bench: path, …}. Default: the Hub.")
    eval_splits: list[str] | None = field(default=None, metadata={"help": "Splits. Default: dataset_test_split."})
    malformed: str = field(
        default="force", metadata={"help": "How completions without a score count: `force`, `drop` or `strict`."}
    )
    num_samples: int = field(default=1, metadata={"help": "Completions for each prompt, which are averaged."})
    breakdown: list[str] | None = field(default=None, metadata={"help": "Columns to report value by value."})
    probes: list[str] | None = field(
        default=None,
        metadata={"help": "Attempts to sway the judge: names of probes, or `all` that apply to the data."},
    )
    num_resamples: int = field(default=2000, metadata={"help": "Bootstrap resamples."})

    every_probe: bool = field(init=False, default=False)  # those that do not apply are left out then

    def __post_init__(self) -> None:
        super().__post_init__()
        self.judges = _names_and_paths(self.judges)
        self.benchmark_paths = as_mapping("benchmark_paths", self.benchmark_paths)
        check_num_samples(self.num_samples, self.do_sample)
        if self.num_resamples < 100:
            raise FieldError("num_resamples", self.num_resamples, "Set it to at least 100, better 2000.")
        if unknown := sorted(set(self.benchmark_paths) - set(self.benchmarks or ())):
            said = f": {unknown[0]!r} is not among benchmarks={self.benchmarks}"
            raise FieldError("benchmark_paths", unknown[0], "Add it there, or remove it here.", said)
        self.every_probe = "all" in (self.probes or ())
        if self.every_probe:
            self.probes = list(PROBES)
        for probe in self.probes or ():
            find_probe(probe)


@dataclass
class EvaluateDataArguments(DataArguments):
    """
    As [`DataArguments`]; the dataset may be left out where `benchmarks` are evaluated, for which only `max_rows` and
    `prompt_score_reminder` are used. Where `prompt_template` is not set, `columns` and the like are for the judge's own template.
    """

    template_of_judge: ClassVar[bool] = True

    dataset_name: str | None = field(
        default=None,
        metadata={
            "help": "Hub id, a .json / .jsonl / .csv / .tsv / .xlsx / .parquet file, a directory with one such file per split, or 'synthetic'."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset_name is not None:
            return
        for other in fields(self):
            value = getattr(self, other.name)
            if other.name not in ("max_rows", "prompt_score_reminder") and value and value != other.default:
                said = f": got {value!r} without dataset_name, which it is about; benchmarks have their own"
                raise FieldError(other.name, value, "Set dataset_name, or remove it.", said)


def _names_and_paths(judges: Any) -> dict[str, str]:
    """Judges by name. On the command line: paths with commas, or a mapping."""
    if isinstance(judges, str) and not judges.lstrip().startswith("{") and not is_pairs(judges):
        judges = [judge.strip() for judge in judges.split(",")]
    if not isinstance(judges, list):
        return {_as_folder(str(name)): str(path) for name, path in as_mapping("judges", judges).items()}
    named: dict[str, str] = {}
    for path in judges:
        name = judge_name(path)
        if name in named:
            said = f": {named[name]!r} and {path!r} would both be called {name!r}"
            raise FieldError("judges", named[name], f"Name them: judges: {{a: {named[name]}, b: {path}}}.", said)
        named[name] = str(path)
    return named


def _as_folder(name: str) -> str:
    """A name for a judge or dataset, which is also that of a folder."""
    if not name.strip() or set(name) & set("/\\:") or name.startswith("."):
        raise ValueError(
            f"judges: the name {name!r} cannot be that of a folder. Use letters, digits, blanks, - and _."
        )
    return name


def judge_name(path: str) -> str:
    """What a judge is called if nobody names it: the last part of its path."""
    return Path(path).name or str(path).replace("/", "-")
