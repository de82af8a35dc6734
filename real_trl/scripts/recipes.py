# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The recipes that come with the package.

    real-trl recipes                    # lists them
    real-trl recipes copy qwen3-8b      # copies one of their folders into the current folder, to be changed there

Every command that takes a recipe takes their names as well: `real-trl plan --config qwen3-8b/real.yaml`. A file of the current folder
comes first.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from real_trl import shipped
from real_trl.runs.command import command, user_errors


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="real-trl recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", help="`copy`; without one they are listed")
    copying = actions.add_parser("copy", help="copy a folder of recipes into the current folder")
    copying.add_argument("name", metavar="NAME", help="the folder, as it is listed: qwen3-8b")
    return parser


def listing() -> str:
    """All of them, by folder, with the stage and the first line of each."""
    lines = []
    for name, files in shipped.folders().items():
        lines.append(f"{name}/")
        width = max(len(path.name) for path in files)
        for path in files:
            stage, text = shipped.describe(path)
            lines.append(f"  {path.name:{width}}  {f'{stage:13} ' if stage else ''}{text}")
    return "\n".join(lines)


@command()
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; `argv` defaults to the command line."""
    args = make_parser().parse_args(argv)
    if args.action == "copy":
        with user_errors():
            written = shipped.copy(args.name, Path())
        print(f"Written: {', '.join(map(str, written))}")
    else:
        print(listing())
        print("\nUse one by its name, --config qwen3-8b/real.yaml, or copy its folder: real-trl recipes copy qwen3-8b")


if __name__ == "__main__":
    main()
