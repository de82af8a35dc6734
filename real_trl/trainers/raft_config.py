# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration of [`RAFTTrainer`]."""

from dataclasses import dataclass, field
from typing import Any, Self

from transformers import TrainingArguments
from trl import SFTConfig

from real_trl.option_values import FieldError, check_numbers
from real_trl.trainers.config_defaults import JudgeTrainingArguments, default_precision


@dataclass(repr=False)
class RAFTConfig(JudgeTrainingArguments, SFTConfig):
    r"""
    Configuration of the [`RAFTTrainer`].

    This class adds to [`~trl.SFTConfig`] the regression loss of RAFT (Eq. 3) and
    [`~real_trl.trainers.config_defaults.JudgeTrainingArguments`]; all other arguments keep TRL's meaning.

    Args:
        regression_weight (`float`, *optional*, defaults to `1.0`):
            Weight on the squared error of the expected score. `0.0` is plain supervised fine-tuning.
        log_likelihood_weight (`float`, *optional*, defaults to `1.0`):
            λ in Eq. 3, the weight on the next-token loss. That loss is TRL's mean over the tokens of the batch, as in
            TRACT, where Eq. 3 has the sum over each completion: the sum is λ = the mean completion length.
        rationale (`bool`, *optional*):
            Whether the judge writes a rationale before its score. `False`: a direct judge, which answers with marker and score alone, as
            in the original RAFT; completions must hold nothing else. Defaults to what the completions have.
        chat_template_kwargs (`dict[str, Any]`, *optional*):
            Arguments of the chat template, such as `{"enable_thinking": False}`. They are saved with the judge.

    Batches are read without padding where the model allows it, see [`RAFTTrainer`]: `packing` and `padding_free` are neither
    needed nor accepted, and `train_sampling_strategy="group_by_length"` saves nothing.

    Defaults that differ from TRL's: `max_length=3000`, as in TRACT, since judge prompts are long; `bf16` only where a
    GPU has it.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "chat_template_kwargs"]

    regression_weight: float = field(
        default=1.0, metadata={"help": "Weight on the squared error of the expected score; 0 is plain SFT."}
    )
    log_likelihood_weight: float = field(default=1.0, metadata={"help": "λ in Eq. 3, on the next-token loss."})
    rationale: bool | None = field(
        default=None,
        metadata={
            "help": "Whether the judge writes a rationale before its score; false trains a direct judge, also on data with rationales. "
            "Default: as the data has them."
        },
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Arguments of the chat template, e.g. {enable_thinking: false}; saved with the judge."},
    )
    max_length: int | None = field(
        default=3000, metadata={"help": "Longest prompt and completion together, in tokens; null for no limit."}
    )

    @classmethod
    def of(cls, args: TrainingArguments) -> Self:
        """Other training arguments, as TRL's trainer takes them: with the defaults of this class for what they do not have."""
        if isinstance(args, cls):
            return args
        given = args.to_dict()
        # Hidden there, with what are no secrets: `eos_token`
        return cls(**given | {name: getattr(args, name) for name in given if name.endswith("_token")})

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.regression_weight == 0 and self.log_likelihood_weight == 0:
            raise ValueError(
                "regression_weight and log_likelihood_weight: both are 0, so there is nothing to train on. Set one above 0."
            )
        if self.completion_only_loss is False:
            said = ": got False, but a judge is not trained to write its prompt, and its score is looked for in the completion only"
            raise FieldError("completion_only_loss", False, "Unset it.", said)
        padding_free = "its batches are free of padding already, with the score positions that TRL's would lose"
        unsupported = {
            "packing": padding_free,
            "padding_free": padding_free,
            "assistant_only_loss": "the loss is over the completion, which is all that the assistant says",
            "pad_to_multiple_of": padding_free,
            "label_smoothing_factor": "label smoothing would spread mass over tokens that are no scores",
        }
        for name, reason in unsupported.items():
            if getattr(self, name) not in (None, False, 0, "auto"):  # of padding, TRL's default
                said = f": got {getattr(self, name)}, which RAFTTrainer does not support: {reason}"
                raise FieldError(name, getattr(self, name), "Unset it.", said)
        default_precision(self)
        super().__post_init__()
