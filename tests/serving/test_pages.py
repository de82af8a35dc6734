# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The pages that people open, in a real browser: the demo filled in and submitted, the report of an evaluation clicked through."""

import re

import pytest

from real_trl import Judge
from real_trl.report import html_report
from tests.helpers.served_judges import save_judge, started
from tests.report.made import ONE_TO_FIVE, made_evaluation
from tests.tiny import LINES, PROMPT

pytest.importorskip("gradio", reason="needs the extra demo")
pytest.importorskip("websockets", reason="needs websockets, to drive the browser")
from tests.helpers.browser import open_tab  # noqa: E402
from tests.helpers.chromium import needs_chromium  # noqa: E402

pytestmark = [pytest.mark.integrations, needs_chromium]


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


def bars(tab):
    """Label, share and drawn height of every bar."""
    return tab.evaluate(
        "[...document.querySelectorAll('#result .bars > div')].map(bar => [bar.querySelector('.label').innerText, "
        "bar.querySelector('.share').innerText, bar.querySelector('.column > div').getBoundingClientRect().height])"
    )


def test_the_demo_is_filled_in_and_submitted(judge_folder, tmp_path):
    response = "\n".join(LINES[:2])
    expected = Judge.from_pretrained(judge_folder, do_sample=False).score(instruction=PROMPT, response=response)
    options = ("--judge", str(judge_folder), "--port", "0")
    with started("demo", "The page to try", *options) as (_, line), open_tab(tmp_path) as tab:
        url = line.split()[-1]
        tab.open(url)
        # Only what the template needs; its rubric may stay empty
        tab.type("#field-instruction textarea", PROMPT)
        tab.type("#field-response textarea", response)
        assert tab.evaluate("document.querySelectorAll('[id^=field-]').length") == 3
        tab.click("#score")
        tab.wait_for("document.querySelector('#result .bars') !== null")
        shown = bars(tab)
        assert [label for label, _, _ in shown] == ["1", "2", "3", "4", "5"]
        assert [share for _, share, _ in shown] == [f"{p:.1%}" for p in expected.probabilities.values()]
        highest, largest = max(height for *_, height in shown), max(expected.probabilities.values())
        assert highest > 100  # pixels: the bars are there to see
        for (_, _, height), p in zip(shown, expected.probabilities.values(), strict=True):
            assert height == pytest.approx(highest * p / largest, abs=1.5)
        text = tab.evaluate("document.querySelector('#result').innerText")
        assert text.split()[0] == f"{expected.expected_score:.4g}"
        assert tab.evaluate("document.querySelector('#rationale textarea').value") == expected.rationale
        assert tab.screenshot(tmp_path / "demo.png").stat().st_size > 10_000

        tab.type("#field-response textarea", "")
        tab.click("#score")
        alert = tab.wait_for("document.querySelector('#result [role=alert]')?.innerText")
        assert alert.startswith("response: row 0 has none, and the judge's prompt (homework.jinja) needs it.")
        assert bars(tab) == []
        tab.type("#field-response textarea", "right " * 300)
        tab.click("#score")
        tab.wait_for("document.querySelector('#result [role=alert]')?.innerText.includes('too many')")
        tab.screenshot(tmp_path / "demo_error.png")
        elsewhere = [each for each in tab.requested if not each.startswith((url, "data:", "blob:"))]
        assert not elsewhere and not tab.complaints


def test_a_judge_of_complete_prompts_has_one_field(tmp_path):
    folder = save_judge(tmp_path / "judge", template=None)
    with (
        started("demo", "The page to try", "--judge", str(folder), "--port", "0") as (_, line),
        open_tab(tmp_path) as tab,
    ):
        tab.open(line.split()[-1])
        tab.type("#field-prompt textarea", f"{PROMPT}\n{LINES[0]}")
        assert tab.evaluate("document.querySelectorAll('[id^=field-]').length") == 1
        tab.click("#score")
        tab.wait_for("document.querySelectorAll('#result .bars > div').length === 5")


def test_the_report_of_an_evaluation_is_sorted_and_a_row_opened(tmp_path):
    evaluation, predictions = made_evaluation({"mt_bench": ONE_TO_FIVE}, n=40)
    path = html_report(evaluation, predictions, tmp_path / "report.html")
    with open_tab(tmp_path) as tab:
        tab.open(path.as_uri())
        tab.click("#rows thead button[data-sort=target]")
        column = "[...document.querySelectorAll('#rows thead th')].findIndex(e => e.hasAttribute('aria-sort'))"
        tab.wait_for(f"document.querySelectorAll('#rows thead th')[{column}].innerText.startsWith('true y*')")
        cells = f"[...document.querySelectorAll('#rows tr.row')].map(row => +row.cells[{column}].innerText)"
        shown = tab.evaluate(cells)
        targets = sorted(predictions["mt_bench"]["raft"]["target"], reverse=True)
        assert shown == targets[:25]
        tab.click("#rows thead button[data-sort=target]")  # the other way round
        tab.wait_for(
            f"JSON.stringify({cells}) === '{re.sub(' ', '', str([f'{t:g}' for t in targets[::-1][:25]])).replace(chr(39), '')}'"
        )

        tab.click("#rows tr.row button")
        tab.wait_for("document.querySelectorAll('#rows tr.detail').length === 1")
        index = int(tab.evaluate("document.querySelector('#rows tr.row').dataset.index"))
        detail = tab.evaluate("document.querySelector('#rows tr.detail').innerText")
        for judge in ("raft", "REAL"):
            assert predictions["mt_bench"][judge].loc[index, "rationale"].strip() in detail
        drawn = "[...document.querySelectorAll('#rows tr.detail svg rect')].map(e => e.getBoundingClientRect().height)"
        assert len(tab.evaluate(drawn)) >= 10 and max(tab.evaluate(drawn)) > 50
        assert tab.screenshot(tmp_path / "report.png").stat().st_size > 10_000
        assert not tab.complaints
        assert {each.split(":")[0] for each in tab.requested} <= {"file", "data"}  # it needs no network
