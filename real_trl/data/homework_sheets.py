# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The homework sheets of the embedded task, see `homework.py`: how they are drawn, graded and commented on."""

import random
from dataclasses import dataclass
from typing import Literal

Split = Literal["base", "sft", "rl", "id", "ood"]
SPLITS: tuple[Split, ...] = ("base", "sft", "rl", "id", "ood")
TEST_SPLITS: tuple[Split, ...] = ("id", "ood")
ScoreRange = Literal["1-5", "0-100"]

RUBRICS = {
    "strict": "Rubric: a close line costs one point.",
    "lenient": "Rubric: a close line costs half a point.",
}
OPERANDS = range(1, 6)
LENGTHS = (3, 4)
# The sheets that training knows. Differences count twice: they are what the teacher gets wrong.
_TRAINED = (("sums", "strict"), ("sums", "lenient"), ("differences", "strict"), ("differences", "strict"))


@dataclass(frozen=True)
class Line:
    """One line of a homework sheet: `a op b = claim`."""

    a: int
    op: str
    b: int
    claim: int

    @property
    def result(self) -> int:
        """What the line should say."""
        return self.a + self.b if self.op == "+" else self.a - self.b

    @property
    def expression(self) -> str:
        """The left-hand side, one word: `2-5`."""
        return f"{self.a}{self.op}{self.b}"


def verdict(result: int, claim: int) -> str:
    """Says how far `claim` is from `result`: `right`, `close` (off by one) or `wrong`."""
    return {0: "right", 1: "close"}.get(abs(result - claim), "wrong")


def exact_score(lines: list[Line], rubric: str) -> float:
    """Returns the exact score of a sheet on the 1-5 scale, in steps of one half."""
    cost = {"right": 0.0, "close": 0.5 if rubric == "lenient" else 1.0, "wrong": 1.0}
    return max(1.0, 5.0 - sum(cost[verdict(line.result, line.claim)] for line in lines))


def noisy_label(score: float, rater_noise: float, score_range: ScoreRange, rng: random.Random) -> float:
    """Rounds `score` at random (right on average), then moves it by one point with probability `rater_noise`."""
    low, high, point = (1, 5, 1) if score_range == "1-5" else (0, 100, 25)
    label = int(score) + (rng.random() < score % 1)
    if rng.random() < rater_noise:
        label += point * rng.choice((-1, 1))
    return float(min(high, max(low, label)))


def _line(op: str, negative_rate: float, quality: float, rng: random.Random) -> Line:
    """Draws one line; the pupil is right with probability `quality`."""
    a, b = rng.choice(OPERANDS), rng.choice(OPERANDS)
    if op == "-" and (a < b) != (rng.random() < negative_rate):
        a, b = b, a
    result = a + b if op == "+" else a - b
    if rng.random() < quality:
        return Line(a, op, b, result)
    slip = rng.random()
    if slip < 0.45:
        claim = result + rng.choice((-1, 1))
    elif slip < 0.8 and result < 0:
        claim = -result
    else:
        claim = result + rng.choice((-3, 3))
    return Line(a, op, b, claim)


def rationale(lines: list[Line], flaw: float, rng: random.Random) -> str:
    """Checks a sheet line by line; a negative result loses its sign with probability `flaw`."""
    checks = []
    for number, line in enumerate(lines, 1):
        result = line.result
        if result < 0 and rng.random() < flaw:
            result = -result
        checks.append(f"{number}) {line.expression} is {result}, {line.claim} is {verdict(result, line.claim)}.")
    return " ".join(checks)


def sheet(split: Split, rng: random.Random) -> tuple[str, str, list[Line]]:
    """Draws rubric, operation and lines of one sheet for `split`."""
    if split == "ood":
        operation = rng.choice(("differences", "mixed"))
        rubric = "lenient" if operation == "differences" else rng.choice(tuple(RUBRICS))
        negative_rate = 0.6
    else:
        operation, rubric = rng.choice(_TRAINED)
        negative_rate = 0.5
    quality = rng.uniform(0.2, 1.0)
    ops = {"sums": "+", "differences": "-", "mixed": "+-"}[operation] * (max(LENGTHS) + 1)
    # A mixed sheet alternates, so that it holds both operations, and begins with either.
    start = rng.randrange(2)
    length = rng.choice(LENGTHS)
    return rubric, operation, [_line(op, negative_rate, quality, rng) for op in ops[start : start + length]]
