# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Checks weights for NaN and infinity."""

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.tensor import DTensor


@torch.no_grad()
def not_finite(model: nn.Module) -> str | None:
    """The name of the first parameter that holds NaN or an infinity, of this process's part of them; `None` if there is none."""
    for name, parameter in model.named_parameters():
        part = getattr(parameter, "ds_tensor", parameter)  # ZeRO-3
        part = part.to_local() if isinstance(part, DTensor) else part
        if part.is_floating_point() and part.device.type != "meta" and not part.isfinite().all():
            return name
    return None


def check_finite(model: nn.Module, name: str) -> None:
    """`ValueError` if the judge `name` has weights that are not finite: none of its scores would be one."""
    fault = not_finite(model)
    if fault is not None:
        raise _refusal(name, fault)


def check_finite_files(folder: Path, name: str) -> None:
    """As [`check_finite`], of the weights in the `.safetensors` files of a folder."""
    for path in sorted(folder.glob("*.safetensors")):
        if fault := not_finite_in(path):
            raise _refusal(name, fault)


def not_finite_in(path: Path) -> str | None:
    """As [`not_finite`], of a `.safetensors` file, one tensor at a time."""
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118 (it is no mapping)
            tensor = file.get_tensor(key)
            if tensor.is_floating_point() and not tensor.float().isfinite().all():
                return key
    return None


def _refusal(name: str, weight: str) -> ValueError:
    return ValueError(
        f"{name}: its weights are not finite ({weight} holds NaN or an infinity): it was saved after a training that diverged, or the "
        "file is damaged. Take an earlier checkpoint, or train it again with a lower learning_rate."
    )
