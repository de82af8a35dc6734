# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from real_trl.metrics import evaluate_predictions, score_metrics


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TestScoreMetrics:
    def test_by_hand(self):
        # p = (1, 2, 3, 4, 4), mean 2.8, p - mean = (-1.8, -0.8, 0.2, 1.2, 1.2), squares 3.24+.64+.04+1.44+1.44 = 6.8
        # t = (2, 1, 3, 5, 4), mean 3.0, t - mean = (-1, -2, 0, 2, 1),           squares 1+4+0+4+1 = 10
        # Pearson: products 1.8 + 1.6 + 0 + 2.4 + 1.2 = 7, r = 7 / sqrt(6.8 * 10)
        # Spearman: ranks of p (1, 2, 3, 4.5, 4.5), of t (2, 1, 3, 5, 4), both of mean 3:
        #   deviations (-2, -1, 0, 1.5, 1.5), squares 9.5; (-1, -2, 0, 2, 1), squares 10; products 2+2+0+3+1.5 = 8.5
        # Kendall: 10 pairs; (1st, 2nd) is discordant, (4th, 5th) is tied in p, the other 8 are concordant:
        #   tau-b = (8 - 1) / sqrt((10 - 1) * (10 - 0))
        # errors (-1, 1, 0, -1, 0): squares sum to 3, absolutes to 3
        metrics = score_metrics([1, 2, 3, 4, 4], [2, 1, 3, 5, 4])
        assert metrics["pearson"] == pytest.approx(7 / math.sqrt(68), abs=1e-12)
        assert metrics["spearman"] == pytest.approx(8.5 / math.sqrt(95), abs=1e-12)
        assert metrics["kendall"] == pytest.approx(7 / math.sqrt(90), abs=1e-12)
        assert metrics["rmse"] == pytest.approx(math.sqrt(0.6), abs=1e-12)
        assert metrics["mae"] == pytest.approx(0.6, abs=1e-12)
        assert metrics["n"] == 5
        assert list(metrics) == ["pearson", "spearman", "kendall", "rmse", "mae", "n"]

    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(st.tuples(st.integers(2, 10), st.floats(1, 5, allow_subnormal=False)), min_size=3, max_size=30),
        st.booleans(),
    )
    def test_against_scipy(self, pairs, swap):
        targets, predictions = np.array(pairs, dtype=np.float64).T
        targets = targets / 2  # halves and many ties, as averaged human scores have them
        if np.ptp(targets) == 0 or np.ptp(predictions) < 1e-6:
            return
        if swap:
            targets, predictions = predictions, targets
        metrics = score_metrics(predictions, targets)
        assert metrics["pearson"] == pytest.approx(np.corrcoef(predictions, targets)[0, 1], abs=1e-9)
        assert metrics["spearman"] == pytest.approx(stats.spearmanr(predictions, targets)[0], abs=1e-12)
        assert metrics["kendall"] == pytest.approx(stats.kendalltau(predictions, targets)[0], abs=1e-12)

    def test_sign_and_bounds(self):
        assert score_metrics([1, 2, 3], [5, 4, 1])["kendall"] == -1.0
        two = score_metrics([1.0, 2.0], [3.0, 4.0])
        assert [two[key] for key in ("pearson", "spearman", "kendall")] == pytest.approx([1.0, 1.0, 1.0])

    @pytest.mark.parametrize(
        ("predictions", "targets"),
        [
            ([3, 3, 3], [1, 2, 3]),
            ([1, 2, 3], [3, 3, 3]),
            ([0, 0], [0, 0]),
            ([0.1 + 0.2, 0.3, 0.3], [1, 2, 3]),
            ([4], [5]),
        ],
        ids=["constant predictions", "constant targets", "all zero", "constant up to rounding", "one row"],
    )
    def test_undefined_correlation_is_nan(self, predictions, targets):
        metrics = score_metrics(predictions, targets)
        assert all(math.isnan(metrics[key]) for key in ("pearson", "spearman", "kendall"))
        errors = np.subtract(predictions, targets)
        assert metrics["rmse"] == pytest.approx(math.sqrt(np.mean(errors**2)))
        assert metrics["mae"] == pytest.approx(np.mean(np.abs(errors)))

    def test_small_differences_are_not_constant(self):
        # An expected score that hardly moves still orders the rows.
        assert score_metrics([3.0, 3.0 + 1e-9, 3.0 + 2e-9], [1, 2, 3])["spearman"] == pytest.approx(1.0)

    def test_no_rows(self):
        metrics = score_metrics([], [])
        assert metrics.pop("n") == 0
        assert all(math.isnan(value) for value in metrics.values())

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
    def test_non_finite_is_refused(self, bad):
        with pytest.raises(ValueError, match=r"`predictions` holds (nan|inf) at index 1 \(1 such"):
            score_metrics([1.0, bad], [1.0, 2.0])
        with pytest.raises(ValueError, match="`targets` holds"):
            score_metrics([1.0, 2.0], [1.0, bad])

    def test_shapes_are_refused(self):
        with pytest.raises(ValueError, match="`predictions` has 1 rows and `targets` has 2"):
            score_metrics([1.0], [1.0, 2.0])  # would broadcast
        with pytest.raises(ValueError, match=r"`targets` has shape \(2, 1\)"):
            score_metrics([1.0, 2.0], [[1.0], [2.0]])


