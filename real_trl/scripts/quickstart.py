# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From nothing to a trained judge: the embedded task, a tiny model, and the stages of `recipes/quickstart/` one after the
other.

    real-trl quickstart --seeds 1

For each seed: an untrained model → base (plain SFT) → RAFT → REAL, each evaluated in and out of domain. Every stage is
the ordinary script with the ordinary recipe; only `seed` and the paths are overridden. Writes `summary.json`,
`results.txt` and `quickstart.png`.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from real_trl.data.homework import build_model, build_tokenizer
from real_trl.evaluation.registry import core_metrics
from real_trl.report import plot_quickstart, results_table, summarize_seeds
from real_trl.report.cells import is_doubtful
from real_trl.runs.command import command, user_errors
from real_trl.runs.output_lock import only_writer
from real_trl.runs.predictions import RESULT
from real_trl.scripts import evaluate, rl, sft
from real_trl.shipped import find_file
from real_trl.text.json_text import to_json
from real_trl.text.terminal import CleanConsole
from real_trl.versions import package_versions


@dataclass(frozen=True)
class Step:
    """
    One judge of a pipeline, trained by the recipe of its name.

    Args:
        stage (`Any`):
            Module of the stage that trains it.
        start (`str`):
            Name of the judge it starts from.
    """

    stage: Any
    start: str


QUICKSTART = {"base": Step(sft, "untrained"), "raft": Step(sft, "base"), "real": Step(rl, "raft")}


