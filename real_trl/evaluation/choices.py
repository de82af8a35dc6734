# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From predictions on compared responses to the figures that a report shows: pairs, and best of several."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from real_trl.data.choices import Choices
from real_trl.evaluation.best_of import evaluate_best_of
from real_trl.evaluation.pairs import evaluate_pairs
from real_trl.evaluation.rows import MalformedHandling
from real_trl.scale import Scale


def assemble_choices(
    frames: Mapping[str, pd.DataFrame],
    choices: Mapping[str, Choices],
    *,
    scale: Scale,
    malformed: MalformedHandling = "force",
    breakdown_by: Sequence[str] = (),
    num_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """
    Evaluate predictions on one dataset of choices.

    Args:
        frames (`Mapping[str, pandas.DataFrame]`):
            Judge → predictions on the responses.
        choices (`Mapping[str, Choices]`):
            Judge → what was compared: the same questions, with the prompts that this judge read.
        scale, malformed, num_resamples, seed:
            As of [`~real_trl.evaluation.assemble.assemble_evaluation`].
        breakdown_by (`Sequence[str]`, *optional*):
            Columns of the questions whose values are reported one by one; of pairs only.

    Returns:
        `dict`: `kind` (`"pairs"` or `"best_of"`), `n_questions`, `n_responses`, `n_groups`, `labels`, `values`, `results` (judge → result of
        [`~real_trl.evaluation.pairs.evaluate_pairs`] or [`~real_trl.evaluation.best_of.evaluate_best_of`]) and `breakdown` (column → value →
        judge → result).
    """
    first = next(iter(choices.values()))
    is_pairs = "preference" in first.questions
    evaluate = evaluate_pairs if is_pairs else evaluate_best_of
    options: dict[str, Any] = {"scale": scale, "malformed": malformed, "n_resamples": num_resamples, "seed": seed}
    by_column: dict[str, dict[str, dict[str, Any]]] = {}
    for column in [name for name in breakdown_by if name in first.questions and is_pairs]:
        for judge, frame in frames.items():
            questions = choices[judge].questions
            for value, part in questions.groupby(questions[column].map(str)):  # a cell may be anything
                result = evaluate(frame, part, **options)
                by_column.setdefault(column, {}).setdefault(value, {})[judge] = result
    return {
        "kind": "pairs" if is_pairs else "best_of",
        "n_questions": len(first),
        "n_responses": len(first.responses),
        "n_groups": int(first.questions["group"].nunique()),
        "labels": list(scale.labels),
        "values": list(scale.values),
        "results": {judge: evaluate(frame, choices[judge].questions, **options) for judge, frame in frames.items()},
        "breakdown": by_column,
    }
