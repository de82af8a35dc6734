# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a row must hold that a judge is trained or evaluated on: one check, for datasets and for the rows of streams."""

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import mul
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, IterableDataset, LargeList, List, Value
from datasets.features.features import FeatureType

from real_trl.data.table_rows import features_of
from real_trl.scale import as_number
from real_trl.score_space import ScoreSpace

_ROWS_AT_ONCE = 1000
_NUMBERS = ("score", "score_histogram")
_PRECISIONS = {"float16": np.float16, "float32": np.float32}


def check_judge_dataset(dataset: Any, name: str, columns: Sequence[str], space: ScoreSpace) -> None:
    """
    Refuse a dataset that lacks one of `columns`, or has a row that [`check_row`] refuses, or completions of which none has the
    marker.

    Raises:
        ValueError: naming the dataset, the column, the row, its value and the fix. Rows of an `IterableDataset` are not
            read.
    """
    if dataset is None:
        return
    if isinstance(dataset, dict):
        for key, part in dataset.items():
            check_judge_dataset(part, f"{name}[{key!r}]", columns, space)
        return
    present = dataset.column_names or []
    check_columns(present, name, columns)
    if not isinstance(dataset, Dataset):
        return
    marked = False
    for index, row in enumerate(_rows(dataset, [*columns, "score_histogram"])):
        check_any_row(row, f"row {index}", name, columns, space)
        marked = marked or ("completion" in columns and has_marker(row, space))
    if "completion" in columns and len(dataset) and not marked:
        raise ValueError(
            f"{name}: the marker {space.marker!r} is in none of the {len(dataset)} completions, e.g. one that ends "
            f"{(last_text(dataset[0]['completion']) or '')[-80:]!r}. Set `score_marker` to the text that precedes the score in the "
            "completions, or build them with `real_trl.data.loading.build_completion`."
        )


def check_columns(present: Sequence[str], name: str, columns: Sequence[str]) -> None:
    """
    `ValueError` if one of `columns` is not among those that are `present`, or if there are images, which no judge here sees. Of a stream
    the columns may be unknown, an empty list.
    """
    for column in ("image", "images"):
        if column in present:
            raise ValueError(
                f"{name}: column {column!r} holds images, but judges here read text alone, so that they would be graded unseen. Remove the "
                "column, or describe in the prompt what it shows."
            )
    missing = [column for column in columns if column not in present]
    if missing and present:
        raise ValueError(
            f"{name}: no column {missing[0]!r}; it has {list(present)}. Rename the column, or load the data with "
            "`real_trl.data.loading.load_judge_dataset`, which makes the expected columns."
        )


def check_any_row(row: Mapping[str, Any], where: str, name: str, columns: Sequence[str], space: ScoreSpace) -> None:
    """[`check_row`], or [`check_pair`] if the data have the columns of pairs."""
    if "preference" in columns:
        check_pair(row, where, name)
    else:
        check_row(row, where, name, space)


def check_pair(row: Mapping[str, Any], where: str, name: str) -> None:
    """
    Refuse a row of a pair with an empty prompt, prompts of two forms, or a preference that is no number from 0 to 1.

    Args:
        row (`Mapping[str, Any]`):
            `prompt` and `other_prompt` (text or messages) and `preference`.
        where, name:
            As of [`check_row`].
    """
    preference = row["preference"]
    if not _is_number(preference) or not 0 <= preference <= 1:
        raise ValueError(
            f"{name}: column 'preference' is {preference!r} in {where}. Set it to 1 where the response of 'prompt' is better, 0 where that of "
            "'other_prompt' is, and 0.5 for a tie."
        )
    for column in ("prompt", "other_prompt"):
        _check_prompt(row, column, where, name)
    if isinstance(row["prompt"], list) != isinstance(row["other_prompt"], list):
        raise ValueError(
            f"{name}: columns 'prompt' and 'other_prompt' are text and a conversation in {where}. Make both the same."
        )


def check_row(row: Mapping[str, Any], where: str, name: str, space: ScoreSpace) -> None:
    """
    Refuse a row with an empty prompt, a score that is missing, not a finite number, or outside the scale, or a histogram that
    is none or has another mean.

    Args:
        row (`Mapping[str, Any]`):
            `prompt` (text or messages), `score`, and `score_histogram` if there is one.
        where (`str`):
            What an error calls the row: `row 3`, counted from 0.
        name (`str`):
            What an error calls the dataset: `train_dataset`.

    Raises:
        ValueError: naming the dataset, the column, the row, its value and the fix.
    """
    score = row["score"]
    if not _is_number(score) or not space.low <= score <= space.high:
        raise ValueError(
            f"{name}: column 'score' is {score!r} in {where}; the scale is {space.low:g} to {space.high:g} "
            f"(score_labels={space.scale}). Correct or remove the row, or change `score_labels`."
        )
    if "score_histogram" in row:
        _check_histogram(row["score_histogram"], score, where, name, space)
    _check_prompt(row, "prompt", where, name)


