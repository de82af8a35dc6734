# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Puts sequences into one row of tokens: the one packer, for groups of completions and for sequences with scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from real_trl.forward.packed_attention import PackedSequences, no_mask
from real_trl.forward.tree_forward import edge_rows, rest_rows
from real_trl.label_tree import LabelTree


class Branch(NamedTuple):
    """What follows a prefix, possibly nothing. Behind it stand the inner nodes of a label tree, which see its first `seen` tokens."""

    tokens: Sequence[int]
    seen: int


@dataclass
class PackedRow:
    """
    One row of `T` tokens: all prefixes, then all branches, each with its tree behind it.

    Attributes:
        input_ids, position_ids (`torch.Tensor` of shape `(1, T)`):
            The tokens, and where each stands in its own sequence.
        layout ([`~real_trl.forward.packed_attention.PackedSequences`]):
            What they attend to.
        spans (`torch.Tensor` of shape `(N, 4)`):
            Start and length of the prefix of each of `N` branches, and its own start and end.
        tree ([`LabelTree`]):
            With `E` edges and `R` rests.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: PackedSequences
    spans: Tensor
    tree: LabelTree

    @property
    def inputs(self) -> dict[str, Any]:
        """Keyword arguments of the forward of a model that has [`~real_trl.forward.packed_attention.install_prefix_attention`]."""
        return {
            "input_ids": self.input_ids,
            "position_ids": self.position_ids,
            "attention_mask": no_mask(self.input_ids),
            "attention_layout": self.layout,
        }

    def places(self, index: Tensor) -> Tensor:
        """Where the tokens with `index` `(N, I)` in each prefix with its branch stand in the row."""
        prefix, length, start, _ = self.spans.unsqueeze(-1).unbind(1)  # (N, 4) -> four of (N, 1)
        return torch.where(index < length, prefix + index, start - length + index)

    def tree_places(self, score_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Where the edges `(N, E)` and the rests `(N, R)` are predicted, given where the score is, `(N,)`."""
        trees = self.spans[:, 3:]  # (N, 1)
        return edge_rows(self.tree, score_rows, trees), rest_rows(self.tree, len(trees), trees, trees.device)


def pack_row(
    groups: Sequence[tuple[Sequence[int], Sequence[Branch]]], tree: LabelTree, device: torch.device
) -> PackedRow:
    """Pack `groups`: the tokens of each prefix, none of them empty, with its branches, `N` in all. The tensors are on `device`."""
    prefixes = list(pairwise(accumulate((len(prefix) for prefix, _ in groups), initial=0)))
    ids = [token for prefix, _ in groups for token in prefix]
    positions = [position for prefix, _ in groups for position in range(len(prefix))]
    branches, spans, own, contexts = [], [], [], []
    for (prefix, following), (first, _) in zip(groups, prefixes, strict=True):
        group_start = len(ids)
        for tokens, seen in following:
            start, end, length = len(ids), len(ids) + len(tokens), len(prefix)
            ids += [*tokens, *tree.context_tokens]
            positions += [*range(length, length + len(tokens)), *(length + seen - 1 + depth for depth in tree.depths)]
            spans.append((first, length, start, end))
            own.append((start, end))
            contexts.append((start, start + seen))
        branches.append((group_start, len(ids)))
    layout = PackedSequences(prefixes, branches, own, contexts, tree.ancestors)
    input_ids, position_ids = (torch.tensor([values]).to(device) for values in (ids, positions))
    return PackedRow(input_ids, position_ids, layout, torch.tensor(spans).to(device), tree)


def pack_texts(
    texts: Sequence[Sequence[int]], cuts: Sequence[int], tree: LabelTree, device: torch.device, *, share: bool
) -> PackedRow:
    """
    Pack `N` texts, each with a tree that sees its first `cuts` tokens. What several begin with, within these, is read once with `share`.

    Returns:
        [`PackedRow`], whose `spans` are in the order of the texts.
    """
    if share:
        order = sorted(range(len(texts)), key=lambda i: texts[i][: cuts[i]])
        shared = shared_beginnings([texts[i][: cuts[i]] for i in order])
        members = [(length, [order[place] for place in places]) for length, places in shared]
    else:
        members = [(cut, [i]) for i, cut in enumerate(cuts)]
    groups = [
        (texts[rows[0]][:length], [Branch(texts[i][length:], seen=cuts[i] - length) for i in rows])
        for length, rows in members
    ]
    row = pack_row(groups, tree, device)
    if not share:
        return row
    packed = torch.tensor([i for _, rows in members for i in rows], device=row.spans.device)
    return replace(row, spans=row.spans[packed.argsort()])


def shared_beginnings(texts: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """
    Which texts are to share how much of their beginning, so that the fewest tokens are read in all.

    Args:
        texts (`Sequence[Sequence[int]]`):
            `N` texts, in an order in which those that begin alike follow each other, as `sorted` gives it.

    Returns:
        `list[tuple[int, list[int]]]`: for each group the tokens that it shares, at least one, and its texts; together all of them, in
        order. A text that shares nothing is a group of its own, and its beginning is all of it.
    """
    alike = [0, *(_common(*pair) for pair in zip(texts, texts[1:], strict=False))]
    # Of the texts up to each, the most tokens that need not be read, and where the last group begins
    saved, starts = [0], []
    for end in range(1, len(texts) + 1):
        best, begin, shared = saved[end - 1], end - 1, 0
        for start in range(end - 2, -1, -1):
            shared = min(shared, alike[start + 1]) if start < end - 2 else alike[start + 1]
            if not shared:
                break
            if saved[start] + (end - start - 1) * shared > best:
                best, begin = saved[start] + (end - start - 1) * shared, start
        saved.append(best)
        starts.append(begin)
    groups, end = [], len(texts)
    while end:
        begin = starts[end - 1]
        groups.append((min(alike[begin + 1 : end], default=len(texts[begin])), list(range(begin, end))))
        end = begin
    return groups[::-1]


def batches_that_share(texts: Sequence[Sequence[int]], size: int) -> list[range]:
    """
    Which texts are read together, at most `size` of them. Where a batch would end between two texts of which most is the same (the
    criteria of one response), and a place in its second half parts texts that have less in common, it ends at the last such place.

    Args:
        texts (`Sequence[Sequence[int]]`):
            In an order as of [`shared_beginnings`].
    """
    batches, start = [], 0
    while start < len(texts):
        end = min(start + size, len(texts))
        if end < len(texts) and 2 * _common(texts[end - 1], texts[end]) > len(texts[end]):
            places = range(start + size // 2 + 1, end + 1)
            end = min(places, key=lambda place: (_common(texts[place - 1], texts[place]), -place))
        batches.append(range(start, end))
        start = end
    return batches


def _common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens both begin with."""
    size = min(len(first), len(second))
    return next((i for i in range(size) if first[i] != second[i]), size)
