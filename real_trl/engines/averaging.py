# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Averages the samples of a prompt (average-of-N, Table 3)."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from real_trl.engines.base import Judgment
from real_trl.evaluation.unscored import UNSCORED, grouped_reasons

_AVERAGED = (
    "sampled_score",
    "expected_score",
    "mass",
    "missing_mass",
    "num_tokens",
    "entropy",
)


def average_judgments(samples: Sequence[Judgment], values: Sequence[float]) -> Judgment:
    """
    Average-of-N (Table 3): sampled and expected score, distribution, mass and length are means over the samples that have
    scores; most likely score and spread are those of the mean distribution;
    completion and rationale are those of the sample whose expected score is nearest to the mean; the status is the most
    frequent one. Samples that are unscored, because the engine gave no answer, are left out, which `error` says; if all are, so is
    the average.

    Args:
        samples (`Sequence[Judgment]`):
            Of one prompt, at least one.

    Returns:
        [`Judgment`], whose `samples` are these if there are several.
    """
    if len(samples) == 1:
        return samples[0]
    answered = [sample for sample in samples if sample.status != UNSCORED]
    scored = [sample for sample in answered if sample.expected_score is not None]
    statuses = [sample.status for sample in answered or samples]
    status = max(dict.fromkeys(statuses), key=statuses.count)
    first = (answered or samples)[0]
    averaged: dict[str, Any] = {field.name: getattr(first, field.name) for field in fields(Judgment)}
    if scored:
        columns: dict[str, list[Any]] = {name: [getattr(sample, name) for sample in scored] for name in _AVERAGED}
        means = {name: None if None in each else float(np.mean(each)) for name, each in columns.items()}
        distributions = [sample.probabilities for sample in scored if sample.probabilities is not None]
        probabilities = np.mean([list(each.values()) for each in distributions], axis=0)
        share, scale = np.nan_to_num(probabilities) / np.nansum(probabilities), np.asarray(values, dtype=np.float64)
        off = np.abs(np.asarray(columns["expected_score"]) - means["expected_score"])
        nearest = scored[int(off.argmin())]
        averaged |= means | {
            "completion": nearest.completion,
            "rationale": nearest.rationale,
            "thinking": nearest.thinking,
            "probabilities": dict(zip(distributions[0], probabilities.tolist(), strict=True)),
            "most_likely_score": float(scale[share.argmax()]),
            "spread": float(np.sqrt(share @ (scale - share @ scale) ** 2)),
        }
    if len(answered) < len(samples):
        reasons = grouped_reasons(sample.error or "" for sample in samples if sample.status == UNSCORED)
        missing = f"{len(samples) - len(answered)} of {len(samples)} samples: " if answered else ""
        averaged["error"] = missing + "; ".join(reasons)
    return Judgment(**averaged | {"status": status, "samples": list(samples)})
