# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a judge says of the test splits of the embedded task, a line for every row and rationale."""

from pathlib import Path

import pandas as pd

from real_trl import Judge
from real_trl.data.homework import make_dataset
from real_trl.data.homework_sheets import TEST_SPLITS, ScoreRange


def predict(
    judge: Path, *, rows: int, samples: int, max_new_tokens: int, seed: int, score_range: ScoreRange
) -> pd.DataFrame:
    """
    Judge both test splits, once greedily and `samples` times sampled.

    Args:
        judge (`Path`):
            Directory of the judge.
        rows (`int`):
            Rows of each split.
        samples (`int`):
            Sampled rationales of each row.
        max_new_tokens (`int`):
            Longest completion.
        seed (`int`):
            Seed of the sampling.
        score_range (`str`):
            `"1-5"` or `"0-100"`: what the rows are graded in.

    Returns:
        `pandas.DataFrame`: `split`, `row`, `sample` (-1 is the greedy rationale), `target` (exact), `decoded` (the score in
        the completion), `expected` (RAIL's ŷ, of the distribution after that rationale), `tokens`, `entropy` (mean of the
        tokens', in nats), `ok` (whether the completion held a score; if not, it was read at the forced marker).
    """
    lines = []
    for greedy in (True, False):
        loaded = Judge.from_pretrained(
            # All judges are asked in the same way, also one whose training sampled from a nucleus
            judge,
            do_sample=not greedy,
            top_p=1.0,
            max_new_tokens=max_new_tokens,
            batch_size=rows,
            malformed="force",
        )
        for split in TEST_SPLITS:
            data = make_dataset(split, rows, score_range=score_range)
            judgments = loaded.judge(data["prompt"][:], num_samples=1 if greedy else samples, seed=seed)
            for row, (judgment, target) in enumerate(zip(judgments, data["score"], strict=True)):
                for sample, each in enumerate(judgment.samples or [judgment], -1 if greedy else 0):
                    lines.append(
                        {
                            "split": split,
                            "row": row,
                            "sample": sample,
                            "target": target,
                            "decoded": each.sampled_score,
                            "expected": each.expected_score,
                            "tokens": each.num_tokens,
                            "entropy": each.entropy,
                            "ok": each.status == "ok",
                        }
                    )
    return pd.DataFrame(lines)
