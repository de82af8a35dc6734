# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Which texts are nearly the same."""

import random
import time

import pytest

from real_trl.text.near_duplicates import near_duplicates

WORDS = [f"w{number}" for number in range(5000)]
LONG = "Explain in your own words why a stack needs only two operations and what each of them does to the top item"


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("What is a stack?", "what is a  STACK", True),  # the same words
        ("What is a stack?", "What is a queue?", False),  # 1 of 3 runs in common
        (LONG, LONG.replace("only", "just"), True),  # of 19 runs each, 16 in common: 16/22
        (LONG, LONG.replace("only", "just").replace("does", "makes"), False),  # 13/25
        (LONG, LONG + ", please.", True),
        (LONG, "Please: " + LONG.lower(), True),
        ("これはスタックとは何かという質問です", "これはスタックとは何か、という質問です。", True),
        ("", "", False),
        ("?!", "...", False),
    ],
)
def test_pairs(one, other, near):
    assert near_duplicates([one, other]) == ([0, 0] if near else [0, 1])


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return set(zip(words, words[1:], words[2:], strict=False))


def test_it_finds_what_comparing_all_pairs_finds():
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS[:300], k=draw.randint(4, 40))) for _ in range(150)]
    for text in texts[:60]:
        words = text.split()
        for _ in range(draw.randint(1, 3)):
            words[draw.randrange(len(words))] = draw.choice(WORDS)
        texts.append(" ".join(words))
    expected = list(range(len(texts)))
    for i in range(len(texts)):
        for j in range(i):
            a, b = shingles(texts[i]), shingles(texts[j])
            if len(a & b) >= 0.7 * len(a | b):
                one, other = expected[i], expected[j]
                expected = [min(one, other) if each in (one, other) else each for each in expected]
    assert near_duplicates(texts) == expected
    assert 10 < sum(first != index for index, first in enumerate(expected)) < 60
    order = draw.sample(range(len(texts)), len(texts))
    again = near_duplicates([texts[index] for index in order])
    groups = lambda firsts, names: {frozenset(n for n, f in zip(names, firsts, strict=True) if f == x) for x in firsts}  # noqa: E731
    assert groups(again, order) == groups(expected, range(len(texts)))


def test_what_a_form_has_in_common_makes_nothing_alike():
    form = "Rate the following answer from one to five and think about whether it is right, complete and clear. " * 3
    draw = random.Random(0)
    texts = [form + " ".join(draw.choices(WORDS, k=8)) for _ in range(40)]
    texts.append(texts[7].upper())
    assert near_duplicates(texts) == [*range(40), 7]


def test_ten_thousand_texts_in_seconds():
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=60)) for _ in range(9000)]
    texts += [f"{text} and this" for text in texts[:1000]]
    started = time.perf_counter()
    assert near_duplicates(texts) == [*range(9000), *range(1000)]
    assert time.perf_counter() - started < 20  # 2 on two cores
