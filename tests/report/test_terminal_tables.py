# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from real_trl.report import evaluation_table, markdown_report
from tests.report.made import NAN, ONE_TO_FIVE, PERCENT, figures, literal_evaluation, made_evaluation, result
from tests.report.rendering import lines_of, render


@pytest.fixture
def evaluation():
    return literal_evaluation()


def words(text):
    return " ".join(text.split())


class TestEvaluationTable:
    def test_figures(self, evaluation):
        rows = lines_of(render(evaluation_table(evaluation), width=120))
        start = rows.index("mt_bench: 320 rows, 80 groups")
        assert rows[start + 1 : start + 7] == [
            "base_50% Standard 30.9 31.8 25.3 1.225 0.901 40.0 30.0 320",
            "25.0–36.0 1.100–1.350",
            "RAIL 32.0 29.9 21.4 1.200 0.900 41.0 31.0 320",
            "-2.0 to 38.0 1.000–1.300",  # a dash beside a sign would be read as one; [nan, nan] is no interval
            "REAL Standard 55.0 53.0 45.0 1.000 0.700 50.0 50.0 320",
            "RAIL 59.3 56.9 42.2 0.968 0.697 52.0 55.0 320",
        ]
        start = rows.index("fb: 100 rows, 20 groups")
        assert rows[start + 1] == "base_50% Standard n/a n/a n/a 1.500 1.250 100"

    def test_malformed_answers_are_always_said(self, evaluation):
        text = words(render(evaluation_table(evaluation), width=120))
        assert (
            "Malformed answers, base_50%: 12 of 320 (3.8%: 10 missing, 2 truncated); convention force (read at a forced "
            "marker, and counted)." in text
        )
        assert "Malformed answers, REAL: none of 320; convention force" in text
        assert text.count("Malformed answers, ") == 4  # two judges on two datasets
        evaluation["results"]["fb"]["REAL"]["malformed_handling"] = "strict"
        assert "none of 100; convention strict (counted as wrong" in words(render(evaluation_table(evaluation)))

    def test_undefined_figures_come_with_their_note(self, evaluation):
        text = words(render(evaluation_table(evaluation), width=120))
        assert "Note, base_50%, standard: every prediction is 3, so the correlations are not defined" in text
        none = {"pearson": None}  # as JSON has it
        evaluation["results"]["fb"]["base_50%"]["standard"] |= none
        assert words(render(evaluation_table(evaluation), width=120)) == text

    def test_comparisons(self, evaluation):
        rows = lines_of(render(evaluation_table(evaluation), width=100))
        start = rows.index("REAL − base_50% Standard Pearson's r +5.0 -1.0 to +11.0 0.091")
        assert rows[start + 1 : start + 3] == ["RAIL Pearson's r +27.3 +20.0 to +34.0 <0.001", "RMSE n/a n/a n/a"]

    def test_comparisons_are_in_the_metrics_of_the_paper(self, evaluation):
        (pair,) = evaluation["comparisons"]["mt_bench"]
        pair["rail"]["qwk"] = pair["rail"]["pearson"]
        row = "QWK +27.3 +20.0 to +34.0 <0.001"
        assert row not in lines_of(render(evaluation_table(evaluation), width=100))
        assert "| QWK | **+27.3** |" in markdown_report(evaluation)

    def test_adjusted_p_is_shown_with_several_pairs(self, evaluation):
        pairs = evaluation["comparisons"]["mt_bench"]
        pairs.append({"a": "REAL", "b": "other", "standard": {}, "rail": {}, "notes": ["7 rows are left out."]})
        for name, (p, adjusted) in {"standard": (0.03, 0.06), "rail": (0.001, 0.002)}.items():
            pairs[0][name]["pearson"] |= {"p_value": p, "p_adjusted": adjusted}
            pairs[1][name]["pearson"] = {"difference": 0.1, "interval": [0, 0.2], "p_value": p, "p_adjusted": adjusted}
        text = render(evaluation_table(evaluation), width=100, styles=True)
        assert "p adjusted" in text
        assert "\x1b[1m+27.3" in re.sub(r"\x1b\[1m +", "\x1b[1m", text)
        assert "\x1b[1m+5.0" not in re.sub(r"\x1b\[1m +", "\x1b[1m", text)  # 0.03 before, 0.06 after
        rows = lines_of(render(evaluation_table(evaluation), width=100))
        assert "REAL − base_50% Standard Pearson's r +5.0 -1.0 to +11.0 0.030 0.060" in rows
        assert "Note, REAL − other: 7 rows are left out." in rows
        assert "+0.0 to +20.0" not in words(text)  # a zero has no sign
        assert "0.0 to +20.0" in words(text)

    @pytest.mark.usefixtures("only_these_metrics")
    @pytest.mark.parametrize("width", [60, 80, 100, 120])
    def test_fits_the_terminal(self, width):
        evaluation, _ = made_evaluation({"mt_bench": ONE_TO_FIVE, "percent": PERCENT})
        text = render(evaluation_table(evaluation, ["category"]), width=width)
        assert max(map(len, text.splitlines())) <= width
        for figure in evaluation["results"]["percent"]["REAL"]["intervals"]["rail"]["rmse"]:
            assert f"{figure:.3f}" in text  # whole at every width
        left_out = {60: "Left out at this width: MAE, Acc., QWK, Pairs, n.", 120: None}
        if width in left_out:
            assert (left_out[width] or "Left out") in words(text) or left_out[width] is None
        assert ("Left out" in text) == (width < 120)

    def test_names_are_not_markup(self, evaluation):
        evaluation["results"]["mt_bench"]["[red]REAL[/red]"] = evaluation["results"]["mt_bench"].pop("REAL")
        assert "[red]REAL[/red] Standard 55.0" in words(render(evaluation_table(evaluation), width=120))

    def test_best_is_bold(self, evaluation):
        text = render(evaluation_table(evaluation), width=120, styles=True)
        assert set(re.findall(r"\x1b\[1m *([\d.]+)\x1b", text)) == {
            *("59.3", "56.9", "45.0", "0.968", "0.697", "52.0", "55.0"),
            *("93.2", "93.4", "82.5", "0.500", "0.400"),
        }

    def test_ceiling(self, evaluation):
        evaluation["ceiling"] = {
            "fb": {
                "leave_one_out": {"pearson": 0.95, "spearman": 0.9, "kendall": 0.85, "rmse": 0.25, "mae": 0.125},
                "between": {"pearson": 0.75, "spearman": 0.7, "kendall": 0.65, "rmse": 0.5, "mae": NAN},
                "intervals": {"leave_one_out": {"pearson": [0.925, 0.975]}},
                "n_rows": 90,
                "n_raters": 3,
                "notes": ["10 of 100 rows have fewer than two ratings: they are left out."],
            }
        }
        text = render(evaluation_table(evaluation), width=100, styles=True)
        assert "\x1b[1m95.0" not in re.sub(r"\x1b\[1m +", "\x1b[1m", text)  # raters are not in the competition
        rows = lines_of(render(evaluation_table(evaluation), width=100))
        assert "Raters Others 95.0 90.0 85.0 0.250 0.125 90" in rows
        assert "Another 75.0 70.0 65.0 0.500 n/a 90" in rows
        assert "Raters, the ceiling: one of 3 raters against the mean of the others, and against one other." in rows
        assert "Note, raters: 10 of 100 rows have fewer than two ratings: they are left out." in rows

    def test_people(self, evaluation):
        judge = {"alpha": 0.5, "change": -0.125, "interval": [-0.25, 0.0], "with": 0.55}
        found = {"alpha": 0.625, "icc_single": NAN, "icc_mean": NAN, "intervals": {"alpha": [0.5, 0.75]}}
        found |= {
            "judges": {"REAL, rail": judge},
            "unlike": ["Rater 2 gives 0.70 [0.50, 0.90] more."],
            "notes": ["few."],
        }
        evaluation["people"] = {"fb": found | {"n_rows": 90, "n_raters": 3, "n_complete": 0}}
        text = render(evaluation_table(evaluation), width=100)
        rows = lines_of(text)
        assert "fb: people, 90 rows" in text and "3 people 0.625 n/a n/a" in rows and "0.500–0.750" in text
        assert "REAL for one of them, RAIL 0.500 -0.125" in rows
        assert "Rater 2 gives 0.70 [0.50, 0.90] more." in text and "Note, raters: few." in text

    def test_breakdown_on_request(self, evaluation):
        row = figures(0.5, 0.4, 0.3, 1.0, 0.8, n=40)
        evaluation["breakdown"] = {"mt_bench": {"category": {"maths": {"REAL": result(row, row)}}}}
        assert "by category" not in render(evaluation_table(evaluation))
        text = render(evaluation_table(evaluation, ["category"]), width=100)
        assert "mt_bench by category, RAIL" in text
        assert "maths REAL 50.0 40.0 30.0 1.000 0.800 40" in words(text)
        with pytest.raises(ValueError, match="No breakdown of 'mt_bench' by 'length': made were 'category'"):
            evaluation_table(evaluation, ["length"])

    def test_conventions_where_answers_were_malformed(self, evaluation):
        row = figures(0.5, 0.4, 0.3, 1.0, 0.8, n=308)
        conventions = {"drop": {"standard": row, "rail": row}, "strict": {"standard": row, "rail": row}}
        evaluation["malformed_conventions"] = {"mt_bench": {"base_50%": conventions, "REAL": conventions}}
        text = words(markdown_report(evaluation).replace("|", " ").replace("**", ""))
        assert r"base\_50% drop Standard 50.0 40.0 30.0 1.000 0.800 308 RAIL" in text
        assert "REAL drop" not in text  # none were malformed: all conventions are the same
        assert "drop" not in render(
            evaluation_table(evaluation), width=100
        )  # the terminal has the convention asked for

    def test_probes(self, evaluation):
        base = {"share_raised": 0.25, "share_lowered": 0.0, "malformed_rate": 0.0, "n": 320}
        evaluation["probes"] = {
            "mt_bench": {
                "REAL": {
                    "planted": {"mean_shift": 0.12, "interval": [0.05, 0.2], "expected": "not up", "as_expected": False, **base},
                    "padding": {"mean_shift": None, "interval": None, "notes": ["mean_shift: no row"], **base},
                }
            }
        }  # fmt: skip
        text = render(evaluation_table(evaluation), width=100)
        rows = lines_of(text)
        assert "REAL planted +0.120 25.0% 0.0% 0.0% 320 not up swayed" in rows
        assert "+0.050 to +0.200" in rows
        assert "padding n/a 25.0% 0.0% 0.0% 320 n/a" in rows
        assert "REAL, padding: mean_shift: no row" in text

    def test_calibration(self, evaluation):
        calibration = {"ece": 0.0625, "overconfidence": -0.01, "nll": 1.5, "crps": NAN, "n": 300, "bins": []}
        evaluation["results"]["fb"]["REAL"]["calibration"] = calibration
        evaluation["results"]["fb"]["REAL"]["intervals"] = {"calibration": {"nll": [1.25, 1.75]}}
        row = next(line for line in markdown_report(evaluation).splitlines() if "0.062" in line)
        cells = [cell.strip().replace("**", "") for cell in row.strip("|").split("|")]
        assert cells == ["REAL", "0.062", "-0.010", "1.500 [1.250, 1.750]", "n/a", "300"]

    def test_nothing_to_report(self, evaluation):
        with pytest.raises(ValueError, match="`evaluation` has no 'results'"):
            evaluation_table({**evaluation, "results": {}})
        with pytest.raises(ValueError, match="lacks the results of dataset 'fb'"):
            evaluation_table({**evaluation, "results": {"fb": {}}})
        with pytest.raises(ValueError, match="lacks the size and scale of dataset 'new'"):
            evaluation_table({**evaluation, "results": {"new": evaluation["results"]["fb"]}})
