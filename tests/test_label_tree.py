# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The tree of labels: its shape and probabilities by hand, and against enumeration of everything that could be written."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from real_trl.label_tree import LabelTree


def numbers(*labels) -> LabelTree:
    """Digit by digit."""
    return LabelTree.from_paths([tuple(map(int, str(label))) for label in labels])


def probabilities(tree, edges):
    """Probabilities of the labels, of those of `(tokens before, token)`."""
    log_probs = torch.tensor([edges[edge] for edge in written_edges(tree)], dtype=torch.float64).log()
    return tree.label_log_probs(log_probs).exp().tolist()


def prefixes(tree):
    """The tokens that lead to each node, from `context_tokens` and `parents` alone."""
    nodes = [()]
    for token, parent in zip(tree.context_tokens, tree.parents, strict=True):
        nodes.append((*nodes[parent], token))
    return nodes


def written_edges(tree):
    nodes = prefixes(tree)
    return [(nodes[node], token) for node, token in tree.edges]


# --- by hand -----------------------------------------------------------------------------------------------------------


def test_labels_of_one_token_need_one_softmax():
    tree = LabelTree.from_paths([(5,), (3,), (9,)])
    assert (tree.context_tokens, tree.parents, tree.depths) == ((), (), ())
    assert tree.edges == ((0, 5), (0, 3), (0, 9))
    log_probs = torch.randn(2, 3)
    assert tree.label_log_probs(log_probs) is log_probs
    assert tree.reading_length([5, 3]) == tree.reading_length([9]) == 1


def test_one_is_not_ten():
    tree = numbers(*range(1, 11))
    assert (tree.context_tokens, tree.parents, tree.depths) == ((1,), (0,), (1,))
    assert tree.edges == (*((0, digit) for digit in range(1, 10)), (1, 0))
    assert [tree.reading_length(text) for text in ([1], [1, 0, 7], [1, 7, 7], [7, 7])] == [1, 2, 2, 1]
    # π(1) = 0.5 and then 0 with 0.2: "10" has 0.5 · 0.2 = 0.1, "1" the other 0.4; "2" to "9" have 0.05 each
    edges = {((), 1): 0.5, ((1,), 0): 0.2} | {((), digit): 0.05 for digit in range(2, 10)}
    assert probabilities(tree, edges) == pytest.approx([0.4] + [0.05] * 8 + [0.1], abs=1e-12)


def test_a_label_that_begins_one_that_begins_another():
    # "1" begins "10", "11" and "100", but what is taken from it is "10" (with "100" in it) and "11"
    tree = numbers(1, 10, 11, 100)
    edges = {((), 1): 0.8, ((1,), 0): 0.5, ((1,), 1): 0.25, ((1, 0), 0): 0.1}
    # 1: 0.8 (1 − 0.5 − 0.25) = 0.2. 10: 0.8 · 0.5 (1 − 0.1) = 0.36. 11: 0.8 · 0.25 = 0.2. 100: 0.8 · 0.5 · 0.1 = 0.04
    assert probabilities(tree, edges) == pytest.approx([0.2, 0.36, 0.2, 0.04], abs=1e-12)
    # "10" goes on to what is not "100"; "11" is final with its last token
    assert [tree.reading_length(text) for text in ([1, 0, 7, 7], [1, 0, 0, 7], [1, 1, 7], [1, 7, 7])] == [3, 3, 2, 2]


def test_zero_to_a_hundred():
    tree = numbers(*range(101))
    # Inner nodes: the digits 1 to 9, then "10"; the root has ten edges, each digit ten, "10" one
    assert tree.context_tokens == (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)
    assert tree.parents == (0, 0, 0, 0, 0, 0, 0, 0, 0, 1)
    assert tree.depths == (1, 1, 1, 1, 1, 1, 1, 1, 1, 2)
    assert len(tree.edges) == 10 + 9 * 10 + 1
    assert tree.ancestors[9].tolist() == [True] + [False] * 8 + [True]
    # Eleven tokens, all equally likely: "0" 1/11; "7" 1/11 · 1/11 (EOS alone is left); "42" 1/121; "10" 10/11 of 1/121
    uniform = dict.fromkeys(written_edges(tree), 1 / 11)
    scores = probabilities(tree, uniform)
    assert scores[0] == pytest.approx(1 / 11) and scores[7] == pytest.approx(1 / 121)
    assert scores[42] == pytest.approx(1 / 121) and scores[10] == pytest.approx(10 / 11**3)
    assert scores[100] == pytest.approx(1 / 11**3)
    assert sum(scores) == pytest.approx(10 / 11)  # all but EOS at the root


def test_words_with_a_shared_beginning():
    very, poor, good, enough = range(4)
    tree = LabelTree.from_paths([(very, poor), (poor,), (good,), (good, enough), (very, good)])
    assert tree.context_tokens == (very, good) and tree.parents == (0, 0)
    edges = {((), very): 0.3, ((), poor): 0.2, ((), good): 0.4}
    edges |= {((very,), poor): 0.5, ((very,), good): 0.1, ((good,), enough): 0.25}
    # "very fine" is no label: 0.3 · 0.4 are lost
    assert probabilities(tree, edges) == pytest.approx([0.15, 0.2, 0.3, 0.1, 0.03], abs=1e-12)


def test_batches_of_any_shape():
    tree = numbers(1, 10, 2)
    log_probs = torch.rand(3, 4, len(tree.edges)).log() - 1
    together = tree.label_log_probs(log_probs)
    assert together.shape == (3, 4, 3)
    torch.testing.assert_close(together[2, 1], tree.label_log_probs(log_probs[2, 1]))


