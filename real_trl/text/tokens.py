# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Text and tokens of a completion; raw ones are as they are: nothing added, skipped or cleaned."""

from collections.abc import Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase


def decoded(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], **options: Any) -> str:
    """The text of `ids`, with the `options` of `tokenizer.decode`, which gives a list for a batch and says so in its type."""
    return cast(str, tokenizer.decode(list(ids), **options))


def raw_text(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of `ids`. Special tokens stay: skipping them would join what they separate, and a marker may contain one."""
    return decoded(tokenizer, ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def raw_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """The tokens of `text`, without those that begin or end one."""
    return tokenizer.encode(text, add_special_tokens=False)
