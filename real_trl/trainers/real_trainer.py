# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""REAL, Standard RL and JEPO as one subclass of TRL's RLOO trainer."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from trl import RLOOTrainer
from trl.trainer.utils import use_adapter

from real_trl import objectives
from real_trl.data.pairs import PAIR_COLUMNS
from real_trl.forward.dense import PolicyOutput, policy_forward
from real_trl.forward.router_loss import router_loss
from real_trl.forward.shared_prefix import share_prefixes, shared_prefix_forward
from real_trl.methods import CITATION, METHODS
from real_trl.objectives.importance_sampling import importance_weights, weighted_gradient
from real_trl.option_values import FieldError
from real_trl.prompts.format import training_format
from real_trl.trainers.completion_blocks import print_completions
from real_trl.trainers.context_check import config_of, prompt_fits
from real_trl.trainers.data_checks import RowsCheck, askable, of_both_prompts, one_dataset, targets_are_labels
from real_trl.trainers.group_filter import GroupFilter, GroupSampler
from real_trl.trainers.group_generation_mixin import GroupGenerationMixin, check_generation
from real_trl.trainers.judge_mixin import JudgeTrainerMixin
from real_trl.trainers.learning_signal import GroupSignal
from real_trl.trainers.real_config import REALConfig
from real_trl.trainers.real_metrics import log_real_metrics, log_sampling_metrics, pop_score_correlation
from real_trl.trainers.rewards import Rewards, score_advantages, score_rewards
from real_trl.trainers.rollout import Rollout, asked_prompts, make_rollout
from real_trl.trainers.sharing_check import wants_check
from real_trl.trainers.split_groups import objective_of_part
from real_trl.trainers.starting_judge import check_writes_rationales
from real_trl.trainers.vllm_rollouts import ask_for_log_probs, engine_like_trainer
from real_trl.trainers.vllm_weights import check_vllm_weights
from real_trl.weights.whole import whole_weights

_FORWARD_INPUTS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "score_positions")


def _read(inputs: dict[str, Any]) -> Tensor:
    """`(N, P + C)`: which tokens of a batch are no padding."""
    return torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)


def policy_reward(**kwargs: Any) -> list[float]:
    """Stands in for TRL's `reward_funcs`: REAL's reward is a function of the policy's own forward, not of the text."""
    raise NotImplementedError(
        "REALTrainer computes its reward in `_compute_loss`; TRL's `_calculate_rewards` is not called."
    )


