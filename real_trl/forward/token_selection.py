# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What is asked of a model's LM head, and a forward that answers it inside the model, where the hooks of DDP and ZeRO-3 expect it."""

import types
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel
from trl.trainer.utils import maybe_gather_lm_head_ctx

from real_trl.forward.logits import HeadOptions
from real_trl.forward.rest_log_probs import rest_log_probs
from real_trl.forward.selected_log_probs import SelectedLogProbs, selected_log_probs
from real_trl.forward.tree_forward import edge_targets
from real_trl.label_tree import LabelTree


@dataclass
class TokenSelection:
    """
    What is asked of the LM head. Positions are counted over the rows of the batch one after the other.

    Attributes:
        positions (`torch.Tensor` of shape `(R,)`):
            Positions whose hidden states reach the head.
        rows (`torch.Tensor` of shape `(Q,)`):
            For every token asked for, the index of its position in `positions`.
        tokens (`torch.Tensor` of shape `(Q,)`):
            The tokens.
        num_precise (`int`):
            How many of `positions`, the last ones, are computed in float32: those that scores are read at.
        rest_positions (`torch.Tensor` of shape `(S,)`), rest_outside (`torch.Tensor` of shape `(S, X)`):
            Positions at which the probability of all tokens but some is asked for, and these tokens.
    """

    positions: Tensor
    rows: Tensor
    tokens: Tensor
    num_precise: int
    rest_positions: Tensor
    rest_outside: Tensor

    @classmethod
    def of_tokens(cls, positions: Tensor, rows: Tensor, tokens: Tensor) -> "TokenSelection":
        """Tokens alone, in the type of the model's other products."""
        none = positions.new_zeros(0)
        return cls(positions, rows, tokens, 0, none, none.view(0, 0))

    @classmethod
    def of_trees(cls, tree: LabelTree, edge_positions: Tensor, rest_positions: Tensor) -> "TokenSelection":
        """
        The label trees of `N` scores, in float32: at `edge_positions` `(N, E)`, many of which are the same, and `rest_positions`
        `(N, R)`.
        """
        size, device = len(edge_positions), edge_positions.device
        # (N, E) -> (N*E,), of which (R,) are different
        positions, rows = edge_positions.flatten().unique(return_inverse=True)
        tokens = edge_targets(tree, size, device).flatten()  # (N, E) -> (N*E,)
        outside = tree.rest_tokens.to(device).repeat(size, 1)  # (R, X) -> (N*R, X)
        return cls(positions, rows, tokens, len(positions), rest_positions.flatten(), outside)

    def and_trees(self, trees: "TokenSelection") -> "TokenSelection":
        """What is asked here, none of it in float32, and behind it `trees`."""
        return replace(
            trees,
            positions=torch.cat([self.positions, trees.positions]),
            rows=torch.cat([self.rows, len(self.positions) + trees.rows]),
            tokens=torch.cat([self.tokens, trees.tokens]),
        )

    def score_log_probs(self, output: SelectedLogProbs, tree: LabelTree) -> tuple[Tensor, Tensor]:
        """
        Log-probabilities of the labels `(N, L)` of the trees that are asked for last, and how far their logits may be off by rounding
        `(N,)`.
        """
        first = len(self.positions) - self.num_precise
        is_edge = self.rows >= first
        edges = output.log_probs[is_edge].view(-1, len(tree.edges))  # (N*E,) -> (N, E)
        rests = None if output.rests is None else output.rests.view(len(edges), -1)  # (N*R,) -> (N, R)
        rounding = output.rounding[self.rows[is_edge] - first].view(edges.shape).amax(1)  # (N*E,) -> (N, E) -> (N,)
        # Measured against float64: log-probabilities are up to 6 times the resolution of the largest logit off
        return tree.label_log_probs(edges, rests), 8 * rounding * max(map(len, tree.paths))


def add_token_selection(model: PreTrainedModel, temperature: float | None = None) -> None:
    """
    Let `model(..., selection=TokenSelection(...))` return [`SelectedLogProbs`]. Other calls stay as they are.

    All of it happens in the model's own forward, where ZeRO-3's and DDP's hooks expect it.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM without wrappers, for which [`~real_trl.forward.support.why_head_unknown`] is `None`.
        temperature (`float`, *optional*):
            Divides the logits. Defaults to that of TRL's fused LM head, which the model then must have.
    """
    options = HeadOptions.of(model) if temperature is None else HeadOptions.of_config(model.config, temperature)
    original = model.forward

    @wraps(type(model).forward)
    def forward(self: PreTrainedModel, *args: Any, selection: TokenSelection | None = None, **kwargs: Any) -> Any:
        if selection is None:
            return original(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state
        return head_log_probs(self, hidden.flatten(0, 1), selection, options)  # (N, T, H) -> (N*T, H)

    model.forward = types.MethodType(forward, model)
    model.takes_selections = True


def head_log_probs(
    model: PreTrainedModel, hidden: Tensor, selection: TokenSelection, options: HeadOptions
) -> SelectedLogProbs:
    """What `selection` asks for, of hidden states `(tokens, H)`; to be called within the forward of `model`."""
    head: Any = model.get_output_embeddings()
    # As in TRL: a model split over devices can end on another than the head's; FSDP2 has sharded parameters
    weight, bias = (
        x.full_tensor() if isinstance(x, DTensor) else x for x in (head.weight, getattr(head, "bias", None))
    )
    device, home = weight.device, selection.tokens.device

    def at(positions: Tensor) -> Tensor:
        return hidden[positions.to(hidden.device)].to(device)

    with maybe_gather_lm_head_ctx(weight, bias):
        asked = selection.rows.to(device), selection.tokens.to(device)
        output = selected_log_probs(at(selection.positions), weight, bias, *asked, options, selection.num_precise)
        if len(selection.rest_positions):
            outside = selection.rest_outside.to(device)
            output["rests"] = rest_log_probs(at(selection.rest_positions), weight, bias, outside, options)
    return SelectedLogProbs(**{name: value.to(home) for name, value in output.items()})
