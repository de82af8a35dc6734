# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The labels of a scale as a tree of tokens, so that labels of several tokens are scored exactly: "1" is not "10".

Node 0, the root, is the place after the marker. An edge is a token that may come next; a label is a path from the root.
One label may begin another; then the completion is read as the longest label that it begins with, and

`π(label) = π(its tokens) − Σ π(tokens of each longer label next on a path through it)`

so that the labels' probabilities are those of disjoint events and sum to at most 1. For labels of one token each this
is the single softmax of the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelTree:
    """
    Build it with [`LabelTree.from_paths`].

    Attributes:
        paths (`tuple[tuple[int, ...], ...]`):
            Token ids of each label, `L` of them.
        context_tokens (`tuple[int, ...]`):
            Tokens of the inner nodes 1 to `M`, parents first. The model has to read them, each after its ancestors, to
            tell what follows. None for labels of one token.
        parents (`tuple[int, ...]`):
            Parent of each inner node, 0 for the root.
        edges (`tuple[tuple[int, int], ...]`):
            `(node, next token)` whose log-probabilities are needed, `E` of them. For labels of one token, one each in
            their order.
    """

    paths: tuple[tuple[int, ...], ...]
    context_tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]

    @classmethod
    def from_paths(cls, paths: Sequence[Sequence[int]]) -> "LabelTree":
        """The tree of labels whose token ids are `paths`; `ValueError` if one is empty or there twice."""
        paths = tuple(tuple(path) for path in paths)
        if not all(paths) or len(set(paths)) < len(paths):
            raise ValueError(f"paths: {paths} holds an empty path, or one twice. Each label needs tokens of its own.")
        nodes = _nodes(paths)
        edges = dict.fromkeys((nodes[path[:end]], path[end]) for path in paths for end in range(len(path)))
        prefixes = list(nodes)[1:]
        return cls(
            paths=paths,
            context_tokens=tuple(prefix[-1] for prefix in prefixes),
            parents=tuple(nodes[prefix[:-1]] for prefix in prefixes),
            edges=tuple(edges),
        )

    @cached_property
    def depths(self) -> tuple[int, ...]:
        """Number of label tokens read at each inner node: 1 for a child of the root."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return tuple(depths[1:])

    @cached_property
    def ancestors(self) -> Tensor:
        """`(M, M)`, `True` where the second inner node is the first, or stands above it."""
        above = torch.eye(len(self.parents), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent:
                above[node] |= above[parent - 1]
        return above

    def reading_length(self, tokens: Sequence[int]) -> int:
        """
        How many of `tokens`, a score's first and what follows it, tell which label it is: those of the label and, as long
        as a longer label might come of them, the ones up to that which rules it out.
        """
        end = 1
        while end < len(tokens) and tuple(tokens[:end]) in self._node_of:
            end += 1
        return min(end, len(tokens))

    @cached_property
    def _node_of(self) -> dict[tuple[int, ...], int]:
        return _nodes(self.paths)

    @cached_property
    def _longer(self) -> list[list[int]]:
        """For each label, the longer ones that it begins, without those that begin with another of these."""
        after = [[j for j, other in enumerate(self.paths) if _begins(path, other)] for path in self.paths]
        return [[j for j in js if not any(_begins(self.paths[i], self.paths[j]) for i in js)] for js in after]

    @cached_property
    def _path_edges(self) -> Tensor:
        """`(L, depth)`: indices of the edges on each label's path, filled up with `E`."""
        nodes, index = self._node_of, {edge: i for i, edge in enumerate(self.edges)}
        return _filled_up(
            [[index[nodes[path[:end]], path[end]] for end in range(len(path))] for path in self.paths], len(self.edges)
        )

    @cached_property
    def _longer_labels(self) -> Tensor:
        """`(L, longest)`: `_longer`, filled up with `L`."""
        return _filled_up(self._longer, len(self.paths))

    def label_log_probs(self, edge_log_probs: Tensor) -> Tensor:
        """
        Log-probability of every label.

        Args:
            edge_log_probs (`torch.Tensor` of shape `(..., E)`):
                `log π(token | x, c, tokens of the node)` of every edge, over the whole vocabulary.

        Returns:
            `torch.Tensor` of shape `(..., L)`.
        """
        if not self.context_tokens:
            return edge_log_probs
        device, batch = edge_log_probs.device, edge_log_probs.shape[:-1]
        # An impossible token, −inf, would give NaN as the difference of two of these
        edge_log_probs = edge_log_probs.clamp(min=torch.finfo(edge_log_probs.dtype).min / 2**10)
        edge_log_probs = torch.cat([edge_log_probs, edge_log_probs.new_zeros(*batch, 1)], -1)
        begun = edge_log_probs[..., self._path_edges.to(device)].sum(-1)  # (..., L): log π(the label's tokens)
        if not any(self._longer):
            return begun
        longer = torch.cat([begun, begun.new_full((*batch, 1), -torch.inf)], -1)
        longer = longer[..., self._longer_labels.to(device)]  # (..., L, longer labels)
        share = (longer - begun.unsqueeze(-1)).exp().sum(-1)
        # log(1 − p) is cut off where the floating-point type cannot tell p from 1; its gradient is not
        excess = (share - (1 - 8 * torch.finfo(share.dtype).eps)).clamp(min=0).detach()
        return begun + torch.log1p(excess - share)


def _nodes(paths: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Number of every inner node by the tokens that lead to it, parents first."""
    prefixes = {path[:end] for path in paths for end in range(1, len(path))}
    return {prefix: node for node, prefix in enumerate([(), *sorted(prefixes, key=lambda p: (len(p), p))])}


def _begins(path: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(path) < len(other) and other[: len(path)] == path


def _filled_up(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
