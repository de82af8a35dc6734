# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A folder that is written for the first time: nothing is overwritten, and nothing half-written is left."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from real_trl.runs.output_lock import WRITING, only_writer, writing_path


def check_new(option: str, folder: Path) -> None:
    """`ValueError` naming `option` if something would be overwritten: the folder may be there, but has to be empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{option}: {str(folder)!r} is there already, and not empty. Choose another folder, or delete it."
        )


@contextmanager
def replaced_files(folder: Path, moves: bool = True, wait: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """
    A folder within `folder` to write files into, which take the place of those in `folder`, each whole, once all of them are written; after
    an error, all is as it was. To be called by the only writer of `folder`: where that is several processes, one of them `moves` the files,
    and they `wait` for each other.
    """
    new = folder / f"{WRITING}files"  # the same for all processes
    if moves:
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
    wait()
    try:
        yield new
        wait()
        for path in sorted(path for path in new.rglob("*") if path.is_file()) if moves else ():
            target = folder / path.relative_to(new)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    finally:
        if moves:
            shutil.rmtree(new, ignore_errors=True)
    wait()


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
