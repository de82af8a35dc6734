# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How a judge gets better while it is trained: held-out datasets are judged every N steps (the paper's Fig. 2 and 4)."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd
import torch
from accelerate.utils import DistributedType, gather_object
from datasets import Dataset
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.models.utils import unwrap_model_for_generation

from real_trl.engines import TransformersEngine
from real_trl.evaluation.metrics import evaluate_predictions
from real_trl.evaluation.registry import paper_metrics
from real_trl.option_values import FieldError
from real_trl.report.verdict_text import verdict
from real_trl.trainers.config_defaults import JUDGE_METRICS
from real_trl.trainers.context_check import check_held_out, held_out_tokens
from real_trl.trainers.data_checks import checked_data, one_dataset
from real_trl.trainers.fsdp import gathered
from real_trl.trainers.mixed_in import JudgeTrainer

logger = logging.getLogger(__name__)

_OTHER_METRICS = ("mean_tokens", "malformed_rate", "mean_mass")


class JudgeEvaluationCallback(TrainerCallback):
    """
    Judges held-out datasets before the first step, every `steps` optimizer steps and after the last, and logs
    `judge_eval/<dataset>/<inference>/<metric>` (inference `standard` or `rail`; metric `pearson`, `spearman`, `kendall` or
    `rmse`), `judge_eval/<dataset>/mean_tokens` (length of the completions), `/entropy` (mean token entropy, in nats),
    `/malformed_rate`, `/mean_mass` (probability on the labels) and `/rmse_of_the_mean` (what always answering the mean of the labels
    reaches), and `/unscored_rate` where the model's logits are NaN in some rows, which count in no figure. An undefined correlation is not logged; after the last evaluation, a warning says why figures are worth nothing, where they
    are. `metric_for_best_model` may be one of these names, for which the state before the first step does not count. The model judges in the precision that it is trained in (`bf16`). The random numbers of the training are left alone, and every process judges a share of the rows.

    Args:
        trainer ([`~transformers.Trainer`]):
            [`RAFTTrainer`] or [`REALTrainer`], whose judge is evaluated.
        datasets (`Mapping[str, Dataset]`):
            Name → rows with the columns `prompt` (text, without the chat template) and `score`.
        steps (`int`):
            Optimizer steps between two evaluations.
        max_new_tokens (`int`, *optional*):
            Longest completion. Defaults to that of the trainer's rollouts (`max_completion_length`), and without rollouts to 1024, or
            half of a shorter context.
        batch_size (`int`, *optional*):
            Prompts per generation batch and process. Defaults to `per_device_eval_batch_size`.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling, the same at every evaluation.

    Raises:
        `ValueError`: if `steps` is not positive, there are no rows, a prompt is too long for the model, or parameters that DeepSpeed ZeRO-3 spreads over the
            processes are not to be gathered for generation.
    """

    def __init__(
        self,
        trainer: JudgeTrainer,
        datasets: Mapping[str, Dataset],
        steps: int,
        *,
        max_new_tokens: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if steps < 1:
            raise FieldError("judge_eval_steps", steps, "Set it to at least 1.")
        if not isinstance(datasets, Mapping):
            said = f": got a {type(datasets).__name__}"
            raise FieldError("judge_eval", datasets, "Give a mapping from a name to each dataset.", said)
        for name, dataset in datasets.items():
            one_dataset(dataset, f"judge_eval: the dataset {name!r}")
            if len(dataset) == 0:
                raise ValueError(f"judge_eval: the dataset {name!r} has no rows.")
        datasets = {
            name: checked_data(dataset, f"judge_eval: the dataset {name!r}", ("prompt", "score"), trainer.score_space)
            for name, dataset in datasets.items()
        }
        if not datasets:
            raise ValueError("judge_eval: no dataset to evaluate on. Set judge_eval_splits or judge_eval_benchmarks.")
        self._gather = getattr(trainer.args, "ds3_gather_for_generation", True)
        if not self._gather and trainer.is_deepspeed_enabled:
            raise ValueError(
                "ds3_gather_for_generation: got false with judge_eval_steps, whose processes generate at their own pace. Set "
                "it to true, or remove judge_eval_steps."
            )
        self.trainer, self.datasets, self.steps = trainer, datasets, steps
        self._by_it = (trainer.args.metric_for_best_model or "").startswith(JUDGE_METRICS)
        if self._by_it:
            self._check_best_metric(trainer.args)
        self.batch_size = batch_size or trainer.args.per_device_eval_batch_size
        config, judge = trainer.model.config, trainer.judge_config
        self.max_new_tokens = held_out_tokens(config, trainer.args, max_new_tokens)
        self.seed = seed
        self.results: dict[str, dict[str, dict[str, Any]]] = {}  # of the last evaluation
        self._decoding = judge.decoding(max_new_tokens=self.max_new_tokens)
        tokenizer = trainer.processing_class
        check_held_out(datasets, self.max_new_tokens, config, trainer.score_space, tokenizer, judge.prompt_format())

    def _check_best_metric(self, args: TrainingArguments) -> None:
        """`FieldError` if the metric for the best model is none of those that are logged, or what it is measured of is not saved."""
        metrics = [f"{inference}/{metric}" for inference in ("standard", "rail") for metric in paper_metrics()]
        known = [f"{JUDGE_METRICS}{name}/{metric}" for name in self.datasets for metric in (*metrics, *_OTHER_METRICS)]
        if args.metric_for_best_model not in known:
            raise FieldError(
                "metric_for_best_model", args.metric_for_best_model, f"Set it to one of: {', '.join(known)}."
            )
        fix = f"Set save_strategy to best, or to steps with save_steps that judge_eval_steps={self.steps} is a multiple of."
        if args.save_strategy not in ("best", "steps"):
            said = f": got {args.save_strategy} with metric_for_best_model={args.metric_for_best_model!r}"
            raise FieldError("save_strategy", args.save_strategy, fix, said)
        if args.save_strategy == "steps" and self.steps % args.save_steps:
            said = f": got {args.save_steps} with metric_for_best_model={args.metric_for_best_model!r}"
            raise FieldError("save_steps", args.save_steps, fix, said)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step == 0:
            self.evaluate()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        is_last = state.global_step >= state.max_steps
        if state.global_step % self.steps == 0 or (is_last and self._by_it):
            should_log = control.should_log
            logs = self.evaluate()
            control.should_log = should_log  # logging took it as done
            if args.metric_for_best_model in logs:
                is_best = self.trainer._determine_best_metric(logs, None)
                control.should_save |= is_best and args.save_strategy == "best"

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.steps != 0 and not self._by_it:
            self.evaluate()
        if state.is_world_process_zero:
            for remark in verdict(self.results)[1:-1]:
                logger.warning("judge_eval: %s", remark.text)

    def evaluate(self) -> dict[str, float]:
        """Judge every dataset as the model is now; returns what is logged."""
        trainer = self.trainer
        devices = [trainer.accelerator.device] if trainer.accelerator.device.type == "cuda" else []
        logs: dict[str, float] = {}
        training = trainer.model.training
        with (
            torch.random.fork_rng(devices),
            gathered(trainer.model),
            unwrap_model_for_generation(
                trainer.model_wrapped, trainer.accelerator, gather_deepspeed3_params=self._gather
            ) as model,
            trainer.accelerator.autocast(),  # around everything, so that weights are cast once
        ):
            engine = TransformersEngine(
                model,
                trainer.processing_class,
                trainer.score_space,
                self._decoding,
                batch_size=self.batch_size,
            )
            for name, dataset in self.datasets.items():
                logs |= {
                    f"judge_eval/{name}/{key}": value for key, value in self._judge(engine, name, dataset).items()
                }
        trainer.model.train(training)
        # Trainer's own, since TRL's `log` would end the averages of the training step that is under way
        Trainer.log(trainer, logs)
        return logs

    def _judge(self, engine: TransformersEngine, name: str, dataset: Dataset) -> dict[str, float]:
        state = self.trainer.accelerator
        share = list(range(len(dataset)))[state.process_index :: state.num_processes]
        rows = dataset.select(share)
        torch.manual_seed(self.seed + state.process_index)
        judged = [
            {"row": share[index], "target": rows[index]["score"], **asdict(judgment)}
            for index, judgment in engine.judge(rows["prompt"][:])
        ]
        if state.distributed_type != DistributedType.NO:
            judged = gather_object(judged)
        frame = pd.DataFrame(sorted(judged, key=lambda row: row["row"]))
        result = evaluate_predictions(frame, values=engine.score_space.values, labels=engine.score_space.labels)
        self.results[name] = {"the judge": result}
        logs = {
            f"{inference}/{metric}": result[inference][metric]
            for inference in ("standard", "rail")
            for metric in paper_metrics()
        }
        logs |= {name: result[name] for name in _OTHER_METRICS}
        logs["rmse_of_the_mean"] = result["baseline"]["mean"]["rmse"]
        logs["entropy"] = float(pd.to_numeric(frame["entropy"]).mean())
        if result["n_unscored"]:  # the model's numbers are none
            logs["unscored_rate"] = result["n_unscored"] / result["n_rows"]
        return {name: value for name, value in logs.items() if value is not None and value == value}
