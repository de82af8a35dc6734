# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the figures of an evaluation mean, in words."""

from collections.abc import Mapping
from typing import Any

from real_trl.evaluation.registry import METRICS
from real_trl.report.cells import used_metrics
from real_trl.report.notation import CONFIDENCE, EXPECTATIONS, INFERENCES, LEGEND

Evaluation = Mapping[str, Any]


def legend(evaluation: Evaluation) -> str:
    """What the titles of the metrics mean, and the figures below or beside them."""
    if not evaluation["results"]:
        return expectation_text(evaluation)
    every = [result[inference] for judges in evaluation["results"].values() for result in judges.values() for inference in INFERENCES]  # fmt: skip
    extra = [METRICS[metric].legend for metric in used_metrics(every) if METRICS[metric].legend]
    text = " ".join([LEGEND, *extra])
    if any(result.get("intervals") for judges in evaluation["results"].values() for result in judges.values()):
        text += f" Ranges: {CONFIDENCE} bootstrap intervals, whole groups resampled."
    return " ".join(filter(None, (text, expectation_text(evaluation))))


def expectation_text(evaluation: Evaluation) -> str:
    """By which rule the expected score ŷ of RAIL was computed, and for which judges, where that is recorded."""
    by_rule: dict[bool, list[str]] = {}
    for name, about in evaluation.get("judges", {}).items():
        rule = (about.get("judge") or {}).get("normalize_expectation")
        if rule is not None:
            by_rule.setdefault(bool(rule), []).append(name)
    of = {rule: f" ({', '.join(names)})" if len(by_rule) > 1 else "" for rule, names in by_rule.items()}
    return "".join(f"RAIL{of[rule]}: {EXPECTATIONS[rule]}. " for rule in by_rule).rstrip()
