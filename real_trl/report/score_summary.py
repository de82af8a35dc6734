# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the scores of a file come to: their mean and histogram, the rows without one and why, and whether they are worth anything."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from real_trl.data.files import read_file
from real_trl.evaluation.judge_calibration import Calibration
from real_trl.evaluation.unscored import UNSCORED, unscored_reasons
from real_trl.evaluation.verdict import find_faults
from real_trl.judge_config import JudgeConfig
from real_trl.report.calibration_text import calibration_text
from real_trl.report.notation import EXPECTATIONS
from real_trl.report.terminal_tables import verdict_texts
from real_trl.report.verdict_text import verdict_of_scores
from real_trl.scale import Scale
from real_trl.text.terminal import CleanConsole

_BARS = 20  # labels that get a bar each; of more, as many equal parts of the scale
_WIDTH = 40  # characters of the longest bar
_SHOWN = 5  # reasons why rows are unscored


def print_summary(path: Path, config: JudgeConfig, prefixes: Sequence[str] = ("",)) -> str:
    """What the scores in a file come to, and last whether they are worth anything; of several sets of columns, each. Returns its text."""
    rows, scale = list(read_file(path).iterate()), Scale(tuple(config.score_labels), tuple(config.score_values))
    lines = [Text(f"{len(rows)} rows scored: {path}")]
    known: dict[str, Any] = {"normalized": config.normalize_expectation, "direct": not config.rationale}
    known["calibration"] = config.read_calibration()
    for prefix in prefixes:
        if len(prefixes) > 1:
            lines.append(Text(f"{prefix.removesuffix('_')}:", style="bold"))
        lines += summary(rows, scale, prefix=prefix, **known)
    console = CleanConsole()
    for line in lines:
        console.print(line, soft_wrap=True)
    return "\n".join(line.plain for line in lines)


def summary(
    rows: Sequence[Mapping[str, Any]],
    scale: Scale,
    *,
    normalized: bool,
    prefix: str = "",
    direct: bool = False,
    calibration: Calibration | None = None,
) -> Iterator[Text]:
    """
    The summary, line by line.

    Args:
        rows (`Sequence[Mapping]`):
            With the columns of [`~real_trl.runs.scored_file.SCORES`].
        normalized (`bool`):
            Whether the expected score is divided by the mass on the labels.
        prefix (`str`, *optional*):
            What the names of these columns begin with.
        direct (`bool`, *optional*, defaults to `False`):
            Whether the judge writes no rationales.
        calibration ([`Calibration`], *optional*):
            That of the judge, if it has one.
    """
    columns = {name: [row.get(prefix + name) for row in rows] for name in ("status", "error", "rationale")}
    numbers = {
        name: _numbers(rows, prefix + name) for name in ("expected_score", "sampled_score", "mass", "missing_mass")
    }
    status = np.asarray(columns["status"], dtype=object)
    for reason, count in list(unscored_reasons(status, columns["error"]).items())[:_SHOWN]:
        yield Text(f"Unscored, {count} rows: {reason}", style="red")
    malformed = Counter(status[(status != "ok") & (status != UNSCORED)])
    if malformed:
        yield Text(
            f"Answers without a score: {', '.join(f'{count} {name}' for name, count in malformed.most_common())}."
        )
    expected = numbers["expected_score"]
    known = expected[np.isfinite(expected)]
    if len(known):
        yield Text(
            f"expected_score of {len(known)} of {len(rows)} rows: mean {known.mean():.3f}, median {np.median(known):.3f}, standard deviation "
            f"{known.std():.3f}, from {known.min():.3f} to {known.max():.3f}"
        )
        yield from histogram(known, scale)
        said = [f"{EXPECTATIONS[normalized]}."] if calibration is None else calibration_text(calibration)
        yield from (Text(line, style="dim") for line in said)
        if calibration and (left := sum(not row.get(f"{prefix}calibrated") for row in rows)):
            yield Text(
                f"{left} of {len(rows)} rows are not calibrated, since not every probability is known, and have no interval."
            )
    predictions = {"standard": numbers["sampled_score"], "rail": expected}
    faults = find_faults(
        status,
        {name: scores[np.isfinite(scores)] for name, scores in predictions.items()},
        values=scale.values,
        mass=numbers["mass"],
        missing_mass=numbers["missing_mass"],
        rationales=None if direct else columns["rationale"],
        labels=scale.labels,
    )
    yield from verdict_texts(verdict_of_scores(faults))


def histogram(scores: np.ndarray, scale: Scale) -> Iterator[Text]:
    """Bars of text: the scores that are nearest to each label; on a scale of many labels, those in each part of it."""
    if len(scale.labels) <= _BARS:
        order = sorted(range(len(scale.labels)), key=lambda index: scale.values[index])
        nearest = Counter(scale.nearest_label(score) for score in scores)
        bins = {scale.labels[index]: nearest[scale.labels[index]] for index in order}
    else:
        low, high = min(scale.values), max(scale.values)
        counts, edges = np.histogram(np.clip(scores, low, high), bins=10, range=(low, high))
        bins = {f"{a:g} to {b:g}": int(n) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)}
    wide, most = max(map(len, bins)), max(bins.values())
    for name, count in bins.items():
        bar = "█" * -(-_WIDTH * count // most)
        yield Text(f"  {name:>{wide}} {bar:<{_WIDTH}} {count:>5} {count / len(scores):4.0%}")


def _numbers(rows: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([np.nan if row.get(name) in (None, "") else row[name] for row in rows], dtype=np.float64)
