# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import json
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from real_trl.evaluation.agreement import rater_agreement
from real_trl.evaluation.comparison import _randomisation_p_values, compare_judges, holm, paired_comparison
from real_trl.evaluation.grouped_scores import GroupedScores
from real_trl.evaluation.intervals import breakdown, evaluate_with_intervals
from real_trl.evaluation.metrics import evaluate_predictions, score_metrics
from real_trl.evaluation.registry import METRICS, Metric, pairwise_accuracy
from real_trl.evaluation.resampling import (
    MAX_BLOCKS,
    bootstrap_weights,
    clustered_intervals,
    expanded_bca_interval,
    united_blocks,
)
from real_trl.evaluation.rows import counted_rows

VALUES = [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def draw(generator, n_groups, group_error=0.45, row_error=0.3):
    """Scores on 1-5 of 4 or 5 answers to each question. Questions differ in level, and in how far the judge is off."""
    groups = np.repeat(np.arange(n_groups), generator.integers(4, 6, n_groups))
    level, error = 0.6 * generator.standard_normal(n_groups), group_error * generator.standard_normal(n_groups)
    targets = 3 + level[groups] + 0.9 * generator.standard_normal(len(groups))
    targets = np.clip(np.round(2 * targets) / 2, 1, 5)
    predictions = targets + error[groups] + row_error * generator.standard_normal(len(groups))
    return np.clip(predictions, 1, 5), targets, groups


def make_frame(seed=0, n_groups=80, data_seed=0, malformed=0.0, **errors):
    """One judge; frames of equal `data_seed` have the same rows."""
    predictions, targets, groups = draw(np.random.default_rng(data_seed), n_groups, 0, 0)
    generator = np.random.default_rng(seed + 1000)
    shift = errors.get("group_error", 0.45) * generator.standard_normal(n_groups)
    predictions = targets + shift[groups] + errors.get("row_error", 0.3) * generator.standard_normal(len(groups))
    predictions = np.clip(predictions, 1, 5)
    probabilities = np.exp(-((predictions[:, None] - np.array(VALUES)) ** 2) / 0.8)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    n = len(groups)
    return pd.DataFrame(
        {
            "row": np.arange(n),
            "id": [f"row-{i}" for i in range(n)],
            "group": [f"question {group}" for group in groups],
            "target": targets,
            "status": np.where(generator.random(n) < malformed, "missing", "ok"),
            "sampled_score": np.round(predictions),
            "expected_score": predictions,
            "probabilities": probabilities.tolist(),
            "category": [("writing", "maths", "code")[group % 3] for group in groups],
        }
    )


class TestGroupedScores:
    @settings(deadline=None, max_examples=60)
    @given(
        st.lists(
            st.tuples(st.integers(0, 4), st.integers(2, 10), st.integers(0, 20), st.booleans()),
            min_size=2,
            max_size=25,
        ),
        st.lists(st.integers(0, 3), min_size=5, max_size=5),
    )
    def test_weights_repeat_rows(self, rows, weights):
        """Every metric of every reweighted sample is that of the sample with its rows written out."""
        groups, targets, predictions, wrong = np.array(rows, dtype=int).T
        targets, predictions, wrong = targets / 2, predictions / 4, wrong.astype(bool)
        scores = GroupedScores(predictions, targets, groups, VALUES, wrong)
        weights = np.array(weights)
        if weights[groups].sum() == 0:
            return
        figures = {name: figure[1] for name, figure in scores.metrics(np.stack([np.ones(5), weights])).items()}

        copies = [(row, copy) for row in range(len(groups)) for copy in range(weights[groups[row]])]
        rows, copy = np.array(copies).T
        expected = score_metrics(predictions[rows], targets[rows], VALUES)
        hits = np.array([score_metrics(predictions[[i]], targets[[i]], VALUES)["accuracy"] for i in rows])
        expected["accuracy"] = np.mean(hits * ~wrong[rows])
        own_groups = groups[rows] * 10 + copy  # a group drawn twice is two groups
        expected["pairwise_accuracy"] = pairwise_accuracy(predictions[rows], targets[rows], own_groups, wrong[rows])[0]
        for name in METRICS:
            assert figures[name] == pytest.approx(expected[name], abs=1e-9, nan_ok=True), name

    def test_blocks_are_whole_groups(self):
        predictions, targets, groups = draw(np.random.default_rng(0), 1500)
        blocks, n_blocks = united_blocks(groups, 1500, seed=0)
        assert n_blocks == MAX_BLOCKS
        pairs = np.unique(np.column_stack([groups, blocks]), axis=0)
        assert len(pairs) == 1500  # each group in one block
        assert np.bincount(pairs[:, 1]).tolist() == [2] * 500 + [1] * 500
        whole = GroupedScores(predictions, targets, groups, VALUES, blocks=blocks).metrics(np.ones((1, n_blocks)))
        expected = score_metrics(predictions, targets, VALUES)
        expected["pairwise_accuracy"] = pairwise_accuracy(predictions, targets, groups)[0]
        for name in METRICS:
            assert whole[name][0] == pytest.approx(expected[name], abs=1e-9)
        assert united_blocks(groups % 7, 7, seed=0)[0] is not None
        assert (united_blocks(groups % 7, 7, seed=0)[0] == groups % 7).all()

    def test_a_metric_that_is_only_a_function_of_a_sample(self, monkeypatch):
        """Without a sum over rows it is computed on the rows written out, with the same figures."""
        for name, of in {"pearson": METRICS["pearson"], "pairwise_accuracy": METRICS["pairwise_accuracy"]}.items():
            monkeypatch.setitem(METRICS, f"{name} again", of)
        rmse = Metric(title="RMSE", of=lambda sample: np.sqrt(np.mean((sample.predictions - sample.targets) ** 2)))
        monkeypatch.setitem(METRICS, "rmse again", rmse)
        predictions, targets, groups = draw(np.random.default_rng(0), 30)
        scores = GroupedScores(predictions, targets, groups, blocks=groups // 2)
        figures = scores.metrics(np.random.default_rng(1).integers(0, 4, (5, 15)))
        for name in ("pearson", "pairwise_accuracy", "rmse"):
            assert figures[f"{name} again"] == pytest.approx(figures[name], abs=1e-12)

    def test_constant_resamples_are_undefined_not_noise(self):
        # Only group 1 has any spread in the prediction
        scores = GroupedScores(np.array([0.3, 0.1 + 0.2, 0.3, 5.0]), np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1]))
        figures = scores.metrics(np.array([[2, 0], [1, 1], [0, 1]]))
        for name in ("pearson", "spearman", "kendall"):
            assert np.isnan(figures[name]).tolist() == [True, False, False]
        assert np.isfinite(figures["rmse"]).all()


