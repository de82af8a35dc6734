# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as a scorer of MLflow (https://mlflow.org/docs/latest/genai/eval-monitor)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from real_trl.integrations.prompt_fields import Prompt
from real_trl.integrations.row_judge import Asked, RowJudge
from real_trl.judge import Judge
from real_trl.text.json_text import to_json

try:
    from mlflow.entities import AssessmentError, Feedback
    from mlflow.genai.scorers import Scorer, scorer
    from mlflow.genai.utils.trace_utils import parse_outputs_to_str
except ImportError as error:
    raise ImportError(
        f'mlflow_judge needs MLflow ({error}). Install it with: pip install "real_trl[mlflow]"'
    ) from error


def mlflow_judge(judge: str | Path | Judge, *, name: str = "judge", **options: Any) -> Scorer:
    """
    Scorer for `mlflow.genai.evaluate`: the judge's expected score (RAIL), in the judge's own units.

    ```python
    data = [{"inputs": {"question": question}, "outputs": answer, "expectations": {"expected_response": reference}}]
    mlflow.genai.evaluate(data=data, scorers=[mlflow_judge("outputs/my-real", rubric="Is it helpful?")])
    ```

    The judge reads `outputs` as `response` and, as `instruction`, the messages or the only value of `inputs`; with several inputs,
    `columns={"instruction": "question"}` says which. `expected_response` is the `reference`; other fields are read from inputs and
    expectations. A feedback has the rationale, and in its metadata the distribution, status and further scores. A row that the judge cannot score
    is a feedback with an error, which MLflow keeps out of its means.

    Args:
        judge (`str`, `Path` or [`Judge`]):
            Directory or Hub id of a judge, or a loaded one.
        name (`str`, *optional*, defaults to `"judge"`):
            Of the scorer; MLflow logs `<name>/mean`.
        options:
            Further arguments of [`RowJudge`]: `rubric`, `columns`, `num_samples`, …

    Returns:
        `Scorer`. MLflow calls it from several threads; what waits for the judge is judged in one batch.

    Raises:
        `ValueError`: see [`RowJudge`].
        `ImportError`: without MLflow, when this module is imported.
    """
    rows = RowJudge(judge, **options)

    @scorer(name=name)
    def score(
        inputs: dict[str, Any] | None = None, outputs: Any = None, expectations: dict[str, Any] | None = None
    ) -> Feedback:
        row = {**(inputs or {}), **(expectations or {})}
        if "expected_response" in row:
            row.setdefault("reference", row["expected_response"])
        response = None if outputs is None else parse_outputs_to_str(outputs)
        (scored,) = rows.score([Asked(row, response, _instruction(inputs or {}))])
        metadata = {
            key: text if isinstance(text, str) else to_json(text, indent=None) for key, text in scored.record().items()
        }
        if scored.value is None:
            fault = AssessmentError(error_code=scored.details["status"].upper(), error_message=scored.explanation)
            return Feedback(name=name, error=fault, metadata=metadata)
        return Feedback(name=name, value=scored.value, rationale=scored.explanation, metadata=metadata)

    return score


def _instruction(inputs: Mapping[str, Any]) -> Prompt | None:
    """What was asked, as far as it is plain which of the inputs that is."""
    if "messages" in inputs:
        return inputs["messages"]
    return next(iter(inputs.values())) if len(inputs) == 1 else None
