# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets in one canonical schema: `prompt` (text), `score` (float), `feedback` (text, optional), `score_histogram` (shares
of the labels, optional), `ratings` (one per rater, where asked for), `id` and `group` (text, optional), kept columns.

Nothing is dropped silently: rows that cannot be used are counted and the first of them are named, with reason and fix.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset

from real_trl.data.rows import RowReader, strip_score_sentence
from real_trl.data.sources import HoldOut, read_source
from real_trl.fields import check_numbers, shown
from real_trl.prompts.template import load_template
from real_trl.scale import Scale
from real_trl.score_space import DEFAULT_MARKER
from real_trl.text.rationales import rationale_faults

logger = logging.getLogger(__name__)

_SHOWN = 5  # how many reasons, and rows for each, an error message lists


@dataclass
class DataArguments:
    """
    What a recipe says about its data. The help of each field is in its metadata (`--help` shows it).

    Fields that hold a mapping accept a dict or, on the command line, a JSON string.

    Raises:
        `ValueError`: if a field has an impossible value, or two fields exclude each other.
    """

    dataset_name: str = field(
        metadata={
            "help": "Hub id, a .json / .jsonl / .csv / .parquet file, a directory with one such file per split "
            "(train.jsonl, test.jsonl) or written by save_to_disk, or 'synthetic', the embedded generator."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str = field(
        default="test", metadata={"help": "Split to evaluate on. 'all' is the whole of a single file."}
    )
    dataset_options: dict | str | None = field(
        default=None,
        metadata={
            "help": "Settings of the source: of the embedded generator (size, one number or a mapping from split to "
            "number; seed; rater_noise; ...), or keyword arguments of datasets.load_dataset (revision, data_files, "
            "cache_dir, ...)."
        },
    )
    prompt_column: str | None = field(
        default=None,
        metadata={"help": "Column that holds the complete prompt. Default: 'prompt', unless prompt_template is set."},
    )
    prompt_template: str | None = field(
        default=None,
        metadata={"help": "'feedback_collection', 'prometheus', or a .jinja file that makes the prompt from columns."},
    )
    columns: dict | str | None = field(
        default=None,
        metadata={
            "help": "For prompt_template: which column gives each variable, e.g. {instruction: question, response: "
            "answer}. The columns of Feedback-Collection, and columns called like the variable, are found without it."
        },
    )
    prompt_replace: dict | str | None = field(
        default=None,
        metadata={
            "help": "For complete prompts: old text -> new text, e.g. to turn the output format of a Prometheus "
            "prompt into the one with the score marker. Text that occurs in no prompt is an error."
        },
    )
    prompt_score_reminder: bool = field(
        default=False,
        metadata={
            "help": "End each prompt with a sentence that asks for the score after the marker (for base models)."
        },
    )
    # `str` comes second: the command line takes text, a recipe text or a list
    score_column: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Column with the score: a number, the text of a label, or a list of ratings. Several columns (a "
            "list, or text with commas) hold one rater each. Default: 'score', 'orig_score' or 'gpt4_score'."
        },
    )
    histogram_column: str | None = field(
        default=None,
        metadata={
            "help": "Instead of score_column: column with how many raters chose each label, in label order or as a "
            "mapping from label to count. The score is its mean. Default: 'score_histogram', where it exists."
        },
    )
    feedback_column: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Column with the rationale, or the list of the raters' rationales, or several columns of one "
            "rater each. Default: 'feedback', else 'orig_feedback', where they exist."
        },
    )
    raters: Literal["mean", "histogram", "separate"] = field(
        default="mean",
        metadata={
            "help": "What several ratings become: 'mean', one row with the mean score and no rationale; 'histogram', "
            "the same with the share of each label as 'score_histogram'; or 'separate', one row per rating with its "
            "rationale."
        },
    )
    keep_columns: list[str] | None = field(
        default=None, metadata={"help": "Columns that are passed through, e.g. a category."}
    )
    id_column: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Column, or several, that tell the rows apart: the column 'id' of the result. Default: none."
        },
    )
    group_column: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Column, or several, that rows about one question have in common: the column 'group' of the "
            "result, by which intervals are clustered. Default: none."
        },
    )
    holdout_fraction: float | None = field(
        default=None,
        metadata={"help": "Share of the groups that makes the 'test' split; the rest is 'train'. Default: none."},
    )
    holdout_group: str | None = field(
        default=None,
        metadata={
            "help": "Column, e.g. the question id, whose rows stay on one side of the hold-out split. Default: none."
        },
    )
    holdout_seed: int = field(default=0, metadata={"help": "Seed of the hold-out split."})
    holdout_split: str = field(
        default="train", metadata={"help": "Split of a Hub dataset or a directory that the hold-out split divides."}
    )
    max_rows: int | None = field(default=None, metadata={"help": "Use the first rows only. Default: all rows."})

    def __post_init__(self):
        for name in ("dataset_options", "columns", "prompt_replace"):
            setattr(self, name, as_mapping(name, getattr(self, name)))
        self.columns = {variable: str(column).strip() for variable, column in self.columns.items()}
        if isinstance(self.keep_columns, str):
            self.keep_columns = [self.keep_columns]
        if self.raters not in ("mean", "histogram", "separate"):
            raise ValueError(f"raters={self.raters!r} is unknown; use 'mean', 'histogram' or 'separate'.")
        if self.histogram_column and self.score_column:
            raise ValueError(
                f"histogram_column={self.histogram_column!r} and score_column={self.score_column!r} exclude each "
                f"other: the score of a histogram is its mean. Remove one."
            )
        if self.histogram_column and self.raters == "separate":
            raise ValueError(
                f"raters: separate needs one rating per rater, which histogram_column={self.histogram_column!r} does "
                f"not hold. Set score_column, or remove raters."
            )
        if self.prompt_column and self.prompt_template:
            raise ValueError(
                f"prompt_column={self.prompt_column!r} and prompt_template={self.prompt_template!r} exclude each "
                f"other: the first says that prompts are complete. Remove one."
            )
        if self.columns and not self.prompt_template:
            raise ValueError(f"columns={self.columns} needs prompt_template, whose variables it fills. Set it.")
        if self.prompt_replace and self.prompt_template:
            raise ValueError("prompt_replace is for complete prompts; edit a copy of the prompt_template instead.")
        if self.holdout_fraction is not None and not 0.0 < self.holdout_fraction < 1.0:
            raise ValueError(f"holdout_fraction={self.holdout_fraction} must be between 0 and 1, both excluded.")
        if self.holdout_group is not None and self.holdout_fraction is None:
            raise ValueError(f"holdout_group={self.holdout_group!r} needs holdout_fraction. Set it, e.g. to 0.2.")
        if self.max_rows is not None and self.max_rows < 1:
            raise ValueError(f"max_rows={self.max_rows} must be at least 1. Remove the field to use all rows.")
        check_numbers(self)


