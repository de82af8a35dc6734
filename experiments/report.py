# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every table and figure of RESULTS.md, docs/results/ and README.md that comes from the grids, the cross-validation, the real scores or the
simulation, from the stored results.

    python -m experiments.report

Writes the tables between their marks, and the figures to docs/.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from experiments import figures, language_model, real_scores_figure, real_scores_tables, summary, tables
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
    "brief": summary.brief_methods,
    "verdicts": summary.verdicts,
}
FIGURES = {
    "paper-methods.png": figures.methods,
    "paper-curves.png": figures.curves,
    "paper-ablations.png": figures.ablations,
}


def pages() -> list[Path]:
    """The files that have tables between marks."""
    return [*map(Path, ("README.md", "RESULTS.md")), *sorted(Path("docs/results").glob("*.md"))]


def filled(texts: Mapping[Path, str], blocks: Mapping[str, str]) -> dict[Path, str]:
    """
    `texts` with what stands between `<!-- results: NAME -->` and `<!-- end -->` replaced. A block may stand in several places.

    Raises:
        `ValueError`: naming the blocks, if there is no place for one, or a place for none of them.
    """
    places = {name for text in texts.values() for name in re.findall(r"<!-- results: (\S+) -->", text)}
    if places != set(blocks):
        raise ValueError(f"the pages have places for {sorted(places)}, the results are {sorted(blocks)}.")
    pattern = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return {
        path: pattern.sub(lambda match: f"{match[1]}{blocks[match[2]]}\n{match[3]}", text)
        for path, text in texts.items()
    }


def blocks(results: Results, folder: Path) -> dict[str, str]:
    """Every block by name."""
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
    for name, make in {"compare": tables.compare, "calibrate": tables.calibrate}.items():
        path = folder / f"{name}.json"
        if path.is_file():
            made[name] = make(json.loads(path.read_text(encoding="utf-8")))
    path = folder / "real_scores.parquet"
    if path.is_file():
        predictions = pd.read_parquet(path)
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        made |= real_scores_tables.blocks(predictions, record)
        scores = real_scores_tables.RealScores(predictions)
        made["real-scores"] = real_scores_tables.first_lines(scores)
        made["real-scores-state"] = summary.real_scores_state(scores)
        made["real-scores-verdicts"] = summary.real_scores_verdicts(scores)
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="the stored results")
    parser.add_argument("--pages", type=Path, nargs="+", default=pages(), help="the files that the tables go into")
    parser.add_argument("--figures", type=Path, default=Path("docs"), help="where the figures go")
    args = parser.parse_args(argv)
    try:
        results = Results(args.results)
        texts = {path: path.read_text(encoding="utf-8") for path in args.pages}
        texts = filled(texts, blocks(results, args.results))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    for name, draw in FIGURES.items():
        draw(results).savefig(args.figures / name, format="png", dpi=110)
    path = args.results / "real_scores.parquet"
    if path.is_file():
        scores = real_scores_tables.RealScores(pd.read_parquet(path))
        real_scores_figure.curves(scores).savefig(args.figures / "real-scores.png", format="png", dpi=110)
    print(f"{', '.join(map(str, texts))}; {', '.join(FIGURES)} in {args.figures}")


if __name__ == "__main__":
    main()
