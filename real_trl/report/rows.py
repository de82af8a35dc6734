# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The predictions of all judges as one list of rows, in values that JSON knows: what the HTML page browses."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from real_trl.engines.base import Judgment
from real_trl.report.snippets import snippets

# Frame column: key in the page's data, of the numbers that a judgment has
_FIGURES = {
    "sampled_score": "sampled",
    "most_likely_score": "likely",
    "expected_score": "expected",
    "spread": "spread",
    "mass": "mass",
    "missing_mass": "missing",
    "prompt_tokens": "prompt_tokens",
    "num_tokens": "tokens",
    "entropy": "entropy",
}
_OWN = {"row", "id", "group", "target", "prompt", "ratings", "probabilities", *_FIGURES}


def browser_data(
    evaluation: Mapping[str, Any], predictions: Mapping[str, Mapping[str, pd.DataFrame]]
) -> dict[str, Any]:
    """
    What the page browses.

    Returns:
        `dict[str, Any]`: `datasets` (name → `labels`, `values`), `judges` (names), `prompts` (each text once) and `rows`:
        dataset, row, id, group, target, ratings, `kept` columns, `snippet`, and `judgments`, one of each judge or `None`,
        whose `prompt` is an index. Numbers have 6 significant digits; NaN, infinities and missing values are `None`.

    Raises:
        `ValueError`: If two judges' predictions of one row differ in id or target: they are of different data.
    """
    judges = list(dict.fromkeys(judge for frames in predictions.values() for judge in frames))
    prompts: dict[str, int] = {}
    own = _OWN | {field.name for field in fields(Judgment)} - {"interval", "raw"}  # which predictions do not have
    rows = []
    for dataset, frames in predictions.items():
        begins: dict[Any, str] = {}
        for frame in reversed(list(frames.values())):
            begins |= dict(zip(map(plain, frame["row"]), snippets(frame), strict=True))
        joined: dict[Any, dict[str, Any]] = {}
        for judge, frame in frames.items():
            kept = [column for column in frame.columns if column not in own]
            for record in frame.to_dict("records"):
                number = plain(record["row"])
                row = joined.setdefault(number, _row(dataset, number, record, kept, len(judges)))
                _check_same(row, record, dataset, judge)
                row["judgments"][judges.index(judge)] = _judgment(record, prompts)
        rows += [joined[number] | {"snippet": begins[number]} for number in sorted(joined)]
    datasets = {
        dataset: {"labels": list(map(str, about["labels"])), "values": list(map(plain, about["values"]))}
        for dataset, about in {**evaluation["datasets"], **evaluation.get("choices", {})}.items()
        if dataset in predictions
    }
    return {"datasets": datasets, "judges": judges, "prompts": list(prompts), "rows": rows}


def plain(value: Any) -> Any:
    """`value` in JSON's types: a number with 6 significant digits, undefined ones as `None`, anything unknown as text."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        value = float(value)
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return None if pd.isna(value) else str(value)


def _row(dataset: str, number: Any, record: Mapping[str, Any], kept: list[str], judges: int) -> dict[str, Any]:
    name = str(record.get("id", number))
    return {
        "dataset": dataset,
        "row": number,
        "id": name,
        "group": str(record.get("group", name)),
        "target": plain(record["target"]),
        "ratings": plain(record.get("ratings")),
        "kept": {column: plain(record[column]) for column in kept},
        "judgments": [None] * judges,
    }


def _check_same(row: Mapping[str, Any], record: Mapping[str, Any], dataset: str, judge: str) -> None:
    for key, value in (("id", str(record.get("id", row["row"]))), ("target", plain(record["target"]))):
        if row[key] != value:
            raise ValueError(
                f"Row {row['row']} of {dataset!r} has the {key} {value!r} in the predictions of {judge!r}, and {row[key]!r} "
                "in those of another judge: evaluate all judges on the same data."
            )


def _judgment(record: Mapping[str, Any], prompts: dict[str, int]) -> dict[str, Any]:
    # A missing text is NaN to pandas
    rationale, completion, prompt = (plain(record.get(key)) or "" for key in ("rationale", "completion", "prompt"))
    head, tail = _around(rationale, completion, plain(record.get("thinking")) or "")
    judgment = {key: plain(record.get(column)) for column, key in _FIGURES.items()}
    return judgment | {
        "status": str(record["status"]),
        "error": plain(record.get("error")),
        "prompt": prompts.setdefault(prompt, len(prompts)),
        "head": head,
        "rationale": rationale,
        "tail": tail,
        "p": plain(record.get("probabilities")),
    }


def _around(rationale: str, completion: str, thinking: str) -> tuple[str, str]:
    """What precedes the rationale in a completion, its thinking, and what follows it, the marker and the score."""
    if thinking and thinking in completion:
        start = completion.index(thinking) + len(thinking)
        if rationale in completion[start:]:
            start = completion.index(rationale, start)
            return completion[:start], completion[start + len(rationale) :]
    return "", completion.removeprefix(rationale)
