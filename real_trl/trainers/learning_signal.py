# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Stops training with an error where there is no gradient for many steps, instead of saving an untrained judge."""

import math
from typing import Any

import torch
from torch import Tensor

from real_trl.trainers.checkpoints import StopWithCheckpoint
from real_trl.trainers.mixed_in import JudgeTrainer
from real_trl.trainers.real_config import REALConfig
from real_trl.trainers.rewards import Rewards, score_advantages


class NoSignalError(StopWithCheckpoint):
    """There is nothing to learn from: no answer with a score, or no gradient for many steps or in a whole run."""


class SignalMixin(JudgeTrainer):
    """
    Ends training after `args.max_steps_without_signal` steps in a row without a gradient. Steps that half precision (fp16) leaves out,
    because their gradient is not finite, count among them.
    """

    _silent_steps = 0  # in a row, up to now
    _moved: bool | None = None  # whether any step of the run had a gradient; unknown before the first
    _last_reason = ""
    _norms_known = False

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as [`~transformers.Trainer.train`] does; [`NoSignalError`] if there is nothing to learn from."""
        self._silent_steps, self._moved, self._last_reason = 0, None, ""
        return super().train(*args, **kwargs)

    def check_learned(self) -> None:
        """
        To be called after a run whose judge is to be saved.

        Raises:
            `NoSignalError`: if it has not moved: no step was taken, or none had a gradient.
        """
        if not self.args.max_steps_without_signal:
            return
        if self.state.global_step == 0:
            raise NoSignalError(
                "train_dataset: training ended before its first step: the data did not fill one batch. Add rows, or lower "
                "per_device_train_batch_size or gradient_accumulation_steps."
            )
        if self._moved is False:
            raise NoSignalError(
                f"{self._nothing_learned(self.state.global_step)} Nothing is saved: the judge has not moved."
            )

    def signal_state(self) -> dict[str, Any]:
        """What to know of the steps up to now when a run is gone on with."""
        return {"silent_steps": self._silent_steps, "moved": self._moved, "last_reason": self._last_reason}

    def load_signal_state(self, state: dict[str, Any]) -> None:
        """Go on from what [`signal_state`] returned in an interrupted run; older checkpoints do not have it."""
        self._silent_steps, self._moved = state.get("silent_steps", 0), state.get("moved")
        self._last_reason = state.get("last_reason", "")

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        self._watch(None if norm is None else float(norm))
        return norm

    def _why_silent(self) -> str | None:
        """Why the step that ends now has nothing to learn from, if that is known without its gradient. Called by every process."""
        return None

    def _watch(self, norm: float | None) -> None:
        reason, step = self._why_silent(), self.state.global_step + 1
        self._norms_known = self._norms_known or bool(norm) or not self.is_deepspeed_enabled
        if not self._norms_known:  # DeepSpeed says 0 where its optimizer works out no norm
            norm = None
        if norm == 0:
            reason = reason or "its gradient was zero"
        elif norm is not None and not math.isfinite(norm):  # only with fp16: any other run has ended by now
            reason = f"its gradient was {norm}, so that half precision left it out; use bf16, or lower learning_rate"
        if self._moved is None:  # a run that is gone on with has moved, unless its checkpoint says otherwise
            self._moved = self.state.global_step > 0
        if reason is None:
            self._silent_steps, self._moved = 0, True
            return
        self._silent_steps, self._last_reason = self._silent_steps + 1, reason
        limit = self.args.max_steps_without_signal
        if limit and self._silent_steps >= limit:
            raise NoSignalError(
                f"max_steps_without_signal={limit}: {self._nothing_learned(step)} Raise max_steps_without_signal, or set it to 0, to "
                "go on all the same."
            )

    def _nothing_learned(self, step: int) -> str:
        steps = "step" if self._silent_steps == 1 else f"{self._silent_steps} steps"
        return f"nothing was learned from the last {steps}, up to step {step}. Of the last one: {self._last_reason}."


class GroupSignal:
    """
    Counts what the groups of a step have to learn from. The KL penalty (`beta`) is none: it pulls back to the reference model.
    """

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(4, device=device)  # completions, those with a score, groups, those with a signal

    @torch.no_grad()
    def add(self, args: REALConfig, rewards: Rewards, has_score: Tensor) -> None:
        """Note a micro-batch: its rewards `(G, K)`, and which of its completions `(G · K,)` have a score."""
        present = has_score.view(rewards.objective.shape)  # (N,) -> (G, K)
        advantages = score_advantages(args, rewards, None, present if args.malformed == "ignore" else None)
        differs = (advantages != 0).any(1)
        signal = present.any(1) & (differs | (args.prediction_weight > 0))
        counts = [present.numel(), present.sum(), len(present), signal.sum()]
        self._counts += torch.stack([torch.as_tensor(count, device=self._counts.device) for count in counts])

    def pop(self, accelerator: Any) -> str | None:
        """Why a step has nothing to learn from, over all processes, if so; what was noted is forgotten."""
        completions, scored, groups, signal = accelerator.reduce(self._counts, reduction="sum").long().tolist()
        self._counts = torch.zeros_like(self._counts)
        if signal or not groups:
            return None
        if not scored:
            return f"none of its {completions} completions shows a score. {WHAT_TO_DO}"
        return (
            f"in none of its {groups} groups did the rewards differ. Use prompts that the judge scores neither always right nor "
            "always wrong, or raise temperature or num_generations"
        )


WHAT_TO_DO = (
    "Warm-start the judge on rationales with scores (real-trl sft); or ask for the score in the prompt as score_marker has it "
    "(prompt_score_reminder); or set score_marker to what the model writes before its score, or max_completion_length to what it "
    "needs; or let the marker be appended (malformed: force)"
)
