# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""RAFT, and plain SFT as its case without regression loss, as a subclass of TRL's SFT trainer."""

import copy
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import torch
from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset
from peft import PeftConfig
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments
from trl import SFTTrainer

from real_trl import objectives
from real_trl.data.pairs import PAIR_COLUMNS
from real_trl.forward.dense import backbone, causal_lm, select_hidden_rows
from real_trl.forward.packed_attention import install_prefix_attention
from real_trl.forward.positions import separate_rows
from real_trl.forward.router_loss import router_loss
from real_trl.forward.sft_inputs import pack_sequences, pad_sequences
from real_trl.forward.support import why_not_exact
from real_trl.forward.token_selection import TokenSelection
from real_trl.label_tree import LabelTree
from real_trl.prompts.format import training_format
from real_trl.trainers.context_check import row_fits
from real_trl.trainers.data_checks import RowsCheck, askable, one_dataset
from real_trl.trainers.direct import has_rationales, no_rationales
from real_trl.trainers.direct_pairs import (
    PairSampler,
    check_pair_options,
    check_whole_pairs,
    of_both_answers,
    preference_loss,
    rows_of_pairs,
)
from real_trl.trainers.judge_mixin import JudgeTrainerMixin
from real_trl.trainers.pair_metrics import log_pair_metrics
from real_trl.trainers.raft_config import RAFTConfig
from real_trl.trainers.row_tokenizer import RowTokenizer
from real_trl.trainers.score_positions import NO_SCORE, ScoreCollator, ScoreRows
from real_trl.trainers.sharing_check import wants_check, ways_agree
from real_trl.weights.whole import whole_weights

logger = get_logger(__name__)


