# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The machine that a run is planned for, and whether it is this one."""

from dataclasses import dataclass

import psutil
import torch

from real_trl.planning.setup import CPU, GIB, Cluster


@dataclass(frozen=True)
class Hardware:
    """What training runs on: its name, whether it is a GPU, the cluster that it is planned for, and whether a processor is faster in bfloat16."""

    name: str
    gpu: bool
    cluster: Cluster
    fast_half: bool = False


def find_hardware(gpus: str | None = None) -> Hardware:
    """The GPUs that `--gpus` names, else those of this machine, else its processor with the memory that is free."""
    if gpus:
        cluster = Cluster.parse(gpus)
        return Hardware(str(cluster), True, cluster)
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        cluster = Cluster(1, torch.cuda.device_count(), properties.name.replace(" ", "-"), properties.total_memory)
        return Hardware(f"{cluster.world} x {properties.name}, {properties.total_memory / GIB:.0f} GiB", True, cluster)
    memory = psutil.virtual_memory().available
    can = torch.cpu.get_capabilities()
    fast_half = bool(can.get("amx_bf16") or can.get("avx512_bf16"))  # without them bfloat16 is slower than float32
    name = f"the processor, {memory / GIB:.0f} GiB of memory free"
    return Hardware(name, False, Cluster(1, 1, CPU, memory), fast_half)


def is_here(cluster: Cluster) -> bool:
    """Whether this machine has the GPUs that `cluster` names, or it names one processor."""
    if cluster.is_processor:
        return cluster.world == 1
    if cluster.nodes > 1 or not torch.cuda.is_available() or torch.cuda.device_count() < cluster.gpus:
        return False
    found = torch.cuda.get_device_properties(0)
    words = found.name.upper().replace("-", " ").split()
    named = cluster.name.upper().replace("-", " ").split()
    # What is sold as 80 GB shows 79
    return set(named) <= set(words) and abs(found.total_memory / cluster.memory - 1) < 0.15
