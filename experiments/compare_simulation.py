# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Do the intervals of `real-trl compare` hold what they say? Systems with known mean quality, scored by a judge that favours one of them.

    python -m experiments.compare_simulation

Draws 1,000 data sets of each design, of 500 questions that three systems answer, and counts how often the 95% intervals of the three differences
hold the true one: by the judge alone, by people alone, and by both. People score 180 of the 1,500 answers, and fewer. Writes
`experiments/results/compare.json` and `docs/compare.png`; about two minutes of one core.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from real_trl.decisions.inference import ScoredRows, humans_alone, judge_alone, prediction_powered
from real_trl.decisions.labels import chances, draw, labelled_probability
from real_trl.report.panels import COLORS, MARKERS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUALITY, BIAS = np.array([3.0, 3.2, 3.25]), np.array([0.5, -0.2, 0.1])
SCALE = np.arange(1, 6)
QUESTION, ANSWER, PEOPLE = (
    0.5,
    0.7,
    0.3,
)  # standard deviations: of questions, of answers to one, of human scores of one answer
DOUBT = (0.2, 1.0)  # standard deviation of the judge's error, between these for each answer
WAYS = {"judge": judge_alone, "people": humans_alone, "both": prediction_powered}
TITLES = {"judge": "judge alone", "people": "people alone", "both": "compare: judge and people"}
DIFFERENCES = [np.eye(3)[a] - np.eye(3)[b] for a, b in combinations(range(3), 2)]
_SD = float(np.sqrt(QUESTION**2 + ANSWER**2 + PEOPLE**2))
_CUT = np.concatenate([[-np.inf], SCALE[:-1] + 0.5, [np.inf]])
TRUTH = (
    np.diff(stats.norm.cdf(_CUT[None, :], QUALITY[:, None], _SD), axis=1) @ SCALE
)  # of scores rounded to 1, …, 5: exact
BAND = (0.94, 0.96)
_LEFT = 88  # where the axis of the coverage begins: what is below stands there in words


@dataclass(frozen=True)
class Design:
    """How the rows with a human score are chosen: `labels` of them at random (or whole questions), then `more` by `label_next`."""

    labels: int = 180
    more: int = 0
    whole_questions: bool = False
    informative: bool = True


DESIGNS = {
    "180 answers at random": Design(),
    "45 answers at random": Design(labels=45),
    "60 questions, all answers": Design(whole_questions=True),
    "90 at random, 90 by label_next": Design(labels=90, more=90),
    "180, judge knows nothing": Design(informative=False),
}


