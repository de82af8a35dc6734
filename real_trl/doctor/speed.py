# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How fast training is here: forward and backward with shared prompts against the dense ones, and against the rate of matrix products."""

import copy
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from real_trl.doctor.findings import Check, Finding, judged, skipped
from real_trl.doctor.kernels import as_batch, prepared
from real_trl.doctor.subject import TREES, Subject, dtype_name
from real_trl.forward.dense import policy_forward
from real_trl.forward.shared_prefix import shared_prefix_forward
from real_trl.forward.support import why_config_not_exact
from real_trl.planning.hardware import find_hardware
from real_trl.planning.memory import activations
from real_trl.planning.models import measure
from real_trl.planning.peaks import find_peak
from real_trl.planning.setup import GIB, Setup, Sharding
from real_trl.planning.time import duration, plan_time
from real_trl.planning.work import Job, operations

_ROUNDS = 3
_CPU = Job("train", rows=8, prompts=1, prompt=384, completion=33)
_GPU = Job("train", rows=16, prompts=1, prompt=1200, completion=129)


def seconds(do: Callable[[], object], device: torch.device, rounds: int = _ROUNDS) -> float:
    """Of the fastest round, after one that is not counted."""
    times = []
    for _ in range(1 + rounds):
        start = _now(device)
        do()
        times.append(_now(device) - start)
    return min(times[1:])


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def matmul_rate(subject: Subject) -> float:
    """Operations a second of a large product in the recipe's type."""
    size = 8192 if subject.is_gpu else 1024
    left, right = (torch.randn(size, size, device=subject.device).to(subject.dtype) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, subject.device, 10 if subject.is_gpu else 5)


def matrix_products(subject: Subject) -> Finding:
    """The rate that everything else is compared with; on a GPU against its published peak."""
    rate = matmul_rate(subject)
    shown = f"{rate / 1e12:.3g} TFLOP/s in {dtype_name(subject.dtype)}"
    peak = find_peak(find_hardware().cluster.name) if subject.is_gpu else None
    if peak is None:
        return Finding("ok", shown)
    published = peak.single.low if subject.dtype == torch.float32 else peak.half.low
    advice = "Something slows this GPU down: another process, a power limit, or heat (nvidia-smi -q -d PERFORMANCE says which)."
    return judged(rate > 0.4e12 * published, shown, f"40% of {published:g}", advice, otherwise="warning")


def _model(subject: Subject) -> PreTrainedModel:
    """Two layers with random weights: narrow ones on a processor, those of the recipe on a GPU."""
    if not subject.is_gpu:
        return subject.small_model(subject.dtype)
    config = copy.deepcopy(subject.text)
    config.num_hidden_layers = 2
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:2]
    with subject.device:
        return AutoModelForCausalLM.from_config(config, dtype=subject.dtype).train()


def _batch(job: Job, vocabulary: int, device: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(length: float) -> list[int]:
        return torch.randint(10, vocabulary, (int(length),), generator=generator).tolist()

    prompt = draw(job.prompt)
    return as_batch([(prompt, draw(job.completion), int(job.completion) - 2) for _ in range(job.rows)], device)


def _step(model: PreTrainedModel, batch: dict[str, Tensor], *, shared: bool) -> None:
    model.zero_grad()
    output = (shared_prefix_forward if shared else policy_forward)(model, **batch, tree=TREES["digits"])
    (output.log_probs.mean() + output.score_log_probs.mean()).backward()


def shared_prompts(subject: Subject) -> Finding:
    """Forward and backward of a group, with its prompt read once, and with a copy of it for each completion; and the share of the rate of products."""
    if reason := why_config_not_exact(subject.text):
        return skipped(f"prompts are not shared: {reason}")
    job, model = _GPU if subject.is_gpu else _CPU, _model(subject)
    batch = _batch(job, model.config.vocab_size, subject.device)
    times = {}
    for shared in (True, False):
        mine = prepared(model, subject.device, shared=shared)
        times[shared] = seconds(lambda mine=mine, shared=shared: _step(mine, batch, shared=shared), subject.device)
        del mine
    size = measure(model.config, None)
    share = operations(size, job) / times[True] / matmul_rate(subject)
    factor = times[False] / times[True]
    least = operations(size, replace(job, prompts=job.rows)) / operations(size, job)
    tokens = job.rows * (job.prompt + job.completion) / times[True]
    shown = (
        f"{factor:.1f} x as fast as dense (of {least:.1f} x by its operations), {tokens:,.0f} tokens/s through {model.config.num_hidden_layers} layers, "
        f"{100 * share:.2g}% of the rate of matrix products"
    )
    advice = "Sharing prompts costs more than it saves here: set shared_prefix: false, and report this."
    return judged(factor > 1, shown, "faster than dense", advice, otherwise="warning")


def peak_memory(subject: Subject) -> Finding:
    """What a forward and backward of a group takes on a GPU, against what `real-trl plan` counts for it."""
    if not subject.is_gpu:
        return skipped("needs a GPU")
    if reason := why_config_not_exact(subject.text):
        return skipped(f"prompts are not shared: {reason}")
    job, model = _GPU, prepared(_model(subject), subject.device, shared=True)
    size, half = measure(model.config, None), subject.dtype != torch.float32
    setup = Setup(
        cluster=find_hardware().cluster,
        sharding=Sharding(),
        size=size,
        stage="rl",
        batch=job.rows,
        accumulation=1,
        group=job.rows,
        micro_batches=1,
        iterations=1,
        prompt=int(job.prompt),
        completion=int(job.completion),
        shared=True,
        checkpointing=False,
        half=half,
        weight_bytes=2 if half else 4,
        reference=False,
        generation="none",
    )
    planned = sum(item.bytes for item in activations(setup)) + sum(p.nbytes for p in model.parameters())
    batch = _batch(job, model.config.vocab_size, subject.device)
    before = torch.cuda.memory_allocated(subject.device)
    torch.cuda.reset_peak_memory_stats(subject.device)
    _step(model, batch, shared=True)
    measured = torch.cuda.max_memory_allocated(subject.device) - before
    shown = f"{measured / GIB:.2f} GiB beside the weights, {planned / GIB:.2f} planned"
    advice = "Plans for this model and GPU are too small by this factor: leave as much room, and report this."
    return judged(measured < 1.15 * planned, shown, "1.15 x the plan", advice, otherwise="warning")


def step_time(subject: Subject) -> Finding:
    """Projected time of one update of the recipe on this machine."""
    if subject.recipe is None:
        return skipped("without --recipe")
    time = plan_time(subject.recipe, subject.setup, None, subject.lengths)
    if time.update is None:
        return skipped(time.how)
    return Finding(
        "ok",
        f"{duration(time.update)} an update, {'measured' if time.how.startswith('measured') else 'computed'} with usual lengths",
    )


CHECKS: dict[str, Check] = {
    "matrix products": matrix_products,
    "shared prompts": shared_prompts,
    "peak memory": peak_memory,
    "an update": step_time,
}