def run_seed(
    seed: int,
    recipes: Path,
    output: Path,
    console: CleanConsole,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Train and evaluate judges from one seed. A judge that has been evaluated in `output` is not trained again.

    Args:
        seed (`int`):
            Seed of the initial weights, of every stage and of the sampling in the evaluation.
        output (`Path`):
            Folder for this seed's judges and predictions.
        overrides (`Sequence[str]`, *optional*):
            Further command-line options for the training stages.

    Returns:
        `dict`: judge → split (`id`, `ood`) → inference (`standard`, `rail`) → metric → value, `doubtful` (1 where these are worth
        nothing) among them; `always_mean` beside the inferences has the errors of always answering the mean of the labels.
    """
    untrained = output / "untrained"
    task = yaml.safe_load((recipes / "base.yaml").read_text(encoding="utf-8"))["dataset_options"]
    scale = {"score_range": task["score_range"]} if "score_range" in task else {}
    build_model(seed=seed, **scale).save_pretrained(untrained)
    build_tokenizer(**scale).save_pretrained(untrained)
    summary: dict[str, Any] = {}
    for name, step in QUICKSTART.items():
        judge = output / name
        evaluation = judge / "evaluation" / "evaluation.json"
        if not evaluation.is_file():
            console.rule(f"seed {seed}: {name}")
            _train_and_evaluate(name, step, seed, recipes, output, console, overrides)
        results = json.loads(evaluation.read_text(encoding="utf-8"))["results"]
        summary[name] = {
            split: {kind: _figures(judges[name], kind) for kind in ("standard", "rail")} | _constant(judges[name])
            for split, judges in results.items()
        }
    return summary


def _figures(result: Mapping[str, Any], inference: str) -> dict[str, float]:
    """The metrics of the table, of which one that is undefined is null in JSON, and whether they are worth nothing."""
    found = result[inference]
    figures = {metric: math.nan if found[metric] is None else found[metric] for metric in core_metrics()}
    return figures | {"doubtful": float(is_doubtful(result, inference))}


def _constant(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """What always answering the mean of the labels reaches; nothing if the evaluation is from before that was computed."""
    return {"always_mean": dict(result["baseline"]["mean"])} if "baseline" in result else {}


def _train_and_evaluate(
    name: str, step: Step, seed: int, recipes: Path, output: Path, console: CleanConsole, overrides: Sequence[str]
) -> None:
    def run(stage: Any, recipe: str, model: Path, folder: Path, *options: str) -> None:
        paths = ["--model_name_or_path", str(model), "--output_dir", str(folder)]
        stage.main(["--config", str(recipes / f"{recipe}.yaml"), *paths, "--seed", str(seed), *options])

    started = time.perf_counter()
    judge = output / name
    run(step.stage, name, output / step.start, judge, *overrides)
    trained = time.perf_counter()
    run(evaluate, "evaluate", judge, judge / "evaluation")
    console.print(f"{name}: trained in {trained - started:.0f} s, evaluated in {time.perf_counter() - trained:.0f} s")


def _check_recipes(parser: argparse.ArgumentParser, recipes: Path) -> None:
    """Stop with a message if the folder lacks the recipe of a judge, or that of the evaluation."""
    missing = [name for name in (*QUICKSTART, "evaluate") if not (recipes / f"{name}.yaml").is_file()]
    if missing:
        parser.error(
            f"--recipes: {recipes} has no {missing[0]}.yaml; leave --recipes out, or give a folder that `real-trl recipes` lists"
        )


def make_parser() -> argparse.ArgumentParser:
    """The options. Others go to the training stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds (default: 1)")
    parser.add_argument(
        "--recipes",
        type=Path,
        default=Path("recipes/quickstart"),
        help="folder of the recipes (default: recipes/quickstart, of the package if there is none here)",
    )
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/quickstart"), help="where everything goes")
    return parser


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the quickstart; `argv` defaults to the command line."""
    parser = make_parser()
    args, overrides = parser.parse_known_args(argv)
    if args.seeds < 1:
        parser.error(f"--seeds: got {args.seeds}, must be at least 1")
    args.recipes = find_file(args.recipes)
    _check_recipes(parser, args.recipes)
    with ExitStack() as held:
        with user_errors():
            held.enter_context(only_writer(args.output_dir))
        run_seeds(args, overrides)


def run_seeds(args: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Everything, from the options of [`main`]."""
    # One thread is enough for so small a model, and its figures do not depend on the number of cores
    torch.set_num_threads(1)
    console = CleanConsole()
    started = time.perf_counter()
    summaries = [
        run_seed(seed, args.recipes, args.output_dir / f"seed-{seed}", console, overrides=overrides)
        for seed in range(args.seeds)
    ]
    summary = summaries[0] if args.seeds == 1 else summarize_seeds(summaries)
    first = args.output_dir / "seed-0"
    write_json(args.output_dir / "summary.json", mean_of(summary))
    write_json(
        args.output_dir / "run.json",
        {
            "seeds": list(range(args.seeds)),
            "per_seed": summaries,
            "overrides": overrides,
            "seconds": time.perf_counter() - started,
            "versions": package_versions(),
        },
    )
    table = results_table({{"base": "base"}.get(method, method.upper()): rows for method, rows in summary.items()})
    with (args.output_dir / "results.txt").open("w", encoding="utf-8") as file:
        CleanConsole(file=file, width=100).print(table)
    console.rule("results")
    console.print(table)
    console.print(
        f"Picture: {_picture(first, args.output_dir / 'quickstart.png')}\nFigures: {args.output_dir / 'summary.json'}\nJudge:   {first / 'real'}"
    )
    console.print(f"{args.seeds} seed(s) in {time.perf_counter() - started:.0f} s")


def _picture(seed: Path, path: Path) -> str:
    """Draw one seed's training and predictions, and say where; without matplotlib, why there is no picture."""
    state = json.loads((seed / "real" / "trainer_state.json").read_text(encoding="utf-8"))
    predictions = {
        method: pd.read_parquet(seed / method / "evaluation" / "predictions" / method / "ood" / RESULT)
        for method in ("raft", "real")
    }
    try:
        labels = {"raft": "RAFT", "real": "REAL"}
        return str(plot_quickstart({"real": state["log_history"]}, predictions, path, labels=labels))
    except ImportError as error:
        return f"none ({error})"


def mean_of(summary: Any) -> Any:
    """
    `summary` with the leaves of several seeds replaced by their means, and undefined values by `None`; the figures only, which
    `run.json` has with what they are worth.
    """
    if isinstance(summary, dict):
        return (
            mean_of(summary["mean"])
            if "values" in summary
            else {key: mean_of(value) for key, value in summary.items() if key not in ("doubtful", "always_mean")}
        )
    return summary if math.isfinite(summary) else None


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_json(content, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