class TestIntervals:
    def test_bca_is_that_of_scipy_at_an_expanded_level(self):
        """SciPy draws groups from their numbers; the same figures, few and skewed, must give the same interval."""
        predictions, targets, groups = draw(np.random.default_rng(0), 30, 0.2, 0.4)
        scores = GroupedScores(predictions, targets, groups)
        jackknife = scores.metrics(1 - np.eye(30))
        for name, (estimate,) in scores.metrics(np.ones((1, 30))).items():

            def statistic(drawn, axis, name=name):
                samples = drawn.reshape(-1, drawn.shape[-1])
                weights = np.stack([np.bincount(sample, minlength=30) for sample in samples])
                return scores.metrics(weights)[name].reshape(drawn.shape[:-1])

            def bootstrap(level, of=statistic, **kwargs):
                return stats.bootstrap(
                    (np.arange(30),), of, vectorized=True, confidence_level=level, method="BCa", **kwargs
                )

            theirs = bootstrap(0.95, n_resamples=2000, rng=1)
            resampled = theirs.bootstrap_distribution
            # √(30/29) times Student's 97.5% quantile with 29 degrees of freedom, 2.04523, and the ratio of errors
            error = math.sqrt(29 * np.var(jackknife[name]))
            z = math.sqrt(30 / 29) * 2.04523 * max(1, error / np.std(resampled))
            theirs = bootstrap(2 * stats.norm.cdf(z) - 1, n_resamples=0, bootstrap_result=theirs)
            ours = expanded_bca_interval(estimate, resampled, jackknife[name], 0.95)
            assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-4), name

    def coverage(self, n_draws, n_resamples, by_row=False):
        names = ("pearson", "rmse", "mae", "pairwise_accuracy")
        truth = GroupedScores(*draw(np.random.default_rng(99), 200_000)).metrics(np.ones((1, 200_000)), names)
        hits = dict.fromkeys(truth, 0)
        generator = np.random.default_rng(0)
        for seed in range(n_draws):
            predictions, targets, groups = draw(generator, 80)
            groups = np.arange(len(groups)) if by_row else groups
            scores = GroupedScores(predictions, targets, groups)
            n_groups = groups.max() + 1
            intervals = clustered_intervals(
                lambda w, s=scores: s.metrics(w, names), n_groups, n_resamples, 0.95, seed, "x", []
            )
            for name, (low, high) in intervals.items():
                hits[name] += low <= truth[name][0] <= high
        return {name: count / n_draws for name, count in hits.items()}

    def test_nominal_95_percent_covers_93_to_97(self):
        """1,000 draws of 80 questions, of which the judge is off by a different amount in each."""
        covered = self.coverage(n_draws=1000, n_resamples=500)
        assert set(covered) == {"pearson", "rmse", "mae", "pairwise_accuracy"}
        for name, share in covered.items():
            assert 0.93 <= share <= 0.97, (name, share)

    def test_resampling_rows_would_not_cover(self):
        """The same draws; the design effect of 4-5 alike rows makes intervals of single rows far too narrow."""
        covered = self.coverage(n_draws=100, n_resamples=200, by_row=True)
        for name in ("pearson", "rmse", "mae"):
            assert covered[name] < 0.88, (name, covered[name])

    def test_skewed_interval_leans_the_right_way(self):
        # A correlation near 1 has a long tail below
        predictions, targets, groups = draw(np.random.default_rng(0), 60, 0.15, 0.1)
        scores = GroupedScores(predictions, targets, groups)
        estimate = scores.metrics(np.ones((1, 60)))["pearson"][0]
        low, high = clustered_intervals(scores.metrics, 60, 2000, 0.95, 0, "x", [])["pearson"]
        assert high < 1
        assert estimate - low > high - estimate > 0

    def test_figure_that_never_varies(self):
        # All right in all groups: each resample and each jackknife figure is 1
        assert expanded_bca_interval(1.0, np.ones(100), np.ones(10), 0.95) == (1.0, 1.0)

    def test_evaluate(self):
        frame = make_frame(malformed=0.05)
        result = evaluate_with_intervals(frame, "strict", VALUES)
        assert json.loads(json.dumps(result)) == result
        for inference in ("standard", "rail"):
            assert list(result["intervals"][inference]) == list(METRICS)
            for name, (low, high) in result["intervals"][inference].items():
                assert low < result[inference][name] < high
        for name, (low, high) in result["intervals"]["calibration"].items():
            assert low < result["calibration"][name] < high
        assert list(result["intervals"]["calibration"]) == ["overconfidence", "nll", "crps"]
        assert {k: v for k, v in result.items() if k != "intervals"} == evaluate_predictions(frame, "strict", VALUES)
        assert result == evaluate_with_intervals(frame, "strict", VALUES)
        # The order of rows means nothing
        shuffled = evaluate_with_intervals(frame.sample(frac=1, random_state=0), "strict", VALUES)
        for name, interval in shuffled["intervals"]["rail"].items():
            assert interval == pytest.approx(result["intervals"]["rail"][name])

    def test_few_groups_have_no_interval(self):
        result = evaluate_with_intervals(make_frame(n_groups=5), values=VALUES)
        for intervals in result["intervals"].values():
            assert all(math.isnan(end) for interval in intervals.values() for end in interval)
        for what in ("standard", "rail", "calibration"):
            assert (
                f"{what}: no intervals: 5 groups cannot tell how unlike groups are, 6 are needed." in result["notes"]
            )
        few = evaluate_with_intervals(make_frame(n_groups=6), values=VALUES)
        assert math.isfinite(few["intervals"]["rail"]["rmse"][0])
        assert "intervals of 6 groups are rough" in " ".join(few["notes"])

    def test_degenerate_resamples_are_counted(self):
        frame = make_frame(n_groups=30)
        one = frame["group"] == "question 0"
        frame["expected_score"] = np.where(one, [1, 5] * (len(frame) // 2) + [1] * (len(frame) % 2), 3.0)
        result = evaluate_with_intervals(frame, values=VALUES)
        drawn = bootstrap_weights(30, 2000, 0)[:, 0]
        missed = int((drawn == 0).sum())  # the only group in which predictions vary
        assert missed == pytest.approx(2000 * (29 / 30) ** 30, rel=0.1)
        note = (
            f"rail: pearson, spearman, kendall undefined in {missed} of 2000 resamples: the others make the interval."
        )
        assert note in result["notes"]
        assert all(math.isfinite(end) for end in result["intervals"]["rail"]["pearson"])

    @pytest.mark.parametrize("change", [{"expected_score": 3.0}, {"target": 3.0}, {"status": "missing"}])
    def test_undefined_figures_have_undefined_intervals(self, change):
        result = evaluate_with_intervals(make_frame(n_groups=10).assign(**change), "drop", VALUES)
        for name, interval in result["intervals"]["rail"].items():
            assert np.isnan(interval).all() == math.isnan(result["rail"][name]), name
        assert any(note.startswith("rail: pearson") for note in result["notes"])

    def test_single_row(self):
        result = evaluate_with_intervals(make_frame().head(1), values=VALUES)
        assert result["n_groups"] == 1
        assert all(math.isnan(end) for interval in result["intervals"]["rail"].values() for end in interval)


class TestPairedComparison:
    def test_differences(self):
        a, b = make_frame(1), make_frame(2, group_error=0.9, row_error=0.9)
        b = b.sample(frac=1, random_state=0)  # matched by id, not by position
        result = paired_comparison(a, b, values=VALUES)
        figures = [evaluate_predictions(frame, values=VALUES) for frame in (a, b)]
        for inference in ("standard", "rail"):
            assert list(result[inference]) == list(METRICS)
            for name, entry in result[inference].items():
                assert entry["a"] == pytest.approx(figures[0][inference][name])
                assert entry["b"] == pytest.approx(figures[1][inference][name])
                assert entry["difference"] == pytest.approx(entry["a"] - entry["b"])
                low, high = entry["interval"]
                assert low < entry["difference"] < high
                if name != "accuracy":
                    assert not low <= 0 <= high
                    assert entry["p_value"] <= 0.01
        assert (result["n_rows"], result["n_groups"], result["notes"]) == (len(a), 80, [])
        assert json.loads(json.dumps(result)) == result
        swapped = paired_comparison(b, a, values=VALUES)
        assert swapped["rail"]["rmse"]["difference"] == pytest.approx(-result["rail"]["rmse"]["difference"])

    def test_a_judge_and_itself(self):
        result = paired_comparison(make_frame(1), make_frame(1), values=VALUES, n_resamples=200)
        for entry in result["rail"].values():
            assert (entry["difference"], entry["interval"], entry["p_value"]) == (0, [0, 0], 1)

    def p_values(self, n_draws, effect=1.0, level=0.0, shrink=1.0):
        p_values = {name: [] for name in ("pearson", "spearman", "kendall", "rmse", "pairwise_accuracy")}
        for seed in range(n_draws):
            generator = np.random.default_rng(seed)
            groups = np.repeat(np.arange(30), 4)
            targets = 3 + 0.5 * generator.standard_normal(30)[groups] + 0.9 * generator.standard_normal(120)
            both = 0.3 * generator.standard_normal(30)[groups]  # what misleads one judge misleads the other too
            judges = []
            for size in (1.0, effect):
                own = 0.4 * generator.standard_normal(30)[groups] + 0.3 * generator.standard_normal(120)
                judges.append(targets + both + size * own)
            judges[1] = 3 + level + shrink * (judges[1] - 3)
            rows = [
                {"status": ["ok"] * 120, "target": targets, "group": groups, "sampled_score": j, "expected_score": j}
                for j in judges
            ]
            a, b = (counted_rows(judge, "force") for judge in rows)
            figures = _randomisation_p_values(a, b, "rail", None, a.groups, 30, 99, seed)
            for name in p_values:
                p_values[name].append(figures[name])
        return {name: np.array(p) for name, p in p_values.items()}

    def test_p_values_are_uniform_without_a_difference(self):
        for name, p in self.p_values(300).items():
            # Multiples of 1/100: with jitter, uniform on (0, 1]. Judges often order equally many pairs, for which p is
            # 1: there p may only be larger than uniform.
            jittered = p - np.random.default_rng(0).uniform(0, 0.01, len(p))
            alternative = "greater" if name == "pairwise_accuracy" else "two-sided"
            assert stats.kstest(jittered, "uniform", alternative=alternative).pvalue > 0.01, name
            assert 0.015 <= np.mean(p <= 0.05) <= 0.09, name  # 5% ± 3 standard errors

    def test_level_and_spread_of_a_judge_make_no_difference_to_correlations(self):
        p_values = self.p_values(200, level=1.0, shrink=0.6)
        for name in ("pearson", "spearman", "kendall"):
            assert 0.005 <= np.mean(p_values[name] <= 0.05) <= 0.1, name
        assert np.mean(p_values["rmse"] <= 0.05) > 0.95  # which they do matter to

    def test_power(self):
        for name, p in self.p_values(40, effect=3.5).items():
            assert np.mean(p <= 0.05) > 0.9, name

    def test_drop_counts_rows_that_are_ok_in_both(self):
        a, b = make_frame(1, malformed=0.1), make_frame(2, malformed=0.1)
        both = ((a["status"] == "ok") & (b["status"] == "ok")).to_numpy()
        result = paired_comparison(a, b, "drop", VALUES, n_resamples=50)
        assert result["n_rows"] == both.sum()
        assert f"{(~both).sum()} of {len(a)} rows are malformed in one judge at least" in result["notes"][0]
        own = evaluate_predictions(a[both], "force", VALUES)
        assert result["rail"]["pearson"]["a"] == pytest.approx(own["rail"]["pearson"])
        strict = paired_comparison(a, b, "strict", VALUES, n_resamples=50)
        whole = evaluate_predictions(a, "strict", VALUES)
        assert strict["n_rows"] == len(a)
        for name in METRICS:
            assert strict["standard"][name]["a"] == pytest.approx(whole["standard"][name])

    def test_undefined(self):
        a = make_frame(1, n_groups=10)
        result = paired_comparison(
            a, make_frame(2, n_groups=10).assign(expected_score=3.0), values=VALUES, n_resamples=50
        )
        assert math.isnan(result["rail"]["pearson"]["p_value"])
        assert math.isfinite(result["rail"]["rmse"]["p_value"])
        assert any(
            "rail: the difference of pearson, spearman, kendall is undefined" in note for note in result["notes"]
        )
        dropped = paired_comparison(a, a.assign(status="missing"), "drop", VALUES)
        assert dropped["n_rows"] == 0
        assert all(math.isnan(entry["difference"]) for entry in dropped["rail"].values())
        assert "rail: all differences are undefined: no row counts in both judges." in dropped["notes"]
        few = paired_comparison(make_frame(1, n_groups=5), make_frame(2, n_groups=5), values=VALUES)
        assert math.isnan(few["rail"]["rmse"]["p_value"])
        assert "rail: no p-values: 5 groups cannot reach p < 0.05, 6 are needed." in few["notes"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda f: f.drop(index=[3, 5]),
                r"`id` 'row-3' is not in the predictions of judge B \(2 such rows in all\)",
            ),
            (lambda f: f.assign(id=f["id"].replace("row-4", "row-2")), "`id` 'row-2' is twice in .* judge B"),
            (lambda f: f.assign(id=f["id"].replace("row-4", "new")), "'row-4' is not in the predictions of judge B"),
            (
                lambda f: f.assign(target=np.where(f["row"] == 7, 0.25, f["target"])),
                r"'row-7' has the target .* 0\.25",
            ),
            (
                lambda f: f.assign(group=f["group"].where(f["row"] != 6, "q")),
                "'row-6' has the group question 1 with .* q",
            ),
            (lambda f: f.drop(columns="id").assign(row=f["row"] + 1), "`row` 0 is not in the predictions of judge B"),
        ],
        ids=["missing", "twice", "other", "target", "group", "row"],
    )
    def test_other_rows_are_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            paired_comparison(make_frame(1), change(make_frame(2)), values=VALUES)

    def test_more_rows_in_b(self):
        with pytest.raises(ValueError, match="is not in the predictions of judge A"):
            paired_comparison(make_frame(1).iloc[1:], make_frame(2), values=VALUES)

    def test_several_judges(self):
        judges = {"good": make_frame(1), "bad": make_frame(2, row_error=1.5), "same": make_frame(3)}
        comparisons = compare_judges(judges, values=VALUES, n_resamples=199)
        assert [(c["a"], c["b"]) for c in comparisons] == [("good", "bad"), ("good", "same"), ("bad", "same")]
        for metric in METRICS:
            entries = [comparison["rail"][metric] for comparison in comparisons]
            assert [e["p_adjusted"] for e in entries] == holm([e["p_value"] for e in entries])
        rmse = [comparison["rail"]["rmse"] for comparison in comparisons]
        assert rmse[0]["p_value"] == 1 / 200
        assert rmse[0]["p_adjusted"] == pytest.approx(3 / 200)
        assert rmse[1]["p_adjusted"] > 0.05
        assert compare_judges({"one": judges["good"]}) == []

    def test_holm_by_hand(self):
        # Ordered 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, 0.06, 0.04, and none below a smaller one's
        assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
        assert holm([0.9, 0.8]) == [1.0, 1.0]
        assert holm([0.02, float("nan"), 0.5]) == pytest.approx([0.04, float("nan"), 0.5], nan_ok=True)
        assert holm([]) == []


