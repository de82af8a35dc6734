# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The engines by name. A new one is a module with a class, and an entry here (see docs/how-to-add.md)."""

from importlib import import_module
from typing import Any, Literal, NamedTuple

AUTO = "auto"
"""As a batch size: as many as fit the memory."""
_AUTO_UNITS = 64  # completions that an engine which has to find its batch size is given at once
_OWN_BATCHES = 256  # completions that an engine which makes batches of its own is given at once, or more


class EngineEntry(NamedTuple):
    """What is known of an engine before its module is imported."""

    where: str  # "module:Class", an `Engine` that takes `engine_options` as keyword arguments
    # Who loads the weights: Transformers in this process, whose options for that apply; the engine; or, of a model that need not be
    # here at all, someone elsewhere
    weights: Literal["transformers", "engine", "elsewhere"]
    own_batches: bool = False  # it makes batches itself, out of many prompts; else `batch_size` holds

    def load_class(self) -> Any:
        """The engine's class."""
        module, name = self.where.split(":")
        return getattr(import_module(module), name)

    def units_per_call(self, batch_size: int | str) -> int:
        """Completions that the engine is given at once: the same on all machines, whatever fits their memory."""
        size = _AUTO_UNITS if isinstance(batch_size, str) else batch_size
        return max(size, _OWN_BATCHES) if self.own_batches else size


ENGINES = {
    "transformers": EngineEntry("real_trl.engines.transformers_engine:TransformersEngine", "transformers"),
    "vllm": EngineEntry("real_trl.engines.vllm_engine:VLLMEngine", "engine", own_batches=True),
    "server": EngineEntry("real_trl.engines.server_engine:ServerEngine", "elsewhere", own_batches=True),
}
