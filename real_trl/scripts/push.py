# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Publish a judge on the Hub: weights, tokenizer, judge_config.json, and a model card.

    real-trl push outputs/my-real --repo_id user/my-judge --evaluation outputs/my-real/evaluation
    real-trl push outputs/my-real --local_dir published    # the same files in a folder, nothing is uploaded

The access token comes from the environment variable HF_TOKEN, or from `hf auth login`; it is never an option.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from real_trl.arguments.parser import RecipeParser
from real_trl.option_values import FieldError
from real_trl.publishing import Publication, find_judge_files, read_evaluation, upload, write_folder
from real_trl.publishing.lineage import is_hub_id
from real_trl.publishing.push import check_repo_id
from real_trl.runs.command import command, user_errors


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="real-trl push",
        usage="real-trl push JUDGE_DIR [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.error = RecipeParser.error.__get__(parser)
    parser.add_argument(
        *("--model", "--judge"), dest="judge", metavar="JUDGE_DIR", required=True,
        help="output_dir of a training stage; it may stand first, without --model",
    )  # fmt: skip
    parser.add_argument("--repo_id", metavar="USER/NAME", help="where on the Hub")
    parser.add_argument("--local_dir", metavar="DIR", help="write the files to this folder instead of uploading them")
    parser.add_argument(
        "--evaluation",
        metavar="DIR",
        help="output_dir of `real-trl evaluate`, for the card's table. Default: not evaluated",
    )
    parser.add_argument("--merge", action="store_true", help="publish a LoRA judge as a whole model")
    parser.add_argument(
        "--private", action="store_true", default=None, help="make a new repository private; a public one is refused"
    )
    parser.add_argument("--license", help="license, as the Hub names it, e.g. apache-2.0. Default: none is stated")
    parser.add_argument(
        "--base_model",
        metavar="USER/NAME",
        help="model on the Hub that training started from, if it started from a local copy",
    )
    return parser


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; `argv` defaults to the command line."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and not argv[0].startswith("-"):
        argv = ["--model", *argv]
    with user_errors():
        args = make_parser().parse_args(argv)
        if not args.repo_id and not args.local_dir:
            raise FieldError("--repo_id", None, "Give user/name, or --local_dir for a folder.")
        if args.repo_id:
            check_repo_id(args.repo_id)
        if args.base_model and not is_hub_id(args.base_model):
            raise FieldError("--base_model", args.base_model, "Give a model id on the Hub, user/name.")
        judge = find_judge_files(args.judge)
        publication = Publication(
            judge,
            args.repo_id or Path(args.local_dir).name,
            evaluation=read_evaluation(args.evaluation, judge) if args.evaluation else None,
            merge=args.merge,
            base_model=args.base_model,
            license=args.license,
        )
        publication.check()
        if args.local_dir:
            files = write_folder(publication, args.local_dir)
            print(f"{len(files)} files in {args.local_dir}: {', '.join(files)}")
        else:
            print(f"Published: {upload(publication, private=args.private)}")
        if publication.evaluation is None:
            print("note: the card says that the judge was not evaluated (--evaluation DIR adds the figures)")


if __name__ == "__main__":
    main()
