# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Compare systems: which one is better, how sure that is, and how many more human scores would settle it.

    real-trl compare answers.scored.jsonl --system model --human rating --group question
    real-trl compare answers.scored.jsonl --system model --human rating --group question --detect 0.2 --power 0.8 --label_next 50

The file is what `real-trl score` writes: answers of several systems, each with a judge's score. People scored some of the rows (--human; the
cell is empty in the others). Every system's mean quality and all differences are estimated three times: by the judge alone (precise, and as biased as the judge),
by people alone (unbiased, and wide), and by both, with prediction-powered inference (PPI++, arXiv 2311.01453): the judge's mean over all rows, less
what people take off it, each weighted so that the interval is narrowest, which needs 8 human scores of a system: with fewer this interval is left out. The last is unbiased however wrong the judge is, if the rows with a
human score are a RANDOM SAMPLE of the rows: not those that looked interesting. What the judge gave is compared between them and all
rows, and a difference is warned of; more cannot be checked. Rows of one question (--group; by default those with the same group or
instruction) may depend on each other in any way.

Written to --output_dir: comparison.json, report.md and report.html. With --label_next N also label_next.jsonl (or .csv, where the data is a table of
text): all rows, those to be scored next first, with the column label_probability. They are drawn at random, with a greater chance where the judge is
in doubt (arXiv 2403.03208). Write the scores into that file, and compare it with --probability label_probability: each row is then weighted by 1 / its
probability, so that nothing is biased.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from real_trl.arguments.parser import RecipeParser
from real_trl.data.files import EXTENSIONS, Source, read_file
from real_trl.data.questions import question_columns
from real_trl.decisions.labels import chances, draw, labelled_probability
from real_trl.decisions.reading import ScoredSystems, read_systems
from real_trl.decisions.systems import compare_systems
from real_trl.option_values import FieldError
from real_trl.report.systems import (
    comparison_markdown,
    comparison_page,
    comparison_sheets,
    decision,
    next_rows_sheet,
)
from real_trl.report.terminal_tables import EvaluationTable
from real_trl.runs.command import command, user_errors
from real_trl.runs.disk import writing
from real_trl.runs.folder import PROVENANCE_NAME
from real_trl.runs.new_folder import replaced_files
from real_trl.runs.output_lock import only_writer
from real_trl.runs.scored_file import write_csv, write_jsonl
from real_trl.scale import Scale
from real_trl.text.cells import is_empty
from real_trl.text.json_text import to_json
from real_trl.text.redaction import redact_command
from real_trl.text.shown import printable
from real_trl.text.terminal import CleanConsole
from real_trl.versions import package_versions
from real_trl.weights.files import read_json

_TABLES = (".csv", ".tsv", ".xlsx")
_NEW = ("label_next", "label_probability")


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="real-trl compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = RecipeParser.error.__get__(parser)
    parser.add_argument("data", metavar="FILE", help=f"scored rows: {', '.join(EXTENSIONS)}")
    parser.add_argument("--system", metavar="COLUMN", required=True, help="which system answered")
    parser.add_argument(
        "--human", metavar="COLUMN", help="human scores, empty where there is none; several columns with commas are averaged. Default: the judge alone"
    )  # fmt: skip
    parser.add_argument(
        "--group",
        metavar="COLUMN",
        help="which rows are about one question. Default: those with the same 'group', or else the same instruction, where there is such a column",
    )
    parser.add_argument(
        "--probability",
        metavar="COLUMN",
        help="with which probability a row was chosen for a human score. Default: the same for all rows of a system",
    )
    parser.add_argument(
        "--score_labels",
        metavar="LABELS",
        help="the judge's scale, from the worst label to the best. Default: that of real-trl score, or what the data tell of it",
    )
    parser.add_argument("--score_values", metavar="VALUES", help="the number of each label, with commas")
    parser.add_argument("--prefix", default="", help="what the names of the judge's columns begin with")
    parser.add_argument(
        "--detect",
        type=float,
        metavar="DIFFERENCE",
        help="a difference, in score units: how many human scores would show it?",
    )
    parser.add_argument("--power", type=float, default=0.8, help="with which chance it is to be shown. Default: 0.8")
    parser.add_argument("--level", type=float, default=0.95, help="coverage of the intervals. Default: 0.95")
    parser.add_argument(
        "--label_next", type=int, default=0, metavar="N", help="choose N rows that people should score next"
    )
    parser.add_argument("--seed", type=int, default=0, help="of that choice. Default: 0")
    parser.add_argument("--output_dir", metavar="DIR", help="Default: the file's name and .compared")
    return parser


