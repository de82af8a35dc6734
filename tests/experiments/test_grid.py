# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The declared grid: its recipes are ones that the stages take, and what is wrong in one is named."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from experiments.data import DATASETS, exact_labels, mixed_difficulty, pairs
from experiments.grid import Grid
from experiments.report import TABLES
from experiments.store import check_overwritten
from experiments.tables import ABLATIONS, FAMILY_METHODS, METHODS, SCALE
from real_trl.arguments.training import make_parser
from real_trl.data.homework import make_dataset
from real_trl.trainers import RAFTConfig, REALConfig

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "experiments" / "paper.yaml"


@pytest.fixture(scope="module")
def grid():
    return Grid.load(PAPER)


def declared(tmp_path, **changes):
    content = yaml.safe_load(PAPER.read_text(encoding="utf-8"))
    content["tiers"]["methods"] |= changes
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def test_every_recipe_is_taken_by_its_stage(grid, tmp_path):
    for run in grid.runs.values():
        recipe = grid.recipe(run, 3, tmp_path / "seed-3")
        path = tmp_path / f"{run.name}.yaml"
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        parser = make_parser({"sft": RAFTConfig, "rl": REALConfig}[run.stage])
        _, _, config, _ = parser.parse_args_and_config(["--config", str(path)])
        assert config.seed == 3
        assert config.output_dir == str(tmp_path / "seed-3" / run.name)
        assert recipe["model_name_or_path"] == str(tmp_path / "seed-3" / run.start)


def test_runs_that_are_like_another_differ_in_what_they_set_only(grid, tmp_path):
    real, other = (grid.recipe(grid.runs[name], 0, tmp_path) for name in ("real", "real_lambda_0"))
    differing = {key for key in real | other if real.get(key) != other.get(key)}
    assert differing == {"log_likelihood_weight", "output_dir", *grid.curves}
    assert other["log_likelihood_weight"] == 0


def test_null_removes_a_key_or_is_a_value(grid, tmp_path):
    recipe = grid.recipe(grid.runs["real_unstandardised"], 0, tmp_path)
    assert recipe["advantage_clip"] is None and recipe["advantage_eps"] == 100
    mixed = grid.recipe(grid.runs["real_mixed"], 0, tmp_path / "seed-0")
    assert mixed["dataset_name"] == str(tmp_path / "data" / "mixed_difficulty.parquet")
    assert "dataset_options" not in mixed


