# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
One forward pass that yields everything the objectives need: the log-probability and entropy of every completion token,
and the log-probability of every label of the score space.

The model must carry TRL's fused LM head (`add_fused_lm_head`, which TRL's trainers install): it turns hidden states
into log-probabilities in tiles, so no `(tokens, vocabulary)` tensor is ever held. What this module adds is the choice
of *rows* that reach the head: the completion positions, and the score position once per label with the labels' ids as
targets (for labels of several tokens, a row per edge of their [`LabelTree`]). All of it happens inside the model's own forward, which is what DDP's and ZeRO-3's gradient hooks need.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from real_trl.label_tree import LabelTree
from real_trl.rest_log_probs import reading_rests
from real_trl.tree_attention import edge_rows, edge_targets, rest_rows, tree_inputs


class PolicyOutput(NamedTuple):
    """
    Attributes:
        log_probs (`torch.Tensor` of shape `(N, C)`):
            Log-probability of each completion token; meaningless at padding.
        entropy (`torch.Tensor` of shape `(N, C)`, *optional*):
            Entropy of the distribution each completion token was drawn from, in nats; meaningless at padding. `None` if
            the model's head does not compute it, as that of TRL's reference model.
        score_log_probs (`torch.Tensor` of shape `(N, L)`):
            `log π(k | x, c)` of every label, over the whole vocabulary; meaningless (but finite) where there is no
            score.
    """

    log_probs: Tensor
    entropy: Tensor | None
    score_log_probs: Tensor


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The model itself, found through DDP / DeepSpeed and PEFT wrappers."""
    while hasattr(model, "module"):
        model = model.module
    return model.get_base_model() if is_peft_model(model) else model


def backbone(model: nn.Module) -> nn.Module:
    """The decoder under the LM head, found through the same wrappers."""
    return causal_lm(model).base_model


@contextmanager
def select_hidden_rows(model: nn.Module, rows: Tensor) -> Iterator[None]:
    """
    While active, the backbone of `model` returns only the hidden states at `rows`, so that the LM head sees no others.

    Args:
        model (`nn.Module`):
            Causal LM, wrapped or not.
        rows (`torch.Tensor` of shape `(N, R)`):
            Positions in the sequence, repetitions allowed.
    """

    def select(module, args, output):
        hidden = output.last_hidden_state  # (N, T, H)
        output.last_hidden_state = hidden.gather(1, rows.unsqueeze(-1).expand(-1, -1, hidden.size(-1)))
        return output

    handle = backbone(model).register_forward_hook(select)
    try:
        yield
    finally:
        handle.remove()


def policy_forward(
    model: nn.Module,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    completion_ids: Tensor,
    completion_mask: Tensor,
    score_positions: Tensor,
    tree: LabelTree,
) -> PolicyOutput:
    """
    Dense reference forward: every completion is run with its own copy of the prompt.

    Args:
        model (`nn.Module`):
            Causal LM with TRL's fused LM head, wrapped or not. The head's temperature applies to everything returned.
        prompt_ids, prompt_mask (`torch.Tensor` of shape `(N, P)`):
            Prompts, padded on the left.
        completion_ids, completion_mask (`torch.Tensor` of shape `(N, C)`):
            Completions, padded on the right.
        score_positions (`torch.Tensor` of shape `(N,)`):
            Index of the score's first token in its completion (`C` where the completion ends with the marker); any value
            in `[0, C]` where there is none.
        tree ([`LabelTree`]):
            The `L` labels.

    Returns:
        [`PolicyOutput`].
    """
    input_ids = torch.cat([prompt_ids, completion_ids], dim=1)  # (N, P + C)
    attention_mask = torch.cat([prompt_mask, completion_mask], dim=1)
    # The hidden state at position t predicts token t + 1
    first = prompt_ids.size(1) - 1
    num_rows, num_tokens = completion_ids.shape
    token_rows = torch.arange(first, first + num_tokens, device=input_ids.device).expand(num_rows, -1)  # (N, C)
    score_rows = first + score_positions  # (N,)
    rows = torch.cat([token_rows, edge_rows(tree, score_rows, input_ids.size(1))], dim=1)  # (N, C + E)
    targets = torch.cat([completion_ids, edge_targets(tree, num_rows, input_ids.device)], dim=1)
    # Left padding is not part of the sequence: positions count from each prompt's first token, as in `generate`
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    inputs = tree_inputs(backbone(model), tree, input_ids, attention_mask, position_ids, score_rows)
    rests = rest_rows(tree, num_rows, input_ids.size(1), input_ids.device)
    with reading_rests(causal_lm(model), tree, rests) as reading, select_hidden_rows(model, rows):
        outputs = model(**inputs, shift_labels=targets, fused_lm_head=True)
    return PolicyOutput(
        log_probs=outputs.log_probs[:, :num_tokens],
        entropy=None if outputs.entropy is None else outputs.entropy[:, :num_tokens],
        score_log_probs=tree.label_log_probs(outputs.log_probs[:, num_tokens:], reading.log_probs),
    )
