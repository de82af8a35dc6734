# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From predictions to an evaluation: every figure that the report shows, as one nested dict. No I/O, no model."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import pandas as pd
from datasets import Dataset

from real_trl.data.arguments import CRITERION_COLUMN
from real_trl.data.benchmarks import BENCHMARKS
from real_trl.data.choice_benchmarks import CHOICE_BENCHMARKS
from real_trl.data.choices import Choices
from real_trl.evaluation.agreement import rater_agreement
from real_trl.evaluation.comparison import compare_judges
from real_trl.evaluation.intervals import breakdown, evaluate_with_intervals
from real_trl.evaluation.judge_calibration import Calibration, scored_rows
from real_trl.evaluation.metrics import evaluate_predictions
from real_trl.evaluation.people import agreement_of_people
from real_trl.evaluation.probes import probe_shifts
from real_trl.evaluation.rows import INFERENCES, MalformedHandling
from real_trl.scale import Scale

MALFORMED_CONVENTIONS = get_args(MalformedHandling)
_INFERENCES = ("standard", "rail")

Frames = Mapping[str, Mapping[str, pd.DataFrame]]


def breakdown_columns(asked: Sequence[str] | None, dataset: str, columns: Sequence[str]) -> list[str]:
    """Columns by which a dataset is broken down: those asked for that it has, by default the criterion, or its benchmark's categories."""
    if asked is None:
        known = BENCHMARKS.get(dataset) or CHOICE_BENCHMARKS.get(dataset)
        asked = (CRITERION_COLUMN, *(known.category_columns if known else ()))
    return [column for column in asked if column in columns]


def check_breakdown(asked: Sequence[str] | None, datasets: Mapping[str, Dataset | Choices]) -> None:
    """`ValueError` if no dataset has a column that is asked for."""
    for column in asked or ():
        present = sorted({name for dataset in datasets.values() for name in dataset.column_names})
        if column not in present:
            raise ValueError(
                f"breakdown: no dataset has the column {column!r}; there are {present}. Name it in keep_columns too."
            )


