# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Distributions at the end of given texts against a dense float64 forward over each text alone."""

import copy
from functools import cache
from itertools import combinations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from real_trl.forward.packing import shared_beginnings
from real_trl.forward.prefill import read_prefill
from tests.forward.test_tree_after_generation import PROMPTS, scale_space, warm_judge

SCALES = ["1-10", "half points", "0-100", "words"]


def dense(model, tree, ids, temperature):
    """Log-probabilities of the labels, label by label: of a label's tokens, and that what follows makes no longer one of it."""
    exact = model if model.dtype == torch.float64 else copy.deepcopy(model).double()

    @cache
    def next_token(tail):
        with torch.no_grad():
            return (exact(torch.tensor([[*ids, *tail]])).logits[0, -1] / temperature).log_softmax(-1)

    spellings = list(tree.labels)

    @cache
    def completes_longer(path):
        """Probability that what follows `path` completes another spelling that begins with it."""
        nexts = {other[len(path)] for other in spellings if len(other) > len(path) and other[: len(path)] == path}
        total = 0.0
        for token in nexts:
            probability = next_token(path)[token].exp().item()
            longer = (*path, token)
            total += probability * (1.0 if longer in spellings else completes_longer(longer))
        return total

    found = [0.0] * len(tree.paths)
    for path in spellings:
        probability = 1.0
        for end in range(len(path)):
            probability *= next_token(path[:end])[path[end]].exp().item()
        found[tree.labels[path]] += probability * (1 - completes_longer(path))
    return found


def texts_of(space):
    questions = [[*space.tokenizer(prompt)["input_ids"]] for prompt in PROMPTS[:2]]
    return sorted(
        [
            [*questions[0], *space.marker_ids],
            [*questions[0], *questions[1][:3], *space.marker_ids],
            [*questions[0], *questions[1][:3], *space.marker_ids],  # the same once more
            [*questions[1], *space.marker_ids],
            [*questions[0], *questions[1][:5], *space.marker_ids],
            questions[0],  # a beginning of others
        ]
    )


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_against_a_dense_forward(scale, temperature):
    space, model = scale_space(scale), warm_judge(scale)
    texts = texts_of(space)
    read = read_prefill(model, space.tree, texts, temperature, pad_id=0)
    probabilities = space.tree.label_log_probs(*read.split(space.tree.num_log_probs, dim=1)).exp()
    for ids, row in zip(texts, probabilities, strict=True):
        assert row.tolist() == pytest.approx(dense(model, space.tree, ids, temperature), abs=2e-6)


def test_models_that_cannot_share_are_read_with_padding(caplog):
    space = scale_space("1-10")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(space.tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=2, attn_implementation="eager"
    )
    model, texts = GPT2LMHeadModel(config).eval(), texts_of(space)
    read = read_prefill(model, space.tree, texts, 1.0, pad_id=0)
    probabilities = space.tree.label_log_probs(*read.split(space.tree.num_log_probs, dim=1)).exp()
    assert "attn_implementation is 'eager'" in caplog.text
    for ids, row in zip(texts, probabilities, strict=True):
        assert row.tolist() == pytest.approx(dense(model, space.tree, ids, 1.0), abs=2e-6)


def test_the_order_of_texts_makes_no_difference():
    space, model = scale_space("1-10"), warm_judge("1-10")
    texts = texts_of(space)
    order = [3, 0, 5, 2, 4, 1]
    read = read_prefill(model, space.tree, texts, 1.0, pad_id=0)
    other = read_prefill(model, space.tree, [texts[i] for i in order], 1.0, pad_id=0)
    torch.testing.assert_close(other, read[order], atol=1e-6, rtol=0)


def tokens_read(texts, groups):
    return sum(shared + sum(len(texts[i]) - shared for i in rows) for shared, rows in groups)


@pytest.mark.parametrize("seed", range(20))
def test_the_fewest_tokens_are_read(seed):
    generator = torch.Generator().manual_seed(seed)
    texts = sorted(
        torch.randint(1, 3, (int(torch.randint(1, 9, (1,), generator=generator)),), generator=generator).tolist()
        for _ in range(7)
    )
    groups = shared_beginnings(texts)
    assert [i for _, rows in groups for i in rows] == list(range(7))
    for shared, rows in groups:
        assert shared >= 1 and all(texts[i][:shared] == texts[rows[0]][:shared] for i in rows)
        assert len(rows) > 1 or shared == len(texts[rows[0]])

    def alike(rows):
        size = min(len(texts[i]) for i in rows)
        return next((k for k in range(size) if len({texts[i][k] for i in rows}) > 1), size)

    # Every way to cut the seven texts into runs
    best = min(
        sum(
            sum(len(texts[i]) for i in run) - (len(run) - 1) * (alike(run) if len(run) > 1 else 0)
            for run in (range(a, b) for a, b in zip((0, *cuts), (*cuts, 7), strict=True))
        )
        for number in range(7)
        for cuts in combinations(range(1, 7), number)
    )
    assert tokens_read(texts, groups) == best
