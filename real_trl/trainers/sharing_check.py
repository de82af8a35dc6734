# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Whether a model gives the same where prompts are shared, or rows packed, as where every sequence has a row of its own: looked at once,
on the first micro-batch of a run, since kernels differ between GPUs and releases and a wrong one trains a wrong judge without a sign.

The two ways differ by rounding, and how much that moves log-probabilities depends on the model. So it is measured: the dense way is
computed once more, with every number that a layer hands on off by the most that one rounding in the type of the products does, `u`, up or
down at random. A layer rounds about ten times, but by `u / √3` in the mean square at most, and mostly in what it adds to what it hands
on: two ways that are right differ by about as much as that. Measured on CPUs, the mean of |Δ log π| is 0.5 to 0.8 of it in half
precision (SmolLM2-135M, tiny models), 0.8 to 1.1 in float32; where completions do not see the last of 150 tokens of their prompt 2.5 to
3.4 times, where not the first 27 to 37 times, and in float32 40,000 times. More than [`FACTOR`] times, and the share that a mean of few
may be off by, is no rounding.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.logging import get_logger
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from real_trl.forward.dense import causal_lm

logger = get_logger(__name__)

FACTOR = 2.0
_SPREAD = 4.0  # standard deviations of a mean over `n`, each taken for 1 / √n of it
_ROWS = 4  # that are computed at a time in the dense way, for which memory was not planned
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def wants_check(check: bool | None, device: torch.device) -> bool:
    """`check_shared_prefix`, where it is `None`: not on a CPU, whose kernels the tests of this package have seen."""
    return device.type != "cpu" if check is None else check


@torch.no_grad()
def ways_agree(
    accelerator: Accelerator, model: nn.Module, size: int, log_probs: Callable[[bool, slice], Sequence[Tensor]]
) -> bool:
    """
    Compute a micro-batch both ways; if they differ by more than rounding explains, say so. All processes answer alike.

    Args:
        model (`nn.Module`):
            As it is trained, wrapped or not. Meanwhile it is in evaluation mode, without dropout.
        size (`int`):
            Rows of the micro-batch, the same in all processes.
        log_probs (`Callable`):
            Whether prompts are shared, and which rows, to the log-probabilities of their tokens and of their labels.

    Returns:
        Whether they agree. Where the dense way gives no numbers, nothing can be said, and that is `True`.
    """
    unit = _unit(accelerator, model)
    training = model.training
    model.eval()
    try:
        shared = log_probs(True, slice(size))
        dense = _in_parts(size, log_probs)
        with _rounded_more(model, unit):
            moved = _in_parts(size, log_probs)
    finally:
        model.train(training)
    sums = [[(a.float() - b.float()).abs().sum() for a, b in zip(way, dense, strict=True)] for way in (shared, moved)]
    sizes = [[x.new_tensor(count(x), dtype=torch.float32) for x in dense] for count in (len, torch.numel)]
    total = accelerator.reduce(torch.stack([torch.stack(row) for row in (*sums, *sizes)]), reduction="sum")
    wrong, found = False, []
    for name, (by, rounding, rows, numbers) in zip(("tokens", "labels"), total.T.tolist(), strict=True):
        bound = FACTOR * (1 + _SPREAD / max(rows, 1) ** 0.5) * rounding
        if not math.isfinite(bound):
            return True
        wrong = wrong or not by <= bound  # NaN is wrong
        found.append(f"{name}: {by / max(numbers, 1):.2g}, rounding explains {bound / max(numbers, 1):.2g}")
    if not wrong:
        return True
    logger.warning(
        f"With prompts that are shared or rows that are packed, this model gives something else than with a row for each completion: "
        f"log-probabilities of the first micro-batch differ by more, on average, than rounding explains ({'; '.join(found)}). The run goes "
        "on with a row for each, which is right and slower. Please report this with the versions of torch and transformers, the GPU and the "
        "model; check_shared_prefix: false switches the check off."
    )
    return False


def _unit(accelerator: Accelerator, model: nn.Module) -> float:
    """The most that one rounding in the type of the model's products changes a number, relative to it."""
    dtype = _TYPES.get(accelerator.mixed_precision, causal_lm(model).dtype)
    if (
        dtype == torch.float32
        and accelerator.device.type == "cuda"
        and torch.backends.cuda.matmul.fp32_precision == "tf32"
    ):
        return 2.0**-11  # TensorFloat-32
    # Norms and log-probabilities are in float32 at most
    return max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps) / 2


def _in_parts(size: int, log_probs: Callable[[bool, slice], Sequence[Tensor]]) -> list[Tensor]:
    parts = [log_probs(False, slice(start, start + _ROWS)) for start in range(0, size, _ROWS)]
    return [torch.cat(part) for part in zip(*parts, strict=True)]


@contextmanager
def _rounded_more(model: nn.Module, unit: float) -> Iterator[None]:
    """Meanwhile, every number that the embedding and the layers hand on is off by `unit` of itself, up or down; no random state changes."""
    generators: dict[torch.device, torch.Generator] = {}

    def move(module: nn.Module, args: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        device = hidden.device
        generator = generators.setdefault(device, torch.Generator(device).manual_seed(0))
        signs = torch.randint(0, 2, hidden.shape, generator=generator, dtype=torch.int8, device=device).mul_(2).sub_(1)
        moved = (hidden * (1 + unit * signs.to(torch.promote_types(hidden.dtype, torch.float32)))).to(hidden.dtype)
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    base = causal_lm(model)
    layers = [base.get_input_embeddings(), *(x for x in base.modules() if isinstance(x, GradientCheckpointingLayer))]
    hooks = [layer.register_forward_hook(move) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
