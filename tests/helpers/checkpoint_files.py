# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether two checkpoints hold the same, bit for bit; and a bit that changes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

# They hold output_dir, or how long things took
NOT_COMPARED = {"training_args.bin", "README.md", "manifest.json", "trainer_state.json"}


def assert_same_files(folder: Path, other: Path) -> list[str]:
    """Both folders hold the same files with the same contents. Returns the names of the files that were compared."""
    names = _files(folder)
    assert names == _files(other)
    compared = [name for name in names if Path(name).name not in NOT_COMPARED]
    for name in compared:
        if name.endswith((".pt", ".pth")):
            first, second = (torch.load(side / name, weights_only=False) for side in (folder, other))
            assert is_same(first, second), name
        else:
            assert (folder / name).read_bytes() == (other / name).read_bytes(), name
    return compared


def assert_same_checkpoint(checkpoint: Path, other: Path) -> None:
    """Both checkpoints go on in the same way: weights, optimizer, scheduler, random states, sampling buffer, progress."""
    compared = assert_same_files(checkpoint, other)
    for expected in ("model.safetensors", "optim", "scheduler.pt", "rng_state"):
        assert any(expected in name for name in compared), expected
    states = [json.loads((folder / "trainer_state.json").read_text()) for folder in (checkpoint, other)]
    for key in ("global_step", "epoch", "max_steps", "best_global_step", "best_metric"):
        assert states[0][key] == states[1][key]


def flip_a_bit(path: Path) -> None:
    """The size, and the time that it was written, stay the same."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def is_same(first: Any, second: Any) -> bool:
    """Equality of nested containers, where NaN equals NaN, and tensors are equal bit for bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, np.ndarray):
        return np.array_equal(first, second)
    if isinstance(first, dict):
        return list(first) == list(second) and all(is_same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(is_same, first, second))
    if hasattr(first, "__dict__") and not isinstance(first, type):
        return is_same(vars(first), vars(second))
    return first == second or (first != first and second != second)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
