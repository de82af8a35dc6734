# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""When figures are worth nothing, and that every report says so; right values by hand."""

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from real_trl.evaluation.assemble import assemble_evaluation
from real_trl.evaluation.metrics import baseline_errors, evaluate_predictions
from real_trl.evaluation.verdict import CRITERIA, find_faults
from real_trl.publishing.results import eval_results
from real_trl.publishing.results import evaluation_table as card_table
from real_trl.report import evaluation_table, html_report, latex_table, markdown_report
from real_trl.report.tables import all_sheets
from real_trl.report.verdict_text import FOUND, NOTHING_FOUND
from real_trl.scale import Scale

SCALE = Scale.parse("1-5")
TARGETS = np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 20)  # mean 3, RMSE of always 3: sqrt(2), MAE 1.2
OK = np.array(["ok"] * 100, dtype=object)


def test_a_good_judge_of_labels_that_are_all_the_same_is_not_worth_nothing():
    faults = find_faults(
        np.array(["ok"] * 20), {"rail": np.full(20, 5.0)}, targets=np.full(20, 5.0), values=[1.0, 2.0, 3.0, 4.0, 5.0]
    )
    assert [fault.kind for fault in faults] == ["constant_labels"] and not faults[0].severe


def kinds(status=OK, predictions=None, targets=TARGETS, **more) -> set[tuple[str, str, bool]]:
    predictions = {"rail": TARGETS * 0.5 + 1.5} if predictions is None else predictions
    return {
        (f.kind, f.inference, f.severe) for f in find_faults(status, predictions, targets, values=SCALE.values, **more)
    }


def with_status(status: str, count: int) -> np.ndarray:
    return np.array([status] * count + ["ok"] * (100 - count), dtype=object)


def test_a_judge_without_a_fault_has_none():
    assert (
        kinds(mass=np.full(100, 0.95), missing_mass=np.zeros(100), rationales=["Because."] * 50 + ["So."] * 50)
        == set()
    )


def test_shares_of_malformed_and_unscored():
    assert kinds(with_status("missing", 10)) == set()
    assert kinds(with_status("missing", 11)) == {("malformed", "", True)}
    # Of 50 answers, 6 are malformed: unscored rows are no answers
    status = np.array(["unscored"] * 50 + ["outside"] * 6 + ["ok"] * 44, dtype=object)
    assert kinds(status) == {("unscored", "", True), ("malformed", "", True)}
    assert kinds(with_status("unscored", 1)) == {("unscored", "", False)}  # said, but the others can be believed
    (fault,) = find_faults(with_status("missing", 25), {}, None)
    assert fault.text == "25 of 100 (25.0%) of the answers hold no score of the scale"


def test_predictions_that_do_not_vary():
    assert kinds(predictions={"standard": np.full(100, 3.0), "rail": TARGETS}) == {("constant", "standard", True)}
    hardly = np.full(100, 3.2) + np.random.default_rng(0).normal(0, 0.005, 100)
    assert kinds(predictions={"rail": hardly}) == {("constant", "rail", True)}
    assert kinds(predictions={"rail": hardly}, targets=None) == {("constant", "rail", True)}
    # Nearly all labels are 5, and the judge finds those that are not
    targets = np.array([5.0] * 97 + [1.0] * 3)
    assert kinds(predictions={"rail": targets.copy()}, targets=targets) == set()
    assert kinds(predictions={"rail": np.array([5.0] * 99 + [4.99])}, targets=targets) == {("constant", "rail", True)}


def test_predictions_that_a_constant_beats():
    shifted = TARGETS * 0.5 + 3.5  # r is 1; errors 3 − y/2 … : RMSE by hand below
    rmse = np.sqrt(np.mean((shifted - TARGETS) ** 2))
    assert rmse == pytest.approx(np.sqrt(4.5))
    (fault,) = find_faults(OK, {"rail": shifted}, TARGETS, values=SCALE.values)
    assert (fault.kind, fault.inference, fault.severe) == ("worse_than_mean", "rail", True)
    assert fault.text == "RMSE 2.121 is above 1.414, that of always answering 3, the mean of the labels"
    assert kinds(predictions={"rail": 6.0 - TARGETS}) == {("worse_than_mean", "rail", True)}  # reversed
    assert kinds(predictions={"rail": np.full(100, 3.0) + np.where(TARGETS > 3, 0.5, -0.5)}) == set()