def load_judge_dataset(
    args: DataArguments,
    split: str | None = None,
    *,
    scale: Scale,
    require_feedback: bool = False,
    marker: str = DEFAULT_MARKER,
    keep_ratings: bool = False,
) -> Dataset:
    """
    Loads one split in the canonical schema.

    Args:
        args ([`DataArguments`]):
            Source, columns and prompt.
        split (`str`, *optional*):
            Split name; `args.dataset_train_split` by default.
        scale ([`~real_trl.scale.Scale`]):
            Labels and values that the scores are on.
        require_feedback (`bool`, *optional*, defaults to `False`):
            Whether every row needs a rationale, as supervised training does. A column that holds the score itself, or placeholders, is
            refused then (see [`~real_trl.text.rationales.rationale_faults`]).
        marker (`str`, *optional*, defaults to `"So the overall score is "`):
            What stands before the score; templates show it and rationales are cut before it.
        keep_ratings (`bool`, *optional*, defaults to `False`):
            Whether to keep what each rater said, where there are several.

    Returns:
        [`~datasets.Dataset`] with the columns `prompt` (`str`), `score` (`float`), `feedback` (`str` or `None`,
        without the score sentence; the column is missing when no row has a rationale), `args.keep_columns`, and
        - with `raters: histogram` or a `histogram_column`, `score_histogram` (`list[float]`: the share of each label, in
          label order, of which `score` is the mean);
        - with `keep_ratings`, where `score` is the mean of several ratings in some row, `ratings` (`list[float]`);
        - with `id_column` or `group_column`, `id` or `group` (`str`; of several columns, the values joined with `/`).

    Raises:
        `ValueError`: if the source, the split or a column does not exist, or rows cannot be used; the message names
        field, value, row (counted from 0) and line, and the fix.
    """
    split = split or args.dataset_train_split
    holdout = None
    if args.holdout_fraction is not None:
        holdout = HoldOut(args.holdout_fraction, args.holdout_group, args.holdout_seed, args.holdout_split)
    template = load_template(args.prompt_template) if args.prompt_template else None
    source = read_source(args.dataset_name, args.dataset_config, split, args.dataset_options, holdout)
    if len(source) == 0:
        raise ValueError(
            f"dataset_name={args.dataset_name!r}: the split {split!r} is empty. Give it at least one row."
        )
    if args.max_rows is not None:
        source = source.select(range(min(args.max_rows, len(source))))
    reader = RowReader(args, source, template, scale, require_feedback, marker, keep_ratings)

    rows: list[dict[str, Any]] = []
    problems: dict[str, list[str]] = {}
    for index, row in enumerate(source.iterate(reader.needed)):
        try:
            rows.extend(reader.read(row, source.where(index)))
        except ValueError as error:
            problems.setdefault(str(error), []).append(source.where(index))
    if problems:
        raise ValueError(_report(problems, f"{source.name!r} (split {split!r})", len(source)))
    reader.check_replacements()
    if require_feedback:
        _check_rationales([row["feedback"] for row in rows], reader.feedback_columns, scale)
    # The embedded task's prompt asks for nothing: its judges know from training what to write
    if template and template.name != "homework" and marker.strip() not in rows[0]["prompt"]:
        logger.warning(
            f"prompt_template={args.prompt_template!r} makes prompts that do not ask for the marker {marker!r}. Let the template "
            "show it ({{ marker }}), or set score_marker to what the prompt asks for ('[RESULT] ' for 'prometheus')."
        )
    rows = reader.without_empty_columns(rows)[: args.max_rows]
    columns = {column: [row[column] for row in rows] for column in rows[0]}
    for column in reader.keep:
        try:
            Dataset.from_dict({column: columns[column]})
        except (TypeError, ValueError, OverflowError) as error:
            where = f"keep_columns={args.keep_columns}: the column {column!r}"
            raise ValueError(f"{where} mixes types ({error}). Remove it.") from error
    return Dataset.from_dict(columns)


