# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
One forward over each prompt with all completions of its group: what [`~real_trl.forward.dense.policy_forward`] returns,
with the same gradients, while every prompt is read once instead of `K` times and no padding is read.

Judge prompts are long and answers short: 16 answers of 100 tokens to a prompt of 1,200 are 2,800 tokens here, and 21,000
with a copy of the prompt each. This is exact, since a prompt's hidden states do not depend on what follows it.
"""

from dataclasses import dataclass
from itertools import groupby

import torch
from accelerate.logging import get_logger
from torch import Tensor, nn
from transformers import PreTrainedModel

from real_trl.forward.dense import PolicyOutput, causal_lm
from real_trl.forward.packed_attention import (
    PackedSequences,
    install_prefix_attention,
    make_buckets,
    make_tree_buckets,
    no_mask,
)
from real_trl.forward.support import why_not_exact
from real_trl.forward.token_selection import TokenSelection, add_token_selection
from real_trl.label_tree import LabelTree

logger = get_logger(__name__)


@dataclass
class PackedGroups:
    """
    Groups of completions as one row of `T` tokens.

    Attributes:
        input_ids, position_ids (`torch.Tensor` of shape `(1, T)`):
            First the prompts, then the completions, each followed by the inner nodes of the label tree. Tokens that nothing
            depends on, such as the last of a completion, are left out.
        layout ([`~real_trl.forward.packed_attention.PackedSequences`]):
            What they attend to.
        selection ([`~real_trl.forward.token_selection.TokenSelection`]):
            The tokens of the completions, in their order, then the edges of every completion's tree.
    """

    input_ids: Tensor
    position_ids: Tensor
    layout: PackedSequences
    selection: TokenSelection


def pack_groups(
    prompt_ids: list[list[int]],
    completion_ids: list[list[int]],
    score_positions: list[int],
    tree: LabelTree,
    device: torch.device,
) -> PackedGroups:
    """
    Pack `N` completions; those that follow each other and have the same prompt share it.

    Args:
        prompt_ids, completion_ids (`list[list[int]]`):
            Tokens without padding, `N` of each. A prompt is not empty.
        score_positions (`list[int]`):
            See [`shared_prefix_forward`].
        tree ([`LabelTree`]):
            The labels.
        device (`torch.device`):
            Where the tensors are to be.
    """
    groups = [list(rows) for _, rows in groupby(range(len(prompt_ids)), key=lambda row: prompt_ids[row])]
    ids, positions, prefixes = [], [], []
    for rows in groups:
        prompt = prompt_ids[rows[0]]
        if not prompt:
            raise ValueError(
                f"prompt_ids: row {rows[0]} is empty; give every completion a prompt of one token at least."
            )
        prefixes.append((len(ids), len(ids) + len(prompt)))
        ids += prompt
        positions += range(len(prompt))

    head_positions = [end - 1 for _, end in prefixes]
    branches, own, contexts, of_trees, rows_of, tokens, edge_positions, rest_positions = ([] for _ in range(8))
    for group, rows in enumerate(groups):
        start, prompt_length = len(ids), len(prompt_ids[rows[0]])
        for row in rows:
            completion, score = completion_ids[row], score_positions[row]
            # The hidden state of a token predicts the next one
            read = completion[: max(len(completion) - 1, score)]
            first = len(head_positions)  # where the position of its first token will be
            end = len(ids) + len(read)
            own.append((len(ids), end))
            contexts.append((len(ids), len(ids) + score))
            of_trees.append((end, end + len(tree.context_tokens)))
            ids += [*read, *tree.context_tokens]
            positions += range(prompt_length, prompt_length + len(read))
            positions += [prompt_length + score + depth - 1 for depth in tree.depths]

            predicting = [group, *range(first, first + len(read))]
            head_positions += range(end - len(read), end)
            rows_of += predicting[: len(completion)]
            tokens += completion
            nodes = [head_positions[predicting[score]], *range(end, end + len(tree.context_tokens))]
            edge_positions.append([nodes[node] for node, _ in tree.edges])
            rest_positions.append([nodes[node] for node in tree.rests])
        branches.append((start, len(ids)))

    buckets = [*make_buckets(own, device), *make_tree_buckets(contexts, of_trees, tree.ancestors, device)]
    layout = PackedSequences(prefixes, branches, buckets)

    def tensor(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.long).to(device)

    trees = TokenSelection.of_trees(tree, tensor(edge_positions), tensor(rest_positions))
    selection = TokenSelection.of_tokens(*map(tensor, (head_positions, rows_of, tokens))).and_trees(trees)
    return PackedGroups(tensor(ids).unsqueeze(0), tensor(positions).unsqueeze(0), layout, selection)


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
        prompt_ids, prompt_mask, completion_ids, completion_mask, score_positions, tree:
            As there. Completions of the same prompt must follow each other to share it.

    Returns:
        [`PolicyOutput`].
    """
    lists = [
        [ids[mask].tolist() for ids, mask in zip(rows.cpu(), masks.bool().cpu(), strict=True)]
        for rows, masks in ((prompt_ids, prompt_mask), (completion_ids, completion_mask))
    ]
    packed = pack_groups(*lists, score_positions.tolist(), tree, prompt_ids.device)
    output = model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=no_mask(packed.input_ids),
        attention_layout=packed.layout,
        selection=packed.selection,
    )
    return PolicyOutput.unpacked(output, packed.selection, completion_mask, tree)


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
