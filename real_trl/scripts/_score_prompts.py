# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the stage `score` asks a judge about the rows of a file."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.data.files import Source
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.integrations.prompt_fields import PromptFields, judge_template
from real_trl.judge_source import JudgeSource
from real_trl.prompts.template import checked_text, load_template
from real_trl.text.cells import is_empty
from real_trl.text.keys import key_of
from real_trl.text.shown import first_few, first_reasons, printable


class Fields(Protocol):
    """The options of `score` that say where the judge's fields are."""

    columns: dict[str, str]
    prompt_column: str | None
    prompt_template: str | None
    rubric: str | None
    reference: str | None
    criteria: dict[str, str]


def criteria_of(args: Fields, judge: JudgeSource) -> dict[str, str]:
    """Criterion → rubric, by each of which every row is scored; none where rows have another rubric, or complete prompts."""
    other = args.criteria or args.rubric or args.prompt_column or "rubric" in args.columns
    return args.criteria if other else judge.config.criteria


def make_prompts(args: Fields, judge: JudgeSource, source: Source, criteria: Mapping[str, str]) -> list[str]:
    """
    The complete prompt of every row, or those by all `criteria` of the first row, then of the second, ….

    Raises:
        `ValueError`: naming field, row and fix, if a prompt cannot be made, or if it is not clear how.
    """
    column = args.prompt_column
    source = source.with_paths([*args.columns.values(), *([column] if column else [])])
    template = load_template(args.prompt_template) if args.prompt_template else judge.config.template()
    stated = args.columns or args.rubric or args.reference or args.prompt_template or criteria
    if column is None and stated:
        template = template or judge_template(judge.config)
    if column is None and not stated and "prompt" in source.columns:
        if template is not None and template.column_of("response", source.columns):
            raise ValueError(
                "prompt_column: not set, and there are the columns 'prompt' and "
                f"{template.column_of('response', source.columns)!r}. If 'prompt' holds complete judge prompts, set prompt_column to "
                "prompt; if it is the instruction, set columns to {instruction: prompt}."
            )
        column = "prompt"
    if column is None and template is None:
        column = source.column("prompt_column", None, ("prompt",))
    if column is not None:
        source.column("prompt_column", column)

        def prompt_of(row: Mapping[str, Any]) -> str:
            return checked_text("prompt_column", row[column], f" {column!r}")

        asked = [prompt_of]
    else:
        texts = [{"rubric": rubric, "reference": args.reference} for rubric in criteria.values() or [args.rubric]]
        asked = [PromptFields(template, judge.space, args.columns, each, pairs=True).render for each in texts]
    prompts: list[str] = []
    problems: dict[str, list[str]] = {}
    for index, row in enumerate(source.iterate(column and [column])):
        try:
            prompts += [prompt_of(row) for prompt_of in asked]
        except ValueError as error:
            problems.setdefault(str(error), []).append(source.where(index))
    if problems:
        lines = [
            f"data: {sum(map(len, problems.values()))} of {len(source)} rows of {source.name!r} cannot be scored (rows count from 0):"
        ]
        lines += first_reasons({reason: first_few(where) for reason, where in problems.items()})
        raise ValueError("\n".join(lines))
    return prompts


def empty_responses(args: Fields, judge: JudgeSource, source: Source) -> str | None:
    """A sentence about the rows whose response is empty, if there are some: they are scored, though most judges never saw such a response."""
    template = load_template(args.prompt_template) if args.prompt_template else judge.config.template()
    if args.prompt_column or template is None:
        return None
    source = source.with_paths(list(args.columns.values()))
    column = template.column_of("response", source.columns, args.columns)
    if column not in source.columns:
        return None
    count = sum(is_empty(row[column]) for row in source.iterate([column]))
    if not count:
        return None
    return (
        f"{count} of {len(source)} rows have an empty response ({column!r}). The judge is asked about them all the same; what it says of them "
        "is worth no more than it learned about empty responses."
    )


def groups_of(calibration: Calibration | None, source: Source, criteria: Sequence[str]) -> Sequence[str | None]:
    """The group of every prompt by which the judge's calibration has intervals; none where the data do not say."""
    column = calibration and calibration.intervals.column
    if column == CRITERION_COLUMN and criteria:
        return list(criteria) * len(source)
    width = max(1, len(criteria))
    if not column or column not in source.columns:
        if column:
            print(printable(f"note: the data have no column {column!r}, so intervals are those of rows of any."))
        return [None] * len(source) * width
    cells = [key_of(row[column]) for row in source.iterate([column])]
    known = calibration.intervals.margins if calibration else {}
    if known and not known.keys() & set(cells):
        print(
            printable(
                f"note: none of the rows has one of the groups {first_few(list(known))} in {column!r} that the judge was calibrated with, so intervals "
                "are those of rows of any."
            )
        )
    return [cell for cell in cells for _ in range(width)]
