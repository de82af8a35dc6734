# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Seconds of a job on a GPU that is not at hand: between two shares of what its maker publishes as its peak."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from real_trl.planning.memory import kv_bytes
from real_trl.planning.setup import Setup
from real_trl.planning.work import Job, operations


class Bounds(NamedTuple):
    """The least and the most."""

    low: float
    high: float

    def times(self, factor: float) -> "Bounds":
        """Both times `factor`."""
        return Bounds(self.low * factor, self.high * factor)


class Peak(NamedTuple):
    """TFLOP/s of dense matrix products in half precision and in float32, and GB/s of memory: of the slowest and the fastest model sold."""

    half: Bounds
    single: Bounds
    bandwidth: Bounds


# NVIDIA's data sheets, without sparsity; where a name is of several products (PCIe and SXM, 40 and 80 GB) of all of them. T4 and V100
# have float16 in their tensor cores, and no bfloat16.
_PEAKS = {
    "T4": Peak(Bounds(65, 65), Bounds(8.1, 8.1), Bounds(300, 320)),
    "V100": Peak(Bounds(112, 125), Bounds(14, 15.7), Bounds(900, 900)),
    "A10": Peak(Bounds(125, 125), Bounds(31.2, 31.2), Bounds(600, 600)),
    "A10G": Peak(Bounds(70, 70), Bounds(31.5, 35), Bounds(600, 600)),
    "L4": Peak(Bounds(121, 121), Bounds(30.3, 30.3), Bounds(300, 300)),
    "L40S": Peak(Bounds(362, 362), Bounds(91.6, 91.6), Bounds(864, 864)),
    "A100": Peak(Bounds(312, 312), Bounds(19.5, 19.5), Bounds(1555, 2039)),
    "H100": Peak(Bounds(756, 989), Bounds(51, 67), Bounds(2000, 3350)),
    "H200": Peak(Bounds(835, 989), Bounds(60, 67), Bounds(4800, 4800)),
    "B200": Peak(Bounds(2250, 2250), Bounds(75, 80), Bounds(7700, 8000)),
}
# Assumed. Of the peak, what training and long prefills reach, and what a decoding step reaches of the memory's bandwidth
_COMPUTE = Bounds(0.2, 0.5)
_MEMORY = Bounds(0.3, 0.8)
# Assumed. Seconds to start the kernels of one layer's forward, which is what small batches take; with vLLM's CUDA graphs
_START = Bounds(2e-4, 1e-3)
_START_VLLM = Bounds(2e-5, 1e-4)
_STEP_BYTES = (
    28  # of a trained weight: AdamW reads weight, gradient and moments, and writes all but the gradient, in float32
)


def find_peak(name: str) -> Peak | None:
    """The peak of the GPU that a [`~real_trl.planning.setup.Cluster`] names; `None` if it is not known here."""
    words = re.split(r"[^A-Z0-9]+", name.upper())
    return next((peak for gpu, peak in _PEAKS.items() if gpu in words), None)


def known_gpus() -> str:
    """Names that [`find_peak`] knows."""
    return ", ".join(_PEAKS)


@dataclass(frozen=True)
class PeakMachine:
    """Arithmetic instead of a machine."""

    setup: Setup
    peak: Peak

    @property
    def how(self) -> str:
        """What the seconds were computed from."""
        half = self.setup.half
        flops = self.peak.half if half else self.peak.single
        return (
            f"computed, not measured: {_range(*flops)} TFLOP/s in {'half precision' if half else 'float32'} and {_range(*self.peak.bandwidth)} GB/s are the "
            f"published peaks of a {self.setup.cluster.name}, of which {_COMPUTE.low:.0%} to {_COMPUTE.high:.0%} and {_MEMORY.low:.0%} to "
            f"{_MEMORY.high:.0%} are assumed to be reached"
        )

    def seconds(self, job: Job, like: Job | None = None) -> Bounds:
        """Seconds of `job` on one GPU; what it is `like` makes no difference."""
        size = self.setup.size
        if job.kind == "step":
            shared = self.setup.cluster.world if self.setup.sharding.stage else 1
            return self._moving(_STEP_BYTES * size.trainable / shared)
        if job.kind == "decode":
            return self._decoding(job)
        passes = 3 + self.setup.checkpointing if job.kind == "train" else 1
        return self._computing(operations(size, job, checkpointing=self.setup.checkpointing), passes)

    def _decoding(self, job: Job) -> Bounds:
        """A step, which reads all weights, keys and values."""
        setup, size, split = self.setup, self.setup.size, 1
        if setup.generation == "vllm" and setup.stage == "rl":
            split = setup.vllm_parallel  # GPUs that share a model and their rows
        width = 2 if setup.half else 4
        kept = job.prompts * job.prompt + job.rows * job.completion
        read = width * size.total / split + kv_bytes(size) * width / 2 * kept
        computed = self._computing(operations(size, job), 1)
        moved = self._moving(read)
        return Bounds(max(computed.low, moved.low), computed.high + moved.high)

    def _computing(self, flops: float, passes: int) -> Bounds:
        half = self.setup.half
        peak = self.peak.half if half else self.peak.single
        start = _START_VLLM if self.setup.generation == "vllm" and passes == 1 else _START
        starting = start.times(passes * self.setup.size.layers)
        low, high = flops / (peak.high * 1e12 * _COMPUTE.high), flops / (peak.low * 1e12 * _COMPUTE.low)
        return Bounds(max(low, starting.low), high + starting.high)

    def _moving(self, size: float) -> Bounds:
        rate = self.peak.bandwidth
        return Bounds(size / (rate.high * 1e9 * _MEMORY.high), size / (rate.low * 1e9 * _MEMORY.low))


def _range(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
