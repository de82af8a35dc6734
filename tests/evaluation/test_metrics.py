# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import json
import math
import re
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from real_trl.evaluation.calibration import calibration_columns, calibration_metrics
from real_trl.evaluation.metrics import evaluate_predictions, score_metrics
from real_trl.evaluation.registry import CALIBRATION, METRICS, Sample, nearest_values, pairwise_accuracy
from real_trl.scale import Scale


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class TestScoreMetrics:
    @pytest.mark.usefixtures("only_these_metrics")
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


class TestAccuracyAndKappa:
    @pytest.mark.usefixtures("only_these_metrics")
    def test_by_hand(self):
        # On 1-5, nearest labels of p: 1.4 → 1, 2.5 → 2 (ties go down), 4.0 → 4, 5.3 → 5; of t: 1, 3, 4, 4.5 → 4.
        # Two of four agree. Squared differences 0, 1, 0, 1: mean 1/2. Of independent draws (margins 1, 2, 4, 5 and
        # 1, 3, 4, 4): var p = (1+4+16+25)/4 − 3² = 2.5, var t = (1+9+16+16)/4 − 3² = 1.5, means 3 and 3: 4.
        # κ = 1 − 0.5/4.
        metrics = score_metrics([1.4, 2.5, 4.0, 5.3], [1, 3, 4, 4.5], values=[1, 2, 3, 4, 5])
        assert metrics["accuracy"] == 0.5
        assert metrics["qwk"] == pytest.approx(0.875, abs=1e-12)
        assert list(metrics)[5:] == ["accuracy", "qwk", "n"]

    @settings(deadline=None, max_examples=60)
    @given(
        st.sampled_from([[1, 2, 3, 4, 5], [1, 1.5, 2, 2.5, 3], [0, 10, 100], [5, 2, 1]]),
        st.lists(st.tuples(st.floats(0, 6), st.floats(0, 6)), min_size=1, max_size=25),
    )
    def test_kappa_is_that_of_the_confusion_matrix(self, values, pairs):
        scale = Scale.parse([f"l{i}" for i in range(len(values))], values)
        labels = np.array([[scale.labels.index(scale.nearest_label(score)) for score in pair] for pair in pairs])
        observed = np.zeros((len(values),) * 2)
        np.add.at(observed, (labels[:, 0], labels[:, 1]), 1 / len(pairs))
        expected = observed.sum(1)[:, None] * observed.sum(0)
        weights = np.subtract.outer(np.array(values), np.array(values)) ** 2
        metrics = score_metrics(*zip(*pairs, strict=True), values=values)
        assert metrics["accuracy"] == pytest.approx(np.trace(observed))
        if (weights * expected).sum() < 1e-12:
            assert math.isnan(metrics["qwk"])
        else:
            assert metrics["qwk"] == pytest.approx(
                1 - (weights * observed).sum() / (weights * expected).sum(), abs=1e-9
            )

    @pytest.mark.parametrize("values", [[1, 2, 3, 4, 5], [5, 4.5, 4], [0, 0.1, 0.2, 0.3], [-10, 0, 1000]])
    def test_nearest_label_is_that_of_the_scale(self, values):
        scale = Scale.parse([f"l{i}" for i in range(len(values))], values)
        middles = [(a + b) / 2 for a, b in zip(values[:-1], values[1:], strict=True)]
        scores = [*values, *middles, *np.random.default_rng(0).uniform(-20, 1100, 50), *np.linspace(-1, 6, 71)]
        assert nearest_values(scores, values).tolist() == [scale.value_of(scale.nearest_label(s)) for s in scores]

    def test_against_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        generator = np.random.default_rng(0)
        t, p = generator.integers(1, 6, (2, 200))
        ours = score_metrics(p, t, values=[1, 2, 3, 4, 5])
        assert ours["qwk"] == pytest.approx(metrics.cohen_kappa_score(p, t, weights="quadratic"))
        assert ours["accuracy"] == metrics.accuracy_score(t, p)


