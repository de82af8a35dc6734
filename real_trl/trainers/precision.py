# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a trainer's model, when the trainer is built, by which no number is lost in training without a word."""

from torch import nn

from real_trl.output_layer import why_head_unknown
from real_trl.policy_forward import causal_lm


def check_output_layer(model: nn.Module) -> None:
    """
    `ValueError` if the trainers, who read the LM head's weights themselves, would read other scores than the model writes.

    Args:
        model (`nn.Module`):
            The policy, as TRL has built it.
    """
    base = causal_lm(model)
    reason = why_head_unknown(base)
    if reason is not None:
        raise ValueError(
            f"model: {reason}, so scores would be trained that it does not write. Use a model whose logits come from one linear layer; of "
            "LoRA, leave lm_head out of target_modules (modules_to_save may have it)."
        )