class _ForwardWithScores:
    """
    The model as `SFTTrainer.compute_loss` calls it, over a batch without padding if it is `padding_free`, and what sequences begin with
    once if they `share` it. Only the rows that
    have a label reach TRL's LM head. Beside it, in float32, the score space's [`LabelTree`] is read; the labels' log-probabilities
    are kept in `score_log_probs` `(N, L)`.
    """

    def __init__(
        self, model: nn.Module, score_positions: Tensor, tree: LabelTree, padding_free: bool, share: bool = False
    ) -> None:
        self.model, self.score_positions, self.tree = model, score_positions, tree
        self.padding_free, self.share = padding_free, share
        self.score_log_probs: Tensor | None = None

    def __call__(self, labels: Tensor, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> Any:
        batch = (labels, input_ids, attention_mask, self.score_positions, self.tree)
        forward = (
            pack_sequences(*batch, share=self.share)
            if self.padding_free
            else pad_sequences(*batch, backbone(self.model))
        )
        separate_rows(causal_lm(self.model))
        size, trees = forward.num_labels, TokenSelection.of_trees(self.tree, forward.edges, forward.rests)
        with select_hidden_rows(self.model, forward.rows[:, :size], trees):
            outputs = self.model(**{**inputs, **forward.inputs}, shift_labels=forward.targets[:, :size])
        self.score_log_probs, _ = trees.score_log_probs(outputs.scores, self.tree)
        return outputs


class RAFTTrainer(JudgeTrainerMixin, SFTTrainer):
    """
    Trainer for Regression-Aware Fine-Tuning (Eq. 3): TRL's next-token loss plus the squared error of the expected
    score, both out of one forward. With `args.regression_weight=0` it is plain SFT.

    Completions of marker and score alone make a direct judge, as in the original RAFT: it answers without a rationale, and is asked
    so ([`RAFTConfig`], `rationale`).

    The forward reads a batch without padding, one sequence behind the other, wherever that is exact; where it is not (sliding
    windows, dropout, positions that are not plain, architectures that are not listed) batches are padded, and the log says why.

    What it overrides of TRL, and why: `trainers/README.md`.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            Model to train, as in TRL.
        args ([`RAFTConfig`] or [`~transformers.TrainingArguments`], *optional*):
            Configuration. If `None`, a default configuration is used.
        train_dataset ([`~datasets.Dataset`]):
            Columns `prompt` and `completion` (text or messages; see [`~real_trl.data.loading.build_completion`]) and `score`, the
            target; optionally `score_histogram`, the raters' shares of each label. Where they say something else than the
            label that the completion ends with, the next-token loss of that label is that of their distribution. Or, for a direct judge,
            preferences between two responses, with the columns of [`~real_trl.data.pairs.PAIR_COLUMNS`]: the squared error is then replaced by
            −log P(A ≻ B), and the next-token loss of the label by that of any label.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            Tokenizer. If `None`, the model's own.
        callbacks, optimizers, quantization_config, peft_config (*optional*):
            As in TRL.

    Raises:
        ValueError: before the model is loaded, if a column is missing, a score is no number on the scale, the tokenizer
            cannot tell the labels apart, or the adapter is one of virtual tokens; after tokenization, if a completion does not hold its score.
    """

    args: RAFTConfig
    _tag_names = ["trl", "raft"]
    _name = "RAFT"
    _score_columns = ("score", "score_position", "written_label", "score_histogram", "preference")
    _paper = {
        "title": "Better autoregressive regression with LLMs via regression-aware fine-tuning",
    }

    @whole_weights()
    def __init__(
        self,
        model: "str | PreTrainedModel",
        args: RAFTConfig | TrainingArguments | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[torch.optim.Optimizer | None, torch.optim.lr_scheduler.LambdaLR | None] = (None, None),
        quantization_config: Any = None,
        peft_config: PeftConfig | None = None,
    ) -> None:
        args = RAFTConfig.of(args) if args is not None else RAFTConfig("raft-judge")
        processing_class = self._resolve_judge(model, args, processing_class, peft_config, optimizers[0])
        train_dataset = one_dataset(train_dataset, "train_dataset")
        prompt_format = training_format(train_dataset, processing_class, args)
        self._has_pairs = "preference" in (getattr(train_dataset, "column_names", None) or ())
        if self._has_pairs:
            check_pair_options(args, train_dataset)
            args.completion_only_loss = True  # which TRL sees in a first row that has a completion
        self._is_direct = self._has_pairs or not (
            has_rationales(train_dataset, self.score_space) if args.rationale is None else args.rationale
        )
        checks: list[RowsCheck] = [
            askable(prompt_format),
            row_fits(model, args, processing_class, prompt_format, self.score_space),
        ]
        checks += [no_rationales(self.score_space)] if self._is_direct else []
        columns: tuple[str, ...] = ("prompt", "completion", "score")
        if self._has_pairs:
            columns, checks = PAIR_COLUMNS, [of_both_answers(check, self.score_space) for check in checks]
        train_dataset, eval_dataset = self._checked_datasets(train_dataset, eval_dataset, columns, *checks)
        method = "raft_pairs" if self._has_pairs else "raft" if args.regression_weight else "sft"
        self.judge_config = self._make_judge_config(model, self.score_space, args, prompt_format, method=method)
        self.judge_config.rationale = not self._is_direct
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        self.data_collator = ScoreCollator(self.data_collator, self.score_space.values)
        self._check_loaded()
        base = causal_lm(self.model)
        reason = why_not_exact(base, dropout="of attention")
        if args.neftune_noise_alpha is not None:
            reason = "neftune_noise_alpha sets the noise by the length of a row, which is to hold one sequence"
        self._padding_free = reason is None
        # Of short answers, most of a batch is what prompts begin with
        self._share = self._padding_free and self._is_direct and why_not_exact(base) is None
        self._checks_sharing = self._padding_free and wants_check(args.check_shared_prefix, self.accelerator.device)
        # The loss of a router is added here: not scaled by λ, and not of the tokens of label trees
        self._trains_router, self.aux_loss_enabled = self.aux_loss_enabled, False
        if self._trains_router:
            base.config.get_text_config().output_router_logits = False  # which TRL has set
        if self._padding_free:
            install_prefix_attention(base)
        else:
            logger.warning(f"Batches are padded, which is slower where lengths differ: {reason}.")

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, *rest: Any) -> Any:
        name = rest[-1]
        options = {"num_proc": args.dataset_num_proc, "desc": f"Tokenizing {name} dataset"}
        if self._has_pairs:
            pairs = dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset
            dataset = rows_of_pairs(pairs, self.score_space)
        try:
            dataset = dataset.map(
                RowTokenizer(self.prompt_encoding, self.score_space, direct=self._is_direct),
                remove_columns=[column for column in ("labels",) if column in (dataset.column_names or [])],
                **(options if isinstance(dataset, Dataset) else {}),
            )
        except ValueError as error:
            raise ValueError(f"{name} dataset: {error}") from error
        uncut = copy.copy(args)  # TRL would cut and shuffle before anyone can see what that takes from a row
        uncut.max_length, uncut.shuffle_dataset = None, False
        dataset = super()._prepare_dataset(dataset, processing_class, uncut, *rest)
        dataset = ScoreRows(self.score_space, name, args.max_length, args.truncation_mode).prepare(dataset)
        if self._has_pairs:
            check_whole_pairs(dataset, len(pairs), name, args.max_length)
            return dataset
        return dataset.shuffle(seed=args.seed) if args.shuffle_dataset else dataset

    def _get_train_sampler(self, *args: Any) -> Any:
        sampler = super()._get_train_sampler(*args)
        return PairSampler(sampler) if self._has_pairs else sampler

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        batches, num_items_in_batch = super().get_batch_samples(epoch_iterator, num_batches, device)
        scores = sum((batch["score_positions"] != NO_SCORE).sum() for batch in batches)
        # Per process, because gradients are averaged over processes
        self._scores_per_process = self.accelerator.reduce(torch.tensor(float(scores), device=device), "mean")
        return batches, num_items_in_batch

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        if return_outputs:
            raise ValueError(
                "RAFTTrainer does not return outputs: it never builds the logits. Use `prediction_loss_only=True`."
            )
        self.check_sharing(model, inputs)
        return self.check_loss(self._raft_loss(model, dict(inputs), num_items_in_batch), inputs)

    def check_sharing(self, model: nn.Module, inputs: dict[str, Any]) -> None:
        """Once, of the first micro-batch: whether rows without padding are right here. If not, batches are padded from then on."""
        if not (self._checks_sharing and self.model.training):
            return
        self._checks_sharing = False

        def log_probs(packed: bool, rows: slice) -> list[Tensor]:
            positions = inputs["score_positions"][rows]
            forward = _ForwardWithScores(model, positions, self.score_space.tree, packed, packed and self._share)
            batch = {name: inputs[name][rows] for name in ("labels", "input_ids", "attention_mask")}
            output = forward(**batch, fused_lm_head=True)
            return [output.log_probs[output.label_mask], forward.score_log_probs[positions != NO_SCORE]]

        self._padding_free = ways_agree(self.accelerator, model, len(inputs["labels"]), log_probs)
        self._share = self._share and self._padding_free

    def row_keys(self, inputs: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        rows = zip(inputs["input_ids"], inputs["attention_mask"].bool(), strict=True)
        return ("input_ids",), [(ids[mask].tolist(),) for ids, mask in rows]

    def _raft_loss(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None) -> Tensor:
        score_positions, targets = inputs.pop("score_positions"), inputs.pop("targets")
        written, label_weights = inputs.pop("written_labels"), inputs.pop("label_weights")
        preferences = inputs.pop("preferences", None)
        forward = _ForwardWithScores(model, score_positions, self.score_space.tree, self._padding_free, self._share)
        trained, attention_mask = self._total_train_tokens, inputs["attention_mask"]
        with router_loss(model, attention_mask) if self._trains_router else nullcontext() as router_losses:
            next_token_loss = super().compute_loss(forward, inputs, num_items_in_batch=num_items_in_batch)
        router = self._router_loss(router_losses[0], num_items_in_batch) if router_losses else 0.0
        if self.model.training:
            # TRL gathers the counts as if they were rows, and drops those that an epoch's last batch has too many of
            self._total_train_tokens = (
                trained + int(self.accelerator.gather(attention_mask.sum()).sum()) // self._tp_size
            )
            self._metrics["train"]["num_tokens"] = [self._total_train_tokens]

        scored = score_positions != NO_SCORE
        if preferences is None:
            self._log_scores(forward.score_log_probs.detach(), targets, scored)
        else:
            columns = (forward.score_log_probs, self._label_merits, preferences, scored)
            log_pair_metrics(self._metrics["train" if self.model.training else "eval"], self.accelerator, *columns)
            regression = preference_loss(*columns)
        if not scored.any():
            # Every rank must take part in the backward of the same parameters
            return self.args.log_likelihood_weight * next_token_loss + 0.0 * forward.score_log_probs.sum() + router
        score_log_probs, targets = forward.score_log_probs[scored], targets[scored]  # (N, L) -> (n, L), (N,) -> (n,)
        # Zero where the written label is the whole target
        written = score_log_probs.gather(1, written[scored].unsqueeze(1)).squeeze(1)  # (n, L) -> (n,)
        wanted = (
            objectives.log_likelihood_reward(score_log_probs, self._label_values, targets, label_weights[scored])
            if preferences is None
            else score_log_probs.logsumexp(-1)
        )
        if num_items_in_batch is None:
            num_tokens = (inputs["labels"][:, 1:] != -100).sum()
        else:
            num_tokens = num_items_in_batch / (
                self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            )
        next_token_loss = next_token_loss + (written - wanted).sum() / num_tokens
        # With `num_items_in_batch` the next-token loss is already a share of that of the whole accumulated batch of all
        # processes; so is the squared error then: a mean over the batch's scores, wherever rows without one fell
        share = 1.0 if num_items_in_batch is None else scored.sum() / self._scores_per_process
        if preferences is not None:
            regression = share * regression / (scored.sum() / 2)
            loss = self.args.regression_weight * regression + self.args.log_likelihood_weight * next_token_loss
            return loss + router
        loss = objectives.raft_loss(
            score_log_probs,
            self._label_values,
            targets,
            -next_token_loss,
            log_likelihood_weight=self.args.log_likelihood_weight,
            regression_weight=self.args.regression_weight * share,
            normalize=self.args.normalize_expectation,
        )
        return loss + router

    def _router_loss(self, loss: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        """With its coefficient, as TRL adds it: a mean over the micro-batches of a step."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        metrics["aux_loss"].append(self.accelerator.gather(loss.detach()).mean().item())
        steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
        return self.router_aux_loss_coef * loss / steps

    def _log_scores(self, score_log_probs: Tensor, targets: Tensor, scored: Tensor) -> None:
        error = (
            objectives.expected_score(score_log_probs, self._label_values, self.args.normalize_expectation) - targets
        )
        columns = torch.stack(
            [error.square(), error.abs(), score_log_probs.exp().sum(1), torch.ones_like(error)], dim=1
        )
        sums = self.accelerator.reduce((columns * scored.unsqueeze(1)).sum(0), reduction="sum").tolist()
        if sums[-1]:
            metrics = self._metrics["train" if self.model.training else "eval"]
            for name, total in zip(("squared_error", "abs_error", "mass"), sums, strict=False):
                metrics[f"score/{name}"].append(total / sums[-1])

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> tuple[Tensor, None, None]:
        return super().prediction_step(model, inputs, True, ignore_keys)
