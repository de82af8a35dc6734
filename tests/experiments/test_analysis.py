# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Figures, differences and intervals of a grid's results; RESULTS.md and docs/results/ hold what the stored ones give."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments import figures, tables
from experiments.analysis import Reading, Results
from experiments.findings import PAPER, QUESTIONS
from experiments.real_scores_tables import RealScores
from experiments.report import blocks, filled, pages
from experiments.summary import real_scores_state, real_scores_verdicts

ROOT = Path(__file__).parents[2]
STORED = ROOT / "experiments" / "results"


def stored(tmp_path, seeds=5, rows=60, samples=4, better=0.6, seed=0):
    """Two runs on the same rows: ŷ is the target with noise, that of `good` smaller."""
    rng = np.random.default_rng(seed)
    target, lines = rng.uniform(1, 5, rows), []
    for run, noise in (("good", better), ("bad", 1.0)):
        for s in range(seeds):
            for sample in range(-1, samples):
                expected = target + noise * rng.normal(size=rows)
                columns = {"row": range(rows), "target": target, "expected": expected, "decoded": expected.round()}
                columns |= {"tokens": 10 + s, "entropy": 0.5, "run": run, "seed": s, "split": "ood", "sample": sample}
                lines.append(pd.DataFrame(columns))
    pd.concat(lines).sample(frac=1, random_state=0).to_parquet(tmp_path / "predictions.parquet")
    pd.DataFrame({"run": [], "seed": []}).to_parquet(tmp_path / "training.parquet")
    return Results(tmp_path), pd.concat(lines)


def test_figures_are_those_of_scipy(tmp_path):
    results, frame = stored(tmp_path)
    of_seed = frame.query("run == 'good' and seed == 2")
    sampled = [
        stats.pearsonr(part["expected"], part["target"])[0]
        for _, part in of_seed.query("sample >= 0").groupby("sample")
    ]
    assert results.per_seed(Reading("good"))[2] == pytest.approx(np.mean(sampled))
    greedy = of_seed.query("sample == -1")
    assert results.per_seed(Reading("good", "greedy"))[2] == pytest.approx(
        stats.pearsonr(greedy["decoded"], greedy["target"])[0]
    )
    tau = [
        stats.kendalltau(part["expected"], part["target"])[0]
        for _, part in of_seed.query("sample >= 0").groupby("sample")
    ]
    assert results.per_seed(Reading("good", metric="kendall"))[2] == pytest.approx(np.mean(tau))
    assert results.per_seed(Reading("good", "tokens", metric="mean")) == pytest.approx([10, 11, 12, 13, 14])


def test_average_of_n_is_the_mean_over_disjoint_samples(tmp_path):
    results, frame = stored(tmp_path)
    part = frame.query("run == 'bad' and seed == 0 and sample >= 0")
    wide = part.pivot_table(index="row", columns="sample", values="expected")
    target = part.query("sample == 0").set_index("row")["target"]
    by_hand = [stats.pearsonr(wide[[a, b]].mean(axis=1), target)[0] for a, b in ((0, 1), (2, 3))]
    assert results.per_seed(Reading("bad", "average of 2"))[0] == pytest.approx(np.mean(by_hand))
    with pytest.raises(ValueError, match="the run has 4 samples"):
        results.per_seed(Reading("bad", "average of 10"))


def test_difference_of_a_run_to_itself_is_nothing(tmp_path):
    results, _ = stored(tmp_path)
    same = results.difference(Reading("good"), Reading("good"))
    assert same.mean == same.low == same.high == 0


def test_only_seeds_of_both_runs_are_compared(tmp_path):
    _, frame = stored(tmp_path)
    frame[(frame["run"] == "bad") | (frame["seed"] > 1)].to_parquet(tmp_path / "predictions.parquet")
    results = Results(tmp_path)
    assert results.seeds("good", "bad") == [2, 3, 4]
    assert len(results.difference(Reading("good"), Reading("bad")).per_seed) == 3
    assert not results.has("good", "nobody")


