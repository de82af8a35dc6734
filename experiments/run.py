# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Run a grid of experiments: train every judge of it for every seed, and store what each says of the test rows.

    python -m experiments.run                       # experiments/paper.yaml, two runs at a time
    python -m experiments.run --tiers methods --seeds 0 1 --jobs 1 --results outputs/two-seeds

Every run is an ordinary stage with an ordinary recipe, written beside its outputs. A run that has its predictions is not run
again, so the same command goes on where it was stopped. At the end everything is collected in `experiments/results/`, for
`python -m experiments.report`.
"""

import argparse
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from experiments.data import DATASETS
from experiments.grid import UNTRAINED, Grid, Run
from experiments.store import PREDICTIONS, check_overwritten, collect
from real_trl.runs.output_lock import write_whole
from real_trl.text.json_text import to_json

RECIPE = "experiment.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the grid; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=Path, default=Path("experiments/paper.yaml"), help="the declared grid")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/paper"), help="where judges and logs go")
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="where the results go")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each (default: 2)")
    parser.add_argument("--tiers", nargs="+", help="only these tiers (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", help="only these seeds (default: those of the grid)")
    args = parser.parse_args(argv)
    try:
        grid = Grid.load(args.grid)
        tiers = list(dict.fromkeys(run.tier for run in grid.runs.values()))
        if unknown := set(args.tiers or ()) - set(tiers):
            raise ValueError(f"--tiers {sorted(unknown)[0]}: the grid has {', '.join(tiers)}.")
        if args.jobs < 1:
            raise ValueError(f"--jobs {args.jobs}: must be at least 1.")
        jobs = grid.jobs(args.tiers or tiers, args.seeds)
        _check_stored(grid, grid.jobs(tiers), args.output_dir)
        check_overwritten(grid, args.output_dir, args.results, {(run.name, seed) for seed, run in jobs})
    except (ValueError, OSError) as error:
        parser.error(str(error))
    _write_data(args.output_dir, {run.data for _, run in jobs if run.data})
    failed = _run_all(grid, jobs, args.output_dir, args.jobs)
    if failed:
        logs = "\n".join(f"  {args.output_dir}/seed-{seed}/{name}.log" for seed, name in failed)
        print(f"{len(failed)} run(s) failed:\n{logs}", file=sys.stderr)
    try:
        check_overwritten(grid, args.output_dir, args.results)
    except ValueError as error:  # runs that were planned have failed
        raise SystemExit(f"Not collected. {error}") from error
    collect(grid, args.output_dir, args.results)
    if failed:
        raise SystemExit(1)


def _check_stored(grid: Grid, jobs: Sequence[tuple[int, Run]], output: Path) -> None:
    """Refuses to mix runs of another grid with this one's."""
    for seed, run in jobs:
        folder = output / f"seed-{seed}"
        stored = folder / run.name / RECIPE
        if (folder / run.name / PREDICTIONS).is_file():
            made_with = yaml.safe_load(stored.read_text(encoding="utf-8"))
            if made_with != grid.recipe(run, seed, folder):
                raise ValueError(
                    f"{folder / run.name} was made with another recipe ({stored}). Remove it to run it again."
                )
            predicted = pd.read_parquet(folder / run.name / PREDICTIONS, columns=["row", "sample"])
            if (predicted["row"].max() + 1, predicted["sample"].max() + 1) != (grid.rows, run.samples):
                raise ValueError(
                    f"{folder / run.name} was evaluated on other rows or samples. Remove it to run it again."
                )
            for parent in (folder / name / PREDICTIONS for name in run.needs):
                if not parent.is_file() or parent.stat().st_mtime > stored.stat().st_mtime:
                    raise ValueError(
                        f"{folder / run.name} is older than what it started from, {parent.parent}. Remove it to run it again."
                    )


def _write_data(output: Path, names: set[str]) -> None:
    for name in sorted(names):
        path = output / "data" / f"{name}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        DATASETS[name]().to_parquet(path)


def _run_all(grid: Grid, jobs: Sequence[tuple[int, Run]], output: Path, workers: int) -> list[tuple[int, str]]:
    """Run what is missing, each run after those it needs; returns what failed, or could not start for that."""
    done = {
        (seed, name)
        for seed in {seed for seed, _ in jobs}
        for name in grid.runs
        if (output / f"seed-{seed}" / name / PREDICTIONS).is_file()
    }
    pending = [(seed, run) for seed, run in jobs if (seed, run.name) not in done]
    failed: list[tuple[int, str]] = []
    running: dict[Future, tuple[int, str]] = {}
    started = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # for the workers, before they load PyTorch
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        while pending or running:
            ready = [(seed, run) for seed, run in pending if all((seed, name) in done for name in run.needs)]
            for seed, run in ready[: workers - len(running)]:
                pending.remove((seed, run))
                running[pool.submit(run_one, grid, run, seed, output)] = (seed, run.name)
            if not running:
                failed += [(seed, run.name) for seed, run in pending]
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                seed, name = key = running.pop(future)
                error = future.exception()
                (failed.append if error else done.add)(key)
                print(
                    f"{time.perf_counter() - started:7.0f} s  seed {seed}  {name}: {error or 'done'}  "
                    f"({len(pending)} to go)",
                    flush=True,
                )
    return failed


def run_one(grid: Grid, run: Run, seed: int, output: Path) -> None:
    """
    Train and evaluate one judge, in this process.

    Args:
        grid ([`Grid`]):
            The grid.
        run ([`Run`]):
            The run.
        seed (`int`):
            Seed of the initial weights, of the training and of the sampling.
        output (`Path`):
            Folder of all runs.
    """
    from experiments.evaluate import predict
    from real_trl.data.homework import build_model, build_tokenizer
    from real_trl.scripts import rl, self_generate, sft

    folder = output / f"seed-{seed}"
    judge = folder / run.name
    shutil.rmtree(judge, ignore_errors=True)  # what a stopped run left
    judge.mkdir(parents=True)
    recipe = grid.recipe(run, seed, folder)
    (judge / RECIPE).write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    with logged(folder / f"{run.name}.log"):
        if run.start in UNTRAINED:
            scale = UNTRAINED[run.start]
            build_model(seed=seed, score_range=scale).save_pretrained(folder / run.start)
            build_tokenizer(score_range=scale).save_pretrained(folder / run.start)
        started = time.perf_counter()
        if run.rationales_from:
            options = {
                "model_name_or_path": folder / run.rationales_from,
                "output_dir": recipe["dataset_name"],
                "seed": seed,
            }
            shutil.rmtree(recipe["dataset_name"], ignore_errors=True)
            options = [part for key, value in options.items() for part in (f"--{key}", str(value))]
            self_generate.main(["--config", str(grid.recipes / f"{run.recipe}_self_generate.yaml"), *options])
        {"sft": sft, "rl": rl}[run.stage].main(["--config", str(judge / RECIPE)])
        trained = time.perf_counter()
        predictions = predict(
            judge,
            rows=grid.rows,
            samples=run.samples,
            max_new_tokens=grid.max_new_tokens,
            seed=seed,
            score_range=recipe.get("dataset_options", {}).get("score_range", "1-5"),
        )
        times: dict[str, Any] = {"train": trained - started, "evaluate": time.perf_counter() - trained}
        (judge / "seconds.json").write_text(to_json(times), encoding="utf-8")
        write_whole(judge / PREDICTIONS, predictions.to_parquet())  # what is there is taken for done


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Everything that is printed goes to a file, that of other threads and of a traceback too."""
    kept = os.dup(1), os.dup(2)
    with path.open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)


if __name__ == "__main__":
    main()
