# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny models with random weights, and the tokenizer and rows of the embedded task, for the trainers' tests."""

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel
from transformers import Qwen3Config, Qwen3ForCausalLM

from real_trl.synthetic import build_tokenizer

TOKENIZER = build_tokenizer()
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def build_model(architecture: str = "llama", seed: int = 0, **kwargs) -> PreTrainedModel:
    """A two-layer model with grouped-query attention, and weights large enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    config_class, model_class = ARCHITECTURES[architecture]
    config = config_class(
        vocab_size=len(TOKENIZER),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        initializer_range=0.2,
        pad_token_id=TOKENIZER.pad_token_id,
        bos_token_id=None,
        eos_token_id=TOKENIZER.eos_token_id,
        **({"sliding_window": None} if architecture == "mistral" else {}),
        **kwargs,
    )
    return model_class(config)


def lora_config() -> LoraConfig:
    return LoraConfig(**LORA)


def prompt_dataset(scores: list[float], words: str = "Grade this homework from 1 to 5.") -> Dataset:
    """One prompt per score, each longer than the one before."""
    lines = ["1) 7+4 = 12", "2) 3-8 = 5", "3) 2+9 = 11"]
    prompts = ["\n".join([words, *(lines[i % 3] for i in range(row + 1))]) for row in range(len(scores))]
    return Dataset.from_dict({"prompt": prompts, "score": scores})


def encode(text: str, eos: bool = True) -> list[int]:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.unk_token_id not in ids, f"a word of {text!r} is not in the tiny vocabulary"
    return ids + [TOKENIZER.eos_token_id] * eos
