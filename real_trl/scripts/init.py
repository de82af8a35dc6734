# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From a file of human scores to recipes: looks at the file, asks what it cannot know, and writes a folder that trains and
evaluates a judge on it.

    real-trl init scores.csv
    real-trl init scores.jsonl --response answer --score rater_1,rater_2,rater_3 --score_labels 1-5 --model Qwen/Qwen3-0.6B

Asked is on a terminal only; elsewhere, and with --yes, what has a usual name or form is guessed, and the rest must be
stated. The file is not changed, nothing is trained, and nothing but a dataset on the Hub is downloaded.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.prompt import Prompt
from rich.table import Table
from rich.text import Text

from real_trl.arguments.parser import RecipeParser
from real_trl.data.files import EXTENSIONS
from real_trl.onboarding import InitOptions, Project, Unknown, open_data, open_project
from real_trl.onboarding.recipes import DEFAULT_CRITERIA, Plan, describe, stages
from real_trl.onboarding.sizing import Sizes
from real_trl.option_values import as_mapping
from real_trl.runs.command import command, user_errors
from real_trl.runs.new_folder import check_new
from real_trl.text.terminal import CleanConsole

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
_ROLES = {
    "instruction": "what the response answers",
    "response": "the response that was scored",
    "rubric": "what is judged, row by row",
    "reference": "a reference answer",
    "prompt": "complete prompts, instead of the parts above",
    "score": "the score; one column per rater with commas",
    "feedback": "the rationale of the score; one column per rater with commas",
    "group": "what rows about one question have in common; none if no column says so",
    "split": "the file's own split: train, validation, test",
    "rater": "who gave the score, where each row is one rating; none if each row is a response of its own",
}


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="real-trl init",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = RecipeParser.error.__get__(parser)
    parser.add_argument(
        "data",
        metavar="FILE",
        help=f"{', '.join(EXTENSIONS)}, a folder with one per split, or a dataset on the Hub (org/name)",
    )
    parser.add_argument("--dataset_config", metavar="NAME", help="configuration of a dataset on the Hub")
    parser.add_argument("--output_dir", metavar="DIR", help="the recipe folder. Default: the file's name and -judge")
    parser.add_argument("--model", help=f"what training starts from. Default: {DEFAULT_MODEL}")
    columns = parser.add_argument_group("columns")
    for role, text in _ROLES.items():
        columns.add_argument(f"--{role}", metavar="COLUMN", help=text)
    parser.add_argument(
        "--score_labels",
        help="the scale from worst to best: 1-5, 0-100, 1-5:0.5, 6-1 where 1 is the best, or words with commas",
    )
    parser.add_argument(
        "--criteria",
        help="what is judged, if no column says so, in a sentence; or {column: rubric, …}, as --criterion",
    )
    parser.add_argument(
        "--criterion",
        metavar="COLUMN[=RUBRIC]",
        action="append",
        default=[],
        help='a column with scores by a criterion of its own, helpfulness="Is it helpful?"; may be repeated',
    )
    parser.add_argument("--gpus", help="hardware to size for: 1xA100-80GB. Default: this machine")
    parser.add_argument(
        "--drop_incomplete", action="store_true", help="leave out rows with an empty score, prompt or response"
    )
    parser.add_argument(
        "--na",
        metavar="TEXT",
        action="append",
        default=[],
        help="a text that means an empty cell, such as N/A; may be repeated",
    )
    parser.add_argument("--yes", action="store_true", help="ask nothing")
    return parser


def ask_for_column(unknown: Unknown, options: InitOptions, console: CleanConsole) -> str:
    """The column that only the user knows."""
    console.print(Text.assemble((unknown.role, "bold"), f": {_ROLES[unknown.role]}. Which column is it?"))
    columns = open_data(options.data, options.dataset_config).with_paths().columns
    if unknown.role == "score":  # may be several
        return Prompt.ask(Text(f"  {', '.join(columns)}"), console=console)
    return Prompt.ask("  column", choices=columns, console=console)


def ask_for_scale(unknown: Unknown, console: CleanConsole) -> str:
    """The scale, where the scores do not tell it."""
    console.print(str(unknown))
    while not (labels := Prompt.ask("scale", console=console).strip()):
        pass
    return labels


def ask_about(project: Project, console: CleanConsole) -> InitOptions:
    """What was guessed, for the user to correct."""
    options, plan = project.options, project.plan
    if options.score_labels is None:
        console.print(plan.scores.note)
        labels = Prompt.ask("scale", default=plan.scores.labels, console=console)
        options = replace(options, score_labels=labels if labels != plan.scores.labels or "," in labels else None)
    if plan.template is not None and not plan.roles.has_rubrics and options.criteria is None:
        options = replace(options, criteria=Prompt.ask("what is judged", default=DEFAULT_CRITERIA, console=console))
    return options


def open_with_questions(options: InitOptions, console: CleanConsole | None) -> Project:
    """The project; with a console, what is not known is asked for there."""
    while True:
        try:
            project = open_project(options)
        except Unknown as unknown:
            if console is None:
                raise
            if unknown.role == "score_labels":
                options = replace(options, score_labels=ask_for_scale(unknown, console))
                continue
            column = ask_for_column(unknown, options, console)
            options = replace(options, columns={**options.columns, unknown.role: column})
            continue
        if console is None:
            return project
        answered = ask_about(project, console)
        return project if answered == options else open_project(answered)


def report(plan: Plan, sizes: Sizes, folder: str, console: CleanConsole) -> None:
    """What was found and written."""
    table = Table(show_header=False, title=f"{plan.data}", title_justify="left")
    for row in describe(plan):
        table.add_row(*row)
    console.print(table)
    for note in [*plan.notes, *plan.found.notes, *sizes.notes]:
        console.print(f"- {note}")
    console.print(f"Written to {folder}. Next:")
    for name, stage in stages(plan).items():
        console.print(f"  real-trl {stage} --config {Path(folder, name)}.yaml", soft_wrap=True)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; `argv` defaults to the command line."""
    console = CleanConsole()
    with user_errors():
        args = make_parser().parse_args(argv)
        interactive = sys.stdin.isatty() and console.file.isatty() and not args.yes
        folder = args.output_dir or f"{Path(args.data).stem}-judge"
        check_new("--output_dir", Path(folder))
        model = args.model or DEFAULT_MODEL
        if interactive and args.model is None:
            model = Prompt.ask("model to start from", default=DEFAULT_MODEL, console=console)
        in_braces = (args.criteria or "").lstrip().startswith("{")
        by_column = as_mapping("--criteria", args.criteria) if in_braces else {}
        options = InitOptions(
            data=args.data,
            output_dir=folder,
            model=model,
            columns={role: getattr(args, role) for role in _ROLES},
            score_labels=args.score_labels,
            criteria=None if by_column else args.criteria,
            gpus=args.gpus,
            drop_incomplete=args.drop_incomplete,
            na=args.na,
            dataset_config=args.dataset_config,
            criterion=[*args.criterion, *(f"{column}={rubric}" for column, rubric in by_column.items())],
        )
        project = open_with_questions(options, console if interactive else None)
        sizes = project.write()
    report(project.plan, sizes, folder, console)


if __name__ == "__main__":
    main()