@pytest.mark.slow
def test_intervals_cover_the_truth(tmp_path):
    """Over 60 draws of seeds and rows with r known, a nominal 95% interval covers it often enough, and is not idle."""
    truth = np.sqrt(16 / 12) / np.sqrt(16 / 12 + 0.6**2) - np.sqrt(16 / 12) / np.sqrt(16 / 12 + 1)
    covered, widths = 0, []
    for draw in range(60):
        results, _ = stored(tmp_path, rows=40, samples=1, seed=draw)
        figure = results.difference(Reading("good"), Reading("bad"))
        covered += figure.low <= truth <= figure.high
        widths.append(figure.high - figure.low)
    assert covered >= 51  # less has a chance of 1 in 1,000 at 95%
    assert np.median(widths) < 0.3


def test_blocks_are_filled_and_missed(tmp_path):
    text = "a\n<!-- results: x -->\nold\n<!-- end -->\nb\n"
    one, two = Path("one.md"), Path("two.md")
    new = "a\n<!-- results: x -->\nnew\n<!-- end -->\nb\n"
    assert filled({one: text, two: text}, {"x": "new"}) == {one: new, two: new}
    for wrong in ({"y": "new"}, {"x": "new", "y": "new"}, {}):
        with pytest.raises(ValueError, match="places for"):
            filled({one: text}, wrong)


def test_verdicts():
    finding, question = PAPER[0], QUESTIONS[0]
    figure = type("F", (), {"low": 0.1, "high": 0.2})
    below = type("F", (), {"low": -0.2, "high": -0.1})
    around = type("F", (), {"low": -0.2, "high": 0.1})
    assert [finding.verdict(each) for each in (figure, below, around)] == ["reproduced", "opposite", "not shown"]
    assert question.verdict(figure) == "yes"


def test_what_stands_side_by_side_is_of_the_planned_seeds():
    results = Results(STORED)
    assert results.seeds("real") == [0, 1, 2, 3, 4, 5, 6]
    header, _, *rows = (line.strip("| ").split(" | ") for line in tables.methods(results).splitlines())
    (method,) = (dict(zip(header, row, strict=True)) for row in rows if row[0] == "**REAL**")
    header, _, *rows = (line.strip("| ").split(" | ") for line in tables.ablations(results).splitlines())
    (ablation,) = (dict(zip(header, row, strict=True)) for row in rows if row[0] == "REAL: as in its recipe")
    assert ablation["OOD RAIL r"] == method["RAIL r"] and ablation["RAIL ρ"] == method["RAIL ρ"]
    assert ablation["RAIL RMSE"] == method["RAIL RMSE"]
    for column in ("greedy RAIL r", "ID RAIL r"):
        assert ablation[column] == method[column].split(" [")[0]


def test_curves_are_of_the_planned_seeds():
    results = Results(STORED)
    key = "judge_eval/ood/rail/pearson"
    logged = results.training.query("run == 'real' and seed < 5").dropna(subset=[key])
    figure = figures.curves(results)
    assert "over 5 seeds" in figure.get_suptitle()
    _, real = figure.axes[0].lines
    np.testing.assert_allclose(real.get_ydata(), 100 * logged.groupby("step")[key].mean())


def test_seeds_that_were_added_are_no_test():
    added = [finding for finding in [*PAPER, *QUESTIONS] if finding.added]
    figures = [finding.measured(Results(STORED)) for finding in added]
    assert [len(figure.per_seed) for figure in figures] == [7, 5, 5, 5, 5, 5, 5]
    for finding, figure in zip(added, figures, strict=True):
        assert finding.verdict(figure) == "no test: added after a look"


@pytest.fixture(scope="module")
def every_block() -> dict[str, str]:
    """Of the stored results."""
    return blocks(Results(STORED), STORED)


def test_the_pages_hold_what_is_stored(every_block):
    texts = {ROOT / path: (ROOT / path).read_text(encoding="utf-8") for path in pages()}
    assert {path.relative_to(ROOT).as_posix() for path in texts} > {
        "README.md",
        "RESULTS.md",
        "docs/results/family.md",
    }
    assert filled(texts, every_block) == texts
    assert json.loads((STORED / "runs.json").read_text(encoding="utf-8"))["versions"]


