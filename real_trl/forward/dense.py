# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
One forward pass that yields everything the objectives need: the log-probability and entropy of every completion token,
and the log-probability of every label of the score space.

The model must carry TRL's fused LM head (`add_fused_lm_head`, which TRL's trainers install), whose temperature counts. Its place is
taken by that of [`~real_trl.forward.token_selection.add_token_selection`], which turns hidden states into log-probabilities in chunks, so
no `(tokens, vocabulary)` tensor is ever held, and reads scores in float32. What this module adds is the choice of *rows* that
reach the head: the completion positions, and the score position, which has all labels (for labels of several tokens, those of the
inner nodes of their [`LabelTree`] as well). All of it happens inside the model's own forward, which is what DDP's and ZeRO-3's
gradient hooks need.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from accelerate.utils import is_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from real_trl.forward.logits import HeadOptions
from real_trl.forward.positions import separate_rows
from real_trl.forward.selected_log_probs import SelectedLogProbs
from real_trl.forward.token_selection import TokenSelection, add_token_selection, head_log_probs
from real_trl.forward.tree_forward import tree_forward
from real_trl.label_tree import LabelTree


class PolicyOutput(NamedTuple):
    """
    Attributes:
        log_probs (`torch.Tensor` of shape `(N, C)`):
            Log-probability of each completion token; 0 at padding.
        entropy (`torch.Tensor` of shape `(N, C)`):
            Entropy of the distribution each completion token was drawn from, in nats; 0 at padding.
        score_log_probs (`torch.Tensor` of shape `(N, L)`):
            `log π(k | x, c)` of every label, over the whole vocabulary, from logits in float32; meaningless (but finite) where
            there is no score.
        score_rounding (`torch.Tensor` of shape `(N,)`):
            How far the logits of labels may be off by rounding.
    """

    log_probs: Tensor
    entropy: Tensor
    score_log_probs: Tensor
    score_rounding: Tensor

    @classmethod
    def unpacked(
        cls, output: SelectedLogProbs, selection: TokenSelection, mask: Tensor, tree: LabelTree
    ) -> "PolicyOutput":
        """
        Of a forward whose `selection` has the tokens where `mask` `(N, C)` is set, row by row, and then the trees of `N` scores.
        """
        mask = mask.bool()
        num_tokens = int(mask.sum())

        def padded(values: Tensor) -> Tensor:
            return values.new_zeros(mask.shape).masked_scatter(mask, values)

        return cls(
            padded(output.log_probs[:num_tokens]),
            padded(output.entropy[selection.rows[:num_tokens]]),
            *selection.score_log_probs(output, tree),
        )


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The model itself, found through DDP / DeepSpeed and PEFT wrappers."""
    inner: Any = model
    while hasattr(inner, "module"):
        inner = inner.module
    return inner.get_base_model() if is_peft_model(inner) else inner


def backbone(model: nn.Module) -> PreTrainedModel:
    """The decoder under the LM head, found through the same wrappers."""
    decoder: Any = causal_lm(model).base_model
    return decoder


@dataclass
class ScoredCausalLMOutput(FusedCausalLMOutput):
    """
    TRL's output with what [`select_hidden_rows`] reads beside it.

    Args:
        scores ([`~real_trl.forward.selected_log_probs.SelectedLogProbs`]):
            What was asked for.
    """

    scores: SelectedLogProbs | None = None


@contextmanager
def select_hidden_rows(model: nn.Module, rows: Tensor, scores: TokenSelection | None = None) -> Iterator[None]:
    """
    While active, the backbone of `model` returns only the hidden states at `rows`, so that the LM head sees no others.

    Args:
        model (`nn.Module`):
            Causal LM, wrapped or not.
        rows (`torch.Tensor` of shape `(N, R)`):
            Positions in the first `N` sequences, repetitions allowed.
        scores ([`~real_trl.forward.token_selection.TokenSelection`], *optional*):
            What scores are read from. The output of the model, with TRL's fused LM head, then is a [`ScoredCausalLMOutput`]. This, too,
            happens within the model's forward.
    """
    aside: list[Tensor] = []
    options = None if scores is None else HeadOptions.of(causal_lm(model))

    def select(module, args, output):
        hidden = output.last_hidden_state  # (N, T, H)
        aside[:] = [hidden.flatten(0, 1)] if scores is not None else []  # (N, T, H) -> (N*T, H)
        # (N, T, H) -> (N, R, H)
        output.last_hidden_state = hidden.gather(1, rows.unsqueeze(-1).expand(-1, -1, hidden.size(-1)))
        return output

    def read(module, args, output):
        return ScoredCausalLMOutput(**output, scores=head_log_probs(module, aside.pop(), scores, options))

    with ExitStack() as stack:
        stack.enter_context(_hook(backbone(model), select))
        if scores is not None:
            stack.enter_context(_hook(causal_lm(model), read))
        yield


@contextmanager
def _hook(module: nn.Module, function: Callable) -> Iterator[None]:
    handle = module.register_forward_hook(function)
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

    Returns:
        [`PolicyOutput`].
    """
    input_ids = torch.cat([prompt_ids, completion_ids], dim=1)  # (N, P + C)
    attention_mask = torch.cat([prompt_mask, completion_mask], dim=1)
    # Left padding is not part of the sequence: positions count from each prompt's first token, as in `generate`
    position_ids = (attention_mask.cumsum(1) - 1).clamp(min=0)
    # The hidden state at position t predicts token t + 1
    first = prompt_ids.size(1) - 1
    num_rows, num_tokens = completion_ids.shape
    score_rows = first + score_positions  # (N,)
    base = causal_lm(model)
    separate_rows(base)
    inputs, *tree_rows = tree_forward(backbone(model), tree, input_ids, attention_mask, position_ids, score_rows)
    starts = torch.arange(num_rows, device=input_ids.device).unsqueeze(1) * inputs["input_ids"].size(1)  # (N, 1)
    mask = completion_mask.bool()
    # (N, C) -> (tokens,)
    token_positions = (starts + torch.arange(first, first + num_tokens, device=input_ids.device))[mask]
    rows = torch.arange(len(token_positions), device=input_ids.device)
    trees = TokenSelection.of_trees(tree, *tree_rows)
    selection = TokenSelection.of_tokens(token_positions, rows, completion_ids[mask]).and_trees(trees)
    if not getattr(base, "takes_selections", False):
        add_token_selection(base)
    return PolicyOutput.unpacked(model(**inputs, selection=selection), selection, mask, tree)
