# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from real_trl.report import latex_table, markdown_report
from real_trl.report.markup import latex_escape, markdown_escape
from tests.report.made import literal_evaluation


@pytest.fixture
def evaluation():
    return literal_evaluation()


class TestLatex:
    def test_layout_of_table_2(self, evaluation):
        lines = latex_table(evaluation, underline=["base_50%"]).splitlines()
        body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
        # Averages by hand: (59.3 + 93.2) / 2 = 76.25, (56.9 + 93.4) / 2 = 75.15, (42.2 + 82.5) / 2 = 62.35 and
        # (0.968 + 0.5) / 2 = 0.734; base, RAIL, ρ: (29.9 + 84.3) / 2 = 57.1
        assert [re.sub(r"\\\w+{([^{}]*)}", r"\1", row) for row in body[2:]] == [
            r"REAL & RL & Standard & 55.0 & 53.0 & 45.0 & 1.000 & 90.0 & 90.0 & 80.0 & 0.600 & 72.5 & 71.5 & 62.5 & 0.800 \\",
            r"REAL & RL & RAIL & 59.3 & 56.9 & 42.2 & 0.968 & 93.2 & 93.4 & 82.5 & 0.500 & 76.2 & 75.2 & 62.3 & 0.734 \\",
        ]
        # One undefined correlation leaves the average undefined, but not that of the error
        assert body[0] == (
            r"\underline{base\_50\%} & – & Standard & 30.9 & 31.8 & 25.3 & 1.225 & n/a & n/a & n/a & 1.500 "
            r"& n/a & n/a & n/a & 1.363 \\"
        )
        assert body[1].startswith(r"\underline{base\_50\%} & – & RAIL & 32.0 & 29.9 & 21.4 & 1.200 & 83.7")
        assert re.findall(r"textbf{([^}]*)}", "\n".join(body)) == [
            *("45.0", "62.5"),
            *("59.3", "56.9", "0.968", "93.2", "93.4", "82.5", "0.500", "76.2", "75.2", "0.734"),
        ]

    def test_is_well_formed(self, evaluation):
        text = latex_table(evaluation)
        lines = text.splitlines()
        columns = re.search(r"\\begin{tabular}{([lr ]+)}", text)[1].replace(" ", "")
        assert columns == "lll" + "rrrr" * 3
        rows = [line for line in lines if line.endswith(r" \\")]
        assert len(rows) == 2 + 4
        for row in rows:
            spanned = sum(int(width) - 1 for width in re.findall(r"\\multicolumn{(\d+)}", row))
            assert row.count("&") + spanned == len(columns) - 1
        assert r"\cmidrule(lr){4-7}\cmidrule(lr){8-11}\cmidrule(lr){12-15}" in lines
        assert r"\multicolumn{4}{c}{mt\_bench} & \multicolumn{4}{c}{fb} & \multicolumn{4}{c}{Average}" in text
        assert text.count("{") == text.count("}")
        assert re.findall(r"\\(begin|end){([a-z*]+)}", text) == [
            ("begin", "table*"), ("begin", "tabular"), ("end", "tabular"), ("end", "table*")
        ]  # fmt: skip
        assert "Malformed answers: force." in text
        assert r"\caption{Mine}" in latex_table(evaluation, caption="Mine")

    def test_one_dataset_has_no_average(self, evaluation):
        del evaluation["results"]["fb"]
        assert "Average" not in latex_table(evaluation)

    def test_errors_on_different_scales_have_no_average(self, evaluation):
        evaluation["datasets"]["fb"]["values"] = [0.0, 50.0, 100.0]
        row = next(line for line in latex_table(evaluation).splitlines() if line.startswith("REAL & RL & RAIL"))
        assert row.endswith(r"\textbf{76.2} & \textbf{75.2} & 62.3 & n/a \\")

    def test_judge_that_lacks_a_dataset(self, evaluation):
        del evaluation["results"]["fb"]["REAL"]
        row = next(line for line in latex_table(evaluation).splitlines() if line.startswith("REAL & RL & RAIL"))
        assert row.count("n/a") == 8  # of the dataset and of the average

    def test_escape(self):
        assert latex_escape("a_b & 50% of $x$ #1 {c} ~ ^ \\d\ne") == (
            r"a\_b \& 50\% of \$x\$ \#1 \{c\} \textasciitilde{} \textasciicircum{} \textbackslash{}d e"
        )


class TestMarkdown:
    def test_report(self, evaluation):
        text = markdown_report(evaluation, underline=["base_50%"])
        lines = text.splitlines()
        header = next(line for line in lines if line.startswith("| Method"))
        assert header.startswith(
            r"| Method | Training | Inference | mt\_bench Pearson's r | mt\_bench Spearman's ρ | mt\_bench Kendall's τ | mt\_bench RMSE | fb P"
        )
        assert header.endswith("| Average Pearson's r | Average Spearman's ρ | Average Kendall's τ | Average RMSE |")
        assert (
            "| REAL | RL | RAIL | **59.3** | **56.9** | 42.2 | **0.968** | **93.2** | **93.4** | **82.5** | **0.500** "
            "| **76.2** | **75.2** | 62.3 | **0.734** |"
        ) in lines
        assert sum(line.startswith(r"| <ins>base\_50%</ins> | – | ") for line in lines) == 2
        assert (
            r"| base\_50% | Standard | 30.9 [25.0, 36.0] | 31.8 | 25.3 | 1.225 [1.100, 1.350] | 0.901 | 40.0 | 30.0 | 320 |"
            in lines
        )
        assert r"| REAL − base\_50% | Standard | Pearson's r | +5.0 | -1.0 to +11.0 | 0.091 |" in lines
        assert r"|  | RAIL | Pearson's r | **+27.3** | +20.0 to +34.0 | \<0.001 |" in lines
        assert any(
            line.startswith(r"- Malformed answers, base\_50%: 12 of 320 (3.8%: 10 missing, 2 truncated)")
            for line in lines
        )
        assert "```\nevaluate --judges base real\n```" in text
        assert r"| real\_trl | 0.3 |" in lines

    def test_tables_are_rectangular(self, evaluation):
        block = []
        for line in [*markdown_report(evaluation).splitlines(), ""]:
            if line.startswith("|"):
                block.append(len(re.findall(r"(?<!\\)\|", line)))
            elif block:
                assert len(set(block)) == 1
                block = []

    def test_text_from_data_stays_text(self, evaluation):
        evil = "a|b <img src=x> `c` [d](e)\n# f"
        evaluation["results"]["mt_bench"][evil] = evaluation["results"]["mt_bench"].pop("REAL")
        evaluation["command"] = "evaluate ```` x"
        text = markdown_report(evaluation)
        assert r"| a\|b \<img src=x\> \`c\` \[d\](e) \# f | – | RAIL |" in text
        assert "<img" not in text.replace(r"\<img", "")
        assert "`````\nevaluate ```` x\n`````" in text

    def test_escape(self):
        assert markdown_escape("1 < 2 & *a*_b_") == r"1 \< 2 \& \*a\*\_b\_"