def _check_rationales(texts: Sequence[str], columns: Sequence[str], scale: Scale) -> None:
    """`ValueError` if a column of rationales holds none; where some rows have none, or all the same, it is said."""
    field = f"feedback_column {', '.join(map(repr, columns))}"
    for fault in rationale_faults(texts, scale.labels):
        if fault.fatal:
            raise ValueError(
                f"{field}: {fault}. A judge would be trained to write that before its score. Name the column with the rationales, or "
                "remove these rows."
            )
        logger.warning(f"{field}: {fault}. The judge is trained to write that before its score.")


def build_completion(feedback: str, label: str, marker: str = DEFAULT_MARKER) -> str:
    """
    Builds the text that a judge is trained to write: rationale, marker, label.

    Args:
        feedback (`str`):
            Rationale, with or without a score at its end (see [`~real_trl.data.rows.strip_score_sentence`]).
        label (`str`):
            Score label, e.g. `"4"`.
        marker (`str`, *optional*, defaults to `"So the overall score is "`):
            What stands before the label.

    Returns:
        `str`: `f"{rationale} {marker}{label}"`, and `f"{marker}{label}"` for an empty rationale.
    """
    return f"{strip_score_sentence(feedback, marker)} {marker}{label}".lstrip()


def as_mapping(name: str, value: Mapping | str | None) -> dict[str, Any]:
    """Reads a field that holds a mapping; text, as on the command line, is JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:  # nested too deep, or a number of thousands of digits
            raise ValueError(f"{name}={shown(value)} is not valid JSON ({error}). Give a mapping.") from error
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(f"{name}={shown(value)} must be a mapping, not a {type(value).__name__}.")
    return dict(value or {})


def _report(problems: Mapping[str, list[str]], where: str, total: int) -> str:
    """Lists the first reasons, each with its first rows and how many there are."""
    count = sum(len(rows) for rows in problems.values())
    lines = [f"{count} of {total} rows of {where} cannot be used (rows count from 0):"]
    for reason, rows in list(problems.items())[:_SHOWN]:
        more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
        lines.append(f"  {', '.join(rows[:_SHOWN])}{more}: {reason}")
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} other reasons")
    return "\n".join(lines)
