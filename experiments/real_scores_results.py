# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the experiment on real scores has found, as it is stored for the report: predictions of the test rows, and how they were made."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from real_trl.runs.output_lock import write_whole
from real_trl.text.json_text import to_json

# Of what a training logged last, what is stored
_LOGGED = ("train_loss", "num_tokens", "epoch", "score/squared_error", "reward", "completions/mean_length")


@dataclass(frozen=True)
class Cell:
    """
    One method on one fold.

    Args:
        task, method (`str`):
            Of [`TASKS`] and [`METHODS`].
        labels (`int` or `str`):
            Training rows, 0 for none, or `"all"`.
        fold (`int`):
            The fold, and the seed of everything in it.
    """

    task: str
    method: str
    labels: int | str
    fold: int


class Results:
    """
    What has been stored for the report, by this folder of cells or another.

    Args:
        path (`Path`, *optional*):
            See [`write_results`]. What is not there, or `None`, has no cells.

    Attributes:
        cells (`dict[Cell, tuple[pandas.DataFrame, dict]]`):
            Predictions of the test rows, and the record.
        validation_errors (`dict[str, dict[float, float]]`):
            `"task: method"` → learning rate → RMSE.
        versions (`dict[str, list[str]]`):
            Of packages.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.cells: dict[Cell, tuple[pd.DataFrame, dict[str, Any]]] = {}
        self.validation_errors: dict[str, dict[float, float]] = {}
        self.versions: dict[str, list[str]] = {}
        if path is None or not path.is_file():
            return
        told = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        key = [each.name for each in fields(Cell)]
        stored = {Cell(**{name: record[name] for name in key}): record for record in told["cells"]}
        frames = dict(list(pd.read_parquet(path).groupby(key, observed=True)))
        for cell, record in stored.items():
            found = frames[cell.task, cell.method, str(cell.labels), cell.fold].reset_index(drop=True)
            self.cells[cell] = found, {name: value for name, value in record.items() if name not in key}
        self.validation_errors = {
            name: {float(rate): error for rate, error in errors.items()}
            for name, errors in told["validation_rmse"].items()
        }
        self.versions = told["versions"]


def write_results(
    path: Path,
    found: Mapping[Cell, tuple[pd.DataFrame, Mapping[str, Any]]],
    validation_errors: Mapping[str, Mapping[float, float]],
    earlier_versions: Mapping[str, list[str]],
    made_with: Mapping[str, Any],
) -> None:
    """
    Write predictions to `path`, rounded to three digits, and beside it, in JSON, how they were made.

    Args:
        path (`Path`):
            A Parquet file, whose directory is made.
        found (`Mapping[Cell, tuple[pandas.DataFrame, Mapping]]`):
            Predictions of the test rows, and the record, with `versions` of packages if it was made now.
        validation_errors, earlier_versions:
            See [`Results`].
        made_with (`Mapping`):
            Stored as it is.
    """
    versions = {package: list(each) for package, each in earlier_versions.items()}
    frames, records = [], []
    for cell, (frame, record) in found.items():
        for package, version in record.get("versions", {}).items():
            versions.setdefault(package, []).append(version)
        logged = {name: value for name, value in record.get("logged", {}).items() if name in _LOGGED}
        frames.append(frame)
        records.append(
            {**vars(cell), **{name: value for name, value in record.items() if name != "versions"}, "logged": logged}
        )
    frame = pd.concat(frames, ignore_index=True)
    frame["probabilities"] = [
        None if each is None else np.round(each, 3).astype("float32") for each in frame["probabilities"]
    ]
    numbers = ["target", "expected_score", "sampled_score", "mass"]
    frame[numbers] = frame[numbers].round(3).astype("float32")
    names = {name: "category" for name in ("task", "method", "labels", "group")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, frame.astype(names | {"fold": "int8"}).to_parquet(compression="zstd", index=False))
    versions = {package: sorted(set(each)) for package, each in versions.items()}
    told = {**made_with, "validation_rmse": validation_errors, "cells": records, "versions": versions}
    write_whole(path.with_suffix(".json"), to_json(told, indent=1, ensure_ascii=True) + "\n")
