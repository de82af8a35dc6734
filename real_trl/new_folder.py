# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A folder that is written for the first time: nothing is overwritten, and nothing half-written is left."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_trl.output_lock import only_writer, writing_path


def check_new(option: str, folder: Path) -> None:
    """`ValueError` naming `option` if something would be overwritten: the folder may be there, but has to be empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{option}: {str(folder)!r} is there already, and not empty. Choose another folder, or delete it."
        )


@contextmanager
def new_folder(option: str, folder: Path) -> Iterator[Path]:
    """
    A folder beside `folder` to make and to write into, which takes its place in the end; after an error nothing is left of it.
    `ValueError` as of [`check_new`], and if another process writes it.
    """
    with only_writer(folder, option):
        check_new(option, folder)
        target = writing_path(folder)
        try:
            yield target
            if folder.exists():
                folder.rmdir()
            target.rename(folder)
        finally:
            shutil.rmtree(target, ignore_errors=True)
