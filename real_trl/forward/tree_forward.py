# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading a [`LabelTree`] in the same forward as the sequence whose score it is: the tokens of its inner nodes stand behind
the sequence, each sees the sequence up to the score and its own ancestors, and nothing sees them. This is exact, and
costs `M` tokens a sequence instead of a forward for each label.

It takes a model whose attention obeys a mask for each query, and that knows positions from `position_ids`. For all others
([`~real_trl.forward.support.why_not_masked`]) each inner node has a row of its own, the sequence up to the score and the node's tokens.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from real_trl.forward.positions import constant_up_to
from real_trl.forward.support import why_not_masked
from real_trl.label_tree import LabelTree


class TreeForward(NamedTuple):
    """
    What a model reads to read `N` sequences and their trees.

    Attributes:
        inputs (`dict`):
            Keyword arguments of its forward, over `N` rows or more; the first `N` begin with the sequences.
        edges (`torch.Tensor` of shape `(N, E)`), rests (`torch.Tensor` of shape `(N, R)`):
            Positions whose hidden states predict the tree's edges and rests, counted over all rows one after the other.
    """

    inputs: dict[str, Any]
    edges: Tensor
    rests: Tensor


def tree_forward(
    model: PreTrainedModel,
    tree: LabelTree,
    input_ids: Tensor,
    attention_mask: Tensor,
    position_ids: Tensor,
    score_rows: Tensor,
) -> TreeForward:
    """Sequences with their trees, as `model` can read them: as in [`tree_inputs`] behind the sequence, or in rows of their own."""
    size, length = input_ids.shape
    index = torch.arange(length, device=input_ids.device)
    # Nodes that are not read behind the sequence. Where what follows the score changes the rotary frequencies, the root is one.
    nodes = list(range(1, len(tree.parents) + 1)) if why_not_masked(model.config) else []
    limit = constant_up_to(model.config)
    if limit is not None and (attention_mask.sum(1) > limit).any():
        is_behind = attention_mask.bool() & (index > score_rows.unsqueeze(1))
        nodes = [0, *nodes] if is_behind.any() else nodes
    if not nodes:
        inputs = tree_inputs(model, tree, input_ids, attention_mask, position_ids, score_rows)
        # (N, 1): where each row begins in (N, T + M) -> (N * (T + M),)
        starts = torch.arange(size, device=input_ids.device).unsqueeze(1) * inputs["input_ids"].size(1)
        rests = rest_rows(tree, size, length, input_ids.device)
        return TreeForward(inputs, starts + edge_rows(tree, score_rows, length), starts + rests)
    return _tree_in_rows(tree, nodes, input_ids, attention_mask, score_rows)


def _tree_in_rows(
    tree: LabelTree, nodes: list[int], input_ids: Tensor, attention_mask: Tensor, score_rows: Tensor
) -> TreeForward:
    """Behind the `N` sequences `N` rows for each of `nodes`: the sequences up to their scores, and the tokens of the node."""
    size, device = len(input_ids), input_ids.device
    paths: list[list[int]] = [[]]
    for token, parent in zip(tree.context_tokens, tree.parents, strict=True):
        paths.append([*paths[parent], token])
    room = max(len(paths[node]) for node in nodes)
    ids, mask = (nn.functional.pad(x, (0, room)) for x in (input_ids, attention_mask))
    behind = (
        torch.arange(ids.size(1), device=device) - score_rows.unsqueeze(1) - 1
    )  # (N, T + room): from 0 after the score
    all_ids, all_masks = [ids], [mask]
    for node in nodes:
        path = torch.tensor(paths[node] or [0], device=device)
        all_ids.append(torch.where(behind < 0, ids, path[behind.clamp(0, len(path) - 1)]))
        all_masks.append(torch.where(behind < 0, mask, (behind < len(paths[node])).to(mask.dtype)))
    mask = torch.cat(all_masks)

    def positions(of: list[int]) -> Tensor:
        blocks = torch.tensor([nodes.index(node) + 1 if node in nodes else 0 for node in of], device=device)
        depths = torch.tensor([len(paths[node]) for node in of], device=device)
        rows = blocks.long() * size + torch.arange(size, device=device).unsqueeze(1)  # (N, nodes)
        return rows * ids.size(1) + score_rows.unsqueeze(1) + depths.long()

    inputs = {
        "input_ids": torch.cat(all_ids),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
    }
    return TreeForward(inputs, positions([node for node, _ in tree.edges]), positions(list(tree.rests)))


