# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What every engine does: judge prompts, one completion each, with the score distribution read in the same pass."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from real_trl.engines.judgment import Judgment
from real_trl.option_values import FieldError, check_numbers
from real_trl.score_space import ScoreSpace

MalformedReading = Literal["force", "drop"]
MALFORMED_HANDLING = get_args(MalformedReading)


class PromptError(ValueError):
    """
    What is wrong with one of the prompts that an engine was given.

    Attributes:
        index (`int`): Which, counted from 0.
        place (`str`, *optional*): What the message calls it. Who made the prompts sets it to what they are to the user.
    """

    def __init__(self, index: int, said: str) -> None:
        super().__init__(index, said)
        self.index, self.said = index, said
        self.place: str | None = None

    def __str__(self) -> str:
        return f"{self.place or f'prompt {self.index} (counted from 0)'}{self.said}"


@dataclass(frozen=True)
class Decoding:
    """
    How completions are decoded and their scores read: the same for every engine.

    Args:
        chat (`bool`, *optional*, defaults to `False`):
            Wrap each prompt in the tokenizer's chat template as one user message.
        system_prompt, chat_template_kwargs, template_date (*optional*):
            What else the chat template gets, see [`PromptFormat`].
        temperature (`float`, *optional*, defaults to `1.0`):
            Temperature of the CoT and of the score distribution.
        do_sample (`bool`, *optional*, defaults to `True`):
            Sample the completion; `False` decodes greedily.
        top_p (`float`, *optional*, defaults to `1.0`):
            Nucleus of the sampled CoT. The score distribution is never truncated.
        max_new_tokens (`int`, *optional*, defaults to `1024`):
            Longest completion.
        malformed (`str`, *optional*, defaults to `"force"`):
            `"force"`: append the marker to a completion without a score and read the distribution there. `"drop"`:
            leave the scores empty.
        normalize_expectation (`bool`, *optional*, defaults to `False`):
            Divide the expected score by the probability mass on the labels.
        rationale (`bool`, *optional*, defaults to `True`):
            Whether the judge writes a rationale before its score. A direct judge does not: nothing is generated, and the score
            distribution is read right after prompt and marker.
        truncate_prompts (`bool`, *optional*, defaults to `False`):
            Cut the beginning of a prompt that is too long for the model, instead of refusing it.

    Raises:
        `ValueError`: naming the field, if one has an impossible value.
    """

    chat: bool = False
    system_prompt: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    template_date: str | None = None
    temperature: float = 1.0
    do_sample: bool = True
    top_p: float = 1.0
    max_new_tokens: int = 1024
    malformed: str = "force"
    normalize_expectation: bool = False
    rationale: bool = True
    truncate_prompts: bool = False

    def __post_init__(self) -> None:
        if self.malformed not in MALFORMED_HANDLING:
            raise FieldError("malformed", self.malformed, f"Set it to one of: {', '.join(MALFORMED_HANDLING)}.")
        check_numbers(self)


def check_num_samples(num_samples: int, do_sample: bool, rationale: bool = True) -> None:
    """`ValueError` unless that many completions of one prompt make sense; of a direct judge (without `rationale`) only one does."""
    if not isinstance(num_samples, int) or num_samples < 1:
        raise FieldError("num_samples", num_samples, "Set it to at least 1.")
    if num_samples > 1 and not rationale:
        said = f": got {num_samples}, but a direct judge writes nothing that could differ"
        raise FieldError("num_samples", num_samples, "Set it to 1.", said)
    if num_samples > 1 and not do_sample:
        said = f": got {num_samples} with do_sample false, which makes all of them the same"
        raise FieldError("num_samples", num_samples, "Set do_sample to true, or num_samples to 1.", said)


class Engine(Protocol):
    """
    Interface of what judges; [`~real_trl.engines.registry.ENGINES`] has those that there are. Scripts know no more about an engine.

    Attributes:
        context_length (`int`, *optional*):
            Tokens that the model reads, completion included; `None` where that is not known.
    """

    score_space: ScoreSpace
    decoding: Decoding
    context_length: int | None

    @classmethod
    def from_source(cls, source: Any, asked: Any, decoding: Decoding, **options: Any) -> "Engine":
        """
        Load a judge: of a [`~real_trl.judge_source.JudgeSource`], its tokenizer, score space and weights; of `asked`
        ([`~real_trl.engines.options.EngineOptions`]), `dtype` and `batch_size`. `options` are its `engine_options`.
        """
        ...

    def check(self, prompts: Sequence[str]) -> None:
        """`ValueError` if one of `prompts` is too long for the model, before anything is generated."""
        ...

    def judge(self, prompts: Sequence[str], seed: int | None = None) -> Iterator[tuple[int, Judgment]]:
        """
        Judge `prompts`, one completion each.

        Args:
            seed (`int`, *optional*):
                Makes the sampling repeatable: the same engine, prompts and seed give the same judgments. By default the
                sampling goes on from wherever the engine's random numbers are.

        Yields:
            `(index, judgment)`: index into `prompts`, in any order.

        Raises:
            `ValueError`: if a prompt is too long for the model.
        """
        ...

    def read(self, prompts: Sequence[str], rationales: Sequence[str] | None = None) -> Iterator[tuple[int, Judgment]]:
        """
        The score distributions right after prompt, rationale and marker, by one prefill each: nothing is generated ([`Judgment.read`]).

        Args:
            rationales (`Sequence[str]`, *optional*):
                One for each prompt, without marker and score; by default none, as of a direct judge.

        Yields:
            `(index, judgment)`: index into `prompts`, in any order.

        Raises:
            `ValueError`: if a prompt with its rationale is too long for the model.
        """
        ...
