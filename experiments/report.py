# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Every table and figure of RESULTS.md that comes from the grid, from the stored results.

    python -m experiments.report

Writes the tables between their marks in RESULTS.md, and the figures to docs/.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

from experiments import figures, tables
from experiments.analysis import Results

TABLES = {
    "methods": tables.methods,
    "differences": tables.differences,
    "average-of-n": tables.average_of_n,
    "ablations": tables.ablations,
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
    return {name: make(results) for name, make in TABLES.items()} | {"runs": tables.runs(results, run)}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("experiments/results"), help="the stored results")
    parser.add_argument("--report", type=Path, default=Path("RESULTS.md"), help="where the tables go")
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
    print(f"{args.report} and {', '.join(FIGURES)} in {args.figures}")


if __name__ == "__main__":
    main()
