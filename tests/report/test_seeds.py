# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import copy
import math
import re

import pytest

from real_trl.report import results_table, summarize_seeds
from tests.report.made import NAN
from tests.report.rendering import bold_words, lines_of, render


def metrics(pearson, spearman, kendall, rmse, mae):
    return {"pearson": pearson, "spearman": spearman, "kendall": kendall, "rmse": rmse, "mae": mae, "n": 50}


@pytest.fixture
def summary():
    return {
        "base": {
            "id": {"standard": metrics(0.5, 0.4, 0.3, 1.5, 1.2), "rail": metrics(0.6, 0.5, 0.4, 1.4, 1.1)},
            "ood": {"standard": metrics(NAN, NAN, NAN, 1.75, 1.25), "rail": metrics(-0.1, 0.2, 0.1, 1.6, 1.5)},
        },
        "REAL": {
            "id": {"standard": metrics(0.8, 0.7, 0.61, 0.9, 0.625), "rail": metrics(0.9, 0.7001, 0.6, 0.7, 0.5)},
            "ood": {"standard": metrics(0.7, 0.6, 0.5, 1.1, 0.8), "rail": metrics(0.876, 0.8, 0.7, 0.91, 0.7)},
        },
    }


class TestResultsTable:
    def test_figures(self, summary):
        base, base_rail, real, real_rail = lines_of(render(results_table(summary)))
        assert base == "base Standard 50.0 40.0 30.0 1.500 1.200 n/a n/a n/a 1.750 1.250"
        assert base_rail == "RAIL 60.0 50.0 40.0 1.400 1.100 -10.0 20.0 10.0 1.600 1.500"
        assert real == "REAL Standard 80.0 70.0 61.0 0.900 0.625 70.0 60.0 50.0 1.100 0.800"
        assert real_rail == "RAIL 90.0 70.0 60.0 0.700 0.500 87.6 80.0 70.0 0.910 0.700"

    def test_header(self, summary):
        splits, titles = render(results_table(summary)).splitlines()[:2]
        assert splits.split() == ["ID"] * 5 + ["OOD"] * 5
        assert titles.split() == ["Method", "Inference"] + ["r", "ρ", "τ", "RMSE", "MAE"] * 2

    def test_best_of_each_column_is_bold(self, summary):
        # ID: ρ is 70.0 twice as printed (0.7 and 0.7001), so both; τ is best under standard decoding; errors are best
        # where they are least, and n/a is never best.
        text = render(results_table(summary), styles=True)
        rows = [line for line in text.splitlines() if re.search(r"\d\.\d|n/a", line) and "Kendall" not in line]
        assert [bold_words(row) for row in rows] == [
            [],
            [],
            ["70.0", "61.0"],
            ["90.0", "70.0", "0.700", "0.500", "87.6", "80.0", "70.0", "0.910", "0.700"],
        ]

    def test_column_without_any_value(self, summary):
        for method in summary.values():
            for inference in method["ood"].values():
                inference["kendall"] = NAN
        assert render(results_table(summary)).count("n/a") == 4 + 2

    def test_fits_eighty_columns(self, summary):
        for table in (results_table(summary), results_table(summarize_seeds([summary, summary]))):
            text = render(table, width=80)
            assert "…" not in text
            assert max(map(len, text.splitlines())) <= 80

    def test_what_is_worth_nothing_is_red_and_never_bold(self, summary):
        for split in summary["REAL"].values():
            split["rail"]["doubtful"] = 1.0
        text = render(results_table(summary), styles=True)
        *_, standard, rail = [
            line for line in text.splitlines() if re.search(r"\d\.\d|n/a", line) and "Kendall" not in line
        ]
        assert bold_words(rail) == [] and bold_words(standard)[:3] == ["80.0", "70.0", "61.0"]
        red = [each.strip() for each in re.findall(r"\x1b\[31m(.*?)\x1b", rail)]
        assert [each for each in red if each] == [
            "90.0",
            "70.0",
            "60.0",
            "0.700",
            "0.500",
            "87.6",
            "80.0",
            "70.0",
            "0.910",
            "0.700",
        ]
        assert "Red: worth nothing" in " ".join(text.split())

    def test_always_the_mean(self, summary):
        for method in summary.values():
            for split, rmse in zip(method, (1.414, 1.2), strict=True):
                method[split]["always_mean"] = {"value": 3.0, "rmse": rmse, "mae": 1.0, "n": 50}
        *_, last = lines_of(render(results_table(summary)))
        assert last == "Always mean n/a n/a n/a 1.414 1.000 n/a n/a n/a 1.200 1.000"
        several = render(results_table(summarize_seeds([summary, summary])), width=80).splitlines()
        assert max(map(len, several)) <= 80 and any(line.split() == ["±0.000"] * 4 for line in several)
        assert "Always mean: what always" in " ".join(render(results_table(summary)).split())

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            (("REAL", "ood"), "no REAL → ood → standard → pearson .'ood' is missing"),
            (("base", "id", "rail"), "'rail' is missing"),
            (("base", "id", "rail", "mae"), "base → id → rail → mae .'mae' is missing"),
        ],
    )
    def test_incomplete_summary(self, summary, path, message):
        *parents, last = path
        inner = summary
        for key in parents:
            inner = inner[key]
        del inner[last]
        with pytest.raises(ValueError, match=message):
            results_table(summary)

    def test_empty_summary(self):
        with pytest.raises(ValueError, match="at least one method"):
            results_table({})


