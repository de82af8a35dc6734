# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What the model reads of a batch of sequences with scores: all of them in one row without padding, or, for models whose
attention cannot tell them apart there, a row each.

Judge prompts differ in length, so that a good part of a padded batch is padding. In both forms only the
tokens with a label and the score positions reach the LM head.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.forward.packing import pack_texts
from real_trl.forward.tree_forward import edge_targets, tree_forward
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
    labels: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    score_positions: Tensor,
    tree: LabelTree,
    *,
    share: bool = False,
) -> ForwardInputs:
    """
    A batch as one row of tokens. The model must be prepared by [`~real_trl.forward.packed_attention.install_prefix_attention`].

    Where labels have several tokens, a sequence is split after the token that predicts the score: the first part is a prefix,
    its branches are the rest of the sequence, and the inner nodes of the tree. The last token of a sequence is left out, since
    it predicts nothing.

    With `share`, what several sequences begin with is read once; it is split there.

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
    ends = [max(length - 1, 1) for length in attention_mask.sum(1).tolist()]
    # Without a score there is none to read; any token will do
    until_score = [score if score > 0 else end for score, end in zip(score_positions.tolist(), ends, strict=True)]
    cuts = until_score if tree.context_tokens else ends
    texts = [ids[:end] for ids, end in zip(input_ids.tolist(), ends, strict=True)]
    row = pack_texts(texts, cuts, tree, input_ids.device, share=share)
    is_label = labels[:, 1:] != -100
    predicting = row.places(
        torch.arange(width - 1, device=labels.device)
    )  # (N, T - 1): position t predicts token t + 1
    # (N,) -> (N, 1) -> (N,)
    score_rows = row.places(score_positions.new_tensor(until_score).unsqueeze(1) - 1).squeeze(1)
    edges, rests = row.tree_places(score_rows)
    # The labels of all rows, one after the other, and then the edges: (labels,) and (N, E) -> (1, labels + N*E)
    return ForwardInputs(
        inputs=row.inputs,
        rows=torch.cat([predicting[is_label], edges.flatten()]).unsqueeze(0),
        targets=torch.cat([labels[:, 1:][is_label], edge_targets(tree, size, labels.device).flatten()]).unsqueeze(0),
        num_labels=int(is_label.sum()),
        edges=edges,
        rests=rests,
    )


def pad_sequences(
    labels: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    score_positions: Tensor,
    tree: LabelTree,
    model: PreTrainedModel,
) -> ForwardInputs:
    """[`pack_sequences`] with a row for each sequence, and the tree behind it: `B = N`. `model` is unwrapped, as [`tree_forward`] wants it."""
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
