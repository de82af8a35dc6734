# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A tiny model that writes rationales for two prompts: "right", "close" or "wrong" by the score that it is shown, each as likely as not
if it is shown none. It scores the rationale (right: 4 or 5, close: 3, wrong: 1 or 2) if it is shown no score, else it repeats that.
"""

from functools import cache

import torch
from transformers import PreTrainedModel

from real_trl.prompts.shown_score import with_score
from real_trl.scale import Scale
from tests.tiny import TOKENIZER, build_model, encode, prompt_dataset, teach

SCALE = Scale.parse("1-5")
PROMPTS = prompt_dataset([0.0] * 2)["prompt"][:]
WORD_OF = {1: "wrong", 2: "wrong", 3: "close", 4: "right", 5: "right"}


def text(word: str, score: int) -> str:
    return f"1) 7+4 is 12, {word}. So the overall score is {score}"


@cache
def _state() -> dict[str, torch.Tensor]:
    model = build_model(initializer_range=0.05).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)
    rows = []
    for prompt in PROMPTS:
        for score, word in WORD_OF.items():
            for asked in (prompt, with_score(prompt, score, SCALE)):
                rows.append(TOKENIZER(asked)["input_ids"] + encode(text(word, score)))
    return teach(model, rows, len(encode(text("right", 5))), optimizer, 150)


def writer_model() -> PreTrainedModel:
    """The model, a copy of its own for each call."""
    model = build_model()
    model.load_state_dict(_state())
    return model