def assemble_evaluation(
    frames: Frames,
    probed: Mapping[str, Mapping[str, Mapping[str, pd.DataFrame]]] | None = None,
    *,
    scale: Scale,
    malformed: MalformedHandling = "force",
    breakdown_by: Sequence[str] | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    num_resamples: int = 2000,
    seed: int = 0,
    rater_names: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """
    Evaluate predictions.

    Args:
        frames (`Mapping[str, Mapping[str, pandas.DataFrame]]`):
            Dataset → judge → predictions with the columns `id`, `group`, `target`, those of [`~real_trl.engines.Judgment`],
            and optionally `ratings`.
        probed (`Mapping`, *optional*):
            Dataset → judge → probe → predictions on the same rows as [`~real_trl.evaluation.probes.probe_dataset`] changed them.
        scale ([`Scale`]):
            Labels and values, of all judges.
        malformed (`str`, *optional*, defaults to `"force"`):
            How completions without a score count in the figures. The other conventions are reported beside them.
        breakdown_by (`Sequence[str]`, *optional*):
            Columns to report value by value. Defaults to the criterion, where rows are scored by several, and to a benchmark's categories.
        calibrations (`Mapping[str, Calibration]`, *optional*):
            Of judges that have one. All figures are of the judge's own scores but those that are called calibrated.
        num_resamples (`int`, *optional*, defaults to `2000`):
            Bootstrap resamples and permutations.
        rater_names (`Mapping[str, Sequence[str]]`, *optional*):
            Dataset → who gave the first, second, … of the `ratings` of every row; by default they are numbered.

    Returns:
        `dict`, of plain numbers and text:
        - `datasets`: dataset → `n_rows`, `n_groups`, `labels`, `values`;
        - `results`: dataset → judge → result of [`~real_trl.evaluation.intervals.evaluate_with_intervals`], with `mean_entropy` and, of a calibrated
          judge, `calibrated` (see [`~real_trl.evaluation.judge_calibration.figures_of`]), with the `asked` coverage;
        - `comparisons`: dataset → result of [`~real_trl.evaluation.comparison.compare_judges`];
        - `ceiling`: dataset → [`~real_trl.evaluation.agreement.rater_agreement`], where rows have several ratings;
        - `people`: dataset → [`~real_trl.evaluation.people.agreement_of_people`], there too; its `judges` are `<judge>, <inference>`;
        - `breakdown`: dataset → column → value → judge → result;
        - `malformed_conventions`: dataset → judge → convention → figures;
        - `probes`: dataset → judge → probe → [`~real_trl.evaluation.probes.probe_shifts`].

    Raises:
        `ValueError`: if a row that counts has no score, or judges were evaluated on different rows.
    """
    values = scale.values
    options: dict[str, Any] = {"values": values, "n_resamples": num_resamples, "seed": seed}
    evaluation: dict[str, Any] = {
        name: {}
        for name in ("datasets", "results", "comparisons", "ceiling", "people", "breakdown", "malformed_conventions")
    }
    for dataset, judges in frames.items():
        first = next(iter(judges.values()))
        evaluation["datasets"][dataset] = {
            "n_rows": len(first),
            "n_groups": int(first["group"].nunique()),
            "labels": list(scale.labels),
            "values": list(values),
        }
        evaluation["results"][dataset] = {
            judge: {
                **evaluate_with_intervals(frame, malformed, labels=scale.labels, **options),
                "mean_entropy": _mean(frame, "entropy"),
                **_calibrated(frame, (calibrations or {}).get(judge), values, malformed),
            }
            for judge, frame in judges.items()
        }
        if len(judges) > 1:
            evaluation["comparisons"][dataset] = compare_judges(judges, malformed=malformed, **options)
        ratings = [list(each) for each in first["ratings"]] if "ratings" in first else []
        if any(len(each) > 1 for each in ratings):
            evaluation["ceiling"][dataset] = rater_agreement(
                ratings,
                groups=list(first["group"]),
                criteria=list(first[CRITERION_COLUMN]) if CRITERION_COLUMN in first else None,
                values=values,
                n_resamples=num_resamples,
                seed=seed,
            )
            people = (rater_names or {}).get(dataset)
            if people is not None and any(len(each) > len(people) for each in ratings):
                people = ()  # what was rated again has a place that is nobody's
            evaluation["people"][dataset] = agreement_of_people(
                ratings,
                groups=list(first["group"]),
                names=people,
                judges=_judges_as_raters(judges, first, malformed),
                n_resamples=num_resamples,
                seed=seed,
            )
        evaluation["malformed_conventions"][dataset] = {
            judge: {
                convention: {name: result[name] for name in _INFERENCES}
                for convention in MALFORMED_CONVENTIONS
                for result in [evaluate_predictions(frame, convention, values)]
            }
            for judge, frame in judges.items()
        }
        by_column = {}
        for column in breakdown_columns(breakdown_by, dataset, list(first)):
            by_value: dict[str, dict[str, Any]] = {}
            for judge, frame in judges.items():
                for value, result in breakdown(
                    frame, column, malformed, intervals=True, labels=scale.labels, **options
                ).items():
                    by_value.setdefault(str(value), {})[judge] = result
            by_column[column] = by_value
        if by_column:
            evaluation["breakdown"][dataset] = by_column
    if probed:
        evaluation["probes"] = {
            dataset: {
                judge: {
                    probe: probe_shifts(
                        frames[dataset][judge], frame, probe, seed=seed, lower_is_better=scale.lower_is_better
                    )
                    for probe, frame in probes.items()
                }
                for judge, probes in judges.items()
            }
            for dataset, judges in probed.items()
        }
    return evaluation


def _judges_as_raters(
    judges: Mapping[str, pd.DataFrame], first: pd.DataFrame, malformed: MalformedHandling
) -> dict[str, pd.Series]:
    """Scores of every judge in each inference, in the order of the rows of `first`; NaN where malformed, unless that is forced."""
    scores = {}
    for judge, frame in judges.items():
        frame = frame.set_index("row").loc[list(first["row"])] if "row" in frame else frame
        for inference, column in INFERENCES.items():
            given = pd.to_numeric(frame[column], errors="coerce")
            scores[f"{judge}, {inference}"] = given if malformed == "force" else given.where(frame["status"] == "ok")
    return scores


def _calibrated(
    frame: pd.DataFrame, calibration: Calibration | None, values: Sequence[float], malformed: MalformedHandling
) -> dict[str, Any]:
    """What a judge's calibration is worth on these predictions, if it has one and they have rows for it."""
    if calibration is None:
        return {}
    column = calibration.intervals.column
    rows, _ = scored_rows(frame, values, malformed, column if column in frame else None)
    if not len(rows.targets):
        return {}
    return {"calibrated": calibration.figures(rows, values) | {"asked": calibration.intervals.coverage}}


def _mean(frame: pd.DataFrame, column: str) -> float | None:
    if column not in frame:
        return None
    values = pd.to_numeric(frame[column], errors="coerce").dropna()
    return float(values.mean()) if len(values) else None
