# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Trainers, TRL's and ours, whose steps are timed: updates on given completions, and generation that ends where it is told to.

An update is everything between generated text and new weights, by the trainers' own code: `train()` runs for one step, from
`on_step_begin` to `on_step_end`, with `_generate_single_turn` returning the given completions; on a GPU it is the second of two
steps, since `train()` begins by giving all cached memory back. Generation is that method itself. Only where completions end
is given, since random weights hardly ever sample EOS.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
)
from trl import RLOOConfig, RLOOTrainer

from benchmarks.common import Meter, Stopwatch
from benchmarks.workload import Workload, in_own_dtype, read_labelled_rows_only
from real_trl import REALConfig, REALTrainer


def free_reward(completions: Sequence[Any], **kwargs: Any) -> list[float]:
    """A reward that costs nothing and is not the same for all completions of a group."""
    return [float(row % 2) for row in range(len(completions))]


def build_trainer(
    way: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    workload: Workload,
    output_dir: str,
    gradient_checkpointing: bool,
) -> "TimedTrainer":
    """
    A trainer for all groups of a workload in one micro-batch.

    Args:
        way (`str`):
            `"TRL"`, stock [`~trl.RLOOTrainer`] without a KL term; `"TRL, labelled rows"`, the same with its LM head on
            labelled rows only; `"REAL"`, [`~real_trl.REALTrainer`]; `"dense"`, the same
            without shared prefixes.
        model ([`~transformers.PreTrainedModel`]):
            Trained in its own dtype. The trainer keeps it.
        tokenizer, workload, output_dir, gradient_checkpointing:
            As they say.
    """
    options: dict[str, Any] = {
        "output_dir": output_dir,
        "num_generations": workload.num_generations,
        "per_device_train_batch_size": workload.num_generations * len(workload.prompts),
        "gradient_accumulation_steps": 1,
        "max_completion_length": max(map(max, workload.completion_lengths)),
        "gradient_checkpointing": gradient_checkpointing,
        "bf16": False,  # no autocast: the weights have the dtype that is timed
        "beta": 0.0,
        "learning_rate": 1e-6,
        "lr_scheduler_type": "constant",
        "max_steps": 1,
        "use_cpu": model.device.type == "cpu",
        "shuffle_dataset": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    columns = {"prompt": workload.prompts, "score": [1.0 + row % 5 for row in range(len(workload.prompts))]}
    data = {"train_dataset": Dataset.from_dict(columns), "processing_class": tokenizer}
    if way.startswith("TRL"):
        trainer = RLOOTrainer(model, free_reward, RLOOConfig(**options), **data)
        if way != "TRL":
            read_labelled_rows_only(model)
    else:
        options |= {"preflight_scored_rate": 0.0, "max_steps_without_signal": 0}  # the completions are made up
        trainer = in_own_dtype(
            model, lambda: REALTrainer(model, REALConfig(**options, shared_prefix=way == "REAL"), **data)
        )
    return TimedTrainer(trainer, workload)


class TimedTrainer:
    """
    A trainer whose updates and generations are measured one by one.

    Args:
        trainer ([`~trl.RLOOTrainer`]):
            Trainer of the prompts of `workload`.
        workload ([`~benchmarks.workload.Workload`]):
            The completions it is given.

    Attributes:
        seen (`list[tuple[list[int], list[int]]]`):
            Prompts and completions of the last update.
    """

    def __init__(self, trainer: RLOOTrainer, workload: Workload) -> None:
        self.trainer, self.workload = trainer, workload
        self.seen: list[tuple[list[int], list[int]]] = []
        self._window = _StepWindow()
        self._generate = trainer._generate_single_turn
        trainer._generate_single_turn = self._given
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(self._window)

    @property
    def shares_prefixes(self) -> bool:
        """Whether its updates read each prompt once."""
        return getattr(self.trainer, "_shares_prefixes", False)

    def make_optimizer_state(self) -> None:
        """Let the optimizer's state exist, so that the first update takes no more memory than others. Weights stay as they are."""
        self.trainer.create_optimizer()
        for parameter in self.trainer.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.trainer.optimizer.step()
        self.trainer.optimizer.zero_grad()

    def update(self, meter: Meter) -> float:
        """An optimizer step on the given completions, and what `meter` says of it."""
        self._window.meter = meter
        self.trainer.args.max_steps = 2 if self.trainer.accelerator.device.type == "cuda" else 1
        self.trainer.train()  # may be called again and again: the optimizer's state is kept
        return meter.value

    def generate(self, lengths: Sequence[Sequence[int]]) -> float:
        """
        Seconds to sample completions of the given lengths.

        Args:
            lengths (`Sequence[Sequence[int]]`):
                Lengths of the completions of each group.

        Raises:
            RuntimeError: if completions have other lengths.
        """
        trainer = self.trainer
        prompts = [ids for ids in self.workload.prompt_ids for _ in range(self.workload.num_generations)]
        planned = [length for group in lengths for length in group]
        trainer.model.train()
        torch.manual_seed(0)
        stopwatch = Stopwatch(trainer.accelerator.device)
        stop_ids = [*trainer.eos_token_ids, trainer._tokenizer.pad_token_id]
        with ending_at(trainer.model, planned, stop_ids):
            stopwatch.start()
            completions = self._generate(prompts, None, {})
            stopwatch.stop()
        sampled = list(map(len, completions))
        if sampled != planned:
            raise RuntimeError(f"completions of {sampled} tokens were sampled, not of {planned}")
        return stopwatch.value

    def _given(self, prompt_ids: list[list[int]], *others: Any) -> list[list[int]]:
        groups = zip(self.workload.prompt_ids, self.workload.completion_ids, strict=True)
        rest: dict[tuple[int, ...], Iterator[list[int]]] = {tuple(prompt): iter(group) for prompt, group in groups}
        completions = [list(next(rest[tuple(prompt)])) for prompt in prompt_ids]
        self.seen = list(zip(prompt_ids, completions, strict=True))
        return completions


class _StepWindow(TrainerCallback):
    """Measures an optimizer step."""

    meter: Meter

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self.meter.start()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.meter.stop()


class EndAt(LogitsProcessor):
    """
    Lets each completion end after a given number of tokens, and not before.

    Args:
        lengths (`Sequence[int]`):
            Length of each row's completion, EOS included.
        stop_ids (`Sequence[int]`):
            EOS, and whatever else must not be sampled before.
    """

    def __init__(self, lengths: Sequence[int], stop_ids: Sequence[int]) -> None:
        self._lengths, self._stop_ids, self._step = torch.tensor(lengths), list(stop_ids), 0

    def keep_rows(self, rows: Sequence[int]) -> None:
        """For generation that drops finished rows; see [`~real_trl.forward.generation.FollowsRows`]."""
        self._lengths = self._lengths[rows]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`input_ids` `(B, T)` and `scores` `(B, V)`, as in transformers."""
        self._step += 1
        self._lengths = self._lengths.to(scores.device)
        ends = self._lengths <= self._step
        scores = scores.masked_fill(ends.unsqueeze(1), -torch.inf)
        scores[:, self._stop_ids] = -torch.inf
        scores[:, self._stop_ids[0]] = scores[:, self._stop_ids[0]].masked_fill(ends, 0.0)
        return scores


@contextmanager
def ending_at(model: PreTrainedModel, lengths: Sequence[int], stop_ids: Sequence[int]) -> Iterator[None]:
    """While active, what `model` generates ends as [`EndAt`] says: it joins the processors that the model makes itself."""
    original = model._get_logits_processor

    def with_endings(*args: Any, **kwargs: Any) -> LogitsProcessorList:
        return LogitsProcessorList([*original(*args, **kwargs), EndAt(lengths, stop_ids)])

    model._get_logits_processor = with_endings
    try:
        yield
    finally:
        del model._get_logits_processor