class TestPairwiseAccuracy:
    @pytest.mark.usefixtures("only_these_metrics")
    def test_by_hand(self):
        # Question a: targets 1, 2, 2: two pairs (1st with 2nd, 1st with 3rd); predictions 1, 3, 1: right, tie → 1.5 of
        # 2. Question b: targets 5, 3: predictions 2, 4: wrong → 0 of 1. Question c has one row.
        figures = pairwise_accuracy([1, 2, 3, 1, 4, 9], [1, 5, 2, 2, 3, 1], ["a", "b", "a", "a", "b", "c"])
        assert figures == (0.5, 3)

    @settings(deadline=None, max_examples=80)
    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 4), st.booleans()), min_size=0, max_size=30
        )
    )
    def test_against_a_double_loop(self, rows):
        groups, targets, predictions, wrong = np.array(rows, dtype=int).reshape(-1, 4).T
        credits = []
        for i in range(len(rows)):
            for j in range(i):
                if groups[i] == groups[j] and targets[i] != targets[j]:
                    if wrong[i] or wrong[j]:
                        credits.append(0.0)
                    elif predictions[i] == predictions[j]:
                        credits.append(0.5)
                    else:
                        credits.append(float((predictions[i] > predictions[j]) == (targets[i] > targets[j])))
        accuracy, n_pairs = pairwise_accuracy(predictions, targets, groups, wrong)
        assert n_pairs == len(credits)
        assert accuracy == pytest.approx(np.mean(credits)) if credits else math.isnan(accuracy)

    def test_constant_judge_gets_one_half(self):
        assert pairwise_accuracy([3, 3, 3], [1, 2, 3], [0, 0, 0]) == (0.5, 3)

    def test_lengths_are_refused(self):
        with pytest.raises(ValueError, match="`predictions` has 2 rows, `targets` 2 and `groups` 1"):
            pairwise_accuracy([1, 2], [1, 2], ["a"])


class TestCalibration:
    def test_rows_by_hand(self):
        # Values 3, 1, 2 with p = 0.1, 0.2, 0.7 over a mass of 0.5: rising 1, 2, 3 with 0.2, 0.7, 0.1. y* = 2.25 is
        # nearest to 2, the most likely. NLL −0.75 log 0.7 − 0.25 log 0.1. CRPS: E|X − y| = 0.2·1.25 + 0.7·0.25 +
        # 0.1·0.75 = 0.5; ½E|X − X'| = 0.2·0.8 + 0.9·0.1 = 0.25.
        columns = calibration_columns(np.array([[0.05, 0.1, 0.35]]), np.array([2.25]), [3, 1, 2])
        assert columns["confidence"][0] == pytest.approx(0.7)
        assert columns["correct"][0] == 1
        assert columns["nll"][0] == pytest.approx(-0.75 * math.log(0.7) - 0.25 * math.log(0.1))
        assert columns["crps"][0] == pytest.approx(0.25)

    def test_certain_judges(self):
        # A point distribution's CRPS is its absolute error; beyond the scale, the NLL is that of the end.
        probabilities = np.array([[0, 1.0, 0], [1.0, 0, 0], [0, 0, 1.0]])
        columns = calibration_columns(probabilities, np.array([2.0, 3.5, 8.0]), [1, 2, 3])
        assert columns["crps"].tolist() == [0, 2.5, 5]
        assert columns["nll"].tolist() == pytest.approx([0, -math.log(np.finfo(np.float32).tiny), 0])
        assert columns["correct"].tolist() == [1, 0, 1]

    def test_crps_is_the_integral(self):
        generator = np.random.default_rng(0)
        values, probabilities = [0.0, 0.5, 2.0, 3.0], generator.dirichlet(np.ones(4), 20)
        targets = generator.uniform(-1, 4, 20)
        t = np.linspace(-2, 5, 70_001)
        cdf = (probabilities[:, :, None] * (t >= np.array(values)[:, None])).sum(axis=1)
        integral = np.trapezoid((cdf - (t >= targets[:, None])) ** 2, t, axis=1)
        assert calibration_columns(probabilities, targets, values)["crps"] == pytest.approx(integral, abs=1e-3)

    def test_expected_calibration_error_by_hand(self):
        # 20 rows make two bins of 10: confidence 0.6 with 5 right, 0.9 with 10 right: (10·0.1 + 10·0.1) / 20 = 0.1,
        # while the mean confidence 0.75 equals the share correct.
        confidence = np.array([0.6] * 10 + [0.9] * 10)
        correct = np.array([1.0, 0.0] * 5 + [1.0] * 10)
        order = np.random.default_rng(0).permutation(20)
        columns = {
            "confidence": confidence[order],
            "correct": correct[order],
            "nll": np.zeros(20),
            "crps": np.ones(20),
        }
        figures = calibration_metrics(columns)
        assert figures["ece"] == pytest.approx(0.1)
        assert figures["overconfidence"] == pytest.approx(0.0)
        assert [(round(b["confidence"], 6), b["accuracy"], b["n"]) for b in figures["bins"]] == [
            (0.6, 0.5, 10),
            (0.9, 1, 10),
        ]
        # Equal confidences are one bin, whatever the order of rows
        same = calibration_metrics(columns | {"confidence": np.full(20, 0.75)})
        assert same["ece"] == pytest.approx(0.0)
        assert len(same["bins"]) == 1

    def test_calibrated_judge(self):
        generator = np.random.default_rng(0)
        probabilities = generator.dirichlet(np.ones(5), 20_000)
        targets = 1 + (generator.random((20_000, 1)) > np.cumsum(probabilities, axis=1)).sum(axis=1)
        figures = calibration_metrics(calibration_columns(probabilities, targets.astype(float), [1, 2, 3, 4, 5]))
        assert figures["ece"] < 0.02
        sharpened = probabilities**3
        sure = calibration_metrics(calibration_columns(sharpened, targets.astype(float), [1, 2, 3, 4, 5]))
        assert sure["overconfidence"] > 0.2
        assert sure["ece"] == pytest.approx(sure["overconfidence"], abs=0.02)
        assert sure["nll"] > figures["nll"]
        assert sure["crps"] > figures["crps"]


