# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading the score distribution after `generate`, where the tokens that were generated do not hold it: the inner nodes of a
[`LabelTree`], and the marker that a malformed completion lacks.

[`read_from_rows`] and [`read_from_cache`] do so with one short forward on the keys and values that generation leaves behind,
the former where completions share their prompts; [`read_by_forward`] reads whole sequences, for models whose cache does not
hold every token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from trl.trainer.utils import pad

from real_trl.forward.generation import FinishedRows
from real_trl.forward.kernels import Part
from real_trl.forward.packed_attention import no_mask
from real_trl.forward.prompt_cache import KeysAndValues, PromptAttention
from real_trl.forward.rest_log_probs import rest_log_probs_of_logits
from real_trl.forward.shared_cache import merged_output
from real_trl.forward.tree_forward import as_attention_mask, tree_mask
from real_trl.label_tree import LabelTree


@dataclass
class ScorePlace:
    """
    Where the score of one row of a batch is to be read.

    Attributes:
        context (`list[int]`):
            The part of its completion that precedes the score and was generated.
        forced (`list[int]`):
            Marker to be appended to that, behind what closes the thinking if it is not closed; empty if the completion has it.
    """

    row: int
    context: list[int]
    forced: list[int]


@torch.no_grad()
def read_from_cache(
    model: PreTrainedModel,
    tree: LabelTree,
    cache: DynamicCache,
    prompt_mask: Tensor,
    places: Sequence[ScorePlace],
    temperature: float,
) -> Tensor:
    """
    Log-probabilities of the tree's edges and rests, with one forward over the tokens that are not in the cache yet.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that filled the cache.
        tree ([`LabelTree`]):
            With `M` inner nodes, `E` edges and `R` rests.
        cache ([`~transformers.DynamicCache`]):
            Keys and values of the `P` prompt positions and of all but the last of the generated ones; changed.
        prompt_mask (`torch.Tensor` of shape `(N, P)`):
            0 at the prompts' left padding.
        places (`Sequence[ScorePlace]`):
            What to read, `n` of them.
        temperature (`float`):
            Temperature of the distribution.

    Returns:
        `torch.Tensor` of shape `(n, E + R)`, in float64: the edges, then the rests. The edges of the root are NaN in rows without a forced marker:
        they were seen while generating.
    """
    device = prompt_mask.device
    if len(places) < len(prompt_mask):
        rows = torch.tensor([place.row for place in places], device=device)
        cache.batch_select_indices(rows)
        prompt_mask = prompt_mask[rows]
    prompts, length = prompt_mask.size(1), cache.get_seq_length()
    # What was generated after the context (a score, EOS, padding) is in the cache too, but hidden
    lengths = [min(len(place.context), length - prompts) for place in places]
    tail = _Tail.of(places, lengths, tree, device)
    cached = torch.tensor(lengths, device=device).unsqueeze(1)  # (n, 1)
    in_cache = torch.cat([prompt_mask.bool(), torch.arange(length - prompts, device=device) < cached], dim=1)
    logits = model(
        input_ids=tail.input_ids,
        attention_mask=as_attention_mask(tail.mask(in_cache), model),
        # Positions count from each prompt's first token, as in `generate`
        position_ids=prompt_mask.sum(1, keepdim=True) + cached + tail.offsets,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=tail.num_predicting,
    ).logits
    return tail.log_probs(logits, temperature)


