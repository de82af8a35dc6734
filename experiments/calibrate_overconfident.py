# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What a calibration does to a judge that is made overconfident on purpose: its real distributions on real human scores, to the fourth power.

    python -m experiments.calibrate_overconfident            # a minute or two, no model

The distributions are those of `experiments/results/real_scores.parquet`. Two answers for each judge: what `real-trl calibrate` itself shows
(every question predicted by what was fitted without it), and the means over splits of the questions in halves, of which one is fitted on
and the other is not touched before it is predicted. Both are stored in `experiments/results/calibrate.json`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

from real_trl.evaluation.cross_fitting import fit_calibration
from real_trl.evaluation.judge_calibration import ScoredRows
from real_trl.evaluation.recalibration import grouped_folds
from real_trl.report.calibration_text import calibration_sheets, calibration_text
from real_trl.report.terminal_tables import EvaluationTable
from real_trl.text.terminal import CleanConsole

VALUES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
JUDGES = (("unseen_questions", "zero_shot", 0), ("similarity", "raft", 800))
"""Task, method and training labels. The first is a poor judge of 79 questions, which are of 12 assignments; the second a good one of single rows."""


def overconfident(results: pd.DataFrame, task: str, method: str, labels: int, power: float) -> ScoredRows:
    """The rows of one judge, its distributions to a power. Seeds of `similarity` share their test rows: the first of them."""
    rows = results[(results["task"] == task) & (results["method"] == method) & (results["labels"] == str(labels))]
    rows = rows.sort_values("fold", kind="stable").drop_duplicates("id")
    p = np.stack(rows["probabilities"].to_list()) ** power
    questions = rows["group"].to_numpy(dtype=str)
    assignments = np.array([question.split(".")[0] for question in questions]) if task == "unseen_questions" else None
    return ScoredRows(p / p.sum(axis=1, keepdims=True), rows["target"].to_numpy(float), questions, assignments)


def halves(rows: ScoredRows, column: str | None, coverage: float, splits: int) -> pd.DataFrame:
    """Figures of the half that was not used, a row a split."""
    found = []
    for seed in range(splits):
        used = grouped_folds(rows.questions, 2, seed) == 0
        figures = fit_calibration(rows.of(used), VALUES, coverage=coverage, column=column, seed=seed).figures(
            rows.of(~used), VALUES
        )
        by_group = [each["coverage"] for each in figures.get("groups", ())]
        names = ("crps before", "crps after", "rmse before", "rmse after")
        both = dict(zip(names, [*figures["crps"], *figures["rmse"]], strict=True))
        worst = {"lowest of a group": min(by_group), "highest": max(by_group)} if by_group else {}
        found.append({**both, "coverage": figures["coverage"], "width": figures["width"], **worst})
    return pd.DataFrame(found)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("experiments/results/real_scores.parquet"))
    parser.add_argument("--power", type=float, default=4.0, help="of the judge's probabilities; default 4")
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=20, help="into halves; default 20")
    parser.add_argument("--output", type=Path, default=Path("experiments/results/calibrate.json"))
    args = parser.parse_args()
    results, stored = pd.read_parquet(args.results), []
    for task, method, labels in JUDGES:
        rows = overconfident(results, task, method, labels, args.power)
        column = None if rows.groups is None else "assignment"
        print(f"\n{task}, {method}, {labels} labels, p^{args.power:g}: {len(rows.targets)} rows")
        calibration = fit_calibration(rows, VALUES, coverage=args.coverage, column=column)
        CleanConsole().print(
            EvaluationTable(calibration_sheets(calibration), "\n".join(calibration_text(calibration)))
        )
        table = halves(rows, column, args.coverage, args.splits)
        print(f"Halves that were not used, {args.splits} splits by question:")
        print(table.agg(["mean", "std", "min", "max"]).round(4).to_string())
        shown = {
            name: calibration.shown[name]
            for name in ("rows", "questions", "crps", "rmse", "coverage", "interval", "width")
        }
        summary = table.agg(["mean", "min", "max"]).to_dict()
        stored.append({"task": task, "method": method, "labels": labels, **shown, "halves": summary})
    record = {"power": args.power, "coverage": args.coverage, "splits": args.splits, "judges": stored}
    args.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
