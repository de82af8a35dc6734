# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a judge says about one prompt."""

import textwrap
from dataclasses import dataclass, field
from typing import Any

import torch

from real_trl.engines.distribution_checks import impossible
from real_trl.evaluation.unscored import UNSCORED
from real_trl.objectives import expected_score
from real_trl.prompts.completion_parts import NOTHING, Spoken, spoken_text
from real_trl.score_space import ScoreLocation, ScoreSpace

_NO_SCORES: dict[str, Any] = dict.fromkeys(
    ("sampled_score", "most_likely_score", "expected_score", "probabilities", "spread", "mass")
)
_SHOWN_LABELS, _SHOWN_TEXT = 7, 80  # in one line


@dataclass(repr=False)
class Judgment:
    """
    What a judge said about one prompt. The scores are `None` in a malformed completion that was dropped, and where there is no
    answer to score.

    Attributes:
        completion (`str`):
            Rationale and score, as generated; empty where nothing was, as by a direct judge.
        rationale (`str`):
            What precedes the marker, and follows the thinking; without a marker, all that follows the thinking.
        status (`str`):
            `"ok"`, or why the completion holds no score (see [`ScoreLocation`]). `"unscored"`: the engine gave no answer, or one
            whose probabilities cannot be; that says nothing about the judge, and `error` says why.
        sampled_score (`float`, *optional*):
            Value of the score that was decoded ("standard" inference). In a malformed completion, the most likely
            label at the forced marker; the same where nothing is decoded, as by a direct judge.
        most_likely_score (`float`, *optional*):
            Value of the most likely label.
        expected_score (`float`, *optional*):
            RAIL prediction `ŷ = Σ_k k · π(k | x, c)` (Alg. 1), divided by `mass` if `normalized`.
        probabilities (`dict[str, float]`, *optional*):
            Label → `π(k | x, c)`, in the order of the labels, over the whole vocabulary. That of a label of
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
        interval (`list[float]`, *optional*):
            Lower and upper end between which the human score lies with the probability that the judge was calibrated for.
        raw (`Judgment`, *optional*):
            Of a calibrated judgment, the judge's own. `expected_score`, `most_likely_score`, `probabilities`, which then sum to 1, and
            `spread` are calibrated; all else is as it was.
    """

    completion: str
    rationale: str
    status: str
    sampled_score: float | None
    most_likely_score: float | None
    expected_score: float | None
    probabilities: dict[str, float] | None
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
    interval: list[float] | None = None
    raw: "Judgment | None" = field(default=None, repr=False)

    def __repr__(self) -> str:
        """The scores, the likeliest labels, and how the rationale begins."""
        said: dict[str, Any] = {"expected_score": self.expected_score, "sampled_score": self.sampled_score}
        said = {name: None if value is None else f"{value:.4g}" for name, value in said.items()}
        if self.interval is not None:
            said["interval"] = f"[{', '.join(f'{end:.4g}' for end in self.interval)}]"
        if self.probabilities is not None:
            likeliest = sorted(self.probabilities, key=lambda label: -(self.probabilities or {})[label])[
                :_SHOWN_LABELS
            ]
            shown = [f"{label!r}: {p:.3f}" for label, p in self.probabilities.items() if label in likeliest]
            said["probabilities"] = "{" + ", ".join(shown) + ", …" * (len(shown) < len(self.probabilities)) + "}"
        said["status"] = repr(self.status)
        for name, text in {"rationale": self.rationale, "error": self.error}.items():
            if text:
                said[name] = repr(textwrap.shorten(text, _SHOWN_TEXT, placeholder=" …"))
        if self.samples:
            said["samples"] = f"{len(self.samples)} judgments"
        return f"Judgment({', '.join(f'{name}={text}' for name, text in said.items())})"

    @property
    def calibrated(self) -> bool:
        """Whether the judge's calibration is in it."""
        return self.raw is not None

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
            **_NO_SCORES,
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
        scores = _NO_SCORES
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
            probabilities = dict(zip(space.labels, known.exp().tolist(), strict=True))
            known = known.nan_to_num(nan=-torch.inf)
            values = known.new_tensor(space.values)
            best = int(known.argmax())
            decoded = best if location.label_index is None else location.label_index
            mass = known.exp().sum().clamp(max=1)
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

    @classmethod
    def read(
        cls,
        score_log_probs: torch.Tensor | None,
        space: ScoreSpace,
        *,
        normalize: bool,
        prompt_tokens: int,
        rationale: str = "",
        missing_mass: float = 0.0,
        fault: str | None = None,
    ) -> "Judgment":
        """
        Judgment whose distribution was read without generation, after a `rationale` that was given or after none. Nothing is decoded:
        the completion is empty, and `sampled_score` is the most likely one. Arguments as of [`Judgment.from_distribution`].
        """
        return cls.from_distribution(
            "",
            ScoreLocation("ok"),
            score_log_probs,
            space,
            normalize=normalize,
            prompt_tokens=prompt_tokens,
            num_tokens=0,
            missing_mass=missing_mass,
            said=Spoken("", rationale),
            fault=fault,
        )