@torch.no_grad()
def read_from_rows(
    model: PreTrainedModel, tree: LabelTree, finished: FinishedRows, places: Sequence[ScorePlace], temperature: float
) -> Tensor:
    """
    [`read_from_cache`] of what [`~real_trl.forward.generation.generate_groups`] left behind. The rows of `places` are in ascending
    order, and prefix attention is installed in the model.
    """
    device = model.device
    own = [finished.own[place.row] for place in places]
    lengths = [rows[0][0].size(1) if rows else 0 for rows in own]
    cached = [min(len(place.context), length) for place, length in zip(places, lengths, strict=True)]
    tail = _Tail.of(places, cached, tree, device)
    groups = [(group, len(list(rows))) for group, rows in groupby(finished.groups[place.row] for place in places)]
    prompts = {layer: [kept[group] for group, _ in groups] for layer, kept in finished.prompts.items()}
    sizes = [size for _, size in groups]
    in_cache = torch.arange(max(cached), device=device) < torch.tensor(cached, device=device).unsqueeze(1)
    own_starts = [kept[0].size(1) for kept, size in zip(prompts[0], sizes, strict=True) for _ in range(size)]
    starts = torch.tensor([start + end for start, end in zip(own_starts, cached, strict=True)], device=device)
    logits = model(
        input_ids=tail.input_ids,
        attention_mask=no_mask(tail.input_ids),
        attention_layout=_RowsReading(PromptAttention(prompts, sizes), own, cached, tail.mask(in_cache).unsqueeze(1)),
        position_ids=starts.unsqueeze(1) + tail.offsets,
        use_cache=False,
        logits_to_keep=tail.num_predicting,
    ).logits
    return tail.log_probs(logits, temperature)


@dataclass
class _RowsReading:
    """
    [`~real_trl.forward.packed_attention.AttentionLayout`] of `T` tokens of each of `n` rows, which see their prompt and, of their own
    `cached` tokens, at most `S`, and of the new ones, what `mask` `(n, 1, T, S + T)` says.
    """

    prompts: PromptAttention
    own: Sequence[dict[int, KeysAndValues]]
    cached: Sequence[int]
    mask: Tensor

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """`query` `(n, H, T, D)`, `key` and `value` `(n, J, T, D)` to `(n, H, T, D)`."""
        keys, values = (torch.cat([self._cached(layer, i, new), new], dim=2) for i, new in enumerate((key, value)))
        own = Part(query, keys, values).attend(scale, self.mask)
        folded = query.reshape(key.size(0), key.size(1), -1, key.size(3))  # (n, H, T, D) -> (n, J, H/J * T, D)
        out, lse = self.prompts.attend(layer, folded, scale)
        # (n, J, H/J * T, ...) -> (n, H, T, ...)
        return merged_output((out.reshape(query.shape), lse.reshape(query.shape[:3])), own)

    def _cached(self, layer: int, which: int, new: Tensor) -> Tensor:
        rows = new.new_zeros(new.size(0), new.size(1), max(self.cached), new.size(3))
        for row, (own, end) in enumerate(zip(self.own, self.cached, strict=True)):
            if end:
                rows[row, :, :end] = own[layer][which][:, :end]
        return rows


