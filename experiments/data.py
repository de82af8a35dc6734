# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Training data for reinforcement learning that the embedded task does not have by itself."""

from collections.abc import Callable

from datasets import Dataset

from real_trl.data.homework import make_dataset

_SIZE = 1200
# Columns that the recipes read
_COLUMNS = ["orig_instruction", "orig_response", "orig_criteria", "orig_score"]


def exact_labels() -> Dataset:
    """The RL split with its exact scores: no rater's noise, and halves where the rubric gives them."""
    rows = make_dataset("rl", _SIZE)
    return rows.map(lambda row: {"orig_score": row["exact_score"]}).select_columns(_COLUMNS)


def mixed_difficulty() -> Dataset:
    """
    The RL split with a third of it easy and a third hopeless.

    In turn: a row as it is; a sheet with all or no points and its exact score, which a warm-started judge gives in nearly
    every completion; a sheet with a label from the far end of the scale, which no right reasoning reaches.
    """
    rows = make_dataset("rl", 4 * _SIZE)
    third = _SIZE // 3
    extreme = rows.filter(lambda row: row["exact_score"] in (1.0, 5.0))
    others = rows.filter(lambda row: row["exact_score"] not in (1.0, 5.0))
    ordinary = rows.select(range(third)).to_list()
    seen = {row["prompt"] for row in ordinary}
    mastered = [row | {"orig_score": row["exact_score"]} for row in extreme if row["prompt"] not in seen][:third]
    wrong = [
        row | {"orig_score": 1.0 if row["exact_score"] > 3 else 5.0} for row in others if row["prompt"] not in seen
    ][:third]
    mixed = [row for triple in zip(ordinary, mastered, wrong, strict=True) for row in triple]
    return Dataset.from_list(mixed).select_columns(_COLUMNS)


def pairs() -> Dataset:
    """
    As many comparisons as the RL split has scores: two sheets under one rubric, of which the rater calls the one better that got the higher
    of two noisy scores, or both equal.
    """
    rows = make_dataset("rl", 4 * _SIZE)
    found: list[dict[str, str]] = []
    waiting: dict[str, dict] = {}
    for row in rows:
        first = waiting.pop(row["rubric"], None)
        if first is None:
            waiting[row["rubric"]] = row
            continue
        better = "first" if first["score"] > row["score"] else "second" if first["score"] < row["score"] else "tie"
        responses = {"first": first["orig_response"], "second": row["orig_response"]}
        found.append(
            {name: row[name] for name in ("orig_instruction", "orig_criteria")} | responses | {"better": better}
        )
    return Dataset.from_list(found[:_SIZE])


DATASETS: dict[str, Callable[[], Dataset]] = {
    "exact_labels": exact_labels,
    "mixed_difficulty": mixed_difficulty,
    "pairs": pairs,
}
