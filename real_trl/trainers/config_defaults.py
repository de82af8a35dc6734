# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What [`RAFTConfig`] and [`REALConfig`] share."""

import copy
from typing import Any, Self

from transformers.utils import is_torch_bf16_gpu_available

from real_trl.text.redaction import redacted


def default_precision(config: Any) -> None:
    """TRL turns bfloat16 on unless told otherwise; here that holds only where a device has it, so that a CPU just works."""
    if config.bf16 is None and not is_torch_bf16_gpu_available():
        config.bf16 = False


class PrivateArguments:
    """
    Training arguments that are written without their secrets: pickled (`training_args.bin`, also by whoever copies and saves them, as
    Weights & Biases' callback does), as a mapping (what trackers are given) and as text. A copy in this process has them.
    """

    def __getstate__(self) -> dict[str, Any]:
        return redacted(vars(self))

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return other

    def to_dict(self) -> dict[str, Any]:
        """As of the library's arguments, without secrets."""
        return redacted(super().to_dict())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"

    __str__ = __repr__
