# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What every benchmark measures with: runs in turns, seconds, peak memory, and a description of the machine."""

import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from real_trl.versions import package_versions

T = TypeVar("T")

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h


def in_turns(ways: Mapping[str, Callable[[], T]], repeats: int) -> Iterator[tuple[str, T]]:
    """
    Run every way `repeats` times: A, B, B, A, A, B, … A machine that gets slower or faster meanwhile thus does it to both.

    Yields:
        The name of a way and what it returned, as they are run.
    """
    for repeat in range(repeats):
        for name in ways if repeat % 2 == 0 else reversed(ways):
            yield name, ways[name]()


def medians(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each way's values."""
    return {name: statistics.median(row) for name, row in values.items()}


class Meter(Protocol):
    """Measures what happens between `start` and `stop`; the result is `value`."""

    value: float

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Stopwatch:
    """
    Seconds, those that a GPU still works included.

    Args:
        device (`torch.device`):
            What is waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.value = device, 0.0

    def start(self) -> None:
        """Begin."""
        self._synchronize()
        self._started = time.perf_counter()

    def stop(self) -> None:
        """End; `value` is the seconds since [`start`]."""
        self._synchronize()
        self.value = time.perf_counter() - self._started

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class PeakMemory:
    """
    Bytes of memory in use at most, beyond those in use at the start.

    On a GPU these are PyTorch's tensors; on a CPU the process's resident memory, whose highest value the Linux kernel
    keeps. What is freed and only held back by the allocator does not count: it is given back first, and meanwhile glibc takes every block
    of 64 KiB or more from the system and gives it back when it is freed, which takes time that must not be measured with it.

    Args:
        device (`torch.device`):
            Whose memory.

    Raises:
        RuntimeError: on a CPU without Linux's `/proc`.
    """

    def __init__(self, device: torch.device) -> None:
        if device.type == "cpu" and not Path("/proc/self/clear_refs").exists():
            raise RuntimeError(
                f"peak memory on a CPU is read from Linux's /proc, which {platform.system()} does not have. Run the benchmark on "
                "Linux, or with --device cuda."
            )
        self.device, self.value = device, 0.0

    def start(self) -> None:
        """Begin: forget the peak so far."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, 2**16)
        libc.malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to VmRSS
        self._before = _status("VmRSS")

    def stop(self) -> None:
        """End; `value` is the bytes."""
        cuda = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if cuda else _status("VmHWM")
        if not cuda:
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**25)  # the most that glibc comes to by itself
        self.value = float(peak - self._before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


class TokenCounter:
    """Counts the positions that a model computes while it is used as a context."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.count = model, 0

    def __enter__(self) -> "TokenCounter":
        def add(module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
            self.count += kwargs["input_ids"].numel()

        self._hook = self.model.register_forward_pre_hook(add, with_kwargs=True)
        return self

    def __exit__(self, *error: object) -> None:
        self._hook.remove()


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Device, its name, threads, and the versions that a result depends on."""
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def release(device: torch.device) -> None:
    """Free what is no longer referred to, cycles included."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
