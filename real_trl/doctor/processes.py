# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Several processes against one: the loss and the update of micro-batches that they share, saving and resuming, weights gathered for generation, and how
fast they exchange numbers. As `accelerate launch` has configured them (DDP, DeepSpeed, FSDP), with what the trainers change of that.

An error is that from float64. It may be at most twice that of one process in the same type, whose own sums are in float32.
"""

import os
import tempfile
from collections.abc import Sequence
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, broadcast_object_list
from torch import Tensor, nn
from transformers.trainer_pt_utils import AcceleratorConfig
from trl.models import unwrap_model_for_generation

from real_trl.doctor.findings import Finding, judged, skipped
from real_trl.doctor.kernels import as_batch, prepared, random_rows, relative_error
from real_trl.doctor.subject import TREES, Subject, dtype_name
from real_trl.forward.dense import policy_forward
from real_trl.trainers.fsdp import prepare_fsdp, reduce_each_micro_batch
from real_trl.trainers.precision import accumulate_in_float32, float32_weights

_TREE = TREES["digits"]
_SHARE = 0.01  # of the weights' norm, that the update has
_MICRO_BATCHES = 8
_ROWS = slice(3, 5)  # of those of a seed: a long and a short prompt
_FACTOR = 2.0
_RESOLUTION = {torch.float32: 1e-5, torch.bfloat16: 1e-4, torch.float16: 1e-4}  # what is no error: weights are float32
_TYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SCALE = {torch.float16: 2.0**10}  # of the loss of one process, whose gradients would be rounded to zero
_TRIES = 32  # of a step that is skipped as its loss was scaled by too much: every try halves it
_ADVICE = "Training in these processes is not training in one: try recipes/accelerate_configs/ddp.yaml or another ZeRO stage, and report this."

Rows = list[tuple[list[int], list[int], int]]


class Reading(NamedTuple):
    """Losses of micro-batches `(N)`, and by name the gradient of their mean, on the CPU in float64."""

    losses: Tensor
    gradient: dict[str, Tensor]

    @property
    def flat(self) -> Tensor:
        """All of the gradient."""
        return torch.cat([x.flatten() for x in self.gradient.values()])


def check_processes(subject: Subject) -> dict[str, Finding]:
    """All of it; skipped in one process. Every process must call it, and the main one's findings count."""
    state = PartialState()
    if state.num_processes == 1:
        return {"processes": skipped("one process: real-trl --accelerate_config FILE doctor starts several")}
    mixed = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if subject.recipe is not None:  # which decides, as in training
        mixed = next(name for name, dtype in _TYPES.items() if dtype == subject.dtype)
    dtype = _TYPES.get(mixed, torch.float32)
    # Each process has others
    seeds = range(_MICRO_BATCHES * state.num_processes)
    batches = [random_rows(seed)[_ROWS] for seed in seeds]
    own_batches = batches[state.process_index :: state.num_processes]
    sharded = any(os.environ.get(f"ACCELERATE_USE_{kind}", "false") == "true" for kind in ("DEEPSPEED", "FSDP"))

    # Before accelerate is configured: under ZeRO-3, a model that is made is spread, and every LM head is taken to be.
    # All begin with weights that the type has, as a checkpoint does
    def model_in(kind: torch.dtype, device: torch.device) -> nn.Module:
        return prepared(subject.small_model(dtype).to(kind), device, shared=False)

    one = model_in(torch.float64, torch.device("cpu"))
    exact = _read(one, batches, torch.float64)
    alone = _read(model_in(dtype if sharded else torch.float32, subject.device), batches, dtype)
    model = model_in(torch.float32, subject.device)
    norms = [torch.stack([x.norm() for x in xs]).norm() for xs in (one.parameters(), exact.gradient.values())]
    rate = (_SHARE * norms[0] / norms[1]).item()
    with torch.no_grad():  # as it will be after the update
        for name, parameter in one.named_parameters():
            if name in exact.gradient:
                parameter -= rate * exact.gradient[name]
    updated = model_in(torch.float32, subject.device)
    updated.load_state_dict(one.state_dict())
    if sharded:
        updated.to(dtype)

    accelerator, model, optimizer = _prepare(model, rate, mixed, state)
    before = _whole(accelerator, model)
    losses = accelerator.gather(_update(accelerator, model, optimizer, own_batches))
    after = _whole(accelerator, model)
    # Those of each process are in order, one process after the other
    in_order = losses.view(state.num_processes, -1).T.flatten()
    findings = {"loss": _finding(relative_error(in_order.cpu(), exact.losses), alone.losses, exact.losses, dtype)}
    error = None
    if accelerator.is_main_process:
        moved = torch.cat([(after[name] - before[name]).flatten() for name in exact.gradient])
        error = relative_error(moved, -rate * exact.flat)
    findings["gradient"] = _finding(_told(error), alone.flat, exact.flat, dtype)
    findings["save and resume"] = _save_and_resume(accelerator, model, optimizer, own_batches, after)
    findings["gather for generation"] = _gathered(accelerator, model, updated, one, dtype)
    findings["bandwidth"] = _bandwidth(accelerator)
    return findings


