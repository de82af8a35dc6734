# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a recipe says about its data."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from real_trl.option_values import FieldError, MappingOption, as_mapping, check_numbers, mapping_option

CRITERION_COLUMN = "criterion"
"""Column of the result that says which of `criteria` a row is about."""


@dataclass
class DataArguments:
    """
    What a recipe says about its data. The help of each field is in its metadata (`--help` shows it).

    Fields that hold a mapping accept a dict or, on the command line, its YAML or JSON, or `name=value,name=value`.

    Raises:
        `ValueError`: if a field has an impossible value, or two fields exclude each other.
    """

    template_of_judge: ClassVar[bool] = False  # whether there is a judge, which may bring a prompt template

    dataset_name: str = field(
        metadata={
            "help": "Hub id, a .json / .jsonl / .csv / .tsv / .xlsx / .parquet file, a directory with one such file per split "
            "(train.jsonl, test.jsonl) or written by save_to_disk, or 'synthetic', the embedded generator."
        }
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a Hub dataset."})
    dataset_train_split: str = field(default="train", metadata={"help": "Split to train on."})
    dataset_test_split: str = field(
        default="test", metadata={"help": "Split to evaluate on. 'all' is the whole of a single file."}
    )
    dataset_options: MappingOption = mapping_option(
        "Settings of the source: of the embedded generator (size, one number or a mapping from split to "
        "number; seed; rater_noise; ...), or keyword arguments of datasets.load_dataset (revision, data_files, "
        "cache_dir, ...)."
    )
    prompt_column: str | None = field(
        default=None,
        metadata={"help": "Column that holds the complete prompt. Default: 'prompt', unless prompt_template is set."},
    )
    prompt_template: str | None = field(
        default=None,
        metadata={
            "help": "'feedback_collection', 'direct', 'direct_criteria', 'prometheus', or a .jinja file that makes the prompt from columns."
        },
    )
    columns: MappingOption = mapping_option(
        "For prompt_template: which column gives each variable, e.g. instruction=question,response=answer, or in a recipe "
        "{instruction: question, response: answer}. A path leads into nested cells: {instruction: data.question} (see real_trl/data/nested.py). The columns of Feedback-Collection, and columns called like the variable, are found without it."
    )
    prompt_replace: MappingOption = mapping_option(
        "For complete prompts: old text -> new text, e.g. to turn the output format of a Prometheus "
        "prompt into the one with the score marker. Text that occurs in no prompt is an error."
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
            "list, or text with commas) hold one rater each, of whom some may have given none. Default: 'score', 'orig_score' or 'gpt4_score'."
        },
    )
    criteria: MappingOption = mapping_option(
        "Instead of score_column, where rows have scores by several criteria: column with the score -> the rubric, e.g. "
        "{helpfulness: 'Is it helpful?', correctness: 'Is it right?'}. Each score becomes a row, with its criterion's rubric in the "
        "prompt and the column 'criterion'; a missing one is left out. All criteria are on one scale."
    )
    pair_columns: list[str] | str | None = field(
        default=None,
        metadata={
            "help": "Instead of score_column, where rows say which of two responses is better: the columns of both responses, the better one "
            "first, e.g. [chosen, rejected]; of conversations [chosen.response, rejected.response]. For evaluate, rl with reward: preference, or a direct judge by sft."
        },
    )
    preference_column: str | None = field(
        default=None,
        metadata={
            "help": "With pair_columns, the column that says which is better: the name of its column, A or B, 1 or 2, 'tie', 0 or 1 for response_0 and "
            "response_1, or in all rows the share of raters who prefer the first, from 0 to 1. Default: the first always is."
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
    rater_column: str | None = field(
        default=None,
        metadata={
            "help": "Column that says who gave the rating, where each row is one rating: rows with the same id_column, or "
            "else the same prompt, become one row with several ratings. Default: none."
        },
    )
    na: list[str] | str | None = field(
        default=None, metadata={"help": "Texts that mean a missing cell, e.g. [N/A, '-']. Default: blank ones only."}
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
            "result, by which intervals are clustered. Default: none; evaluate and calibrate take 'group', or the instruction."
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
    max_rows: int | None = field(
        default=None,
        metadata={"help": "Use the first rows only; also --limit. Default: all rows.", "aliases": ["--limit"]},
    )

    def __post_init__(self):
        for name in ("dataset_options", "columns", "criteria", "prompt_replace"):
            setattr(self, name, as_mapping(name, getattr(self, name)))
        self.columns = {variable: str(column).strip() for variable, column in self.columns.items()}
        for name in ("keep_columns", "na"):
            if isinstance(getattr(self, name), str):
                setattr(self, name, [getattr(self, name)])
        if self.raters not in ("mean", "histogram", "separate"):
            raise FieldError("raters", self.raters, "Set it to one of: mean, histogram, separate.")
        self._check_criteria()
        self._check_pairs()
        separate = self.raters == "separate" and self.histogram_column
        for name, clashes, fix in (
            (
                "histogram_column",
                self.score_column,
                "Remove it or score_column: the score of a histogram is its mean.",
            ),
            (
                "raters",
                separate,
                "A histogram has no ratings of single raters. Remove raters, or set score_column instead.",
            ),
            ("rater_column", self.histogram_column, "Remove it, or histogram_column: a histogram has all ratings."),
            (
                "rater_column",
                self.holdout_fraction is not None and not self.holdout_group,
                "Set holdout_group to a column that the rows about one item have in common: else its ratings are on both sides.",
            ),
            ("prompt_column", self.prompt_template, "Remove it, or prompt_template: its prompts are complete."),
            ("columns", self._lacks_template, "Set prompt_template, whose variables it fills."),
            ("prompt_replace", self.prompt_template, "Remove it, and edit a copy of prompt_template instead."),
            ("holdout_group", self.holdout_fraction is None, "Set holdout_fraction as well, e.g. to 0.2."),
        ):
            if clashes and getattr(self, name):
                raise FieldError(name, getattr(self, name), fix)
        check_numbers(self)

    def _check_criteria(self) -> None:
        if not self.criteria:
            return
        self.criteria = {column.strip(): text for column, text in self.criteria.items()}
        for column, text in self.criteria.items():
            if not isinstance(text, str) or not text.strip():
                said = f": {column!r} has the rubric {text!r:.60}"
                raise FieldError("criteria", self.criteria, "Say in a text what it is about.", said)
        if self._lacks_template:
            fix = "Set it, e.g. to direct_criteria: the rubric of a criterion is a part of the prompt."
            raise FieldError("prompt_template", None, fix)
        for name in ("score_column", "histogram_column"):
            if getattr(self, name):
                raise FieldError(name, getattr(self, name), "Remove it, or criteria, whose columns hold the scores.")
        if "rubric" in self.columns:
            raise FieldError("columns", self.columns, "Remove rubric, or criteria, which has the rubrics.")
        if CRITERION_COLUMN in (self.keep_columns or ()):
            fix = f"Remove {CRITERION_COLUMN!r}, which with criteria is a column of the result."
            raise FieldError("keep_columns", self.keep_columns, fix)

    def _check_pairs(self) -> None:
        if isinstance(self.pair_columns, str):
            self.pair_columns = [column.strip() for column in self.pair_columns.split(",")]
        if not self.pair_columns:
            if self.preference_column:
                raise FieldError("preference_column", self.preference_column, "Set pair_columns as well.")
            return
        if len(self.pair_columns) != 2 or len(set(self.pair_columns)) != 2:
            raise FieldError("pair_columns", self.pair_columns, "Name two columns, e.g. [chosen, rejected].")
        if self._lacks_template:
            fix = "Set it, e.g. to direct or feedback_collection: the response is a part of the prompt."
            raise FieldError("prompt_template", None, fix)
        if "response" in self.columns:
            fix = "Remove response, or pair_columns, which has the responses."
            raise FieldError("columns", self.columns, fix)
        others = ("score_column", "criteria", "histogram_column", "feedback_column", "rater_column")
        for name in others:
            if getattr(self, name):
                raise FieldError(name, getattr(self, name), "Remove it, or pair_columns, whose rows have no score.")

    @property
    def _lacks_template(self) -> bool:
        return not self.prompt_template and not self.template_of_judge

    @property
    def named_columns(self) -> list[str]:
        """All texts that name a column, or may."""
        named = [*self.columns.values(), *(self.keep_columns or ()), *self.criteria]
        for value in (
            *(self.prompt_column, self.score_column, self.histogram_column, self.feedback_column),
            *(self.rater_column, self.id_column, self.group_column, self.pair_columns, self.preference_column),
        ):
            named += [value, *value.split(",")] if isinstance(value, str) else value or ()
        return [name.strip() for name in named]
