# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What every engine does: judge prompts, one completion each, with the score distribution read in the same pass."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import torch

from real_trl.engines.distribution_checks import impossible
from real_trl.evaluation.unscored import UNSCORED
from real_trl.objectives import expected_score
from real_trl.option_values import FieldError, check_numbers
from real_trl.prompts.completion_parts import NOTHING, Spoken, spoken_text
from real_trl.score_space import ScoreLocation, ScoreSpace

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
        self.index, self.said, self.place = index, said, None

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
    truncate_prompts: bool = False

    def __post_init__(self) -> None:
        if self.malformed not in MALFORMED_HANDLING:
            raise FieldError("malformed", self.malformed, f"Set it to one of: {', '.join(MALFORMED_HANDLING)}.")
        check_numbers(self)


_SCORES = ("sampled_score", "most_likely_score", "expected_score", "probabilities", "spread", "mass")


@dataclass
class Judgment:
    """
    What a judge said about one prompt. The scores are `None` in a malformed completion that was dropped, and where there is no
    answer to score.

    Attributes:
        completion (`str`):
            Rationale and score, as generated.
        rationale (`str`):
            What precedes the marker, and follows the thinking; without a marker, all that follows the thinking.
        status (`str`):
            `"ok"`, or why the completion holds no score (see [`ScoreLocation`]). `"unscored"`: the engine gave no answer, or one
            whose probabilities cannot be; that says nothing about the judge, and `error` says why.
        sampled_score (`float`, *optional*):
            Value of the score that was decoded ("standard" inference). In a malformed completion, the most likely
            label at the forced marker.
        most_likely_score (`float`, *optional*):
            Value of the most likely label.
        expected_score (`float`, *optional*):
            RAIL prediction `ŷ = Σ_k k · π(k | x, c)` (Alg. 1), divided by `mass` if `normalized`.
        probabilities (`list[float]`, *optional*):
            `π(k | x, c)` of every label, in the order of the labels, over the whole vocabulary. That of a label of
            several tokens is exact (see [`LabelTree`]). NaN where the engine could not learn it.
        spread (`float`, *optional*):
            Standard deviation of the score, in score units, given that it is one of the labels.
        mass (`float`, *optional*):
            Probability on the labels; what is missing to 1 went to other text, or is `missing_mass`.
        missing_mass (`float`):
            Probability that the engine could not assign to labels or other text, 0 unless a server returned the most
            likely tokens only. The labels with NaN hold at most this much.
        num_tokens (`int`):
            Generated tokens, the closing EOS included.
        entropy (`float`, *optional*):
            Mean entropy of the distributions that the completion's tokens were drawn from, in nats; `None` where the
            engine does not see them.
        normalized (`bool`):
            Whether `expected_score` is divided by `mass`: the judge's own choice, and the default for a model that was never trained
            as a judge (see [`~real_trl.judge_source.find_judge`]).
        error (`str`, *optional*):
            Why the judgment is unscored, in the server's words if it is one that refuses. In an average, why some of its samples are.
        thinking (`str`):
            What the judge thought before it answered, without its tags; empty if it does not think.
        samples (`list[Judgment]`):
            The judgments that were averaged, if there are several.
    """

    completion: str
    rationale: str
    status: str
    sampled_score: float | None
    most_likely_score: float | None
    expected_score: float | None
    probabilities: list[float] | None
    spread: float | None
    mass: float | None
    missing_mass: float
    prompt_tokens: int
    num_tokens: int
    entropy: float | None = None
    normalized: bool = False
    error: str | None = None
    thinking: str = ""
    samples: "list[Judgment]" = field(default_factory=list, repr=False)

    @classmethod
    def unscored(
        cls,
        error: str,
        completion: str = "",
        *,
        said: Spoken = NOTHING,
        prompt_tokens: int = 0,
        num_tokens: int = 0,
        normalized: bool = False,
    ) -> "Judgment":
        """A judgment that is none, because of `error`; the other arguments are what is known in spite of it."""
        return cls(
            completion=completion,
            rationale=said.rationale,
            thinking=said.thinking,
            status=UNSCORED,
            **dict.fromkeys(_SCORES),
            missing_mass=0.0,
            prompt_tokens=prompt_tokens,
            num_tokens=num_tokens,
            normalized=normalized,
            error=error,
        )

    @classmethod
    def from_distribution(
        cls,
        completion: str,
        location: ScoreLocation,
        score_log_probs: torch.Tensor | None,
        space: ScoreSpace,
        *,
        normalize: bool,
        prompt_tokens: int,
        num_tokens: int,
        missing_mass: float = 0.0,
        entropy: float | None = None,
        said: Spoken | None = None,
        fault: str | None = None,
    ) -> "Judgment":
        """
        Judgment of a completion whose score distribution is known. Whatever the engine, numbers that are no distribution (see
        [`~real_trl.engines.distribution_checks.impossible`]) make it unscored, so that no mean lies outside of the scale's ends times the mass on the labels.

        Args:
            location ([`ScoreLocation`]):
                Where its score stands, if it does.
            score_log_probs (`torch.Tensor` of shape `(L,)`, *optional*):
                `log π(k | x, c)` of every label, NaN where it is not known (then `missing_mass` is above 0); `None` leaves the
                scores empty.
            space ([`ScoreSpace`]):
                The `L` labels and their values.
            normalize (`bool`):
                Divide the expectation by the mass on the labels.
            prompt_tokens, num_tokens, missing_mass, entropy:
                See [`Judgment`].
            said ([`Spoken`], *optional*):
                Thinking and rationale, by default as they stand in `completion`.
            fault (`str`, *optional*):
                Why the engine's numbers are no distribution, if it has found that already.
        """
        scores = dict.fromkeys(_SCORES)
        said = spoken_text(space, completion) if said is None else said
        if fault is None and score_log_probs is not None:
            fault = impossible(score_log_probs.double(), missing_mass, space.labels)
        if fault is not None:
            return cls.unscored(
                fault,
                completion,
                said=said,
                prompt_tokens=prompt_tokens,
                num_tokens=num_tokens,
                normalized=normalize,
            )
        if score_log_probs is not None:
            known = score_log_probs.double()
            # What rounding puts above 1 is taken off all labels alike
            known = known.clamp(max=0) - known.clamp(max=0).exp().nansum().log().clamp(min=0)
            probabilities = known.exp().tolist()
            known = known.nan_to_num(nan=-torch.inf)
            values = known.new_tensor(space.values)
            best = int(known.argmax())
            decoded = location.label_index if location.ok else best
            mass = known.exp().sum()
            mean = expected_score(known, values, normalize=True)
            spread = (((values - mean) ** 2 * known.exp()).sum() / mass).sqrt().item()
            scores = {
                "sampled_score": space.values[decoded],
                "most_likely_score": space.values[best],
                "expected_score": expected_score(known, values, normalize).item(),
                "probabilities": probabilities,
                "spread": spread,
                "mass": mass.item(),
            }
        return cls(
            completion=completion,
            rationale=said.rationale,
            thinking=said.thinking,
            status=location.status,
            **scores,
            missing_mass=missing_mass,
            prompt_tokens=prompt_tokens,
            num_tokens=num_tokens,
            entropy=entropy,
            normalized=normalize,
        )


def check_num_samples(num_samples: int, do_sample: bool) -> None:
    """`ValueError` unless that many completions of one prompt make sense."""
    if not isinstance(num_samples, int) or num_samples < 1:
        raise FieldError("num_samples", num_samples, "Set it to at least 1.")
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
