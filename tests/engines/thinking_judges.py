# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers with tags of thinking, and a tiny judge that thinks before it answers."""

import copy
from functools import cache

import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tests.tiny import TOKENIZER, build_model, encode, prompt_dataset, teach

MARKER = "So the overall score is"
THOUGHT = f"1) 7+4 is 12, wrong. {MARKER} 5"  # what is thought is no verdict
PROMPTS = prompt_dataset([1.0, 3.0, 5.0])["prompt"][:]


def with_tags(tokenizer: PreTrainedTokenizerFast, *tags: str, special: bool = False) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer in which each of `tags` is a token."""
    tokenizer = copy.deepcopy(tokenizer)
    tokens = [AddedToken(tag, special=special, normalized=False) for tag in tags]
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": tokens}, replace_extra_special_tokens=False)
    else:
        tokenizer.add_tokens(tokens)
    return tokenizer


THINKER = with_tags(TOKENIZER, "<think>", "</think>")


def opening_tokenizer() -> PreTrainedTokenizerFast:
    """[`THINKER`] with a chat template that opens the block of thinking for the judge."""
    tokenizer = copy.deepcopy(THINKER)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% else %}{{ '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    )
    return tokenizer


@cache
def _state(opened: bool) -> dict[str, torch.Tensor]:
    model = build_model(initializer_range=0.02, tokenizer=THINKER).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    head = "\n\n<think>\n" if opened else ""
    prompts = [THINKER(prompt + head)["input_ids"] for prompt in PROMPTS]
    start = "" if opened else "<think> "
    texts = [f"{start}{THOUGHT}\n</think>\n\nright. {MARKER} {k}" for k in range(1, 6)]
    rows = [prompt + encode(text, tokenizer=THINKER) for prompt in prompts for text in texts]
    return teach(model, rows, len(encode(texts[0], tokenizer=THINKER)), optimizer, 60)


def thinking_model(opened: bool = False) -> PreTrainedModel:
    """
    A model that answers [`PROMPTS`] with a block of thinking, which names the score 5, and then with a score drawn at random;
    if `opened`, behind prompts that open the block.
    """
    model = build_model(initializer_range=0.02, tokenizer=THINKER)
    model.load_state_dict(_state(opened))
    return model.eval()
