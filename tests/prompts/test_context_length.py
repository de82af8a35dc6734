# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How much a model reads, by whatever name its configuration has for it."""

import pytest
from transformers import GPT2Config, LlamaConfig, MambaConfig, MptConfig

from real_trl.prompts.context_length import completion_room, context_length, default_max_new_tokens
from real_trl.score_space import ScoreSpace
from tests.tiny import DIGITS, TOKENIZER


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (LlamaConfig(max_position_embeddings=4096), 4096),
        (GPT2Config(n_positions=1000), 1000),
        (MptConfig(max_seq_len=2048), 2048),
        (MambaConfig(), None),
    ],
    ids=["llama", "gpt2", "mpt", "mamba"],
)
def test_the_limit_of_a_model(config, length):
    assert context_length(config) == length
    assert default_max_new_tokens(config) == min(1024, (length or 2048) // 2)


def test_a_yarn_scaling_that_was_added_raises_the_limit():
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "rope_theta": 1e6}
    assert context_length(LlamaConfig(max_position_embeddings=40960, rope_parameters=rope)) == 131072
    assert context_length(LlamaConfig(max_position_embeddings=131072, rope_parameters=rope)) == 131072


def test_what_is_kept_behind_a_prompt():
    """100 new tokens; with the marker forced its 5 words and a space; in digits "10" has one token more than is sampled last."""
    words, digits = ScoreSpace.from_labels("1-5", TOKENIZER), ScoreSpace.from_labels("1-10", DIGITS)
    assert completion_room(words, 100, forced=False) == 100
    assert completion_room(words, 100, forced=True) == 100 + 5 + 1
    assert completion_room(digits, 100, forced=False) == 100 + 1
