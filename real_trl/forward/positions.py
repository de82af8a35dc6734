# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
How a model knows where a token stands, and whether a token's hidden state then depends on nothing but what precedes it.

With rotary embeddings of constant frequencies and with learned positions it does: sequences may stand in one row, share a
prefix, or have a tree of labels behind them. Two kinds are different.

- *Frequencies that depend on the length* of what is read ("dynamic", "longrope"): every token's hidden state depends on how
  much follows it, and in Transformers on the longest row of the batch, and on what the model read before.
  [`separate_rows`] gives every row the frequencies that it has when it is read by itself, by a model that has read nothing else.
- *A bias by distance* in the attention (ALiBi), which goes by the place in the row and not by `position_ids`.

Both are read a row for each sequence.
"""

import copy
import logging
from collections.abc import Sequence
from functools import cache
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel

logger = logging.getLogger(__name__)

# Of Transformers' ROPE_INIT_FUNCTIONS, and none of them. What is not here depends on the length, or nobody has looked.
CONSTANT_ROPES = ("default", "linear", "llama3", "yarn", "proportional")
_ALWAYS_ALIBI = ("bloom", "mpt")


def _ropes(config: PreTrainedConfig) -> list[dict[str, Any]]:
    """Parameters of the rotary embedding, or of each kind of layers that has its own."""
    parameters = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    return nested or [parameters]


def _rope_type(rope: dict[str, Any]) -> str:
    return rope.get("rope_type") or rope.get("type") or "default"


def constant_up_to(config: PreTrainedConfig) -> int | None:
    """
    Tokens up to which the frequencies of the rotary embedding do not depend on how many are read; `None` if they never do, 0 if
    that is not known.
    """
    limits = []
    text_config = config.get_text_config()
    for rope in _ropes(text_config):
        kind = _rope_type(rope)
        if kind == "dynamic":
            limits.append(text_config.max_position_embeddings)
        elif kind == "longrope":
            limits.append(rope.get("original_max_position_embeddings") or 0)
        elif kind not in CONSTANT_ROPES:
            limits.append(0)
    return min(limits, default=None)


def why_positions_not_plain(config: PreTrainedConfig) -> str | None:
    """Why a token's hidden state does not depend on its own sequence up to it alone, for a log line; `None` if it does."""
    config = config.get_text_config()
    for kind in map(_rope_type, _ropes(config)):
        if kind not in CONSTANT_ROPES:
            known = "depend" if kind in ("dynamic", "longrope") else "may depend"
            return f"the frequencies of the rotary embedding {kind!r} {known} on how many tokens are read"
    if config.model_type in _ALWAYS_ALIBI or getattr(config, "alibi", False):
        return "the attention has a bias by distance (ALiBi)"
    return None


def separate_rows(model: PreTrainedModel) -> None:
    """
    Compute the rotary frequencies of every row of a batch as if it were alone. Nothing is done to models whose frequencies are
    constant.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model without wrappers; changed.
    """
    if constant_up_to(model.config) is None:
        return
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        kinds = kinds.values() if isinstance(kinds, dict) else [kinds]
        if any(kind is not None and kind not in CONSTANT_ROPES for kind in kinds):
            module.forward = MethodType(_forward_by_row, module)


def _forward_by_row(module: nn.Module, x: Tensor, position_ids: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The embedding of rows `position_ids` `(B, T)`, of each by a module that has not read anything."""
    position_ids = position_ids.to(x.device)
    lengths = position_ids.amax(-1)  # (B,)
    parts, where = [], []
    for length in lengths.unique():
        rows = (lengths == length).nonzero().squeeze(1)
        # Its forward replaces the frequencies that the module has, and keeps them for shorter rows
        fresh = type(module)(module.config).to(x.device)
        parts.append(type(module).forward(fresh, x, position_ids[rows], *args, **kwargs))
        where.append(rows)
    if len(parts) == 1:
        return parts[0]
    back = torch.cat(where).argsort()
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)[back]
    return tuple(torch.cat(part)[back] for part in zip(*parts, strict=True))


def why_read_otherwise_by_vllm(config: PreTrainedConfig, max_model_len: int | None) -> str | None:
    """
    Why vLLM reads a model with other rotary frequencies than Transformers, with which it is trained and otherwise judged; `None` if
    it does not. vLLM has one set of them for all lengths: "dynamic" ones stretched even for short texts, and of "longrope" the
    long ones wherever `max_model_len` may need them.

    Args:
        config ([`~transformers.PreTrainedConfig`]):
            Of the model.
        max_model_len (`int`, *optional*):
            Most tokens that vLLM is to read.
    """
    limit = constant_up_to(config)
    if limit is None:
        return None
    kinds = {_rope_type(rope) for rope in _ropes(config.get_text_config())} - set(CONSTANT_ROPES)
    if kinds == {"longrope"} and max_model_len is not None and max_model_len <= limit:
        return None
    fix = f"set it to {limit} or less, or " if kinds == {"longrope"} else ""
    return (
        f"vLLM reads the rotary embedding {', '.join(sorted(kinds))} with one set of frequencies for all lengths, and Transformers "
        f"with others up to {limit} tokens; the same text would have other probabilities. To read what was trained, {fix}"
    )


def generation_without_cache(
    config: PreTrainedConfig, prompt_ids: Sequence[Sequence[int]], generation_config: GenerationConfig
) -> GenerationConfig:
    """
    The generation config for prompts: without a cache where a completion may become so long that its tokens have other rotary
    frequencies than keys in the cache. Every step then reads everything again, as training and judging do.
    """
    prompt, completion = max(map(len, prompt_ids)), generation_config.max_new_tokens
    longest = prompt + completion if completion is not None else generation_config.max_length
    limit = constant_up_to(config)
    if limit is None or (longest is not None and longest <= limit):
        return generation_config
    _warn_of_no_cache(limit)
    changed = copy.deepcopy(generation_config)
    changed.use_cache = False
    return changed


@cache
def _warn_of_no_cache(limit: int) -> None:
    logger.warning(
        "Completions are generated without a cache, which is much slower: prompts and completions may have more than %d tokens "
        "together, from which on the rotary embedding has other frequencies for all of them. Shorten them, if you can.",
        limit,
    )
