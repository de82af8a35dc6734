# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets in one canonical schema: `prompt` (text), `score` (float), `feedback` (text, optional), `score_histogram` (shares
of the labels, optional), `ratings` (one per rater, where asked for), `id` and `group` (text, optional), kept columns.

Nothing is dropped silently: rows that cannot be used are counted and the first of them are named, with reason and fix.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from real_trl.data.arguments import DataArguments
from real_trl.data.criteria import CriteriaReader
from real_trl.data.files import Source
from real_trl.data.missing import with_na
from real_trl.data.pairs import PairReader
from real_trl.data.raters import check_items, merge_raters, names_of_places
from real_trl.data.rows import RowReader, strip_score_sentence
from real_trl.data.sources import HoldOut, read_source
from real_trl.option_values import FieldError
from real_trl.prompts.answer import answer_text
from real_trl.prompts.template import PromptTemplate, load_template
from real_trl.scale import Scale
from real_trl.score_space import DEFAULT_MARKER
from real_trl.text.rationales import rationale_faults
from real_trl.text.shown import first_few, first_reasons

logger = logging.getLogger(__name__)


def load_judge_dataset(
    args: DataArguments,
    split: str | None = None,
    *,
    scale: Scale,
    require_feedback: bool | None = False,
    marker: str = DEFAULT_MARKER,
    keep_ratings: bool = False,
    pairs: bool = False,
) -> Dataset:
    """
    Loads one split in the canonical schema.

    Args:
        split (`str`, *optional*):
            Split name; `args.dataset_train_split` by default.
        scale ([`~real_trl.scale.Scale`]):
            Labels and values that the scores are on.
        require_feedback (`bool`, *optional*, defaults to `False`):
            Whether every row needs a rationale; `None`: if there is a column for it. A column that holds the score itself, or placeholders, is
            refused then (see [`~real_trl.text.rationales.rationale_faults`]).
        marker (`str`, *optional*, defaults to `"So the overall score is "`):
            What stands before the score; templates show it and rationales are cut before it.
        keep_ratings (`bool`, *optional*, defaults to `False`):
            Whether to keep what each rater said, where there are several.
        pairs (`bool`, *optional*, defaults to `False`):
            Whether rows are preferences between two responses (`args.pair_columns`); then the columns are those of
            [`~real_trl.data.pairs.PairReader`].

    Returns:
        [`~datasets.Dataset`] with the columns `prompt` (`str`), `score` (`float`), `feedback` (`str` or `None`,
        without the score sentence; the column is missing when no row has a rationale), `args.keep_columns`, and
        - with `raters: histogram` or a `histogram_column`, `score_histogram` (`list[float]`: the share of each label, in
          label order, of which `score` is the mean);
        - with `keep_ratings`, where `score` is the mean of several ratings in some row, `ratings` (`list[float]`);
        - with `id_column` or `group_column`, `id` or `group` (`str`; of several columns, the values joined with `/`);
        - with `criteria`, a row for each row and criterion: `criterion`, and `id` and `group` in any case (see
          [`~real_trl.data.criteria.CriteriaReader`]).

    Raises:
        `ValueError`: if the source, the split or a column does not exist, or rows cannot be used; the message names
        field, value, row (counted from 0) and line, and the fix.
    """
    if pairs and not args.pair_columns:
        said = " is not set, but preferences between two responses are trained on"
        raise FieldError("pair_columns", None, "Name the columns of both, e.g. [chosen, rejected].", said)
    if args.pair_columns and not pairs:
        said = f": got {args.pair_columns}, but scores are needed here, not preferences"
        raise FieldError(
            "pair_columns",
            args.pair_columns,
            "Set score_column instead; pairs are for sft, and for rl with reward: preference.",
            said,
        )
    split = split or args.dataset_train_split
    template = load_template(args.prompt_template) if args.prompt_template else None
    source = _read_split(args, split)
    if len(source) == 0:
        said = f"={args.dataset_name!r}: the split {split!r} is empty"
        raise FieldError("dataset_name", args.dataset_name, "Give it at least one row.", said)
    for note in source.notes:
        logger.warning(note)
    where = f"{source.name!r} (split {split!r})"
    return read_rows(source, args, template, where, scale, require_feedback, marker, keep_ratings)


