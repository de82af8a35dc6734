# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What [`RAFTConfig`] and [`REALConfig`] share."""

import copy
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from transformers.utils import is_torch_bf16_gpu_available

from real_trl.score_space import DEFAULT_MARKER
from real_trl.text.redaction import redacted
from real_trl.text.thinking import THINKING_HELP

if TYPE_CHECKING:  # what these are mixed into; at run time they come before the library's arguments and have no base
    from transformers import TrainingArguments as _Arguments
else:
    _Arguments = object


def default_precision(config: Any) -> None:
    """TRL turns bfloat16 on unless told otherwise; here that holds only where a device has it, so that a CPU just works."""
    if config.bf16 is None and not is_torch_bf16_gpu_available():
        config.bf16 = False


class PrivateArguments(_Arguments):
    """
    Training arguments that are written without their secrets: pickled (`training_args.bin`, also by whoever copies and saves them, as
    Weights & Biases' callback does), as a mapping (what trackers are given) and as text. A copy in this process has them.
    """

    def __getstate__(self) -> dict[str, Any]:
        return redacted(vars(self))

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = object.__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return other

    def to_dict(self) -> dict[str, Any]:
        """As of the library's arguments, without secrets."""
        return redacted(super().to_dict())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.to_dict().items())})"

    __str__ = __repr__


JUDGE_METRICS = "judge_eval/"  # what the names of held-out figures begin with
_MORE_IS_BETTER = ("pearson", "spearman", "kendall", "mean_mass")


@dataclass(repr=False)
class JudgeTrainingArguments(PrivateArguments):
    """
    What the configurations of both trainers have beside TRL's arguments.

    `metric_for_best_model` may be a figure of [`JudgeEvaluationCallback`], such as `judge_eval/test/rail/pearson`; with `save_strategy="best"`,
    or `save_steps` that `judge_eval_steps` are a multiple of.

    Args:
        score_labels (`str`, *optional*, defaults to `"1-5"`):
            Labels of the score space: a range such as `"1-5"`, or the labels in a list, see [`Scale.parse`].
        score_values (`list[float]`, *optional*):
            The number of each label. Defaults to the label read as a number.
        score_marker (`str`, *optional*, defaults to `"So the overall score is "`):
            Text that precedes the score in a completion.
        thinking (`str`, *optional*):
            Opening and closing tag of the judge's thinking, with a blank between them, or `none` if it does not think. Defaults to those
            that the tokenizer or the chat template has. Only what follows the thinking can hold the score; the thinking is trained as
            the rest of the CoT is.
        normalize_expectation (`bool`, *optional*, defaults to `False`):
            Divide ŷ by the probability mass on the labels. The paper does not.
        max_steps_without_signal (`int`, *optional*, defaults to `20`):
            Training ends after so many steps in a row without anything to learn from (no gradient, no group whose rewards differ, no
            completion with a score), and a stage does not save a judge that had nothing else. `0`: never.
        check_shared_prefix (`bool`, *optional*):
            Compute the first micro-batch of a run also with a row for each sequence, where prompts are shared or rows packed. If the two
            differ by more than rounding explains ([`sharing_check`](sharing_check.py)), the run warns and goes on with a row for each.
            Defaults to what has a GPU.
        hash_checkpoints (`bool`, *optional*, defaults to `True`):
            State the SHA-256 of every file in a checkpoint, and go on from it only if they are the same. `False` saves 0.7 s a GB at each
            checkpoint, which counts where one has hundreds of GB; sizes are always checked.
        float32_outputs (`bool`, *optional*, defaults to `False`):
            Under DeepSpeed, save the float32 weights that the optimizer works on. By default their copy in half precision is saved, which is half as
            large and at small learning rates does not show all that was learned. Without DeepSpeed, what is saved is float32 as it is.
    """

    score_labels: str = field(default="1-5", metadata={"help": "Labels of the score space, e.g. `1-5`."})
    score_values: list[float] | None = field(
        default=None, metadata={"help": "Number of each label. Default: the label read as a number."}
    )
    score_marker: str = field(default=DEFAULT_MARKER, metadata={"help": "Text that precedes the score."})
    thinking: str | None = field(default=None, metadata={"help": THINKING_HELP})
    normalize_expectation: bool = field(
        default=False, metadata={"help": "Divide the expected score by the probability mass on the labels."}
    )
    max_steps_without_signal: int = field(
        default=20, metadata={"help": "Steps in a row without anything to learn from that end training; 0: none do."}
    )
    check_shared_prefix: bool | None = field(
        default=None,
        metadata={
            "help": "Compare the first micro-batch with its dense forward, and go on with that if they differ. Default: on a GPU."
        },
    )
    hash_checkpoints: bool = field(
        default=True,
        metadata={"help": "State and check the SHA-256 of a checkpoint's files; false for very large ones."},
    )
    float32_outputs: bool = field(
        default=False,
        metadata={"help": "Under DeepSpeed, save the optimizer's float32 weights, not their half-precision copy."},
    )

    def __post_init__(self) -> None:
        """The library's; what it asks of `eval_strategy` does not hold for the best model by a figure of `judge_eval_steps`."""
        load_best, metric = self.load_best_model_at_end, self.metric_for_best_model or ""
        if metric.startswith(JUDGE_METRICS):
            self.load_best_model_at_end = False
            if self.greater_is_better is None:
                self.greater_is_better = metric.rpartition("/")[2] in _MORE_IS_BETTER
        with warnings.catch_warnings():
            # Transformers 5.24 has a new name for it, which TRL and Transformers 5.17 do not know
            warnings.filterwarnings("ignore", "`gradient_checkpointing", FutureWarning)
            super().__post_init__()
        self.load_best_model_at_end = load_best
