# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The keys and values of a generation in which completions share prompts: those of a prompt once for its group, those of a
completion in a buffer of its own.

A step of `generate` in Transformers copies the whole cache to append a token to it, repeats it for the heads that share keys,
and holds a copy of the prompt for every completion. Here a step appends in place, and the queries of all completions of a
group, and of all heads that share keys, go to the prompt's keys in one call.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.forward.kernels import Attended, attend, takes_flash
from real_trl.forward.packed_attention import no_mask
from real_trl.forward.prompt_cache import KeysAndValues, Layers, PromptAttention
from real_trl.forward.varlen import VarlenCall

_PACKED_TOKENS = 8192  # prompt tokens in a forward, as far as they do not belong to one prompt
_ROOM = 32  # tokens that a completion's buffer has room for, at least, when it is made


class PromptReading:
    """
    [`~real_trl.forward.packed_attention.AttentionLayout`] of prompts of these `lengths` that stand behind each other in one row and
    keep their keys and values.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        ends = list(accumulate(lengths))
        self._lengths, self._spans = lengths, [(end - length, end) for length, end in zip(lengths, ends, strict=True)]
        self._calls: dict[torch.device, VarlenCall] = {}
        self.layers: Layers = {}  # keys and values `(J, P, D)` of each prompt

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Each prompt causally: `query` `(1, H, T, D)`, `key` and `value` `(1, J, T, D)` to `(1, H, T, D)`."""
        kept = self.layers[layer] = [
            (key[0, :, start:end].contiguous(), value[0, :, start:end].contiguous()) for start, end in self._spans
        ]
        _, heads, length, size = query.shape
        if takes_flash(query):
            device = query.device
            if device not in self._calls:
                self._calls[device] = VarlenCall.each_causal(self._lengths, device)
            # (1, H, T, D) -> (T, H, D) -> (1, H, T, D)
            q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
            return self._calls[device].attend(q, k, v, scale)[0].transpose(0, 1).unsqueeze(0)
        # (1, T, H, D) -> (1, H, T, D), the memory order in which the model reads it
        out = query.new_empty(1, length, heads, size).transpose(1, 2)
        for (start, end), parts in zip(self._spans, kept, strict=True):
            out[0, :, start:end] = attend(query[0, :, start:end], *parts, scale, causal=True)[0]
        return out


class DecodingGroups:
    """
    [`~real_trl.forward.packed_attention.AttentionLayout`] of a decoding step: one new token of each row. `prompts` and `sizes` are
    those of [`PromptAttention`].
    """

    def __init__(self, prompts: Layers, sizes: Sequence[int]) -> None:
        self.prompts = PromptAttention(prompts, sizes)
        self.length = 0  # tokens of each row, that of the current step included
        self._own: dict[int, KeysAndValues] = {}  # buffers (N, J, >= length, D)

    def next_step(self) -> None:
        """To be called before each forward: every row gets a token."""
        self.length += 1

    def own(self, row: int) -> dict[int, KeysAndValues]:
        """For each layer, a copy of the keys and values `(J, length, D)` of what follows the prompt in `row`."""

        def copied(buffer: Tensor) -> Tensor:
            return buffer[row, :, : self.length].clone()

        return {layer: (copied(keys), copied(values)) for layer, (keys, values) in self._own.items()}

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these, in ascending order."""
        self.prompts.keep(rows)
        for layer, (keys, values) in self._own.items():
            index = torch.tensor(rows, device=keys.device)
            self._own[layer] = keys.index_select(0, index), values.index_select(0, index)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """`query` `(N, H, 1, D)`, `key` and `value` `(N, J, 1, D)` of the new tokens to `(N, H, 1, D)`."""
        rows, kv_heads, _, size = key.shape
        folded = query.reshape(rows, kv_heads, -1, size)  # (N, H, 1, D) -> (N, J, H/J, D)
        # (N, J, length, D) -> (N*J, length, D)
        keys, values = (x.flatten(0, 1) for x in self._append(layer, key, value))
        own = attend(folded.flatten(0, 1), keys, values, scale, causal=False)  # (N, J, H/J, D) -> (N*J, H/J, D)
        own = own[0].view(folded.shape), own[1].view(folded.shape[:-1])  # (N*J, H/J, ...) -> (N, J, H/J, ...)
        # (N, J, H/J, D) -> (N, H, 1, D)
        return merged_output(self.prompts.attend(layer, folded, scale), own).view(query.shape)

    def _append(self, layer: int, key: Tensor, value: Tensor) -> KeysAndValues:
        keys, values = self._own.get(layer, (None, None))
        if keys is None or values is None or keys.size(2) < self.length:
            keys, values = self._own[layer] = self._buffer(key, keys), self._buffer(value, values)
        for buffer, new in ((keys, key), (values, value)):
            buffer[:, :, self.length - 1] = new[:, :, 0]  # (N, J, 1, D) -> (N, J, D)
        return keys[:, :, : self.length], values[:, :, : self.length]

    def _buffer(self, new: Tensor, old: Tensor | None) -> Tensor:
        rows, heads, _, size = new.shape
        # In steps of half its length, so that what is copied stays in proportion to what is generated
        buffer = new.new_empty(rows, heads, self.length + max(_ROOM, self.length // 2), size)
        if old is not None:
            buffer[:, :, : old.size(2)] = old
        return buffer


def merged_output(first: Attended, second: Attended) -> Tensor:
    """The output of [`~real_trl.forward.kernels.merge`], where its log-sum-exp is not needed."""
    weight = torch.sigmoid(first[1] - second[1]).unsqueeze(-1)
    return torch.lerp(second[0].to(weight.dtype), first[0].to(weight.dtype), weight).to(first[0].dtype)


def read_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> tuple[Layers, Tensor]:
    """
    Prefill by a model with [`~real_trl.forward.packed_attention.install_prefix_attention`]: the tokens of each group's prompt, not
    empty, are read once. For each layer, keys and values `(J, P, D)` of every prompt, and the logits `(groups, V)` of what comes next.
    """
    device, logits = model.device, []
    layers: Layers = {}
    for pack in _packs(prompts):
        reading = PromptReading([len(prompt) for prompt in pack])
        ids = torch.tensor([[token for prompt in pack for token in prompt]], device=device)
        positions = torch.cat([torch.arange(len(prompt), device=device) for prompt in pack])
        ends = torch.tensor([end - 1 for end in accumulate(len(prompt) for prompt in pack)], device=device)
        output = model(
            input_ids=ids,
            position_ids=positions.unsqueeze(0),
            attention_mask=no_mask(ids),
            attention_layout=reading,
            use_cache=False,
            logits_to_keep=ends,
        )
        logits.append(output.logits[0])
        for layer, kept in reading.layers.items():
            layers.setdefault(layer, []).extend(kept)
    return layers, torch.cat(logits)


def _packs(prompts: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    packs: list[list[Sequence[int]]] = [[]]
    tokens = 0
    for prompt in prompts:
        if packs[-1] and tokens + len(prompt) > _PACKED_TOKENS:
            packs.append([])
            tokens = 0
        packs[-1].append(prompt)
        tokens += len(prompt)
    return packs
