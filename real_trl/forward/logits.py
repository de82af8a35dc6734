# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
From hidden states to logits: the one product that training and judging read a score distribution from.

Near 35, where logits often are, numbers in bfloat16 are 0.25 apart. Rounded logits would be the largest error of a score
distribution (up to 0.09 of ŷ on 1-5), and as large as the differences between the rewards of a group.
"""

from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

HALF = (torch.bfloat16, torch.float16)
_ROWS = 2**14  # of the vocabulary at a time, whose weights are held in float32


def vocabulary_blocks(weight: Tensor, dtype: torch.dtype) -> list[slice]:
    """Parts of the rows of `weight` `(V, H)` to be turned into `dtype` one after the other: all at once if they are of that type."""
    size = len(weight) if weight.dtype == dtype else _ROWS
    return [slice(start, min(start + size, len(weight))) for start in range(0, len(weight), size)]


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
    with torch.autocast(hidden.device.type, enabled=False):
        if hidden.is_cuda and torch.version.hip is None and hidden.dtype == weight.dtype and weight.dtype in HALF:
            # Products of half-precision numbers are exact in float32, where the tensor cores add them up
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
        forward = _fused_forward(getattr(model, "_original_forward", model.forward))
        if forward is None:
            raise ValueError(
                f"model: {type(model).__name__} has no fused LM head. Call trl.trainer.utils.add_fused_lm_head on it first."
            )
        options = dict(zip(forward.__code__.co_freevars, (x.cell_contents for x in forward.__closure__), strict=True))
        return cls(options["temperature"], options["logit_scale"], options["final_logit_softcapping"])

    @classmethod
    def of_config(cls, config: PretrainedConfig, temperature: float = 1.0) -> "HeadOptions":
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


def _fused_forward(forward: Any) -> FunctionType | None:
    """TRL's function among those that `forward` wraps."""
    function = forward.__func__ if isinstance(forward, MethodType) else forward
    if not isinstance(function, FunctionType):
        return None
    if function.__code__.co_name == "_fused_forward":
        return function
    inner = (_fused_forward(cell.cell_contents) for cell in function.__closure__ or ())
    return next((found for found in inner if found is not None), None)


def why_head_unknown(model: PreTrainedModel) -> str | None:
    """
    Why the logits of `model` are not those of [`precise_logits`] with its [`HeadOptions`], for a message; `None` if they are.

    The model's own forward is asked, with random hidden states in the place of its layers'. Where the weights are not at hand
    (ZeRO-3 has spread them), the kind of the layer is looked at alone.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers.
    """
    head = model.get_output_embeddings()
    weight, bias = (getattr(head, name, None) for name in ("weight", "bias"))
    if isinstance(head, BaseTunerLayer):  # whose `weight` is that of the layer under the adapter
        return f"the LM head has an adapter ({type(head).__name__}) of its own"
    if not isinstance(weight, Tensor) or isinstance(head, nn.Embedding):
        return f"the LM head is a {type(head).__name__}, whose weights are not those of a linear layer"
    if weight.dim() != 2 or hasattr(weight, "ds_id") or weight.is_meta or not weight.is_floating_point():
        spread = hasattr(weight, "ds_id") or weight.is_meta
        return None if spread else f"the weights of the LM head are {weight.dtype} of shape {tuple(weight.shape)}"
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 2, weight.size(1), generator=generator).to(weight.device, weight.dtype)
    backbone = model.base_model
    own = backbone.__dict__.get("forward")
    backbone.forward = lambda *args, **kwargs: BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=hidden)
    try:
        ids = torch.zeros(1, 2, dtype=torch.long, device=weight.device)
        with torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
            logits = type(model).forward(model, input_ids=ids).logits.double()
            known = HeadOptions.of_config(model.config).apply(precise_logits(hidden, weight, bias))[0].double()
    finally:
        if own is None:
            del backbone.forward
        else:
            backbone.forward = own
    tolerance = 8 * torch.finfo(weight.dtype).eps * (1 + logits.abs().max())
    if logits.shape != known.shape or (logits - known).abs().max() > tolerance:
        return f"{type(model).__name__} makes something else of its LM head's logits than a scale and a soft cap"
    return None