def _check_prompt(row: Mapping[str, Any], column: str, where: str, name: str) -> None:
    text = last_text(row[column])
    if not text or (isinstance(text, str) and not text.strip()):
        raise ValueError(f"{name}: column {column!r} is empty in {where}. Fill or remove the row.")


def read_numbers(dataset: Dataset | IterableDataset, name: str, space: ScoreSpace) -> Dataset | IterableDataset:
    """
    The dataset with `score` and `score_histogram` as numbers, where they are a `ClassLabel`, of which a trainer would see the codes,
    decimals, or numbers in half or single precision (see [`~real_trl.text.cells.plain`]); else the same dataset. Text stays text.

    Args:
        dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            The data. A stream whose features are not known is left alone.
        name (`str`):
            What an error calls it.
        space ([`ScoreSpace`]):
            Labels and values, which the names of classes are read by.

    Raises:
        ValueError: if a score is a class whose name says nothing on the scale; of a stream, when its row is read.
    """
    read = _NumberReader(
        {c: f for c, f in features_of(dataset).items() if c in _NUMBERS and _is_other(f)}, name, space
    )
    if not read.features:
        return dataset
    numbers = {column: _numeric(feature) for column, feature in read.features.items()}
    return dataset.map(read, with_indices=True, features=Features({**dataset.features, **numbers}))


class _NumberReader:
    """What is called with each row and its number."""

    def __init__(self, features: Mapping[str, FeatureType], name: str, space: ScoreSpace) -> None:
        self.features, self.name, self.scale = features, name, space.scale

    def __call__(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        return {column: self._number(row[column], of, column, index) for column, of in self.features.items()}

    def _number(self, cell: Any, feature: FeatureType, column: str, index: int) -> Any:
        if cell is None:
            return None
        if isinstance(cell, list):
            return [self._number(item, feature.feature, column, index) for item in cell]
        if not isinstance(feature, ClassLabel):
            precision = _PRECISIONS.get(feature.dtype)
            return as_number(precision(cell) if precision else cell)
        said = feature.names[cell] if 0 <= cell < len(feature.names) else None
        number = self.scale.read(said)
        if not self.scale.low <= number <= self.scale.high:
            raise ValueError(
                f"{self.name}: column {column!r} is {said!r} in row {index}, by the names of its ClassLabel, {', '.join(feature.names)}; the "
                f"scale is {self.scale}. Set `score_labels` (and `score_values`) to these names in order, or correct the row."
            )
        return number


def _is_other(feature: FeatureType) -> bool:
    """Whether cells of this feature are not the numbers that they say."""
    if isinstance(feature, (List, LargeList)):
        return _is_other(feature.feature)
    return isinstance(feature, ClassLabel) or (
        isinstance(feature, Value) and (feature.dtype in _PRECISIONS or feature.dtype.startswith("decimal"))
    )


def _numeric(feature: FeatureType) -> FeatureType:
    return List(_numeric(feature.feature)) if isinstance(feature, (List, LargeList)) else Value("float64")


def has_marker(row: Mapping[str, Any], space: ScoreSpace) -> bool:
    """Whether the marker is in the completion of `row`, text or messages, behind what it thinks."""
    text = last_text(row["completion"]) or ""
    start = space.thinking.answer_start(text)
    return start is not None and space.marker.rstrip() in text[start:]


def last_text(turn: Any) -> Any:
    """The text of a prompt or completion; of a conversation, its last message's."""
    return turn[-1].get("content") if turn and isinstance(turn, list) else turn


def _rows(dataset: Dataset, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows with those of `columns` that there are."""
    columns = [column for column in columns if column in dataset.column_names]
    for batch in dataset.select_columns(columns).iter(_ROWS_AT_ONCE):
        for cells in zip(*(batch[column] for column in columns), strict=True):
            yield dict(zip(columns, cells, strict=True))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_histogram(shares: Any, score: float, where: str, name: str, space: ScoreSpace) -> None:
    fault = None
    if not isinstance(shares, list) or len(shares) != len(space.labels):
        fault = f"which is no list of {len(space.labels)} shares, one for each of the labels {space.scale}"
    elif not all(_is_number(share) and share >= 0 for share in shares):
        fault = "which holds something else than numbers from 0 on"
    elif not math.isclose(math.fsum(shares), 1.0, abs_tol=1e-4):
        fault = f"which sums to {math.fsum(shares):g}, not to 1"
    elif abs((mean := math.fsum(map(mul, shares, space.values))) - score) > 1e-3 * (space.high - space.low):
        fault = f"whose mean is {mean:g}, while the column 'score' is {score:g}"
    if fault:
        raise ValueError(
            f"{name}: column 'score_histogram' is {shares} in {where}, {fault}. Correct the row, or load the data with "
            "`real_trl.data.loading.load_judge_dataset`, which makes both columns."
        )
