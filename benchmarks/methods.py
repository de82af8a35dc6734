# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every method of the paper on the embedded task, from its ordinary recipe in `recipes/quickstart/`, over several seeds.

    python -m benchmarks.methods --seeds 3 --jobs 2

Starts are shared within a seed: SFT, RAFT and TRACT's second stage start from the same base model, all reinforcement
learning from the same RAFT judge. A judge that has been evaluated is not trained again, so an interrupted run goes on
where it was. Writes `summary.json`, `run.json` and `results.txt`.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich.console import Console

from real_trl.judge_config import package_versions
from real_trl.report import results_table, summarize_seeds
from real_trl.scripts import rl, sft
from real_trl.scripts.quickstart import QUICKSTART, Step, check_recipes, mean_of, run_seed, write_json

METHODS = {
    "base": QUICKSTART["base"],
    "sft": Step(sft, "base"),
    "raft": QUICKSTART["raft"],
    "tract": Step(sft, "base", rationales_from="raft"),
    "standard_rl": Step(rl, "raft"),
    "jepo": Step(rl, "raft"),
    "jepo_multi": Step(rl, "raft"),
    "real": QUICKSTART["real"],
    "real_released": Step(rl, "raft"),
}
TITLES = {
    "base": "base",
    "sft": "SFT",
    "raft": "RAFT",
    "tract": "TRACT",
    "standard_rl": "Standard RL",
    "jepo": "JEPO",
    "jepo_multi": "JEPO (multi-sample)",
    "real": "REAL",
    "real_released": "REAL (released code)",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--jobs", type=int, default=1, help="seeds run at a time, one thread each (default: 1)")
    parser.add_argument("--recipes", type=Path, default=Path("recipes/quickstart"), help="folder of the recipes")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/methods"), help="where everything goes")
    parser.add_argument("--only_seed", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.seeds < 1 or args.jobs < 1:
        parser.error(f"--seeds {args.seeds} --jobs {args.jobs}: both must be at least 1")
    check_recipes(parser, args.recipes, METHODS)
    torch.set_num_threads(1)
    console = Console()
    if args.only_seed is not None:
        run_seed(args.only_seed, args.recipes, args.output_dir / f"seed-{args.only_seed}", console, METHODS)
        return

    def run(seed: int) -> int:
        folder = args.output_dir / f"seed-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--recipes", str(args.recipes), "--output_dir", str(args.output_dir), "--only_seed", str(seed)]
        with (folder / "log.txt").open("a", encoding="utf-8") as log:
            command = [sys.executable, "-m", "benchmarks.methods", *options]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            return subprocess.run(command, stdout=log, stderr=log, env=environment, check=False).returncode

    started = time.perf_counter()
    with ThreadPoolExecutor(args.jobs) as pool:
        statuses = list(pool.map(run, range(args.seeds)))
    failed = [seed for seed, status in enumerate(statuses) if status]
    if failed:
        raise SystemExit(f"seeds {failed} failed; see {args.output_dir}/seed-{failed[0]}/log.txt")
    per_seed = [
        run_seed(seed, args.recipes, args.output_dir / f"seed-{seed}", console, METHODS) for seed in range(args.seeds)
    ]
    summary = per_seed[0] if args.seeds == 1 else summarize_seeds(per_seed)
    write_json(args.output_dir / "summary.json", mean_of(summary))
    seconds = time.perf_counter() - started
    write_json(
        args.output_dir / "run.json",
        {"seeds": args.seeds, "per_seed": per_seed, "seconds": seconds, "versions": package_versions()},
    )
    table = results_table({TITLES[name]: rows for name, rows in summary.items()})
    with (args.output_dir / "results.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(table)
    Console(width=max(console.width, 120)).print(table)  # wide: a narrow one would cut the figures off
    console.print(f"Figures: {args.output_dir / 'summary.json'}\n{args.seeds} seed(s) in {seconds:.0f} s")


if __name__ == "__main__":
    main()
