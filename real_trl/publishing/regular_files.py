# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What may be published by its name: a regular file in the judge's folder, and nothing that a name there leads to elsewhere."""

from pathlib import Path


def check_regular(folder: Path, name: str) -> bool:
    """
    Whether `folder` has a file `name`, a path relative to it.

    A symbolic link is taken for what it leads to if that is in the folder too, under a name with the same ending, or in the Hub's
    cache, where the files of a model are links into a folder `blobs` beside those of its revisions.

    Raises:
        `ValueError`: if it is something else than a file: a folder, device, pipe, or a link to elsewhere.
    """
    path = folder / name
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    root = folder.resolve()
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path}: it is a link that leads nowhere ({error}). Put the file itself there.") from error
    if not target.is_file():
        raise ValueError(
            f"{path}: it is no regular file, and only those are published. Put the file itself there, or remove it."
        )
    here = root / name
    if target == here:
        return True
    in_cache = root.parent.name == "snapshots" and target.parent == root.parent.parent / "blobs"
    hidden = target.is_relative_to(root) and any(part.startswith(".") for part in target.relative_to(root).parts)
    if in_cache or (target.is_relative_to(root) and target.suffix == here.suffix and not hidden):
        return True
    raise ValueError(
        f"{path}: it is a link to {target}, which would be published. Put a copy of the file itself there, or remove the link."
    )
