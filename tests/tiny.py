# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny models, a word-level tokenizer and a few rows, for the tests of trainers, engines and scripts.

They look like the embedded task but do not come from it, so that tuning the task does not move these tests.
"""

import copy
from functools import cache
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

PROMPT = "Grade this homework from 1 to 5."
LINES = ("1) 7+4 = 12", "2) 3-8 = 5", "3) 2+9 = 11")
WORDS = f"{PROMPT} {' '.join(LINES)} So the overall score is right close wrong".replace(".", "").split()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A token per word, number, punctuation mark and line break."""
    numbers = [str(number) for number in range(-10, 21)]
    vocabulary = dict.fromkeys(["<pad>", "<eos>", "<unk>", ".", ",", "\n", *numbers, *WORDS])
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split(Regex(r"[.,\n]"), "isolated")]
    )
    tokenizer.decoder = decoders.WordPiece(
        prefix="##", cleanup=True
    )  # joins words with spaces, but not before , and .
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


def build_digit_tokenizer() -> PreTrainedTokenizerFast:
    """A token per word, digit, space and other character: "10" is two tokens, "4.5" three, "very good" three."""
    words = [*dict.fromkeys(word for word in WORDS if word.isalpha()), "very", "poor", "good", "enough"]
    vocabulary = ["<pad>", "<eos>", "<unk>", *" \n.,()+-=", *"0123456789", *words]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[A-Za-z]+|[^A-Za-z]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="left"
    )


TOKENIZER = build_tokenizer()
DIGITS = build_digit_tokenizer()
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    "mistral": (MistralConfig, MistralForCausalLM),
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def build_model(
    architecture: str = "llama", seed: int = 1, tokenizer: PreTrainedTokenizerFast = TOKENIZER, **kwargs
) -> PreTrainedModel:
    """A two-layer model with grouped-query attention, and weights large enough that its distributions are far from uniform."""
    torch.manual_seed(seed)
    config_class, model_class = ARCHITECTURES[architecture]
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.15,
        **({"sliding_window": None} if architecture == "mistral" else {}),
    }
    config = config_class(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        **(sizes | kwargs),
    )
    return model_class(config)


def teach(
    model: PreTrainedModel, rows: list[list[int]], answer: int, optimizer: torch.optim.Optimizer, steps: int
) -> dict[str, torch.Tensor]:
    """The weights of a model after `steps` on all rows at once, of which it learns the last `answer` tokens."""
    length, pad = max(map(len, rows)), model.config.pad_token_id
    input_ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
    attention_mask = (input_ids != pad).long()
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    labels = input_ids.where(torch.arange(length) >= length - answer, -100)
    for _ in range(steps):
        loss = model(input_ids, attention_mask=attention_mask, position_ids=position_ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


@cache
def _warm_state() -> dict[str, torch.Tensor]:
    model = build_model(initializer_range=0.02).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    prompts = [TOKENIZER(prompt)["input_ids"] for prompt in prompt_dataset([1.0] * 3)["prompt"]]
    texts = [f"1) 7+4 is 12, {word}. So the overall score is {k}" for word in ("right", "wrong") for k in range(1, 6)]
    rows = [prompt + encode(text) for prompt in prompts for text in texts]
    return teach(model, rows, len(encode(texts[0])), optimizer, 60)


def warm_model() -> PreTrainedModel:
    """A model that answers the prompts of [`prompt_dataset`] in the right form, with a score drawn at random."""
    model = build_model(initializer_range=0.02)
    model.load_state_dict(_warm_state())
    return model


def chat_tokenizer() -> PreTrainedTokenizerFast:
    """`TOKENIZER` with a chat template: a line per message, EOS after the assistant's."""
    tokenizer = copy.deepcopy(TOKENIZER)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n\n' }}{% endif %}{% endfor %}"
    )
    return tokenizer


def lora_config(**kwargs) -> LoraConfig:
    return LoraConfig(**{**LORA, **kwargs})


def save_for_vllm(directory: Path) -> None:
    """The tiny model, with heads of the smallest size that vLLM's attention on a CPU knows, and its tokenizer."""
    config = copy.deepcopy(build_model().config)
    config.head_dim = 32
    torch.manual_seed(1)
    LlamaForCausalLM(config).save_pretrained(directory)
    TOKENIZER.save_pretrained(directory)


def prompt_dataset(scores: list[float]) -> Dataset:
    """One prompt per score, each longer than the one before."""
    prompts = ["\n".join([PROMPT, *(LINES[i % 3] for i in range(row + 1))]) for row in range(len(scores))]
    return Dataset.from_dict({"prompt": prompts, "score": scores})


def encode(text: str, eos: bool = True, tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids, f"a word of {text!r} is not in the tiny vocabulary"
    return ids + [tokenizer.eos_token_id] * eos