class REALTrainer(GroupGenerationMixin, JudgeTrainerMixin, RLOOTrainer):
    """
    Trainer for Regression-Aware Reinforcement Learning (REAL, arXiv 2603.17145) and, by `args.reward`, its baselines.

    Where batches are not reused, one forward over whole groups gives reward, advantage and both terms of the gradient (Eq. 8); it reads
    every prompt once (`args.shared_prefix`).
    Where a group does not fit into a micro-batch (`per_device_train_batch_size` below `num_generations`), or a reward looks at the prompts of
    several of them, one more forward without gradients gives rewards and advantages of whole groups first; the gradient is the same.
    Where a batch is reused (`num_iterations > 1`, or more steps per generation than gradient accumulation steps),
    rewards, advantages and the sampling policy's log-probabilities are computed once, before the first of its steps,
    and the policy term is PPO's clipped sequence ratio, as in TRL (`args.reuse_correction`).

    With `args.group_filter`, groups outside the bounds are replaced before anything else is done with them, see
    [`GroupSampler`].

    What it overrides of TRL, and why: `trainers/README.md`.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or [`~peft.PeftModel`]):
            Judge to train, as in TRL.
        args ([`REALConfig`], *optional*):
            Configuration. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`] or [`~datasets.IterableDataset`]):
            Columns `prompt` (text or messages) and `score` (the target y*); optionally `score_histogram`, the raters'
            shares of each label, whose mean is the score. With `reward="preference"`: `prompt` and `other_prompt`, about two responses, and
            `preference`, 1 where the first is better, 0 where the second is, 0.5 for a tie.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer. If `None`, the model's own.
        callbacks, optimizers, quantization_config, peft_config (*optional*):
            As in TRL.

    Raises:
        ValueError: before the model is loaded, if a column is missing, a score is no number on the scale, or the
            tokenizer cannot tell the labels apart.

    Example:

    ```python
    from real_trl import REALConfig, REALTrainer

    trainer = REALTrainer(
        model="path/to/warm-started-judge",
        args=REALConfig(output_dir="judge", num_generations=8, per_device_train_batch_size=8),
        train_dataset=dataset,  # columns: prompt, score
    )
    trainer.train()
    ```
    """

    _tag_names = ["trl", "real"]
    _name = "REAL"
    _score_columns = ("score", "score_histogram", "other_prompt", "preference")
    _paper = {
        "title": "REAL: Regression-Aware Reinforcement Learning for LLM-as-a-Judge",
        "id": "2603.17145",
        "citation": CITATION,
    }

    @whole_weights()
    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: REALConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | IterableDataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: Any = None,
        peft_config: PeftConfig | None = None,
    ) -> None:
        args = args if args is not None else REALConfig("real-judge")
        if not isinstance(args, REALConfig):
            raise FieldError("args", args, "Give a REALConfig.", f": got a {type(args).__name__}")
        if isinstance(model, str):
            check_writes_rationales(model, (args.model_init_kwargs or {}).get("revision"))
        processing_class = self._resolve_judge(model, args, processing_class, peft_config, optimizers[0])
        check_generation(config_of(model, args), args)
        check_vllm_weights(model, args, quantization_config)
        train_dataset = one_dataset(train_dataset, "train_dataset")
        prompt_format = training_format(train_dataset, processing_class, args)
        fits = prompt_fits(model, args, self.score_space, processing_class, prompt_format)
        checks: list[RowsCheck] = [askable(prompt_format), fits]
        columns: tuple[str, ...] = ("prompt", "score")
        if METHODS[args.reward].label_targets:
            checks.append(targets_are_labels(self.score_space))
        if METHODS[args.reward].pairs:
            columns, checks = PAIR_COLUMNS, [of_both_prompts(check) for check in checks]
        train_dataset, eval_dataset = self._checked_datasets(train_dataset, eval_dataset, columns, *checks)
        if args.group_filter and not isinstance(train_dataset, Dataset):
            said = f": got {args.group_filter!r} with a {type(train_dataset).__name__}; other prompts can only be drawn from a `datasets.Dataset`"
            raise FieldError("group_filter", args.group_filter, "Load the data whole, or leave the filter out.", said)
        prompts_per_step = args.generation_batch_size // args.num_generations
        if isinstance(train_dataset, Dataset) and len(train_dataset) < prompts_per_step:
            raise ValueError(
                f"train_dataset: {len(train_dataset)} rows, but one generation batch takes {prompts_per_step} prompts, so no step "
                "could be trained. Lower per_device_train_batch_size or gradient_accumulation_steps, or add rows."
            )
        self.judge_config = self._make_judge_config(model, self.score_space, args, prompt_format, method=args.reward)
        with engine_like_trainer(args):
            super().__init__(
                model=model,
                reward_funcs=policy_reward,
                args=args,
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=processing_class,
                callbacks=callbacks,
                optimizers=optimizers,
                quantization_config=quantization_config,
                peft_config=peft_config,
            )
        self.num_completions_to_print = -1  # of TRL's table; `log` has another form
        if self.use_vllm:
            ask_for_log_probs(self)
        self._check_loaded()
        models = [self.model] if self.ref_model is None else [self.model, self.ref_model]
        self._shares_prefixes = self.args.shared_prefix and all(
            share_prefixes(self.accelerator.unwrap_model(model), self.temperature) for model in models
        )
        self._checks_sharing = self._shares_prefixes and wants_check(args.check_shared_prefix, self.accelerator.device)
        # (ŷ, y*) of every scored completion since the last log, for the correlation over the logging window
        self._score_pairs: dict[str, list[Tensor]] = defaultdict(list)
        steps = self.args.gradient_accumulation_steps
        self._reuses_batches = self.num_iterations > 1 or steps % self.args.steps_per_generation != 0
        # What a reward couples may stand in several micro-batches
        self._scores_first = args.per_device_train_batch_size % args.num_generations != 0
        if METHODS[args.reward].across_prompts:
            self._scores_first = self.args.steps_per_generation > 1
        self._group_signal = GroupSignal(self.accelerator.device)
        self._group_sampler = None
        if args.group_filter:
            group_filter = GroupFilter.parse(args.group_filter, args.num_generations)
            self._group_sampler = GroupSampler(group_filter, args.group_filter_rounds, self.train_dataset, args.seed)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> list[Rollout]:
        prompts = asked_prompts(inputs, self._group_size, self._has_pairs)
        prompt_ids, completion_ids, completions = self._generate(prompts)
        sampling_log_probs: Sequence[list[float] | None] = self._sampling_log_probs or [None] * len(inputs)
        return [
            make_rollout(
                self.score_space,
                *columns,
                target=float(row["preference" if self._has_pairs else "score"]),
                histogram=row.get("score_histogram"),
                score_in_policy=METHODS[self.args.reward].on_sample,
                force=self.args.malformed == "force",
                stop_ids=[*self.eos_token_ids, self._tokenizer.pad_token_id],
                sampling_log_probs=log_probs,
            )
            for row, log_probs, *columns in zip(
                inputs, sampling_log_probs, prompts, completions, prompt_ids, completion_ids, strict=True
            )
        ]

    def _forward(self, model: nn.Module, inputs: dict[str, Any], share: bool | None = None) -> PolicyOutput:
        share = self._shares_prefixes if share is None else share
        forward = shared_prefix_forward if share else policy_forward
        with self.accelerator.autocast():
            return forward(model, **{k: inputs[k] for k in _FORWARD_INPUTS}, tree=self.score_space.tree)

    def _rewards(self, score_log_probs: Tensor, inputs: dict[str, Any], rounding: Tensor | None = None) -> Rewards:
        columns = {k: inputs[k] for k in ("targets", "label_weights", "sampled_scores", "has_score")}
        return score_rewards(
            self.args,
            score_log_probs,
            self._label_merits if self._has_pairs else self._label_values,
            **columns,
            group_size=self._group_size,
            rounding=rounding,
        )

    def _kl(self, inputs: dict[str, Any], log_probs: Tensor) -> Tensor | None:
        """`log π(c) − log π_ref(c)` `(N,)`, where it is a part of the reward."""
        if self.beta == 0.0:
            return None
        kl = ((log_probs.detach() - self._reference_log_probs(inputs)) * inputs["policy_mask"]).sum(1)
        # As in TRL: a mean over tokens
        sums = torch.stack([kl.sum(), inputs["policy_mask"].sum().to(kl.dtype)])
        total, tokens = self.accelerator.reduce(sums, reduction="sum")
        self._metrics[self._mode]["kl"].append((total / tokens.clamp(min=1)).item())
        return kl

    def _advantages(self, rewards: Rewards, inputs: dict[str, Any], kl: Tensor | None) -> Tensor:
        """Advantages `(N,)` (Section 4.3)."""
        penalty = None if kl is None else self.beta * kl.view(-1, self._group_size)  # (N,) -> (G, K)
        if self._group_size < (4 if self._has_pairs else 2):  # only in evaluation
            return torch.zeros_like(inputs["targets"])
        # (N,) -> (G, K)
        mask = inputs["has_score"].view(-1, self._group_size) if self.args.malformed == "ignore" else None
        return score_advantages(self.args, rewards, penalty, mask).view(-1)  # (G, K) -> (N,)

    @torch.no_grad()
    def _reference_log_probs(self, inputs: dict[str, Any]) -> Tensor:
        if self.ref_model is not None:
            return self._forward(self.ref_model, inputs).log_probs
        model = self.accelerator.unwrap_model(self.model)
        with use_adapter(model, adapter_name="ref" if "ref" in model.peft_config else None):
            return self._forward(self.model, inputs).log_probs

    @torch.no_grad()
    def _freeze_advantages(self, inputs: dict[str, Any]) -> None:
        """Before a batch is used for several steps: compute, once, what all of them take from the policy that sampled it."""
        output = self._forward(self.model, inputs)
        if self.use_vllm:
            inputs["first_log_probs"] = output.log_probs  # (N, C)
        if self.args.reuse_correction == "clip":
            inputs["old_log_probs"] = (output.log_probs * inputs["policy_mask"]).sum(1)  # (N, C) -> (N,)
        rewards = self._rewards(output.score_log_probs, inputs, output.score_rounding)
        inputs["advantages"] = self._advantages(rewards, inputs, self._kl(inputs, output.log_probs))

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        with router_loss(model, _read(inputs)) if self.aux_loss_enabled else nullcontext() as router_losses:
            output = self._forward(model, inputs)
        token_log_probs, weights = output.log_probs, None
        if (
            self.args.vllm_importance_sampling_correction
        ):  # of the policy that sampled this batch, also where it is reused
            weights = importance_weights(
                inputs.get("first_log_probs", token_log_probs),
                inputs["sampling_log_probs"],
                inputs["policy_mask"],
                self.args.vllm_importance_sampling_mode,
                self.args.vllm_importance_sampling_clip_max,
            )
            token_log_probs = weighted_gradient(token_log_probs, weights.policy)
        log_probs = (token_log_probs * inputs["policy_mask"]).sum(1)  # (N, C) -> (N,)
        advantages = inputs.get("advantages")
        if "objective" in inputs:  # of groups that are larger than this batch
            objective = objective_of_part(inputs, output.score_log_probs)
        else:
            rewards = self._rewards(output.score_log_probs, inputs, output.score_rounding)
            objective = rewards.objective.flatten()  # (G, K) -> (N,)
            if advantages is None:
                advantages = self._advantages(rewards, inputs, self._kl(inputs, output.log_probs))
            if self.model.training:
                self._group_signal.add(self.args, rewards, inputs["has_score"])
        terms = objectives.real_loss(
            log_probs,
            advantages,
            objective if weights is None else weights.sequence * objective,
            self.args.prediction_weight,
            lengths=inputs["num_tokens"],
            old_log_probs=inputs.get("old_log_probs"),
            clip_range=(self.epsilon_low, self.epsilon_high),
            aggregation=self.args.loss_aggregation,
        )
        logged = objective.detach() * METHODS[self.args.reward].shared_by
        log_real_metrics(self, inputs, output, logged, advantages, terms, log_probs.detach())
        if self.use_vllm:
            log_sampling_metrics(self, inputs, output.log_probs, weights)
        loss = terms.loss
        if router_losses:
            loss = loss + self.router_aux_loss_coef * router_losses[0]
            metric = self.accelerator.gather(router_losses[0].detach()).mean().item()
            self._metrics[self._mode]["aux_loss"].append(metric)
        return self.check_loss(loss, inputs)

    def row_keys(self, inputs: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return ("prompt", "score"), [(rollout.prompt, rollout.target) for rollout in inputs["rollouts"]]

    def _why_silent(self) -> str | None:
        return self._group_signal.pop(self.accelerator)

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    @property
    def _has_pairs(self) -> bool:
        return METHODS[self.args.reward].pairs

    @property
    def _group_size(self) -> int:
        return self.num_generations if self.model.training else self.num_generations_eval

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As in TRL, on batches of whole groups."""
        self.args.check_eval_groups()
        return super().evaluate(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        correlation = pop_score_correlation(self._score_pairs[self._mode])
        if correlation is not None:
            self._metrics[self._mode]["score/pearson"] = [correlation]
        super().log(logs, start_time)
        if self.log_completions and self.accelerator.is_main_process:
            print_completions(self._logs, self.state.global_step, self.args.num_completions_to_print)
