# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A model that nobody trained as a judge: its mean is divided by the mass on the labels, everywhere, and every figure says so."""

import json

import pandas as pd
import pytest
import torch
import yaml

from real_trl import Judge, JudgeConfig
from real_trl.arguments.serving import ServedJudge
from real_trl.engines import Judgment
from real_trl.integrations import JudgeReward
from real_trl.judge_source import PRESETS, find_judge
from real_trl.report import latex_table
from real_trl.runs.predictions import RESULT
from real_trl.score_space import DEFAULT_MARKER, ScoreSpace
from real_trl.scripts import evaluate, score
from real_trl.serving.judgment_html import judgment_html
from real_trl.serving.wire import Score
from tests.tiny import DIGITS, LINES, PROMPT, TOKENIZER, build_model

SPACE = ScoreSpace.from_labels("1-5", TOKENIZER)
SAID = "divided by the probability mass on the labels"
OF_THE_VOCABULARY = "π over the whole vocabulary"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """Weights and a tokenizer, and no `judge_config.json`."""
    folder = tmp_path_factory.mktemp("models") / "base"
    build_model(seed=3).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def trained(tmp_path) -> str:
    """The same weights as a judge that was trained here, with the rule of the paper."""
    folder = tmp_path / "trained"
    build_model(seed=3).save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    JudgeConfig.from_space(SPACE).save(folder)
    return str(folder)


def mean_of(judgment, values=SPACE.values) -> float:
    """Σ k·π(k) / Σ π(k), by hand, of a judgment, or of a row of predictions, which has a list."""
    shares = judgment.probabilities
    shares = list(shares.values()) if isinstance(shares, dict) else list(shares)
    return sum(k * p for k, p in zip(values, shares, strict=True)) / sum(shares)


def test_at_mass_06_the_mean_reaches_the_end_of_the_scale():
    space = ScoreSpace.from_labels("1-10", DIGITS)
    log_probs = torch.tensor([0.0] * 9 + [0.6]).log()  # 0.6 on the 10, the rest is on other text
    location = space.locate(DIGITS("So the overall score is 10", add_special_tokens=False)["input_ids"])
    judged = {
        rule: Judgment.from_distribution("", location, log_probs, space, normalize=rule, prompt_tokens=1, num_tokens=1)
        for rule in (True, False)
    }
    assert judged[True].expected_score == pytest.approx(10) and judged[True].normalized
    assert (
        judged[False].expected_score == pytest.approx(6) and not judged[False].normalized
    )  # which the paper's rule cannot pass


@pytest.mark.parametrize(
    "options",
    [
        {"score_labels": "1-5"},
        *(
            {"preset": name, "score_labels": "1-5", "score_marker": DEFAULT_MARKER}
            for name, preset in PRESETS.items()
            if preset.system_prompt is None  # there is no chat template
        ),
    ],
)
def test_the_rule_is_the_default_of_models_without_a_judge_config(model, options):
    assert find_judge(model, **options).config.normalize_expectation
    assert not find_judge(model, **options, normalize_expectation=False).config.normalize_expectation


def test_judges_that_were_trained_here_keep_their_own(trained):
    assert not find_judge(trained).config.normalize_expectation
    assert find_judge(trained, normalize_expectation=True).config.normalize_expectation


def test_the_api_and_what_is_built_on_it(model):
    judge = Judge.from_pretrained(model, score_labels="1-5", max_new_tokens=8)
    (judgment,) = judge.score(prompt=[PROMPT])
    assert judgment.mass < 0.9 and judgment.normalized
    assert judgment.expected_score == pytest.approx(mean_of(judgment))
    assert judge.score(prompt=[PROMPT], num_samples=3)[0].normalized  # an average says so as well
    assert Score.of(judgment).normalized and "mass on the labels" in judgment_html(judgment, judge.labels)
    assert (
        ServedJudge(model_name_or_path=model, preset="feedback_collection").load().config.normalize_expectation
    )  # serve and demo
    assert JudgeReward(model, rubric="Right?", preset="feedback_collection").judge.config.normalize_expectation


