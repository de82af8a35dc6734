# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The weights of a model with its adapters merged, one layer at a time, and without touching the model.

Adding an adapter to a weight in half precision and taking it away again does not give the weight back: the base that is held
frozen drifts with every such round. Here a copy of a layer is merged, handed out, and dropped.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.trainable_tokens import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel

_ROWS = 64  # of a weight that are looked at
_LITTLE = 0.5

Gather = Callable[[list[nn.Parameter]], AbstractContextManager]


@dataclass
class AdaptedModule:
    """
    A module of the base model and what has been put around it.

    Attributes:
        layers (`list[BaseTunerLayer]`):
            Its adapters' layers: one, but for experts, which have one for each of their parameters.
    """

    base: nn.Module
    layers: list[Any] = field(default_factory=list)  # of PEFT, whose base class does not say that they are modules

    def parameters(self) -> list[nn.Parameter]:
        """Those of the module and of its adapters."""
        return list({id(p): p for layer in self.layers for p in layer.parameters()}.values())

    @contextmanager
    def merged(self) -> Iterator[dict[str, Tensor]]:
        """
        While active, the module holds a merged copy of its own weights; afterwards these, which nothing was written to.

        Yields:
            Its weights as they were.
        """
        own = {name: (p, p.data) for name, p in self.base._parameters.items() if p is not None}
        before = [list(layer.merged_adapters) for layer in self.layers]
        for parameter, data in own.values():
            parameter.data = data.clone()
        try:
            for layer in self.layers:
                layer.merge()
            yield {name: data for name, (_, data) in own.items()}
        finally:
            for layer, merged in zip(self.layers, before, strict=True):
                layer.merged_adapters = merged
            for name, (parameter, data) in own.items():
                parameter.data = data
                self.base._parameters[name] = parameter  # quantised weights are replaced


def merged_parameters(
    model: PeftModel, gather: Gather | None = None, share: "MergeShare | None" = None
) -> Iterator[tuple[str, Tensor]]:
    """
    Names and weights of the model that the adapters make of their base, as without adapters; tied weights once.

    Args:
        model ([`~peft.PeftModel`]):
            Its adapters are not merged.
        gather (`Callable`, *optional*):
            Context in which parameters are whole, such as ZeRO-3's. It is entered for a module at a time.
        share ([`MergeShare`], *optional*):
            Looks at what of the adapters the merged weights show.

    Yields:
        Name and tensor. The tensor is not changed later.
    """
    gather = gather or (lambda parameters: nullcontext())
    adapted = _adapted_modules(model)
    adapters: set[int] = set()
    copies: dict[str, str] = {}
    for module in adapted.values():
        adapters.update(id(p) for p in module.parameters() if all(p is not q for q in module.base.parameters()))
    for name, module in model.named_modules():
        if isinstance(module, ModulesToSaveWrapper) and module.active_adapters:
            copies[f"{name}.modules_to_save.{module.active_adapters[0]}."] = f"{name}."
    owner = {id(p): module for module in adapted.values() for p in module.base._parameters.values() if p is not None}
    done: set[int] = set()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            plain = _plain_name(name, copies)
            if id(parameter) in done or id(parameter) in adapters or plain is None:
                continue
            if id(parameter) not in owner:
                with gather([parameter]):
                    yield plain, parameter.data
                continue
            module = owner[id(parameter)]
            names = [key for key, p in module.base._parameters.items() if p is not None]
            done.update(id(module.base._parameters[key]) for key in names)
            with gather(module.parameters()), module.merged() as originals:
                if share is not None:
                    share.add(module, originals)
                for key in names:
                    yield f"{plain.rpartition('.')[0]}.{key}", module.base._parameters[key].data


def _adapted_modules(model: PeftModel) -> dict[int, AdaptedModule]:
    modules: dict[int, AdaptedModule] = {}
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            base = layer.get_base_layer()
            modules.setdefault(id(base), AdaptedModule(base)).layers.append(layer)
    return modules


def _plain_name(name: str, copies: dict[str, str]) -> str | None:
    """The name without adapters; `None` for what stands beside a trained copy of a module, or is an inactive one."""
    for prefix, plain in copies.items():
        if name.startswith(prefix):
            return name.replace(prefix, plain, 1).removeprefix("base_model.model.")
        if name.startswith(f"{plain}original_module."):
            return None
    if ".modules_to_save." in name:
        return None
    for part in (".base_layer", ".token_adapter", ".original_module"):
        name = name.replace(part, "")
    return name.removeprefix("base_model.model.")