def _prepare(
    model: nn.Module, rate: float, mixed: str, state: PartialState
) -> tuple[Accelerator, nn.Module, torch.optim.Optimizer]:
    """With what the trainers do to accelerate before and after they have made it."""
    args = SimpleNamespace(accelerator_config=AcceleratorConfig(), deepspeed_plugin=None)
    reduce_each_micro_batch(args)
    steps = args.accelerator_config.gradient_accumulation_kwargs or {}
    accelerator = Accelerator(
        cpu=state.distributed_type == DistributedType.MULTI_CPU,
        mixed_precision=mixed,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            **steps, num_steps=_MICRO_BATCHES, sync_with_dataloader=False
        ),
    )
    plugin = args.deepspeed_plugin = accelerator.state.deepspeed_plugin
    accumulate_in_float32(args)
    prepare_fsdp(accelerator, args)
    if plugin is not None:
        own = {
            "train_micro_batch_size_per_gpu": _ROWS.stop - _ROWS.start,
            "gradient_accumulation_steps": _MICRO_BATCHES,
            "gradient_clipping": 0.0,
        }
        plugin.deepspeed_config.update(own, zero_allow_untested_optimizer=True, zero_force_ds_cpu_optimizer=False)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    return accelerator, *accelerator.prepare(model, optimizer)


def _read(model: nn.Module, batches: Sequence[Rows], dtype: torch.dtype) -> Reading:
    """By one process; a `model` in float32 computes in `dtype` by autocast, any other as it is."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    weight = next(iter(parameters.values()))
    half, scale = weight.dtype == torch.float32 and dtype != torch.float32, _SCALE.get(dtype, 1.0)
    sums: dict[str, Tensor] = {}
    losses = []
    for rows in batches:
        with torch.autocast(weight.device.type, dtype if half else None, enabled=half):
            loss = _loss(model, rows, weight.device)
        (scale * loss).backward()
        losses.append(loss.detach())
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                grad = parameter.grad.to(torch.promote_types(parameter.dtype, torch.float32))
                sums[name] = sums[name] + grad if name in sums else grad.clone()
                parameter.grad = None
    gradient = {name: x.cpu().double() / scale / len(batches) for name, x in sums.items()}
    return Reading(torch.stack(losses).cpu().double(), gradient)


def _update(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, batches: Sequence[Rows]
) -> Tensor:
    """One step over all micro-batches, whose losses `(N)` it returns; again where it was skipped, as the first ones in float16 are."""
    for _ in range(_TRIES):
        losses = []
        for rows in batches:
            with accelerator.accumulate(model):
                loss = _loss(model, rows, accelerator.device)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.detach().float())
        if not accelerator.optimizer_step_was_skipped:
            break
    return torch.stack(losses)


def _finding(error: float, alone: Tensor, exact: Tensor, dtype: torch.dtype) -> Finding:
    own = relative_error(alone, exact)
    bound = f"{_FACTOR:g} x one process in {dtype_name(dtype)}"
    return judged(error <= _FACTOR * own + _RESOLUTION[dtype], f"{error:.1e}, one process {own:.1e}", bound, _ADVICE)


def _loss(model: nn.Module, rows: Rows, device: torch.device) -> Tensor:
    """A function of tokens and labels: a mean over rows."""
    output = policy_forward(model, **as_batch(rows, device), tree=_TREE)
    return -(output.log_probs.sum(1) / 10 + output.score_log_probs.sum(1)).mean()


def _whole(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """All weights in float64 on the CPU, of the main process; every process must call it."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return {name: x.double() for name, x in _names(float32_weights(accelerator.unwrap_model(model))).items()}
    return {name: x.detach().cpu().double() for name, x in _names(accelerator.get_state_dict(model)).items()}


