# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`DeepEvalJudge` in real evaluations of DeepEval."""

import json
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
    pytest.mark.skipif(find_spec("deepeval") is None, reason="DeepEval is not installed: make test-adapters"),
]
os.environ |= {"DEEPEVAL_TELEMETRY_OPT_OUT": "1", "DEEPEVAL_DISABLE_DOTENV": "1", "DEEPEVAL_NO_INSPECT_PROMPT": "1"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # DeepEval writes .deepeval into the current folder; 2.9 makes it when it is imported
    (tmp_path / ".deepeval").mkdir()


def evaluate(metric, cases):
    import deepeval
    from deepeval.evaluate.configs import AsyncConfig, DisplayConfig

    display = DisplayConfig(show_indicator=False, print_results=False)
    result = deepeval.evaluate(cases, [metric], async_config=AsyncConfig(max_concurrent=20), display_config=display)
    by_input = {each.input: each.metrics_data[0] for each in result.test_results}
    return [by_input[case.input] for case in cases]


def test_a_real_evaluation_of_ten_test_cases(folder):
    from deepeval.test_case import LLMTestCase

    from real_trl.integrations import DeepEvalJudge

    judge = Watched.from_pretrained(folder, do_sample=False, **SETTINGS)
    metric = DeepEvalJudge(judge, rubric=RUBRIC, threshold=0.4, name="Homework")
    cases = [LLMTestCase(input=text, actual_output=said) for text, said in zip(INSTRUCTIONS, RESPONSES, strict=True)]
    data = evaluate(metric, cases)
    assert sum(judge.sizes) == 10 and len(judge.sizes) < 10
    for each, own in zip(data, own_judgments(folder), strict=True):
        logged = json.loads(each.verbose_logs)
        assert logged["expected_score"] == pytest.approx(own.expected_score, abs=1e-4)
        assert each.score == pytest.approx((own.expected_score - 1) / 4, abs=1e-4)
        assert (each.name, each.reason, each.success) == ("Homework", own.rationale, each.score >= 0.4)
    assert len({each.success for each in data}) == 2


def test_without_an_event_loop_and_with_fields_of_the_test_case(folder):
    from deepeval.test_case import LLMTestCase

    from real_trl.integrations import DeepEvalJudge

    judge = Judge.from_pretrained(folder, do_sample=False, **SETTINGS)
    metric = DeepEvalJudge(judge, columns={"rubric": "expected_output"})
    own = judge.score(instruction=PROMPT, response="close", rubric="right")
    got = metric.measure(LLMTestCase(input=PROMPT, actual_output="close", expected_output="right"))
    assert got == metric.score == pytest.approx((own.expected_score - 1) / 4, abs=1e-4)
    assert metric.score_breakdown["expected_score"] == pytest.approx(own.expected_score, abs=1e-4)
    own = judge.score(instruction=PROMPT, response="close", rubric="wrong")
    case = LLMTestCase(input=PROMPT, actual_output="close", additional_metadata={"rubric": "wrong"})
    assert DeepEvalJudge(judge).measure(case) == pytest.approx((own.expected_score - 1) / 4, abs=1e-4)


def test_a_test_case_without_a_score_is_an_error_and_no_zero(folder):
    from deepeval.test_case import LLMTestCase

    from real_trl.integrations import DeepEvalJudge

    cases = [LLMTestCase(input=f"{PROMPT} {i}", actual_output=said) for i, said in enumerate(("right", TOO_LONG))]
    good, bad = evaluate(DeepEvalJudge(folder, rubric=RUBRIC, threshold=0.0, **SETTINGS), cases)
    assert good.score is not None and good.success and good.error is None
    assert (bad.score, bad.success) == (None, False) and "tokens" in bad.error
