# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judges trained on real human scores without a rationale, beside what a user would pick instead.

    python -m experiments.real_scores --data DIR --model outputs/smollm2-135m/base     # experiments/real_scores.yaml
    python -m experiments.report

Cells are run in the order of the plan, one after the other on one core. A cell that has its predictions, in `--output_dir` or in
`--results`, is not run again, so the same command goes on where it was stopped, also in a new clone; after each, what is there is
stored for the report: the predictions of every test row, by row numbers (no texts), and beside them settings, chosen learning rates,
times and versions.

What it costs, on one core with AMX (bfloat16 with float32 masters; 2.4 s a step of 16 similarity rows of 28 tokens, 4 s of 16 answers of 65, of
which about 1.5 s do not depend on the tokens; float32 takes twice as long):

- baselines 5 minutes, zero-shot 8;
- learning rates 65 minutes: 9 trainings of 3 minutes (similarity) and 9 of 4.5;
- all labels 6 hours: 15 trainings of 8.5 minutes (similarity) and 30 of 7.5;
- the curve 3.5 hours: 75 minutes for 200 labels, 60 for 50, 75 for what 800 lack.
"""

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from experiments.cross_validate import check_same
from experiments.real_scores_baselines import BASELINES
from experiments.real_scores_data import TASKS, Fold, load_rows, make_fold
from experiments.real_scores_models import TRAINED, UNTRAINED, judge_untrained, predictions, train_and_judge
from experiments.real_scores_rationales import WITH_RATIONALES, train_with_rationales
from experiments.real_scores_results import Cell, Results, write_results
from experiments.run import logged
from real_trl.evaluation.metrics import score_metrics
from real_trl.runs.output_lock import only_writer, write_whole
from real_trl.runs.processes import end_with_parent
from real_trl.text.json_text import to_json
from real_trl.versions import package_versions

_CELLS_PER_PROCESS = 2
METHODS = (*BASELINES, *UNTRAINED, *TRAINED, *WITH_RATIONALES)


class Experiment:
    """
    The cells of a grid, each in files of its own.

    Args:
        grid (`Mapping`):
            The grid: its `settings` and `rationales`.
        rows (`Mapping[str, pandas.DataFrame]`):
            See [`load_rows`].
        base (`Path`):
            The model.
        output (`Path`):
            Folder of the cells.
        pool (`concurrent.futures.Executor`, *optional*):
            Where models are trained and asked. Defaults to this process, which holds on to memory of each training.
        earlier (`Results`, *optional*):
            What need not be run again. Defaults to nothing.
    """

    def __init__(
        self,
        grid: Mapping[str, Any],
        rows: Mapping[str, pd.DataFrame],
        base: Path,
        output: Path,
        pool: Executor | None = None,
        earlier: Results | None = None,
    ) -> None:
        self.earlier = earlier or Results()
        self.settings, self.rationales = grid["settings"], grid["rationales"]
        self.rows, self.base, self.output, self.pool = rows, base, output, pool

    def run(self, cell: Cell) -> None:
        """Run a cell that is not there, and before it what its learning rate is chosen by."""
        if cell.method in TRAINED:
            self._train(cell, self.rate(cell))
            return
        path, fold = self._path(cell), self.fold(cell)
        if path.is_file():
            return
        if cell.method in WITH_RATIONALES:
            options = (cell.fold, self.rationales, path.parent / "rationales")
            found, record = self._apart(path, train_with_rationales, cell.method, self.base, fold, *options)
        elif cell.method in UNTRAINED:
            options = (UNTRAINED[cell.method], self.settings)
            found, record = self._apart(path, judge_untrained, self.base, fold.test, *options)
        else:
            started = time.process_time()
            scores, chosen = BASELINES[cell.method](fold, self.settings)
            found, record = predictions(fold.test, scores), {"chosen": chosen, "seconds": _since(started)}
        self._store(path, {"test": found}, record)

    def fold(self, cell: Cell) -> Fold:
        """The rows of a cell."""
        return make_fold(self.rows, cell.task, cell.fold, self.settings).with_labels(cell.labels)

    def rate(self, cell: Cell) -> float:
        """The learning rate of a trained cell: that with the smallest RMSE on the validation rows."""
        errors = self.validation_errors(cell.task, cell.method)
        return min(errors, key=errors.__getitem__)

    def validation_errors(self, task: str, method: str) -> dict[float, float]:
        """RMSE of the expected score on the validation rows for every learning rate; what is not there is run."""
        cell, errors = self._tuned(task, method), {}
        if known := self.earlier.validation_errors.get(f"{cell.task}: {method}"):
            return known
        for rate in self.settings["tuning"]["learning_rates"]:
            self._train(cell, rate)
            found = pd.read_parquet(self._path(cell, rate))
            found = found[found["part"] == "validation"]
            errors[rate] = score_metrics(found["expected_score"], found["target"])["rmse"]
        return errors

    def _tuned(self, task: str, method: str) -> Cell:
        """Where the learning rates are tried; those of unseen answers, whose rows are the same, where those of unseen questions are."""
        task = "unseen_questions" if task == "unseen_answers" else task
        return Cell(task, method, self.settings["tuning"]["labels"], 0)

    def _train(self, cell: Cell, rate: float) -> None:
        path, fold = self._path(cell, rate), self.fold(cell)
        if path.is_file():
            return
        if (cell.labels, cell.fold) != (self.settings["tuning"]["labels"], 0):
            fold = Fold(fold.train, fold.validation[:0], fold.test)  # nothing is chosen by it
        options = (rate, cell.fold, self.settings, path.with_suffix(""))
        judged, record = self._apart(path, train_and_judge, cell.method, self.base, fold, *options)
        self._store(path, judged, {"rate": rate, "rows": len(fold.train), **record})

    def _apart(self, path: Path, function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, Any]]:
        """What `function` returns and its record, with the seconds; in a process of the pool, and what is printed in a file beside `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        job = (_timed, path.with_suffix(".log"), function, *arguments)
        return self.pool.submit(*job).result() if self.pool else job[0](*job[1:])

    def stored(self, cell: Cell) -> tuple[pd.DataFrame, dict[str, Any]] | None:
        """Predictions of the test rows and the record of a cell, or `None` if it, or what its rate is chosen by, is not there."""
        if cell in self.earlier.cells:
            return self.earlier.cells[cell]
        path = self._path(cell)
        if cell.method in TRAINED:
            tuned, rates = self._tuned(cell.task, cell.method), self.settings["tuning"]["learning_rates"]
            known = f"{tuned.task}: {tuned.method}" in self.earlier.validation_errors
            if not known and not all(self._path(tuned, rate).is_file() for rate in rates):
                return None
            path = self._path(cell, self.rate(cell))
        if not path.is_file():
            return None
        found = pd.read_parquet(path)
        found = found[found["part"] == "test"].drop(columns="part")
        names = {"task": cell.task, "method": cell.method, "labels": str(cell.labels), "fold": cell.fold}
        return found.assign(**names), json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))

    def _path(self, cell: Cell, rate: float | None = None) -> Path:
        name = f"{cell.method}-{rate:g}" if rate is not None else cell.method
        return self.output / cell.task / f"labels-{cell.labels}" / f"fold-{cell.fold}" / f"{name}.parquet"

    def _store(self, path: Path, parts: Mapping[str, pd.DataFrame], record: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = pd.concat([part.assign(part=name) for name, part in parts.items()], ignore_index=True)
        record = {**record, "versions": package_versions()}
        path.with_suffix(".json").write_text(to_json(record, indent=1) + "\n", encoding="utf-8")
        write_whole(path, frame.to_parquet())  # what is there is taken for done


def main(argv: Sequence[str] | None = None) -> None:
    """Run the grid; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with short_answers.csv and sentence_similarity/"
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--grid", type=Path, default=Path("experiments/real_scores.yaml"), help="the declared grid")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/real-scores"), help="where the cells go")
    parser.add_argument(
        "--results", type=Path, default=Path("experiments/results/real_scores.parquet"), help="for the report"
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="only these methods (default: all)")
    args = parser.parse_args(argv)
    try:
        grid = yaml.safe_load(args.grid.read_text(encoding="utf-8"))
        cells = list(cells_of(grid))
        rows = load_rows(args.data)
        if not (args.model / "config.json").is_file():
            raise ValueError(f"--model: {args.model} is no folder of a model; see the head of {args.grid}.")
        told = to_json({name: frame.to_dict("records") for name, frame in rows.items()}, ensure_ascii=True)
        made_with = {
            **{name: json.loads(to_json(grid[name])) for name in ("settings", "rationales")},
            "rows": hashlib.sha256(told.encode()).hexdigest(),
        }
        check_same(args.output_dir, args.results, made_with)
    except (ValueError, OSError, yaml.YAMLError) as error:
        parser.error(str(error))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(only_writer(args.output_dir))
        except ValueError as error:
            parser.error(str(error))
        with _workers() as pool:
            write_whole(args.output_dir / "made_with.json", to_json(made_with, indent=1))
            experiment = Experiment(grid, rows, args.model, args.output_dir, pool, Results(args.results))
            chosen = [cell for cell in cells if not args.methods or cell.method in args.methods]
            for place, cell in enumerate(chosen):
                if experiment.stored(cell):
                    continue
                started = time.perf_counter()
                experiment.run(cell)
                collect(experiment, cells, made_with, args.results)
                took = f"{time.perf_counter() - started:.0f} s"
                named = f"{cell.task}, {cell.method}, {cell.labels} labels, fold {cell.fold}"
                print(f"{place + 1} of {len(chosen)}: {named}: {took}", flush=True)
            collect(experiment, cells, made_with, args.results)


def _workers() -> ProcessPoolExecutor:
    """One process at a time, a new one after two cells: each training leaves more than a gigabyte in memory."""
    # For the workers, before they load PyTorch. One thread each; and memory that a step frees stays theirs, as its pages cost 0.5 s a step
    kept = {"OMP_NUM_THREADS": 1, "MALLOC_MMAP_THRESHOLD_": 8 << 30, "MALLOC_TRIM_THRESHOLD_": 16 << 30}
    for name, value in kept.items():
        os.environ.setdefault(name, str(value))
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=end_with_parent, max_tasks_per_child=_CELLS_PER_PROCESS
    )


def cells_of(grid: Mapping[str, Any]) -> Iterator[Cell]:
    """
    The cells in the order of the plan, each once.

    Raises:
        `ValueError`: naming what is unknown.
    """
    seen = set()
    for entry in grid["plan"]:
        for name, known in (("tasks", TASKS), ("methods", METHODS)):
            if unknown := sorted(set(entry[name]) - set(known)):
                raise ValueError(f"plan: {name}: {unknown[0]!r} is none of {', '.join(known)}.")
        for fold in entry["folds"]:
            if fold not in range(grid["settings"]["folds"]):
                raise ValueError(f"plan: folds: {fold} is none of the {grid['settings']['folds']} folds.")
            for labels in entry["labels"]:
                for task in entry["tasks"]:
                    for method in entry["methods"]:
                        cell = Cell(task, method, labels, fold)
                        if cell not in seen:
                            seen.add(cell)
                            yield cell


def collect(experiment: Experiment, cells: Sequence[Cell], made_with: Mapping[str, Any], path: Path) -> None:
    """Store for the report what is there, also of cells that the plan no longer has; see [`write_results`]."""
    found = {cell: stored for cell in cells if (stored := experiment.stored(cell)) is not None}
    found |= {cell: stored for cell, stored in experiment.earlier.cells.items() if cell not in found}
    errors = dict(experiment.earlier.validation_errors)
    for cell in found:
        if cell.method in TRAINED:
            errors[f"{cell.task}: {cell.method}"] = experiment.validation_errors(cell.task, cell.method)
    if found:
        write_results(path, found, errors, experiment.earlier.versions, made_with)


def _timed(log: Path, function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, Any]]:
    started = time.process_time()
    with logged(log):
        found, record = function(*arguments)
    return found, {**record, "seconds": _since(started)}


def _since(started: float) -> float:
    return round(time.process_time() - started, 1)


if __name__ == "__main__":
    main()
