# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""One way in for a trainer's data: datasets are checked when the trainer is built, the rows of streams as they are read."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

from datasets import Dataset, IterableDataset

from real_trl.data.table_rows import check_one_split
from real_trl.option_values import FieldError
from real_trl.prompts.format import PromptFormat, answer_message, prompt_text
from real_trl.score_space import ScoreSpace
from real_trl.trainers.mixed_in import JudgeTrainer
from real_trl.trainers.row_checks import check_any_row, check_columns, check_judge_dataset, read_numbers

# Rows, what an error calls each of them (`row 3`), and the dataset's name
RowsCheck = Callable[[Sequence[Mapping[str, Any]], Sequence[str], str], None]
_ROWS_AT_ONCE = 1000
_SETTINGS = ("tools", "chat_template_kwargs")  # columns of chats, which a judge has one answer for


def one_dataset(dataset: Any, name: str) -> Any:
    """
    The dataset, or stream, whose rows are of Python's types whatever its format; `None` stays `None`. A "custom" format stays: it
    is a function of the user's, which makes the rows.

    Raises:
        `ValueError`: if it is something else, such as the datasets of several splits.
    """
    check_one_split(dataset, name)
    if dataset is not None and not hasattr(dataset, "column_names"):
        said = f": got a {type(dataset).__name__}"
        fix = "Give a `datasets.Dataset`, such as `Dataset.from_pandas(frame)` or `Dataset.from_list(rows)`, or what "
        fix += "`real_trl.data.loading.load_judge_dataset` loads."
        raise FieldError(name, dataset, fix, said)
    if isinstance(dataset, IterableDataset) or (
        isinstance(dataset, Dataset) and dataset.format["type"] not in (None, "custom")
    ):
        return dataset.with_format(None)
    return dataset


def checked_data(dataset: Any, name: str, columns: Sequence[str], space: ScoreSpace, *checks: RowsCheck) -> Any:
    """
    Refuse data that a judge cannot be trained on, see [`check_judge_dataset`] and `checks`, and read its numbers as what they say,
    see [`read_numbers`].

    Args:
        dataset ([`~datasets.Dataset`], [`~datasets.IterableDataset`] or a `dict` of them, *optional*):
            The data. A dataset is read here; a stream is not.
        name (`str`):
            What an error calls it: `train_dataset`.
        columns (`Sequence[str]`):
            Columns that it must have.
        checks (`Callable`):
            Called with rows, their places and `name`.

    Returns:
        The data, its rows of Python's types. Of a stream, one that makes the same checks of every row when it is read, before
        anything is done with the row. An error then names the row's number in the stream, from 0.

    Raises:
        `ValueError`: naming the dataset, the column, the row, its value and the fix.
    """
    if isinstance(dataset, dict):
        parts = {key: one_dataset(part, f"{name}[{key!r}]") for key, part in dataset.items()}
        return {key: checked_data(part, f"{name}[{key!r}]", columns, space, *checks) for key, part in parts.items()}
    dataset = one_dataset(dataset, name)
    if isinstance(dataset, (Dataset, IterableDataset)):
        check_columns(dataset.column_names or [], name, columns)
        dataset = read_numbers(dataset, name, space)
    check_judge_dataset(dataset, name, columns, space)
    if isinstance(dataset, IterableDataset):
        checked = _StreamCheck(name, columns, space, checks)
        return dataset.map(checked, with_indices=True, features=dataset.features)
    if isinstance(dataset, Dataset):
        present = [column for column in (*columns, *_SETTINGS) if column in dataset.column_names]
        rows = iter(dataset.select_columns(present))
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


def askable(prompt_format: PromptFormat) -> RowsCheck:
    """The check that a judge of that format can be asked every row's prompt, and could give its completion."""

    def check(rows: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> None:
        for row, place in zip(rows, places, strict=True):
            try:
                prompt_text(row, prompt_format, place)
                if "completion" in row:
                    answer_message(row["completion"], place)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error

    return check


def of_both_prompts(check: RowsCheck) -> RowsCheck:
    """A check of rows with `prompt`, made of `other_prompt` too."""

    def check_both(rows: Sequence[Mapping[str, Any]], places: Sequence[str], name: str) -> None:
        check(rows, places, name)
        others = [{**row, "prompt": row["other_prompt"]} for row in rows]
        check(others, [f"{place} (other_prompt)" for place in places], name)

    return check_both


class CheckedDataMixin(JudgeTrainer):
    """
    Every way into a trainer has the same checks: what it is built with, and what `evaluate` and `predict` are given. Expects
    `self.score_space`.
    """

    _check_data: Callable[[Any, str], Any]
    _in_evaluate = False

    def _checked_datasets(
        self, train_dataset: Any, eval_dataset: Any, columns: Sequence[str], *checks: RowsCheck
    ) -> tuple[Any, Any]:
        """What training and evaluation are to read, see [`checked_data`]; later data will be checked in the same way."""
        self._check_data = lambda data, name: checked_data(data, name, columns, self.score_space, *checks)
        return self._check_data(train_dataset, "train_dataset"), self._check_data(eval_dataset, "eval_dataset")

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in `Trainer`, with the checks of the trainer's own data; a name is that of a dataset that had them."""
        # `Trainer` calls this again for each dataset of a dict
        outermost, self._in_evaluate = not self._in_evaluate, True
        try:
            if outermost and eval_dataset is not None and not isinstance(eval_dataset, str):
                eval_dataset = self._check_data(eval_dataset, "eval_dataset")
            return super().evaluate(eval_dataset, *args, **kwargs)
        finally:
            self._in_evaluate = not outermost

    def predict(self, test_dataset: Any, *args: Any, **kwargs: Any) -> Any:
        """As in `Trainer`, with the same checks; rows that are tokens already have had them."""
        if "input_ids" not in (getattr(test_dataset, "column_names", None) or ()):
            test_dataset = self._check_data(one_dataset(test_dataset, "test_dataset"), "test_dataset")
        return super().predict(test_dataset, *args, **kwargs)


class _StreamCheck:
    """What is called with each row of a stream and its number. All rows must be of the form of the first that is read."""

    def __init__(self, name: str, columns: Sequence[str], space: ScoreSpace, checks: Sequence[RowsCheck]) -> None:
        self.name, self.columns, self.space, self.checks = name, columns, space, checks
        self.chat: bool | None = None

    def __call__(self, row: dict[str, Any], index: int) -> dict[str, Any]:
        place = f"row {index} of the stream"
        check_columns(list(row), f"{self.name}, {place}", self.columns)
        check_any_row(row, place, self.name, self.columns, self.space)
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
