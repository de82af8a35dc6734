# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What every engine does: judge prompts, one completion each, with the score distribution read in the same pass."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import torch

from real_trl.metrics import MalformedHandling
from real_trl.objectives import expected_score
from real_trl.score_space import ScoreLocation, ScoreSpace

MALFORMED_HANDLING = get_args(MalformedHandling)
ENGINES = ("transformers", "vllm")


@dataclass
class Judgment:
    """
    What a judge said about one prompt.

    Attributes:
        completion (`str`):
            Rationale and score, as generated.
        status (`str`):
            `"ok"`, or why the completion holds no score (see [`ScoreLocation`]).
        sampled_score (`float`, *optional*):
            Value of the score that was decoded ("standard" inference). In a malformed completion, the most likely
            label at the forced marker, or `None` when malformed completions are dropped.
        expected_score (`float`, *optional*):
            RAIL prediction `ŷ = Σ_k k · π(k | x, c)` (Alg. 1), or `None` as above.
        probabilities (`list[float]`, *optional*):
            `π(k | x, c)` of every label, in the order of the labels, over the whole vocabulary. That of a label of
            several tokens is exact (see [`LabelTree`]).
        num_tokens (`int`):
            Generated tokens, the closing EOS included.
    """

    completion: str
    status: str
    sampled_score: float | None
    expected_score: float | None
    probabilities: list[float] | None
    num_tokens: int

    @property
    def mass(self) -> float | None:
        """Probability on the labels; what is missing to 1 went to other text."""
        return None if self.probabilities is None else sum(self.probabilities)

    @classmethod
    def from_distribution(
        cls,
        completion: str,
        location: ScoreLocation,
        score_log_probs: torch.Tensor | None,
        num_tokens: int,
        space: ScoreSpace,
        normalize: bool,
    ) -> "Judgment":
        """
        Judgment of a completion whose score distribution is known.

        Args:
            completion (`str`):
                Text of the completion.
            location ([`ScoreLocation`]):
                Where its score stands, if it does.
            score_log_probs (`torch.Tensor` of shape `(L,)`, *optional*):
                `log π(k | x, c)` of every label; `None` leaves the scores empty.
            num_tokens (`int`):
                Generated tokens.
            space ([`ScoreSpace`]):
                The `L` labels and their values.
            normalize (`bool`):
                Divide the expectation by the mass on the labels.
        """
        if score_log_probs is None:
            return cls(completion, location.status, None, None, None, num_tokens)
        values = score_log_probs.new_tensor(space.values)
        label = location.label_index if location.ok else int(score_log_probs.argmax())
        return cls(
            completion=completion,
            status=location.status,
            sampled_score=space.values[label],
            expected_score=expected_score(score_log_probs, values, normalize).item(),
            probabilities=score_log_probs.exp().tolist(),
            num_tokens=num_tokens,
        )


class Engine(Protocol):
    """
    Something that judges. Scripts know no more about an engine than this.

    Attributes:
        score_space ([`ScoreSpace`]):
            Scale and marker.
    """

    score_space: ScoreSpace

    def judge(self, prompts: Sequence[str], seed: int | None = None) -> Iterator[tuple[int, Judgment]]:
        """
        Judge `prompts`, one completion each.

        Args:
            prompts (`Sequence[str]`):
                Complete judge prompts.
            seed (`int`, *optional*):
                Makes the sampling repeatable: the same engine, prompts and seed give the same judgments. By default the
                sampling goes on from wherever the engine's random numbers are.

        Yields:
            `(index, judgment)`: index into `prompts`, in any order.
        """
        ...
