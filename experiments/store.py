# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The results of a grid in three small files, from which every table and figure is made."""

import json
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import yaml

from experiments.grid import Grid
from real_trl.text.json_text import to_json

PREDICTIONS = "experiment.parquet"


def check_overwritten(grid: Grid, output: Path, results: Path, planned: Collection[tuple[str, int]] = ()) -> None:
    """Refuses to replace stored results by fewer: those of `output`, and what is `planned` to be there."""
    path = results / "runs.json"
    if not path.is_file():
        return
    stored = json.loads(path.read_text(encoding="utf-8"))["runs"]
    pairs = {(name, int(seed)) for name, entry in stored.items() for seed in entry["seconds"]}
    there = {
        (name, seed)
        for name, run in grid.runs.items()
        for seed in run.seeds or grid.seeds
        if (output / f"seed-{seed}" / name / PREDICTIONS).is_file()
    }
    if lost := pairs - set(planned) - there:
        raise ValueError(
            f"--results: {results} holds {len(lost)} runs that are neither in {output} nor run now, such as {sorted(lost)[0]}. Give another "
            "folder, so that they are not lost."
        )


def collect(grid: Grid, output: Path, results: Path) -> None:
    """
    Join the outputs of all runs that are complete.

    Args:
        grid ([`Grid`]):
            The grid.
        output (`Path`):
            Folder of the runs.
        results (`Path`):
            Folder for `predictions.parquet` (those of [`~experiments.evaluate.predict`] with `run` and `seed`; ŷ and entropy
            rounded to three decimals), `training.parquet` (what the runs logged) and `runs.json` (recipes, seconds, versions).
    """
    predictions, training, runs, versions = [], [], {}, {}
    for name, run in grid.runs.items():
        for seed in run.seeds or grid.seeds:
            judge = output / f"seed-{seed}" / name
            if not (judge / PREDICTIONS).is_file():
                continue
            predictions.append(pd.read_parquet(judge / PREDICTIONS).assign(run=name, seed=seed))
            history = json.loads((judge / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
            training.append(pd.DataFrame(history).assign(run=name, seed=seed))
            seconds = json.loads((judge / "seconds.json").read_text(encoding="utf-8"))
            entry = runs.setdefault(name, {"tier": run.tier, "seconds": {}})
            entry["seconds"][seed] = {key: round(value, 1) for key, value in seconds.items()}
            if "recipe" not in entry:
                recipe = yaml.safe_load((judge / "experiment.yaml").read_text(encoding="utf-8"))
                paths = ("model_name_or_path", "output_dir", "dataset_name", "seed")
                entry["recipe"] = {key: value for key, value in recipe.items() if key not in paths}
                entry["start"] = run.start
            made_with = json.loads((judge / "judge_config.json").read_text(encoding="utf-8"))["versions"]
            versions |= {package: sorted({*versions.get(package, []), made_with[package]}) for package in made_with}
    if not predictions:
        return
    results.mkdir(parents=True, exist_ok=True)
    frame = pd.concat(predictions, ignore_index=True)
    frame[["expected", "entropy"]] = frame[["expected", "entropy"]].round(3)
    small = {"row": "int16", "sample": "int8", "seed": "int8", "tokens": "int16"}
    small |= {name: "float32" for name in ("target", "decoded", "expected", "entropy")}
    frame = frame.astype(small | {"run": "category", "split": "category"})
    frame.to_parquet(results / "predictions.parquet", compression="zstd", index=False)
    pd.concat(training, ignore_index=True).to_parquet(results / "training.parquet", compression="zstd", index=False)
    (results / "runs.json").write_text(
        to_json({"runs": runs, "versions": versions}, indent=1, ensure_ascii=True) + "\n", encoding="utf-8"
    )
