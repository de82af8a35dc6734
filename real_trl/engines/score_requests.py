# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading the score distribution through an inference engine that generates text but shows no hidden state: vLLM and servers.

Such an engine returns log-probabilities of a few tokens at every position that it generates, so a well-formed completion
brings its distribution along. What is then still missing (inner nodes of a [`LabelTree`], the marker of a malformed
completion) is asked for in requests for one more token, whose prompt is the prompt, the completion and a few tokens; the
engine has the keys and values of nearly all of that in its prefix cache.
"""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch

from real_trl.engines.base import Decoding
from real_trl.engines.distribution_checks import checked_log_probs
from real_trl.label_tree import LabelTree
from real_trl.score_space import ScoreLocation, ScoreSpace
from real_trl.text.thinking import ThinkingTags

_UNLIKELY = math.log(1e-6)  # up to this it is not worth a request whether a label is written in other tokens
MAX_TOKEN_IDS = 128  # as many log-probabilities of chosen tokens does vLLM return for one position


Context = TypeVar("Context", list[int], str)  # what the model reads: tokens, or text


@dataclass(frozen=True)
class Read(Generic[Context]):
    """A request for one more token, to see its distribution."""

    node: int  # of the label tree
    context: Context  # what the model has to read after the prompt
    tokens: tuple[int, ...]  # whose log-probabilities are wanted


class ScoreReading(Generic[Context]):
    """
    The score distribution of one completion, as its parts come in.

    Args:
        space ([`ScoreSpace`]):
            The labels, `L` of them.
        context (`list[int]` or `str`):
            What precedes the score and follows the prompt.
        pieces (`Mapping[int, list[int] | str]`):
            Each token of the labels in the form that `context` has.
        all_tokens (`bool`, *optional*, defaults to `True`):
            Whether the engine returns the tokens that it is asked for. Otherwise it returns its most likely tokens, and
            asking twice is no use.
    """

    def __init__(
        self,
        space: ScoreSpace,
        context: Context,
        pieces: Mapping[int, Context],
        *,
        all_tokens: bool = True,
    ) -> None:
        self.tree: LabelTree = space.tree
        self.all_tokens: bool = all_tokens
        self._contexts: list[Context] = _contexts(self.tree, context, pieces)
        self._path_edges = _path_edges(self.tree)
        own = {edge[0] for edge, is_other in zip(self.tree.edges, self.tree.is_other, strict=True) if not is_other}
        self._is_other = [node not in own for node in range(len(self._contexts))]
        # In double precision, since the tree subtracts probabilities; these are few numbers
        self._edges = torch.full((len(self.tree.edges),), torch.nan, dtype=torch.float64)
        self._unassigned: dict[int, float] = {}  # of each node that was read, the probability of tokens not returned

    @staticmethod
    def of_ids(space: ScoreSpace, context: list[int]) -> "ScoreReading[list[int]]":
        """With an engine that reads tokens, and returns those that it is asked for."""
        return ScoreReading(space, context, {token: [token] for _, token in space.tree.edges})

    def record(self, node: int, log_probs: Mapping[int, float], unassigned: float = 0.0) -> None:
        """
        Take in the log-probabilities of tokens at a node.

        Args:
            node (`int`):
                Node of the tree, 0 for the root.
            log_probs (`Mapping[int, float]`):
                Log-probabilities by token; tokens that lead to no label are ignored.
            unassigned (`float`, *optional*, defaults to `0.0`):
                Probability of all the tokens that the engine did not return.

        Raises:
            [`NoDistribution`]: if the numbers cannot be log-probabilities.
        """
        log_probs = dict(checked_log_probs(log_probs.items()))
        self._unassigned[node] = unassigned
        for index, (parent, token) in enumerate(self.tree.edges):
            if parent == node and token in log_probs:
                self._edges[index] = log_probs[token]

    def reads(self) -> list[Read[Context]]:
        """What is still to be asked for, nothing if the distribution is as complete as it gets."""
        reads: list[Read[Context]] = []
        for node, context in enumerate(self._contexts):
            if self._is_other[node] and self._known(node) < _UNLIKELY:
                continue
            wanted = [
                token
                for (parent, token), log_prob in zip(self.tree.edges, self._edges.tolist(), strict=True)
                if parent == node and math.isnan(log_prob)
            ]
            if self.all_tokens:
                chunks = range(0, len(wanted), MAX_TOKEN_IDS)
                reads += [Read(node, context, tuple(wanted[start : start + MAX_TOKEN_IDS])) for start in chunks]
            elif node not in self._unassigned and not math.isnan(self._reached(node)):
                reads.append(Read(node, context, tuple(wanted)))
        return reads

    def label_log_probs(self) -> torch.Tensor:
        """
        `log π(k | x, c)` of every label, `(L,)`; NaN where it is not known, unless nothing is left for it. What is not known about
        other spellings than the labels' own counts as not written.
        """
        log_probs = self._known_log_probs()
        if not self.all_tokens and self._unassigned and self.missing_mass() == 0:
            return log_probs.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        return log_probs

    def _known_log_probs(self) -> torch.Tensor:
        return self.tree.label_log_probs(self._assumed())

    def missing_mass(self) -> float:
        """The most that the labels which are not known can have together."""
        missing, labels = 0.0, self.tree.labels
        unknown = self._known_log_probs().isnan().tolist()
        assumed = self._assumed()
        edges = list(zip(self.tree.edges, assumed.exp().tolist(), strict=True))
        label_of: list[int | None] = []  # of each node, the longest label that has been written by then
        for node, path in enumerate(self._path_edges):
            written = labels.get(tuple(self.tree.edges[edge][1] for edge in path))
            label = label_of[self.tree.parents[node - 1]] if node and written is None else written
            label_of.append(label)
            reached = assumed[path].sum().exp().item()
            if math.isnan(reached):
                continue  # counted at the upper end of the edge that is not known
            known = [probability for (parent, _), probability in edges if parent == node]
            if label is not None and unknown[label]:
                missing += reached * (1 - sum(p for p in known if not math.isnan(p)))
            elif any(map(math.isnan, known)):
                missing += reached * self._unassigned.get(node, 1.0)
        return missing

    def _reached(self, node: int) -> float:
        """Log-probability of the tokens that lead to a node."""
        return self._edges[self._path_edges[node]].sum().item()

    def _known(self, node: int) -> float:
        """The most that this can be, by what is known."""
        return self._edges[self._path_edges[node]].nansum().item()

    def _assumed(self) -> torch.Tensor:
        return self._edges.masked_fill(self._edges.isnan() & self.tree.is_other, -torch.inf)


def _contexts(tree: LabelTree, context: Context, pieces: Mapping[int, Context]) -> list[Context]:
    """What the model has read at each node, the root first."""
    contexts = [context]
    for token, parent in zip(tree.context_tokens, tree.parents, strict=True):
        contexts.append(contexts[parent] + pieces[token])
    return contexts


def _path_edges(tree: LabelTree) -> list[list[int]]:
    """Numbers of the edges from the root to each node, the root first."""
    paths: list[list[int]] = [[]]
    edge_of = {edge: index for index, edge in enumerate(tree.edges)}
    for token, parent in zip(tree.context_tokens, tree.parents, strict=True):
        paths.append([*paths[parent], edge_of[parent, token]])
    return paths


def root_tokens(space: ScoreSpace) -> list[int]:
    """The tokens that may follow the marker: those to be recorded while generating."""
    return [token for node, token in space.tree.edges if node == 0]


def read_completion(
    space: ScoreSpace,
    decoding: Decoding,
    completion_ids: list[int],
    location: ScoreLocation,
    stop_ids: Collection[int],
    recorded: Callable[[int], Mapping[int, float]] | None,
    opened: ThinkingTags | None = None,
) -> ScoreReading[list[int]] | None:
    """
    Start to read the score of a completion whose tokens are known (`stop_ids` end one). `recorded` gives the log-probabilities
    by token at a position of it, if the engine recorded those of the score distribution; `opened` are the tags of the block of thinking
    that the prompt opens. `None` for a malformed completion that is dropped.
    """
    if not location.ok and decoding.malformed == "drop":
        return None
    if location.position is not None and location.status != "outside":
        reading = ScoreReading.of_ids(space, completion_ids[: location.position])
        if recorded is not None:
            reading.record(0, recorded(location.position))
        return reading
    ended = completion_ids and completion_ids[-1] in stop_ids
    forced = space.forced_ids(completion_ids, location, opened)
    return ScoreReading.of_ids(space, [*(completion_ids[:-1] if ended else completion_ids), *forced])


def request_seed(seed: int | None, index: int) -> int | None:
    """Seed of one prompt's sampling, below 2³¹: with it, the result does not depend on what else is being generated."""
    if seed is None:
        return None
    return int(np.random.SeedSequence([seed % 2**64, index]).generate_state(1)[0] >> 1)
