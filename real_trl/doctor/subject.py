# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is examined: the architecture, precision and learning rate of a recipe, on the device at hand."""

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, Qwen3Config
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from real_trl.label_tree import LabelTree
from real_trl.planning.hardware import find_hardware
from real_trl.planning.lengths import token_lengths
from real_trl.planning.recipe import Lengths, Recipe, make_setup, read_recipe, recipe_sharding, training_rows
from real_trl.planning.setup import Setup

VOCABULARY = 512  # of small models
# Labels of one token, and of several that begin alike, as a scale from 0 to 100 has them
TREES = {
    "digits": LabelTree.from_paths([[5], [6], [7], [8], [9]]),
    "several tokens": LabelTree.from_paths([[5], [5, 6], [5, 6, 7], [8, 9]]),
}
_LAYERS, _WIDTH = 2, 256
_KV_HEADS = 2
_SPREAD = 0.1  # of weights, so that distributions are far from uniform
# By which a process knows that it is one of several, and how they share a model
_LAUNCHED = (
    *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
    *("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"),
)


def _usual_config() -> PreTrainedConfig:
    return Qwen3Config(
        vocab_size=32_768,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=128,
    )


@contextmanager
def _as_one_process() -> Iterator[None]:
    """
    While a recipe is read, which is parsed as training arguments: these put accelerate on the processor, set its precision, and under ZeRO-3 let
    Transformers spread every model that is made afterwards. All is as before in the end.
    """
    shared = [(state._shared_state, dict(state._shared_state)) for state in (PartialState, AcceleratorState)]
    variables = dict(os.environ)
    for name in variables:
        if name in _LAUNCHED or name.startswith(("ACCELERATE_", "FSDP_")):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(variables)
        for state, before in shared:
            state.clear()
            state.update(before)
        unset_hf_deepspeed_config()


@dataclass(frozen=True)
class Subject:
    """
    Attributes:
        config ([`~transformers.PreTrainedConfig`]):
            The recipe's model; without a recipe one like Qwen3-0.6B.
        dtype (`torch.dtype`):
            What forwards compute in: the recipe's; without one bfloat16.
        device (`torch.device`):
            Where.
        learning_rate (`float`):
            The recipe's.
        recipe ([`~real_trl.planning.recipe.Recipe`], *optional*):
            The recipe.
    """

    config: PreTrainedConfig
    dtype: torch.dtype
    device: torch.device
    learning_rate: float = 1e-6
    recipe: Recipe | None = None

    @classmethod
    def of(cls, path: Path | None = None, overrides: Sequence[str] = (), stage: str | None = None) -> "Subject":
        """That of a recipe, or the usual one; `ValueError` as of [`~real_trl.planning.recipe.read_recipe`]."""
        gpu = torch.cuda.is_available()
        device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        # A processor shows what a GPU would compute
        has_bf16 = not gpu or torch.cuda.is_bf16_supported(including_emulation=False)
        if path is None:
            return cls(_usual_config(), torch.bfloat16 if has_bf16 else torch.float16, device)
        with _as_one_process():
            recipe = read_recipe(path, overrides, stage)
        half = has_bf16 if recipe.half is None else recipe.half
        half_dtype = torch.float16 if recipe.config.fp16 else torch.bfloat16
        dtype = half_dtype if half else torch.float32
        return cls(recipe.model_config, dtype, device, recipe.config.learning_rate, recipe)

    @property
    def text(self) -> PreTrainedConfig:
        """Configuration of the language model."""
        return self.config.get_text_config()

    @property
    def head_dim(self) -> int:
        """Size of an attention head."""
        return getattr(self.text, "head_dim", None) or self.text.hidden_size // self.text.num_attention_heads

    @property
    def groups(self) -> int:
        """Heads of queries for each head of keys."""
        heads = self.text.num_attention_heads
        return heads // (getattr(self.text, "num_key_value_heads", None) or heads)

    @property
    def is_gpu(self) -> bool:
        """Whether the device is one."""
        return self.device.type == "cuda"

    @cached_property
    def lengths(self) -> Lengths:
        """Of the recipe's texts, as its plan takes them."""
        return token_lengths(self.recipe, training_rows(self.recipe)[0])

    @cached_property
    def setup(self) -> Setup | None:
        """The recipe's plan for this machine; `None` without a recipe."""
        if self.recipe is None:
            return None
        cluster = find_hardware().cluster
        sharding, _ = recipe_sharding(self.recipe.path, cluster)
        return make_setup(self.recipe, cluster, sharding, self.lengths)

    def small_config(self, spread: float = _SPREAD) -> PreTrainedConfig:
        """The architecture with heads of the same size in groups of the same size, but few of them, two narrow layers and few tokens."""
        config = copy.deepcopy(self.text)
        head_dim, groups = self.head_dim, self.groups
        heads = min(_KV_HEADS * groups, config.num_attention_heads)
        config.num_attention_heads = heads
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = heads // groups
        narrow = getattr(config, "head_dim", None) is not None
        config.hidden_size = min(config.hidden_size, _WIDTH) if narrow else heads * head_dim
        if narrow:
            config.head_dim = head_dim
        if getattr(config, "intermediate_size", None):
            config.intermediate_size = min(config.intermediate_size, 2 * _WIDTH)
        config.num_hidden_layers, config.vocab_size = _LAYERS, VOCABULARY
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:_LAYERS]
        config.initializer_range = spread
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            setattr(config, name, None)
        return config

    def small_model(
        self, dtype: torch.dtype = torch.float32, spread: float = _SPREAD, seed: int = 0
    ) -> PreTrainedModel:
        """Of [`Subject.small_config`], with random weights, on the CPU; the same whatever the type."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = AutoModelForCausalLM.from_config(self.small_config(spread), dtype=torch.float32)
        return model.to(dtype).train()


def dtype_name(dtype: torch.dtype) -> str:
    """`"bfloat16"`."""
    return str(dtype).removeprefix("torch.")
