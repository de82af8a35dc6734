# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Interruption: a trainer whose run, killed and resumed, ends with the same weights as one that was not killed."""

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.logging import get_logger
from torch.utils.data import Sampler
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import ADAPTER_SAFE_WEIGHTS_NAME

from real_trl.option_values import FieldError
from real_trl.trainers.checkpoints import (
    StopWithCheckpoint,
    check_checkpoint,
    discard_checkpoint,
    last_complete_checkpoint,
    rotate_checkpoints,
    without_nan,
    write_manifest,
)
from real_trl.trainers.log_mixin import LogMixin
from real_trl.trainers.rollout import Rollout

logger = get_logger(__name__)

# What the recipe says about an optimizer; its other entries (of schedule-free optimizers, say) are its own state
_OPTIMIZER_SETTINGS = ("initial_lr", "betas", "eps", "weight_decay")
_REFERENCE = "reference_model.pt"


class EpochSampler(Sampler[int]):
    """
    The order of a shuffling sampler as a function of seed and epoch alone, as accelerate's `SeedableRandomSampler` does
    it for the plain random one. TRL's `RepeatSampler` draws epoch after epoch from one generator and transformers'
    `LengthGroupedSampler` from the global one, so that a resumed run would see the first epoch's order again.

    Args:
        sampler ([`~torch.utils.data.Sampler`]):
            A sampler that draws its order from its attribute `generator`.
        seed (`int`):
            Seed of the first epoch; each later one adds 1.
    """

    def __init__(self, sampler: Any, seed: int) -> None:
        self.sampler, self.seed, self.epoch = sampler, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        yield from self.sampler

    def __len__(self) -> int:
        return len(self.sampler)


