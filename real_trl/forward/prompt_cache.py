# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Attention of rows to the prompts of their groups, when the prompts' keys and values are there already."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from real_trl.forward.kernels import Attended, attend_each

KeysAndValues = tuple[Tensor, Tensor]
Layers = dict[int, list[KeysAndValues]]


@dataclass
class _Bucket:
    """Groups whose prompts are equally long, for one call of the kernel."""

    groups: list[int]
    rows: Tensor  # (groups * most,): those of each group, as many of each as the largest has
    stacked: dict[int, KeysAndValues]  # for each layer, keys and values (groups, J, P, D)

    def attend(self, layer: int, query: Tensor, scale: float) -> Attended:
        """Of `query` `(N, J, Q, D)`, output and log-sum-exp of `rows`."""
        _, heads, length, width = query.shape
        # (N, J, Q, D) -> (groups * most, J, Q, D) -> (groups, most, J, Q, D)
        query = query.index_select(0, self.rows).unflatten(0, (len(self.groups), -1))
        # (groups, most, J, Q, D) -> (groups, J, most * Q, D)
        out, lse = attend_each(query.transpose(1, 2).flatten(2, 3), *self.stacked[layer], scale)
        # (groups, J, most * Q, ...) -> (groups, most, J, Q, ...)
        out, lse = out.unflatten(2, (-1, length)).transpose(1, 2), lse.unflatten(2, (-1, length)).transpose(1, 2)
        return out.flatten(0, 1), lse.flatten(0, 1)  # (groups, most, ...) -> (groups * most, ...)


class PromptAttention:
    """
    Prompts of groups, and the rows that attend to them.

    The kernel is called once for all prompts that are equally long: hundreds of short ones have few lengths, and a call of
    its own for each would take longer than the arithmetic.

    Args:
        prompts (`dict[int, list[tuple[torch.Tensor, torch.Tensor]]]`):
            For each layer, keys and values `(J, P, D)` of every group's prompt. The entries of prompts that are equally long
            become views of one tensor.
        sizes (`Sequence[int]`):
            Rows of each group; they follow each other.
    """

    def __init__(self, prompts: Layers, sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._device = next(iter(prompts.values()))[0][0].device
        by_length: dict[int, list[int]] = {}
        for group, (key, _) in enumerate(next(iter(prompts.values()))):
            by_length.setdefault(key.size(1), []).append(group)
        nothing = torch.empty(0, dtype=torch.long)
        self._buckets = [_Bucket(groups, nothing, {}) for groups in by_length.values()]
        for bucket in self._buckets:
            for layer, kept in prompts.items():
                if len(bucket.groups) == 1:
                    key, value = kept[bucket.groups[0]]
                    bucket.stacked[layer] = key.unsqueeze(0), value.unsqueeze(0)
                    continue
                # (J, P, D) -> (groups, J, P, D)
                keys, values = (torch.stack([kept[group][i] for group in bucket.groups]) for i in (0, 1))
                bucket.stacked[layer] = keys, values
                for place, group in enumerate(bucket.groups):
                    kept[group] = keys[place], values[place]
        self._arrange()

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but these, in ascending order, and prompts of groups of which none is left."""
        kept = set(rows)
        starts = accumulate([0, *self._sizes[:-1]])
        self._sizes = [
            sum(row in kept for row in range(start, start + size))
            for start, size in zip(starts, self._sizes, strict=True)
        ]
        left = []
        for bucket in self._buckets:
            places = [place for place, group in enumerate(bucket.groups) if self._sizes[group]]
            if not places:
                continue
            # Copying the prompts that are left pays once they are few
            if len(places) <= len(bucket.groups) // 2:
                bucket.groups = [bucket.groups[place] for place in places]
                index = torch.tensor(places, device=self._device)
                bucket.stacked = {
                    layer: (keys.index_select(0, index), values.index_select(0, index))
                    for layer, (keys, values) in bucket.stacked.items()
                }
            left.append(bucket)
        self._buckets = left
        self._arrange()

    def attend(self, layer: int, query: Tensor, scale: float) -> Attended:
        """
        Attention of every row to its prompt, of `query` `(N, J, Q, D)` with those of the heads that share keys together: output
        `(N, J, Q, D)` and log-sum-exp `(N, J, Q)`.
        """
        parts = [bucket.attend(layer, query, scale) for bucket in self._buckets]
        out, lse = (torch.cat(part) if len(parts) > 1 else part[0] for part in zip(*parts, strict=True))
        return (out, lse) if self._back is None else (out.index_select(0, self._back), lse.index_select(0, self._back))

    def _arrange(self) -> None:
        """Which rows go into which call, and where the rows' results are found in what the calls give."""
        starts = list(accumulate([0, *self._sizes]))
        back, place = [0] * starts[-1], 0
        for bucket in self._buckets:
            most = max(self._sizes[group] for group in bucket.groups)
            rows: list[int] = []
            for group in bucket.groups:
                own = list(range(starts[group], starts[group + 1]))
                for offset, row in enumerate(own):
                    back[row] = place + len(rows) + offset
                rows += own + own[:1] * (most - len(own)) if own else [0] * most
            bucket.rows = torch.tensor(rows, device=self._device)
            place += len(rows)
        in_order = back == list(range(place))
        self._back = None if in_order else torch.tensor(back, device=self._device)
