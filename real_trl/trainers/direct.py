# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Training data of direct judges: completions of marker and score alone."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from real_trl.option_values import FieldError
from real_trl.prompts.format import answer_message
from real_trl.score_space import ScoreSpace
from real_trl.trainers.data_checks import RowsCheck


def has_rationales(dataset: Dataset | IterableDataset | None, space: ScoreSpace) -> bool:
    """Whether a completion of `dataset` has a rationale, or thinks, before its score; of a stream, whether the first one has."""
    if isinstance(dataset, Dataset) and "completion" in dataset.column_names:
        completions = dataset["completion"]
    else:
        completions = [row["completion"] for row in islice(dataset or (), 1) if "completion" in row]
    return not len(completions) or any(map(partial(_says_more, space), completions))


def no_rationales(space: ScoreSpace) -> RowsCheck:
    """The check that every completion is marker and score alone."""

    def check(rows: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> None:
        for row, place in zip(rows, places, strict=True):
            if "completion" in row and (said := _said(row["completion"], space)):
                where = f": got false, but the completion of {place} of {name} says {said!r:.60} before its score"
                raise FieldError(
                    "rationale", False, "Leave only marker and score in the completions, or set it to true.", where
                )

    return check


def _says_more(space: ScoreSpace, completion: Any) -> bool:
    try:
        return bool(_said(completion, space))
    except ValueError:  # what is wrong with a row is said elsewhere
        return False


def _said(completion: Any, space: ScoreSpace) -> str:
    message = answer_message(completion)
    content = message.pop("content")
    return space.rationale_of(content) or "".join(message.values()).strip()
