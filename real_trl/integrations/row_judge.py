# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What the adapters of evaluation tools have in common: a judge, its prompt out of a tool's row, and what it says of the response."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from real_trl.engines import Judgment, check_num_samples
from real_trl.evaluation.unscored import UNSCORED
from real_trl.integrations.judged_together import judge_in_threads, judge_together
from real_trl.integrations.prompt_fields import Prompt, PromptFields, answer_of, judge_template
from real_trl.judge import Judge
from real_trl.text.json_text import finite
from real_trl.text.thinking import tags_to_strip

UNANSWERED = "The output ends within its thinking, so that there is no answer to judge."


@dataclass(frozen=True)
class RowScore:
    """
    What a judge says of one row.

    Attributes:
        value (`float`, *optional*):
            Expected score (RAIL), in the judge's own units; `None` if the row is unscored.
        reward (`float`, *optional*):
            The same between 0 and 1, see [`Scale.reward`][real_trl.scale.Scale.reward].
        explanation (`str`):
            The judge's rationale, or why the row is unscored.
        details (`dict[str, Any]`):
            Status, error, distribution and further scores, such as JSON can hold.
    """

    value: float | None
    reward: float | None
    explanation: str
    details: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """All of it in one dictionary, as tools log it: `expected_score`, `reward`, `explanation` and the details."""
        scores = {"expected_score": self.value, "reward": self.reward, "explanation": self.explanation}
        return {**scores, **self.details}


@dataclass(frozen=True)
class Asked:
    """
    A row to be judged.

    Attributes:
        row (`Mapping[str, Any]`):
            What the tool knows of it, by name.
        response (`str` or `list[dict]`, *optional*):
            Output, plain or conversational. `None` is one without an answer.
        instruction (`str` or `list[dict]`, *optional*):
            Input, where the tool has a place for it; else the row's.
    """

    row: Mapping[str, Any]
    response: Prompt | None
    instruction: Prompt | None = None


class RowJudge:
    """
    A judge as evaluation tools use it. What is asked of one judge at the same time, by coroutines or threads, is judged in one
    batch, if it decodes greedily.

    Args:
        judge (`str`, `Path` or [`Judge`]):
            Directory or Hub id of a judge, or a loaded one.
        rubric, reference (`str`, *optional*):
            The same for all rows, instead of the rows' own.
        columns (`Mapping[str, str]`, *optional*):
            Field of the judge's prompt → name in the tool's row, e.g. `{"rubric": "criteria"}`. What is called like a field is found
            without it.
        num_samples (`int`, *optional*, defaults to `1`):
            Judgments of each response, which are averaged. More than one are sampled.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the judge's sampling.
        strip_thinking (`bool` or `tuple[str, str]`, *optional*, defaults to `True`):
            Show the judge what follows a model's thinking only, between tags that are known (`<think> … </think>` and others, see
            [`~real_trl.text.thinking.KNOWN`]) or these two. An output whose thinking does not end is unscored.
        options:
            Keyword arguments of [`Judge.from_pretrained`], where `judge` is no loaded one. It decodes greedily unless `do_sample=True`
            or `num_samples` says otherwise. `malformed="drop"` leaves responses unscored whose judgment shows no score; by default
            the score is read at an appended marker.

    Raises:
        `ValueError`: naming the field, if the judge cannot be loaded or its prompt has no such field.
    """

    def __init__(
        self,
        judge: str | Path | Judge,
        *,
        rubric: str | None = None,
        reference: str | None = None,
        columns: Mapping[str, str] | None = None,
        num_samples: int = 1,
        seed: int = 0,
        strip_thinking: bool | str | Sequence[str] = True,
        **options: Any,
    ) -> None:
        if isinstance(judge, Judge) and options:
            raise ValueError(f"{next(iter(options))}: the judge is loaded already. Set it where the judge is loaded.")
        self.tags = tags_to_strip(strip_thinking)
        if not isinstance(judge, Judge):
            judge = Judge.from_pretrained(judge, **{"do_sample": num_samples > 1, **options})
        engine = judge.engine
        check_num_samples(num_samples, engine.decoding.do_sample, engine.decoding.rationale)
        self.judge, self.scale, self.num_samples, self.seed = judge, engine.score_space.scale, num_samples, seed
        texts = {"rubric": rubric, "reference": reference}
        self.fields = PromptFields(judge_template(judge.config), engine.score_space, columns, texts, self.tags)

    async def ascore(
        self, row: Mapping[str, Any], response: Prompt | None, instruction: Prompt | None = None
    ) -> RowScore:
        """Score of one row, see [`Asked`]; `ValueError` naming the field, if the row lacks one."""
        prompt = self._prompt(Asked(row, response, instruction))
        if isinstance(prompt, RowScore):
            return prompt
        (judgment,) = await judge_together(self.judge, [prompt], num_samples=self.num_samples, seed=self.seed)
        return self._scored(judgment)

    def score(self, rows: Sequence[Asked]) -> list[RowScore]:
        """Scores of rows, judged in one batch; `ValueError` naming the field, if one lacks a field."""
        prompts = [self._prompt(row) for row in rows]
        readable = [prompt for prompt in prompts if isinstance(prompt, str)]
        options = {"num_samples": self.num_samples, "seed": self.seed}
        judgments = iter(judge_in_threads(self.judge, readable, **options) if readable else [])
        return [prompt if isinstance(prompt, RowScore) else self._scored(next(judgments)) for prompt in prompts]

    def _prompt(self, asked: Asked) -> str | RowScore:
        """The judge's prompt, or why there is none."""
        answer = None if asked.response is None else answer_of(asked.response, self.tags)
        if answer is None:
            return RowScore(None, None, UNANSWERED, {"status": "unanswered"})
        given: dict[str, Prompt] = {"response": answer}
        if asked.instruction is not None:
            given["instruction"] = asked.instruction
        prompt = self.fields.render(asked.row, given)
        try:
            self.judge.engine.check([prompt])
        except ValueError as error:
            return RowScore(None, None, str(error), {"status": "too_long"})
        return prompt

    def _scored(self, judgment: Judgment) -> RowScore:
        value = judgment.expected_score
        explanation = judgment.rationale
        if value is None and judgment.status == UNSCORED:
            explanation = f"unscored: {judgment.error}"
        elif value is None:
            explanation = f"The judgment shows no score ({judgment.status}): {judgment.completion}"
        reward = None if value is None else self.scale.reward(value)
        return RowScore(value, reward, explanation, details(judgment))


def details(judgment: Judgment) -> dict[str, Any]:
    """What there is to log of a judgment beside its expected score, such as JSON can hold."""
    calibrated = {}
    if judgment.raw:
        calibrated = {"interval": judgment.interval, "raw_expected_score": judgment.raw.expected_score}
    return {
        "status": judgment.status,
        "error": judgment.error,
        "sampled_score": judgment.sampled_score,
        "most_likely_score": judgment.most_likely_score,
        "probabilities": finite(judgment.probabilities),
        "spread": finite(judgment.spread),
        "mass": judgment.mass,
        "normalized": judgment.normalized,
        **calibrated,
    }
