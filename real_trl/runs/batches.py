# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Batches whose outcome depends on the seed and the batch, not on the process or on how often a run was stopped."""

from collections.abc import Sequence

import numpy as np

_PREFILLS = 256  # prompts that are read together at least, so that those which begin alike share that


def plan_batches(
    prompts: Sequence[str], num_samples: int, batch_size: int, *, direct: bool = False
) -> list[list[tuple[int, int]]]:
    """
    `(row, sample)` of every completion, in batches of prompts of similar length, the longest first; for a `direct` judge, in larger
    ones of prompts that begin alike.
    """
    units = [(row, sample) for row in range(len(prompts)) for sample in range(num_samples)]
    if direct:
        batch_size = max(batch_size, _PREFILLS)
    units.sort(key=lambda unit: (prompts[unit[0]], unit) if direct else (-len(prompts[unit[0]]), unit))
    return [units[start : start + batch_size] for start in range(0, len(units), batch_size)]


def batch_seed(seed: int, batch: int) -> int:
    """Seed of the sampling of one batch."""
    return int(np.random.SeedSequence([seed, batch]).generate_state(1)[0])