def why_not_mergeable(model: PeftModel) -> str | None:
    """
    Why a model with its adapters merged would not be the model that was trained, for a message; `None` if it is: embeddings and LM
    head that share their weights cannot differ afterwards.
    """
    base: Any = model.get_base_model()
    if not getattr(base.config.get_text_config(), "tie_word_embeddings", False):
        return None
    for layer in (base.get_input_embeddings(), base.get_output_embeddings()):
        if isinstance(layer, ModulesToSaveWrapper):
            trained = {id(x.weight) for x in (base.get_input_embeddings(), base.get_output_embeddings())}
            if len(trained) == 2:
                return "the adapter has a trained copy (modules_to_save) of one of embeddings and LM head, which share their weights"
        inner = getattr(layer, "token_adapter", layer)
        if isinstance(inner, BaseTunerLayer) and not isinstance(inner, TrainableTokensLayer):
            return f"the adapter changes one ({type(layer).__name__}) of embeddings and LM head, which share their weights"
    return None


class MergeShare:
    """
    Which share of LoRA's change shows in weights that are merged in half precision: `Σ Δmerged · ΔW / Σ ΔW²`, 1 where all does.

    Args:
        dtype (`torch.dtype`, *optional*):
            The type that the merged weights are used in. Defaults to their own.
        every (`int`, *optional*, defaults to `1`):
            One of so many modules is looked at.
    """

    def __init__(self, dtype: torch.dtype | None = None, every: int = 1) -> None:
        self.dtype, self.every = dtype, every
        self._count, self._sums = 0, [0.0, 0.0]

    def add(self, module: AdaptedModule, originals: dict[str, Tensor]) -> None:
        """Look at a module that is merged, and at its weights before."""
        self._count += 1
        original = originals.get("weight")
        if (self._count - 1) % self.every or original is None or original.dim() != 2 or len(module.layers) != 1:
            return
        (layer,) = module.layers
        adapters = [name for name in layer.merged_adapters if name in getattr(layer, "lora_A", {})]
        if not adapters or not original.is_floating_point() or any(name in layer.lora_variant for name in adapters):
            return
        rows = slice(None, None, max(1, len(original) // _ROWS))
        seen, first = (
            x[rows] if self.dtype is None else x[rows].to(self.dtype) for x in (module.base.weight.data, original)
        )
        change: Any = sum(layer.get_delta_weight(name)[rows].double() for name in adapters)
        self._sums[0] += ((seen.double() - first.double()) * change).sum().item()
        self._sums[1] += change.square().sum().item()

    @property
    def value(self) -> float | None:
        """`None` if nothing has changed."""
        return self._sums[0] / self._sums[1] if self._sums[1] > 0 else None


def merge_whole(model: PeftModel, field: str, instead: str) -> PreTrainedModel:
    """
    The model that the adapters make of their base, for good.

    Args:
        model ([`~peft.PeftModel`]):
            Its adapters are gone afterwards.
        field, instead (`str`):
            The option that asks for it, and what else to do, for a message.

    Raises:
        ValueError: if it would not be the model that was trained: see [`why_not_mergeable`]; if its weights are quantised, and would be
            again; or if most of what the adapters change is too small for the type of the weights.
    """
    if getattr(model.get_base_model(), "is_quantized", False):
        raise ValueError(
            f"{field}: the model's weights are quantised, and would be rounded to their few bits again with what the adapter changes. {instead}, "
            "or load the model without quantisation (load_in_4bit: false)."
        )
    reason, share = why_not_mergeable(model), MergeShare()
    if reason is not None:
        raise ValueError(f"{field}: {reason}, and would be one after merging. {instead}.")
    for _ in merged_parameters(model, share=share):
        pass
    if share.value is not None and share.value < _LITTLE:
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        raise ValueError(
            f"{field}: merged into weights in {dtype}, only {share.value:.0%} of what the adapter changes would be left; the rest is too small for "
            f"{dtype}. {instead}."
        )
    return model.merge_and_unload()
