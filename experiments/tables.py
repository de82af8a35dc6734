# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/results/, in Markdown. Correlations times 100; intervals as of [`~experiments.analysis.Figure`]."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis import Figure, Reading, Results
from experiments.findings import FAMILY, PAPER, QUESTIONS, Finding, planned_seeds

METHODS = {
    "base": "base",
    "sft": "SFT",
    "raft": "RAFT",
    "tract": "TRACT",
    "standard_rl": "Standard RL",
    "jepo": "JEPO",
    "jepo_multi": "JEPO, multi-sample",
    "real": "REAL",
    "real_released": "REAL, released code",
}
# Run → what differs from the run of its heading
ABLATIONS = {
    "real": {
        "real_lambda_0": "λ = 0",
        "real_lambda_5": "λ = 5",
        "real_lambda_10": "λ = 10",
        "real_beta_0": "β = 0",
        "real_beta_1": "β = 1",
        "real_k_4": "K = 4, 24 prompts a step",
        "real_k_4_equal": "K = 4, 48 prompts a step",
        "real_k_16_equal": "K = 16, 12 prompts a step",
        "real_from_base": "from base",
        "real_from_tract": "from TRACT",
        "real_t_0.8": "T = 0.8, in training and tests",
        "real_unstandardised": "no σ, no clip, no gradient clipping",
        "real_filter": "filter 0 < acc < 1",
        "real_lr_4e-4": "learning rate 4e-4",
        "real_long": "K = 16, 80 steps, rate 1e-4",
        "real_mixed": "a third mastered, a third mislabelled",
        "real_mixed_filter": "the same, filter 0 < acc < 1",
        "real_cut_penalize": "half of the answers cut off, penalize",
        "real_cut_force": "the same, force",
        "real_cut_ignore": "the same, ignore",
        "real_noise_0.5": "rater noise 0.5",
        "real_exact_labels": "exact labels, with halves",
        "real_150_prompts": "150 prompts",
    },
    "standard_rl": {
        "standard_rl_lr_1e-4": "learning rate 1e-4",
        "standard_rl_lr_4e-4": "learning rate 4e-4",
        "standard_rl_long": "K = 16, 80 steps, rate 1e-4",
        "standard_rl_mixed": "a third mastered, a third mislabelled",
        "standard_rl_mixed_filter": "the same, filter 0 < acc < 1",
        "standard_rl_noise_0.5": "rater noise 0.5",
        "standard_rl_150_prompts": "150 prompts",
    },
}
# The methods graded from 0 to 100
SCALE = {
    "base_0_100": "base",
    "raft_0_100": "RAFT",
    "standard_rl_0_100": "Standard RL",
    "jepo_0_100": "JEPO",
    "real_0_100": "REAL",
}

# Of experiments/family.yaml
FAMILY_METHODS = {
    "raft": "RAFT, where all of them start",
    "jepo": "JEPO (hard labels)",
    "soft_labels": "soft labels, σ = ½",
    "number_token": "number token loss",
    "listwise": "listwise",
    "pairs": "REAL from pairs",
    "real": "REAL",
}

