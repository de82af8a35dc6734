# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A training log that goes on after an interruption with the figures that it would have had without one."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from real_trl.trainers.mixed_in import JudgeTrainer


class LogMixin(JudgeTrainer):
    """
    Keeps in every checkpoint what the next line of the log is made from: the sum of the losses, which `train_loss` is the mean of; the
    tokens trained on (`num_tokens`); and the figures since the last line. Transformers and TRL count all of it from the resumption on,
    and Transformers before 5.24 divides by all steps. Speeds at the end of a run (`log`) are those of the steps that this process took, in its
    time (`train_runtime`). Expects the attributes of TRL's trainers.
    """

    _first_step = 0

    def log_state(self) -> dict[str, Any]:
        """What this process needs to go on with the log; it is not changed by later steps."""
        pairs = getattr(self, "_score_pairs", {}).get("train", [])
        return {
            "loss": self._tr_loss.detach().clone(),
            "total_loss": self._total_loss_scalar,
            "last_logged": self._globalstep_last_logged,
            "metrics": {name: [_plain(value) for value in values] for name, values in self._metrics["train"].items()},
            "score_pairs": list(pairs),
            "trained_tokens": getattr(self, "_total_train_tokens", 0),
            "seen_tokens": self.state.num_input_tokens_seen,
        }

    def load_log_state(self, state: dict[str, Any]) -> None:
        """Go on from what [`log_state`] returned, in this run or in an interrupted one."""
        self._tr_loss.copy_(state["loss"])
        self._total_loss_scalar, self._globalstep_last_logged = state["total_loss"], state["last_logged"]
        self._metrics["train"] = defaultdict(list, {name: list(values) for name, values in state["metrics"].items()})
        if hasattr(self, "_score_pairs"):
            self._score_pairs["train"] = list(state["score_pairs"])
        self._total_train_tokens, self.state.num_input_tokens_seen = state["trained_tokens"], state["seen_tokens"]

    def save_log_state(self, checkpoint: Path) -> None:
        """Write it into a checkpoint, a file for each process, without times. A checkpoint saved outside of `train` has no log."""
        if not hasattr(self, "_tr_loss"):
            return
        state = self.log_state()
        state["metrics"].pop("step_time", None)
        state["loss"] = state["loss"].cpu()
        torch.save(state, self._log_file(checkpoint, self.args.process_index))

    def read_log_state(self, checkpoint: Path) -> None:
        """Go on from what is in a checkpoint; of an earlier version, or of another number of processes, from what can be known."""
        self._first_step = self.state.global_step
        if hasattr(
            self, "_initial_global_step"
        ):  # or Transformers takes the mean of all losses over the steps of this process
            self._initial_global_step = 0
        own, main = (self._log_file(checkpoint, index) for index in (self.args.process_index, 0))
        if main.is_file():
            state = torch.load(own if own.is_file() else main, map_location="cpu", weights_only=True)
            self.load_log_state(state if own.is_file() else {**state, "score_pairs": []})
            return
        logged = [entry for entry in self.state.log_history if "loss" in entry]
        previous = [0, *(entry["step"] for entry in logged)]
        total = sum(
            entry["loss"] * (entry["step"] - before)
            for entry, before in zip(logged, previous, strict=False)
            if entry["loss"] is not None
        )
        # Steps since the last line had losses that nobody knows: taken to be the mean of the others
        self._total_loss_scalar = total * self.state.global_step / previous[-1] if logged else 0.0
        self._total_train_tokens = next((e["num_tokens"] for e in reversed(logged) if e.get("num_tokens")), 0)

    @staticmethod
    def _log_file(checkpoint: Path, process: int) -> Path:
        return checkpoint / f"log_state_{process}.pt"

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "train_runtime" in logs and self.state.max_steps > 0:
            counted = self.state.global_step if hasattr(self, "_initial_global_step") else self.state.max_steps
            share = (self.state.global_step - self._first_step) / max(counted, 1)
            for name in ("train_samples_per_second", "train_steps_per_second"):
                if name in logs:
                    logs[name] = round(logs[name] * share, 3)
        super().log(logs, start_time)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
