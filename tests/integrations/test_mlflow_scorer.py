# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""`mlflow_judge` in real evaluations of MLflow, on a store in a folder."""

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
    pytest.mark.skipif(find_spec("mlflow") is None, reason="MLflow is not installed: make test-adapters"),
]
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@pytest.fixture(scope="module", autouse=True)
def store(tmp_path_factory):
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("homework", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("homework")


def feedback_of(result, name):
    """Assessments of this name, in the order of the rows, which their number in the inputs says."""
    rows = result.result_df.assign(number=[request["number"] for request in result.result_df["request"]])
    found = [
        next(each for each in assessments if each["assessment_name"] == name)
        for assessments in rows.sort_values("number")["assessments"]
    ]
    return found


def test_a_real_evaluation_of_ten_rows(folder):
    import mlflow

    from real_trl.integrations import mlflow_judge

    judge = Watched.from_pretrained(folder, do_sample=False, **SETTINGS)
    texts = [*zip(INSTRUCTIONS, RESPONSES, strict=True), (PROMPT, TOO_LONG)]
    data = [{"inputs": {"question": q, "number": i}, "outputs": a} for i, (q, a) in enumerate(texts)]
    scorer = mlflow_judge(judge, rubric=RUBRIC, columns={"instruction": "question"}, name="homework")
    result = mlflow.genai.evaluate(data=data, scorers=[scorer])
    *scored, unscored = feedback_of(result, "homework")
    judgments = own_judgments(folder)
    for each, own in zip(scored, judgments, strict=True):
        assert each["feedback"]["value"] == pytest.approx(own.expected_score, abs=1e-4)
        assert each["rationale"] == own.rationale and each["metadata"]["status"] == own.status
        assert json.loads(each["metadata"]["reward"]) == pytest.approx((own.expected_score - 1) / 4, abs=1e-4)
        assert json.loads(each["metadata"]["probabilities"]) == pytest.approx(own.probabilities, abs=1e-4)
    assert unscored["feedback"].get("value") is None
    assert unscored["feedback"]["error"]["error_code"] == "TOO_LONG"
    assert "tokens" in unscored["feedback"]["error"]["error_message"]
    mean = sum(own.expected_score for own in judgments) / 10  # of the ten that have a score
    assert result.metrics["homework/mean"] == pytest.approx(mean, abs=1e-4)
    assert sum(judge.sizes) == 10 and len(judge.sizes) < 10


def test_inputs_and_outputs_of_other_forms(folder):
    from real_trl.integrations import mlflow_judge

    judge = Judge.from_pretrained(folder, do_sample=False, **SETTINGS)
    said = {"role": "assistant", "content": "close"}
    asked = {"role": "user", "content": PROMPT}
    expected = judge.score(instruction=PROMPT, response="close", rubric="right").expected_score
    scorer = mlflow_judge(judge, columns={"rubric": "expected_response"})
    for inputs, outputs in (
        ({"question": PROMPT}, "close"),
        ({"messages": [asked]}, {"choices": [{"message": said}]}),
        ({"messages": [asked], "user": "me"}, {"messages": [asked, said]}),
        ({"instruction": PROMPT, "user": "me"}, "close"),
    ):
        feedback = scorer.run(inputs=inputs, outputs=outputs, expectations={"expected_response": "right"})
        assert feedback.value == pytest.approx(expected, abs=1e-4), inputs
    feedback = scorer.run(inputs={"question": PROMPT}, outputs=None, expectations={"expected_response": "right"})
    assert feedback.value is None and feedback.error.error_code == "UNANSWERED"
    with pytest.raises(ValueError, match="the variable 'instruction' is undefined"):
        scorer.run(inputs={"a": PROMPT, "b": PROMPT}, outputs="x", expectations={"expected_response": "right"})