def make_rows(**changes):
    rows = {
        "row": [10, 11, 12, 13],
        "status": ["ok", "missing", "ok", "outside"],
        "target": [1.0, 2.0, 3.0, 4.0],
        "sampled_score": [1.0, 5.0, 4.0, 4.0],
        "expected_score": [1.5, 2.5, 3.0, 3.0],
    }
    return rows | changes


UNDEFINED = {"pairwise_accuracy": pytest.approx(float("nan"), nan_ok=True), "n_pairs": 0}


class TestEvaluatePredictions:
    @pytest.mark.parametrize("container", [dict, pd.DataFrame])
    def test_force(self, container):
        result = evaluate_predictions(container(make_rows()), malformed="force")
        assert result["standard"] == score_metrics([1, 5, 4, 4], [1, 2, 3, 4]) | UNDEFINED
        assert result["rail"] == score_metrics([1.5, 2.5, 3, 3], [1, 2, 3, 4]) | UNDEFINED
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
        assert result["standard"] == score_metrics([1, 4], [1, 3]) | UNDEFINED
        assert result["rail"] == score_metrics([1.5, 3], [1, 3]) | UNDEFINED
        assert result["malformed_rate"] == 0.5
        assert result["malformed_handling"] == "drop"
        assert (result["n_rows"], result["standard"]["n"], result["rail"]["n"]) == (4, 2, 2)

    def test_nothing_malformed(self):
        rows = make_rows(status=["ok"] * 4, group=["a"] * 4)
        results = {
            handling: evaluate_predictions(rows, handling, [1, 2, 3, 4, 5]) for handling in ("force", "drop", "strict")
        }
        for handling in ("drop", "strict"):
            for inference in ("standard", "rail"):
                assert results[handling][inference] == results["force"][inference]
        assert evaluate_predictions(rows)["malformed"] == {}
        assert evaluate_predictions(rows)["notes"] == []

    def test_strict(self):
        # Rows 2 and 4 are malformed. Farthest ends: of target 2 on 1-5 it is 5, of 4 it is 1, whatever was read there.
        rows = make_rows(group=["a", "a", "b", "b"], sampled_score=[1, None, 4, 4], expected_score=[1.5, None, 3, 3])
        result = evaluate_predictions(rows, "strict", values=[1, 2, 3, 4, 5])
        expected = score_metrics([1, 5, 4, 1], [1, 2, 3, 4], [1, 2, 3, 4, 5])
        # Both pairs hold a malformed row, so both are wrong, though 1 < 5 is the order of the targets 1 < 2
        assert result["standard"] == expected | {"pairwise_accuracy": 0.0, "n_pairs": 2}
        assert result["standard"]["accuracy"] == 0.25
        assert result["rail"]["mae"] == pytest.approx((0.5 + 3 + 0 + 3) / 4)
        with pytest.raises(ValueError, match='malformed="strict" needs `values`'):
            evaluate_predictions(rows, "strict")

    def test_strict_counts_as_wrong_on_any_scale(self):
        # The target is the middle of two labels, its nearest label the low one: both ends are as far.
        rows = make_rows(status=["missing"] * 4, target=[0.5, 0, 1, 0.5])
        result = evaluate_predictions(rows, "strict", values=[0, 1])
        assert result["standard"]["accuracy"] == result["rail"]["accuracy"] == 0

    def test_pairs_are_within_a_group(self):
        rows = make_rows(id=["a", "a", "b", "b"])
        result = evaluate_predictions(rows)  # without `group`, `id` is the group
        assert result["standard"]["n_pairs"] == 2
        assert result["standard"]["pairwise_accuracy"] == 0.75  # 1 < 5 as 1 < 2; 4 and 4 for 3 < 4
        assert result["n_groups"] == 2
        assert evaluate_predictions(rows | {"group": ["q"] * 4})["rail"]["n_pairs"] == 6
        with pytest.raises(ValueError, match="Row 12 has no `group`"):
            evaluate_predictions(rows | {"group": ["q", "q", None, "q"]})

    def test_means(self):
        rows = make_rows(num_tokens=[10, 20, 30, 40], mass=[0.5, None, 1.0, None])
        result = evaluate_predictions(rows)
        assert (result["mean_tokens"], result["mean_mass"], result["missing_mass"]) == (25.0, 0.75, None)

    def test_calibration_leaves_out_what_is_unknown(self):
        probabilities = [[0.8, 0.1, 0.0, 0.0, 0.0], None, [0.1, float("nan"), 0.5, 0.1, 0.0], [0.0] * 5]
        rows = make_rows(probabilities=probabilities, status=["ok", "missing", "ok", "ok"])
        result = evaluate_predictions(rows, "force", [1, 2, 3, 4, 5])
        assert result["calibration"]["n"] == 1
        assert result["calibration"]["nll"] == pytest.approx(-math.log(8 / 9))
        assert [n for n in result["notes"] if "calibration" in n] == [
            "calibration: of 4 rows, 2 lack the probability of a label and 1 give no label any: they are left out."
        ]
        strict = evaluate_predictions(rows, "strict", [1, 2, 3, 4, 5])
        assert "calibration: 1 malformed of 4 rows are left out" in " ".join(strict["notes"])
        without = evaluate_predictions(make_rows(), "force", [1, 2, 3, 4, 5])
        assert math.isnan(without["calibration"]["ece"])
        assert "no column `probabilities`" in " ".join(without["notes"])
        assert evaluate_predictions(make_rows())["calibration"] is None
        with pytest.raises(ValueError, match="Row 10 has 5 `probabilities` for 3 labels"):
            evaluate_predictions(rows, "force", [1, 2, 3])

    @pytest.mark.usefixtures("only_these_metrics")
    @pytest.mark.parametrize(
        ("rows", "handling", "words"),
        [
            (
                make_rows(status=["missing"] * 4),
                "drop",
                ["pairwise_accuracy are undefined: all rows are malformed and dropped"],
            ),
            (
                make_rows(expected_score=[3.0] * 4),
                "force",
                ["rail: pearson, spearman, kendall are undefined: all 4 predictions are 3"],
            ),
            (
                make_rows(target=[3.0] * 4),
                "force",
                ["standard: pearson, spearman, kendall are undefined: all 4 targets are 3"],
            ),
            ({k: v[:1] for k, v in make_rows().items()}, "force", ["there is a single row", "qwk is undefined"]),
            (make_rows(), "force", ["pairwise_accuracy is undefined: no two rows of one group differ in target"]),
        ],
        ids=["all dropped", "constant predictions", "constant targets", "single row", "no pairs"],
    )
    def test_every_nan_is_explained(self, rows, handling, words):
        result = evaluate_predictions(rows, handling, values=[1, 2, 3, 4, 5])
        notes = " ".join(result["notes"])
        for word in words:
            assert word in notes
        for inference in ("standard", "rail"):
            own = re.findall(r"\w+", " ".join(note for note in result["notes"] if note.startswith(inference)))
            for name, value in result[inference].items():
                assert (name in own) == math.isnan(value), name
        json.dumps(result)  # plain numbers and text

    def test_everything_dropped(self):
        result = evaluate_predictions(make_rows(status=["missing"] * 4), malformed="drop")
        assert result["malformed_rate"] == 1.0
        assert (result["standard"]["n"], result["n_groups"]) == (0, 0)
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

    def test_columns_are_what_they_say(self):
        targets = [5.0, 4.0, 2.0, 1.0]
        expected = evaluate_predictions(make_rows(target=targets))["rail"]["rmse"]
        for same in (
            [Decimal(5), np.float32(4), "2", 1],
            pd.array([5, 4, 2, 1], "Int64"),
            pd.Categorical([5, 4, 2, 1]),
            pd.Categorical(["5", "4", "2", "1"]),
        ):
            assert evaluate_predictions(make_rows(target=same))["rail"]["rmse"] == expected
        gap = make_rows(target=pd.array([1, None, 3, 4], "Int64"), sampled_score=pd.array([1, None, 4, 4], "Int64"))
        assert evaluate_predictions(gap, malformed="drop")["rail"]["n"] == 2

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"target": ["high", 2, 3, 4]}, "Column `target` is not numeric .*'high'"),
            ({"target": [True, 2, 3, 4]}, r"Column `target` is not numeric \(True in row 10\)"),
            ({"target": ["1", "2", "3", "4_5"]}, "Column `target` is not numeric .*'4_5' in row 13"),
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
        with pytest.raises(ValueError, match="`malformed` is 'ignore': choose one of force, drop, strict"):
            evaluate_predictions(make_rows(), malformed="ignore")