def names_of_raters(args: DataArguments, split: str) -> list[str]:
    """Who has each place in the `ratings` of [`load_judge_dataset`] with `args.rater_column`; empty if places are nobody's, as of many raters."""
    source = with_na(_read_split(args, split).with_paths(args.named_columns), args.na or ())
    return names_of_places(source, source.column("rater_column", args.rater_column))


def _read_split(args: DataArguments, split: str) -> Source:
    holdout = None
    if args.holdout_fraction is not None:
        holdout = HoldOut(args.holdout_fraction, args.holdout_group, args.holdout_seed, args.holdout_split)
    return read_source(args.dataset_name, args.dataset_config, split, args.dataset_options, holdout)


def read_rows(
    source: Source,
    args: DataArguments,
    template: PromptTemplate | None,
    where: str,
    scale: Scale,
    require_feedback: bool | None = False,
    marker: str = DEFAULT_MARKER,
    keep_ratings: bool = False,
) -> Dataset:
    """
    The rows of one `source` in the canonical schema, as of [`load_judge_dataset`], whatever `args` says about where data are.

    Args:
        template ([`~real_trl.prompts.template.PromptTemplate`] or `None`):
            That of `args.prompt_template`.
        where (`str`):
            What errors call the rows.
    """
    source = source.with_paths(args.named_columns)
    told = len(source.notes)
    source = with_na(source, args.na or ())
    for note in source.notes[told:]:
        logger.warning(note)
    kind: Callable[..., Any] = CriteriaReader if args.criteria else PairReader if args.pair_columns else RowReader
    reader = kind(args, source, template, scale, require_feedback, marker, keep_ratings)
    if args.rater_column is not None:
        source = _one_row_per_item(source, args, reader)
    if args.max_rows is not None:
        source = source.select(range(min(args.max_rows, len(source))))

    rows: list[dict[str, Any]] = []
    problems: dict[str, list[str]] = {}
    for index, row in enumerate(source.iterate(reader.needed)):
        try:
            rows.extend(reader.read(row, source.where(index)))
        except ValueError as error:
            problems.setdefault(str(error), []).append(source.where(index))
    if problems:
        raise ValueError(_report(problems, where, len(source)))
    reader.check()
    if reader.require_feedback:
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
            raise ValueError(
                f"keep_columns={args.keep_columns}: the column {column!r} mixes types ({error}). Remove it."
            ) from error
    return Dataset.from_dict(columns)


def _one_row_per_item(source: Source, args: DataArguments, reader: RowReader | CriteriaReader | PairReader) -> Source:
    rater = source.column("rater_column", args.rater_column)
    if len(columns := reader.score_columns) > 1 and not args.criteria:
        fix = "Name the one that has the rating, or remove rater_column."
        raise FieldError("score_column", columns, fix, f"={columns} are several columns, where each row is one rating")
    if args.id_column is not None:
        check_items(source, args.id_column, reader.item, reader.shown)
    merged = merge_raters(source, rater, [*columns, *reader.feedback_columns], reader.item)
    if merged.repeated:
        logger.warning(
            f"rater_column={rater!r}: {merged.repeated} ratings are of items that the same rater had rated; all count."
        )
    return merged.source


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
        marker (`str`, *optional*, defaults to `"So the overall score is "`):
            What stands before the label.

    Returns:
        `str`: `f"{rationale} {marker}{label}"`, and `f"{marker}{label}"` for an empty rationale.
    """
    return answer_text(strip_score_sentence(feedback, marker), label, marker)


def _report(problems: Mapping[str, list[str]], where: str, total: int) -> str:
    """Lists the first reasons, each with its first rows and how many there are."""
    count = sum(len(rows) for rows in problems.values())
    lines = [f"{count} of {total} rows of {where} cannot be used (rows count from 0):"]
    return "\n".join(lines + first_reasons({reason: first_few(rows) for reason, rows in problems.items()}))