class TestSummarizeSeeds:
    def test_by_hand(self, summary):
        # REAL, OOD, RAIL: r = 0.876, 0.816, 0.846: mean 0.846, deviations ±0.03 and 0, so
        # std = sqrt((0.0009 + 0.0009 + 0) / (3 - 1)) = 0.03
        seeds = [copy.deepcopy(summary) for _ in range(3)]
        for seed, pearson in zip(seeds, (0.876, 0.816, 0.846), strict=True):
            seed["REAL"]["ood"]["rail"]["pearson"] = pearson
        joined = summarize_seeds(seeds)
        leaf = joined["REAL"]["ood"]["rail"]["pearson"]
        assert leaf == {
            "mean": pytest.approx(0.846),
            "std": pytest.approx(0.03),
            "values": [0.876, 0.816, 0.846],
        }
        assert joined["base"]["id"]["rail"]["rmse"]["std"] == pytest.approx(0.0, abs=1e-12)

        text = render(results_table(joined))
        rows = lines_of(text)
        assert rows[6] == "RAIL 90.0 70.0 60.0 0.700 0.500 84.6 80.0 70.0 0.910 0.700"
        assert rows[7] == "±0.0 ±0.0 ±0.0 ±0.000 ±0.000 ±3.0 ±0.0 ±0.0 ±0.000 ±0.000"
        assert "over 3 seeds" in " ".join(text.split())
        assert text.count("n/a") == 3  # no ± below an undefined mean

    def test_one_seed(self, summary):
        joined = summarize_seeds([summary])
        assert math.isnan(joined["REAL"]["id"]["rail"]["mae"]["std"])
        assert render(results_table(joined)) == render(results_table(summary))

    def test_nan_in_one_seed_is_kept(self, summary):
        failed = copy.deepcopy(summary)
        failed["REAL"]["id"]["rail"]["pearson"] = NAN
        assert math.isnan(summarize_seeds([summary, failed])["REAL"]["id"]["rail"]["pearson"]["mean"])

    def test_shapes_must_agree(self, summary):
        other = copy.deepcopy(summary)
        del other["REAL"]["ood"]["rail"]
        with pytest.raises(ValueError, match=r"summary\['REAL'\]\['ood'\] has the keys .*'rail'\] in summary 0 .* 1"):
            summarize_seeds([summary, other])
        other["REAL"] = 0.5
        for pair in ([summary, other], [other, summary]):
            with pytest.raises(ValueError, match=r"summary\['REAL'\] has the keys"):
                summarize_seeds(pair)
        with pytest.raises(ValueError, match="at least one seed"):
            summarize_seeds([])
