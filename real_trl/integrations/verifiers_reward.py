# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as a reward of verifiers (https://github.com/PrimeIntellect-ai/verifiers)."""

from pathlib import Path
from typing import Any

from real_trl.integrations.row_judge import RowJudge
from real_trl.judge import Judge

try:
    from verifiers.v1 import TaskData, Trace
except ImportError as error:
    raise ImportError(
        f'VerifiersJudge needs verifiers ({error}). Install it with: pip install "real_trl[verifiers]"'
    ) from error


class VerifiersJudge:
    """
    Reward for tasks of verifiers (`verifiers.v1`): the judge's expected score (RAIL) of a trace's last reply, as a reward between 0
    (worst of the scale) and 1 (best).

    ```python
    class Homework(vf.Task):
        quality = vf.reward(VerifiersJudge("outputs/my-real", rubric="Is it helpful?", name="quality"))
    ```

    The name of such an object in a module, `"my_environment:quality"`, is an `fn` of a task's `rewards` in a configuration. The judge reads the
    reply as `response`, the task's prompt as `instruction`, and its other fields from the task's data, `answer` as `reference`. The trace
    gets the metric `<name>_expected_score`, in the judge's own units, and `info[<name>]` with the distribution.

    A reply that the judge cannot score is an error of the trace, whose reward stays `None`, as with verifiers' own judges.

    Args:
        judge (`str`, `Path` or [`Judge`]):
            Directory or Hub id of a judge, or a loaded one.
        name (`str`, *optional*, defaults to `"judge"`):
            Of the reward.
        options:
            Further arguments of [`RowJudge`]: `rubric`, `columns`, `num_samples`, …

    Raises:
        `ValueError`: see [`RowJudge`].
        `ImportError`: without verifiers, when this module is imported.
    """

    def __init__(self, judge: str | Path | Judge, *, name: str = "judge", **options: Any) -> None:
        self.__name__ = name
        self.judge = RowJudge(judge, **options)

    async def __call__(self, task: TaskData, trace: Trace) -> float:
        """Reward of a trace; of those that are scored at the same time, in one batch."""
        row = task.model_dump()
        if isinstance(row.get("answer"), str):
            row.setdefault("reference", row["answer"])
        scored = await self.judge.ascore(row, _reply(trace), row.pop("prompt"))
        trace.info[self.__name__] = scored.record()
        if scored.value is None or scored.reward is None:
            raise ValueError(f"{self.__name__}: {scored.explanation}")
        trace.record_metric(f"{self.__name__}_expected_score", scored.value)
        return scored.reward


def _reply(trace: Trace) -> Any:
    """The last reply; as a message where that has the thinking apart, `None` where there is none."""
    said = trace.assistant_messages
    if trace.root_reply is None and said and said[-1].reasoning_content:
        return [said[-1].model_dump()]
    return trace.last_reply if said else None
