# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What both trainers share: the score space, the check of the dataset, and `judge_config.json` in every output."""

import math
from operator import mul
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig, PeftModel
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments
from trl.data_utils import is_conversational
from trl.trainer.utils import get_config_model_id

from real_trl.judge_config import JudgeConfig
from real_trl.publishing.trainer_mixin import PublishingMixin, check_publishing
from real_trl.score_space import ScoreSpace
from real_trl.trainers.resume_mixin import ResumeMixin

# Recorded in judge_config.json, where the arguments have them: enough to tell two runs apart. `training_args.bin`
# beside it has everything.
_RECORDED_ARGUMENTS = (
    "seed",
    "learning_rate",
    "max_steps",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "regression_weight",
    "log_likelihood_weight",
    "prediction_weight",
    "num_generations",
    "likelihood_form",
    "advantage_streams",
    "reuse_correction",
    "num_iterations",
    "group_filter",
    "malformed",
    "loss_aggregation",
)


def resolve_tokenizer(
    model: str | PreTrainedModel, processing_class: PreTrainedTokenizerBase | None, args: TrainingArguments
) -> PreTrainedTokenizerBase:
    """The tokenizer that was given, or else the model's own; loaded before the model, so that bad labels are found first."""
    if processing_class is None:
        name = model if isinstance(model, str) else get_config_model_id(model.config)
        processing_class = AutoTokenizer.from_pretrained(
            name,
            revision=(args.model_init_kwargs or {}).get("revision"),
            trust_remote_code=args.trust_remote_code,
            truncation_side="left",
            padding_side="left",
        )
    if not isinstance(processing_class, PreTrainedTokenizerBase):
        raise TypeError(
            f"processing_class: got {type(processing_class).__name__}. Judges here read text: pass a tokenizer "
            "(`PreTrainedTokenizerBase`)."
        )
    return processing_class


def check_adapter(model: "str | PreTrainedModel", peft_config: PeftConfig | None) -> None:
    """`ValueError` if an adapter of virtual tokens is to be trained, or is on the model: it would move the scores' positions."""
    given = peft_config or (model.active_peft_config if isinstance(model, PeftModel) else None)
    if given is not None and given.is_prompt_learning:
        raise ValueError(
            f"peft_config: got {type(given).__name__}, whose virtual tokens move the positions that scores are read at. Use "
            "LoRA (LoraConfig)."
        )


def check_judge_dataset(dataset: Any, name: str, columns: tuple[str, ...], space: ScoreSpace) -> None:
    """
    Refuse a dataset that lacks one of `columns`, or has an empty prompt, a score that is missing, not a number, or
    outside the scale, or completions without the marker.

    Raises:
        ValueError: naming the dataset, the column, the row, its value and the fix. Rows of an `IterableDataset` are not
            read.
    """
    if dataset is None:
        return
    if isinstance(dataset, dict):
        for key, part in dataset.items():
            check_judge_dataset(part, f"{name}[{key!r}]", columns, space)
        return
    present = dataset.column_names or []
    missing = [column for column in columns if column not in present]
    if missing and present:
        raise ValueError(
            f"{name}: no column {missing[0]!r}; it has {present}. Rename the column, or load the data with "
            "`real_trl.data.load_judge_dataset`, which makes the expected columns."
        )
    if isinstance(dataset, IterableDataset) or not isinstance(dataset, Dataset):
        return
    for row, score in enumerate(dataset["score"]):
        is_number = isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score)
        if not is_number or not space.low <= score <= space.high:
            raise ValueError(
                f"{name}: column 'score' is {score!r} in row {row}; the scale is {space.low:g} to {space.high:g} "
                f"(score_labels={space.scale}). Correct or remove the row, or change `score_labels`."
            )
    if "score_histogram" in present:
        _check_histograms(dataset, name, space)
    for row, prompt in enumerate(dataset["prompt"]):
        text = _last_text(prompt)
        if not text or (isinstance(text, str) and not text.strip()):
            raise ValueError(f"{name}: column 'prompt' is empty in row {row}. Fill or remove the row.")
    if "completion" in columns and len(dataset):
        texts = [_last_text(completion) or "" for completion in dataset["completion"]]
        if not any(space.marker.rstrip() in text for text in texts):
            raise ValueError(
                f"{name}: the marker {space.marker!r} is in none of the {len(texts)} completions, e.g. one that ends "
                f"{texts[0][-80:]!r}. Set `score_marker` to the text that precedes the score in the completions, or build "
                "them with `real_trl.data.build_completion`."
            )


def _check_histograms(dataset: Dataset, name: str, space: ScoreSpace) -> None:
    for row, (shares, score) in enumerate(zip(dataset["score_histogram"], dataset["score"], strict=True)):
        fault = None
        if not isinstance(shares, list) or len(shares) != len(space.labels):
            fault = f"which is no list of {len(space.labels)} shares, one for each of the labels {space.scale}"
        elif not all(isinstance(share, (int, float)) and share >= 0 for share in shares):
            fault = "which holds something else than numbers from 0 on"
        elif not math.isclose(math.fsum(shares), 1.0, abs_tol=1e-4):
            fault = f"which sums to {math.fsum(shares):g}, not to 1"
        elif abs((mean := math.fsum(map(mul, shares, space.values))) - score) > 1e-3 * (space.high - space.low):
            fault = f"whose mean is {mean:g}, while the column 'score' is {score:g}"
        if fault:
            raise ValueError(
                f"{name}: column 'score_histogram' is {shares} in row {row}, {fault}. Correct the row, or load the data with "
                "`real_trl.data.load_judge_dataset`, which makes both columns."
            )


def _last_text(turn: Any) -> Any:
    """The text of a prompt or completion; of a conversation, its last message's."""
    return turn[-1].get("content") if turn and isinstance(turn, list) else turn


class JudgeTrainerMixin(PublishingMixin, ResumeMixin):
    """
    Saves the judge's configuration with every checkpoint and final model, goes on exactly from complete checkpoints
    ([`ResumeMixin`]), and publishes a judge with its own card ([`PublishingMixin`]). Expects `self.judge_config`.
    """

    judge_config: JudgeConfig

    def _make_judge_config(
        self, model: str | PreTrainedModel, space: ScoreSpace, args: Any, dataset: Any, method: str
    ) -> JudgeConfig:
        check_publishing(args)
        return JudgeConfig.from_space(
            space,
            chat=isinstance(dataset, Dataset) and len(dataset) > 0 and is_conversational(dataset[0]),
            temperature=getattr(args, "temperature", 1.0),
            normalize_expectation=args.normalize_expectation,
            method=method,
            base_model=model if isinstance(model, str) else get_config_model_id(model.config),
            training={name: getattr(args, name) for name in _RECORDED_ARGUMENTS if hasattr(args, name)},
        )

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict=state_dict)
        self.judge_config.save(output_dir if output_dir is not None else self.args.output_dir)
