# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A folder that is written for the first time: nothing is overwritten, and nothing half-written is left."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_new(option: str, folder: Path) -> None:
    """`ValueError` naming `option` if something would be overwritten: the folder may be there, but has to be empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{option}: {str(folder)!r} is there already, and not empty. Choose another folder, or delete it."
        )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which takes its place in the end; after an error nothing is left of it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as temporary:
        target = Path(temporary, "folder")
        yield target
        if folder.exists():
            folder.rmdir()
        shutil.move(target, folder)
