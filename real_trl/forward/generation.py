# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Generation in which completions of the same prompt share its prefill, and completions that have ended cost nothing.

It is a decoding method for transformers' own `generate`, from which logits processors, stopping criteria and defaults
come: greedy tokens are those of plain `generate`, and sampled ones have the same distribution.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Any, Protocol

import torch
from accelerate.utils import is_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import GenerationConfig, LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput
from trl.trainer.utils import pad

from real_trl.forward.dense import causal_lm
from real_trl.forward.packed_attention import PREFIX_ATTENTION, install_prefix_attention, no_mask
from real_trl.forward.padded_head import padded_head
from real_trl.forward.positions import generation_without_cache, separate_rows
from real_trl.forward.prompt_cache import KeysAndValues, Layers
from real_trl.forward.shared_cache import DecodingGroups, read_prompts
from real_trl.forward.support import why_not_exact, why_not_row_wise

logger = logging.getLogger(__name__)

_BLOCK = 256  # tokens of which one is sampled at a time


class FollowsRows(Protocol):
    """A logits processor that is told which rows are left."""

    def keep_rows(self, rows: Sequence[int]) -> None:
        """From now on it is called with these of the rows only."""
        ...


@dataclass
class FinishedRows:
    """
    Keys and values of a generation, in the place of `past_key_values`.

    Attributes:
        prompts (`dict[int, list[tuple[torch.Tensor, torch.Tensor]]]`):
            For each layer, those of every group's prompt `(J, P, D)`.
        groups (`list[int]`):
            Group of every row.
        own (`dict[int, dict[int, tuple[torch.Tensor, torch.Tensor]]]`):
            For every row and layer, those of its completion `(J, S, D)`, without the last token, which was not read.
    """

    prompts: Layers
    groups: list[int]
    own: dict[int, dict[int, KeysAndValues]] = field(default_factory=dict)


class _CannotShare(Exception):
    """Raised before anything is computed; says why."""


def generate_groups(
    model: PreTrainedModel,
    prompt_ids: Sequence[Sequence[int]],
    generation_config: GenerationConfig,
    pad_token_id: int,
    logits_processor: LogitsProcessorList | None = None,
) -> GenerateDecoderOnlyOutput:
    """
    `model.generate`, where prompts that follow each other and are the same share their prefill.

    Plain `generate` stands in where that would not be exact, with a log line that says why.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Causal LM, unwrapped, its parameters gathered: processes may take different numbers of steps.
        prompt_ids (`Sequence[Sequence[int]]`):
            Tokens of `N` prompts.
        generation_config ([`~transformers.GenerationConfig`]):
            How to decode.
        pad_token_id (`int`):
            Fills `sequences`.
        logits_processor ([`~transformers.LogitsProcessorList`], *optional*):
            Processors of one's own, each of which must follow the rows ([`FollowsRows`]).

    Returns:
        [`~transformers.generation.GenerateDecoderOnlyOutput`] with `sequences` `(N, P + C)`, prompts padded on the left and
        completions on the right. `past_key_values` is [`FinishedRows`], or after plain `generate` a cache, and there only
        with `generation_config.return_dict_in_generate`.
    """
    base = causal_lm(model)
    whole: Any = model  # `generate` and an adapter's attributes are not in its type
    ids = [torch.tensor(prompt, dtype=torch.long) for prompt in prompt_ids]
    inputs = {
        "input_ids": pad(ids, pad_token_id, "left").to(base.device),
        "attention_mask": pad([torch.ones_like(x) for x in ids], 0, "left").to(base.device),
        "generation_config": generation_config,
        "logits_processor": logits_processor,
    }
    separate_rows(base)
    inputs["generation_config"] = generation_without_cache(base.config, prompt_ids, generation_config)
    reason = why_not_exact(base, dropout="of shared tokens" if base.training else "none")
    if is_peft_model(model) and whole.active_peft_config.is_prompt_learning:
        reason = "the adapter is a learned prompt"
    output = None
    if reason is None:
        try:
            with prefix_attention_installed(base), padded_head(base):
                output = whole.generate(**inputs, custom_generate=shared_prefill)
        except _CannotShare as error:
            reason = str(error)
    if output is None:
        _warn_once(reason)
        output = whole.generate(**inputs)
    return output if isinstance(output, GenerateDecoderOnlyOutput) else GenerateDecoderOnlyOutput(sequences=output)


@cache
def _warn_once(reason: str) -> None:
    logger.warning("Completions are generated with a copy of the prompt each, which is slower: %s.", reason)


@contextmanager
def prefix_attention_installed(model: PreTrainedModel) -> Iterator[None]:
    """Within it, forwards of `model` take an `attention_layout`; afterwards its attention is what it was."""
    own = model.config._attn_implementation
    if own == PREFIX_ATTENTION:
        yield
        return
    install_prefix_attention(model)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@torch.no_grad()
