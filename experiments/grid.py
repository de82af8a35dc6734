# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A declared grid of runs: read, checked, and turned into one recipe for each run and seed."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from experiments.data import DATASETS

STAGES = ("sft", "rl")
# Starts of which no run is made: untrained models → range of their scores
UNTRAINED = {"untrained": "1-5", "untrained_0_100": "0-100"}
_KEYS = {"stage", "start", "rationales_from", "samples", "curves", "set", "data", "like", "recipe", "seeds"}


@dataclass(frozen=True)
class Run:
    """
    One judge of the grid, for every seed.

    Args:
        name (`str`):
            Its name.
        tier (`str`):
            The tier it belongs to.
        stage (`str`):
            `"sft"` or `"rl"`.
        start (`str`):
            The run whose judge it starts from, or an untrained model of [`UNTRAINED`].
        recipe (`str`):
            Name of its recipe.
        rationales_from (`str`, *optional*):
            The run whose judge writes the rationales to train on (TRACT), by `<recipe>_self_generate.yaml`.
        samples (`int`):
            Sampled rationales a row in the evaluation.
        curves (`bool`, *optional*, defaults to `False`):
            Evaluate during training too.
        set (`Mapping`, *optional*):
            Keys of the recipe to override; `None` removes one.
        data (`str`, *optional*):
            One of [`DATASETS`] to train on.
        seeds (`list[int]`, *optional*):
            Its seeds, where they are others than the grid's.
    """

    name: str
    tier: str
    stage: str
    start: str
    recipe: str
    samples: int
    rationales_from: str | None = None
    curves: bool = False
    set: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = None
    seeds: list[int] | None = None

    @property
    def needs(self) -> list[str]:
        """Runs that come before this one."""
        return [name for name in (self.start, self.rationales_from) if name is not None and name not in UNTRAINED]


@dataclass(frozen=True)
class Grid:
    """
    All runs, in the order in which they are run.

    Args:
        recipes (`Path`):
            Folder of the recipes.
        seeds (`list[int]`):
            Seeds of every run.
        rows, max_new_tokens (`int`):
            Evaluation: rows of each test split, longest completion.
        curves (`Mapping`):
            What recipes of runs with `curves` get.
        runs (`Mapping[str, Run]`):
            By name.
    """

    recipes: Path
    seeds: list[int]
    rows: int
    max_new_tokens: int
    curves: Mapping[str, Any]
    runs: Mapping[str, Run]

    @classmethod
    def load(cls, path: Path) -> "Grid":
        """
        Read a grid.

        Raises:
            `ValueError`: naming the run and the key, if one is unknown, missing, or refers to what does not exist.
        """
        declared = yaml.safe_load(path.read_text(encoding="utf-8"))
        recipes, evaluation = Path(declared["recipes"]), declared["evaluation"]
        entries: dict[str, dict[str, Any]] = {}
        runs: dict[str, Run] = {}
        for tier, members in declared["tiers"].items():
            for name, entry in members.items():
                if name in entries or name in UNTRAINED:
                    raise ValueError(f"{path}: {name} is the name of two runs. Rename one.")
                if unknown := sorted(set(entry) - _KEYS):
                    raise ValueError(f"{path}: {name} has an unknown key {unknown[0]!r}; known are {sorted(_KEYS)}.")
                entry = {"recipe": name, "samples": evaluation["samples"], **entry}
                if like := entry.pop("like", None):
                    if like not in entries:
                        raise ValueError(f"{path}: {name} is like {like!r}, which is no run above it.")
                    inherited = {
                        key: entries[like][key] for key in ("stage", "start", "recipe", "set") if key in entries[like]
                    }
                    own = {key: value for key, value in entry.items() if key != "recipe"}
                    entry = {**inherited, **own, "set": {**inherited.get("set", {}), **entry.get("set", {})}}
                entries[name] = entry
                run = runs[name] = Run(name=name, tier=tier, **entry)
                _check(path, run, runs, recipes)
        return cls(
            recipes=recipes,
            seeds=declared["seeds"],
            rows=evaluation["rows"],
            max_new_tokens=evaluation["max_new_tokens"],
            curves=declared["curves"],
            runs=runs,
        )

    def jobs(self, tiers: Collection[str], seeds: Collection[int] | None = None) -> list[tuple[int, Run]]:
        """Seeds and runs of these tiers, a seed after the other in each; with `seeds`, of these only."""
        jobs = []
        for tier in tiers:
            members = [run for run in self.runs.values() if run.tier == tier]
            every = sorted({seed for run in members for seed in run.seeds or self.seeds})
            for seed in every if seeds is None else seeds:
                jobs += [(seed, run) for run in members if seed in (run.seeds or self.seeds)]
        return jobs

    def recipe(self, run: Run, seed: int, folder: Path) -> dict[str, Any]:
        """The recipe of a run, complete, its outputs under `folder`."""
        content = yaml.safe_load((self.recipes / f"{run.recipe}.yaml").read_text(encoding="utf-8"))
        if run.rationales_from:
            content["dataset_name"] = str(folder / f"{run.name}_rationales")
        if run.data:
            content |= {
                "dataset_name": str(folder.parent / "data" / f"{run.data}.parquet"),
                "dataset_train_split": "train",
            }
            content.pop("dataset_options")
        content |= dict(self.curves) if run.curves else {}
        content |= {key: value for key, value in run.set.items() if not (run.data and key == "dataset_options")}
        content |= {
            "model_name_or_path": str(folder / run.start),
            "output_dir": str(folder / run.name),
            "seed": seed,
        }
        return {key: value for key, value in content.items() if value is not None or key in _NULLS}


# Keys for which null is a value of its own, not the default
_NULLS = ("max_length", "advantage_clip")


def _check(path: Path, run: Run, runs: Mapping[str, Run], recipes: Path) -> None:
    if run.stage not in STAGES:
        raise ValueError(f"{path}: {run.name}: stage {run.stage!r} is none of {STAGES}.")
    if missing := [name for name in run.needs if name not in runs]:
        raise ValueError(f"{path}: {run.name} needs {missing[0]!r}, which is no run above it.")
    if run.data is not None and run.data not in DATASETS:
        raise ValueError(f"{path}: {run.name}: data {run.data!r} is none of {sorted(DATASETS)}.")
    if not (recipes / f"{run.recipe}.yaml").is_file():
        raise ValueError(
            f"{path}: {run.name}: {recipes} has no {run.recipe}.yaml; run from the root of the repository."
        )
