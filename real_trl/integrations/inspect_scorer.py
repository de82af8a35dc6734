# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as a scorer of Inspect AI (https://inspect.aisi.org.uk)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from real_trl.integrations.prompt_fields import Prompt
from real_trl.integrations.row_judge import RowJudge
from real_trl.judge import Judge
from real_trl.text.thinking import ThinkingTags, without_thinking

try:
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import TaskState
except ImportError as error:
    raise ImportError(
        f'judge_scorer needs Inspect AI ({error}). Install it with: pip install "real_trl[inspect]"'
    ) from error


@scorer(metrics=[mean(), stderr()])
def judge_scorer(
    judge: str | Path | Judge,
    *,
    rubric: str | None = None,
    reference: str | None = None,
    columns: Mapping[str, str] | None = None,
    num_samples: int = 1,
    seed: int = 0,
    strip_thinking: bool | str | Sequence[str] = True,
    **options: Any,
) -> Scorer:
    """
    Scorer for Inspect AI: the judge's expected score (RAIL) of a sample's output, in the judge's own units.

    ```python
    @task
    def helpfulness():
        return Task(dataset=json_dataset("questions.jsonl"), solver=generate(), scorer=judge_scorer("outputs/my-real", rubric="Is it helpful?"))
    ```

    The judge reads the output as `response`, the sample's input as `instruction`, and its other fields from the sample's
    metadata. A score has the rationale as its explanation, and in its metadata the distribution, status and further scores.

    While the judge runs in a thread of its own, samples go on being generated. It decodes greedily unless `do_sample=True` or
    `num_samples` says otherwise, and judges all that waits in one batch. A judge that samples its rationales judges one sample
    after the other, so that a score depends on the sample and `seed`, not on what happens to wait beside it; but a model that
    generates in the same process (`hf/…`) draws from the same random numbers, and then scores are not repeatable.

    Args:
        judge (`str`, `Path` or [`Judge`]):
            Directory or Hub id of a judge, or a loaded one.
        rubric, reference (`str`, *optional*):
            The same for all samples, instead of metadata.
        columns (`Mapping[str, str]`, *optional*):
            Field of the judge's prompt → key of the sample's metadata, or `"target"` for its target, e.g. `{"reference":
            "target"}`. Keys that are called like a field are found without it.
        num_samples (`int`, *optional*, defaults to `1`):
            Judgments of each output, which are averaged.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the judge's sampling.
        strip_thinking (`bool` or `tuple[str, str]`, *optional*, defaults to `True`):
            Show the judge what follows a model's thinking only, between tags that are known (`<think> … </think>` and others, see
            [`~real_trl.text.thinking.KNOWN`]) or these two. An output whose thinking does not end is left unscored.
        options:
            Keyword arguments of [`Judge.from_pretrained`], where `judge` is no loaded one. `malformed="drop"` leaves outputs
            unscored whose judgment shows no score; by default the score is read at an appended marker.

    Returns:
        `Scorer`. An output that is too long for the judge, or to which its engine gives no answer, is left unscored, which the
        explanation says.

    Raises:
        `ValueError`: naming the field, if the judge cannot be loaded or its prompt has no such field; while scoring, if a
            sample's metadata lacks a field.
        `ImportError`: without Inspect AI, when this module is imported.
    """
    rows = RowJudge(
        judge,
        rubric=rubric,
        reference=reference,
        columns=columns,
        num_samples=num_samples,
        seed=seed,
        strip_thinking=strip_thinking,
        **options,
    )

    async def score(state: TaskState, target: Target) -> Score:
        answer = _answer(state, rows.tags)
        asked: Prompt = (
            state.input
            if isinstance(state.input, str)
            else [{"role": message.role, "content": message.text} for message in state.input]
        )
        scored = await rows.ascore({**state.metadata, "target": target.text}, answer, asked)
        return Score(
            value=math.nan if scored.value is None else scored.value,  # NaN is kept out of Inspect's metrics
            answer=answer or "",
            explanation=scored.explanation,
            metadata=scored.details,
        )

    return score


def _answer(state: TaskState, tags: Sequence[ThinkingTags]) -> str | None:
    """The output, `None` if it ends within thinking that Inspect keeps apart."""
    output = state.output
    if tags and output.choices and output.stop_reason == "max_tokens" and not output.completion.strip():
        return None  # or before there was anything
    return without_thinking(output.completion, tags)
