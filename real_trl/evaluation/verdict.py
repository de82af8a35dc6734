# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
When a judge's figures are worth nothing: too few answers in the right form, predictions that do not vary or that always the same
number would beat, a distribution that is elsewhere than on the labels, rows that were not scored. Arrays only; every report shows it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from real_trl.evaluation.unscored import UNSCORED
from real_trl.text.rationales import rationale_faults

# The thresholds. A share that is above, or a probability that is more than this away from 1, makes a figure worth nothing.
MALFORMED_SHARE = 0.1  # of the answers
UNSCORED_SHARE = 0.1  # of the rows
OUTSIDE_MASS = 0.1  # mean probability on other text than the labels
MISSING_MASS = 0.1  # mean probability that the engine could not assign
# Predictions are as good as constant if this share of them lies within this part of the scale's range of their median, and their RMSE
# is not smaller than that of a constant by this part: where nearly all labels are the same, a good judge's predictions are as well
CONSTANT_SHARE, CONSTANT_WIDTH, CONSTANT_GAIN = 0.95, 0.01, 0.02
EMPTY_SHARE = 0.5  # of the answers that may have no rationale before it is mentioned
CONSTANT_RTOL = 1e-13  # a spread below this share of the largest magnitude is float64 rounding (0.1 + 0.2 against 0.3)

_FEW = 10  # predictions without labels that may be equal by chance

_CRITERIA = (
    f"Looked for: more than {MALFORMED_SHARE:.0%} of the answers without a score, or of the rows unscored; predictions that hardly vary",
    f"; less than {1 - OUTSIDE_MASS:.0%} of the probability on the labels.",
)
CRITERIA = ", or with an RMSE above that of always answering the mean of the labels".join(_CRITERIA)
CRITERIA_WITHOUT_LABELS = "".join(_CRITERIA)


class Fault(NamedTuple):
    """
    One thing that is wrong with a judge's figures.

    Attributes:
        kind (`str`): `"malformed"`, `"unscored"`, `"constant"`, `"worse_than_mean"`, `"mass"`, `"missing_mass"`, `"no_rows"`,
            `"constant_labels"` or `"rationale"`.
        inference (`str`): `"standard"` or `"rail"`; empty if it is about both.
        severe (`bool`): Whether it makes the figures worth nothing, rather than a thing to know.
        text (`str`): What it is, a sentence without its full stop.
    """

    kind: str
    inference: str
    severe: bool
    text: str


def find_faults(
    status: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    targets: np.ndarray | None = None,
    *,
    values: Sequence[float] | None = None,
    mass: np.ndarray | None = None,
    missing_mass: np.ndarray | None = None,
    rationales: Sequence[str | None] | None = None,
    labels: Sequence[str] = (),
) -> list[Fault]:
    """
    What is wrong with a judge's answers.

    Args:
        status (`np.ndarray` of shape `(N,)`):
            Status of every row: `"ok"`, `"unscored"`, or why its completion holds no score.
        predictions (`Mapping[str, np.ndarray]`):
            Inference → predicted scores `(n,)` of the rows that count.
        targets (`np.ndarray` of shape `(n,)`, *optional*):
            Their labels, where there are some.
        values (`Sequence[float]`, *optional*):
            Values of the scale; by default its range is that of targets and predictions.
        mass, missing_mass (`np.ndarray` of shape `(N,)`, *optional*):
            Probability on the labels, and that which the engine could not assign; NaN where it is not known.
        rationales (`Sequence[str | None]`, *optional*):
            What the judge wrote before its score.

    Returns:
        `list[Fault]`: The severe ones first.
    """
    status = np.asarray(status, dtype=object)
    answered = status != UNSCORED
    faults = [*_of_the_answers(status, answered), *_of_the_mass(mass, missing_mass)]
    if targets is not None and len(targets) > 1 and is_constant(targets):
        faults.append(
            Fault(
                "constant_labels",
                "",
                False,
                f"all {len(targets)} labels are {targets[0]:g}: nothing can be told from errors here",
            )
        )
        targets = None
    for inference, scores in predictions.items():
        scores = np.asarray(scores, dtype=np.float64)
        # Where all labels are the same, a good judge's predictions do not vary either
        if targets is None and (0 < len(scores) < _FEW or any(fault.kind == "constant_labels" for fault in faults)):
            continue
        if not len(scores):
            faults.append(Fault("no_rows", inference, True, "no row counts"))
        elif len(scores) > 1:
            faults += _of_the_predictions(inference, scores, targets, values)
    if rationales is not None and answered.any():
        faults += _of_the_rationales([text for text, each in zip(rationales, answered, strict=True) if each], labels)
    return sorted(faults, key=lambda fault: not fault.severe)


