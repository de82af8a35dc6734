# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which model a recipe trains and how large it is, without its weights: the configuration, and the model on the meta device."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import LoraConfig, PeftConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from real_trl.arguments.recipe_file import MODEL, with_one_model
from real_trl.data.homework import build_model
from real_trl.option_values import FieldError
from real_trl.prompts.context_length import context_length
from real_trl.weights.files import check_settings
from real_trl.weights.hub import look_for_hub
from real_trl.weights.pretrained import loading

# Dimensions in the `config.json` of each model's page on the Hub, so that planning needs no network. What is not given
# here does not change the size.
PUBLISHED = {
    "mistralai/Mistral-7B-Instruct-v0.2": {
        "model_type": "mistral",
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "sliding_window": None,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-8B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-32B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 5120,
        "intermediate_size": 25600,
        "num_hidden_layers": 64,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": False,
    },
}
# Decoders made of the blocks that `real_trl.planning.memory` counts: grouped-query attention, gated MLP, RMSNorm
GATED_DECODERS = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class ModelSize:
    """
    What memory depends on.

    Attributes:
        total, trainable (`int`):
            Parameters, those of a LoRA adapter included.
        largest_layer (`int`):
            Parameters of the largest single module, as DeepSpeed's estimators take it.
        qk_norm (`bool`):
            Whether queries and keys are normalised (Qwen3).
        context (`int`, *optional*):
            Longest sequence that the model can read, in tokens; `None` if its configuration names no limit.
        lora (`bool`):
            Whether only an adapter is trained.
        adapter_bytes (`int`, *optional*, defaults to `0`):
            Bytes per token and layer that autograd saves for the adapter, at most.
        quantized (`int`, *optional*, defaults to `0`):
            Parameters that are held in 4 bits: those of all linear layers but the LM head.
    """

    total: int
    trainable: int
    largest_layer: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    qk_norm: bool
    context: int | None
    lora: bool
    adapter_bytes: int = 0
    quantized: int = 0


def find_config(name: str | None, recipe: Path, *, synthetic: bool = False) -> tuple[PreTrainedConfig, str]:
    """
    The configuration of the model that a recipe trains.

    A directory that an earlier stage will write is followed back to the model that the stage itself starts from, through
    the other recipes of the folder. Public models come from the local cache of the Hub or from [`PUBLISHED`]; only
    others are asked for over the network.

    Args:
        name (`str`, *optional*):
            The recipe's `model_name_or_path`.
        recipe (`Path`):
            The recipe; its folder holds the other stages.
        synthetic (`bool`, *optional*, defaults to `False`):
            Whether the recipe trains on the embedded task, whose untrained model is built in code.

    Returns:
        `tuple[PreTrainedConfig, str]`: the configuration, and where it comes from.

    Raises:
        ValueError: if there is no such model.
    """
    if not name:
        raise FieldError("model", None, "Give a Hub id or a local directory.")
    path = Path(name)
    if (path / "adapter_config.json").is_file():
        with loading(name, "model"):
            base = PeftConfig.from_pretrained(name).base_model_name_or_path
        config, source = find_config(base, recipe, synthetic=synthetic)
        return config, f"{source}, under the adapter in {name}"
    if (path / "config.json").is_file():
        check_settings(path)
        with loading(name, "model"):
            return AutoConfig.from_pretrained(name), f"{name}/config.json"
    for stage in sorted(recipe.parent.glob("*.yaml")):
        options = yaml.safe_load(stage.read_text(encoding="utf-8"))
        if isinstance(options, dict) and options.get("output_dir") == name and stage.name != recipe.name:
            config, source = find_config(with_one_model(options).get(MODEL), stage, synthetic=synthetic)
            return config, f"{source}; {stage.name} makes {name} from it"
    if synthetic:
        return build_model().config, "the untrained model of the embedded task (real_trl.data.homework)"
    try:
        return AutoConfig.from_pretrained(name, local_files_only=True), f"{name} in the local cache of the Hub"
    except (OSError, ValueError):
        pass
    if name in PUBLISHED:
        dimensions: dict[str, Any] = dict(PUBLISHED[name])
        return CONFIG_MAPPING[dimensions.pop("model_type")](**dimensions), f"the published dimensions of {name}"
    look_for_hub(name)
    try:
        return AutoConfig.from_pretrained(name), f"{name} on the Hub"
    except (OSError, ValueError) as error:
        said = f": {name!r} is neither a directory with a model, nor the output_dir of a recipe in {recipe.parent}, nor a model on the Hub that can be reached"
        fix = f"Make the directory first, or give a model of the same size: --model {next(iter(PUBLISHED))}."
        raise FieldError("model", name, fix, said) from error


def starting_model(name: str, recipe: Path) -> str:
    """The model that `name` is made of, where it is a directory that other recipes of the folder write; else itself."""
    for stage in sorted(recipe.parent.glob("*.yaml")) if not Path(name, "config.json").is_file() else ():
        options = yaml.safe_load(stage.read_text(encoding="utf-8"))
        if isinstance(options, dict) and options.get("output_dir") == name and stage.name != recipe.name:
            return starting_model(with_one_model(options).get(MODEL) or name, stage)
    return name


def measure(config: PreTrainedConfig, lora: LoraConfig | None = None, in_4bit: bool = False) -> ModelSize:
    """
    Count a model's parameters on the meta device, where they take no memory.

    Args:
        lora ([`~peft.LoraConfig`], *optional*):
            Adapter to put on it, the only thing that is trained then.
        in_4bit (`bool`, *optional*, defaults to `False`):
            Whether it is loaded in 4 bits (`load_in_4bit`).
    """
    with torch.device("meta"):
        model: nn.Module = AutoModelForCausalLM.from_config(config)
        head = model.get_output_embeddings()
        linear = [m for m in model.modules() if isinstance(m, (nn.Linear, Conv1D)) and m is not head]
        quantized = sum(module.weight.numel() for module in linear) if in_4bit else 0
        if lora is not None:
            # A copy: PEFT writes the modules that it finds into the configuration
            model = get_peft_model(model, copy.deepcopy(lora), autocast_adapter_dtype=False)
    parameters = list(model.parameters())  # shared parameters are listed once
    adapter = 0
    for module in model.modules() if lora is not None else ():
        if isinstance(module, LoraLayer):
            # The product with A; with dropout what is left of the input, and which elements that is
            adapter += 2 * module.r["default"] + (3 * module.in_features if lora.lora_dropout else 0)
    text = config.get_text_config()
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelSize(
        total=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        largest_layer=max(sum(p.numel() for p in m.parameters(recurse=False)) for m in model.modules()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_dim=head_dim,
        intermediate=text.intermediate_size,
        vocab=text.vocab_size,
        qk_norm=text.model_type == "qwen3",
        context=context_length(config),
        lora=lora is not None,
        adapter_bytes=-(-adapter // text.num_hidden_layers),
        quantized=quantized,
    )
