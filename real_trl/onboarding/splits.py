# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Training, validation and test rows, every question in one of them only; and the files that hold them."""

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from real_trl.data.files import Source
from real_trl.data.sources import in_hash_order
from real_trl.evaluation.resampling import MIN_GROUPS as INTERVAL_GROUPS
from real_trl.text.cells import as_json
from real_trl.text.json_text import to_json

SHARES = {"test": 0.2, "validation": 0.1}
RATIONALES = "train_rationales"


def divide(keys: Sequence[str], own: Sequence[str] | None = None, seed: int = 0) -> list[str | None]:
    """
    The split of each row. Questions are ordered by a hash, and go to test and validation until these have their share of the
    rows, and the test as many questions as the evaluation needs for intervals, if that leaves half of questions and rows; the
    outcome does not depend on the order of the rows.

    Args:
        keys (`Sequence[str]`):
            Question of each row.
        own (`Sequence[str]`, *optional*):
            The split that the file itself puts each row in. Test and validation rows stay there, training rows whose question is
            in one of these are left out, and a missing split is taken from the training rows.

    Returns:
        `list[str | None]`: `"train"`, `"validation"`, `"test"`, or `None` for a row that is left out.
    """
    fixed: dict[str, str] = {}
    for split in ("validation", "test"):  # a question of both stays in the test
        fixed.update({key: split for key, given in zip(keys, own or (), strict=False) if given == split})
    placed = dict(fixed)
    sizes = Counter(keys)
    free = in_hash_order(set(keys) - set(fixed), seed)
    rows = sum(sizes[key] for key in free)
    for split, share in SHARES.items():
        if split in fixed.values():
            continue
        taken, questions = 0, 0
        wanted = INTERVAL_GROUPS if split == "test" and len(free) >= 2 * INTERVAL_GROUPS else 1
        while len(free) > 1 + (split == "test" and "validation" not in fixed.values()) and (
            taken == 0
            or taken + sizes[free[0]] / 2 < share * rows
            or (questions < wanted and taken + sizes[free[0]] <= rows / 2)
        ):
            key = free.pop(0)
            placed[key] = split
            taken += sizes[key]
            questions += 1
    placed |= dict.fromkeys(free, "train")
    return [
        placed[key] if given in (None, placed[key]) or key not in fixed else None
        for key, given in zip(keys, own or [None] * len(keys), strict=True)
    ]


def _as_json(value: Any) -> Any:
    try:
        return as_json(value)
    except TypeError:
        return str(value)  # of columns that no recipe reads


def write_splits(
    source: Source,
    splits: Sequence[str | None],
    keys: Sequence[str],
    rationales: Sequence[bool],
    folder: Path,
    group_column: str,
) -> dict[str, int]:
    """
    Write a JSONL file for each split, with the question of each row as `group_column`; and one of the training rows with a
    rationale, where not all of them have one. The rows are in a random order, the same for the same file: whoever reads the
    first rows of a file that was sorted by its scores would see one score only.

    Returns:
        `dict[str, int]`: Rows of each file, by the file's stem.
    """
    folder.mkdir(parents=True)
    parts: dict[str, list[dict[str, Any]]] = {name: [] for name in ("train", "validation", "test")}
    explained = []
    everything = list(zip(source.iterate(source.own_columns), splits, keys, rationales, strict=True))
    random.Random(0).shuffle(everything)
    for row, split, key, has in everything:
        if split is not None:
            written = {**row, group_column: key}
            parts[split].append(written)
            if has and split == "train":
                explained.append(written)
    if explained and len(explained) < len(parts["train"]):
        parts[RATIONALES] = explained
    for name, rows in parts.items():
        lines = (to_json(row, default=_as_json) for row in rows)
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return {name: len(rows) for name, rows in parts.items()}
