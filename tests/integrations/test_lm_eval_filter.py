# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`LMEvalJudge` in a task of lm-evaluation-harness that a YAML file describes, with a model that recites."""

import json
import math
from importlib.util import find_spec

import pytest

from tests.integrations.judges import INSTRUCTIONS, RESPONSES, RUBRIC, TOO_LONG, own_judgments, save_judge
from tests.tiny import PROMPT

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.skipif(
        find_spec("lm_eval") is None, reason="lm-evaluation-harness is not installed: make test-adapters"
    ),
]

TASK = """
task: homework
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
generation_kwargs: {{until: ["\\n\\n"]}}
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{rubric}}}}"
process_results: !function real_trl.integrations.lm_eval_filter.judge_results
filter_list:
  - name: judge
    filter:
      - function: !function real_trl.integrations.lm_eval_filter.LMEvalJudge
        judge: {judge}
        columns: {{instruction: question}}
        max_new_tokens: 24
metric_list:
  - {{metric: expected_score, aggregation: nanmean, higher_is_better: true}}
  - {{metric: unscored, aggregation: mean, higher_is_better: false}}
"""


def test_a_real_evaluation_of_ten_documents(tmp_path, monkeypatch):
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    judge = save_judge(tmp_path / "judge")
    answers = dict(zip(INSTRUCTIONS, RESPONSES, strict=True)) | {PROMPT: TOO_LONG}

    class Reciter(LM):
        def generate_until(self, requests, disable_tqdm=False):
            return [answers[request.args[0]] for request in requests]

        def loglikelihood(self, requests, disable_tqdm=False):
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"question": text, "rubric": RUBRIC}) for text in answers))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "homework.yaml").write_text(TASK.format(rows=rows, judge=judge))
    tasks = TaskManager(include_path=str(tmp_path / "tasks"), include_defaults=False)
    results = simple_evaluate(Reciter(), tasks=["homework"], task_manager=tasks, bootstrap_iters=0)

    own = own_judgments(judge)
    found = results["results"]["homework"]
    assert found["expected_score,judge"] == pytest.approx(sum(each.expected_score for each in own) / 10, abs=1e-4)
    assert found["unscored,judge"] == pytest.approx(1 / 11)
    samples = {sample["doc"]["question"]: sample for sample in results["samples"]["homework"]}
    for text, judgment in zip(INSTRUCTIONS, own, strict=True):
        assert samples[text]["expected_score"] == pytest.approx(judgment.expected_score, abs=1e-4)
        ((logged,),) = samples[text]["filtered_resps"]
        assert logged["explanation"] == judgment.rationale and logged["status"] == judgment.status
        assert logged["reward"] == pytest.approx((judgment.expected_score - 1) / 4, abs=1e-4)
    assert math.isnan(samples[PROMPT]["expected_score"]) and samples[PROMPT]["unscored"] == 1
    assert "tokens" in samples[PROMPT]["filtered_resps"][0][0]["explanation"]
    json.dumps(results["samples"])  # what --log_samples writes


def test_several_responses_to_a_document_are_averaged():
    from real_trl.integrations.lm_eval_filter import judge_results

    responses = [[{"expected_score": 2.0}, {"expected_score": None}, {"expected_score": 5.0}]]
    assert judge_results({}, responses) == {"expected_score": 3.5, "unscored": pytest.approx(1 / 3)}
    nothing = judge_results({}, [[{"expected_score": None}]])
    assert math.isnan(nothing["expected_score"]) and nothing["unscored"] == 1
