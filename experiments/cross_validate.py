# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Cross-validate the methods on a language model and a file of scores: no judge sees a question that it was trained on.

    python -m experiments.cross_validate --dataset_name mt_bench_eval.json     # experiments/smollm2.yaml, two folds at a time

Every stage is an ordinary one with an ordinary recipe, written beside its outputs; what is complete is not run again, and
nothing is mixed with what another configuration, other recipes or other rows gave. At the end the predictions of all folds and
what the runs logged are stored; `python -m experiments.report` makes tables of them.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from real_trl.runs.output_lock import write_whole
from real_trl.text.json_text import to_json
from real_trl.versions import package_versions

BASE = "base"
_ALL = "all"
_KEYS = ("recipes", "model", "folds", "repeats", "group", "prompt", "max_prompt_characters", "judges")
_KEYS += ("rationales", "evaluation")
# What figures are made from; the rest of the predictions can be made again
COLUMNS = [
    "judge",
    "repeat",
    "fold",
    "id",
    "group",
    "target",
    "status",
    "sampled_score",
    "expected_score",
    "probabilities",
    "mass",
    "missing_mass",
    "num_tokens",
]


def main(argv: Sequence[str] | None = None) -> None:
    """Run all folds; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("experiments/smollm2.yaml"), help="what is run")
    parser.add_argument(
        "--dataset_name", type=Path, required=True, help="JSON list of rows with what the recipes read"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/smollm2-cv"), help="where judges and logs go")
    parser.add_argument(
        "--results", type=Path, default=Path("experiments/results/smollm2.parquet"), help="where the predictions go"
    )
    parser.add_argument("--jobs", type=int, default=2, help="folds at a time, one thread each (default: 2)")
    args = parser.parse_args(argv)
    try:
        config = read_config(args.config)
        rows = json.loads(args.dataset_name.read_text(encoding="utf-8"))
        folds = [fold for repeat in range(config["repeats"]) for fold in split(rows, config, repeat)]
        if not Path(config["model"], "config.json").is_file():
            raise ValueError(f"{args.config}: model {config['model']!r} is not there; see the head of the file.")
        recipes = {
            path.name: yaml.safe_load(path.read_text("utf-8")) for path in Path(config["recipes"]).glob("*.yaml")
        }
        made_with = {
            "config": config,
            "rows": hashlib.sha256(to_json(folds, ensure_ascii=True).encode()).hexdigest(),
            "recipes": recipes,
        }
        record = check_same(args.output_dir, args.results, made_with)
    except (ValueError, OSError, yaml.YAMLError) as error:
        parser.error(str(error))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    (args.output_dir / "made_with.json").write_text(to_json(made_with, indent=1), encoding="utf-8")
    for fold, test in enumerate(folds):
        folder = args.output_dir / f"fold-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        start = fold - fold % config["folds"]
        train = [row for part in folds[start : start + config["folds"]] if part is not test for row in part]
        for name, part in (("train", train), ("test", test)):
            write_whole(folder / f"{name}.json", to_json(part))
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before they load PyTorch
    with ProcessPoolExecutor(args.jobs, mp_context=get_context("spawn")) as pool:
        folders = [args.output_dir / f"fold-{fold}" for fold in range(len(folds))]
        outcomes = list(pool.map(run_fold, [config] * len(folds), folders))
    predictions, history = (pd.concat(frames, ignore_index=True) for frames in zip(*outcomes, strict=True))
    args.results.parent.mkdir(parents=True, exist_ok=True)
    predictions[COLUMNS].to_parquet(args.results, compression="zstd", index=False)
    history.to_parquet(training_path(args.results), compression="zstd", index=False)
    record.write_text(to_json({**made_with, "versions": package_versions()}, indent=1) + "\n", encoding="utf-8")
    print(f"{len(predictions)} predictions: {args.results}")


def read_config(path: Path) -> dict[str, Any]:
    """
    What is run.

    Raises:
        `ValueError`: naming the key that is missing, or whose number is too small.
    """
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    if missing := [key for key in _KEYS if key not in config]:
        raise ValueError(f"{path}: {missing[0]} is missing. Set it, as in experiments/smollm2.yaml.")
    for key, least in (("folds", 2), ("repeats", 1)):
        if config[key] < least:
            raise ValueError(f"{path}: {key}: got {config[key]}. Set it to {least} or more.")
    return config


def training_path(results: Path) -> Path:
    """Where what the runs logged is kept, beside the predictions."""
    return results.with_name(f"{results.stem}_training.parquet")


def check_same(output_dir: Path, results: Path, made_with: Mapping[str, Any]) -> Path:
    """
    The record beside `results`. `ValueError` if it, or `output_dir`, says that what is there was made with another configuration, other
    recipes or other rows.
    """
    record = results.with_suffix(".json")
    for path in filter(Path.is_file, (output_dir / "made_with.json", record)):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if any(stored.get(key) != value for key, value in made_with.items()):
            raise ValueError(
                f"{path} was written for another configuration, other recipes or other rows, with which nothing may be mixed. Choose another folder, "
                "or delete that one."
            )
    return record


def split(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any], repeat: int) -> list[list[Mapping[str, Any]]]:
    """
    The rows of each fold of a repeat, all rows of a question in one; every repeat has other folds.

    Raises:
        `ValueError`: if a row lacks its prompt or question, or if there are fewer questions than folds.
    """
    for column in (config["prompt"], config["group"]):
        for place, row in enumerate(rows):
            if column not in row:
                raise ValueError(
                    f"row {place} has no {column!r}, only {sorted(row)}. Correct prompt or group, or the row."
                )
    short = [row for row in rows if len(row[config["prompt"]]) <= config["max_prompt_characters"]]
    groups = sorted({row[config["group"]] for row in short})
    if len(groups) < config["folds"]:
        raise ValueError(
            f"{config['folds']} folds need as many questions, and {len(groups)} have prompts of "
            f"{config['max_prompt_characters']} characters at most."
        )
    random.Random(repeat).shuffle(groups)
    fold_of = {group: place % config["folds"] for place, group in enumerate(groups)}
    return [[row for row in short if fold_of[row[config["group"]]] == fold] for fold in range(config["folds"])]


def run_fold(config: Mapping[str, Any], folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Train every judge of a fold, in this process, and judge its test rows: predictions, and what the runs logged."""
    from real_trl.scripts import evaluate, rl, self_generate, sft

    recipes, judges = Path(config["recipes"]), {BASE: config["model"]}
    fold = int(folder.name.removeprefix("fold-"))
    repeat = fold // config["folds"]  # and the seed of everything in it
    for name, judge in config["judges"].items():
        judges[name] = str(folder / name)
        changes = {"model_name_or_path": judges[judge["start"]], "output_dir": judges[name], **judge.get("set", {})}
        if (folder / name / "judge_config.json").is_file():
            continue
        shutil.rmtree(folder / name, ignore_errors=True)  # what a stopped run left
        if source := judge.get("rationales_from"):
            rationales = {"model_name_or_path": judges[source], "output_dir": str(folder / f"{name}_rationales")}
            rationales |= config["rationales"]
            self_generate.main(write_recipe(recipes / f"{name}_self_generate.yaml", folder, repeat, rationales))
            changes["dataset_name"] = rationales["output_dir"]
        {"sft": sft, "rl": rl}[judge["stage"]].main(write_recipe(recipes / f"{name}.yaml", folder, repeat, changes))
    changes = {"judges": judges, "output_dir": str(folder / "evaluation"), "eval_splits": [_ALL]}
    changes |= {"dataset_name": str(folder / "test.json"), **config["evaluation"]}
    evaluate.main(write_recipe(recipes / "evaluate.yaml", folder, repeat, changes))
    frames, history = [], []
    for name in judges:
        frame = pd.read_parquet(folder / "evaluation" / "predictions" / name / _ALL / "predictions.parquet")
        frames.append(frame.assign(judge=name, repeat=repeat, fold=fold, id=[f"{fold}-{row}" for row in frame["row"]]))
    for name in config["judges"]:
        logged = json.loads((folder / name / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
        history.append(pd.DataFrame(logged).assign(judge=name, fold=fold))
    return pd.concat(frames, ignore_index=True), pd.concat(history, ignore_index=True)


def write_recipe(recipe: Path, folder: Path, seed: int, changes: Mapping[str, Any]) -> list[str]:
    """The recipe on the fold's training rows, with `changes`; returns the stage's command line."""
    content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    if "holdout_fraction" in content:
        content = {key: value for key, value in content.items() if not key.startswith("holdout_")}
        content["dataset_name"] = str(folder / "train.json")
    path = folder / recipe.name
    path.write_text(yaml.safe_dump({**content, "seed": seed, **changes}, allow_unicode=True), encoding="utf-8")
    return ["--config", str(path)]


if __name__ == "__main__":
    main()
