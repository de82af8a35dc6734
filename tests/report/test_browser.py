# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The HTML report as a browser shows it: the page is opened in headless Chromium, and what its script made of it is read."""

import html
import re
import subprocess

import numpy as np
import pytest

from real_trl.report import html_report
from real_trl.report.snippets import snippets
from tests.helpers.chromium import CHROMIUM, FLAGS, needs_chromium
from tests.report.made import ONE_TO_FIVE, PERCENT, WORDS, made_evaluation
from tests.report.test_html import EVIL, Page

pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def made():
    evaluation, predictions = made_evaluation({"mt_bench": ONE_TO_FIVE, "percent": PERCENT, "a/b words": WORDS}, n=40)
    predictions["mt_bench"]["raft"].loc[3, ["rationale", "completion"]] = EVIL
    predictions["mt_bench"]["raft"].loc[3, "status"] = "missing"
    return evaluation, predictions


@pytest.fixture(scope="module")
def opened(made, tmp_path_factory):
    """
    Opens the report at an address (what follows `#`) and returns the page as it is after its script ran, and after one
    of the test that uses it.
    """
    folder = tmp_path_factory.mktemp("browser")
    path = html_report(*made, folder / "report.html", plots=[])

    def open_page(address="", script=None):
        flags = [*FLAGS, "--virtual-time-budget=4000", "--dump-dom"]
        profile = tmp_path_factory.mktemp("profile")
        opened = path
        if script is not None:  # the page's policy would not let it run
            text = path.read_text(encoding="utf-8").replace('http-equiv="Content-Security-Policy"', "")
            opened = folder / "driven.html"
            opened.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
        command = [CHROMIUM, *flags, f"--user-data-dir={profile}", f"{opened.as_uri()}#{address}"]
        dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        assert "<h1>" in dumped
        return dumped

    return open_page


def table(dumped):
    """Cells of the rows on the page, without the opened ones."""
    body = re.search(r'<table id="rows">.*?<tbody>(.*?)</tbody></table></div>\s*</section>', dumped, re.S)[1]
    lines = re.findall(r'<tr class="row".*?</tr>', body, re.S)
    return [
        [re.sub(r"<[^>]*>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", line, re.S)] for line in lines
    ]


def test_sorted_by_disagreement(made, opened):
    _, predictions = made
    dumped = opened()
    worst = []
    for dataset, frames in predictions.items():
        errors = np.max([np.abs(frame["expected_score"] - frame["target"]) for frame in frames.values()], axis=0)
        worst += [(error, dataset, name) for error, name in zip(errors, frames["raft"]["id"], strict=True)]
    expected = sorted(worst, reverse=True)[:25]
    rows = table(dumped)
    assert [(row[0], row[1].removeprefix("▸ ")) for row in rows] == [(dataset, name) for _, dataset, name in expected]
    assert [float(row[6]) for row in rows] == pytest.approx([error for error, _, _ in expected], abs=0.006)
    assert "120 of 120 rows" in dumped and "page 1 of 5" in dumped
    assert 'aria-sort="descending"' in dumped


def test_filtered_sorted_and_paged(made, opened):
    _, predictions = made
    frame = predictions["a/b words"]["REAL"]
    chosen = frame[frame["category"] == "maths"].sort_values("mass", kind="stable")
    dumped = opened("dataset=a/b+words&judge=REAL&column=category&value=maths&sort=mass&order=asc&size=10&page=2")
    rows = table(dumped)
    assert [row[1].removeprefix("▸ ") for row in rows] == list(chosen["id"])[10:20]
    assert f"{len(chosen)} of 120 rows" in dumped
    status = opened("status=missing&text=document.title")
    assert [row[1] for row in table(status)] == ["▸ q0-d"]
    assert "1 of 120 rows" in status


