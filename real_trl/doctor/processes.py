# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Several processes against one: the loss and the update of a batch that they share, saving and resuming, weights gathered for generation, and how
fast they exchange numbers. As `accelerate launch` has configured them (DDP, DeepSpeed, FSDP).
"""

import os
import tempfile
from time import perf_counter

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from torch import Tensor, nn
from trl.models import unwrap_model_for_generation

from real_trl.doctor.findings import Finding, judged, skipped
from real_trl.doctor.kernels import as_batch, prepared, random_rows, relative_error
from real_trl.doctor.subject import TREES, Subject
from real_trl.forward.dense import policy_forward
from real_trl.trainers.precision import float32_weights

_TREE = TREES["digits"]
_SHARE = 0.01  # of the weights' norm, that the update has
_FLOAT32, _HALF = 1e-4, 5e-2  # relative errors
_ADVICE = "Training in these processes is not training in one: try recipes/accelerate_configs/ddp.yaml or another ZeRO stage, and report this."


def check_processes(subject: Subject) -> dict[str, Finding]:
    """All of it; skipped in one process. Every process must call it, and the main one's findings count."""
    state = PartialState()
    if state.num_processes == 1:
        return {"processes": skipped("one process: real-trl --accelerate_config FILE doctor starts several")}
    # Each process has others
    shares = [random_rows(process) for process in range(state.num_processes)]
    rows, own_rows = [row for share in shares for row in share], shares[state.process_index]
    # Before accelerate is configured: under ZeRO-3, a model that is made is spread, and every LM head is taken to be
    reference, model = (prepared(subject.small_model(), subject.device, shared=False) for _ in range(2))
    loss = _loss(reference, rows, len(rows))
    loss.backward()
    accelerator = Accelerator(cpu=state.distributed_type == DistributedType.MULTI_CPU)
    weights = {name: p for name, p in reference.named_parameters() if p.grad is not None}
    norms = [
        torch.stack([x.norm() for x in xs]).norm() for xs in (weights.values(), (p.grad for p in weights.values()))
    ]
    rate = (_SHARE * norms[0] / norms[1]).item()

    optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    plugin = accelerator.state.deepspeed_plugin
    if plugin is not None:
        own = {
            "train_micro_batch_size_per_gpu": len(own_rows),
            "gradient_accumulation_steps": 1,
            "gradient_clipping": 0.0,
        }
        plugin.deepspeed_config.update(own, zero_allow_untested_optimizer=True, zero_force_ds_cpu_optimizer=False)
    model, optimizer = accelerator.prepare(model, optimizer)
    half = accelerator.mixed_precision != "no"
    bound = _HALF if half else _FLOAT32
    shown_bound = f"{bound:g}, {'half precision' if half else 'float32'}"

    before = _whole(accelerator, model)
    mine = _loss(model, own_rows, len(own_rows), accelerator)
    accelerator.backward(mine)
    optimizer.step()
    optimizer.zero_grad()
    together = accelerator.reduce(mine.detach().float(), "mean")
    error = abs(together.item() / loss.item() - 1)
    findings = {"loss": judged(error < bound, f"{error:.1e} from one process's", shown_bound, _ADVICE)}

    after = _whole(accelerator, model)
    errors = {}
    if accelerator.is_main_process:
        moved = {name: after[name] - before[name] for name in after}
        exact = {name: -rate * p.grad.cpu().double() for name, p in weights.items()}
        flat = [torch.cat([side[name].flatten() for name in exact]) for side in (moved, exact)]
        errors["update"] = relative_error(*flat)
    with torch.no_grad():
        for parameter in weights.values():
            parameter -= rate * parameter.grad
    error = _told(errors.get("update"))
    findings["gradient"] = judged(
        error < bound, f"{error:.1e} from one process's, in one update", shown_bound, _ADVICE
    )
    findings["save and resume"] = _save_and_resume(accelerator, model, optimizer, own_rows, after)
    findings["gather for generation"] = _gathered(accelerator, model, reference, bound, shown_bound)
    findings["bandwidth"] = _bandwidth(accelerator)
    return findings


def _loss(model: nn.Module, rows: list, total: int, accelerator: Accelerator | None = None) -> Tensor:
    """A function of tokens and labels: a mean over `total` rows."""
    device = next(model.parameters()).device if accelerator is None else accelerator.device
    batch = as_batch(rows, device)
    output = policy_forward(model, **batch, tree=_TREE)
    return -(output.log_probs.sum(1) / 10 + output.score_log_probs.sum(1)).sum() / total


def _whole(accelerator: Accelerator, model: nn.Module) -> dict[str, Tensor]:
    """All weights in float64 on the CPU, of the main process; every process must call it."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return {name: x.double() for name, x in _names(float32_weights(accelerator.unwrap_model(model))).items()}
    return {name: x.detach().cpu().double() for name, x in _names(accelerator.get_state_dict(model)).items()}


def _names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("module."): x for name, x in weights.items()}


def _told(value: float | None) -> float:
    """What the main process knows."""
    known = [value]
    broadcast_object_list(known)
    return known[0]


def _save_and_resume(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rows: list,
    weights: dict[str, Tensor],
) -> Finding:
    """Another update between saving and loading leaves no trace."""
    if int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes)) != accelerator.num_processes:
        return skipped("several machines, which may have no folder in common")
    with tempfile.TemporaryDirectory() as folder:
        folders = [folder]
        broadcast_object_list(folders)
        accelerator.save_state(folders[0])
        accelerator.backward(_loss(model, rows[:2], 2, accelerator))
        optimizer.step()
        optimizer.zero_grad()
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
    accelerator: Accelerator, model: nn.Module, reference: nn.Module, bound: float, shown_bound: str
) -> Finding:
    """Logits of the model that generates."""
    ids = as_batch(random_rows(), accelerator.device)["completion_ids"][:1]
    reference.eval()
    with unwrap_model_for_generation(model, accelerator) as whole:
        whole.eval()
        error = relative_error(whole(ids).logits, reference(ids).logits)
    errors = accelerator.gather(torch.tensor([error], device=accelerator.device))
    worst = errors.max().item()
    return judged(worst < bound, f"logits {worst:.1e} from one process's", shown_bound, _ADVICE)


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