@pytest.mark.parametrize(
    ("name", "needed"), [("accuracy", "values"), ("qwk", "values"), ("pairwise_accuracy", "groups")]
)
def test_a_metric_says_what_its_sample_lacks(name, needed):
    scores = np.array([1.0, 2.0])
    with pytest.raises(ValueError, match=f"^{needed}: the sample has none, and this metric needs them"):
        METRICS[name](Sample(scores, scores, np.zeros(2, dtype=bool)))


def test_a_figure_that_is_not_of_samples_says_so():
    scores = np.array([1.0, 2.0])
    with pytest.raises(TypeError, match="ECE is not computed of a sample"):
        CALIBRATION["ece"](Sample(scores, scores, np.zeros(2, dtype=bool)))


@pytest.mark.parametrize("named", [True, False])
def test_a_mapping_of_probabilities_is_read_by_its_labels(named):
    """A file with sorted keys has "10" behind "1"."""
    values, labels = list(range(1, 11)), [str(value) for value in range(1, 11)]
    of_ten = {label: 0.91 if label == "10" else 0.01 for label in labels}
    rows = {"status": ["ok"] * 2, "target": [10.0] * 2, "sampled_score": [10.0] * 2, "expected_score": [9.5] * 2}
    rows["probabilities"] = [of_ten, {label: of_ten[label] for label in sorted(of_ten)}]
    found = evaluate_predictions(rows, values=values, labels=labels if named else ())
    assert found["calibration"]["nll"] == pytest.approx(-np.log(0.91))
    with pytest.raises(ValueError, match="no probability of the label 'A'"):
        evaluate_predictions(rows, values=values, labels=list("ABCDEFGHIJ"))
