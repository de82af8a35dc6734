# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The packer against a row written out by hand."""

import torch

from real_trl.forward.packing import Branch, pack_row
from real_trl.label_tree import LabelTree

TREE = LabelTree.from_paths([(1,), (2,), (1, 0), (1, 0, 0)])  # inner nodes: 1, then 0 after it


def test_a_row_of_two_prefixes():
    groups = [([5, 6], [Branch([7, 8, 9], seen=2), Branch([], seen=0)]), ([4], [Branch([3], seen=1)])]
    row = pack_row(groups, TREE, torch.device("cpu"))
    assert row.input_ids.tolist() == [[5, 6, 4, 7, 8, 9, 1, 0, 1, 0, 3, 1, 0]]
    # The first tree goes on after 7 8, the second after the prefix itself
    assert row.position_ids.tolist() == [[0, 1, 0, 2, 3, 4, 4, 5, 2, 3, 1, 2, 3]]
    assert row.layout.prefixes == [(0, 2), (2, 3)] and row.layout.branches == [(3, 10), (10, 13)]
    own, *trees = row.layout.buckets(torch.device("cpu"))
    assert own.own.tolist() == [[3, 4, 5], [10, 0, 0]] and own.is_padding.sum() == 2
    assert [bucket.own.tolist() for bucket in trees] == [[[6, 7], [8, 9], [11, 12]]]

    # Index 1 of each sequence: the end of a prefix, the same, and the first token of a branch
    assert row.places(torch.tensor([[1, 2], [0, 1], [0, 1]])).tolist() == [[1, 3], [0, 1], [2, 10]]
    edges, rests = row.tree_places(torch.tensor([4, 1, 10]))
    assert TREE.edges == ((0, 1), (0, 2), (1, 0), (2, 0))
    assert edges.tolist() == [[4, 4, 6, 7], [1, 1, 8, 9], [10, 10, 11, 12]]
    assert TREE.rests == (1, 2) and rests.tolist() == [[6, 7], [8, 9], [11, 12]]