class ResumeMixin(LogMixin):
    """
    Complete checkpoints, and an exact continuation from them; what it overrides, and why, is in `README.md` beside this file. A
    trainer may have `sampling_state()` and `load_sampling_state()`.

    Not exact: an `IterableDataset` that is read more than once, vLLM's sampling, `ignore_data_skip`.

    Attributes:
        recipe (`dict`, *optional*):
            Written into every manifest, to be compared on resuming.
    """

    recipe: dict[str, Any] | None = None
    _train_sampler: Any = None
    _last_step: tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]] | None = None
    _saved_step: int | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """
        Train, as [`~transformers.Trainer.train`] does.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint, or `True` for the last complete one in `output_dir`.

        Raises:
            ValueError: if that checkpoint is not complete, or there is none.
        """
        checkpoint = str(resume_from_checkpoint) if resume_from_checkpoint else None
        if resume_from_checkpoint is True:
            last, faulty = last_complete_checkpoint(self.args.output_dir, hashes=self.args.hash_checkpoints)
            found = "; ".join(f"{path.name}: {fault}" for path, fault in faulty.items()) or "no checkpoint at all"
            if last is not None and faulty:
                logger.warning(f"Going on from {last}: later checkpoints cannot be ({found}).")
            if last is None:
                said = f": got True, but output_dir={self.args.output_dir!r} holds no complete checkpoint ({found})"
                raise FieldError("resume_from_checkpoint", True, "Leave it out to start from the beginning.", said)
            checkpoint = str(last)
        elif checkpoint is not None:
            check_checkpoint(checkpoint, hashes=self.args.hash_checkpoints)
        self._last_step = self._saved_step = None
        self._first_step = 0
        try:
            return super().train(checkpoint, *args, **kwargs)
        except StopWithCheckpoint as error:
            if error.keeps_last_step:
                self._save_last_step()
            raise

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate, as [`~transformers.Trainer.evaluate`] does, without an effect on later random numbers."""
        with kept_random_states(self.accelerator.device):
            return super().evaluate(*args, **kwargs)

    def _get_train_sampler(self, *args: Any) -> Any:
        sampler = super()._get_train_sampler(*args)
        if hasattr(sampler, "generator"):
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            sampler = EpochSampler(sampler, seed)
        self._train_sampler = sampler
        return sampler

    def _run_epoch(self, **kwargs: Any) -> None:
        if self.state.global_step >= self.state.max_steps:
            # Killed after its last step, in the middle of an epoch: `Trainer` would train one step more
            self._load_rng_state(kwargs.get("resume_from_checkpoint"))  # also what its steps were like
            self.control.should_training_stop = True
            return
        # `save_steps` and the like as the recipe has them now, not as the checkpoint remembers them
        self.state.compute_steps(self.args, self.state.max_steps)
        # Not left to the dataloader: with several processes and skipped batches its `set_epoch` does not get here
        if hasattr(self._train_sampler, "set_epoch"):
            self._train_sampler.set_epoch(kwargs["epoch"])
        super()._run_epoch(**kwargs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        # References, not bytes: this happens every step, and is hardly ever needed
        sampling = self.sampling_state() if hasattr(self, "sampling_state") else None
        states = _random_states(self.accelerator.device)
        super()._maybe_log_save_evaluate(*args, **kwargs)
        self._last_step = states, sampling, self.log_state()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.check_weights()
        args, step = self.args, self.state.global_step
        checkpoint = Path(self._get_output_dir(trial=trial), f"{PREFIX_CHECKPOINT_DIR}-{step}")
        if args.should_save:
            discard_checkpoint(checkpoint)  # half-written by a run that was killed
        self.accelerator.wait_for_everyone()
        limit, push = args.save_total_limit, args.push_to_hub
        args.save_total_limit, args.push_to_hub = None, False
        try:
            super()._save_checkpoint(model, trial)
        finally:
            args.save_total_limit, args.push_to_hub = limit, push
        sampling = None if args.save_only_model else self._sampling_bytes()
        if sampling is not None:
            self._sampling_file(checkpoint).write_bytes(sampling)
        if not args.save_only_model:
            self.save_log_state(checkpoint)
        if getattr(args, "sync_ref_model", False):
            reference = self.accelerator.get_state_dict(self.ref_model)
            if args.should_save:
                torch.save(reference, checkpoint / _REFERENCE)
        self.accelerator.wait_for_everyone()
        if args.should_save:
            torch.save(args, checkpoint / TRAINING_ARGS_NAME)  # with the two arguments as they are
            without_nan(checkpoint / TRAINER_STATE_NAME)
            hashes = args.hash_checkpoints
            write_manifest(checkpoint, recipe=self.recipe, resumable=not args.save_only_model, hashes=hashes)
            rotate_checkpoints(checkpoint, limit, self.state.best_model_checkpoint, hashes=hashes)
        if push:
            self._push_from_checkpoint(str(checkpoint))
        self._saved_step = step

    def save_state(self) -> None:
        """Transformers' own; what it writes is JSON, without NaN."""
        super().save_state()
        if self.args.should_save:
            without_nan(Path(self.args.output_dir, TRAINER_STATE_NAME))

    def _save_last_step(self) -> None:
        if self._last_step is None or self.args.save_strategy == "no" or self._saved_step == self.state.global_step:
            return
        if self.diverged():
            return  # the last checkpoint is the one to go on from
        states, sampling, log = self._last_step
        _set_random_states(states, self.accelerator.device)
        if sampling is not None:
            self.load_sampling_state(sampling)
        self.load_log_state(log)
        self._save_checkpoint(self.model, trial=None)
        self.accelerator.print(f"Saved the last finished step: {PREFIX_CHECKPOINT_DIR}-{self.state.global_step}")

    def _sampling_file(self, checkpoint: Path) -> Path:
        return checkpoint / f"sampling_state_{self.args.process_index}.pt"

    def _sampling_bytes(self) -> bytes | None:
        if not hasattr(self, "sampling_state"):
            return None
        buffer = io.BytesIO()
        torch.save(self.sampling_state(), buffer)
        return buffer.getvalue()

    def _load_sampling_bytes(self, content: bytes) -> None:
        with torch.serialization.safe_globals([Rollout]):
            self.load_sampling_state(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        self.read_log_state(Path(checkpoint))
        if Path(checkpoint, _REFERENCE).is_file():
            reference = torch.load(Path(checkpoint, _REFERENCE), map_location="cpu", weights_only=True)
            self.accelerator.unwrap_model(self.ref_model).load_state_dict(reference)
        if not hasattr(self, "load_sampling_state"):
            return
        path = self._sampling_file(Path(checkpoint))
        if path.is_file():
            self._load_sampling_bytes(path.read_bytes())
        else:  # another number of processes, or a checkpoint of another trainer
            logger.warning(f"{path}: not there; sampling starts afresh in process {self.args.process_index}.")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        model = self.model if model is None else model
        # With a reference adapter in a subfolder, `Trainer` loads only that one
        has_subfolder = any(Path(resume_from_checkpoint).glob("*/adapter_config.json"))
        if has_subfolder and Path(resume_from_checkpoint, ADAPTER_SAFE_WEIGHTS_NAME).is_file():
            model.load_adapter(resume_from_checkpoint, "default", is_trainable=True)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        recipe = [{name: group.get(name) for name in _OPTIMIZER_SETTINGS} for group in self.optimizer.param_groups]
        super()._load_optimizer_and_scheduler(checkpoint)
        for group, settings in zip(self.optimizer.param_groups, recipe, strict=True):
            if group.get("initial_lr") and settings["initial_lr"] is not None:
                group["lr"] *= settings["initial_lr"] / group["initial_lr"]
            group.update({name: value for name, value in settings.items() if name in group})
        if hasattr(self.lr_scheduler, "base_lrs"):
            self.lr_scheduler.base_lrs = [group["initial_lr"] for group in self.optimizer.param_groups]
            if hasattr(self.lr_scheduler, "lr_lambdas"):  # the schedule as it is now: `max_steps` may have been raised
                for group, factor in zip(self.optimizer.param_groups, self.lr_scheduler.lr_lambdas, strict=True):
                    group["lr"] = group["initial_lr"] * factor(self.lr_scheduler.last_epoch)
            self.lr_scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # for the log


def _random_states(device: torch.device) -> dict[str, Any]:
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_states(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def kept_random_states(device: torch.device) -> Iterator[None]:
    """Afterwards, the random states of Python, NumPy, torch and `device` are what they were before."""
    states = _random_states(device)
    try:
        yield
    finally:
        _set_random_states(states, device)