def tree_mask(visible: Tensor, tree: LabelTree) -> Tensor:
    """
    What the `M` inner nodes of the tree attend to, `(N, M, T + M)`, given the positions of each sequence that lead up to its score,
    marker included: `visible` `(N, T)`, bool.
    """
    nodes = len(tree.context_tokens)
    ancestors = tree.ancestors.to(visible.device).expand(len(visible), -1, -1)  # (M, M) -> (N, M, M)
    # (N, T) -> (N, M, T) -> (N, M, T + M)
    return torch.cat([visible.unsqueeze(1).expand(-1, nodes, -1), ancestors], dim=2)


def as_attention_mask(allowed: Tensor, model: PreTrainedModel) -> Tensor:
    """`allowed` `(N, Q, T)` as the 4D mask that the model's attention takes: bool for sdpa, to be added for eager."""
    allowed = allowed.unsqueeze(1)  # (N, Q, T) -> (N, 1, Q, T), for all heads
    if model.config._attn_implementation != "eager":
        return allowed
    dtype = next(model.parameters()).dtype
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)


def tree_inputs(
    model: PreTrainedModel,
    tree: LabelTree,
    input_ids: Tensor,
    attention_mask: Tensor,
    position_ids: Tensor,
    score_rows: Tensor,
) -> dict[str, Tensor]:
    """
    Inputs of a forward over sequences with the tree behind each; for labels of one token, the sequences as they are.

    Args:
        model (`nn.Module`):
            The model, unwrapped, for its attention implementation.
        input_ids, attention_mask, position_ids (`torch.Tensor` of shape `(N, T)`):
            The sequences, padded on either side.
        score_rows (`torch.Tensor` of shape `(N,)`):
            Position whose hidden state predicts the score: the end of the marker.

    Returns:
        `dict` with `input_ids` and `position_ids` `(N, T + M)` and `attention_mask` `(N, 1, T + M, T + M)`.
    """
    if not tree.context_tokens:
        return {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
    size, length = input_ids.shape
    device, nodes = input_ids.device, len(tree.context_tokens)
    index = torch.arange(length, device=device)
    keys = attention_mask.bool().unsqueeze(1)  # (N, 1, T)
    # Padding attends to itself: a query that attends to nothing would give NaN
    causal = (keys & (index <= index.unsqueeze(1))) | torch.eye(length, dtype=torch.bool, device=device)
    sequence = torch.cat([causal, causal.new_zeros(size, length, nodes)], dim=2)
    visible = keys.squeeze(1) & (index <= score_rows.unsqueeze(1))
    depths = torch.tensor(tree.depths, device=device)
    return {
        "input_ids": torch.cat([input_ids, torch.tensor(tree.context_tokens, device=device).expand(size, -1)], dim=1),
        "position_ids": torch.cat([position_ids, position_ids.gather(1, score_rows.unsqueeze(1)) + depths], dim=1),
        "attention_mask": as_attention_mask(torch.cat([sequence, tree_mask(visible, tree)], dim=1), model),
    }


def edge_rows(tree: LabelTree, score_rows: Tensor, length: int | Tensor) -> Tensor:
    """
    Positions `(N, E)` whose hidden states predict the tree's edges, where the tree begins at `length`, for all sequences or
    `(N, 1)`.
    """
    nodes = torch.tensor([node for node, _ in tree.edges], device=score_rows.device)
    return torch.where(nodes == 0, score_rows.unsqueeze(1), length - 1 + nodes)


def rest_rows(tree: LabelTree, size: int, length: int | Tensor, device: torch.device) -> Tensor:
    """Positions `(size, R)` whose hidden states predict the tree's rests, where the tree begins at `length`, as in [`edge_rows`]."""
    nodes = torch.tensor(tree.rests, dtype=torch.long, device=device)
    return (length - 1 + nodes).expand(size, -1)  # (R,) or (N, R) -> (N, R)


def edge_targets(tree: LabelTree, size: int, device: torch.device) -> Tensor:
    """Tokens `(size, E)` of the tree's edges."""
    return torch.tensor([token for _, token in tree.edges], device=device).expand(size, -1)  # (E,) -> (N, E)