def _names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): x for name, x in weights.items()}


def _told(value: Any) -> Any:
    """What the main process knows."""
    known = [value]
    broadcast_object_list(known)
    return known[0]


def _save_and_resume(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Rows],
    weights: dict[str, Tensor],
) -> Finding:
    """Another update between saving and loading leaves no trace."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)) != accelerator.num_processes:
        return skipped("several machines, which may have no folder in common")
    with tempfile.TemporaryDirectory() as folder:
        folders = [folder]
        broadcast_object_list(folders)
        accelerator.save_state(folders[0])
        _update(accelerator, model, optimizer, batches)
        moved = _whole(accelerator, model)
        accelerator.load_state(folders[0])
        resumed = _whole(accelerator, model)
        accelerator.wait_for_everyone()
    differences = None
    if accelerator.is_main_process:
        differences = [
            max((side[name] - weights[name]).abs().max().item() for name in weights) for side in (moved, resumed)
        ]
    moved_by, left = _told(differences)
    shown = f"weights {left:.1e} from those saved, after an update of {moved_by:.1e}"
    return judged(left <= 1e-7 < moved_by, shown, "1e-7", _ADVICE)


@torch.no_grad()
def _gathered(
    accelerator: Accelerator, model: nn.Module, alone: nn.Module, exact: nn.Module, dtype: torch.dtype
) -> Finding:
    """Logits of the model that generates."""
    ids = as_batch(random_rows(), accelerator.device)["completion_ids"][:1]
    half = dtype != torch.float32
    with torch.autocast(ids.device.type, dtype if half else None, enabled=half):
        own = alone.eval()(ids).logits.cpu()
    right = exact.eval()(ids.cpu()).logits
    with unwrap_model_for_generation(model, accelerator) as whole:
        whole.eval()
        with torch.autocast(ids.device.type, dtype if half else None, enabled=half):
            error = relative_error(whole(ids).logits.cpu(), right)
    errors = accelerator.gather(torch.tensor([error], device=accelerator.device))
    return _finding(errors.max().item(), own, right, dtype)


def _bandwidth(accelerator: Accelerator) -> Finding:
    world, gpu = accelerator.num_processes, accelerator.device.type == "cuda"
    numbers = torch.ones(2**26 if gpu else 2**20, device=accelerator.device)
    times = []
    for _ in range(4):
        if gpu:
            torch.cuda.synchronize()
        start = perf_counter()
        torch.distributed.all_reduce(numbers)
        if gpu:
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
        numbers.fill_(1)
    rate = 2 * (world - 1) / world * numbers.nbytes / min(times[1:])
    kind = torch.distributed.get_backend()
    return Finding(
        "ok", f"{rate / 1e9:.3g} GB/s (all-reduce of {numbers.nbytes // 2**20} MiB over {world} processes, {kind})"
    )
