# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judgment as HTML."""

import re
from dataclasses import replace

import pytest
import torch

from real_trl.engines import Judgment
from real_trl.score_space import ScoreLocation, ScoreSpace
from real_trl.serving.judgment_html import error_html, judgment_html
from tests.tiny import DIGITS


def judgment(probabilities, labels, status="ok", **fields):
    space = ScoreSpace.from_labels(labels, DIGITS)
    place = ScoreLocation("ok", 3, 1) if status == "ok" else ScoreLocation(status)
    return Judgment.from_distribution(
        "1) right. So the overall score is 2",
        place,
        torch.tensor(probabilities, dtype=torch.float64).log(),
        space,
        normalize=False,
        prompt_tokens=7,
        num_tokens=9,
        **fields,
    )


def heights(page):
    return [float(each) for each in re.findall(r'style="height: ([\d.]+)%"', page)]


def test_figures_and_bars():
    page = judgment_html(judgment([0.1, 0.5, 0.25], "1-3"), ["1", "2", "3"])
    assert heights(page) == [20.0, 100.0, 50.0]
    assert re.findall(r'class="share">([^<]*)<', page) == ["10.0%", "50.0%", "25.0%"]
    assert re.findall(r'class="label">([^<]*)<', page) == ["1", "2", "3"]
    assert '<div class="headline">1.85</div>' in page and "expected score, on 1, 2, 3<" in page  # 0.1 + 1.0 + 0.75
    assert "mass on the labels <b>85.0%</b>" in page and "tokens <b>7 + 9</b>" in page
    assert page.count('class="likely"') == 1 and "note" not in page


def test_a_wide_scale_names_every_tenth_bar():
    labels = [str(label) for label in range(101)]
    page = judgment_html(judgment([1 / 101] * 101, "0-100"), labels)
    assert len(heights(page)) == 101 and "share" not in page and "on 0, 1 … 100<" in page
    assert [each for each in re.findall(r'class="label">([^<]*)<', page) if each != "&nbsp;"] == labels[::10]


def test_what_is_not_known_is_said():
    page = judgment_html(judgment([0.2, float("nan"), 0.3], "1-3", missing_mass=0.4), ["1", "2", "3"])
    assert re.findall(r'class="share">([^<]*)<', page)[1] == "n/a" and "40.0% of the probability is not known" in page
    page = judgment_html(judgment([0.2, 0.5, 0.3], "1-3", status="missing"), ["1", "2", "3"])
    assert "The answer holds no score of the scale (missing): the distribution was read at a marker" in page
    empty = Judgment("", "", "missing", None, None, None, None, None, None, 0.0, 7, 9)
    page = judgment_html(empty, ["1", "2", "3"])
    assert heights(page) == [] and '<div class="headline">n/a</div>' in page and "(missing).<" in page


@pytest.mark.parametrize("evil", ['<img src=x onerror="alert(1)">', '"><script>alert(1)</script>'])
def test_text_is_escaped(evil):
    assert "<img" not in error_html(evil) and "<script" not in error_html(evil)
    page = judgment_html(
        replace(judgment([0.2, 0.5, 0.3], "1-3"), probabilities={"1": 0.2, evil: 0.5, "3": 0.3}), ["1", evil, "3"]
    )
    assert "<img" not in page and "<script" not in page and '">"' not in page


def test_a_calibrated_judgment_shows_its_interval_and_what_it_was():
    own = judgment([0.1, 0.5, 0.25], "1-3")
    new = Judgment(**{**vars(own), "expected_score": 2.25, "interval": [1.5, 3.0], "raw": own})
    page = judgment_html(new, ["1", "2", "3"])
    assert '<div class="headline">2.25</div>' in page
    assert "interval <b>1.5 to 3</b>" in page and "before calibration <b>1.85</b>" in page
    assert "calibration" not in judgment_html(own, ["1", "2", "3"])
