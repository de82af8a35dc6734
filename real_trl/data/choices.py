# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Questions of which several responses are compared, for a judge that scores single ones: each different prompt is judged once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from real_trl.data.pairs import PAIR_COLUMNS

TIES_SUBSET = "ties"
"""Subset of RewardBench 2, in any case of letters, in which several responses to a question are right."""


@dataclass(frozen=True)
class Choices:
    """
    What is judged, and what is compared.

    Attributes:
        responses ([`~datasets.Dataset`]):
            Each different prompt, in the canonical schema: `prompt`, `id`, `group`, and `score`, which is NaN.
        questions (`pandas.DataFrame`):
            `responses` (`list[int]`: their rows in the above), `id`, `group`, kept columns, and either `preference` (of pairs: for the
            first of both, from 0 to 1) or `num_correct` and `subset` (so many responses, the first ones, are right).
    """

    responses: Dataset
    questions: pd.DataFrame

    @property
    def column_names(self) -> list[str]:
        """The columns of the questions."""
        return list(self.questions)

    def __len__(self) -> int:
        return len(self.questions)


def make_choices(questions: Sequence[Mapping[str, Any]]) -> Choices:
    """
    Choices between prompts.

    Args:
        questions (`Sequence[Mapping]`):
            Each with `prompts` (`list[str]`) and the columns of [`Choices.questions`], of which `id` (default: the row's number) and `group`
            (default: questions that have a prompt in common, directly or through others, are one group) may be left out.
    """
    rows: dict[str, int] = {}
    found = []
    for number, question in enumerate(questions):
        columns = {name: value for name, value in question.items() if name != "prompts"}
        places = [rows.setdefault(prompt, len(rows)) for prompt in question["prompts"]]
        found.append({"responses": places, "id": str(number), **columns})
    table = pd.DataFrame(found)
    if "group" not in table:
        table["group"] = _shared(table["responses"], len(rows))
    groups = {row: group for places, group in zip(table["responses"], table["group"], strict=True) for row in places}
    columns = {"prompt": list(rows), "score": [float("nan")] * len(rows), "id": list(map(str, rows.values()))}
    columns["group"] = [groups[row] for row in rows.values()]
    return Choices(Dataset.from_dict(columns), table)


def choices_of_pairs(pairs: Dataset) -> Choices:
    """The choices of a dataset that [`~real_trl.data.pairs.PairReader`] has read."""
    first, second, _ = PAIR_COLUMNS
    return make_choices(
        [{"prompts": [row.pop(first), row.pop(second)], **row} for row in (dict(pair) for pair in pairs)]
    )


def _shared(responses: Sequence[Sequence[int]], n_responses: int) -> list[str]:
    """Number of the group of each question: those that share a response are one."""
    questions = np.repeat(np.arange(len(responses)), [len(each) for each in responses])
    columns = np.concatenate([np.asarray(each) for each in responses]) + len(responses)
    size = len(responses) + n_responses
    edges = coo_array((np.ones(len(columns)), (questions, columns)), shape=(size, size))
    return [str(part) for part in connected_components(edges, directed=False)[1][: len(responses)]]
