# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Checkpoints that are known to be complete.

A run can be killed at any moment, also while it writes a checkpoint or deletes an old one. Therefore the last thing
written into a checkpoint, atomically and before any older one is deleted, is `manifest.json`: every file with its size
and its SHA-256, and the recipe of the run. A checkpoint counts only if it has a manifest and every file in it is what is
stated there, and if its weights were found finite. Sizes show what a kill leaves behind, missing and truncated files, and
cost nothing. Hashes show everything else; they read each file once after it is written and once before it is gone on from,
in the main process: 0.7 s a GB on one core with SHA instructions (2 s without), several files at a time. `hash_checkpoints:
false` leaves them out.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from torch import distributed

from real_trl.option_values import FieldError
from real_trl.runs.output_lock import write_whole
from real_trl.text.json_text import to_json
from real_trl.weights.finite import not_finite_in

MANIFEST_NAME = "manifest.json"
_FOLDER = re.compile(r"checkpoint-(\d+)")
_ONLY_MODEL = "it holds only the model (save_only_model)"


class StopWithCheckpoint(RuntimeError):
    """
    Training cannot go on, though nothing is wrong with what has been learned so far. The trainer saves the last finished
    step, unless `save_strategy` is `"no"`, before this error leaves `train()`. With several processes it must be raised
    on all of them. Where `keeps_last_step` is false, the last checkpoint is the one to go on from.
    """

    keeps_last_step = True


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


def write_manifest(checkpoint: Path, *, recipe: dict[str, Any] | None, resumable: bool, hashes: bool = True) -> None:
    """
    Declare a checkpoint complete. To be called when every process has written its files, of weights that are finite.

    Args:
        recipe (`dict`, *optional*):
            What the run is made of, as JSON; see [`~real_trl.trainers.recipe_check.resolve_recipe`].
        resumable (`bool`):
            Whether it holds more than the model.
        hashes (`bool`, *optional*, defaults to `True`):
            Whether to state the SHA-256 of each file.
    """
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != MANIFEST_NAME]
    names = [path.relative_to(checkpoint).as_posix() for path in files]
    manifest: dict[str, Any] = {
        "resumable": resumable,
        "finite": True,
        "files": {name: path.stat().st_size for name, path in zip(names, files, strict=True)},
    }
    if hashes:
        manifest["sha256"] = dict(zip(names, _digests(files), strict=True))
    manifest["recipe"] = recipe
    write_whole(checkpoint / MANIFEST_NAME, to_json(manifest, indent=1))


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


def find_fault(checkpoint: str | Path, *, hashes: bool = True) -> str | None:
    """Why training cannot go on from a checkpoint, in one line that names the file; `None` if it can. `hashes`: check them, if it has any."""
    checkpoint = Path(checkpoint)
    try:
        manifest = read_manifest(checkpoint)
        return _ONLY_MODEL if not manifest.get("resumable") else _find_damage(checkpoint, manifest, hashes)
    except (ValueError, OSError) as error:
        return str(error)


def _find_damage(checkpoint: Path, manifest: dict[str, Any], hashes: bool) -> str | None:
    stated = manifest.get("sha256") if hashes else None
    if isinstance(stated, dict):
        paths = [checkpoint / name for name in stated]
        for (name, digest), found in zip(stated.items(), _digests(paths), strict=True):
            if digest != found:
                return f"{name} has changed since it was written: its SHA-256 is not the one in {MANIFEST_NAME}"
    if not manifest.get("finite"):  # of an earlier version, which saved such weights too
        for path in sorted(checkpoint.glob("*.safetensors")):
            if weight := _not_finite_in(path, path.stat().st_ctime_ns):
                return f"{path.name}: {weight} holds NaN or an infinity: training had diverged"
    return None


def _digests(paths: list[Path]) -> list[str]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # hashing and reading leave the interpreter free
        return list(threads.map(lambda path: _digest(path, path.stat().st_size, path.stat().st_ctime_ns), paths))


@cache  # of a file that has not been touched; its contents are read once in a process
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _not_finite_in(path: Path, changed: int) -> str | None:
    return not_finite_in(path)


def last_complete_checkpoint(output_dir: str | Path, *, hashes: bool = True) -> tuple[Path | None, dict[Path, str]]:
    """
    The last checkpoint that training can go on from, if any, and the later ones with what is wrong with them. Where there are several
    processes, all must call it; the main one looks.
    """

    def find() -> tuple[Path | None, dict[Path, str]]:
        faulty: dict[Path, str] = {}
        for checkpoint in list_checkpoints(output_dir):
            fault = find_fault(checkpoint, hashes=hashes)
            if fault is None:
                return checkpoint, faulty
            faulty[checkpoint] = fault
        return None, faulty

    return _of_main_process(find)


def are_damaged(faulty: dict[Path, str]) -> bool:
    """Whether one of these checkpoints was complete once, and so is not what a kill leaves behind: a new run must not overwrite it."""
    return any(fault != _ONLY_MODEL and (path / MANIFEST_NAME).is_file() for path, fault in faulty.items())


def check_checkpoint(checkpoint: str | Path, *, hashes: bool = True) -> None:
    """
    Refuse a checkpoint that training cannot go on from. Where there are several processes, all must call it.

    Raises:
        ValueError: naming the fault (the file and what is wrong with it) and the last complete checkpoint beside it.
    """
    if not Path(checkpoint).is_dir():
        said = f": {str(checkpoint)!r} is no directory"
        raise FieldError(
            "resume_from_checkpoint",
            checkpoint,
            "Give a checkpoint, or leave it out to go on from the last one in output_dir.",
            said,
        )
    fault = _of_main_process(lambda: find_fault(checkpoint, hashes=hashes))
    if fault is None:
        return
    good, _ = last_complete_checkpoint(Path(checkpoint).parent, hashes=hashes)
    fix = (
        f"Go on from {str(good)!r}, which is complete." if good else "There is no complete one beside it: start anew."
    )
    raise ValueError(f"resume_from_checkpoint: {str(checkpoint)!r} cannot be resumed: {fault}. {fix}")


def _of_main_process(find: Callable[[], Any]) -> Any:
    """What `find` returns in the main process. Reading a checkpoint in each of them would take as many times as long."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return find()
    found = [find() if distributed.get_rank() == 0 else None]
    distributed.broadcast_object_list(found)
    return found[0]


def discard_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, its manifest first, so that no half-deleted one looks complete."""
    (checkpoint / MANIFEST_NAME).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def rotate_checkpoints(current: Path, limit: int | None, best: str | None, *, hashes: bool = True) -> None:
    """
    Delete checkpoints before `current`, which must be complete, so that `limit` are left. `current` and `best` always
    stay; incomplete and damaged ones go first. transformers' own rotation would count an incomplete one as kept.

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
        if len(kept) < limit and find_fault(checkpoint, hashes=hashes) in (None, _ONLY_MODEL):
            kept.add(checkpoint.name)
        else:
            discard_checkpoint(checkpoint)
