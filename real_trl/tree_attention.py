# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Reading a [`LabelTree`] in the same forward as the sequence whose score it is: the tokens of its inner nodes stand behind
the sequence, each sees the sequence up to the score and its own ancestors, and nothing sees them. This is exact, and
costs `M` tokens a sequence instead of a forward for each label.
"""

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from real_trl.label_tree import LabelTree
from real_trl.prefix_attention import PREFIX_ATTENTION, has_sliding_window

# These take a mask of their own for every query
MASKED_ATTENTION = ("sdpa", "eager", PREFIX_ATTENTION)


def check_tree_attention(config: PretrainedConfig, tree: LabelTree) -> None:
    """
    Refuse models whose attention cannot read a tree of labels.

    Raises:
        ValueError: if labels have several tokens and the attention implementation takes no mask for each query, or
            some layers do not see the whole sequence.
    """
    if not tree.context_tokens:
        return
    implementation = config._attn_implementation
    if implementation not in MASKED_ATTENTION:
        raise ValueError(
            f"attn_implementation: got {implementation!r}, but some score labels have several tokens, which are read with an "
            "attention mask that it does not take. Set attn_implementation to sdpa, or use labels of one token each."
        )
    if has_sliding_window(config):
        kinds = sorted({*(getattr(config, "layer_types", None) or [])} - {"full_attention"})
        raise ValueError(
            f"score_labels: some labels have several tokens, which needs attention over the whole sequence in every layer, but "
            f"this {config.model_type} model has {', '.join(kinds) or 'a sliding window'}. Use labels of one token each, such "
            "as '1-5' or 'A-E'."
        )


def tree_mask(visible: Tensor, tree: LabelTree) -> Tensor:
    """
    What the inner nodes of the tree attend to.

    Args:
        visible (`torch.Tensor` of shape `(N, T)`, bool):
            The positions of each sequence that lead up to its score, marker included.
        tree ([`LabelTree`]):
            With `M` inner nodes.

    Returns:
        `torch.Tensor` of shape `(N, M, T + M)`, `True` where a node attends.
    """
    nodes = len(tree.context_tokens)
    ancestors = tree.ancestors.to(visible.device).expand(len(visible), -1, -1)
    return torch.cat([visible.unsqueeze(1).expand(-1, nodes, -1), ancestors], dim=2)


def as_attention_mask(allowed: Tensor, model: nn.Module) -> Tensor:
    """`allowed` `(N, Q, T)` as the 4D mask that the model's attention takes: bool for sdpa, to be added for eager."""
    allowed = allowed.unsqueeze(1)
    if model.config._attn_implementation != "eager":
        return allowed
    dtype = next(model.parameters()).dtype
    return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)


def tree_inputs(
    model: nn.Module,
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
        tree ([`LabelTree`]):
            With `M` inner nodes.
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
    return (length - 1 + nodes).expand(size, -1)


def edge_targets(tree: LabelTree, size: int, device: torch.device) -> Tensor:
    """Tokens `(size, E)` of the tree's edges."""
    return torch.tensor([token for _, token in tree.edges], device=device).expand(size, -1)
