# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""docs/how-to-add.md, followed as it is written: each block is run in the file that its first line names, and then used."""

import json
import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from real_trl import Judge, JudgeConfig, REALConfig, Scale, ScoreSpace
from real_trl.data.arguments import DataArguments
from real_trl.data.benchmarks import BENCHMARKS, load_benchmark
from real_trl.data.loading import load_judge_dataset
from real_trl.engines import ENGINES
from real_trl.evaluation.assemble import assemble_evaluation
from real_trl.evaluation.registry import METRICS, Sample, core_metrics
from real_trl.forward.dense import policy_forward
from real_trl.forward.shared_prefix import shared_prefix_forward
from real_trl.methods import METHODS, Part
from real_trl.option_values import FieldError
from real_trl.publishing import build_card
from real_trl.publishing.results import evaluation_table as card_table
from real_trl.report.markup import markdown_report
from real_trl.trainers.rewards import score_rewards
from tests.data.test_benchmarks import prompt
from tests.forward import test_shared_prefix as prefix
from tests.test_judge import FIELDS, SPACE, save_judge
from tests.tiny import DIGITS
from tests.trainers import test_exact_gradient as exact
from tests.trainers import test_real_trainer as real

PAGE = (Path(__file__).parent.parent / "docs" / "how-to-add.md").read_text(encoding="utf-8")


def section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S).group(1)


@pytest.fixture
def follow(monkeypatch):
    """Does what a section of the page says; all is undone after the test."""
    tables = (METHODS, METRICS, ENGINES, BENCHMARKS, prefix.CONFIGS)
    before = [dict(table) for table in tables]

    def do(title):
        for block in re.findall(r"```python\n(.*?)```", section(title), re.S):
            name = re.match(r"# (\S+)\.py\n", block).group(1).replace("/", ".")
            try:
                module = import_module(name)
            except ModuleNotFoundError:
                module = ModuleType(name)
                monkeypatch.setitem(sys.modules, name, module)
            names = dict(vars(module))
            exec(block, names)
            for key, value in names.items():
                if getattr(module, key, None) is not value:
                    monkeypatch.setattr(module, key, value, raising=False)

    yield do
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def test_a_reward(follow, tmp_path):
    follow("A reward")
    trainer = real.make_trainer(tmp_path, real.Fixed, reward="brier")
    before = real.parameters(trainer)
    trainer.train()
    assert real.unmoved(trainer, before) == []
    assert trainer.args.prediction_weight == 0.01 and trainer.judge_config.method == "brier"
    assert METHODS["brier"].equation in build_card(JudgeConfig.from_space(SPACE, method="brier"), "acme/judge").text
    for name, value in {"likelihood_form": "probability", "log_likelihood_weight": 5.0}.items():
        with pytest.raises(ValueError, match=f"{name}: got {value!r} with reward='brier'"):
            REALConfig(str(tmp_path), **real.OPTIONS, reward="brier", **{name: value})
    # −(0.5² + 0.25² + 0.25²)
    scores = torch.tensor([[0.5, 0.25, 0.75]], dtype=torch.float64).log()
    assert exact.reward_of("brier", scores).tolist() == pytest.approx([-0.375])

    # 4 and 5 have (0.5, 0.5), (0.2, 0.6); y* = 5: −(0.25 + 0.25), −(0.04 + 0.16); a uniform guess: −(4 · 0.04 + 0.64)
    log_probs = torch.full((4, 5), 1e-9).log()
    log_probs[:2, 3:] = torch.tensor([[0.5, 0.5], [0.2, 0.6]]).log()
    has_score = torch.tensor([True, True, False, False])
    weights = torch.tensor([[0.0, 0, 0, 0, 1]]).expand(4, -1)
    nothing, off = torch.full((4,), torch.nan), torch.full((4,), 0.01)
    rows = (log_probs, torch.arange(1.0, 6.0), torch.full((4,), 5.0), weights, nothing, has_score, 4, off)
    result = score_rewards(trainer.args, *rows)
    assert result.objective[0].tolist() == pytest.approx([-0.5, -0.2, -0.8, -0.8], abs=1e-6)
    # |∂r/∂ log π| = 2 |π − w| π: (0.5, 0.5), (0.08, 0.48); times 2 (1 − π) 0.01
    assert result.rounding[0][0].tolist() == pytest.approx([0.01, 0.00512, 0, 0], abs=1e-6)


