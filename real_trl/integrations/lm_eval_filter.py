# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge in a task of lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from real_trl.integrations.row_judge import Asked, RowJudge

try:
    from lm_eval.api.filter import Filter
except ImportError as error:
    raise ImportError(
        f'LMEvalJudge needs lm-evaluation-harness ({error}). Install it with: pip install "real_trl[lm-eval]"'
    ) from error


class LMEvalJudge(Filter):
    """
    Filter for tasks of lm-evaluation-harness: what the judge says of each response. All responses of a task are judged in one
    batch. With [`judge_results`] as `process_results`, the task's metrics are `expected_score` (RAIL), in the judge's own units, and
    `unscored`, the share of responses without a score.

    ```yaml
    output_type: generate_until
    doc_to_text: "{{question}}"
    doc_to_target: "{{answer}}"
    process_results: !function real_trl.integrations.lm_eval_filter.judge_results
    filter_list:
      - name: judge
        filter:
          - function: !function real_trl.integrations.lm_eval_filter.LMEvalJudge
            judge: outputs/my-real
            rubric: Is it helpful?
            columns: {instruction: question, reference: answer}
    metric_list:
      - {metric: expected_score, aggregation: nanmean, higher_is_better: true}
      - {metric: unscored, aggregation: mean, higher_is_better: false}
    ```

    The judge reads the output as `response` and its other fields, the `instruction` included, from the columns of the task's documents. `--log_samples`
    logs rationale and distribution of every response. A response that the judge cannot score is NaN, which `nanmean` leaves out.

    Args:
        judge (`str`):
            Directory or Hub id of a judge.
        options:
            Further arguments of [`RowJudge`]: `rubric`, `columns`, `num_samples`, …

    Raises:
        `ValueError`: see [`RowJudge`].
        `ImportError`: without lm-evaluation-harness, when this module is imported.
    """

    def __init__(self, judge: str, **options: Any) -> None:
        super().__init__()
        self.judge = RowJudge(judge, **options)

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """What the judge says of the responses to each document, see [`RowScore.record`][real_trl.integrations.row_judge.RowScore.record]."""
        given = [list(responses) for responses in resps]
        rows = [Asked(doc, text) for doc, texts in zip(docs, given, strict=True) for text in texts]
        scored = iter(self.judge.score(rows))
        return [[next(scored).record() for _ in texts] for texts in given]


def judge_results(doc: Mapping[str, Any], results: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, float]:
    """
    Metrics of a document out of what [`LMEvalJudge`] says of its responses: the mean `expected_score` of those that have one, NaN
    without any, and the share of those that are `unscored`.
    """
    scores = [response["expected_score"] for responses in results for response in responses]
    known = [score for score in scores if score is not None]
    mean = sum(known) / len(known) if known else math.nan
    return {"expected_score": mean, "unscored": 1 - len(known) / len(scores)}
