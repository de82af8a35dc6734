# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every table and figure of RESULTS.md and README.md that comes from the grid, the cross-validation or the real scores, from the stored
results.

    python -m experiments.report

Writes the tables between their marks, and the figures to docs/.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments import figures, language_model, real_scores_figure, real_scores_tables, tables
from experiments.analysis import Results
from experiments.cross_validate import training_path

TABLES = {
    "methods": tables.methods,
    "differences": tables.differences,
    "average-of-n": tables.average_of_n,
    "ablations": tables.ablations,
    "scale": tables.scale,
    "findings": tables.findings,
    "questions": tables.questions,
}
FIGURES = {
    "paper-methods.png": figures.methods,
    "paper-curves.png": figures.curves,
    "paper-ablations.png": figures.ablations,
}


def filled(text: str, blocks: dict[str, str]) -> str:
    """
    `text` with what stands between `<!-- results: NAME -->` and `<!-- end -->` replaced.

    Raises:
        `ValueError`: naming the block, if the text has no place for one, or a place for none of them.
    """
    places = re.findall(r"<!-- results: (\S+) -->", text)
    if sorted(places) != sorted(blocks):
        raise ValueError(f"the text has places for {sorted(places)}, the results are {sorted(blocks)}.")
    for name, block in blocks.items():
        pattern = rf"(<!-- results: {re.escape(name)} -->\n).*?(<!-- end -->)"
        text = re.sub(pattern, lambda match, block=block: f"{match[1]}{block}\n{match[2]}", text, flags=re.DOTALL)
    return text


def blocks(results: Results, folder: Path) -> dict[str, str]:
    """Every block of RESULTS.md by name."""
    run = json.loads((folder / "runs.json").read_text(encoding="utf-8"))
    made = {name: make(results) for name, make in TABLES.items()} | {"runs": tables.runs(results, run)}
    if (folder / "family" / "runs.json").is_file():
        more = Results(folder / "family")
        run = json.loads((folder / "family" / "runs.json").read_text(encoding="utf-8"))
        made |= {"family": tables.family(more), "family-questions": tables.family_questions(more)}
        made["family-runs"] = tables.runs(more, run)
    path = folder / "smollm2.parquet"
    if path.is_file():
        predictions, history = pd.read_parquet(path), pd.read_parquet(training_path(path))
        made["smollm2"] = language_model.judges(predictions)
        made["smollm2-differences"] = language_model.differences(predictions)
        made["smollm2-training"] = language_model.training(history)
    path = folder / "real_scores.parquet"
    if path.is_file():
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        made |= real_scores_tables.blocks(pd.read_parquet(path), record)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="the stored results")
    parser.add_argument("--report", type=Path, default=Path("RESULTS.md"), help="where the tables go")
    parser.add_argument(
        "--readme", type=Path, default=Path("README.md"), help="where the first lines of real scores go"
    )
    parser.add_argument("--figures", type=Path, default=Path("docs"), help="where the figures go")
    args = parser.parse_args(argv)
    try:
        results = Results(args.results)
        text = filled(args.report.read_text(encoding="utf-8"), blocks(results, args.results))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    args.report.write_text(text, encoding="utf-8")
    for name, draw in FIGURES.items():
        draw(results).savefig(args.figures / name, format="png", dpi=110)
    path = args.results / "real_scores.parquet"
    if path.is_file():
        scores = real_scores_tables.RealScores(pd.read_parquet(path))
        first = {"real-scores": real_scores_tables.first_lines(scores)}
        args.readme.write_text(filled(args.readme.read_text(encoding="utf-8"), first), encoding="utf-8")
        real_scores_figure.curves(scores).savefig(args.figures / "real-scores.png", format="png", dpi=110)
    print(f"{args.report} and {', '.join(FIGURES)} in {args.figures}")


if __name__ == "__main__":
    main()
