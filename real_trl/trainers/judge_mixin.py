# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What both trainers share: the tokenizer, the check of an adapter, and `judge_config.json` in every output."""

import copy
from functools import cached_property
from typing import Any

import torch
from peft import PeftConfig, PeftModel
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from trl.trainer.utils import get_config_model_id

from real_trl.forward.dense import backbone
from real_trl.forward.support import check_tree_attention
from real_trl.judge_config import JudgeConfig, check_public
from real_trl.option_values import FieldError
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import PromptFormat
from real_trl.score_space import ScoreSpace
from real_trl.templates.limited import check_chat_template
from real_trl.trainers.config_defaults import JUDGE_METRICS
from real_trl.trainers.data_checks import CheckedDataMixin
from real_trl.trainers.finite_mixin import FiniteMixin
from real_trl.trainers.fsdp import check_reference, prepare_fsdp, reduce_each_micro_batch, tied
from real_trl.trainers.learning_signal import SignalMixin
from real_trl.trainers.precision import accumulate_in_float32, check_dtype, float32_weights, prepare_precision
from real_trl.trainers.publishing_mixin import PublishingMixin, check_publishing
from real_trl.trainers.resume_mixin import ResumeMixin
from real_trl.weights.pretrained import saved_generation_config, use_eos_of

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
    model: str | PreTrainedModel, processing_class: PreTrainedTokenizerBase | None, args: Any
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
        check_chat_template(processing_class, name)
    if not isinstance(processing_class, PreTrainedTokenizerBase):
        raise TypeError(
            f"processing_class: got {type(processing_class).__name__}. Judges here read text: pass a tokenizer "
            "(`PreTrainedTokenizerBase`)."
        )
    if processing_class.eos_token is None:
        if isinstance(model, str):
            revision = (args.model_init_kwargs or {}).get("revision")
            config = saved_generation_config(model, revision, args.trust_remote_code)
        else:
            config = model.generation_config
        use_eos_of(processing_class, config)
    if processing_class.eos_token is None:
        raise ValueError(
            "processing_class: the tokenizer has no eos_token and the model names none, so that no completion would end. Set the "
            "tokenizer's eos_token."
        )
    return processing_class


def check_adapter(model: "str | PreTrainedModel", peft_config: PeftConfig | None) -> None:
    """`ValueError` if an adapter of virtual tokens is to be trained, or is on the model: it would move the scores' positions."""
    given = peft_config or (model.active_peft_config if isinstance(model, PeftModel) else None)
    if given is not None and given.is_prompt_learning:
        said = f": got {type(given).__name__}, whose virtual tokens move the positions that scores are read at"
        raise FieldError("peft_config", type(given).__name__, "Use LoRA (LoraConfig).", said)


