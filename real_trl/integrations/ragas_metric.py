# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as a metric of Ragas (https://docs.ragas.io)."""

import math
from pathlib import Path
from typing import Any

from real_trl.integrations.row_judge import RowJudge
from real_trl.judge import Judge

try:
    from ragas.dataset_schema import SingleTurnSample
    from ragas.metrics.base import SingleTurnMetric
    from ragas.metrics.collections.base import BaseMetric
    from ragas.metrics.result import MetricResult
    from ragas.run_config import RunConfig
except ImportError as error:
    raise ImportError(f'RagasJudge needs Ragas ({error}). Install it with: pip install "real_trl[ragas]"') from error


class RagasJudge(BaseMetric, SingleTurnMetric):
    """
    Metric for Ragas: the judge's expected score (RAIL), in the judge's own units.

    ```python
    judge = RagasJudge("outputs/my-real", rubric="Is it helpful?")
    result = await judge.ascore(user_input=question, response=answer)  # in an @experiment
    result = evaluate(EvaluationDataset.from_list(rows), metrics=[judge])
    ```

    The judge reads `response`, `user_input` as `instruction`, `reference`, and its other fields from the further arguments of
    `ascore`; `evaluate` knows Ragas' own columns only. A result has the rationale as its `reason` and the distribution in
    `traces["output"]`. A row that the judge cannot score is NaN, with the reason, as a failed row is in `evaluate`.

    Args:
        judge (`str`, `Path` or [`Judge`]):
            Directory or Hub id of a judge, or a loaded one.
        name (`str`, *optional*, defaults to `"judge"`):
            What Ragas calls the metric.
        options:
            Further arguments of [`RowJudge`]: `rubric`, `columns`, `num_samples`, …

    Raises:
        `ValueError`: see [`RowJudge`].
        `ImportError`: without Ragas, when this module is imported.
    """

    def __init__(self, judge: str | Path | Judge, *, name: str = "judge", **options: Any) -> None:
        self.judge = RowJudge(judge, **options)
        super().__init__(name=name, allowed_values=(self.judge.scale.low, self.judge.scale.high))
        self._required_columns: dict[Any, Any] = {}  # of the judge's fields, the error says what a row lacks

    async def ascore(self, *, response: str | None = None, user_input: Any = None, **row: Any) -> MetricResult:
        """Score of one response; of those that are scored at the same time, in one batch."""
        scored = await self.judge.ascore(row, response, user_input)
        return MetricResult(
            value=math.nan if scored.value is None else scored.value,
            reason=scored.explanation,
            traces={"output": scored.record()},
        )

    def init(self, run_config: RunConfig) -> None:
        """For `evaluate`, which gives metrics their language model here; a judge needs none."""

    async def _single_turn_ascore(self, sample: SingleTurnSample, callbacks: Any) -> float:
        return (await self.ascore(**sample.to_dict())).value