def check_options(args: argparse.Namespace) -> None:
    """`FieldError` for a number that cannot be meant."""
    for name, good in {"power": 0.5 <= args.power < 1, "level": 0.5 <= args.level < 1}.items():
        if not good:
            raise FieldError(f"--{name}", getattr(args, name), "Give a share from 0.5 to below 1.")
    if args.detect is not None and not 0 < args.detect < float("inf"):
        raise FieldError("--detect", args.detect, "Give a difference above 0, in units of the score.")
    if args.label_next < 0:
        raise FieldError("--label_next", args.label_next, "Give a number of rows.")
    if args.seed < 0:
        raise FieldError("--seed", args.seed, "Give a whole number, 0 or more.")
    for name in ("probability", "detect"):
        if getattr(args, name) is not None and not args.human:
            raise FieldError(f"--{name}", getattr(args, name), "Name the human scores as well: --human COLUMN.")
    if not Path(args.data).is_file():
        raise FieldError(
            "data", args.data, f"Give a file: {', '.join(EXTENSIONS)}.", f": there is no file {args.data!r}"
        )


def judged_scale(args: argparse.Namespace) -> Scale | None:
    """
    The scale of the judge: as given, or as `real-trl score` has written beside its file; `None` where neither says it.

    Raises:
        `FieldError`: if labels and values make no scale.
    """
    if args.score_labels:
        return Scale.parse(args.score_labels, args.score_values and args.score_values.split(","))
    if args.score_values:
        raise FieldError("--score_values", args.score_values, "Name the labels as well: --score_labels.")
    record = Path(f"{args.data}.provenance", PROVENANCE_NAME)
    judge = read_json(record)["made_with"].get("judge", {}) if record.is_file() else {}
    return Scale.parse(judge["score_labels"], judge.get("score_values")) if judge.get("score_labels") else None