def test_a_reward_of_the_expected_score(tmp_path, monkeypatch):
    parts = re.search(r"`(Part\(-F.huber_loss.*?)`\)", section("A reward"))[1]
    names = {"Part": Part, "F": torch.nn.functional}
    monkeypatch.setitem(
        METHODS, "huber", replace(METHODS["log_likelihood"], parts=eval(f"lambda scored, args: ({parts},)", names))
    )
    # ŷ = (4 + 5) / 4 is 2.25, normalised 4.5: −(2.75 − 0.5), −0.5² / 2
    log_probs = torch.tensor([[1e-9, 1e-9, 1e-9, 0.25, 0.25]] * 2).log()
    rest = (torch.tensor([[0.0, 0, 0, 0, 1]] * 2), torch.full((2,), torch.nan), torch.tensor([True, True]), 2)
    for normalize, reward in {False: -2.25, True: -0.125}.items():
        args = REALConfig(str(tmp_path), **real.OPTIONS, reward="huber", normalize_expectation=normalize)
        rewards = score_rewards(args, log_probs, torch.arange(1.0, 6.0), torch.full((2,), 5.0), *rest)
        assert rewards.objective[0].tolist() == pytest.approx([reward] * 2)


def test_a_metric(follow):
    follow("A metric")
    target = np.tile([1.0, 2.0, 4.0, 5.0], 6)  # variance 2.5
    columns = {
        "id": range(24),
        "group": np.arange(24) // 2,
        "status": "ok",
        "target": target,
        "expected_score": target,
    }
    off = {"A": np.tile([0.5, 0.0, 0.0, -1.0], 6), "B": np.ones(24)}
    frames = {name: pd.DataFrame({**columns, "sampled_score": target + each}) for name, each in off.items()}
    evaluation = assemble_evaluation({"data": frames}, scale=Scale.parse("1-5"), num_resamples=60)
    results = evaluation["results"]["data"]
    assert results["A"]["standard"]["within_half"] == 0.75 and results["B"]["standard"]["within_half"] == 0.0
    assert results["B"]["standard"]["concordance"] == pytest.approx(2 * 2.5 / (2.5 + 2.5 + 1))
    assert results["B"]["rail"]["concordance"] == pytest.approx(1.0)
    low, high = results["A"]["intervals"]["standard"]["concordance"]
    assert low < results["A"]["standard"]["concordance"] < high
    compared = evaluation["comparisons"]["data"][0]["standard"]["within_half"]
    assert compared["difference"] == 0.75 and compared["p_value"] == pytest.approx(1 / 61)
    always = results["A"]["baseline"]
    assert always["mean"]["within_half"] == 0.0 and always["mean"]["rmse"] == pytest.approx(np.sqrt(2.5))
    in_order, wrong = np.array([1.0, 1.5, 3.0]), np.array([True, False, False])
    assert METRICS["within_half"](Sample(in_order, np.array([1.0, 1.0, 1.0]), wrong)) == pytest.approx(1 / 3)
    assert "concordance" in core_metrics() and "within_half" not in core_metrics()
    about = {"name": "A", "results": {"data": results["A"]}, "settings": {}, "datasets": {}}
    assert "| ±½ | CCC |" in card_table(about) and "| 75.0 [" in card_table(about)
    report = markdown_report(evaluation)
    for text in ("| ±½ | CCC |", "±½: scores within half a point of the target, %.", "CCC: Lin's concordance × 100."):
        assert text in report