class TestRaterAgreement:
    def test_by_hand(self):
        # Three raters, four rows. Leave one out: 1st against (2nd + 3rd) / 2 and so on.
        ratings = [[1, 1, 3], [2, 3, 3], [4, 4, 2], [5, 4, 5]]
        columns = np.array(ratings, dtype=float).T
        result = rater_agreement(ratings, VALUES)
        pairs = [score_metrics(columns[i], columns[j], VALUES) for i, j in ((0, 1), (0, 2), (1, 2))]
        rest = [score_metrics(columns[i], np.delete(columns, i, axis=0).mean(axis=0), VALUES) for i in range(3)]
        for name in METRICS.keys() - {"pairwise_accuracy"}:
            assert result["between"][name] == pytest.approx(np.mean([pair[name] for pair in pairs]))
            assert result["leave_one_out"][name] == pytest.approx(np.mean([one[name] for one in rest]))
        # MAE of 1st and 2nd (0, 1, 0, 1), 1st and 3rd (2, 1, 2, 0), 2nd and 3rd (2, 0, 2, 1): 0.5, 1.25, 1.25
        assert result["between"]["mae"] == pytest.approx(1.0)
        assert [rater["n"] for rater in result["raters"]] == [4, 4, 4]
        assert (result["n_rows"], result["n_groups"], result["n_raters"]) == (4, 4, 3)
        notes = " ".join(result["notes"])
        assert "between: no intervals: 4 groups" in notes
        assert "between: pairwise_accuracy is undefined for 6 of 6 pairs of raters" in notes

    def test_intervals(self):
        generator = np.random.default_rng(0)
        groups = np.repeat(np.arange(40), 4)
        truth = generator.normal(3, 1, 160)
        ratings = np.clip(np.round(truth[:, None] + 0.5 * generator.normal(size=(160, 3))), 1, 5)
        result = rater_agreement(ratings.tolist(), VALUES, groups)
        for what in ("between", "leave_one_out"):
            for name in METRICS:
                low, high = result["intervals"][what][name]
                assert low < result[what][name] < high
        assert result["leave_one_out"]["pearson"] > result["between"]["pearson"]
        assert result["notes"] == []
        assert json.loads(json.dumps(result)) == result

    def test_ragged(self):
        ratings = [[1, 2, None], [3, 3], [4, float("nan"), 5], [2, 1, 1], [5], []]
        result = rater_agreement(ratings, n_resamples=10)
        assert result["n_rows"] == 4
        assert result["notes"][0] == "2 of 6 rows have fewer than two ratings: they are left out."
        assert [rater["n"] for rater in result["raters"]] == [4, 3, 2]
        # The second against the mean of the others: (2, 3, 1) against (1, 3, 1.5), errors 1, 0, 0.5
        assert result["raters"][1]["mae"] == pytest.approx(0.5)
        assert "accuracy" not in result["between"]

    def test_bad_ratings(self):
        with pytest.raises(ValueError, match="no row with two ratings"):
            rater_agreement([[1], [2]])
        with pytest.raises(ValueError, match=r"`ratings` of row 1 are \['good', 2\]"):
            rater_agreement([[1, 2], ["good", 2]])
        with pytest.raises(ValueError, match="`groups` has 1 rows and `ratings` has 2"):
            rater_agreement([[1, 2], [1, 2]], groups=["a"])
        with pytest.raises(ValueError, match="row 0 hold an infinity"):
            rater_agreement([[1, float("inf")]])