def choose_next(
    args: argparse.Namespace, source: Source, systems: ScoredSystems
) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Rows of the file to label next, and the new columns `label_next` (1 for the first) and `label_probability`, a cell for each row of the file."""
    rows = systems.rows
    free = int((~rows.is_labelled).sum())
    if args.label_next > free:
        raise FieldError(
            "--label_next", args.label_next, f"There are {free} scored rows without a human score: ask for no more."
        )
    if rows.probability is not None and np.isnan(rows.probability).any():
        fix = "Rows without a human score need a probability as well, to choose among them."
        raise FieldError("--probability", args.probability, fix, f": {args.probability!r} has gaps")
    chance = chances(rows, systems.doubt, args.label_next)
    drawn = draw(rows, chance, args.label_next, args.seed)
    columns: dict[str, list[Any]] = {name: [None] * len(source) for name in _NEW}
    for place, probability in zip(systems.places, labelled_probability(rows, chance), strict=True):
        columns["label_probability"][place] = float(probability)
    places = systems.places[drawn]
    for order, place in enumerate(places):
        columns["label_next"][place] = order + 1
    return places, columns


def left_out(args: argparse.Namespace, source: Source, systems: ScoredSystems) -> list[str]:
    """What to say where rows that were drawn to be scored were not."""
    if not args.probability or "label_next" not in source.columns:
        return []
    drawn = np.array([not is_empty(row["label_next"]) for row in source.iterate(["label_next"])])[systems.places]
    if not (missing := int((drawn & ~systems.rows.is_labelled).sum())):
        return []
    return [
        f"{missing} of {int(drawn.sum())} rows that were drawn to be scored (label_next) have no human score: the probabilities do not hold, and figures may be biased."
    ]


def write_next(path: Path, source: Source, places: np.ndarray, columns: dict[str, list[Any]]) -> None:
    """All rows, those to label next first, with the new columns."""
    rows = list(source.iterate(source.own_columns))
    order = [*places, *np.setdiff1d(np.arange(len(rows)), places)]
    rows = [rows[place] | {name: cells[place] for name, cells in columns.items()} for place in order]
    if path.suffix == ".csv":
        write_csv(path, rows[0], rows)
    else:
        write_jsonl(path, rows)


def described(
    args: argparse.Namespace, source: Source, systems: ScoredSystems, places: np.ndarray, columns: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    """The rows to label next for the reports: what tells a reader which they are."""
    if not len(places):
        return []
    rows, nan = list(source.iterate()), float("nan")
    index = {place: row for row, place in enumerate(systems.places)}
    return [
        {
            "row": source.numbers[place],
            "system": systems.names[systems.rows.systems[index[place]]],
            "question": str(rows[place][args.group] or "") if args.group else "",
            "expected_score": float(systems.rows.judge[index[place]]),
            "spread": nan if systems.doubt is None else float(systems.doubt[index[place]]),
            "label_probability": columns["label_probability"][place],
        }
        for place in places
    ]


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; `argv` defaults to the command line."""
    with user_errors():
        args = make_parser().parse_args(argv)
        check_options(args)
        folder = Path(args.output_dir or Path(args.data).with_suffix(".compared"))
        if folder.exists() and not folder.is_dir():
            raise FieldError("--output_dir", str(folder), "Choose another folder.", f": {str(folder)!r} is a file")
        next_file = folder / f"label_next{'.csv' if Path(args.data).suffix.lower() in _TABLES else '.jsonl'}"
        if args.label_next and next_file.exists():
            said = f": {str(next_file)!r} is there already, and may hold scores that people gave"
            raise FieldError("--label_next", args.label_next, "Move it, or choose another --output_dir.", said)
        source = read_file(Path(args.data), "data")
        for note in source.notes:
            print(note)
        human = source.several_columns("--human", args.human) if args.human else []
        if not args.group and (found := question_columns(source)):
            args.group = found[0]
            print(printable(f"note: --group: rows with the same {args.group} are taken as being about one question"))
        systems = read_systems(
            source, args.system.strip(), human, args.group, args.probability, args.prefix, judged_scale(args)
        )
        places: Any = np.array([], dtype=int)
        columns: dict[str, Any] = {}
        if args.label_next:
            places, columns = choose_next(args, source, systems)
        comparison = compare_systems(systems, args.level, args.detect, args.power)
        if missing := left_out(args, source, systems):
            comparison["warnings"] += missing
            comparison["random_sample"] = False
        following = described(args, source, systems, places, columns)
        written = " ".join(["real-trl compare", *redact_command(sys.argv[1:] if argv is None else argv)])
        record = {**comparison, "next": following, "command": written, "versions": package_versions()}
        sheets = comparison_sheets(comparison)
        tables = [*sheets, *filter(None, [next_rows_sheet(following, next_file.name)])]
        with only_writer(folder, "--output_dir"), writing(folder), replaced_files(folder) as new:
            (new / "comparison.json").write_text(to_json(record, indent=2) + "\n", encoding="utf-8")
            (new / "report.md").write_text(
                printable(comparison_markdown(comparison, tables, written)), encoding="utf-8"
            )
            comparison_page(comparison, tables, new / "report.html", written)
            if args.label_next:
                write_next(new / next_file.name, source, places, columns)
    console = CleanConsole()
    console.print(EvaluationTable(sheets, "", decision(comparison)))
    if args.label_next:
        print(
            f"To label next: the first {args.label_next} rows of {next_file}; then compare it with --probability label_probability"
        )
    print(f"Saved to {folder}: comparison.json, report.md, report.html")


if __name__ == "__main__":
    main()
