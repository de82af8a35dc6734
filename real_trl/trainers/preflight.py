# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Before the first step: does the model answer with scores at all? Where it does, finding out costs next to nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from accelerate.logging import get_logger
from accelerate.utils import gather_object

from real_trl.trainers.learning_signal import WHAT_TO_DO, NoSignalError
from real_trl.trainers.mixed_in import OnlineJudgeTrainer
from real_trl.trainers.resume_mixin import kept_random_states
from real_trl.trainers.rollout import Rollout
from real_trl.trainers.row_checks import last_text

logger = get_logger(__name__)

DEFAULT_SCORED_RATE = 0.05
_FIRST = 32  # completions that are sampled at first of a larger batch, or a group for each process if that is more
_ENOUGH = 64  # completions on which a run is stopped
_SHOWN = 300  # characters of an answer
_FAULTS = {
    "missing": "without the marker {marker!r}",
    "truncated": "that end at the marker",
    "unclosed": "whose thinking does not end",
    "outside": "with something else than a label of {labels} after the marker",
}


class _Answer(NamedTuple):
    status: str
    cut: bool  # at the length limit
    text: str


def first_rollouts(trainer: OnlineJudgeTrainer, batch: list[dict[str, Any]]) -> list[Rollout]:
    """
    The rollouts of a run's first generation batch, after a look at how many of its answers show a score.

    Of a batch of more than 64 completions, over all processes, a few of its prompts are sampled before the batch is; a smaller one is
    looked at itself, and sampled again if it shows too few scores to tell. That changes nothing but the time: random states, metrics
    and counts of tokens are left as they were.

    Args:
        trainer ([`REALTrainer`]):
            With `args.preflight_scored_rate`, the least share of answers with a score.
        batch (`list[dict]`):
            This process's rows, each repeated for the completions of its group.

    Raises:
        `NoSignalError`: on every process, with what the model wrote, if too few answers show a score. With `malformed="force"`, where
            scores are read in the others as well, that is a warning.
    """
    if not trainer.args.preflight_scored_rate:
        return trainer._generate_and_score_completions(batch)
    answers: list[_Answer] = []
    if len(batch) * trainer.accelerator.num_processes > _ENOUGH:
        answers = _sample(trainer, batch, answers)
        _check(trainer, answers)
    rollouts = trainer._generate_and_score_completions(batch)
    if not answers:
        answers = gather_object([_answer(trainer, rollout) for rollout in rollouts])
        _check(trainer, _sample(trainer, batch, answers))
    return rollouts


def _sample(trainer: OnlineJudgeTrainer, batch: list[dict[str, Any]], answers: list[_Answer]) -> list[_Answer]:
    """`answers` with as many more as it takes to see that there are scores, or to be sure that there are not."""
    size, world, drawn = trainer.num_generations, trainer.accelerator.num_processes, 0
    while not answers or (_too_few(trainer, answers) and len(answers) < _ENOUGH and trainer.args.malformed != "force"):
        wanted = _ENOUGH - len(answers) if answers else _FIRST
        groups = min(max(wanted // (size * world), 1), len(batch) // size)
        rows = [batch[(drawn + row) % len(batch)] for row in range(groups * size)]
        drawn += len(rows)
        with _left_as_it_was(trainer):
            rollouts = trainer._generate_and_score_completions(rows)
        answers = answers + gather_object([_answer(trainer, rollout) for rollout in rollouts])
    return answers


def _check(trainer: OnlineJudgeTrainer, answers: list[_Answer]) -> None:
    if not _too_few(trainer, answers):
        return
    message = _describe(trainer, answers)
    if trainer.args.malformed == "force":
        logger.warning(
            "%s\nScores are read behind a marker that is appended to such answers (malformed: force).", message
        )
        return
    raise NoSignalError(
        f"{message}\nNothing can be learned from such answers. {WHAT_TO_DO}. With preflight_scored_rate 0 training starts all the same."
    )


def _answer(trainer: OnlineJudgeTrainer, rollout: Rollout) -> _Answer:
    stops = [*trainer.eos_token_ids, trainer._tokenizer.pad_token_id]
    cut = rollout.status != "ok" and (not rollout.completion_ids or rollout.completion_ids[-1] not in stops)
    return _Answer(rollout.status, cut, str(last_text(rollout.completion)))


def _scored(answers: list[_Answer]) -> int:
    return sum(answer.status == "ok" for answer in answers)


def _too_few(trainer: OnlineJudgeTrainer, answers: list[_Answer]) -> bool:
    return _scored(answers) < trainer.args.preflight_scored_rate * len(answers)


def _describe(trainer: OnlineJudgeTrainer, answers: list[_Answer]) -> str:
    faults = Counter(answer.status for answer in answers if answer.status != "ok").most_common()
    names = {"marker": trainer.score_space.marker, "labels": trainer.score_space.scale}
    kinds = [f"{count} {_FAULTS.get(status, status).format(**names)}" for status, count in faults]
    if trainer.args.malformed != "force" and (cut := sum(answer.cut for answer in answers)):
        kinds.append(f"{cut} of these cut at max_completion_length={trainer.args.max_completion_length}")
    examples = [_excerpt(answer.text) for answer in answers if answer.status == faults[0][0]][:2]
    return (
        f"preflight_scored_rate: {_scored(answers)} of {len(answers)} answers that were sampled before the first step show a score: "
        f"{', '.join(kinds)}. The model wrote, for example:\n" + "\n".join(f"  {example}" for example in examples)
    )


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} […] {text[-_SHOWN // 2 :]}")


@contextmanager
def _left_as_it_was(trainer: OnlineJudgeTrainer) -> Iterator[None]:
    """Afterwards, the trainer's random states, metrics and counts are what they were."""
    tokens = trainer.state.num_input_tokens_seen
    metrics = {name: list(values) for name, values in trainer._metrics["train"].items()}
    try:
        with kept_random_states(trainer.accelerator.device):
            yield
    finally:
        trainer.state.num_input_tokens_seen = tokens
        trainer._metrics["train"] = defaultdict(list, metrics)
