# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What a selection of rationales leaves of a data set: how many rows keep one, how far from the truth the scores are that the rationales
lead to, and both by the true score, since a model that knows some scores better than others keeps more rows of these.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from real_trl.scale import Scale

_GROUPS = 11  # labels that are told apart; of more, as many equal parts of the scale less one
_QUANTILES = (10, 25, 50, 75, 90)
_FEW = 5  # rows of a true score from which on its share says something


def rationale_yield(
    scores: Sequence[float], distances: Mapping[int, Sequence[float]], max_distance: float, scale: Scale
) -> dict[str, Any]:
    """
    Counts and distances, as JSON.

    Args:
        scores (`Sequence[float]`):
            The true score of each row.
        distances (`Mapping[int, Sequence[float]]`):
            By row, the distance of each usable rationale from it. Rows without one are not there.
        max_distance (`float`):
            Up to where the nearest rationale of a row is kept.

    Returns:
        `dict`: `kept`, `too_far` and `unusable` rows; `distance` of `all` rationales, of the `nearest` of each row, and of those that were
        `kept` (mean and percentiles); and `by_score`, the first three and the mean distance of the nearest, of the rows whose true score is
        nearest to each label, or in each part of a long scale.
    """
    nearest = {row: min(each) for row, each in distances.items()}
    fates = [
        "unusable" if row not in nearest else "kept" if nearest[row] <= max_distance else "too_far"
        for row in range(len(scores))
    ]
    names = [_group(score, scale) for score in scores]
    by_score = []
    for name in sorted(set(names)):
        rows = [row for row, each in enumerate(names) if each == name]
        of_rows = [nearest[row] for row in rows if row in nearest]
        counts = Counter(fates[row] for row in rows)
        by_score.append(
            {
                "score": name[1],
                "rows": len(rows),
                **{fate: counts[fate] for fate in ("kept", "too_far", "unusable")},
                "nearest": float(np.mean(of_rows)) if of_rows else None,
            }
        )
    total = Counter(fates)
    return {
        **{fate: total[fate] for fate in ("kept", "too_far", "unusable")},
        "distance": {
            "all": _spread([distance for each in distances.values() for distance in each]),
            "nearest": _spread(list(nearest.values())),
            "kept": _spread([distance for distance in nearest.values() if distance <= max_distance]),
        },
        "by_score": by_score,
    }


def yield_lines(selection: Mapping[str, Any]) -> Iterator[str]:
    """What [`rationale_yield`] gives, line by line; at the end, true scores of which far fewer rows are kept than of others."""
    rows = selection["kept"] + selection["too_far"] + selection["unusable"]
    yield (
        f"kept {selection['kept']} of {rows} rows ({selection['kept'] / rows:.0%}); of {selection['too_far']} every rationale is too far, "
        f"{selection['unusable']} have no usable one"
    )
    yield f"{'|expected - true score|':<24}" + "".join(
        f"{name:>9}" for name in ("number", "mean", *(f"{q}%" for q in _QUANTILES))
    )
    for name, title in (("all", "all rationales"), ("nearest", "nearest of each row"), ("kept", "kept")):
        found = selection["distance"][name]
        values = [found["number"], *(found[key] for key in ("mean", *map(str, _QUANTILES)))] if found else [0]
        yield f"{title:<24}" + "".join(
            f"{value:>9}" if isinstance(value, int) else f"{value:>9.3f}" for value in values
        )
    yield f"{'true score':<24}" + "".join(
        f"{name:>9}" for name in ("rows", "kept", "", "too far", "unusable", "nearest")
    )
    for group in selection["by_score"]:
        share = f"{group['kept'] / group['rows']:.0%}"
        mean = "" if group["nearest"] is None else f"{group['nearest']:.3f}"
        cells = (group["rows"], group["kept"], share, group["too_far"], group["unusable"], mean)
        yield f"{group['score']:<24}" + "".join(f"{cell:>9}" for cell in cells)
    rare = [
        f"{group['score']} ({group['kept']} of {group['rows']})"
        for group in selection["by_score"]
        if group["rows"] >= _FEW and group["kept"] / group["rows"] < 0.5 * selection["kept"] / rows
    ]
    if rare:
        yield (
            f"warning: of rows with the true scores {', '.join(rare)} less than half as many are kept as of all rows. A judge that is "
            "trained on these has seen few of them: raise num_samples or max_distance, or set show_score."
        )


def _group(score: float, scale: Scale) -> tuple[float, str]:
    """What the rows of a true score are counted under, with what it is sorted by."""
    if len(scale.labels) <= _GROUPS:
        label = scale.nearest_label(score)
        return scale.value_of(label), label
    edges = np.linspace(scale.low, scale.high, _GROUPS)
    part = int(np.clip(np.searchsorted(edges, score, side="right") - 1, 0, _GROUPS - 2))
    return part, f"{edges[part]:g} to {edges[part + 1]:g}"


def _spread(distances: Sequence[float]) -> dict[str, float] | None:
    if not distances:
        return None
    quantiles = np.percentile(distances, _QUANTILES)
    return {
        "number": len(distances),
        "mean": float(np.mean(distances)),
        **{str(q): float(value) for q, value in zip(_QUANTILES, quantiles, strict=True)},
    }