def test_labels_that_do_not_vary_are_said_and_blame_nobody():
    assert kinds(targets=np.full(100, 4.0)) == {("constant_labels", "", False)}
    assert kinds(np.array(["ok"], dtype=object), {"rail": np.array([2.0])}, np.array([5.0])) == set()  # one row
    assert kinds(predictions={"rail": np.array([])}, targets=np.array([])) == {("no_rows", "rail", True)}


def test_mass_that_is_elsewhere():
    assert kinds(mass=np.full(100, 0.6)) == {("mass", "rail", True)}
    assert kinds(mass=np.full(100, 0.91)) == set()
    # What the server did not return may be on labels
    assert kinds(mass=np.full(100, 0.85), missing_mass=np.full(100, 0.08)) == set()
    assert kinds(mass=np.full(100, 0.8), missing_mass=np.full(100, 0.15)) == {("missing_mass", "rail", True)}
    assert kinds(mass=np.array([np.nan] * 99 + [0.5])) == {("mass", "rail", True)}
    (fault,) = find_faults(OK, {}, None, mass=np.full(100, 0.6))
    assert fault.text == "on average 60% of the probability at the score is on labels, and the rest on other text"


def test_rationales_that_are_none_are_a_thing_to_know():
    for rationales in (["4", "3"] * 50, ["The answer is fine."] * 100, [""] * 60 + ["Good."] * 40):
        assert kinds(rationales=rationales) == {("rationale", "", False)}


def test_a_scale_of_words_has_its_words_for_scores():
    words = Scale(("bad", "fair", "good"), (1.0, 2.0, 3.0))
    rows = frame(np.tile([1.0, 2.0, 3.0, 2.0], 25)).assign(target=np.tile([1.0, 2.0, 3.0, 2.0], 25))
    rows = rows.assign(rationale=["bad", "fair", "good", "fair"] * 25, probabilities=[[0.2, 0.3, 0.5]] * 100)
    plain = assemble_evaluation({"bench": {"a": rows}}, scale=words, breakdown_by=["group"], num_resamples=20)
    faults = [fault["text"] for fault in plain["results"]["bench"]["a"]["verdict"]]
    assert any("rationale" in text and "score" in text for text in faults), faults
    assert evaluate_predictions(rows, values=words.values)["verdict"] != plain["results"]["bench"]["a"]["verdict"]


@pytest.mark.usefixtures("only_these_metrics")
def test_what_always_the_same_answer_reaches():
    constants = baseline_errors(np.array([1.0, 1.0, 4.0]))
    assert constants["mean"] == {"value": 2.0, "rmse": pytest.approx(np.sqrt(2)), "mae": pytest.approx(4 / 3), "n": 3}
    assert constants["median"] == {"value": 1.0, "rmse": pytest.approx(np.sqrt(3)), "mae": pytest.approx(1), "n": 3}
    # Of the rows that count
    rows = {"status": ["ok", "ok", "ok", "missing"], "target": [1.0, 1.0, 4.0, 5.0]}
    rows |= {"sampled_score": [1.0, 2.0, 3.0, 3.0], "expected_score": [1.0, 2.0, 3.0, 3.0]}
    assert evaluate_predictions(rows, "drop")["baseline"] == constants


# --- reports ---------------------------------------------------------------------------------------------------------


