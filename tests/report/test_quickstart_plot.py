# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import builtins

import numpy as np
import pandas as pd
import pytest

from real_trl.report import plot_quickstart
from real_trl.report.panels import draw_scatter, running_mean
from tests.report.made import NAN


def make_predictions(n=60, missing=3, seed=0):
    generator = np.random.default_rng(seed)
    target = generator.integers(2, 11, size=n) / 2
    expected = np.clip(target + generator.normal(0, 0.4, size=n), 1, 5)
    status = ["missing"] * missing + ["ok"] * (n - missing)
    return pd.DataFrame(
        {"status": status, "target": target, "sampled_score": np.round(expected), "expected_score": expected}
    )


def make_history(n=40):
    history = [
        {"step": step, "reward": -2 + step / n, "score/abs_error": 1.4 - step / n, "score/pearson": 0.5, "loss": 0.1}
        for step in range(1, n + 1)
    ]
    history[3]["score/pearson"] = NAN  # a batch whose predictions were all equal
    return [*history, {"step": n, "eval_loss": 1.0}, {"step": n, "train_runtime": 3.0}]


class TestPlotQuickstart:
    def test_writes_a_png(self, tmp_path):
        pyplot = pytest.importorskip("matplotlib.pyplot")
        from matplotlib.image import imread

        path = tmp_path / "new" / "quickstart.png"
        with_gap = make_predictions(seed=1)
        with_gap.loc[0, "expected_score"] = None
        written = plot_quickstart(
            {"REAL": make_history(), "Standard RL": make_history(5)},
            {"RAFT": with_gap, "REAL": make_predictions()},
            path,
            labels={"RAFT": "RAFT (warm start)"},
        )
        assert written == path
        image = imread(path)
        assert image.shape[:2] == (750, 1800)
        # Something is drawn in either half: training curves, and coloured points.
        colourful = np.ptp(image[..., :3], axis=-1) > 0.2
        assert colourful[:, :690].sum() > 1000
        assert colourful[:, 720:].sum() > 1000
        assert pyplot.get_fignums() == []

    def test_panel_counts_unscored_rows(self):
        pytest.importorskip("matplotlib")
        from matplotlib.figure import Figure

        # r of (1, 2, 3, 4, 4) with (2, 1, 3, 5, 4) is 7 / sqrt(68) = 0.849 (worked out in test_metrics.py)
        frame = pd.DataFrame({"expected_score": [1, 2, 3, None, 4, 4], "target": [2, 1, 3, 5, 5, 4]})
        axes = Figure().subplots()
        draw_scatter(axes, "raft", frame, "C0", "RAFT")
        assert axes.get_title() == "RAFT\nPearson's r × 100 = 84.9, n = 5 of 6"
        points = axes.collections[0].get_offsets()
        assert np.abs(points[:, 0] - [2, 1, 3, 5, 4]).max() <= 0.25  # levels are 1 apart: jitter never mixes them
        assert points[:, 1].tolist() == [1, 2, 3, 4, 4]

    def testrunning_mean_skips_nan(self):
        # 20 values, so a window of 3. By hand: (1 + 3) / 2, (1 + 3) / 2 with the NaN left out, (3 + 5) / 2 ...
        values = np.array([1.0, 3.0, NAN, 5.0, 10.0] + [2.0] * 15)
        means = running_mean(values)
        assert means[:5].tolist() == pytest.approx([2.0, 2.0, 4.0, 7.5, 17 / 3])
        assert means[6:].tolist() == pytest.approx([2.0] * 14)
        assert np.isnan(running_mean(np.full(20, NAN))).all()

    def test_same_input_same_picture(self, tmp_path):
        pytest.importorskip("matplotlib")
        paths = [tmp_path / name for name in ("a.png", "b.png")]
        for path in paths:
            plot_quickstart({"REAL": make_history()}, {"REAL": make_predictions()}, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()

    @pytest.mark.parametrize("key", ["reward", "score/abs_error", "score/pearson"])
    def test_missing_key_is_named(self, tmp_path, key):
        pytest.importorskip("matplotlib")
        history = [{name: value for name, value in entry.items() if name != key} for entry in make_history()]
        with pytest.raises(ValueError, match=f"log history of 'REAL' has no '{key}'"):
            plot_quickstart({"REAL": history}, {"REAL": make_predictions()}, tmp_path / "plot.png")
        assert not (tmp_path / "plot.png").exists()

    def test_missing_column_and_nothing_to_draw(self, tmp_path):
        pytest.importorskip("matplotlib")
        frame = make_predictions().drop(columns="expected_score")
        with pytest.raises(ValueError, match="predictions of 'RAFT' have no column 'expected_score'"):
            plot_quickstart({"REAL": make_history()}, {"RAFT": frame}, tmp_path / "plot.png")
        with pytest.raises(ValueError, match="at least one entry"):
            plot_quickstart({}, {"RAFT": make_predictions()}, tmp_path / "plot.png")

    def test_without_matplotlib(self, tmp_path, monkeypatch):
        real_import = builtins.__import__

        def no_matplotlib(name, *args, **kwargs):
            if name.split(".")[0] == "matplotlib":
                raise ImportError(name)
            return real_import(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", no_matplotlib)
        with pytest.raises(ImportError, match="pip install matplotlib"):
            plot_quickstart({"REAL": make_history()}, {"REAL": make_predictions()}, tmp_path / "plot.png")