class TestBreakdown:
    def test_by_column(self):
        frame = make_frame(n_groups=30)
        result = breakdown(frame, "category", values=VALUES)
        assert list(result) == ["code", "maths", "writing"]
        assert result["maths"] == evaluate_predictions(frame[frame["category"] == "maths"], values=VALUES)
        with_intervals = breakdown(frame, "category", values=VALUES, intervals=True, n_resamples=100)
        low, high = with_intervals["code"]["intervals"]["rail"]["mae"]
        assert low < with_intervals["code"]["rail"]["mae"] < high

    def test_values_of_any_kind(self):
        frame = make_frame(n_groups=6)
        sizes = [(2.0, 10.0, None)[i % 3] for i in range(len(frame))]
        result = breakdown(frame.assign(size=sizes), "size")
        assert list(result) == ["2.0", "10.0", "(none)"]
        assert sum(part["n_rows"] for part in result.values()) == len(frame)
        mixed = breakdown(frame.assign(size=pd.Series(["a", 1] * len(frame), dtype=object)[: len(frame)]), "size")
        assert list(mixed) == ["1", "a"]

    def test_bad_column(self):
        with pytest.raises(ValueError, match="`rows` has no column `topic`: it has row, id"):
            breakdown(make_frame(), "topic")
        with pytest.raises(ValueError, match="Column `probabilities` holds lists or dicts"):
            breakdown(make_frame(), "probabilities")
