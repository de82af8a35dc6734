# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Whether people and the judge score in the same unit, and human scores that look like slips."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from real_trl.data.files import Source
from real_trl.text.shown import first_few

_FEW = 0.1  # of the human scores, at most: slips; more are another scale
_FAR = 0.25  # of the length of the scale beyond its end: a warning


@dataclass(frozen=True)
class Units:
    """
    Attributes:
        same (`bool`): Whether people's and the judge's scores look as if they were on one scale.
        warnings, notes (`list[str]`): What to say about it.
    """

    same: bool = True
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare_units(source: Source, human: np.ndarray, judge: np.ndarray, values: Sequence[float] = ()) -> Units:
    """
    Compare the range of human scores with the judge's scale.

    Where the scale is not known (no distributions), with that of ŷ, which is narrower: then only scores beyond twice the largest ŷ, or as far below
    the smallest, are outside, and another unit is also one where either's median is outside of the other's range. 1 to 10 beside 1 to 5 is not seen then.

    Args:
        human, judge (`np.ndarray` of shape `(rows of the file,)`): NaN where there is none.
        values (`Sequence[float]`, *optional*): The judge's labels.
    """
    given, seen = human[np.isfinite(human)], judge[np.isfinite(judge)]
    if not len(given):
        return Units()
    low, high = (min(values), max(values)) if values else (seen.min(), seen.max())
    reach = 0.0 if values else np.abs(seen).max()
    outside = (human < low - reach) | (human > high + reach)
    apart = not values and all(
        not x.min() <= np.median(y) <= x.max() for x, y in ((given, seen), (seen, given)) if len(x)
    )
    if apart or outside.sum() > max(1, _FEW * len(given)) or 2 * outside.sum() > len(given):
        text = (
            f"Human scores go from {given.min():g} to {given.max():g}, the judge's from {low:.3g} to {high:.3g}: what is estimated is in the unit of "
            "people; the judge alone is not, and its bias cannot be told."
        )
        return Units(False, [text])
    if not outside.any():
        return Units()
    said = first_few([f"{human[index]:g} in {source.where(index)}" for index in np.flatnonzero(outside).tolist()])
    scale = f"the judge's scale, {low:g} to {high:g}" if values else f"what the judge gave, {low:.3g} to {high:.3g}"
    count = f"{outside.sum()} of {len(given)} human scores {'is' if outside.sum() == 1 else 'are'}"
    if (human > high + _FAR * (high - low)).any() or (human < low - _FAR * (high - low)).any():
        return Units(
            True, [f"{count} far outside of {scale}: {said}. They count as they are; correct them if they are slips."]
        )
    return Units(True, [], [f"{count} outside of {scale}: {said}."])
