# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading the score distribution after `generate`, where the tokens that were generated do not hold it: the inner nodes of a
[`LabelTree`], and the marker that a malformed completion lacks.

[`read_from_cache`] does so with one short forward on the KV cache that `generate` leaves behind; [`read_by_forward`] reads
whole sequences, for models whose cache does not hold every token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from trl.trainer.utils import pad

from real_trl.label_tree import LabelTree
from real_trl.tree_attention import MASKED_ATTENTION, as_attention_mask, tree_mask


@dataclass
class ScorePlace:
    """
    Where the score of one row of a batch is to be read.

    Attributes:
        row (`int`):
            Row of the batch.
        context (`list[int]`):
            The part of its completion that precedes the score and was generated.
        forced (`list[int]`):
            Marker to be appended to that; empty if the completion has it.
    """

    row: int
    context: list[int]
    forced: list[int]


def can_read_from_cache(model: PreTrainedModel, cache: object) -> bool:
    """Whether `cache` holds every token that was read, and the model's attention takes a mask for each query."""
    return (
        isinstance(cache, DynamicCache)
        and all(type(layer) is DynamicLayer for layer in cache.layers)
        and model.config._attn_implementation in MASKED_ATTENTION
    )


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
    Log-probabilities of the tree's edges, with one forward over the tokens that are not in the cache yet.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Model that filled the cache.
        tree ([`LabelTree`]):
            With `M` inner nodes and `E` edges.
        cache ([`~transformers.DynamicCache`]):
            Keys and values of the `P` prompt positions and of all but the last of the generated ones; changed.
        prompt_mask (`torch.Tensor` of shape `(N, P)`):
            0 at the prompts' left padding.
        places (`Sequence[ScorePlace]`):
            What to read, `n` of them.
        temperature (`float`):
            Temperature of the distribution.

    Returns:
        `torch.Tensor` of shape `(n, E)`, in float64. The edges of the root are NaN in rows without a forced marker:
        they were seen while generating.
    """
    device = prompt_mask.device
    if len(places) < len(prompt_mask):
        rows = torch.tensor([place.row for place in places], device=device)
        cache.batch_select_indices(rows)
        prompt_mask = prompt_mask[rows]
    prompts, length = prompt_mask.size(1), cache.get_seq_length()
    # What was generated after the context (a score, EOS, padding) is in the cache too, but hidden
    cached = [min(len(place.context), length - prompts) for place in places]
    tails = [
        torch.tensor(place.context[end:] + place.forced if place.forced else [], dtype=torch.long)
        for place, end in zip(places, cached, strict=True)
    ]
    tail = pad(tails, 0, "left").to(device)  # (n, X)
    tail_mask = pad([torch.ones_like(ids, dtype=torch.bool) for ids in tails], False, "left").to(device)
    cached = torch.tensor(cached, device=device).unsqueeze(1)  # (n, 1)
    in_cache = torch.cat([prompt_mask.bool(), torch.arange(length - prompts, device=device) < cached], dim=1)
    before_score = torch.cat([in_cache, tail_mask], dim=1)  # (n, T + X)

    (size, width), nodes = tail.shape, len(tree.context_tokens)
    keys, queries = torch.arange(length + width, device=device), torch.arange(width, device=device).unsqueeze(1)
    causal = before_score.unsqueeze(1) & (keys <= length + queries)  # (n, X, T + X)
    allowed = torch.cat(
        [torch.cat([causal, causal.new_zeros(size, width, nodes)], dim=2), tree_mask(before_score, tree)], dim=1
    )
    # Positions count from each prompt's first token, as in `generate`
    start = prompt_mask.sum(1, keepdim=True) + cached
    depths = torch.tensor(tree.depths, dtype=torch.long, device=device)
    positions = [start + (tail_mask.cumsum(1) - 1).clamp(min=0), start + tail_mask.sum(1, keepdim=True) + depths - 1]
    context = torch.tensor(tree.context_tokens, dtype=torch.long, device=device).expand(size, -1)
    logits = model(
        input_ids=torch.cat([tail, context], dim=1),
        attention_mask=as_attention_mask(allowed, model),
        position_ids=torch.cat(positions, dim=1),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=nodes + (width > 0),
    ).logits
    first = 0 if width else 1
    edges = _edge_log_probs(tree, ((first + row, logits[:, row]) for row in range(logits.size(1))), temperature)
    recorded = torch.tensor([not place.forced for place in places], device=device)
    root = torch.tensor([node == 0 for node, _ in tree.edges], device=device)
    return edges.masked_fill(recorded.unsqueeze(1) & root, torch.nan)


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
    The same with whole sequences and a forward for each node of the tree: for any model, and slow.

    Args:
        prompt_ids (`Sequence[list[int]]`):
            Prompts of the batch.
        pad_id (`int`):
            Padding token.
        model, tree, places, temperature:
            See [`read_from_cache`].

    Returns:
        `torch.Tensor` of shape `(n, E)`, the root's edges included.
    """
    paths = [[]]
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

    return _edge_log_probs(tree, ((node, read(path)) for node, path in enumerate(paths)), temperature)


def _edge_log_probs(tree: LabelTree, node_logits: Iterable[tuple[int, Tensor]], temperature: float) -> Tensor:
    """Log-probabilities `(n, E)` of the edges, given `(node, logits (n, V))`; NaN for edges of other nodes."""
    edge_log_probs = None
    for node, logits in node_logits:  # one at a time: in float32 they take much memory
        dtype = torch.promote_types(logits.dtype, torch.float32)
        log_probs = (logits.to(dtype) / temperature).log_softmax(-1)
        if edge_log_probs is None:
            edge_log_probs = log_probs.new_full((len(log_probs), len(tree.edges)), torch.nan, dtype=torch.float64)
        edges = [index for index, edge in enumerate(tree.edges) if edge[0] == node]
        edge_log_probs[:, edges] = log_probs[:, [tree.edges[index][1] for index in edges]].double()
    return edge_log_probs
