# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""One way in for a trainer's data: datasets are checked when the trainer is built, the rows of streams as they are read."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from real_trl.score_space import ScoreSpace
from real_trl.trainers.judge_rows import check_columns, check_judge_dataset, check_row

# Rows, what an error calls each of them (`row 3`), and the dataset's name
RowsCheck = Callable[[Sequence[Mapping[str, Any]], Sequence[str], str], None]
_ROWS_AT_ONCE = 1000


def checked_data(dataset: Any, name: str, columns: Sequence[str], space: ScoreSpace, *checks: RowsCheck) -> Any:
    """
    Refuse data that a judge cannot be trained on: see [`check_judge_dataset`], and `checks`.

    Args:
        dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`] or a `dict` of them, *optional*):
            The data. A dataset is read here; a stream is not.
        name (`str`):
            What an error calls it: `train_dataset`.
        columns (`Sequence[str]`):
            Columns that it must have.
        space ([`ScoreSpace`]):
            Labels and values.
        checks (`Callable`):
            Called with rows, their places and `name`.

    Returns:
        The data. Of a stream, one that makes the same checks of every row when it is read, before anything is done with the row. An
        error then names the row's number in the stream, from 0.

    Raises:
        `ValueError`: naming the dataset, the column, the row, its value and the fix.
    """
    if isinstance(dataset, dict):
        return {key: checked_data(part, f"{name}[{key!r}]", columns, space, *checks) for key, part in dataset.items()}
    check_judge_dataset(dataset, name, columns, space)
    if isinstance(dataset, IterableDataset):
        check = _StreamCheck(name, columns, space, checks)
        return dataset.map(check, with_indices=True, features=dataset.features)
    if isinstance(dataset, Dataset):
        rows = iter(dataset.select_columns(list(columns)))
        for start in range(0, len(dataset), _ROWS_AT_ONCE):
            batch = list(islice(rows, _ROWS_AT_ONCE))
            places = [f"row {row}" for row in range(start, start + len(batch))]
            for check in checks:
                check(batch, places, name)
    return dataset


def targets_are_labels(space: ScoreSpace) -> RowsCheck:
    """The check that every target is the value of a label, as a reward for giving the right label needs."""

    def check(rows: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> None:
        for row, place in zip(rows, places, strict=True):
            if row["score"] not in space.values:
                raise ValueError(
                    f"{name}: column 'score' is {row['score']!r} in {place}, which is no label of {','.join(space.labels)}; "
                    "reward='accuracy' could never be earned. Round the scores, or use reward='regression'."
                )

    return check


class _StreamCheck:
    """What is called with each row of a stream and its number. All rows must be of the form of the first that is read."""

    def __init__(self, name: str, columns: Sequence[str], space: ScoreSpace, checks: Sequence[RowsCheck]) -> None:
        self.name, self.columns, self.space, self.checks = name, columns, space, checks
        self.chat: bool | None = None

    def __call__(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        place = f"row {index} of the stream"
        check_columns(list(row), f"{self.name}, {place}", self.columns)
        check_row(row, place, self.name, self.space)
        for column in [column for column in ("prompt", "completion") if column in self.columns]:
            chat = isinstance(row[column], list)
            self.chat = chat if self.chat is None else self.chat
            if chat != self.chat:
                found, wanted = ("a conversation", "text") if chat else ("text", "a conversation")
                raise ValueError(
                    f"{self.name}: column {column!r} is {found} in {place}, where {wanted} came before. A judge has one form of prompt: "
                    "make all rows the same."
                )
        for check in self.checks:
            check([row], [place], self.name)
        return row
