# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
The score distribution at the end of texts that are given, from one prefill and without generation: what a direct judge says, and
what a judge says after a rationale that somebody else has written.

Texts that begin alike, such as prompts of one question with several answers, share that beginning: it is read once.
"""

import logging
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedModel

from real_trl.forward.generation import prefix_attention_installed
from real_trl.forward.packing import pack_texts
from real_trl.forward.positions import separate_rows
from real_trl.forward.support import why_not_exact
from real_trl.forward.tree_after_generation import ScorePlace, read_by_forward, tree_log_probs
from real_trl.label_tree import LabelTree

logger = logging.getLogger(__name__)


@torch.no_grad()
def read_prefill(
    model: PreTrainedModel, tree: LabelTree, texts: Sequence[list[int]], temperature: float, pad_id: int
) -> Tensor:
    """
    Log-probabilities of the tree's edges and rests right after each text.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers, in evaluation mode.
        tree ([`LabelTree`]):
            With `E` edges and `R` rests.
        texts (`Sequence[list[int]]`):
            Tokens of `N` texts, none of them empty.
        temperature (`float`):
            Temperature of the distribution.
        pad_id (`int`):
            Fills shorter texts, where the model cannot read them in one row.

    Returns:
        `torch.Tensor` of shape `(N, E + R)`, in float64, on the CPU.
    """
    separate_rows(model)
    if reason := why_not_exact(model, dropout="none"):
        _warn_once(reason)
        places = [ScorePlace(row, context=[], forced=[]) for row in range(len(texts))]
        return read_by_forward(model, tree, texts, places, temperature, pad_id)
    lengths = [len(text) for text in texts]
    row = pack_texts(texts, lengths, tree, model.device, share=True)
    last = torch.tensor(lengths, device=model.device).unsqueeze(1) - 1
    ends = row.places(last).squeeze(1)  # (N, 1) -> (N,)
    # Behind each branch stand the inner nodes of its tree
    nodes = [ends, *(row.spans[:, 3] + node for node in range(len(tree.context_tokens)))]
    with prefix_attention_installed(model):
        logits = model(**row.inputs, use_cache=False, logits_to_keep=torch.cat(nodes)).logits
    by_node = logits.view(len(nodes), len(texts), -1)  # (1, (1 + M)*N, V) -> (1 + M, N, V)
    return tree_log_probs(tree, enumerate(by_node), temperature)


@cache
def _warn_once(reason: str) -> None:
    logger.warning(
        "Prompts are read with padding and without sharing what they begin with, which is slower: %s.", reason
    )
