# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From hidden states to logits: the one product that training and judging read a score distribution from.

Near 35, where logits often are, numbers in bfloat16 are 0.25 apart. Rounded logits would be the largest error of a score
distribution (up to 0.09 of ŷ on 1-5), and as large as the differences between the rewards of a group.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import torch
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

HALF = (torch.bfloat16, torch.float16)
_ROWS = 2**14  # of the vocabulary at a time, whose weights are held in float32


def vocabulary_blocks(weight: Tensor, dtype: torch.dtype) -> list[slice]:
    """Parts of the rows of `weight` `(V, H)` to be turned into `dtype` one after the other: all at once if they are of that type."""
    size = len(weight) if weight.dtype == dtype else _ROWS
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


@contextmanager
def float32_products(device: torch.device) -> Iterator[None]:
    """
    Within it float32 is multiplied as float32: without autocast, and without the shorter formats (TF32, bfloat16) that `tf32: true` or
    `torch.set_float32_matmul_precision` allow to all products of a process. TF32 has 10 bits: at logits of 35 that is 0.03.
    """
    backends = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def has_float32_products(x: Tensor) -> bool:
    """
    Whether `torch.mm` multiplies `x` with a matrix of its type and returns float32: on NVIDIA GPUs, of half precision, whose products the
    tensor cores add up in float32 anyway.
    """
    return x.is_cuda and torch.version.hip is None and x.dtype in HALF


def precise_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """
    Logits in float32 (of anything in float64, in that), whatever the type of their operands, and with autocast or without.

    Args:
        hidden (`torch.Tensor` of shape `(..., H)`):
            Hidden states.
        weight (`torch.Tensor` of shape `(V, H)`), bias (`torch.Tensor` of shape `(V,)`, *optional*):
            Those of the output layer.

    Returns:
        `torch.Tensor` of shape `(..., V)`.
    """
    dtype = torch.promote_types(torch.promote_types(hidden.dtype, weight.dtype), torch.float32)
    with float32_products(hidden.device):
        if hidden.dtype == weight.dtype and has_float32_products(hidden):
            # (..., H) -> (rows, H) -> (rows, V) -> (..., V)
            logits = torch.mm(hidden.flatten(0, -2), weight.T, out_dtype=dtype).unflatten(0, hidden.shape[:-1])
        else:
            hidden, blocks = hidden.to(dtype), vocabulary_blocks(weight, dtype)
            parts = [hidden @ weight[block].to(dtype).T for block in blocks]
            logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return logits if bias is None else logits.add_(bias.to(dtype))


@dataclass(frozen=True)
class HeadOptions:
    """
    What becomes of logits before the softmax: `c · tanh(s · z / c) / t`.

    Attributes:
        temperature (`float`):
            t, divides the logits.
        scale (`float`):
            s, multiplies them, in Cohere, Granite and others.
        softcap (`float`, *optional*):
            c, bounds them, in Gemma 2 and others: after `scale` and before `temperature`.
    """

    temperature: float = 1.0
    scale: float = 1.0
    softcap: float | None = None

    @classmethod
    def of(cls, model: nn.Module) -> "HeadOptions":
        """
        Those of TRL's fused LM head in `model`, without wrappers; there is no other place where they are kept.

        Raises:
            ValueError: if the model has no such head.
        """
        forward = _found_fused_forward(getattr(model, "_original_forward", model.forward))
        if forward is None:
            raise ValueError(
                f"model: {type(model).__name__} has no fused LM head. Call trl.trainer.utils.add_fused_lm_head on it first."
            )
        options = dict(zip(forward.__code__.co_freevars, (x.cell_contents for x in forward.__closure__), strict=True))
        return cls(options["temperature"], options["logit_scale"], options["final_logit_softcapping"])

    @classmethod
    def of_config(cls, config: PreTrainedConfig, temperature: float = 1.0) -> "HeadOptions":
        """Those that a model's configuration says, as TRL reads it."""
        config = config.get_text_config()
        scale = 1.0
        for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
            if getattr(config, name, None) is not None:
                scale = float(getattr(config, name))
                break
        else:
            scaling = getattr(config, "logits_scaling", None)
            if scaling is not None:  # divides in Granite, multiplies in HyperCLOVA X
                scale = float(scaling) if config.model_type == "hyperclovax" else 1 / scaling
        return cls(temperature, scale, getattr(config, "final_logit_softcapping", None))

    @property
    def changes(self) -> bool:
        """Whether they make something else of a logit."""
        return self.softcap is not None or self.scale != self.temperature

    def apply(self, logits: Tensor) -> tuple[Tensor, Tensor | float]:
        """What goes into the softmax, in float32 at least where it is something else, and its derivative."""
        if not self.changes:
            return logits, 1.0
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.softcap is None:
            factor = self.scale / self.temperature
            return logits * factor, factor
        bounded = (logits * (self.scale / self.softcap)).tanh()
        return bounded * (self.softcap / self.temperature), (1 - bounded**2) * (self.scale / self.temperature)


def _found_fused_forward(forward: Any) -> FunctionType | None:
    """TRL's function among those that `forward` wraps."""
    function = forward.__func__ if isinstance(forward, MethodType) else forward
    if not isinstance(function, FunctionType):
        return None
    if function.__code__.co_name == "_fused_forward":
        return function
    inner = (_found_fused_forward(cell.cell_contents) for cell in function.__closure__ or ())
    return next((found for found in inner if found is not None), None)


@contextmanager
def float32_logits(model: PreTrainedModel) -> Iterator[None]:
    """
    Within it, the output layer of a model in half precision (or under autocast) computes in float32, by the function that the
    trainers read scores with ([`precise_logits`]). So do the linear layers that an adapter has put around
    it. Layers of other kinds (quantised) are left as they are.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            The model; put back as it was.
    """
    head = model.get_output_embeddings()
    layers = _linear_layers(head) if isinstance(head, nn.Module) else []
    # accelerate has put autocast into the forward of a model in training
    autocast = hasattr(model, "_original_forward") or torch.is_autocast_enabled(model.device.type)
    with ExitStack() as stack:
        for layer in layers:
            if layer.weight.dtype in HALF or autocast:
                stack.enter_context(replaced_forward(layer, _precise_forward(layer)))
        yield


@contextmanager
def replaced_forward(module: nn.Module, forward: Callable) -> Iterator[None]:
    """Within it, `forward` is that of `module`; afterwards its own again, also where that was put on the instance."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own


def _linear_layers(head: nn.Module) -> Sequence[nn.Module]:
    """The modules whose forward is a plain product with their `weight`."""
    if type(head) is nn.Linear:
        return [head]
    if isinstance(head, (AuxiliaryTrainingWrapper, BaseTunerLayer)):
        modules = list(head.modules())
        # Of these the forward multiplies with the weights of the base layer in which some tokens are replaced
        tokens = [m for m in modules if isinstance(m, TrainableTokensLayer) and isinstance(m.base_layer, nn.Linear)]
        return tokens or [m for m in modules if type(m) is nn.Linear]
    return []


def _precise_forward(layer: Any) -> Callable[[Tensor], Tensor]:
    def forward(hidden: Tensor) -> Tensor:
        if isinstance(layer, TrainableTokensLayer):
            if layer.disable_adapters or layer.merged:
                base: Any = layer.base_layer
                return precise_logits(hidden, base.weight, base.bias)
            weight = layer.get_merged_weights(layer.active_adapters)
            return precise_logits(hidden, weight, None)  # as PEFT, without a bias
        return precise_logits(hidden, layer.weight, layer.bias)

    return forward
