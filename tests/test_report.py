# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
import builtins
import copy
import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from real_trl.metrics import evaluate_predictions
from real_trl.report import (
    _draw_scatter,
    _running_mean,
    evaluation_table,
    plot_quickstart,
    results_table,
    summarize_seeds,
)

NAN = float("nan")


def render(table, width=80, styles=False):
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=styles, color_system="standard" if styles else None)
    console.print(table)
    return stream.getvalue()


def lines_of(text):
    """Rendered rows with single spaces, without rules and the caption."""
    return [
        " ".join(line.split()) for line in text.splitlines() if re.search(r"\d|n/a", line) and "Kendall" not in line
    ]


def bold_words(text):
    return re.findall(r"\x1b\[1m\s*([^\x1b\s]+)\s*\x1b\[0m", text)


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


def make_predictions(n=60, missing=3, seed=0):
    generator = np.random.default_rng(seed)
    target = generator.integers(2, 11, size=n) / 2
    expected = np.clip(target + generator.normal(0, 0.4, size=n), 1, 5)
    status = ["missing"] * missing + ["ok"] * (n - missing)
    return pd.DataFrame(
        {"status": status, "target": target, "sampled_score": np.round(expected), "expected_score": expected}
    )


class TestEvaluationTable:
    def test_rows(self):
        frame = make_predictions()
        constant = frame.assign(expected_score=3.0, status="ok")
        results = {
            "id": evaluate_predictions(frame, "force"),
            "[ood]": evaluate_predictions(
                frame, "drop"
            ),  # brackets are markup to rich, and must be shown all the same
            "constant": evaluate_predictions(constant, "force"),
        }
        rows = lines_of(render(evaluation_table(results), width=100))
        rail = results["id"]["rail"]
        correlations = " ".join(f"{100 * rail[key]:.1f}" for key in ("pearson", "spearman", "kendall"))
        assert rows[0].startswith("id Standard ")
        assert rows[0].endswith(" 60 5.0% (3 missing), forced")
        assert rows[1] == f"RAIL {correlations} {rail['rmse']:.3f} {rail['mae']:.3f} 60"
        assert rows[2].startswith("[ood] Standard ")
        assert rows[2].endswith(" 57 5.0% (3 missing), dropped")
        assert rows[4].endswith(" 60 0.0%")
        assert rows[5].startswith("RAIL n/a n/a n/a ")

    def test_everything_dropped(self):
        results = {"id": evaluate_predictions(make_predictions(n=3, missing=3), "drop")}
        rows = lines_of(render(evaluation_table(results)))
        assert rows[1] == "RAIL n/a n/a n/a n/a n/a 0"


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
        _draw_scatter(axes, "raft", frame, {"color": "C0", "label": "RAFT"})
        assert axes.get_title() == "RAFT\nr = 0.849, n = 5 of 6"
        points = axes.collections[0].get_offsets()
        assert np.abs(points[:, 0] - [2, 1, 3, 5, 4]).max() <= 0.25  # levels are 1 apart: jitter never mixes them
        assert points[:, 1].tolist() == [1, 2, 3, 4, 4]

    def test_running_mean_skips_nan(self):
        # 20 values, so a window of 3. By hand: (1 + 3) / 2, (1 + 3) / 2 with the NaN left out, (3 + 5) / 2 ...
        values = np.array([1.0, 3.0, NAN, 5.0, 10.0] + [2.0] * 15)
        means = _running_mean(values)
        assert means[:5].tolist() == pytest.approx([2.0, 2.0, 4.0, 7.5, 17 / 3])
        assert means[6:].tolist() == pytest.approx([2.0] * 14)
        assert np.isnan(_running_mean(np.full(20, NAN))).all()

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