def evaluated(tmp_path, judge, **keys) -> tuple[dict, pd.DataFrame]:
    rows = [{"prompt": f"{PROMPT}\n{LINES[i % 3]}", "score": 1 + i % 5} for i in range(10)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {"output_dir": str(tmp_path / "evaluation"), "dataset_name": str(data), "judges": {"judge": judge}}
    recipe |= {"eval_splits": ["all"], "max_new_tokens": 8, "num_resamples": 100, **keys}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    evaluate.main(["--config", str(tmp_path / "recipe.yaml")])
    output = tmp_path / "evaluation"
    return json.loads((output / "evaluation.json").read_text()), pd.read_parquet(
        output / "predictions" / "judge" / "all" / RESULT
    )


def test_an_evaluation_uses_it_and_says_so_everywhere(tmp_path, model, capsys):
    evaluation, frame = evaluated(tmp_path, model, score_labels="1-5")
    assert evaluation["judges"]["judge"]["judge"]["normalize_expectation"] is True
    assert frame["normalized"].all() and frame["mass"].max() < 0.9
    for row in frame.itertuples():
        assert row.expected_score == pytest.approx(mean_of(row))
    output = tmp_path / "evaluation"
    assert SAID in " ".join(capsys.readouterr().out.split())
    for name in ("report.md", "report.html"):
        assert SAID in (output / name).read_text() and OF_THE_VOCABULARY not in (output / name).read_text()
    latex = (output / "table.tex").read_text()
    assert SAID in latex and r"$\hat{y}$ = $\Sigma$ k$\cdot$$\pi$(k) / $\Sigma$ $\pi$(k)" in latex
    assert "ŷ" not in latex  # which pdfLaTeX does not know


def test_the_papers_rule_is_said_as_well_and_judges_of_both_are_told_apart(tmp_path, trained):
    evaluation, frame = evaluated(tmp_path, trained)
    assert not frame["normalized"].any() and "probability mass on the labels" not in latex_table(evaluation)
    assert OF_THE_VOCABULARY in (tmp_path / "evaluation" / "report.md").read_text()
    evaluation["judges"]["other"] = {"judge": {"normalize_expectation": True}}
    text = latex_table(evaluation)
    assert "RAIL (judge): " in text and "RAIL (other): " in text


def test_figures_of_the_other_rule_are_not_mixed_in(tmp_path, model, capsys):
    evaluated(tmp_path, model, score_labels="1-5", normalize_expectation=False)  # what was the default once
    with pytest.raises(SystemExit):
        evaluated(tmp_path, model, score_labels="1-5")
    assert "judge.normalize_expectation was False, now it is True" in capsys.readouterr().err


def test_predictions_that_do_not_hold_the_rule_have_it_from_their_provenance(tmp_path, model):
    evaluated(tmp_path, model, score_labels="1-5")
    path = tmp_path / "evaluation" / "predictions" / "judge" / "all" / RESULT
    pd.read_parquet(path).drop(columns="normalized").to_parquet(path)
    _, frame = evaluated(tmp_path, model, score_labels="1-5")
    assert frame["normalized"].all()


def test_score_uses_it(tmp_path, model, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{PROMPT}\n{line}"}) + "\n" for line in LINES))
    score.main([str(data), "--judge", model, "--score_labels", "1-5", "--max_new_tokens", "8"])
    rows = [json.loads(line) for line in (tmp_path / "rows.scored.jsonl").read_text().splitlines()]
    for row in rows:
        probabilities = list(row["probabilities"].values())
        assert sum(probabilities) < 0.9
        assert row["expected_score"] == pytest.approx(
            sum(k * p for k, p in enumerate(probabilities, 1)) / sum(probabilities)
        )