def frame(expected: np.ndarray, status=OK, mass=1.0) -> pd.DataFrame:
    rows = {"row": range(100), "id": [f"r{i}" for i in range(100)], "group": [f"q{i // 2}" for i in range(100)]}
    scores = {
        "sampled_score": np.clip(np.round(expected), 1, 5),
        "expected_score": expected,
        "most_likely_score": expected,
    }
    scores |= {"mass": mass, "missing_mass": 0.0, "num_tokens": 9, "prompt_tokens": 9, "spread": 0.1, "entropy": 0.1}
    texts = {"completion": "…", "rationale": [f"It is number {i}, which is good." for i in range(100)], "prompt": "?"}
    probabilities = [[0.2 * mass] * 5 for _ in range(100)]
    return pd.DataFrame(
        {**rows, "target": TARGETS, "status": status, **scores, **texts, "probabilities": probabilities}
    )


@pytest.fixture(scope="module")
def evaluation():
    """`fair` has the second-best figures; `broken` has better ones, and no form; `noise` is beaten by a constant."""
    generator = np.random.default_rng(0)
    frames = {
        "fair": frame(np.clip(TARGETS + generator.normal(0, 0.9, 100), 1, 5)),
        "broken": frame(TARGETS * 0.98 + 0.05, status=with_status("truncated", 60)),
        "noise": frame(generator.permutation(TARGETS)),
    }
    evaluation = assemble_evaluation({"bench": frames}, scale=SCALE, num_resamples=100)
    config = {name: {"model": name, "judge": {"normalize_expectation": name == "noise"}} for name in frames}
    return json.loads(
        json.dumps(evaluation | {"judges": config, "settings": {}, "versions": {}, "command": ""}).replace(
            "NaN", "null"
        )
    ), frames