# Of experiments/calibrate_overconfident.py
CALIBRATED = {
    ("unseen_questions", "zero_shot"): "short answers, as it ships",
    ("similarity", "raft"): "sentence similarity, RAFT",
}
# Of experiments/compare_simulation.py
COMPARE = {
    "180 answers at random": "180 answers at random",
    "45 answers at random": "45 answers at random",
    "60 questions, all answers": "all answers to 60 questions (180)",
    "90 at random, 90 by label_next": "90 at random, then 90 by `--label_next`",
    "180, judge knows nothing": "180 at random, a judge that knows nothing",
}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are text."""
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def with_interval(figure: Figure, factor: float = 100.0, decimals: int = 1, sign: bool = False) -> str:
    """`92.6 [90.1, 95.1]`."""
    return estimate(figure.mean, (figure.low, figure.high), factor, decimals, sign)


def estimate(
    value: float, interval: Sequence[float], factor: float = 100.0, decimals: int = 1, sign: bool = False
) -> str:
    """A value and its interval, `[low, high]`, as [`with_interval`] writes them."""
    mark = "+" if sign else ""
    low, high = (f"{factor * bound:{mark}.{decimals}f}" for bound in interval)
    return f"{factor * value:{mark}.{decimals}f} [{low}, {high}]"


def methods(results: Results) -> str:
    """Table 2 in miniature, all methods on the same seeds."""
    header = [
        "method",
        "seeds",
        "ID sampled r",
        "ID RAIL r",
        "greedy r",
        "sampled r",
        "greedy RAIL r",
        "RAIL r",
        "average of 10, r",
    ]
    header += ["RAIL ρ", "RAIL τ", "RAIL RMSE", "RAIL MAE"]
    rows = []
    for run, title in METHODS.items():
        if not results.has(run):
            continue
        seeds = planned_seeds(results, run)
        cells = [str(len(seeds))]
        for inference in ("sampled", "RAIL"):
            cells.append(with_interval(results.figure(Reading(run, inference, split="id"), seeds)))
        for inference in ("greedy", "sampled", "greedy RAIL", "RAIL", "average of 10"):
            cells.append(with_interval(results.figure(Reading(run, inference), seeds)))
        for metric in ("spearman", "kendall"):
            cells.append(f"{100 * results.per_seed(Reading(run, metric=metric), seeds).mean():.1f}")
        for metric in ("rmse", "mae"):
            cells.append(f"{results.per_seed(Reading(run, metric=metric), seeds).mean():.3f}")
        rows.append([f"**{title}**" if run == "real" else title, *cells])
    return markdown(header, rows)


def differences(results: Results) -> str:
    """REAL less every other method: OOD Pearson under RAIL, over the planned seeds and in each of all."""
    seeds = results.seeds("real")
    rows = []
    for run, title in METHODS.items():
        if run == "real" or not results.has("real", run):
            continue
        figure = results.difference(Reading("real"), Reading(run), planned_seeds(results, "real", run))
        every = results.difference(Reading("real"), Reading(run))
        by_seed = dict(zip(results.seeds("real", run), every.per_seed, strict=True))
        cells = [f"{100 * by_seed[seed]:+.1f}" if seed in by_seed else "" for seed in seeds]
        rows.append([f"REAL − {title}", with_interval(figure, sign=True), *cells])
    return markdown(["OOD RAIL r", "planned seeds [95% interval]", *(f"seed {seed}" for seed in seeds)], rows)


def average_of_n(results: Results) -> str:
    """Table 3: OOD Pearson of the mean of ŷ over N rationales."""
    counts = (1, 2, 5, 10)
    rows = []
    for run, title in METHODS.items():
        if results.has(run):
            readings = [Reading(run, "RAIL" if n == 1 else f"average of {n}") for n in counts]
            rows.append(
                [title, *(with_interval(results.figure(reading, planned_seeds(results, run))) for reading in readings)]
            )
    return markdown(["OOD r", *(f"N = {n}" for n in counts)], rows)


def ablations(results: Results) -> str:
    """Every other run: OOD figures under RAIL, and the difference to the run that it is like."""
    header = ["run", "seeds", "OOD RAIL r", "difference", "greedy RAIL r", "RAIL ρ", "RAIL RMSE", "ID RAIL r"]
    rows = []
    for parent, runs_of in ABLATIONS.items():
        for run, title in {parent: "as in its recipe", **runs_of}.items():
            if not results.has(run, parent):
                continue
            seeds = planned_seeds(results, run, parent)
            difference = "–"
            if run != parent:
                difference = with_interval(results.difference(Reading(run), Reading(parent), seeds), sign=True)
            rows.append(
                [
                    f"{METHODS[parent]}: {title}",
                    str(len(seeds)),
                    with_interval(results.figure(Reading(run), seeds)),
                    difference,
                    f"{100 * results.per_seed(Reading(run, 'greedy RAIL'), seeds).mean():.1f}",
                    f"{100 * results.per_seed(Reading(run, metric='spearman'), seeds).mean():.1f}",
                    f"{results.per_seed(Reading(run, metric='rmse'), seeds).mean():.3f}",
                    f"{100 * results.per_seed(Reading(run, split='id'), seeds).mean():.1f}",
                ]
            )
    return markdown(header, rows)


def scale(results: Results) -> str:
    """The methods on labels from 0 to 100, out of domain unless ID is said."""
    header = ["method", "seeds", "ID RAIL r", "sampled r", "RAIL r", "sampled RMSE", "RAIL RMSE", "RAIL MAE"]
    rows = []
    for run, title in SCALE.items():
        if results.has(run):
            readings = [Reading(run, split="id"), Reading(run, "sampled"), Reading(run)]
            errors = [Reading(run, "sampled", metric="rmse"), Reading(run, metric="rmse"), Reading(run, metric="mae")]
            cells = [with_interval(results.figure(reading)) for reading in readings]
            cells += [f"{results.per_seed(reading).mean():.2f}" for reading in errors]
            rows.append([title, str(len(results.seeds(run))), *cells])
    return markdown(header, rows)


def family(results: Results) -> str:
    """More points of the family, out of domain unless ID is said."""
    header = ["method", "seeds", "ID RAIL r", "greedy r", "sampled r", "RAIL r", "RAIL ρ", "RAIL RMSE"]
    rows = []
    for run, title in FAMILY_METHODS.items():
        if not results.has(run):
            continue
        readings = [Reading(run, split="id"), Reading(run, "greedy"), Reading(run, "sampled"), Reading(run)]
        cells = [with_interval(results.figure(reading)) for reading in readings]
        cells.append(f"{100 * results.per_seed(Reading(run, metric='spearman')).mean():.1f}")
        cells.append(f"{results.per_seed(Reading(run, metric='rmse')).mean():.3f}")
        rows.append([title, str(len(results.seeds(run))), *cells])
    return markdown(header, rows)


def family_questions(results: Results) -> str:
    """What was asked before it was run."""
    return _verdicts(results, FAMILY, ["question", "difference, r × 100", "seeds", ""])


def findings(results: Results) -> str:
    """What the paper claims: reproduced, not shown, or the opposite, and whether the interval holds its size."""
    return _verdicts(
        results,
        PAPER,
        ["the paper's finding", "where", "paper", "here: OOD, RAIL, r × 100", "seeds", "", "the paper's size"],
    )


def questions(results: Results) -> str:
    """What it leaves open."""
    return _verdicts(results, QUESTIONS, ["question", "difference, r × 100", "seeds", ""])


def compare(record: Mapping[str, Any]) -> str:
    """What `experiments.compare_simulation` has stored: of every design the means over the three differences."""
    header = ["people score", "judge alone covers", "people alone", "`compare`", "width: people alone", "`compare`"]
    rows = []
    for name, title in COMPARE.items():
        means = {
            way: {key: sum(values) / len(values) for key, values in each.items()}
            for way, each in record["designs"][name].items()
        }
        row = [title, *(f"{100 * means[way]['coverage']:.1f}%" for way in ("judge", "people", "both"))]
        row += [f"{means[way]['width']:.2f}" for way in ("people", "both")]
        rows.append([*row, f"{means['both']['labels']:.0f}"])
    return markdown([*header, "labels it is worth"], rows)


def calibrate(record: Mapping[str, Any]) -> str:
    """What `experiments.calibrate_overconfident` has stored: of every judge what is shown on questions left out, and on halves."""
    header = ["", "rows", "CRPS before", "after", "RMSE before", "after", "inside, %", "width"]
    rows = []
    for judge in record["judges"]:
        title = f"{CALIBRATED[judge['task'], judge['method']]}: left out"
        cells = [f"{each:.3f}" for name in ("crps", "rmse") for each in judge[name]]
        inside = estimate(judge["coverage"], judge["interval"])
        rows.append([title, str(judge["rows"]), *cells, inside, f"{judge['width']:.2f}"])
        halves = judge["halves"]
        names = ("crps before", "crps after", "rmse before", "rmse after")
        cells = [f"{halves[name]['mean']:.3f}" for name in names]
        inside = estimate(halves["coverage"]["mean"], (halves["coverage"]["min"], halves["coverage"]["max"]))
        rows.append(["… halves", "", *cells, inside, f"{halves['width']['mean']:.2f}"])
        if worst := halves.get("lowest of a group"):
            least = estimate(worst["mean"], (worst["min"], worst["max"]))
            rows.append(["… halves, the worst assignment", "", *[""] * 4, least, ""])
    return markdown(header, rows)


def runs(results: Results, run: Mapping[str, Any]) -> str:
    """What was run, for how long, with which versions."""
    seconds = {name: entry["seconds"].values() for name, entry in run["runs"].items()}
    total = sum(sum(each.values()) for times in seconds.values() for each in times)
    count = sum(len(times) for times in seconds.values())
    versions = ", ".join(f"{name} {' and '.join(found)}" for name, found in sorted(run["versions"].items()))
    return f"{count} runs, {total / 3600:.1f} hours of one core together, with {versions}."


def _verdicts(results: Results, declared: Sequence[Finding], header: Sequence[str]) -> str:
    rows, of_paper = [], "where" in header
    for finding in declared:
        figure = finding.measured(results)
        claimed = "" if finding.paper is None else f"{finding.paper:+.1f}"
        source = [finding.source, claimed] if of_paper else []
        if figure is None:
            rows.append([finding.claim, *source, "not run", *[""] * (len(header) - 2 - len(source))])
            continue
        decimals = 1 if finding.factor == 100 else 2
        cell = with_interval(figure, finding.factor, decimals, sign=True)
        row = [finding.claim, *source, cell, str(len(figure.per_seed)), finding.verdict(figure)]
        if of_paper:
            low, high = finding.factor * figure.low, finding.factor * figure.high
            row.append("" if finding.paper is None else "inside" if low <= finding.paper <= high else "outside")
        rows.append(row)
    return markdown(header, rows, left=2 if of_paper else 1)
