# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What the model reads of a batch of sequences with scores: all of them in one row without padding, or, for models whose
attention cannot tell them apart there, a row each.

Judge prompts differ in length, so that a good part of a padded batch is padding. In both forms only the
tokens with a label and the score positions reach the LM head.
"""

from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.forward.packed_attention import PackedSequences, make_buckets, make_tree_buckets, no_mask
from real_trl.forward.tree import edge_rows, edge_targets, rest_rows, tree_forward
from real_trl.label_tree import LabelTree


class ForwardInputs(NamedTuple):
    """
    Attributes:
        inputs (`dict`):
            Keyword arguments of the model's forward over `B` rows of tokens.
        rows (`torch.Tensor` of shape `(N, R)` or `(1, R)`):
            Positions whose hidden states reach the LM head, in the rows of tokens that they are in: first those that predict
            labels, the last ones those of the edges of the label tree, `E` for each sequence.
        targets (`torch.Tensor` of the shape of `rows`):
            The token at stake in each of `rows`, -100 for none.
        num_labels (`int`):
            How many of `R` are not of edges.
        edges (`torch.Tensor` of shape `(N, E)`), rests (`torch.Tensor` of shape `(N, R)`):
            Positions that predict the edges and the rests of each sequence's tree, counted over all rows of tokens one after the
            other.
    """

    inputs: dict[str, Any]
    rows: Tensor
    targets: Tensor
    num_labels: int
    edges: Tensor
    rests: Tensor


def pack_sequences(
    labels: Tensor, input_ids: Tensor, attention_mask: Tensor, score_positions: Tensor, tree: LabelTree
) -> ForwardInputs:
    """
    A batch as one row of tokens. The model must be prepared by [`~real_trl.forward.packed_attention.install_prefix_attention`].

    Where labels have several tokens, a sequence is split after the token that predicts the score: the first part is a prefix,
    its branches are the rest of the sequence, and the inner nodes of the tree. The last token of a sequence is left out, since
    it predicts nothing.

    Args:
        labels, input_ids, attention_mask (`torch.Tensor` of shape `(N, T)`):
            Sequences, padded on the right; labels are -100 where there is nothing to learn.
        score_positions (`torch.Tensor` of shape `(N,)`):
            Index of each score's first token in its sequence, not 0; negative where there is none.
        tree ([`LabelTree`]):
            With `E` edges.

    Returns:
        [`ForwardInputs`] with `B` = 1.
    """
    size, width = input_ids.shape
    nodes, device = len(tree.context_tokens), input_ids.device
    ends = [max(length - 1, 1) for length in attention_mask.sum(1).tolist()]
    # Without a score there is none to read; any token will do
    until_score = [score if score > 0 else end for score, end in zip(score_positions.tolist(), ends, strict=True)]
    cuts = until_score if nodes else ends

    # Places in the batch, behind which stand the nodes of the tree
    places = torch.arange(size * width).view(size, width)
    tree_places = size * width + torch.arange(nodes)
    depths = torch.tensor(tree.depths, dtype=torch.long)
    source = [places[row, :cut] for row, cut in enumerate(cuts)]
    positions = [torch.arange(cut) for cut in cuts]
    for row, (cut, end) in enumerate(zip(cuts, ends, strict=True)):
        source += [places[row, cut:end], tree_places]
        positions += [torch.arange(cut, end), cut - 1 + depths]
    source = torch.cat(source).to(device)
    ids = torch.cat([input_ids.flatten(), input_ids.new_tensor(tree.context_tokens)])[source].unsqueeze(0)

    lengths = [end - cut + nodes for cut, end in zip(cuts, ends, strict=True)]
    branches = list(pairwise(accumulate(lengths, initial=sum(cuts))))
    prefixes = list(pairwise(accumulate(cuts, initial=0)))
    packed = torch.zeros(size * width + nodes, dtype=torch.long, device=device)  # where each place went
    packed[source] = torch.arange(source.numel(), device=device)
    predicting = packed[: size * width].view(size, width)[:, :-1]
    is_label = labels[:, 1:] != -100
    score_rows = torch.tensor([start + length - 1 for (start, _), length in zip(prefixes, until_score, strict=True)])
    trees = torch.tensor([[stop - nodes] for _, stop in branches])
    edges = edge_rows(tree, score_rows, trees).to(device)
    return ForwardInputs(
        inputs={
            "input_ids": ids,
            "position_ids": torch.cat(positions).to(device).unsqueeze(0),
            "attention_mask": no_mask(ids),
            "attention_layout": _layout(prefixes, branches, tree, device),
        },
        rows=torch.cat([predicting[is_label], edges.flatten()]).unsqueeze(0),
        targets=torch.cat([labels[:, 1:][is_label], edge_targets(tree, size, device).flatten()]).unsqueeze(0),
        num_labels=int(is_label.sum()),
        edges=edges,
        rests=rest_rows(tree, size, trees, torch.device("cpu")).to(device),
    )


def _layout(
    prefixes: list[tuple[int, int]], branches: list[tuple[int, int]], tree: LabelTree, device: torch.device
) -> PackedSequences:
    """Each branch is the rest of the sequence, possibly empty, and the nodes of the tree."""
    nodes = len(tree.context_tokens)
    trees = [(stop - nodes, stop) for _, stop in branches]
    buckets = make_buckets([(start, stop - nodes) for start, stop in branches], device)
    # What a tree sees beside itself is its prefix
    nothing = [(start, start) for start, _ in trees]
    return PackedSequences(prefixes, branches, [*buckets, *make_tree_buckets(nothing, trees, tree.ancestors, device)])


def pad_sequences(
    labels: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    score_positions: Tensor,
    tree: LabelTree,
    model: PreTrainedModel,
) -> ForwardInputs:
    """
    The same with a row for each sequence, and the tree behind it.

    Args:
        labels, input_ids, attention_mask, score_positions, tree:
            See [`pack_sequences`].
        model ([`~transformers.PreTrainedModel`]):
            The model, unwrapped, for its attention implementation.

    Returns:
        [`ForwardInputs`] with `B = N`.
    """
    shifted = labels[:, 1:]
    is_label = shifted != -100
    width = max(int(is_label.sum(1).max()), 1)
    rows = is_label.int().argsort(dim=1, descending=True, stable=True)[:, :width]  # labelled rows first, in order
    score_rows = (score_positions - 1).clamp(min=0)
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    forward = tree_forward(model, tree, input_ids, attention_mask, position_ids, score_rows)
    return ForwardInputs(
        inputs=forward.inputs,
        rows=torch.cat([rows, forward.edges % forward.inputs["input_ids"].size(1)], dim=1),
        targets=torch.cat([shifted.gather(1, rows), edge_targets(tree, len(labels), labels.device)], dim=1),
        num_labels=width,
        edges=forward.edges,
        rests=forward.rests,
    )