# What the text says of earlier looks, whose results are not stored
EARLIER = {
    "docs/results/paper-in-miniature.md": ["+3.7 [-3.7, 11.2]", "+7.1 [-3.8, 17.9]"],
    "docs/results/family.md": [],
    "RESULTS.md": [],
}
_ESTIMATE = re.compile(r"[+-]?\d[\d.]* \[[+-]?[\d.]+, [+-]?[\d.]+\]")


def estimates(text: str) -> list[str]:
    """`+1.8 [-0.5, 4.2]` and the like, with one kind of minus."""
    return _ESTIMATE.findall(text.replace("−", "-"))


def numbers(estimate: str) -> tuple[float, ...]:
    return tuple(map(float, re.findall(r"[+-]?[\d.]+", estimate)))


@pytest.mark.parametrize("page", EARLIER)
def test_estimates_in_the_text_are_those_of_the_tables(every_block, page):
    text = re.sub(r"<!-- results: .*?<!-- end -->", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    known = {numbers(each) for block in every_block.values() for each in estimates(block)}
    known |= {(-value, -high, -low) for value, low, high in known}  # "below by 2.3 [0.1, 4.5]"
    assert len(estimates(text)) >= 4
    assert [each for each in estimates(text) if numbers(each) not in known] == EARLIER[page]


def test_other_figures_of_the_findings_are_those_of_the_tables(every_block):
    text = " ".join((ROOT / "RESULTS.md").read_text(encoding="utf-8").split())
    for block, said, shown in (
        ("smollm2", "always saying the mean label, 1.455", ["| 1.455 |"]),
        ("smollm2", "88% of REAL's answers have no score", ["| 88% |"]),
        ("compare", "intervals 94.0% to 95.3% hold", ["94.0%", "95.3%"]),
        ("compare", "hardly worth more** than choosing them at random (304 for 296)", ["| 304 |", "| 296 |"]),
        ("calibrate", "(CRPS) falls from 0.784 to 0.541 points", ["| 0.784 | 0.541 |"]),
        ("calibrate", "its RMSE, 1.518, becomes about", ["| 1.518 |"]),
        ("calibrate", "hold 86 to 95% of the other half, the poor one's 81 to 94%", ["[85.6, 94.6]", "[81.3, 93.9]"]),
        ("findings", "where the paper has +5.4", ["| REAL is above Standard RL | Table 2 | +5.4 |"]),
        (
            "findings",
            "The paper has +14.7 above RAFT, which this interval excludes",
            ["| +14.7 | +6.1 [+2.3, +10.0] |"],
        ),
    ):
        assert said in text
        for figure in shown:
            assert figure in every_block[block]


def test_the_findings_are_one_page():
    assert len((ROOT / "RESULTS.md").read_bytes()) <= 13_000


def test_what_is_shown_of_real_scores_needs_no_complete_grid():
    predictions = pd.read_parquet(STORED / "real_scores.parquet")
    few = predictions[predictions["method"].isin(["mean", "tfidf"])]
    table = real_scores_verdicts(RealScores(few))
    assert "0 of 45 trainings with all labels are there" in real_scores_state(RealScores(few))
    assert table.splitlines()[2:] == []
    two = predictions[predictions["method"].isin(["tfidf", "other_grader"]) & (predictions["fold"] < 2)]
    rows = real_scores_verdicts(RealScores(two)).splitlines()[2:]
    assert len(rows) == 2 and all("TF-IDF and ridge − the other grader | 2 of 5 |" in row for row in rows)
    one = predictions.query("method == 'tfidf' and labels == 'all'").drop_duplicates("task")
    names = [(method, fold) for method in ("raft", "sft", "head") for fold in range(5)]
    complete = RealScores(pd.concat([one.assign(method=method, fold=fold) for method, fold in names]))
    assert real_scores_state(complete) == "All 45 trainings with all labels are there."