def test_the_family_is_on_the_same_footing(tmp_path):
    grid = Grid.load(ROOT / "experiments" / "family.yaml")
    assert {*FAMILY_METHODS, "base"} == set(grid.runs)
    real = grid.recipe(grid.runs["real"], 1, tmp_path)
    for name in ("soft_labels", "number_token", "listwise", "pairs"):
        recipe = grid.recipe(grid.runs[name], 1, tmp_path)
        assert {key for key in real if key in recipe and real[key] != recipe[key]} <= {
            *("output_dir", "reward", "dataset_name", "dataset_train_split", "columns")
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
        make_parser(REALConfig).parse_args_and_config(["--config", str(path)])


def test_pairs_are_as_many_as_scores_under_one_rubric_each():
    made = pairs()
    assert len(made) == 1200 and made.column_names[2:] == ["first", "second", "better"]
    scores = {row["orig_response"] + row["orig_criteria"]: row["score"] for row in make_dataset("rl", 4800)}
    for row in made.select(range(50)):
        first, second = (scores[row[side] + row["orig_criteria"]] for side in ("first", "second"))
        assert row["better"] == ("tie" if first == second else "first" if first > second else "second")
    assert 0.1 < made["better"][:].count("tie") / 1200 < 0.5


def test_every_run_has_a_place_in_the_report(grid):
    reported = {*METHODS, *SCALE, *(run for runs in ABLATIONS.values() for run in runs)}
    assert set(grid.runs) == reported


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"stage": "sft", "start": "nobody"}, "odd needs 'nobody', which is no run above it"),
        ({"stage": "sft", "start": "base", "sett": {}}, "odd has an unknown key 'sett'"),
        ({"like": "nobody"}, "odd is like 'nobody', which is no run above it"),
        ({"stage": "eval", "start": "base", "recipe": "real"}, "odd: stage 'eval'"),
        ({"stage": "rl", "start": "raft", "recipe": "real", "data": "none"}, "odd: data 'none'"),
        ({"stage": "rl", "start": "raft"}, "has no odd.yaml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, monkeypatch, entry, message):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError, match="odd") as error:
        Grid.load(declared(tmp_path, odd=entry))
    assert message in str(error.value)


def test_labels_of_the_exact_data():
    rows, plain = exact_labels(), make_dataset("rl", 1200)
    assert rows["orig_score"][:] == plain["exact_score"][:] != plain["orig_score"][:]
    assert 0.5 in {score % 1 for score in rows["orig_score"]}


def test_stored_results_are_not_replaced_by_fewer(grid, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    (results / "runs.json").write_text('{"runs": {"real": {"seconds": {"0": {}, "1": {}}}}}', encoding="utf-8")
    check_overwritten(grid, tmp_path, results, {("real", 0), ("real", 1)})  # both are about to be run
    with pytest.raises(ValueError, match=r"holds 1 runs that are neither in .*, such as \('real', 1\)"):
        check_overwritten(grid, tmp_path, results, {("real", 0)} | {("base", 1)})
    (tmp_path / "seed-0" / "real").mkdir(parents=True)
    (tmp_path / "seed-0" / "real" / "experiment.parquet").touch()
    with pytest.raises(ValueError, match="holds 1 runs"):  # seed 1 has failed
        check_overwritten(grid, tmp_path, results)


def test_a_third_each_of_the_mixed_data():
    rows = mixed_difficulty()
    exact = {row["orig_response"] + row["orig_criteria"]: row["exact_score"] for row in make_dataset("rl", 4800)}
    truth = [exact[row["orig_response"] + row["orig_criteria"]] for row in rows]
    errors = [abs(row["orig_score"] - true) for row, true in zip(rows, truth, strict=True)]
    assert len(rows) == 1200 and len(exact) == 4800
    assert all(error <= 2 for error in errors[::3])
    assert all(error == 0 and true in (1, 5) for error, true in zip(errors[1::3], truth[1::3], strict=True))
    assert all(error >= 1.5 for error in errors[2::3])
    assert set(DATASETS) == {"exact_labels", "mixed_difficulty", "pairs"}


TINY = """
recipes: recipes/quickstart
seeds: [0, 1]
evaluation: {rows: 20, samples: 2, max_new_tokens: 8}
curves: {judge_eval_steps: 1, judge_eval_splits: [ood], judge_eval_rows: 8, judge_eval_max_new_tokens: 4}
tiers:
  methods:
    base: {stage: sft, start: untrained, samples: 10, set: {max_steps: 2}}
    raft: {stage: sft, start: base, samples: 10, set: {max_steps: 2}}
    standard_rl: {stage: rl, start: raft, samples: 10, curves: true, set: &few {max_steps: 2, per_device_train_batch_size: 16, max_completion_length: 8, preflight_scored_rate: 0, max_steps_without_signal: 0}}
    real:
      stage: rl
      start: raft
      samples: 10
      curves: true
      set: {<<: *few, malformed: force, eval_strategy: "no", eval_on_start: false, dataset_options: {size: 1200}}
  ablations:
    real_mixed: {like: real, data: mixed_difficulty}
"""


@pytest.mark.slow
def test_a_stopped_grid_goes_on_and_is_reported(tmp_path):
    (tmp_path / "grid.yaml").write_text(TINY, encoding="utf-8")
    paths = ["--output_dir", str(tmp_path / "out"), "--results", str(tmp_path / "results")]
    command = [sys.executable, "-m", "experiments.run", "--grid", str(tmp_path / "grid.yaml"), *paths]
    base = tmp_path / "out" / "seed-0" / "base" / "experiment.parquet"
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as first:
        while not base.is_file() and first.poll() is None:
            time.sleep(0.2)
        os.killpg(first.pid, signal.SIGKILL)
    made = base.stat().st_mtime_ns
    subprocess.run(command, cwd=ROOT, check=True, timeout=900)
    assert base.stat().st_mtime_ns == made
    frame = pd.read_parquet(tmp_path / "results" / "predictions.parquet")
    sizes = frame.groupby(["run", "seed"], observed=True).size()
    assert len(sizes) == 5 * 2 and sizes["real", 1] == 2 * 20 * 11 and sizes["real_mixed", 0] == 2 * 20 * 3

    page = tmp_path / "RESULTS.md"
    page.write_text(
        "".join(f"<!-- results: {name} -->\n<!-- end -->\n" for name in [*TABLES, "runs"]), encoding="utf-8"
    )
    options = ["--results", str(tmp_path / "results"), "--pages", str(page), "--figures", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "experiments.report", *options], cwd=ROOT, check=True, timeout=300)
    assert "| REAL − Standard RL |" in page.read_text(encoding="utf-8")
    assert all((tmp_path / f"paper-{name}.png").stat().st_size > 5000 for name in ("methods", "curves", "ablations"))

    # Another recipe under the same name is refused
    (tmp_path / "grid.yaml").write_text(TINY.replace("size: 1200", "size: 600"), encoding="utf-8")
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2 and "was made with another recipe" in refused.stderr
