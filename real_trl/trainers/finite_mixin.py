# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""A run whose numbers are no longer finite ends before they get into the weights, with step, rows and the likely cause."""

import math
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor

from real_trl.option_values import shown
from real_trl.text.shown import first_few
from real_trl.trainers.learning_signal import NoSignalError
from real_trl.trainers.mixed_in import JudgeTrainer
from real_trl.weights.finite import not_finite


class NotFiniteError(NoSignalError):
    """A loss, a gradient or a weight is NaN or infinite. No checkpoint is written of such weights, and none deleted for them."""


class FiniteMixin(JudgeTrainer):
    """
    Looks at everything on its way into the weights: the model that training starts from, what is sampled from it, each loss before its
    backward (under DeepSpeed the last one of a step updates the weights), the gradient before the update; under DeepSpeed, which does not
    show it before, the weights after each update; and the weights before each checkpoint. A gradient that half precision (fp16) leaves out
    by itself is no fault. The trainers call `check_loss` with what `compute_loss` returns, so
    that `logging_nan_inf_filter` never sees a loss that it could replace, and have `row_keys`.
    """

    _step_inputs: list[dict[str, Any]] | None = None  # micro-batches of the step that is under way, while `train` runs

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, as [`~transformers.Trainer.train`] does; [`NotFiniteError`] if there is nothing finite to go on with."""
        self._step_inputs = []
        # FSDP may leave the weights of other processes uninitialised until they are sharded
        if self._any(not_finite(self.model) if self.accelerator.is_local_main_process else None):
            name = next(filter(None, gather_object([not_finite(self.model)])))
            raise NotFiniteError(
                f"model: weights of the model that training starts from are not finite ({name} holds NaN or an infinity): it was "
                "saved after a training that diverged, or the file is damaged. Take another model, or an earlier checkpoint of it."
            )
        return super().train(*args, **kwargs)

    def row_keys(self, inputs: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """The columns of `train_dataset` that a micro-batch's rows are found by, and their values in each row."""
        raise NotImplementedError

    def check_loss(self, loss: Tensor, inputs: dict[str, Any]) -> Tensor:
        """
        `loss`, of a micro-batch that is trained on. To be called on every process.

        Raises:
            `NotFiniteError`: on every process, if it is not finite on one of them.
        """
        if self.model.training:
            if self._step_inputs is not None:
                self._step_inputs.append(inputs)
            bad = not bool(loss.detach().isfinite().all())
            if self._any(bad):
                raise self._not_finite(
                    f"its loss is {float(loss.detach().mean())}" if bad else None, [inputs] if bad else []
                )
        return loss

    def check_sampled(self, bad: bool) -> None:
        """`NotFiniteError`, on every process, if on one of them the model gave nothing to sample from. To be called on every process."""
        if self._any(bad):
            raise self._not_finite(
                "the model gives no distribution to sample from, its logits are NaN or infinite" if bad else None, []
            )

    def check_weights(self) -> None:
        """
        To be called before a judge is saved, on every process.

        Raises:
            `NotFiniteError`: on every process, if weights are not finite.
        """
        if self.diverged():
            raise NotFiniteError(
                f"step {self.state.global_step}: its update left weights that are not finite, which are not saved; earlier checkpoints "
                "are kept. Lower learning_rate, set max_grad_norm, or use another precision."
            )

    def diverged(self) -> bool:
        """Whether weights are not finite, on any process."""
        return self._any(not_finite(self.model))

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)
        size = 0.0 if norm is None else float(norm)
        bad = (
            not (size >= 0 and math.isfinite(size)) and not self.args.fp16
        )  # DeepSpeed says -1 of one that is not finite
        if bad or (self.is_deepspeed_enabled and self.diverged()):
            raise self._not_finite(
                f"its gradient is {size}" if bad else "its update was not finite", self._step_inputs or []
            )
        self._step_inputs = []
        return norm

    def _any(self, bad: Any) -> bool:
        flag = torch.tensor(float(bool(bad)), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, reduction="sum") > 0)

    def _not_finite(self, what: str | None, batches: list[dict[str, Any]]) -> NotFiniteError:
        """The error for all processes, of what each found (`None`: nothing)."""
        found = gather_object([(what, self._rows(batches), not_finite(self.model))])
        what = next(what for what, _, _ in found if what)
        rows = list(dict.fromkeys(row for _, rows, _ in found for row in rows))
        weight = next((weight for _, _, weight in found if weight), None)
        where = f", of {first_few(rows, 8, '; ')}" if rows else ""
        error = NotFiniteError(
            f"step {self.state.global_step + 1}: {what}{where}. Training ends before weights that are not finite are saved; the last checkpoint "
            f"is the one to go on from. {self._likely_cause(weight)}"
        )
        # DeepSpeed may have updated the weights by now: they are no longer those of the last finished step
        error.keeps_last_step = not self.is_deepspeed_enabled
        return error

    def _likely_cause(self, weight: str | None) -> str:
        rate = f"Lower learning_rate (now {self.args.learning_rate:g})"
        if weight is not None:
            return (
                f"Likely cause: an update that was too large ({weight} is not finite). {rate}, or set max_grad_norm."
            )
        half = self.args.fp16 or any(p.dtype == torch.float16 for p in self.model.parameters())
        if half:
            return f"Likely cause: an overflow of float16. Use bf16 or float32. {rate} if that does not help."
        if self.state.global_step == 0:
            return (
                "Likely cause: the model itself, before any update: its dtype, its attention implementation, or these rows. Try "
                f"dtype float32 and attn_implementation eager, and look at the rows. {rate} only if it is a later step that fails then."
            )
        return (
            f"Likely cause: training has diverged, or these rows are unlike the others. {rate}, or set max_grad_norm."
        )

    def _rows(self, batches: list[dict[str, Any]]) -> list[str]:
        """The rows of micro-batches by their numbers in the training data, and as they begin."""
        rows = []
        for inputs in batches:
            columns, keys = self.row_keys(inputs)
            for number, key in zip(self._row_numbers(columns, keys), keys, strict=True):
                text = (
                    key[0]
                    if isinstance(key[0], str) or not isinstance(key[0][0], int)
                    else self._tokenizer.decode(key[0])
                )
                place = "a row" if number is None else f"row {number}"
                rows.append(f"{place} of train_dataset, {shown(text)}")
        return rows

    def _row_numbers(self, columns: tuple[str, ...], keys: list[tuple[Any, ...]]) -> list[int | None]:
        numbers: list[int | None] = [None] * len(keys)
        if isinstance(self.train_dataset, Dataset) and set(columns) <= set(self.train_dataset.column_names):
            for number, row in enumerate(zip(*(self.train_dataset[column] for column in columns), strict=True)):
                for i, key in enumerate(keys):
                    if numbers[i] is None and key == row:
                        numbers[i] = number
                if None not in numbers:
                    break
        return numbers
