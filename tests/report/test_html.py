# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import base64
import hashlib
import html.parser
import json
import re

import numpy as np
import pandas as pd
import pytest

from real_trl.report import html_report, save_plots
from real_trl.report.html import script_json
from real_trl.report.rows import browser_data, plain
from real_trl.report.snippets import snippets
from tests.report.made import NAN, ONE_TO_FIVE, WORDS, literal_evaluation, made_evaluation

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><!--<script>\u2028&amp;"


class Page(html.parser.HTMLParser):
    """What a browser finds in a page: tags with attributes, scripts, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.words = [], [], []
        self._inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside = tag
            self.scripts += [""] if tag == "script" else []

    def handle_endtag(self, tag):
        self._inside = None if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)

    @property
    def data(self):
        return json.loads(self.scripts[0], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.fixture(scope="module")
def made():
    return made_evaluation({"mt_bench": ONE_TO_FIVE, "words": WORDS}, n=24)


@pytest.fixture(scope="module")
def report(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "new" / "report.html"
    assert html_report(*made, path) == path
    return path.read_text(encoding="utf-8")


class TestHtmlReport:
    def test_is_self_contained(self, report):
        page = Page(report)
        addresses = [attrs[key] for _, attrs in page.tags for key in ("src", "href") if key in attrs]
        assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
        images = [attrs for tag, attrs in page.tags if tag == "img"]
        assert len(images) == 8  # four plots a dataset
        assert all(base64.b64decode(image["src"].split(",")[1]).startswith(b"\x89PNG") for image in images)
        assert all(image["alt"] for image in images)
        assert "@import" not in report and "url(" not in report

    def test_data_is_that_of_the_frames(self, made, report):
        _, predictions = made
        data = Page(report).data
        assert data["judges"] == ["raft", "REAL"]
        assert data["datasets"]["words"] == {"labels": ["poor", "fair", "good", "excellent"], "values": [0, 1, 2, 4]}
        assert [row["row"] for row in data["rows"]] == [*range(24), *range(24)]
        for row in data["rows"]:
            for judge, judgment in zip(data["judges"], row["judgments"], strict=True):
                expected = predictions[row["dataset"]][judge].iloc[row["row"]]
                assert [row["id"], row["group"], row["kept"]] == [
                    expected["id"],
                    expected["group"],
                    {"category": expected["category"]},
                ]
                assert row["target"] == pytest.approx(expected["target"])
                assert data["prompts"][judgment["prompt"]] == expected["prompt"]
                assert judgment["rationale"] + judgment["tail"] == expected["completion"]
                assert judgment["rationale"] == expected["rationale"]
                assert judgment["status"] == expected["status"]
                assert judgment["p"] == pytest.approx(list(expected["probabilities"]), rel=1e-5)
                figures = {"sampled": "sampled_score", "likely": "most_likely_score", "expected": "expected_score",
                           "spread": "spread", "mass": "mass", "missing": "missing_mass", "tokens": "num_tokens",
                           "entropy": "entropy"}  # fmt: skip
                for key, column in figures.items():
                    assert judgment[key] == pytest.approx(expected[column], rel=1e-5)
        assert len(data["prompts"]) == 48  # each once, though two judges read it

    def test_titles_are_in_words(self, report):
        text = Page(report).text
        assert "Judge Inference Pearson's r Spearman's ρ Kendall's τ RMSE" in text
        assert "r is Pearson's; ρ, Spearman's" in text and "RAIL: the expected score ŷ" in text

    def test_figures_and_how_it_was_made(self, made, report):
        evaluation, _ = made
        text = Page(report).text
        rail = evaluation["results"]["mt_bench"]["REAL"]["rail"]
        assert f"{rail['rmse']:.3f}" in text
        assert "mt_bench: 24 rows, 6 groups" in text
        assert "REAL − raft Standard Pearson's r +8.0 +1.0 to +15.0 0.021" in text
        assert text.count("Malformed answers, ") == 4
        assert "mt_bench by category, RAIL" in text
        assert "real-trl evaluate --config evaluate.yaml" in text
        assert '"torch": "2.13.0"' in text
        assert '"num_samples": 1' in text

    def test_policy_lets_only_the_page_s_script_run(self, report):
        page = Page(report)
        data, script = page.scripts
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        (policy,) = (
            attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
        assert [attrs for tag, attrs in page.tags if tag == "script"] == [
            {"type": "application/json", "id": "data"},
            {},
        ]
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", script)

    def test_text_from_data_stays_text(self, tmp_path):
        evaluation = literal_evaluation()
        del evaluation["results"]["fb"]
        for key in ("results", "malformed_conventions"):
            judges = evaluation.get(key, {}).get("mt_bench", {})
            judges[EVIL] = judges.pop("REAL", None)
        evaluation["malformed_conventions"] = {}
        evaluation["results"]["mt_bench"][EVIL]["notes"] = [EVIL]
        evaluation |= {"command": EVIL, "settings": {EVIL: EVIL}, "comparisons": {}}
        frame = pd.DataFrame(
            {"row": [0], "id": [EVIL], "group": [EVIL], "target": [3.0], "status": [EVIL], "rationale": [EVIL], "completion": [EVIL],
             "prompt": [EVIL], "expected_score": [2.0], "probabilities": [[0.2] * 5], EVIL: [EVIL]}
        )  # fmt: skip
        path = html_report(evaluation, {"mt_bench": {EVIL: frame}}, tmp_path / "report.html", title=EVIL, plots=[])
        page = Page(path.read_text(encoding="utf-8"))
        assert [tag for tag, _ in page.tags].count("script") == 2
        assert "img" not in [tag for tag, _ in page.tags]
        assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
        (row,) = page.data["rows"]
        assert row["id"] == row["judgments"][0]["rationale"] == row["kept"][EVIL] == page.data["judges"][0] == EVIL
        assert page.data["prompts"] == [EVIL]

    def test_plots_of_the_caller(self, made, tmp_path):
        evaluation, predictions = made
        (tmp_path / "mine.png").write_bytes(b"\x89PNG mine")
        path = html_report(evaluation, predictions, tmp_path / "report.html", plots=[tmp_path / "mine.png"])
        (image,) = (attrs for tag, attrs in Page(path.read_text(encoding="utf-8")).tags if tag == "img")
        assert base64.b64decode(image["src"].split(",")[1]) == b"\x89PNG mine"
        assert image["alt"] == "mine"

    def test_without_matplotlib(self, made, tmp_path, monkeypatch):
        def no_figure(width, height):
            raise ImportError("matplotlib")

        monkeypatch.setattr("real_trl.report.plots.new_figure", no_figure)
        page = Page(html_report(*made, tmp_path / "report.html").read_text(encoding="utf-8"))
        assert "No plots: matplotlib was not installed." in page.text
        assert len(page.data["rows"]) == 48
        with pytest.raises(ImportError):
            save_plots(*made, tmp_path)


def frame(**columns):
    return pd.DataFrame(
        {"row": [0, 1], "id": ["a", "b"], "target": [1.0, 2.0], "status": "ok", "prompt": "x", **columns}
    )


class TestSnippets:
    def test_of_answers_to_one_question_the_answer_is_shown(self):
        def prompt(question, answer):
            return f"Score it.\n\nQuestion:\n{question}\nAnswer:\n{answer}\nScore:"

        rows = [("a", "Why?", "Since  it\nis so."), ("a", "Why?", "It is not."), ("b", "Where?", "There.")]
        made = pd.DataFrame([{"group": group, "prompt": prompt(*texts)} for group, *texts in rows])
        assert snippets(made) == ["Since it is so.", "It is not.", "Where? There."]
        # An empty answer has nothing of its own but its question; alone, a prompt is all there is
        made.loc[1, "prompt"] = prompt("Why?", "")
        assert snippets(made)[1] == "Why?"
        assert snippets(made[:1]) == ["Score it. Question: Why? Answer: Since it is so. Score:"]

    def test_it_is_short_and_one_line(self):
        made = pd.DataFrame({"prompt": [f"{EVIL}\n{'word ' * 60}", "other"]})
        first, second = snippets(made)
        assert len(first) <= 140 and first.endswith("…") and "\n" not in first and first.startswith("</script>")
        assert second == "other" and snippets(pd.DataFrame({"id": ["a"]})) == [""]

    def test_rows_of_the_page_have_theirs(self, made, report):
        _, predictions = made
        data = Page(report).data
        assert [row["snippet"] for row in data["rows"][:24]] == snippets(predictions["mt_bench"]["raft"])


class TestBrowserData:
    @pytest.fixture
    def evaluation(self):
        return literal_evaluation()

    def test_undefined_values(self, evaluation):
        rows = frame(
            expected_score=[NAN, 2.5],
            probabilities=[[NAN, 0.5], None],
            entropy=[None, None],
            ratings=[[1.0, NAN], None],
        )
        data = browser_data(evaluation, {"mt_bench": {"REAL": rows}})
        json.dumps(data, allow_nan=False)
        first, second = (row["judgments"][0] for row in data["rows"])
        assert (first["expected"], first["p"], first["entropy"]) == (None, [None, 0.5], None)
        assert (second["expected"], second["p"]) == (2.5, None)
        assert [row["ratings"] for row in data["rows"]] == [[1.0, None], None]
        assert data["rows"][1]["group"] == "b"  # without groups, each row is one

    def test_judges_of_other_rows_or_prompts(self, evaluation):
        others = frame(prompt=["x", "y"], kept=["k", np.nan]).iloc[1:]
        data = browser_data(evaluation, {"mt_bench": {"base_50%": frame(), "REAL": others}})
        assert [[judgment and judgment["prompt"] for judgment in row["judgments"]] for row in data["rows"]] == [
            [0, None],
            [0, 1],
        ]
        assert data["prompts"] == ["x", "y"]

    @pytest.mark.parametrize(("column", "message"), [("id", "the id 'z'"), ("target", "the target 9.0")])
    def test_judges_of_different_data(self, evaluation, column, message):
        other = frame()
        other.loc[1, column] = "z" if column == "id" else 9.0
        with pytest.raises(ValueError, match=f"Row 1 of 'mt_bench' has {message} in the predictions of 'REAL'"):
            browser_data(evaluation, {"mt_bench": {"base_50%": frame(), "REAL": other}})

    def test_completion_that_does_not_start_with_the_rationale(self, evaluation):
        rows = frame(rationale=["Good.", None], completion=["Bad. Score 1", "Score 1"])
        first, second = (row["judgments"][0] for row in browser_data(evaluation, {"fb": {"REAL": rows}})["rows"])
        assert (first["rationale"], first["tail"]) == ("Good.", "Bad. Score 1")
        assert (second["rationale"], second["tail"]) == ("", "Score 1")

    def test_plain(self):
        assert plain(np.float32(1 / 3)) == 0.333333
        assert plain({"a": np.array([1, 2]), 3: (np.bool_(True), float("inf"), pd.NaT, pd.NA)}) == {
            "a": [1, 2],
            "3": [True, None, None, None],
        }
        assert plain(123456789) == 123456789  # an integer is exact
        assert plain(pd.Timestamp("2026-01-01")) == "2026-01-01 00:00:00"

    def test_script_json(self):
        text = script_json({"a": EVIL + "\ud800 é"})
        assert not set("<>&\u2028") & set(text)
        assert json.loads(text) == {"a": EVIL + "\ud800 é"}
        text.encode("utf-8")
