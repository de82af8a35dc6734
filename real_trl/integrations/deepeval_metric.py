# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as a metric of DeepEval (https://deepeval.com)."""

from pathlib import Path
from typing import Any

from real_trl.integrations.row_judge import Asked, RowJudge, RowScore
from real_trl.judge import Judge
from real_trl.text.json_text import to_json

try:
    from deepeval.metrics import BaseMetric
    from deepeval.test_case import LLMTestCase
except ImportError as error:
    raise ImportError(
        f'DeepEvalJudge needs DeepEval ({error}). Install it with: pip install "real_trl[deepeval]"'
    ) from error


class DeepEvalJudge(BaseMetric):
    """
    Metric for DeepEval: the judge's expected score (RAIL) as DeepEval has scores, between 0 (worst of the scale) and 1 (best).

    ```python
    judge = DeepEvalJudge("outputs/my-real", rubric="Is it helpful?", threshold=0.7)
    evaluate(test_cases=[LLMTestCase(input=question, actual_output=answer)], metrics=[judge])
    ```

    The judge reads `actual_output` as `response`, `input` as `instruction`, `expected_output` as `reference`, and its other fields from
    the test case's metadata. `reason` is the rationale; `score_breakdown`, and `verbose_logs` as JSON, have the score in the judge's
    own units (`expected_score`) and the distribution. A test case that the judge cannot score has no score and an `error`.

    Args:
        judge (`str`, `Path`, [`Judge`] or [`RowJudge`]):
            Directory or Hub id of a judge, or a loaded one.
        threshold (`float`, *optional*, defaults to `0.5`):
            Score from which on a test case passes.
        name (`str`, *optional*, defaults to `"Judge"`):
            What DeepEval calls the metric.
        options:
            Further arguments of [`RowJudge`]: `rubric`, `columns`, `num_samples`, …

    Raises:
        `ValueError`: see [`RowJudge`].
        `ImportError`: without DeepEval, when this module is imported.
    """

    verbose_mode = False

    def __init__(
        self, judge: str | Path | Judge | RowJudge, *, threshold: float = 0.5, name: str = "Judge", **options: Any
    ) -> None:
        # DeepEval copies a metric for each test case: from the attributes that are called like these arguments
        self.judge = judge if isinstance(judge, RowJudge) else RowJudge(judge, **options)
        self.threshold, self.name = threshold, name

    @property
    def __name__(self) -> str:
        return self.name

    def measure(self, test_case: LLMTestCase, *args: Any, **kwargs: Any) -> float | None:
        """Score of a test case."""
        (scored,) = self.judge.score([Asked(*_asked(test_case))])
        return self._take(scored)

    async def a_measure(self, test_case: LLMTestCase, *args: Any, **kwargs: Any) -> float | None:
        """Score of a test case; of those that are measured at the same time, in one batch."""
        return self._take(await self.judge.ascore(*_asked(test_case)))

    def is_successful(self) -> bool:
        """Whether there is a score, and one of at least `threshold`."""
        self.success = self.score is not None and self.score >= self.threshold
        return self.success

    def _take(self, scored: RowScore) -> float | None:
        self.score, self.reason = scored.reward, scored.explanation
        self.error = scored.explanation if scored.value is None else None
        self.score_breakdown = scored.record()
        self.verbose_logs = to_json(self.score_breakdown, indent=None)
        self.is_successful()
        return self.score


def _asked(case: LLMTestCase) -> tuple[dict[str, Any], str | None, str]:
    own = {"reference": case.expected_output, "expected_output": case.expected_output}
    known = {name: text for name, text in own.items() if text is not None}
    metadata = case.metadata if hasattr(case, "metadata") else case.additional_metadata  # as DeepEval 2 calls it
    return {**known, **(metadata or {})}, case.actual_output, case.input