def is_constant(values: np.ndarray) -> bool:
    """Whether numbers are all the same, up to float64 rounding."""
    return bool(np.ptp(values) <= CONSTANT_RTOL * np.max(np.abs(values)))


def _of_the_answers(status: np.ndarray, answered: np.ndarray) -> list[Fault]:
    faults = []
    unscored, malformed = int(np.sum(~answered)), int(np.sum(answered & (status != "ok")))
    if unscored:
        severe = unscored > UNSCORED_SHARE * len(status)
        text = (
            f"{_share(unscored, len(status))} of the rows are unscored: the engine gave no answer that can be believed"
        )
        faults.append(Fault("unscored", "", severe, text))
    if malformed > MALFORMED_SHARE * np.sum(answered):
        text = f"{_share(malformed, int(np.sum(answered)))} of the answers hold no score of the scale"
        faults.append(Fault("malformed", "", True, text))
    return faults


def _of_the_mass(mass: np.ndarray | None, missing_mass: np.ndarray | None) -> list[Fault]:
    """About RAIL alone, since the score that was decoded is there whatever else was likely."""
    if mass is None:
        return []
    mass = np.asarray(mass, dtype=np.float64)
    missing = np.zeros_like(mass) if missing_mass is None else np.asarray(missing_mass, dtype=np.float64)
    known = np.isfinite(mass)
    if not known.any():
        return []
    mean, unknown = float(mass[known].mean()), float(np.nan_to_num(missing[known]).mean())
    faults = []
    if 1 - mean - unknown > OUTSIDE_MASS:
        text = f"on average {mean:.0%} of the probability at the score is on labels, and the rest on other text"
        faults.append(Fault("mass", "rail", True, text))
    if unknown > MISSING_MASS:
        text = f"on average {unknown:.0%} of the probability at the score was not returned by the server"
        faults.append(Fault("missing_mass", "rail", True, text))
    return faults


def _of_the_predictions(
    inference: str, scores: np.ndarray, targets: np.ndarray | None, values: Sequence[float] | None
) -> list[Fault]:
    if is_constant(scores):
        return [Fault("constant", inference, True, f"all {len(scores)} predictions are {scores[0]:.4g}")]
    known = scores if targets is None else np.concatenate([scores, targets])
    span, median = np.ptp(known if values is None else np.asarray(values, dtype=np.float64)), float(np.median(scores))
    near = int(np.sum(np.abs(scores - median) <= CONSTANT_WIDTH * span))
    hardly_vary = near >= CONSTANT_SHARE * len(scores)
    text = f"{_share(near, len(scores))} of the predictions are as good as {median:.4g}"
    if targets is None:
        return [Fault("constant", inference, True, text)] if hardly_vary else []
    mean = float(np.mean(targets))
    rmse, constant = (float(np.sqrt(np.mean((each - targets) ** 2))) for each in (scores, mean))
    if hardly_vary and rmse > (1 - CONSTANT_GAIN) * constant:
        return [Fault("constant", inference, True, text)]
    if rmse > constant * (1 + 1e-9):
        text = f"RMSE {rmse:.3f} is above {constant:.3f}, that of always answering {mean:.4g}, the mean of the labels"
        return [Fault("worse_than_mean", inference, True, text)]
    return []


def _of_the_rationales(rationales: Sequence[str | None], labels: Sequence[str]) -> list[Fault]:
    """Things to know: a judge may have been trained to give its score at once."""
    empty = sum(not (text or "").strip() for text in rationales)
    faults = []
    if empty > EMPTY_SHARE * len(rationales):
        faults.append(
            Fault("rationale", "", False, f"{_share(empty, len(rationales))} of the answers have no rationale")
        )
    faults += [Fault("rationale", "", False, f"rationales: {fault}") for fault in rationale_faults(rationales, labels)]
    return faults


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({100 * count / of:.1f}%)"