def make_rows(design: Design, random: np.random.Generator, questions: int = 500) -> ScoredRows:
    """One data set."""
    systems, asked = np.tile(np.arange(3), questions), np.repeat(np.arange(questions), 3)
    n = len(systems)
    quality = QUALITY[systems] + QUESTION * random.normal(size=questions)[asked] + ANSWER * random.normal(size=n)
    people = np.clip(np.round(quality + PEOPLE * random.normal(size=n)), 1, 5)
    doubt = random.uniform(*DOUBT, n)
    seen = quality if design.informative else 3 + random.normal(size=n)
    judge = np.clip(3 + 0.8 * (seen - 3) + BIAS[systems] + doubt * random.normal(size=n), 1, 5)
    if design.whole_questions:
        chosen = np.flatnonzero(np.isin(asked, random.choice(questions, design.labels // 3, replace=False)))
    else:
        chosen = random.choice(n, design.labels, replace=False)
    human = np.full(n, np.nan)
    human[chosen] = people[chosen]
    rows = ScoredRows(systems, asked, judge, human)
    if design.more:
        chance = chances(rows, doubt, design.more)
        following = draw(rows, chance, design.more, int(random.integers(2**31)))
        probability = labelled_probability(rows, chance)
        human[following] = people[following]
        rows = ScoredRows(systems, asked, judge, human, probability)
    return rows


def simulate(design: Design, repetitions: int, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """Way → `coverage`, mean `width` of the 95% interval, and `labels` (that people alone would need for it), of each difference."""
    true = np.array([each @ TRUTH for each in DIFFERENCES])
    covers = {way: np.zeros((repetitions, len(true)), dtype=bool) for way in WAYS}
    widths, errors = ({way: np.zeros((repetitions, len(true))) for way in WAYS} for _ in range(2))
    for repetition in range(repetitions):
        rows = make_rows(design, np.random.default_rng([seed, repetition]))
        for way, estimate in WAYS.items():
            means = estimate(rows)
            for index, coefficients in enumerate(DIFFERENCES):
                found = means.contrast(coefficients)
                low, high = found.interval(0.95)
                covers[way][repetition, index] = low <= true[index] <= high
                widths[way][repetition, index], errors[way][repetition, index] = high - low, found.error
    squares = {way: np.mean(each**2, axis=0) for way, each in errors.items()}
    number = design.labels + design.more
    return {
        way: {
            "coverage": covers[way].mean(axis=0).tolist(),
            "width": widths[way].mean(axis=0).tolist(),
            "labels": (number * squares["people"] / squares[way]).tolist(),
        }
        for way in WAYS
    }


def picture(results: dict[str, Any], repetitions: int) -> "Figure":
    """Coverage of every difference in every design, and the width of the intervals."""
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2, sharey=True)
    for index, way in enumerate(WAYS):
        style = {"color": COLORS[index], "marker": MARKERS[index], "linestyle": "", "markersize": 5}
        for place, design in enumerate(DESIGNS):
            heights = -place - 0.2 * (index - 1) + np.array([-0.06, 0, 0.06])
            label = {"label": TITLES[way]} if place == 0 else {}
            coverage = 100 * np.array(results[design][way]["coverage"])
            left.plot(np.maximum(coverage, _LEFT + 0.3), heights, **style, **label)
            if coverage.max() < _LEFT:
                left.annotate(
                    f"◂ {coverage.min():.0f} to {coverage.max():.0f}%", (_LEFT + 0.7, -place + 0.13), fontsize="small"
                )
            right.plot(results[design][way]["width"], heights, **style)
    error = 1.96 * np.sqrt(0.95 * 0.05 / repetitions)
    left.axvspan(100 * BAND[0], 100 * BAND[1], color="0.85", zorder=0)
    left.axvline(95, color="0.4", linewidth=1)
    left.set_xlabel(f"coverage of 95% intervals, % (grey: 94-96; sampling error ± {100 * error:.1f})")
    right.set_xlabel("mean width of the interval of a difference")
    left.set_yticks([-place for place in range(len(DESIGNS))], list(DESIGNS))
    for axes in (left, right):
        axes.grid(axis="x", alpha=0.25)
    left.set_xlim(_LEFT, 100)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize="small")
    right.set_xlim(left=0)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Run the simulation; `argv` defaults to the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("experiments/results/compare.json"))
    parser.add_argument("--draw", action="store_true", help="draw the figure again, of the stored results")
    parser.add_argument("--figure", type=Path, default=Path("docs/compare.png"))
    args = parser.parse_args(argv)
    if args.draw:
        stored = json.loads(args.output.read_text(encoding="utf-8"))
        picture(stored["designs"], stored["repetitions"]).savefig(args.figure, dpi=120)
        return
    results = {name: simulate(design, args.repetitions, args.seed) for name, design in DESIGNS.items()}
    record = {"repetitions": args.repetitions, "seed": args.seed, "designs": results}
    args.output.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    picture(results, args.repetitions).savefig(args.figure, dpi=120)
    for name, ways in results.items():
        for way, each in ways.items():
            shown = ", ".join(f"{100 * share:.1f}" for share in each["coverage"])
            print(
                f"{name:32} {TITLES[way]:26} coverage {shown}   pooled {100 * np.mean(each['coverage']):.2f}   "
                f"width {np.mean(each['width']):.2f}   worth {np.mean(each['labels']):.0f} labels"
            )


if __name__ == "__main__":
    main()
