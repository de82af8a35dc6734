# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pandas as pd
import pytest

from real_trl.report import plot_training_curves, save_plots
from tests.report.made import NAN, ONE_TO_FIVE, WORDS, literal_evaluation, made_evaluation

pytest.importorskip("matplotlib")
from real_trl.report.plots import (  # noqa: E402
    plot_breakdown,
    plot_distributions,
    plot_predictions,
    plot_reliability,
)


@pytest.fixture(scope="module")
def made():
    return made_evaluation({"mt_bench": ONE_TO_FIVE, "a/b words": WORDS}, n=40)


def small_frame():
    """Four rows on the labels 1-3; the third is malformed."""
    return pd.DataFrame(
        {
            "target": [1.0, 2.5, 3.0, 3.0],
            "expected_score": [1.5, 2.0, 1.0, 2.75],
            "status": ["ok", "ok", "missing", "ok"],
            "probabilities": [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], None, [0.0, 0.0, 0.5]],
        }
    )


@pytest.fixture
def small():
    evaluation = literal_evaluation()
    evaluation["datasets"]["fb"] |= {"labels": ["bad", "fair", "good"], "values": [1.0, 2.0, 3.0]}
    return evaluation


class TestPredictions:
    @pytest.mark.parametrize(("handling", "drawn", "crosses"), [("force", 4, 1), ("strict", 4, 1), ("drop", 3, 0)])
    def test_points(self, small, handling, drawn, crosses):
        small["results"]["fb"]["REAL"]["malformed_handling"] = handling
        figure = plot_predictions(small, "fb", {"REAL": small_frame()})
        axes = figure.axes[0]
        assert axes.get_title() == "REAL\nPearson's r × 100 = 93.2, n = 100"  # as in the results
        points = [collection.get_offsets()[:, 1].tolist() for collection in axes.collections]
        assert sum(map(len, points)) == drawn
        assert points[1:] == ([[1.0]] if crosses else [])
        assert points[0] == [1.5, 2.0, 2.75]
        assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0.9, 3.1))

    def test_more_judges_than_a_row_has_panels(self, small):
        frames = {f"judge {index}": small_frame() for index in range(6)}
        small["results"]["fb"] |= dict.fromkeys(frames, small["results"]["fb"]["REAL"])
        figure = plot_predictions(small, "fb", frames)
        assert [axes.axison for axes in figure.axes] == [True] * 6 + [False] * 2


class TestReliability:
    def test_bins(self, small):
        bins = [{"confidence": 0.4, "accuracy": 0.5, "n": 30}, {"confidence": 0.8, "accuracy": 0.6, "n": 10}]
        small["results"]["fb"]["REAL"]["calibration"] = {"ece": 0.125, "n": 40, "bins": bins}
        small["results"]["fb"]["base_50%"]["calibration"] = {"ece": NAN, "n": 0, "bins": []}
        above, below = plot_reliability(small, "fb").axes
        _, empty, judge = above.lines
        assert judge.get_xydata().tolist() == [[0.4, 0.5], [0.8, 0.6]]
        assert judge.get_label() == "REAL (ECE 0.125, n = 40)"
        assert (len(empty.get_xdata()), empty.get_label()) == (0, "base_50% (ECE n/a, n = 0)")
        assert below.lines[1].get_xydata().tolist() == [[0.4, 75.0], [0.8, 25.0]]  # % of rows
        assert below.collections[1].get_segments()[0].tolist() == [[0.4, 0.0], [0.4, 75.0]]


class TestDistributions:
    def test_bars_and_lines(self, small):
        axes = plot_distributions(small, "fb", {"REAL": small_frame()}).axes[0]
        # 2.5 is as near to 2 as to 3, and counts as the lower one
        assert [bar.get_height() for bar in axes.patches] == [25.0, 25.0, 50.0]
        # Means of three rows: (0.5 + 0.25 + 0) / 3, (0.25 + 0.5 + 0) / 3, (0.25 + 0.25 + 0.5) / 3
        assert axes.lines[0].get_ydata().tolist() == pytest.approx([25.0, 25.0, 100 / 3])
        assert [tick.get_text() for tick in axes.get_xticklabels()] == ["bad", "fair", "good"]
        assert axes.get_title() == "fb: scores, n = 4"

    def test_many_labels(self, small):
        values = [float(value) for value in range(101)]
        small["datasets"]["fb"] |= {"labels": [f"{value:g}" for value in values], "values": values}
        frame = small_frame().assign(probabilities=[np.eye(101)[40]] * 4)
        axes = plot_distributions(small, "fb", {"REAL": frame}).axes[0]
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [str(value) for value in range(0, 101, 10)]
        assert axes.lines[0].get_ydata()[40] == 100.0

    def test_no_distribution_known(self, small):
        frame = small_frame().assign(probabilities=[[NAN, 0.5, 0.5]] * 4)
        axes = plot_distributions(small, "fb", {"REAL": frame}).axes[0]
        assert not axes.lines
        assert len(axes.patches) == 3