def test_an_engine(follow, tmp_path, monkeypatch):
    follow("An engine")
    options = {"engine": "uniform", "engine_options": {"rationale": "No idea. "}}
    judge = Judge.from_pretrained(save_judge(tmp_path), **options)
    judgment = judge.score(**FIELDS)
    assert list(judgment.probabilities.values()) == pytest.approx(
        [0.2] * 5
    ) and judgment.expected_score == pytest.approx(3.0)
    assert judgment.rationale == "No idea." and judgment.sampled_score in judge.values
    with pytest.raises(ValueError, match="engine 'uniform' does not take"):
        Judge.from_pretrained(tmp_path, **{**options, "engine_options": {"rational": ""}})
    with pytest.raises(ValueError, match=f"engine: got 'equal'. Set it to one of: {', '.join(ENGINES)}") as error:
        Judge.from_pretrained(tmp_path, engine="equal")
    assert "uniform" in str(error.value)
    said = re.search(r"--engine_options '(.*?)'", section("An engine"))[1]
    assert (
        Judge.from_pretrained(tmp_path, engine="uniform", engine_options=said).score(**FIELDS).rationale == "No idea."
    )

    class Needing(ENGINES["uniform"].load_class()):
        def __init__(self, score_space, decoding, *, distribution):
            """Nothing to do."""

    monkeypatch.setattr(sys.modules["real_trl.engines.uniform_engine"], "UniformEngine", Needing)
    with pytest.raises(FieldError, match=r"engine_options: got \{\}.*Set distribution\."):
        Judge.from_pretrained(tmp_path, engine="uniform")


def test_a_scale(tmp_path):
    fields = yaml.safe_load(re.search(r"```yaml\n(.*?)```", section("A scale"), re.S).group(1))
    args = REALConfig(str(tmp_path), **real.OPTIONS, **fields)
    space = ScoreSpace.from_labels(args.score_labels, DIGITS, marker=args.score_marker, values=args.score_values)
    assert space.labels == ("poor", "good", "very good") and space.values == (0.0, 1.0, 3.0)

    assert len(Scale.parse(re.search(r'`score_labels: "(.*?)"`', section("A scale"))[1]).labels) == 9


def test_a_csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = dict(re.findall(r"```(csv|yaml|jinja)\n(.*?)```", section("A data source"), re.S))
    for kind in ("csv", "jinja"):
        Path(f"mine.{kind}").write_text(blocks[kind])
    fields = yaml.safe_load(blocks["yaml"])
    scale = Scale.parse(fields.pop("score_labels"))
    dataset = load_judge_dataset(DataArguments(**fields), scale=scale, marker="So the overall score is ")
    assert dataset["score"][:] == [5.0, 1.5] and dataset["group"][:] == ["q1", "q1"]
    first = 'Mark the answer from 1 to 5. End with "So the overall score is " and the mark.\nAdd 2 and 3.\n'
    assert dataset["prompt"][:] == [first + "5", first + "6, I think"]


def test_a_data_source(follow, tmp_path):
    follow("A data source")
    row = {"instruction": prompt("Say hi.", "Hi."), "people": [3, 4, 5], "question": "q1", "topic": "manners"}
    (tmp_path / "my_bench.json").write_text(json.dumps([row]))
    dataset = load_benchmark("my_bench", tmp_path, scale=Scale.parse("1-5"), marker="[RESULT] ")
    assert dataset[0]["score"] == 4.0 and dataset[0]["group"] == "q1" and dataset[0]["topic"] == "manners"


def test_an_architecture(follow):
    follow("An architecture")
    model, reference = prefix.shared_and_reference("olmo2")
    for tree in prefix.TREES.values():
        shared = prefix.run(shared_prefix_forward, model, prefix.ROWS, tree)
        prefix.assert_same(shared, prefix.run(policy_forward, reference, prefix.ROWS, tree))