def make_rows(**changes):
    rows = {
        "row": [10, 11, 12, 13],
        "status": ["ok", "missing", "ok", "outside"],
        "target": [1.0, 2.0, 3.0, 4.0],
        "sampled_score": [1.0, 5.0, 4.0, 4.0],
        "expected_score": [1.5, 2.5, 3.0, 3.0],
    }
    return rows | changes


class TestEvaluatePredictions:
    @pytest.mark.parametrize("container", [dict, pd.DataFrame])
    def test_force(self, container):
        result = evaluate_predictions(container(make_rows()), malformed="force")
        assert result["standard"] == score_metrics([1, 5, 4, 4], [1, 2, 3, 4])
        assert result["rail"] == score_metrics([1.5, 2.5, 3, 3], [1, 2, 3, 4])
        assert result["rail"]["mae"] == pytest.approx(0.5)  # (0.5 + 0.5 + 0 + 1) / 4
        assert result["malformed_rate"] == 0.5
        assert result["malformed"] == {"missing": 1, "outside": 1}
        assert result["malformed_handling"] == "force"
        assert result["n_rows"] == 4

    @pytest.mark.parametrize("container", [dict, pd.DataFrame])
    def test_drop(self, container):
        # The dropped rows may have no score at all; the rate is still over every row.
        rows = make_rows(sampled_score=[1.0, None, 4.0, None], expected_score=[1.5, None, 3.0, 3.0])
        result = evaluate_predictions(container(rows), malformed="drop")
        assert result["standard"] == score_metrics([1, 4], [1, 3])
        assert result["rail"] == score_metrics([1.5, 3], [1, 3])
        assert result["malformed_rate"] == 0.5
        assert result["malformed_handling"] == "drop"
        assert (result["n_rows"], result["standard"]["n"], result["rail"]["n"]) == (4, 2, 2)

    def test_nothing_malformed(self):
        rows = make_rows(status=["ok"] * 4)
        assert evaluate_predictions(rows, "force") == evaluate_predictions(rows, "drop") | {
            "malformed_handling": "force"
        }
        assert evaluate_predictions(rows)["malformed"] == {}

    def test_everything_dropped(self):
        result = evaluate_predictions(make_rows(status=["missing"] * 4), malformed="drop")
        assert result["malformed_rate"] == 1.0
        assert result["standard"]["n"] == 0
        assert math.isnan(result["rail"]["rmse"])

    def test_force_needs_every_score(self):
        rows = make_rows(expected_score=[1.5, None, 3.0, 3.0])
        with pytest.raises(ValueError, match=r"Row 11 \(status 'missing'\) has `expected_score` nan.*\"drop\""):
            evaluate_predictions(rows, malformed="force")
        del rows["row"]  # then the position names it
        with pytest.raises(ValueError, match=r"Row 1 \("):
            evaluate_predictions(pd.DataFrame(rows), malformed="force")

    def test_ok_row_needs_score_and_target(self):
        # "drop" is no way out for a row that is well formed, so it isn't offered.
        with pytest.raises(ValueError, match=r"Row 12 .*'ok'\) has `sampled_score` nan .*finite value\.$"):
            evaluate_predictions(make_rows(sampled_score=[1.0, 1.0, None, 1.0]), malformed="drop")
        with pytest.raises(ValueError, match=r"Row 10 \(status 'ok'\) has `target` nan"):
            evaluate_predictions(make_rows(target=[None, 2.0, 3.0, 4.0]))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"target": ["high", 2, 3, 4]}, "Column `target` is not numeric .*'high'"),
            ({"target": [1.0]}, "Column `target` has 1 rows, `status` has 4"),
            ({key: [] for key in make_rows()}, "`rows` is empty"),
        ],
    )
    def test_bad_columns(self, changes, message):
        with pytest.raises(ValueError, match=message):
            evaluate_predictions(make_rows(**changes))

    def test_missing_column_and_unknown_handling(self):
        rows = make_rows()
        del rows["expected_score"]
        with pytest.raises(ValueError, match="no column `expected_score`: it has row, status, target, sampled_score"):
            evaluate_predictions(rows)
        with pytest.raises(ValueError, match="`malformed` is 'ignore': choose one of force, drop"):
            evaluate_predictions(make_rows(), malformed="ignore")