class TestBreakdown:
    def test_bars_and_intervals(self, small):
        results = small["results"]["fb"]
        results["REAL"]["intervals"] = {"rail": {"pearson": [0.9, 0.95]}}
        undefined = {**results["base_50%"], "rail": results["base_50%"]["standard"]}
        small["breakdown"] = {
            "fb": {"category": {"maths": {"REAL": results["REAL"]}, "prose": {"base_50%": undefined}}}
        }
        axes = plot_breakdown(small, "fb", "category").axes[0]
        assert [bar.get_width() for bar in axes.patches if bar.get_width()] == pytest.approx([93.2])
        (interval,) = axes.lines
        assert interval.get_xdata().tolist() == [90.0, 95.0]
        bar = axes.patches[0]
        assert interval.get_ydata()[0] == pytest.approx(bar.get_y() + bar.get_height() / 2)
        assert [text.get_text() for text in axes.texts] == [" n/a"]
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["maths (n = 100)", "prose (n = 100)"]
        assert axes.get_xlabel() == "Pearson's r × 100, RAIL; lines: 95% intervals"

    def test_unknown_column(self, small):
        with pytest.raises(ValueError, match="No breakdown of 'fb' by 'length': none was made"):
            plot_breakdown(small, "fb", "length")


def history(slope):
    return [
        {"step": 0, "loss": 1.0},
        *(
            {
                "step": step,
                **{f"judge_eval/mt_bench/rail/{key}": 0.5 + slope * step for key in ("pearson", "spearman", "kendall", "rmse")},
                "judge_eval/mt_bench/rail/malformed_rate": 0.0,
                "judge_eval/mt_bench/mean_tokens": 100 + step,
                "judge_eval/a/b/rail/pearson": 0.25,
            }
            for step in (0, 50, 100)
        ),
    ]  # fmt: skip


class TestTrainingCurves:
    def test_lines(self):
        figure = plot_training_curves({"REAL": history(0.001), "Standard RL": history(-0.001)}, ["mt_bench"])
        titles = [axes.get_title() for axes in figure.axes]
        assert titles == [
            "Pearson's r × 100",
            "Spearman's ρ × 100",
            "Kendall's τ × 100",
            "RMSE",
            "tokens per answer",
        ]  # entropy was not logged
        real, standard = figure.axes[0].lines
        assert real.get_xydata().tolist() == pytest.approx(np.array([[0, 50], [50, 55], [100, 60]]))
        assert standard.get_ydata().tolist() == pytest.approx([50, 45, 40])
        assert figure.axes[3].lines[0].get_ydata().tolist() == pytest.approx([0.5, 0.55, 0.6])  # score units
        assert figure.axes[4].lines[0].get_ydata().tolist() == [100, 150, 200]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["REAL", "Standard RL"]

    def test_all_datasets(self):
        figure = plot_training_curves({"REAL": history(0.001)})
        assert [axes.get_title() for axes in figure.axes if axes.axison] == [
            *("mt_bench: Pearson's r × 100", "mt_bench: Spearman's ρ × 100", "mt_bench: Kendall's τ × 100"),
            *("mt_bench: RMSE", "mt_bench: tokens per answer"),
            "a/b: Pearson's r × 100",  # what it did not log has no panel
        ]  # fmt: skip

    def test_nothing_logged(self):
        with pytest.raises(ValueError, match="No run logged judge_eval/<dataset>/rail/"):
            plot_training_curves({"REAL": [{"step": 1, "loss": 0.5}]})
        with pytest.raises(ValueError, match=r"judge_eval/flask/rail/…: logged were \['mt_bench', 'a/b'\]"):
            plot_training_curves({"REAL": history(0.1)}, ["flask"])


class TestSavePlots:
    def test_files(self, made, tmp_path):
        paths = save_plots(*made, tmp_path / "new")
        assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "new").iterdir())
        assert [path.name for path in paths[:4]] == [
            "mt_bench-predicted-against-true.png",
            "mt_bench-reliability.png",
            "mt_bench-distributions.png",
            "mt_bench-by-category.png",
        ]
        assert paths[4].name == "a-b-words-predicted-against-true.png"
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)

    def test_predictions_without_results(self, made, tmp_path):
        evaluation, predictions = made
        frames = predictions["mt_bench"]
        with pytest.raises(ValueError, match="Predictions of dataset 'flask', which has no results"):
            save_plots(evaluation, {"flask": frames}, tmp_path)
        with pytest.raises(ValueError, match="Predictions of judge 'sft' on 'mt_bench' have no results"):
            save_plots(evaluation, {"mt_bench": {"sft": frames["raft"]}}, tmp_path)
