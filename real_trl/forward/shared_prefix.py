# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
One forward over each prompt with all completions of its group: what [`~real_trl.forward.dense.policy_forward`] returns,
with the same gradients, while every prompt is read once instead of `K` times and no padding is read.

Judge prompts are long and answers short: 16 answers of 100 tokens to a prompt of 1,200 are 2,800 tokens here, and 21,000
with a copy of the prompt each. This is exact, since a prompt's hidden states do not depend on what follows it.
"""

from collections.abc import Sequence
from itertools import groupby

import torch
from accelerate.logging import get_logger
from torch import Tensor, nn
from transformers import PreTrainedModel

from real_trl.forward.dense import PolicyOutput, causal_lm
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.packing import Branch, PackedRow, pack_row
from real_trl.forward.support import why_not_exact
from real_trl.forward.token_selection import TokenSelection, add_token_selection
from real_trl.label_tree import LabelTree

logger = get_logger(__name__)


def pack_groups(
    prompt_ids: Sequence[list[int]],
    completion_ids: Sequence[list[int]],
    score_positions: Sequence[int],
    tree: LabelTree,
    device: torch.device,
) -> tuple[PackedRow, TokenSelection]:
    """
    Pack `N` completions; those that follow each other and have the same prompt share it. Tokens that nothing depends on, such
    as the last of a completion, are left out.

    Args:
        prompt_ids, completion_ids (`Sequence[list[int]]`):
            Tokens without padding, `N` of each. A prompt is not empty.
        score_positions (`Sequence[int]`):
            See [`~real_trl.forward.dense.policy_forward`].

    Returns:
        The row, and what to ask of the LM head: the tokens of the completions, in their order, then the edges of every
        completion's tree.
    """
    if [] in prompt_ids:
        empty = list(prompt_ids).index([])
        raise ValueError(f"prompt_ids: row {empty} is empty; give every completion a prompt of one token at least.")
    groups = [list(rows) for _, rows in groupby(range(len(prompt_ids)), key=lambda row: prompt_ids[row])]
    # The hidden state of a token predicts the next one
    read = [ids[: max(len(ids) - 1, score)] for ids, score in zip(completion_ids, score_positions, strict=True)]
    row = pack_row(
        [(prompt_ids[rows[0]], [Branch(read[i], score_positions[i]) for i in rows]) for rows in groups], tree, device
    )
    # The last tokens of the prompts, then all of the completions; each predicts something, whoever asks for it
    positions, rows_of, spans = [end - 1 for _, end in row.layout.prefixes], [], row.spans.tolist()
    for group, members in enumerate(groups):
        for i in members:
            *_, start, end = spans[i]
            predicting = [group, *range(len(positions), len(positions) + end - start)]
            rows_of += predicting[: len(completion_ids[i])]
            positions += range(start, end)

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long).to(device)

    before_score = [len(prompt) + score - 1 for prompt, score in zip(prompt_ids, score_positions, strict=True)]
    score_rows = row.places(tensor(before_score).unsqueeze(1)).squeeze(1)  # (N,) -> (N, 1) -> (N,)
    trees = TokenSelection.of_trees(tree, *row.tree_places(score_rows))
    tokens = [token for ids in completion_ids for token in ids]
    return row, TokenSelection.of_tokens(*map(tensor, (positions, rows_of, tokens))).and_trees(trees)


def shared_prefix_forward(
    model: nn.Module,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    completion_ids: Tensor,
    completion_mask: Tensor,
    score_positions: Tensor,
    tree: LabelTree,
) -> PolicyOutput:
    """
    The forward of [`~real_trl.forward.dense.policy_forward`], with the prompt of each group read once.

    Args:
        model (`nn.Module`):
            Causal LM prepared by [`share_prefixes`], wrapped or not.
        others:
            As there. Completions of the same prompt must follow each other to share it.
    """
    prompts, completions = (
        [ids[mask].tolist() for ids, mask in zip(rows.cpu(), masks.bool().cpu(), strict=True)]
        for rows, masks in ((prompt_ids, prompt_mask), (completion_ids, completion_mask))
    )
    row, selection = pack_groups(prompts, completions, score_positions.tolist(), tree, prompt_ids.device)
    return PolicyOutput.unpacked(model(**row.inputs, selection=selection), selection, completion_mask, tree)


def share_prefixes(model: PreTrainedModel, temperature: float = 1.0) -> bool:
    """
    Prepare a model for [`shared_prefix_forward`], where that is exact, and for
    [`~real_trl.forward.dense.policy_forward`] in any case.

    Args:
        model ([`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Causal LM, after TRL has patched its forward and before it is wrapped for training.
        temperature (`float`, *optional*, defaults to `1.0`):
            Divides the logits, as the sampling did.

    Returns:
        Whether it is exact; if not, the reason is logged once.
    """
    base = causal_lm(model)
    add_token_selection(base, temperature)
    reason = why_not_exact(base)
    if reason:
        logger.warning(f"Every completion is run with its own copy of the prompt, which is slower: {reason}.")
        return False
    install_prefix_attention(base)
    return True
