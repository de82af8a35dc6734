# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How many tokens a model can read, and how many of them an answer takes: the same for judging, training and planning."""

from transformers import PreTrainedConfig

from real_trl.score_space import ScoreSpace

_MAX_NEW_TOKENS = 1024


def context_length(config: PreTrainedConfig) -> int | None:
    """
    Tokens that a model can read, or `None` if its configuration names no limit.

    That is `max_position_embeddings` by whatever name the architecture has for it (`n_positions`, MPT's `max_seq_len`). A YaRN
    scaling that was added to a configuration (`factor` times `original_max_position_embeddings`) raises it, as in vLLM.
    """
    text = config.get_text_config()
    length = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)
    rope = getattr(text, "rope_parameters", None) or {}
    if length and rope.get("rope_type") == "yarn" and rope.get("factor"):
        length = max(length, int(rope["factor"] * rope.get("original_max_position_embeddings", length)))
    return length


def default_max_new_tokens(config: PreTrainedConfig) -> int:
    """Longest completion where nobody says: 1024 tokens, or half of a shorter context."""
    return min(_MAX_NEW_TOKENS, (context_length(config) or 2 * _MAX_NEW_TOKENS) // 2)


def completion_room(space: ScoreSpace, max_new_tokens: int, forced: bool) -> int:
    """
    Tokens to be kept behind a prompt: the longest completion; the marker, where it is `forced` after one that has no score (behind
    what closes its thinking); and what the label tree is read behind, down to its deepest inner node.
    """
    marker = space.most_forced + 1 if forced else 0
    return max_new_tokens + marker + max(space.tree.depths, default=0)