class JudgeTrainerMixin(SignalMixin, FiniteMixin, CheckedDataMixin, PublishingMixin, ResumeMixin):
    """
    Saves the judge's configuration with every checkpoint and final model, checks all data ([`CheckedDataMixin`]), ends runs that learn
    nothing ([`SignalMixin`]) or whose numbers are not finite ([`FiniteMixin`]), goes on exactly from complete checkpoints ([`ResumeMixin`]), and publishes a judge with its own card
    ([`PublishingMixin`]). Expects `self.judge_config`.
    """

    judge_config: JudgeConfig
    _float32_weights: dict[str, torch.Tensor] | None = None  # while they are saved
    _score_columns: tuple[str, ...]  # those of a dataset that the loss reads, beside TRL's

    def _resolve_judge(
        self,
        model: str | PreTrainedModel,
        args: Any,
        processing_class: PreTrainedTokenizerBase | None,
        peft_config: PeftConfig | None,
        optimizer: torch.optim.Optimizer | None,
    ) -> PreTrainedTokenizerBase:
        """The tokenizer, and `self.score_space`, before the model is loaded; refuses what could not be trained."""
        check_adapter(model, peft_config)
        check_dtype(model, args, peft_config, optimizer)
        check_reference(model, args, peft_config)
        accumulate_in_float32(args)
        tokenizer = resolve_tokenizer(model, processing_class, args)
        self.score_space = ScoreSpace.from_labels(
            args.score_labels,
            tokenizer,
            marker=args.score_marker,
            values=args.score_values,
            thinking=args.thinking,
        )
        return tokenizer

    def create_accelerator_and_postprocess(self) -> None:
        """As in `Trainer`; FSDP2 then adds gradients up in float32, sharded, and what it cannot train is refused."""
        reduce_each_micro_batch(self.args)
        super().create_accelerator_and_postprocess()
        prepare_fsdp(self.accelerator, self.args)

    def _check_loaded(self) -> None:
        """Whether the model that TRL has built can be trained; `self._label_values` `(L,)`, and `self._label_merits`, of which a higher one is better."""
        prepare_precision(self)
        check_tree_attention(backbone(self.model).config, self.score_space.tree)
        self._label_values = torch.tensor(self.score_space.values, device=self.accelerator.device, dtype=torch.float32)
        self._label_merits = -self._label_values if self.score_space.scale.lower_is_better else self._label_values

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        missing = [column for column in self._score_columns if column not in self._signature_columns]
        self._signature_columns = [*self._signature_columns, *missing]

    def _make_judge_config(
        self, model: str | PreTrainedModel, space: ScoreSpace, args: Any, prompt_format: PromptFormat, method: str
    ) -> JudgeConfig:
        check_publishing(args)
        if prompt_format.chat and not space.tokenizer.chat_template and not getattr(args, "chat_template_path", None):
            raise ValueError(
                "column 'prompt' holds messages, but the tokenizer has no chat template. Make the prompts text, or use a chat model."
            )
        check_public(**vars(prompt_format), score_marker=space.marker, score_labels=list(space.labels))
        return JudgeConfig.from_space(
            space,
            **vars(prompt_format),
            temperature=getattr(args, "temperature", 1.0),
            top_p=getattr(args, "top_p", 1.0),
            normalize_expectation=args.normalize_expectation,
            method=method,
            base_model=model if isinstance(model, str) else get_config_model_id(model.config),
            training={name: getattr(args, name) for name in _RECORDED_ARGUMENTS if hasattr(args, name)},
        )

    @cached_property
    def prompt_encoding(self) -> PromptEncoding:
        """The one way to the tokens of this judge's prompts, here and wherever it is used. First asked for once the tokenizer is ready."""
        return PromptEncoding(self._tokenizer, self.judge_config.prompt_format())

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Of held-out figures as well, see [`JudgeEvaluationCallback`]; then those of `eval_dataset` do not count."""
        name = self.args.metric_for_best_model or ""
        if name.startswith(JUDGE_METRICS):
            if name not in metrics:
                return self.state.best_global_step == self.state.global_step
            metrics = {f"eval_{name}": metrics[name]}
        return super()._determine_best_metric(metrics, trial)

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        """As in `Trainer`; with `float32_outputs` in float32 also where DeepSpeed trains a copy in half precision."""
        if self.args.float32_outputs and self.is_deepspeed_enabled:
            self._float32_weights = float32_weights(self.accelerator.unwrap_model(self.model))
        super().save_model(*args, **kwargs)
        self._float32_weights = None

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        output_dir = output_dir if output_dir is not None else self.args.output_dir
        precise = self._float32_weights
        if precise and state_dict is not None:
            state_dict = {name: precise.get(name, value) for name, value in state_dict.items()}
        elif state_dict is not None and self.is_fsdp_enabled:
            state_dict = tied(state_dict, self.model)
        super()._save(output_dir, state_dict=state_dict)
        if precise and not isinstance(self.model, PeftModel):
            config = copy.copy(self.model.config)
            config.dtype = torch.float32
            config.save_pretrained(output_dir)
        self.judge_config.save(output_dir)
