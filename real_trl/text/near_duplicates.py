# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Texts that differ in a few words only."""

import math
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_MOST_SHINGLES = 2_000_000
_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)


def near_duplicates(texts: Sequence[str], similarity: float = 0.7) -> list[int]:
    """
    For each text the first of those that it is nearly the same as, directly or by way of others; itself if there is none.

    Two texts are nearly the same if their words are, punctuation and case aside, or if of all runs of three words that one of them
    has both have the share `similarity` (the Jaccard index of their shingles; one changed word in twenty leaves 0.71). Runs that more than a
    twentieth of the texts have, and more than five, are not compared: they are what a form has in common. The comparison is exact
    (candidates share a rare run, by prefix filtering: Chaudhuri, Ganti and Kaushik, ICDE 2006), but for very much text, of which a sample of
    the runs is compared.

    Args:
        similarity (`float`, *optional*, defaults to `0.7`):
            Between 0 and 1.
    """
    words = [_WORD.findall(text.lower()) for text in texts]
    first = list(range(len(texts)))

    def find(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    same: dict[tuple[str, ...], int] = {}
    for index, each in enumerate(words):
        first[index] = same.setdefault(tuple(each), index) if each else index
    shingles = _shingles(words, [index for index in range(len(texts)) if first[index] == index])
    sharing: dict[int, list[int]] = defaultdict(list)  # shingle -> texts in whose prefix it is
    sets: dict[int, set[int]] = {}
    for index, (own, total) in shingles.items():
        sets[index] = set(own)
        needed = math.ceil(similarity * total)
        tried: set[int] = set()
        for shingle in own[: max(total - needed + 1 - (total - len(own)), 0)]:
            for other in sharing[shingle]:
                if other in tried or find(other) == find(index):
                    continue
                tried.add(other)
                common = len(sets[index] & sets[other])
                if common >= similarity * (total + shingles[other][1] - common):
                    first[max(find(index), find(other))] = min(find(index), find(other))
            sharing[shingle].append(index)
    return [find(index) for index in range(len(texts))]


def _shingles(words: Sequence[Sequence[str]], chosen: Sequence[int]) -> dict[int, tuple[list[int], int]]:
    """Text → its shingles that another text has too, the rarest first, and how many it has that are compared."""
    chosen = [index for index in chosen if len(words[index]) >= 3]
    if not chosen:
        return {}
    # Numbers that depend on nothing but the word, so that neither the order of the texts nor the process matters
    numbers = {word: zlib.crc32(word.encode()) for index in chosen for word in words[index]}
    flat = np.array([numbers[word] for index in chosen for word in words[index]], dtype=np.uint64)
    owner = np.repeat(np.array(chosen), [len(words[index]) for index in chosen])
    with np.errstate(over="ignore"):
        runs = (flat[:-2] * _FACTORS[0]) ^ (flat[1:-1] * _FACTORS[1]) ^ (flat[2:] * _FACTORS[2])
        runs ^= runs >> np.uint64(29)
    inside = owner[:-2] == owner[2:]
    runs, owner = runs[inside], owner[:-2][inside]
    if (part := len(runs) // _MOST_SHINGLES) > 0:
        kept = runs % np.uint64(part + 1) == 0
        runs, owner = runs[kept], owner[kept]
    pairs = np.unique(np.stack([owner.astype(np.uint64), runs], axis=1), axis=0)
    owner, runs = pairs[:, 0].astype(np.int64), pairs[:, 1]
    _, which, counts = np.unique(runs, return_inverse=True, return_counts=True)
    often = counts[which]
    compared = often <= max(5, len(chosen) // 20)
    owner, which, often = owner[compared], which[compared], often[compared]
    order = np.lexsort((which, often, owner))
    owner, which, often = owner[order], which[order], often[order]
    starts = np.searchsorted(owner, chosen), np.searchsorted(owner, chosen, side="right")
    found = {}
    for index, start, end in zip(chosen, *starts, strict=True):
        shared = which[start:end][often[start:end] > 1]
        if len(shared):
            found[index] = shared.tolist(), int(end - start)
    return found