@dataclass
class _Tail:
    """
    The tokens that are yet to be read: of each place the rest of its context and the marker, padded on the left to `X`, and
    then the `M` inner nodes of the tree.
    """

    places: Sequence[ScorePlace]
    tree: LabelTree
    input_ids: Tensor  # (n, X + M)
    tail_mask: Tensor  # (n, X), False at padding
    offsets: Tensor  # (n, X + M), positions after what is cached

    @classmethod
    def of(cls, places: Sequence[ScorePlace], cached: Sequence[int], tree: LabelTree, device: torch.device) -> "_Tail":
        tails = [
            torch.tensor(place.context[end:] + place.forced if place.forced else [], dtype=torch.long)
            for place, end in zip(places, cached, strict=True)
        ]
        tail = pad(tails, 0, "left").to(device)
        mask = pad([torch.ones_like(ids, dtype=torch.bool) for ids in tails], False, "left").to(device)
        depths = torch.tensor(tree.depths, dtype=torch.long, device=device)
        offsets = [(mask.cumsum(1) - 1).clamp(min=0), mask.sum(1, keepdim=True) + depths - 1]
        # (M,) -> (n, M)
        context = torch.tensor(tree.context_tokens, dtype=torch.long, device=device).expand(len(tails), -1)
        return cls(places, tree, torch.cat([tail, context], dim=1), mask, torch.cat(offsets, dim=1))

    @property
    def num_predicting(self) -> int:
        """How many of the last tokens predict an edge of the tree: the inner nodes, and what precedes them, if read."""
        return len(self.tree.context_tokens) + (self.tail_mask.size(1) > 0)

    def mask(self, in_cache: Tensor) -> Tensor:
        """What each token attends to, `(n, X + M, T + X + M)`; of `T` cached ones, those of `in_cache` `(n, T)`."""
        size, width = self.tail_mask.shape
        length, nodes, device = in_cache.size(1), len(self.tree.context_tokens), in_cache.device
        before_score = torch.cat([in_cache, self.tail_mask], dim=1)  # (n, T + X)
        keys, queries = torch.arange(length + width, device=device), torch.arange(width, device=device).unsqueeze(1)
        causal = before_score.unsqueeze(1) & (keys <= length + queries)  # (n, X, T + X)
        # Padding attends to itself: a query that attends to nothing would give NaN
        causal = causal | (keys == length + queries)
        causal = torch.cat([causal, causal.new_zeros(size, width, nodes)], dim=2)  # (n, X, T + X) -> (n, X, T + X + M)
        return torch.cat([causal, tree_mask(before_score, self.tree)], dim=1)

    def log_probs(self, logits: Tensor, temperature: float) -> Tensor:
        """Of `logits` `(n, num_predicting, V)`: `(n, E + R)`, NaN where they were seen while generating."""
        first = 0 if self.tail_mask.size(1) else 1
        nodes = ((first + row, logits[:, row]) for row in range(logits.size(1)))
        log_probs = tree_log_probs(self.tree, nodes, temperature)
        recorded = torch.tensor([not place.forced for place in self.places])
        root = torch.tensor([node == 0 for node, _ in self.tree.edges] + [False] * len(self.tree.rests))
        return log_probs.masked_fill(recorded.unsqueeze(1) & root, torch.nan)


@torch.no_grad()
def read_by_forward(
    model: PreTrainedModel,
    tree: LabelTree,
    prompt_ids: Sequence[list[int]],
    places: Sequence[ScorePlace],
    temperature: float,
    pad_id: int,
) -> Tensor:
    """
    [`read_from_cache`] with whole sequences, prompts of the batch and what follows them, and a forward for each node of the tree: for
    any model, and slow. The root's edges are included.
    """
    paths: list[list[int]] = [[]]
    for token, parent in zip(tree.context_tokens, tree.parents, strict=True):
        paths.append([*paths[parent], token])

    def read(path: list[int]) -> Tensor:
        ids = [torch.tensor(prompt_ids[place.row] + place.context + place.forced + path) for place in places]
        mask = pad([torch.ones_like(x) for x in ids], 0, "left").to(model.device)
        return model(
            input_ids=pad(ids, pad_id, "left").to(model.device),
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=1,
        ).logits[:, -1]

    return tree_log_probs(tree, ((node, read(path)) for node, path in enumerate(paths)), temperature)


def tree_log_probs(tree: LabelTree, node_logits: Iterable[tuple[int, Tensor]], temperature: float) -> Tensor:
    """
    Log-probabilities `(n, E + R)` of the edges and rests, on the CPU, given `(node, logits (n, V))`; NaN for those of other
    nodes.
    """
    log_probs = None
    for node, logits in node_logits:  # one at a time: in float32 they take much memory
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature
        if log_probs is None:
            log_probs = torch.full((len(logits), sum(tree.num_log_probs)), torch.nan, dtype=torch.float64)
        edges = [index for index, edge in enumerate(tree.edges) if edge[0] == node]
        of_edges = logits.log_softmax(-1)[:, [tree.edges[index][1] for index in edges]]
        log_probs[:, edges] = of_edges.cpu().double()
        if node in tree.rests:
            rest = tree.rests.index(node)
            log_probs[:, len(tree.edges) + rest] = rest_log_probs_of_logits(tree, rest, logits).cpu().double()
    return log_probs
