# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A judge as the reward of a policy that TRL trains."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from datasets import Dataset, IterableDataset
from transformers.integrations import is_deepspeed_zero3_enabled

from real_trl.data.table_rows import class_names, features_of
from real_trl.engines import ENGINES, Judgment, check_num_samples
from real_trl.engines.base import MalformedReading
from real_trl.evaluation.unscored import UNSCORED, grouped_reasons
from real_trl.integrations.policy_answers import policy_answers
from real_trl.integrations.prompt_fields import Prompt, PromptFields, judge_template
from real_trl.judge import Judge, as_rows
from real_trl.option_values import FieldError
from real_trl.text.thinking import tags_to_strip

logger = logging.getLogger(__name__)

# What TRL passes beside the columns of the dataset
_OF_THE_TRAINER = ("completion_ids", "trainer_state", "log_extra", "log_metric", "environments")

_MOST_REASONS = 20  # of unscored responses that are warned of


@dataclass(frozen=True)
class _Batch:
    size: int  # completions
    answered: int  # of these, those that come to an answer
    readable: dict[int, str]  # of these, by index, the judge's prompts that fit it
    of_the_trainer: dict[str, Any]


class JudgeReward:
    """
    Reward function for TRL's `GRPOTrainer`, `RLOOTrainer` and others that take `reward_funcs`: the judge's expected score
    (RAIL) of each completion. The whole batch is judged in one call.

    ```python
    from real_trl.integrations import JudgeReward

    reward = JudgeReward("outputs/my-real", rubric="Is the answer right and short?")
    reward.check(dataset)  # every field of the judge's prompt is there
    trainer = GRPOTrainer(model="Qwen/Qwen3-0.6B", reward_funcs=[reward], train_dataset=dataset)
    ```

    The judge reads the completion as `response` (of a conversation, what the assistant said last), the prompt as
    `instruction`, and its other fields from columns of the dataset. The same rows in the same batch get the same rewards at
    every step; the random numbers of the trainer are left alone. TRL logs the rewards as `rewards/<name>/mean`; the share
    of malformed judgments is logged as `<name>/malformed`, that of completions which do not end their thinking as
    `<name>/unanswered`, that of completions to which the judge's engine gave no answer as `<name>/unscored`, and the rationales as the
    column `<name>_rationale` of its table of
    completions (`log_completions`).

    Args:
        judge (`str`, `Path` or [`Judge`]):
            A loaded judge, or its directory or Hub id. With several processes, each loads its own copy.
        rubric, reference (`str`, *optional*):
            The same for all rows, instead of columns.
        columns (`Mapping[str, str]`, *optional*):
            Field of the judge's prompt → column of the dataset, e.g. `{"rubric": "criteria", "instruction": "question"}`.
            Columns that are called like a field (`rubric`, `reference`, …) are found without it.
        normalize (`bool`, *optional*, defaults to `True`):
            Rescale the score to 0 … 1 (worst to best value of the scale), so that `reward_weights` mean the same for judges
            of any scale. An expected score beyond the scale, which is possible where it is not divided by the probability
            mass on the labels, counts as its end. `False` gives the score as it is; on a scale whose lowest value is the best
            (`6-1`), mirrored within it, since a reward is to grow.
        malformed (`str`, *optional*, defaults to `"drop"`):
            Judgments whose completion shows no score: `"drop"` gives them no reward (`None`, which TRL leaves out);
            `"force"` takes the score read at an appended marker. So do a response that is too long for the judge and one that the
            judge's server refuses get none.
        num_samples (`int`, *optional*, defaults to `1`):
            Judgments of each completion, which are averaged.
        strip_thinking (`bool` or `tuple[str, str]`, *optional*, defaults to `True`):
            Show the judge what follows the policy's thinking only, between tags that are known (`<think> … </think>` and others, see
            [`~real_trl.text.thinking.KNOWN`]) or these two. A completion whose thinking does not end has no answer and gets no reward; where
            any completion of a batch closes a block that it has not opened, the prompts open it, and one without a closing tag has
            not ended its thinking. Tags that the trainer leaves out of the text, as special tokens, cannot be seen.
        name (`str`, *optional*, defaults to `"judge"`):
            What the logs call it. Two judges, or two rubrics, need two names.
        options:
            Keyword arguments of [`Judge.from_pretrained`], where `judge` is no loaded one.

    Raises:
        `ValueError`: naming the field, if the judge cannot be loaded, or its prompt has no such field.
    """

    def __init__(
        self,
        judge: Judge | str | Path,
        *,
        rubric: str | None = None,
        reference: str | None = None,
        columns: Mapping[str, str] | None = None,
        normalize: bool = True,
        malformed: MalformedReading = "drop",
        num_samples: int = 1,
        seed: int = 0,
        strip_thinking: bool | str | Sequence[str] = True,
        name: str = "judge",
        **options: Any,
    ) -> None:
        self._tags = tags_to_strip(strip_thinking)
        if malformed not in get_args(MalformedReading):
            raise FieldError("malformed", malformed, f"Set it to one of: {', '.join(get_args(MalformedReading))}.")
        do_sample = judge.engine.decoding.do_sample if isinstance(judge, Judge) else options.get("do_sample", True)
        check_num_samples(num_samples, do_sample)
        self.__name__ = name
        self.normalize, self.malformed, self.num_samples, self.seed = normalize, malformed, num_samples, seed
        texts = {"rubric": rubric, "reference": reference}
        self._fields: dict[str, Any] = {"columns": columns, "texts": texts, "tags": self._tags}
        self._path, self._options, self._warned = None, options, False
        self._reasons: set[str] = set()
        self._unanswered = False  # whether a completion ever was; from then on, their share is logged
        if not isinstance(judge, Judge):
            self._path, self._options = judge, {"malformed": malformed, **options}
            self._use(_load(judge, self._options))
            return
        if options:
            raise ValueError(
                f"{next(iter(options))}: the judge is loaded already. Set it where the judge is loaded, or give its path."
            )
        if malformed == "force" and judge.engine.decoding.malformed == "drop":
            said = ": got 'force', but the judge was loaded with 'drop'"
            raise FieldError("malformed", "force", "Make them the same.", said)
        self._use(judge)

    def _use(self, judge: Judge) -> None:
        check_num_samples(self.num_samples, judge.engine.decoding.do_sample, judge.engine.decoding.rationale)
        self.judge = judge
        self.fields = PromptFields(judge_template(judge.config), judge.engine.score_space, **self._fields)

    def check(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """
        Look whether every row of a training set (`prompt` and further columns) has what the judge's prompt needs, and leaves
        room for a response. TRL shows rewards their rows only when the first completions have been generated.

        Raises:
            `ValueError`: naming row, field and fix.
        """
        self._check_classes(rows)
        asked = []
        for index, row in enumerate(as_rows(rows, f"JudgeReward {self.__name__!r}")):
            if "prompt" not in row:
                raise ValueError(f"prompt: row {index} has no such column, only {list(row)}. TRL needs one.")
            row = dict(row)
            asked.append(self._prompt(index, row.pop("prompt"), "", row))
        try:
            self.judge.engine.check(asked)
        except ValueError as error:
            raise ValueError(f"JudgeReward {self.__name__!r}, without any response: {error}") from error

    def _check_classes(self, rows: Any) -> None:
        """TRL passes the codes of classes on, and does not say of what."""
        if not isinstance(rows, (Dataset, IterableDataset)):
            return
        classes = {column: names for column, of in features_of(rows).items() if (names := class_names(of))}
        given = {"response", "instruction", *self.fields.texts} - self.fields.columns.keys()
        given |= {"criteria"} if "rubric" in given else set()
        for name in sorted({*self.fields.template.variables, "criteria"} - given):
            column = self.fields.template.column_of(name, rows.column_names or [], self.fields.columns)
            if column in classes:
                raise ValueError(
                    f"{name}: the column {column!r} is a ClassLabel of the names {', '.join(classes[column])}, of which TRL passes the codes on. "
                    f'Make it text: names = dataset.features[{column!r}].names; dataset.map(lambda row: {{"{column}_name": '
                    f"names[row[{column!r}]]}}), and read {name} from that with columns."
                )

    def __call__(self, prompts: Sequence[Prompt], completions: Sequence[Prompt], **columns: Any) -> list[float | None]:
        """
        Rewards of completions, as TRL asks for them.

        Args:
            prompts (`list[str]` or `list[list[dict]]`):
                Prompts, plain or conversational.
            columns:
                The other columns of the dataset, and what TRL adds to them.

        Returns:
            `list[float | None]`: `None` for a malformed judgment, for one that is unscored (see [`Judgment`]), for a completion that
                does not end its thinking, and for a response that is too long for the judge.

        Raises:
            `ValueError`: naming the field and the row, if the judge's prompt cannot be filled.
        """
        batch = self._batch(prompts, completions, columns)
        if not batch.readable:
            return self._rewards(batch, [])
        asked = list(batch.readable.values())
        return self._rewards(batch, self.judge.judge(asked, num_samples=self.num_samples, seed=self.seed))

    def _batch(self, prompts: Sequence[Prompt], completions: Sequence[Prompt], columns: dict[str, Any]) -> "_Batch":
        """What the judge is to be asked about a batch of completions."""
        of_the_trainer = {name: columns.pop(name, None) for name in _OF_THE_TRAINER}
        asked = {}
        for index, answer in enumerate(self._answers(prompts, completions)):
            row = {name: values[index] for name, values in columns.items()}
            if answer is not None:
                asked[index] = self._prompt(index, prompts[index], answer, row)
        return _Batch(len(completions), len(asked), self._readable(asked), of_the_trainer)

    def _rewards(self, batch: "_Batch", judged: Sequence[Judgment]) -> list[float | None]:
        """The rewards of a batch, whose readable prompts have these judgments; logs what there is to say of them."""
        judgments = dict(zip(batch.readable, judged, strict=True))
        self._warn_of_unscored(list(judgments.values()))
        rewards = [self._reward(judgments[i]) if i in judgments else None for i in range(batch.size)]
        self._unanswered |= batch.answered < batch.size
        log_extra, log_metric = batch.of_the_trainer["log_extra"], batch.of_the_trainer["log_metric"]
        if self._unanswered and log_metric is not None:
            log_metric(f"{self.__name__}/unanswered", 1 - batch.answered / batch.size)
        self._log(log_extra, log_metric, judgments, rewards)
        return rewards

    def _answers(self, prompts: Sequence[Prompt], completions: Sequence[Prompt]) -> list[str | None]:
        try:
            return policy_answers(prompts, completions, self._tags)
        except ValueError as error:
            raise ValueError(f"JudgeReward {self.__name__!r}, {error}") from error

    def _prompt(self, index: int, prompt: Prompt, response: str, row: Mapping[str, Any]) -> str:
        try:
            return self.fields.render(row, {"instruction": prompt, "response": response})
        except ValueError as error:
            raise ValueError(f"JudgeReward {self.__name__!r}, row {index}: {error}") from error

    def _readable(self, prompts: dict[int, str]) -> dict[int, str]:
        """The prompts that fit the judge: one long completion is no reason to end a training."""
        try:
            self.judge.engine.check(list(prompts.values()))
            return prompts
        except ValueError:
            readable = {}
        for index, prompt in prompts.items():
            try:
                self.judge.engine.check([prompt])
                readable[index] = prompt
            except ValueError as error:
                too_long = error
        if not self._warned:
            logger.warning(
                "JudgeReward %r: %d of %d responses are too long for the judge and get no reward (%s)",
                self.__name__,
                len(prompts) - len(readable),
                len(prompts),
                too_long,
            )
            self._warned = True
        return readable

    def _reward(self, judgment: Judgment) -> float | None:
        scores = [
            sample.expected_score
            for sample in judgment.samples or [judgment]
            if sample.expected_score is not None and (self.malformed == "force" or sample.status == "ok")
        ]
        score = sum(scores) / len(scores) if scores else math.nan
        if not math.isfinite(score):
            return None
        scale = self.judge.engine.score_space.scale
        if self.normalize:
            return scale.reward(score)
        return scale.low + scale.high - score if scale.lower_is_better else score

    def _log(
        self,
        log_extra: Callable[[str, list], None] | None,
        log_metric: Callable[[str, float], None] | None,
        judgments: Mapping[int, Judgment],
        rewards: Sequence[float | None],
    ) -> None:
        if log_extra is not None:
            rationales = [judgments[i].rationale if i in judgments else None for i in range(len(rewards))]
            log_extra(f"{self.__name__}_rationale", rationales)
        if log_metric is not None and judgments:
            answered = [judgment for judgment in judgments.values() if judgment.status != UNSCORED]
            if answered:
                malformed = sum(judgment.status != "ok" for judgment in answered)
                log_metric(f"{self.__name__}/malformed", malformed / len(answered))
            log_metric(f"{self.__name__}/unscored", 1 - len(answered) / len(judgments))

    def _warn_of_unscored(self, judgments: Sequence[Judgment]) -> None:
        unscored = [judgment.error or "" for judgment in judgments if judgment.status == UNSCORED]
        new = {reason: count for reason, count in grouped_reasons(unscored).items() if reason not in self._reasons}
        for reason, count in new.items():
            logger.warning(
                "JudgeReward %r: %d of %d responses got no reward (%s)", self.__name__, count, len(judgments), reason
            )
        self._reasons |= set(new) if len(self._reasons) < _MOST_REASONS else set()

    def __getstate__(self) -> dict[str, Any]:
        """A judge that was given by its path is loaded again; a compiled template cannot be pickled."""
        state = {name: value for name, value in vars(self).items() if name not in ("judge", "fields")}
        return (
            state
            if self._path is not None
            else {**state, "_judge": (self.judge.engine, self.judge.config, self.judge.name)}
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        loaded = state.pop("_judge", None)
        vars(self).update(state)
        self._use(Judge(*loaded) if self._path is None else _load(self._path, self._options))


def _load(path: str | Path, options: Mapping[str, Any]) -> Judge:
    entry = ENGINES.get(options.get("engine", "transformers"))
    if is_deepspeed_zero3_enabled() and entry is not None and entry.weights == "transformers":
        raise ValueError(
            "judge: DeepSpeed ZeRO-3 would divide the judge among the processes, which cannot generate then. Create JudgeReward before "
            "the trainer's config, or serve the judge and use engine='server'."
        )
    return Judge.from_pretrained(path, **options)
