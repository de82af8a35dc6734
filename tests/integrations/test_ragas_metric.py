# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`RagasJudge` in real evaluations of Ragas: `evaluate`, an experiment, and one response."""

import asyncio
import math
import os
from importlib.util import find_spec

import pytest

from real_trl import Judge
from tests.integrations.judges import (
    INSTRUCTIONS,
    RESPONSES,
    RUBRIC,
    SETTINGS,
    TOO_LONG,
    Watched,
    own_judgments,
)
from tests.tiny import PROMPT

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.skipif(find_spec("ragas") is None, reason="Ragas is not installed: make test-adapters"),
]
os.environ["RAGAS_DO_NOT_TRACK"] = "true"
ROWS = [{"user_input": text, "response": said} for text, said in zip(INSTRUCTIONS, RESPONSES, strict=True)]


def test_evaluate_scores_ten_samples(folder):
    from ragas import EvaluationDataset, evaluate

    from real_trl.integrations import RagasJudge

    judge = Watched.from_pretrained(folder, do_sample=False, **SETTINGS)
    rows = [*ROWS, {"user_input": PROMPT, "response": TOO_LONG}]
    metric = RagasJudge(judge, rubric=RUBRIC, name="homework")
    result = evaluate(EvaluationDataset.from_list(rows), metrics=[metric], show_progress=False)
    *scores, unscored = result["homework"]
    own = [judgment.expected_score for judgment in own_judgments(folder)]
    assert scores == pytest.approx(own, abs=1e-4) and math.isnan(unscored)
    assert result._repr_dict["homework"] == pytest.approx(sum(own) / 10, abs=1e-4)  # the mean that is printed
    assert sum(judge.sizes) == 10 and len(judge.sizes) <= 3


def test_an_experiment_on_ten_rows(folder, tmp_path):
    from ragas import Dataset, experiment

    from real_trl.integrations import RagasJudge

    judge = Watched.from_pretrained(folder, do_sample=False, **SETTINGS)
    metric = RagasJudge(judge, columns={"rubric": "criteria_text"})

    @experiment()
    async def run(row):
        result = await metric.ascore(**row)
        return {**row, "score": result.value, "why": result.reason, **result.traces["output"]}

    rows = [{**row, "criteria_text": RUBRIC} for row in ROWS]
    dataset = Dataset(name="homework", backend="local/csv", root_dir=str(tmp_path), data=rows)
    done = asyncio.run(run.arun(dataset, name="judged", backend="inmemory"))
    by_input = {row["user_input"]: row for row in done}
    for row, own in zip(ROWS, own_judgments(folder), strict=True):
        got = by_input[row["user_input"]]
        assert got["score"] == got["expected_score"] == pytest.approx(own.expected_score, abs=1e-4)
        assert got["why"] == own.rationale and got["status"] == own.status
        assert got["reward"] == pytest.approx((own.expected_score - 1) / 4, abs=1e-4)
    assert sum(judge.sizes) == 10 and len(judge.sizes) <= 3


def test_one_response_and_one_that_has_no_score(folder):
    from real_trl.integrations import RagasJudge

    judge = Judge.from_pretrained(folder, do_sample=False, **SETTINGS)
    metric = RagasJudge(judge, rubric=RUBRIC)
    own = judge.score(instruction=PROMPT, response="right", rubric=RUBRIC)
    assert metric.score(user_input=PROMPT, response="right").value == pytest.approx(own.expected_score, abs=1e-4)
    for response, why in ((TOO_LONG, "tokens"), (None, "no answer"), ("<think> wait", "no answer")):
        result = metric.score(user_input=PROMPT, response=response)
        assert math.isnan(result.value) and why in result.reason
    assert metric.allowed_values == (1.0, 5.0)
