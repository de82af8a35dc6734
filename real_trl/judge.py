# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge to be used: load it, score responses, get the rationale and the whole score distribution."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset

from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.data.table_rows import check_one_split, features_of, iterate_table, reader_of
from real_trl.engines import Engine, Judgment, check_num_samples
from real_trl.engines.averaging import average_judgments
from real_trl.engines.calibrated import calibrated_judgment
from real_trl.engines.options import JudgeOptions
from real_trl.judge_config import JudgeConfig
from real_trl.judge_source import find_judge
from real_trl.option_values import FieldError
from real_trl.prompts.template import checked_text
from real_trl.text.cells import column_names, plain_row
from real_trl.text.keys import key_of


class Judge:
    """
    Scores responses.

    ```python
    judge = Judge.from_pretrained("outputs/my-real")
    judgment = judge.score(instruction="What is 2 + 2?", response="5", rubric="Is the answer right?")
    print(judgment.expected_score, judgment.rationale)
    ```

    Args:
        config ([`JudgeConfig`]):
            Prompt template, scale, marker.
        name (`str`, *optional*):
            What it was loaded from.

    Attributes:
        labels (`tuple[str, ...]`): The labels, in the order of [`Judgment.probabilities`].
        values (`tuple[float, ...]`): Their values.
        criteria (`dict[str, str]`): Criterion → rubric, of a judge that was trained on several; `rubric=list(judge.criteria.values())`
            scores a response by each.
        calibration ([`~real_trl.evaluation.judge_calibration.Calibration`], *optional*): Set by `real-trl calibrate`. All judgments are
            calibrated by it, and the judge's own is their `raw`; without it (`judge.calibration = None`) they are the judge's own.
    """

    def __init__(self, engine: Engine, config: JudgeConfig, name: str | None = None) -> None:
        self.engine, self.config, self.name = engine, config, name
        self.labels, self.values = engine.score_space.labels, engine.score_space.values
        self.criteria = config.criteria
        self._template = config.template()
        self.calibration = config.read_calibration()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **options: Any) -> "Judge":
        """
        Load a judge.

        Args:
            name_or_path (`str` or `Path`):
                Local directory, or model id on the Hub. With its `judge_config.json` the judge brings its scale, marker
                and prompt; any other causal LM needs them stated, or a `preset`.
            options:
                Fields of [`~real_trl.engines.options.JudgeOptions`] as keyword arguments, such as `score_labels`, `engine` or
                `max_new_tokens`.

        Raises:
            `ValueError`: naming the field, if the model cannot be loaded or an option does not fit it.
            `TypeError`: naming an option that there is not.
        """
        asked = JudgeOptions.of(options)
        source = find_judge(name_or_path, asked)
        return cls(source.load_engine(asked), source.config, source.name)

    def __repr__(self) -> str:
        answer = "a rationale and a score" if self.config.rationale else "a score at once (direct)"
        calibrated = ", calibrated" if self.calibration is not None else ""
        scale, engine = self.engine.score_space.scale, type(self.engine).__name__
        return f"Judge({self.name or 'unnamed'}: {answer} on the scale {scale}, {engine}{calibrated})"

    def score(
        self,
        rows: Dataset | IterableDataset | pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]] | None = None,
        /,
        *,
        instruction: str | Sequence[str] | None = None,
        response: str | Sequence[str] | None = None,
        rubric: str | Sequence[str] | None = None,
        reference: str | Sequence[str] | None = None,
        prompt: str | Sequence[str] | None = None,
        num_samples: int = 1,
        seed: int = 0,
    ) -> Judgment | list[Judgment]:
        """
        Score one response, or many.

        Args:
            rows ([`~datasets.Dataset`], `pandas.DataFrame`, `pyarrow.Table` or `Sequence[Mapping]`, *optional*):
                Rows with the template's columns (`instruction`, `response`, `rubric`, `reference`; those of
                Feedback-Collection are known), or with complete prompts in the column `prompt`.
            instruction, response, rubric, reference (`str` or `Sequence[str]`, *optional*):
                Instead of `rows`. Of sequences, one response each; a single text among them holds for all.
            prompt (`str` or `Sequence[str]`, *optional*):
                Complete prompts instead, for judges that were trained on such.
            num_samples (`int`, *optional*, defaults to `1`):
                Completions to average over (Table 3): see [`average_judgments`].
            seed (`int`, *optional*, defaults to `0`):
                Seed of the sampling: the same call gives the same result, in the same batches.

        Returns:
            [`Judgment`], or a list of them in the order given, if any argument was a sequence.

        Raises:
            `ValueError`: naming field, row and fix, if a field is missing or no text, if one is given that the judge's prompt does not
                have, if lengths differ, or if a prompt is longer than the model can read.
        """
        fields = {"instruction": instruction, "response": response, "rubric": rubric, "reference": reference}
        given = {name: value for name, value in {**fields, "prompt": prompt}.items() if value is not None}
        if (rows is None) == (not given):
            raise ValueError("score: give either rows, or fields such as response=, or prompt=.")
        if self._template is not None:  # columns that a table has beside are no fault; what was named here was meant
            for name in fields.keys() & given.keys() - self._template.variables:
                raise self._template.no_such_field(name)
        single = isinstance(rows, Mapping) or (rows is None and all(isinstance(v, str) for v in given.values()))
        rows = _rows_of(given) if rows is None else as_rows(rows, "score")
        prompts, groups = self.prompts(rows), [self.group(row) for row in rows]
        judgments = self.judge(prompts, num_samples=num_samples, seed=seed, groups=groups)
        return judgments[0] if single else judgments

    def prompts(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """The complete prompt of each row; errors as in [`Judge.score`]."""
        return [self.prompt(row, f"row {index}") for index, row in enumerate(rows)]

    def prompt(self, row: Mapping[str, Any], where: str) -> str:
        """The complete prompt of one row, which errors call `where`; errors as in [`Judge.score`]."""
        space = self.engine.score_space
        try:
            row = plain_row(row)
            if row.get("prompt") is not None:
                return checked_text("prompt", row["prompt"], f": that of {where}")
            if self._template is not None:
                return self._template.render(row, scale=space.scale, marker=space.marker, strict=True, where=where)
        except ValueError as error:
            if isinstance(error, FieldError) and error.field == "rubric" and self.criteria:
                fix = f"Pass it, such as those in judge.criteria: {', '.join(map(repr, self.criteria))}."
                raise FieldError("rubric", error.value, fix, error.said) from error
            if getattr(error, "field", "prompt_template") != "prompt_template":
                raise
            raise ValueError(f"{where}: {error}") from error  # which is of no field of the row
        said = f": {where} has none, and this judge was trained on complete prompts"
        fix = "Pass prompt=…, or load the judge with the prompt_template that such prompts were made with, e.g. 'feedback_collection'."
        raise FieldError("prompt", None, fix, said)

    def group(self, row: Mapping[str, Any]) -> str | None:
        """The group of a row that the calibration has intervals by: what stands in its column, or the criterion whose rubric the row has."""
        column = self.calibration and self.calibration.intervals.column
        if not column:
            return None
        of_rubric: dict[Any, str] = {rubric: criterion for criterion, rubric in self.criteria.items()}
        given = row.get(column, of_rubric.get(row.get("rubric")) if column == CRITERION_COLUMN else None)
        return key_of(given)

    def judge(
        self,
        prompts: Sequence[str],
        *,
        num_samples: int = 1,
        seed: int = 0,
        groups: Sequence[str | None] | None = None,
    ) -> list[Judgment]:
        """
        Judge complete prompts.

        Args:
            num_samples (`int`, *optional*, defaults to `1`):
                Completions for each, which are averaged.
            groups (`Sequence[str]`, *optional*):
                Of each, its [`Judge.group`]. By default all have the intervals of rows of any group.

        Returns:
            `list[Judgment]`: In the order of the prompts.
        """
        with torch.random.fork_rng(range(torch.cuda.device_count())):  # the caller's random numbers are left alone
            judged = dict(self.iterate(prompts, num_samples=num_samples, seed=seed, groups=groups))
        return [judged[row] for row in range(len(prompts))]

    def iterate(
        self,
        prompts: Sequence[str],
        *,
        num_samples: int = 1,
        seed: int = 0,
        groups: Sequence[str | None] | None = None,
    ) -> Iterator[tuple[int, Judgment]]:
        """As [`Judge.judge`], yielding `(index, judgment)` as they are finished, in any order."""
        check_num_samples(num_samples, self.engine.decoding.do_sample, self.engine.decoding.rationale)
        self.engine.check(prompts)
        samples: dict[int, list[Judgment]] = {}
        repeated = [prompt for prompt in prompts for _ in range(num_samples)]
        for index, judgment in self.engine.judge(repeated, seed=seed):
            row = index // num_samples
            samples.setdefault(row, []).append(judgment)
            if len(samples[row]) == num_samples:
                judgment = average_judgments(samples.pop(row), self.values)
                yield row, self.calibrated(judgment, groups[row] if groups else None)

    def calibrated(self, judgment: Judgment, group: str | None = None) -> Judgment:
        """A judgment by the judge's calibration, if it has one, with the interval of a row of `group`."""
        if self.calibration is None:
            return judgment
        return calibrated_judgment(judgment.raw or judgment, self.calibration, self.values, group)


def as_rows(rows: Any, field: str) -> list[Mapping[str, Any]]:
    """
    Rows out of a dataset, a stream, a table, a data frame, a list of mappings, or one mapping; classes by their names.

    Raises:
        `ValueError`: beginning with `field`, if they are those of several splits, no mappings, or two columns have one name.
    """
    check_one_split(rows, f"{field}: rows")
    if isinstance(rows, Mapping):
        return [rows]
    if isinstance(rows, pd.DataFrame):
        try:
            column_names(rows.columns)  # of which `to_dict` would take the last of two
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from error
        return rows.to_dict("records")
    if isinstance(rows, pa.Table) or (isinstance(rows, Dataset) and rows.format["type"] != "custom"):
        return list(iterate_table(rows))
    if isinstance(rows, IterableDataset):
        return list(map(reader_of(features_of(rows)), rows))
    rows = [rows] if isinstance(rows, str) else list(rows)
    if other := [row for row in rows if not isinstance(row, Mapping)]:
        found = f"a {type(other[0]).__name__}, {other[0]!r:.60}"
        raise ValueError(
            f"{field}: rows are mappings with the columns response, …, or prompt; found {found}. For texts alone, pass them as response=[…] "
            "or prompt=[…]."
        )
    return rows


def _rows_of(fields: Mapping[str, str | Sequence[str]]) -> list[Mapping[str, Any]]:
    """One row a response, single texts repeated."""
    given: dict[str, Any] = {
        name: value.tolist() if hasattr(value, "tolist") else value for name, value in fields.items()
    }
    lengths = {name: len(value) for name, value in given.items() if isinstance(value, Sequence)}
    lengths = {name: length for name, length in lengths.items() if not isinstance(given[name], str)}
    for name, value in given.items():
        if not isinstance(value, str) and name not in lengths:
            raise ValueError(f"{name}: got a {type(value).__name__}, {value!r:.60}. Give text, or a list of texts.")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"score: got lists of different lengths, {lengths}. Give one text for each response.")
    size = next(iter(lengths.values()), 1)
    return [{name: value[i] if name in lengths else value for name, value in given.items()} for i in range(size)]