def test_bad_paths():
    for paths in ([(1,), ()], [(1, 2), (3,), (1, 2)]):
        with pytest.raises(ValueError, match=r"paths: .* holds an empty path, or one twice"):
            LabelTree.from_paths(paths)


# --- the end of the floating-point range -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("logit", [5.0, 10.0, 15.0, 20.0, 50.0])
def test_a_label_that_is_almost_sure_to_go_on(logit, dtype):
    """`π(0 | 1) = 1 − gap`: "1" has next to nothing, but its log-probability is finite and still pushes the other way."""
    tree = numbers(1, 10)
    logits = torch.tensor([logit, 0.0], dtype=dtype, requires_grad=True)
    one, ten = tree.label_log_probs(torch.stack([torch.tensor(0.5, dtype=dtype).log(), logits.log_softmax(0)[0]]))
    gap = 1 / (1 + math.exp(logit))
    assert one.exp().item() == pytest.approx(0.5 * gap, abs=1e-6)
    assert ten.exp().item() == pytest.approx(0.5 * (1 - gap), abs=1e-6)
    assert one.exp() + ten.exp() <= 0.5 + 1e-6
    one.backward()
    down, up = logits.grad.tolist()
    assert math.isfinite(one.item()) and -1.001 <= down <= 0 < up <= 1.001
    if gap > 100 * torch.finfo(dtype).eps:
        assert one.item() == pytest.approx(math.log(0.5 * gap), rel=1e-2)
        assert (down, up) == pytest.approx((gap - 1, 1 - gap), rel=2e-2)


def test_impossible_tokens():
    tree = numbers(1, 10, 100)
    edges = torch.tensor([0.5, 0.0, 0.5], dtype=torch.float64).log().requires_grad_()
    log_probs = tree.label_log_probs(edges)
    assert log_probs.exp().tolist() == [0.5, 0.0, 0.0]
    log_probs.exp().sum().backward()
    assert edges.grad.isfinite().all()


# --- against enumeration -----------------------------------------------------------------------------------------------

VOCABULARY = 4  # the last token is no label's
token_paths = st.lists(st.integers(0, VOCABULARY - 2), min_size=1, max_size=4).map(tuple)


@st.composite
def label_sets(draw):
    """Sets with many shared beginnings: some paths are made longer or shorter versions of others."""
    paths = draw(st.lists(token_paths, min_size=2, max_size=6, unique=True))
    for path in draw(st.lists(st.sampled_from(paths), max_size=3)):
        paths.append(path[: draw(st.integers(1, len(path)))])
        paths.append((path + draw(token_paths))[:4])
    return draw(st.permutations(list(dict.fromkeys(paths))))


def random_conditionals(seed):
    """`log π(token | tokens before)` of a random language over `VOCABULARY`, far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    return {
        before: (3 * torch.randn(VOCABULARY, generator=generator, dtype=torch.float64)).log_softmax(-1)
        for depth in range(4)
        for before in product(range(VOCABULARY), repeat=depth)
    }


def enumerated(paths, conditionals):
    """`(L,)` probabilities: every text of four tokens counts for the longest label that it begins with."""
    total = [torch.zeros((), dtype=torch.float64) for _ in paths]
    for text in product(range(VOCABULARY), repeat=4):
        begun = [path for path in paths if text[: len(path)] == path]
        if begun:
            log_prob = sum(conditionals[text[:depth]][token] for depth, token in enumerate(text))
            total[paths.index(max(begun, key=len))] += log_prob.exp()
    return torch.stack(total)


@settings(max_examples=60, deadline=None)
@given(paths=label_sets(), seed=st.integers(0, 2**20))
def test_longest_labels_of_everything_that_could_be_written(paths, seed):
    tree = LabelTree.from_paths(paths)
    conditionals = random_conditionals(seed)
    edges = torch.stack([conditionals[before][token] for before, token in written_edges(tree)]).requires_grad_()
    scores = tree.label_log_probs(edges).exp()
    expected = enumerated(paths, conditionals)
    torch.testing.assert_close(scores.detach(), expected, atol=1e-9, rtol=0)
    assert scores.sum() <= 1 + 1e-9
    scores.sum().backward()
    assert edges.grad.isfinite().all()


@settings(max_examples=100, deadline=None)
@given(paths=label_sets())
def test_shape_of_the_tree(paths):
    tree = LabelTree.from_paths(paths)
    nodes, edges = prefixes(tree), written_edges(tree)
    assert set(nodes) == {path[:end] for path in paths for end in range(len(path))}
    assert all(parent <= node for node, parent in enumerate(tree.parents))  # parents first
    assert len(set(edges)) == len(edges)
    assert set(edges) == {(path[:end], path[end]) for path in paths for end in range(len(path))}
    assert tree.depths == tuple(map(len, nodes[1:]))
    for node, prefix in enumerate(nodes[1:]):
        above = [nodes[1 + other] for other in tree.ancestors[node].nonzero().flatten().tolist()]
        assert sorted(above, key=len) == [prefix[:end] for end in range(1, len(prefix) + 1)]


@settings(max_examples=100, deadline=None)
@given(paths=label_sets(), text=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=6))
def test_reading_stops_where_the_label_is_certain(paths, text):
    """The shortest beginning of the text after which nothing that follows could change its label."""

    def label_of(written):
        return max((path for path in paths if tuple(written[: len(path)]) == path), key=len, default=None)

    length = LabelTree.from_paths(paths).reading_length(text)
    others = [label_of([*text[:length], *rest]) for rest in product(range(VOCABULARY), repeat=3)]
    assert length == len(text) or set(others) == {label_of(text)}
    if length > 1:
        shorter = {label_of([*text[: length - 1], *rest]) for rest in product(range(VOCABULARY), repeat=4)}
        assert len(shorter) > 1
