# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Which share of what the optimizer changes does the policy see that samples?

Weights are updated in float32, but read in half precision, by ZeRO, under autocast and in vLLM. Updates below half a rounding
step stay in float32 and do not change the low-precision copy yet: of the change of 20 steps at a learning rate of 5e-8, 1 % is visible.
"""

from typing import Any

import torch
from accelerate.logging import get_logger
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from real_trl.forward.dense import causal_lm
from real_trl.trainers.mixed_in import JudgeTrainer

logger = get_logger(__name__)

METRIC = "update/visible_share"
_WEIGHTS, _NUMBERS = 32, 2**12  # matrices that are looked at, and numbers in each
FIRST_STEPS = 20
_LITTLE = 0.5


def visible_share(seen: Tensor, first_seen: Tensor, weights: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """
    The two sums of the share `Σ Δseen · Δweight / Σ Δweight²`: of the update, what its low-precision copy shows. Rounding that hits
    either way adds nothing to it on average.

    Args:
        seen, first_seen, weights, first (`torch.Tensor` of the same shape):
            The copy and the weights, now and before.

    Returns:
        Numerator and denominator, in float64.
    """
    update = weights.double() - first.double()
    return ((seen.double() - first_seen.double()) * update).sum(), update.square().sum()


class VisibleUpdateCallback(TrainerCallback):
    """
    Logs `update/visible_share` with the training metrics, 1 where everything that the optimizer has changed since the training began is
    seen by the policy that samples, and says after the first steps what to do if it is little. It looks at some numbers of some
    matrices.

    Args:
        trainer ([`~transformers.Trainer`]):
            [`RAFTTrainer`] or [`REALTrainer`].
        dtype (`torch.dtype`):
            The type that the policy reads its weights in.
    """

    def __init__(self, trainer: JudgeTrainer, dtype: torch.dtype) -> None:
        self.trainer, self.dtype = trainer, dtype
        self._first: dict[str, tuple[Tensor, Tensor]] = {}
        self._begin = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._begin, self._first = state.global_step, self._sample()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        steps = state.global_step - self._begin
        if control.should_log or steps == FIRST_STEPS:
            log_share(self.trainer, self.share(), self.dtype, steps if steps == FIRST_STEPS else None)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        steps = state.global_step - self._begin
        if 0 < steps < FIRST_STEPS:
            log_share(self.trainer, self.share(), self.dtype, steps)

    def share(self) -> float | None:
        """That of the numbers of all processes; `None` if nothing has changed."""
        sums = torch.zeros(2, dtype=torch.float64)
        for name, (weights, seen) in self._sample().items():
            first, first_seen = self._first[name]
            sums += torch.stack(visible_share(seen, first_seen, weights, first)).cpu()
        numerator, denominator = self.trainer.accelerator.reduce(sums.float().to(self.trainer.accelerator.device))
        return (numerator / denominator).item() if denominator > 0 else None

    @torch.no_grad()
    def _sample(self) -> dict[str, tuple[Tensor, Tensor]]:
        """By name, numbers of this process: as the optimizer has them, and as the policy sees them."""
        # Autocast leaves embeddings and norms as they are
        model = causal_lm(self.trainer.model)
        embedding = getattr(model.get_input_embeddings(), "weight", None)
        if embedding is getattr(model.get_output_embeddings(), "weight", None):
            embedding = None
        matrices = [
            (name, parameter)
            for name, parameter in self.trainer.model.named_parameters()
            if parameter.requires_grad and parameter is not embedding and _is_matrix(parameter)
        ]
        chosen = matrices[:: max(1, len(matrices) // _WEIGHTS)]
        found = {}
        for name, parameter in chosen:
            copies = _master_and_seen(parameter, self.dtype)
            if copies is not None and copies[0].numel():
                master, seen = (x[:: max(1, x.numel() // _NUMBERS)].clone() for x in copies)
                found[name] = master, seen
        return found


def _master_and_seen(parameter: nn.Parameter, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """This process's part of a weight, flat: as the optimizer keeps it, and as it is read. `None` if it has none."""
    if hasattr(parameter, "ds_id"):  # ZeRO-3
        from deepspeed.utils import safe_get_local_fp32_param

        master = safe_get_local_fp32_param(parameter)
        if master is None:
            return None
        seen = parameter.ds_tensor.data.flatten()
        size = min(master.numel(), seen.numel())
        return master.flatten()[:size], seen[:size].to(master.device)
    if hasattr(parameter, "_hp_mapping"):  # ZeRO-1 and 2
        mapping = parameter._hp_mapping
        if mapping is None:
            return None
        where = mapping.lp_fragment_address
        seen = parameter.data.flatten().narrow(0, where.start, where.numel)
        return mapping.hp_fragment.flatten(), seen.to(mapping.hp_fragment.device)
    data = parameter.data.to_local() if isinstance(parameter.data, DTensor) else parameter.data
    data = data.flatten()
    return data, data.to(dtype)


def _is_matrix(parameter: nn.Parameter) -> bool:
    shape = getattr(parameter, "ds_shape", parameter.shape)
    return len(shape) > 1 or hasattr(parameter, "_is_flat_param")  # FSDP's are flat


def log_share(trainer: JudgeTrainer, share: float | None, dtype: torch.dtype, steps: int | None = None) -> None:
    """
    Put a share among the trainer's metrics.

    Args:
        share (`float`, *optional*):
            The share; `None` if nothing has changed.
        dtype (`torch.dtype`):
            What the policy that samples reads its weights in.
        steps (`int`, *optional*):
            Say what it is, and what to do if it is little, after so many steps.
    """
    if share is None:
        return
    trainer._metrics["train"][METRIC].append(share)
    if steps is None:
        return
    name = str(dtype).removeprefix("torch.")
    seen = (
        f"After {steps} steps the policy, which reads its weights in {name}, sees {share:.0%} of what the optimizer has changed "
        f"({METRIC} in the log)"
    )
    if share >= _LITTLE:
        logger.info(f"{seen}.")
        return
    logger.warning(
        f"{seen}. The rest is too small for {name} so far: it has no effect on what is sampled, nor on the gradient. If the share does not "
        f"grow with the steps, raise learning_rate (now {trainer.args.learning_rate:g}), train LoRA at ten times the rate "
        "(use_peft: true), or train and sample in float32 (bf16: false, without vLLM)."
    )


def watch_updates(trainer: JudgeTrainer) -> None:
    """
    Add a [`VisibleUpdateCallback`] to a trainer whose policy reads its weights in half precision. What vLLM sees of adapters is looked at
    where they are merged for it.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(trainer.accelerator.mixed_precision)
    if getattr(trainer.args, "use_vllm", False):
        # vLLM makes half precision of float32
        dtype = None if isinstance(trainer.model, PeftModel) else dtype or torch.bfloat16
    if dtype is not None:
        trainer.add_callback(VisibleUpdateCallback(trainer, dtype))