def test_opened_row(made, opened):
    _, predictions = made
    row = predictions["percent"]["REAL"].iloc[4]  # the 45th of all, from 0
    dumped = opened("dataset=percent&sort=id&order=asc&size=10&open=44")
    assert table(dumped)[4][1] == f"▾ {row['id']}"
    detail = Page(re.search(r'<tr class="detail".*?</tr>', dumped, re.S)[0])
    assert " ".join(row["prompt"].split()) in detail.text
    assert " ".join(row["completion"].split()) in detail.text
    assert f"predicted ŷ {round(row['expected_score'], 3):g}" in detail.text
    assert table(dumped)[4][2] == snippets(predictions["percent"]["raft"])[4]
    bars = [attrs for tag, attrs in detail.tags if tag == "rect" and attrs["class"] == "p"]
    assert len(bars) == 2 * 101
    heights = np.array([float(bar["height"]) for bar in bars[101:]])
    assert heights / heights.max() == pytest.approx(row["probabilities"] / max(row["probabilities"]), abs=1e-4)
    assert sum(attrs.get("class") == "true" for tag, attrs in detail.tags if tag == "line") == 2


def test_link_leads_to_the_row_s_page(opened):
    dumped = opened("sort=id&order=desc&dataset=mt_bench&size=10&open=0")
    assert "page 4 of 4" in dumped
    assert 'id="detail-0"' in dumped


def test_text_from_data_does_not_run(opened):
    dumped = opened("dataset=mt_bench&sort=id&order=asc&open=3")
    detail = re.search(r'<tr class="detail".*?</tr>', dumped, re.S)[0]
    assert "onerror" in Page(detail).text  # shown as text
    assert "<img" not in dumped
    assert "<title>Judge evaluation</title>" in dumped
    assert dumped.count("<script") == 2


def test_address_that_means_nothing(opened):
    dumped = opened("dataset=none&sort=none&page=99&size=7&open=x")
    assert "120 of 120 rows" in dumped
    assert "page 5 of 5" in dumped


CLICKS = """
const click = (selector) => document.querySelector(selector).click();
const choose = (name, value) => {
  const field = document.querySelector(`#filters [name=${name}]`);
  field.value = value;
  field.dispatchEvent(new Event("change", { bubbles: true }));
};
"""


def test_clicks(made, opened):
    _, predictions = made
    frame = predictions["mt_bench"]["REAL"].sort_values("spread", ascending=False, kind="stable")
    clicks = """
choose("dataset", "mt_bench"); choose("judge", "REAL"); choose("size", "10");
click("[data-sort=spread]"); click("#next");
click("#rows tbody td:last-child");  // anywhere in a row opens it
document.title = document.activeElement.outerHTML + location.hash;
"""
    dumped = opened(script=CLICKS + clicks)
    rows = table(dumped)
    names = [row[1].lstrip("▸▾ ") for row in rows]
    assert names == list(frame["id"])[10:20]
    assert [row[1][0] for row in rows] == ["▾"] + ["▸"] * 9
    title = html.unescape(re.search("<title>(.*?)</title>", dumped, re.S)[1])
    assert 'aria-expanded="true"' in title  # the focus is kept on the row's button
    place = frame.index[10]
    assert title.endswith(f"#dataset=mt_bench&judge=REAL&size=10&sort=spread&page=2&open={place}")


def test_second_click_turns_the_order_and_closes(opened):
    dumped = opened(
        "sort=id&order=asc&size=10", CLICKS + "click('[data-sort=id]'); click('td.id button'); click('td.id button');"
    )
    assert [row[1] for row in table(dumped)][:2] == ["▸ q9-d", "▸ q9-d"]
    assert 'aria-sort="descending"' in dumped and 'class="detail"' not in dumped


def test_filters_that_exclude_the_sorted_column_and_reset(opened):
    # Sorted by a judge that is then not shown: by disagreement again
    dumped = opened("sort=score:raft", CLICKS + "choose('judge', 'REAL'); document.title = location.hash;")
    assert "<title>#judge=REAL</title>" in dumped
    dumped = opened("status=missing&text=document.title", CLICKS + "click('[type=reset]');")
    assert "120 of 120 rows" in dumped and len(table(dumped)) == 25
    # Another column has other values
    chosen = (
        "choose('column', 'category'); choose('value', 'maths'); choose('column', ''); document.title = location.hash;"
    )
    assert "<title></title>" in opened("", CLICKS + chosen)


def test_link_to_a_section_leaves_the_rows(opened):
    dumped = opened("sort=id&order=asc&size=10", "location.hash = '#plots';")
    assert len(table(dumped)) == 10
