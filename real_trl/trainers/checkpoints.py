# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints that are known to be complete.

A run can be killed at any moment, also while it writes a checkpoint or deletes an old one. Therefore the last thing
written into a checkpoint, atomically and before any older one is deleted, is `manifest.json`: every file with its size,
and the recipe of the run. A checkpoint counts only if it has a manifest and every file in it has the size stated there.
Sizes show what a kill leaves behind, missing and truncated files, and cost nothing; hashing would read every
checkpoint, often more than 100 GB, twice.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from real_trl.json_text import to_json

MANIFEST_NAME = "manifest.json"
_FOLDER = re.compile(r"checkpoint-(\d+)")


class StopWithCheckpoint(RuntimeError):
    """
    Training cannot go on, though nothing is wrong with what has been learned so far. The trainer saves the last finished
    step, unless `save_strategy` is `"no"`, before this error leaves `train()`. With several processes it must be raised
    on all of them.
    """


def checkpoint_step(checkpoint: Path) -> int:
    """Optimizer steps behind a checkpoint, by its name."""
    return int(_FOLDER.fullmatch(checkpoint.name)[1])


def list_checkpoints(output_dir: str | Path) -> list[Path]:
    """All folders named like a checkpoint, complete or not, the last step first."""
    folders = Path(output_dir).iterdir() if Path(output_dir).is_dir() else []
    found = [path for path in folders if _FOLDER.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=checkpoint_step, reverse=True)


def without_nan(path: Path) -> None:
    """Write Transformers' JSON again where it holds NaN or infinities, as the log of a step without a gradient may: null in their place."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if "NaN" in text or "Infinity" in text:
        path.write_text(to_json(json.loads(text), indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_manifest(checkpoint: Path, *, recipe: dict[str, Any] | None, resumable: bool) -> None:
    """
    Declare a checkpoint complete. To be called when every process has written its files.

    Args:
        checkpoint (`Path`):
            The checkpoint's folder.
        recipe (`dict`, *optional*):
            What the run is made of, as JSON; see [`~real_trl.scripts.resume.resolve_recipe`].
        resumable (`bool`):
            Whether it holds more than the model.
    """
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != MANIFEST_NAME)
    manifest = {
        "resumable": resumable,
        "files": {path.relative_to(checkpoint).as_posix(): path.stat().st_size for path in files},
        "recipe": recipe,
    }
    temporary = checkpoint / f".{MANIFEST_NAME}.tmp"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(to_json(manifest, indent=1))
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, checkpoint / MANIFEST_NAME)


def read_manifest(checkpoint: str | Path) -> dict[str, Any]:
    """
    The manifest of a complete checkpoint.

    Raises:
        ValueError: saying in one line why the checkpoint is not complete, if it is not.
    """
    checkpoint = Path(checkpoint)
    try:
        manifest = json.loads((checkpoint / MANIFEST_NAME).read_text(encoding="utf-8"))
        files = {str(name): int(size) for name, size in manifest["files"].items()}
    except FileNotFoundError:
        raise ValueError(f"it has no {MANIFEST_NAME}, the file that is written last") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"its {MANIFEST_NAME} cannot be read ({type(error).__name__}: {error})") from None
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            raise ValueError(f"{name} is missing, {expected} bytes expected")
        if path.stat().st_size != expected:
            raise ValueError(f"{name} has {path.stat().st_size} bytes, {expected} expected")
    return manifest


def find_fault(checkpoint: str | Path) -> str | None:
    """Why training cannot go on from a checkpoint, in one line; `None` if it can."""
    try:
        manifest = read_manifest(checkpoint)
    except ValueError as error:
        return str(error)
    return None if manifest.get("resumable") else "it holds only the model (save_only_model)"


def last_complete_checkpoint(output_dir: str | Path) -> tuple[Path | None, dict[Path, str]]:
    """The last checkpoint that training can go on from, if any, and the later ones with what is wrong with them."""
    faulty: dict[Path, str] = {}
    for checkpoint in list_checkpoints(output_dir):
        fault = find_fault(checkpoint)
        if fault is None:
            return checkpoint, faulty
        faulty[checkpoint] = fault
    return None, faulty


def check_checkpoint(checkpoint: str | Path) -> None:
    """
    Refuse a checkpoint that training cannot go on from.

    Raises:
        ValueError: naming the fault (the file, its size and the expected one) and the last complete checkpoint beside it.
    """
    if not Path(checkpoint).is_dir():
        raise ValueError(
            f"resume_from_checkpoint: {str(checkpoint)!r} is no directory. Give a checkpoint, or leave it out to go on from the "
            "last one in output_dir."
        )
    fault = find_fault(checkpoint)
    if fault is None:
        return
    good, _ = last_complete_checkpoint(Path(checkpoint).parent)
    fix = (
        f"Go on from {str(good)!r}, which is complete." if good else "There is no complete one beside it: start anew."
    )
    raise ValueError(f"resume_from_checkpoint: {str(checkpoint)!r} cannot be resumed: {fault}. {fix}")


def discard_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, its manifest first, so that no half-deleted one looks complete."""
    (checkpoint / MANIFEST_NAME).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def rotate_checkpoints(current: Path, limit: int | None, best: str | None) -> None:
    """
    Delete checkpoints before `current`, which must be complete, so that `limit` are left. `current` and `best` always
    stay; incomplete ones go first. transformers' own rotation would count an incomplete one as kept.

    Args:
        current (`Path`):
            The checkpoint just written.
        limit (`int`, *optional*):
            `save_total_limit`; `None` or 0 for no limit.
        best (`str`, *optional*):
            The best checkpoint, with `metric_for_best_model`.
    """
    if not limit or limit < 0:
        return
    kept = {current.name} | ({Path(best).name} if best else set())
    for checkpoint in list_checkpoints(current.parent):
        if checkpoint_step(checkpoint) >= checkpoint_step(current) or checkpoint.name in kept:
            continue
        if len(kept) < limit and _is_complete(checkpoint):
            kept.add(checkpoint.name)
        else:
            discard_checkpoint(checkpoint)


def _is_complete(checkpoint: Path) -> bool:
    try:
        return bool(read_manifest(checkpoint))
    except ValueError:
        return False