def shared_prefill(
    model: PreTrainedModel,
    input_ids: Tensor,
    logits_processor: LogitsProcessorList,
    stopping_criteria: StoppingCriteriaList,
    generation_config: GenerationConfig,
    **model_kwargs: Any,
) -> Tensor | GenerateDecoderOnlyOutput:
    """
    The decoding method, `custom_generate` of [`~transformers.GenerationMixin.generate`], which makes these arguments.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM with prefix attention installed.
        input_ids, model_kwargs["attention_mask"] (`torch.Tensor` of shape `(N, P)`):
            Prompts, padded on the left. The mask is `None` where nothing is padded, from transformers 5.24 on.
        logits_processor, stopping_criteria, generation_config:
            What to do with the logits, when to stop, and whether to sample.

    Returns:
        `torch.Tensor` of shape `(N, P + C)`, or [`~transformers.generation.GenerateDecoderOnlyOutput`] with that and
        [`FinishedRows`], if the config asks for it.
    """
    # Not a parameter: `generate` would take a name that its own methods lack out of what it prepares
    attention_mask = model_kwargs["attention_mask"]
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    reason = why_not_row_wise(logits_processor, generation_config, attention_mask)
    if reason:
        raise _CannotShare(reason)
    prompts = [ids[mask].tolist() for ids, mask in zip(input_ids, attention_mask.bool(), strict=True)]
    groups = [(prompt, len(list(rows))) for prompt, rows in groupby(prompts)]
    sizes = [size for _, size in groups]
    prompt_layers, logits = read_prompts(model, [prompt for prompt, _ in groups])
    cache = DecodingGroups(prompt_layers, sizes)
    device = logits.device
    logits = logits.repeat_interleave(torch.tensor(sizes, device=device), dim=0)  # (groups, V) -> (N, V)
    finished = FinishedRows(prompt_layers, [group for group, size in enumerate(sizes) for _ in range(size)])

    rows = list(range(len(prompts)))  # those that go on
    tokens = input_ids  # (rows, P + steps); processors and criteria see them as in plain `generate`
    positions = torch.tensor([[len(prompt)] for prompt in prompts], device=device)
    completions: dict[int, Tensor] = {}
    while True:
        scores = logits_processor(tokens, logits.to(torch.float32, copy=True))
        chosen = _sampled(scores) if generation_config.do_sample else scores.argmax(-1)
        tokens = torch.cat([tokens, chosen.unsqueeze(1)], dim=1)
        stop = stopping_criteria(tokens, None).tolist()
        if any(stop):
            for index, row in enumerate(rows):
                if stop[index]:
                    completions[row] = tokens[index, input_ids.size(1) :]
                    if generation_config.return_dict_in_generate:
                        finished.own[row] = cache.own(index)
            left = [index for index, stopped in enumerate(stop) if not stopped]
            if not left:
                break
            cache.keep(left)
            for processor in logits_processor:
                _keep_rows(processor, left)
            rows = [rows[index] for index in left]
            tokens, positions = tokens[left], positions[left]
        cache.next_step()
        next_ids = tokens[:, -1:]
        logits = model(
            input_ids=next_ids,
            position_ids=positions,
            attention_mask=no_mask(next_ids),
            attention_layout=cache,
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]
        positions = positions + 1

    filler = generation_config.pad_token_id
    columns = pad([completions[row] for row in range(len(prompts))], 0 if filler is None else filler, "right")
    sequences = torch.cat([input_ids, columns], dim=1)
    if not generation_config.return_dict_in_generate:
        return sequences
    return GenerateDecoderOnlyOutput(sequences=sequences, past_key_values=finished)


def _keep_rows(processor: Any, rows: list[int]) -> None:
    """`processor` shall be given these of its rows only."""
    if hasattr(processor, "keep_rows"):
        processor.keep_rows(rows)
    ignored = getattr(processor, "prompt_ignore_length", None)
    if isinstance(
        ignored, Tensor
    ):  # padding of each row, which the repetition penalty leaves out from transformers 5.24 on
        processor.prompt_ignore_length = ignored[rows]


def _sampled(scores: Tensor) -> Tensor:
    """A token of each row of `scores` `(N, V)`, with the probabilities of their softmax."""
    # `torch.multinomial` draws a number for every token of the vocabulary, and the cumulative distribution of all of it in float64 takes
    # as long on a CPU as a layer: a block of tokens is drawn, and then one of its tokens
    precise = torch.float32 if scores.device.type == "mps" else torch.float64  # all that it has
    probs = functional.pad(scores.softmax(-1), (0, -scores.size(1) % _BLOCK))
    probs = probs.unflatten(1, (-1, _BLOCK))  # (N, blocks * block) -> (N, blocks, block)
    ends = probs.sum(-1).cumsum(-1, dtype=precise)  # (N, blocks)
    total = ends[:, -1:]
    if not total.isfinite().all():
        raise RuntimeError(
            "The logits hold NaN or infinity, so there is nothing to sample from. The model has diverged, or its type is too narrow for it."
        )
    block, share = _place(ends, torch.rand(total.shape, dtype=total.dtype, device=total.device))
    inner = probs.take_along_dim(block.unsqueeze(-1), 1).squeeze(1).cumsum(-1, dtype=precise)  # (N, block)
    return (block * _BLOCK + _place(inner, share)[0]).squeeze(1)


def _place(ends: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Of sums up to each of `B` things `(N, B)`: at which a `share` `(N, 1)` of all lies, and at which share of that one; both `(N, 1)`."""
    total = ends[:, -1:]
    # Rounding must not lead behind the last one that is not empty
    drawn = torch.minimum(share * total, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(ends, drawn, right=True)
    start = ends.gather(1, (place - 1).clamp(min=0)) * (place > 0)
    return place, (drawn - start) / (ends.gather(1, place) - start)