def printed(evaluation, **options) -> str:
    console = Console(width=200, record=True, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(evaluation_table(evaluation))
    return console.export_text(**options)


def test_the_terminal_ends_with_the_verdict_in_red(evaluation):
    text, styled = (printed(evaluation[0], styles=styles) for styles in (False, True))
    lines = [line.strip() for line in text.strip().splitlines()]
    assert lines[-1] == CRITERIA[-len(lines[-1]) :] and FOUND in lines
    assert "† bench: broken: 60 of 100 (60.0%) of the answers hold no score of the scale." in lines
    assert any(line.startswith("† bench: noise, Standard and RAIL: RMSE ") for line in lines)
    red = [each.strip() for each in re.findall(r"\x1b\[(?:1;)?31m(.*?)\x1b\[0m", styled, re.DOTALL)]
    assert any("60 of 100" in each for each in red) and FOUND in red
    broken = evaluation[0]["results"]["bench"]["broken"]["rail"]["rmse"]
    assert f"{broken:.3f}†" in red
    bold = re.findall(r"\x1b\[1m *([\d.]+)\x1b", styled)
    fair = evaluation[0]["results"]["bench"]["fair"]["rail"]
    assert {f"{fair['rmse']:.3f}", f"{100 * fair['pearson']:.1f}"} <= set(bold) and f"{broken:.3f}" not in bold
    difference = evaluation[0]["comparisons"]["bench"][0]["rail"]["rmse"]["difference"]  # fair − broken
    assert f"{difference:+.3f}†" in red and f"{difference:+.3f}" not in re.findall(r"\x1b\[1m *([\d.+-]+)\x1b", styled)
    assert re.search(r"Always +the mean .* 1\.414 +1\.200 ", text) and re.search(
        r"the median .* 1\.414 +1\.200 ", text
    )


def test_markdown_latex_and_the_page_mark_them(evaluation, tmp_path):
    evaluation, frames = evaluation
    fair, broken = (evaluation["results"]["bench"][name]["rail"]["pearson"] for name in ("fair", "broken"))
    markdown = markdown_report(evaluation)
    assert (
        f"**{100 * fair:.1f}**" in markdown
        and f"{100 * broken:.1f}†" in markdown
        and f"**{100 * broken:.1f}" not in markdown
    )
    assert re.search(
        r"- \*\*† bench: broken: 60 of 100 \(60\.0%\) of the answers hold no score of the scale\.\*\*", markdown
    )
    assert re.search(r"\| Always the mean of the labels \| – \| – \| n/a \| n/a \| n/a \| 1\.414 \|", markdown)
    latex = latex_table(evaluation)
    assert rf"\textbf{{{100 * fair:.1f}}}" in latex and rf"{100 * broken:.1f}$^\dagger$" in latex
    assert "Always the mean of the labels & – & – & n/a & n/a & n/a & 1.414" in latex
    assert r"$^\dagger$ bench: broken: 60 of 100 (60.0\%) of the answers" in latex and latex.count("{") == latex.count(
        "}"
    )
    page = html_report(evaluation, {"bench": frames}, tmp_path / "page.html", plots=[]).read_text()
    assert '<li class="bad">† bench: broken: 60 of 100 (60.0%) of the answers hold no score of the scale.</li>' in page
    assert f'<td class="figure bad">{100 * broken:.1f}†' in page and f"<strong>{100 * fair:.1f}</strong>" in page
    assert page.index(FOUND) < page.index("<table>")


@pytest.mark.usefixtures("only_these_metrics")
def test_the_card_says_so_and_its_metadata_hold_no_such_figure(evaluation):
    evaluation = evaluation[0]

    def of(name: str) -> dict:
        results = {"bench": evaluation["results"]["bench"][name]}
        return {"name": name, "results": results, "settings": {}, "datasets": evaluation["datasets"], "judge": {}}

    card = card_table(of("broken"))
    assert f"{evaluation['results']['bench']['broken']['rail']['rmse']:.3f}†" in card
    assert "- **† bench: broken: 60 of 100 (60.0%) of the answers" in card
    assert "| bench | Always the mean | 100 | n/a | n/a | n/a | 1.414 | 1.200 | n/a | n/a |" in card
    assert eval_results(of("broken")) == [] and len(eval_results(of("fair"))) == 14
    assert f"- {NOTHING_FOUND}" in card_table(of("fair"))


def test_where_nothing_is_wrong_the_verdict_says_what_was_looked_for(evaluation):
    _, frames = evaluation
    alone = assemble_evaluation({"bench": {"fair": frames["fair"]}}, scale=SCALE, num_resamples=100)
    text = " ".join(printed(alone).split())
    assert NOTHING_FOUND in text and CRITERIA in text and "†" not in text


def test_evaluations_of_before_have_no_verdict(evaluation):
    old = json.loads(json.dumps(evaluation[0]))
    for result in old["results"]["bench"].values():
        del result["verdict"], result["baseline"]
    text = printed(old) + markdown_report(old) + latex_table(old)
    assert "Verdict" not in text and "Always" not in text


def test_judges_that_were_scored_on_different_rows_have_a_constant_each(evaluation):
    _, frames = evaluation
    frames = {"fair": frames["fair"], "broken": frames["broken"].assign(status=with_status("missing", 5))}
    text = printed(assemble_evaluation({"bench": frames}, scale=SCALE, malformed="drop", num_resamples=100))
    assert "Always, fair" in text and "Always, broken" in text


def test_a_breakdown_and_the_plots_mark_them_too():
    expected = np.where(np.arange(100) < 50, 3.0, TARGETS * 0.98 + 0.05)  # says 3 whatever it reads, in the first half
    rows = frame(expected).assign(half=["first"] * 50 + ["second"] * 50)
    evaluation = assemble_evaluation({"bench": {"judge": rows}}, scale=SCALE, breakdown_by=["half"], num_resamples=100)
    sheet = next(sheet for sheet in all_sheets(evaluation) if "by half" in sheet.title)
    rmse = [column.title for column in sheet.columns].index("RMSE")
    assert [(row[0].text, row[rmse].text + row[rmse].mark) for row in sheet.rows] == [
        ("first", "1.414†"),
        ("second", "0.030"),
    ]
    assert any(note.startswith("† worth nothing in these rows") for note in sheet.notes)
    plots = pytest.importorskip("real_trl.report.plots")
    broken = {"bench": {"judge": frame(TARGETS * 0.98 + 0.05, status=with_status("missing", 60))}}
    evaluation = assemble_evaluation(broken, scale=SCALE, num_resamples=100)
    assert "100.0†, n = 100" in plots.plot_predictions(evaluation, "bench", broken["bench"]).axes[0].get_title()
