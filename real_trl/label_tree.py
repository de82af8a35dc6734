# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The labels of a scale as a tree of tokens, so that labels of several tokens are scored exactly: "1" is not "10".

Node 0, the root, is the place after the marker. An edge is a token that may come next; a spelling of a label is a path from the
root. Usually a label has one; where a tokenizer has a token for "10", "1" and then "0" is another, which a model may write too.
One spelling may begin another; then the completion is read as the longest that it begins with, and

`π(spelling) = π(its tokens) · π(what follows completes no longer one | its tokens)`

so that the labels' probabilities are those of disjoint events and sum to at most 1. The second factor is a sum of positive terms:
the *rest* of a node, the probability of all tokens that are no edge of it, and for edges to a node where no spelling ends,
that edge times the same of the node. For labels of one token each all of this is the single softmax of the paper.

What a label is followed by is looked at no further: "4" has the mass of "4.5" on a scale without halves, as in the paper.
A completion that says so has no score ([`ScoreSpace.locate`](score_space.py)).
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
        other_paths (`tuple[tuple[int, tuple[int, ...]], ...]`):
            `(label, tokens)` of what spells a label in other tokens than its own, see
            [`~real_trl.text.label_spellings.other_spellings`].
    """

    paths: tuple[tuple[int, ...], ...]
    context_tokens: tuple[int, ...]
    parents: tuple[int, ...]
    edges: tuple[tuple[int, int], ...]
    other_paths: tuple[tuple[int, tuple[int, ...]], ...] = ()

    @classmethod
    def from_paths(
        cls, paths: Sequence[Sequence[int]], other_paths: Sequence[tuple[int, Sequence[int]]] = ()
    ) -> "LabelTree":
        """The tree of labels whose token ids are `paths`, and `other_paths`; `ValueError` if one is empty or there twice."""
        own = tuple(tuple(path) for path in paths)
        others = tuple((label, tuple(path)) for label, path in other_paths)
        spelled = (*own, *(path for _, path in others))
        if not all(spelled) or len(set(spelled)) < len(spelled):
            raise ValueError(
                f"paths: {spelled} holds an empty path, or one twice. Each label needs tokens of its own."
            )
        nodes = _nodes(spelled)
        edges = dict.fromkeys((nodes[path[:end]], path[end]) for path in spelled for end in range(len(path)))
        prefixes = list(nodes)[1:]
        return cls(
            paths=own,
            context_tokens=tuple(prefix[-1] for prefix in prefixes),
            parents=tuple(nodes[prefix[:-1]] for prefix in prefixes),
            edges=tuple(edges),
            other_paths=others,
        )

    @cached_property
    def num_log_probs(self) -> tuple[int, int]:
        """How many log-probabilities the labels' are made of, of edges and of rests: `(E, R)`."""
        return len(self.edges), len(self.rests)

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

    @cached_property
    def labels(self) -> dict[tuple[int, ...], int]:
        """The label that each spelling spells."""
        return {path: label for label, path in (*enumerate(self.paths), *self.other_paths)}

    def longest_label(self, tokens: Sequence[int]) -> int | None:
        """The label of the longest spelling that `tokens` begin with; `None` if there is none."""
        starts = (tuple(tokens[:end]) for end in range(max(map(len, self.labels)), 0, -1))
        return next((self.labels[start] for start in starts if start in self.labels), None)

    def may_go_on(self, tokens: Sequence[int]) -> bool:
        """Whether `tokens` begin a spelling that is longer."""
        return tuple(tokens) in self._node_of

    def reading_length(self, tokens: Sequence[int]) -> int:
        """
        How many of `tokens`, a score's first and what follows it, tell which label it is: those of the label and, as long
        as a longer label might come of them, the ones up to that which rules it out.
        """
        end = 1
        while end < len(tokens) and self.may_go_on(tokens[:end]):
            end += 1
        return min(end, len(tokens))

    @cached_property
    def is_other(self) -> Tensor:
        """`(E,)`, `True` at the edges that are on no label's own path, only on what else spells it."""
        nodes = self._node_of
        own = {(nodes[path[:end]], path[end]) for path in self.paths for end in range(len(path))}
        return torch.tensor([edge not in own for edge in self.edges])

    @cached_property
    def _node_of(self) -> dict[tuple[int, ...], int]:
        return _nodes(tuple(self.labels))

    @cached_property
    def rests(self) -> tuple[int, ...]:
        """
        Inner nodes whose *rest* is needed, `R` of them, parents first: those where a spelling ends that may go on, and those
        below, as far as none ends.
        """
        label_nodes = {self._node_of[path] for path in self.labels if path in self._node_of}
        rests = set(label_nodes)
        for node, parent in enumerate(self.parents, 1):
            if parent in rests:
                rests.add(node)
        return tuple(sorted(rests))

    @cached_property
    def rest_tokens(self) -> Tensor:
        """`(R, X)`: the tokens that are no part of each rest, those of its node's edges; filled up with the first of them."""
        tokens = [[token for node, token in self.edges if node == rest] for rest in self.rests]
        width = max(map(len, tokens), default=0)
        rows = [row + row[:1] * (width - len(row)) for row in tokens]
        return torch.tensor(rows, dtype=torch.long).view(len(rows), width)

    @cached_property
    def _rest_edges(self) -> Tensor:
        """`(R, X)`: indices of the edges of each rest's node, filled up with `E`."""
        edges = [[i for i, (node, _) in enumerate(self.edges) if node == rest] for rest in self.rests]
        return _filled_up(edges, len(self.edges))

    @cached_property
    def _lower_rests(self) -> tuple[tuple[int, tuple[tuple[int, int], ...]], ...]:
        """For rests of nodes with an edge to a node where no spelling ends: index, and `(edge, index of its rest)` of each."""
        label_nodes = {self._node_of[path] for path in self.labels if path in self._node_of}
        edge_of, index = {edge: i for i, edge in enumerate(self.edges)}, {node: i for i, node in enumerate(self.rests)}
        lower: dict[int, list[tuple[int, int]]] = {}
        for node, (token, parent) in enumerate(zip(self.context_tokens, self.parents, strict=True), 1):
            if parent in index and node not in label_nodes:
                lower.setdefault(index[parent], []).append((edge_of[parent, token], index[node]))
        # A node's rest is made of those below it
        return tuple((rest, tuple(lower[rest])) for rest in sorted(lower, reverse=True))

    @cached_property
    def _path_edges(self) -> Tensor:
        """`(S, depth)`: indices of the edges on each spelling's path, filled up with `E`."""
        nodes, index = self._node_of, {edge: i for i, edge in enumerate(self.edges)}
        return _filled_up(
            [[index[nodes[path[:end]], path[end]] for end in range(len(path))] for path in self.labels],
            len(self.edges),
        )

    @cached_property
    def _path_rests(self) -> Tensor:
        """`(S,)`: index of the rest of the node where each spelling ends, `R` if nothing can follow."""
        index: dict[int | None, int] = {node: i for i, node in enumerate(self.rests)}
        return torch.tensor([index.get(self._node_of.get(path), len(index)) for path in self.labels])

    @cached_property
    def _label_spellings(self) -> Tensor:
        """`(L, spellings)`: those of each label, filled up with `S`."""
        spellings = [
            [i for i, of in enumerate(self.labels.values()) if of == label] for label in range(len(self.paths))
        ]
        return _filled_up(spellings, len(self.labels))

    def label_log_probs(self, edge_log_probs: Tensor, rest_log_probs: Tensor | None = None) -> Tensor:
        """
        Log-probability of every label.

        Args:
            edge_log_probs (`torch.Tensor` of shape `(..., E)`):
                `log π(token | x, c, tokens of the node)` of every edge, over the whole vocabulary.
            rest_log_probs (`torch.Tensor` of shape `(..., R)`, *optional*):
                Log-probability of every rest, out of the logits of the tokens that are in it. By default it is what the edges
                leave of 1. In float32 that loses a label that is almost sure to go on: where "10" has 0.99999 of what begins with
                "1", the log-probability of "1" is off by 1e-2.

        Returns:
            `torch.Tensor` of shape `(..., L)`.
        """
        if not self.context_tokens:
            return edge_log_probs
        device, batch = edge_log_probs.device, edge_log_probs.shape[:-1]
        # An impossible token, −inf, would give NaN where a gradient is 0 times that
        lowest = torch.finfo(edge_log_probs.dtype).min / 2**10
        edges = torch.cat([edge_log_probs.clamp(min=lowest), edge_log_probs.new_zeros(*batch, 1)], -1)
        spelled = edges[..., self._path_edges.to(device)].sum(-1)  # (..., S): log π(the spelling's tokens)
        if self.rests:
            rests = self._rests_of(edges) if rest_log_probs is None else rest_log_probs.to(edges.dtype)
            ended = list(rests.clamp(min=lowest).unbind(-1))
            for index, below in self._lower_rests:
                ended[index] = torch.stack(
                    [ended[index], *(edges[..., edge] + ended[i] for edge, i in below)]
                ).logsumexp(0)
            followed = torch.stack([*ended, torch.zeros_like(ended[0])], -1)
            spelled = spelled + followed[..., self._path_rests.to(device)]
        if not self.other_paths:
            return spelled
        spelled = torch.cat([spelled, spelled.new_full((*batch, 1), -torch.inf)], -1)
        return spelled[..., self._label_spellings.to(device)].logsumexp(-1)

    def _rests_of(self, edges: Tensor) -> Tensor:
        """What the edges of each rest's node leave of 1, of `(..., E + 1)`: `(..., R)`."""
        edges = torch.cat([edges[..., :-1], edges.new_full((*edges.shape[:-1], 1), -torch.inf)], -1)
        share = edges[..., self._rest_edges.to(edges.device)].exp().sum(-1)
        # log(1 − p) is cut off where the floating-point type cannot tell p from 1; its gradient is not
        excess = (share - (1 - 8 * torch.finfo(share.dtype).eps)).clamp(min=0).detach()
        return torch.log1p(excess - share)


def _nodes(paths: Sequence[tuple[int, ...]]) -> dict[tuple[int, ...], int]:
    """Number of every inner node by the tokens that lead to it, parents first."""
    prefixes = {path[:end] for path in paths for end in range(1, len(path))}
    return {prefix: node for node, prefix in enumerate([(), *sorted(prefixes, key=lambda p: (len(p), p))])}


def _filled_up(rows: Sequence[Sequence[int]], value: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])
