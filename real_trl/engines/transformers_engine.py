# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Judging with Transformers in one pass: the rationale and the score distribution come from the same generation. At every
step the log-probabilities of the labels are recorded, `L` numbers a completion, so there is no second forward to read
the score.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from trl.trainer.utils import pad

from real_trl.metrics import MalformedHandling
from real_trl.objectives import expected_score
from real_trl.prompts import plain_prompt
from real_trl.score_space import ScoreSpace

MALFORMED_HANDLING = get_args(MalformedHandling)


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
            `π(k | x, c)` of every label, over the whole vocabulary.
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
        """Probability on the labels; what is missing to 1 went to other tokens."""
        return None if self.probabilities is None else sum(self.probabilities)


class _LabelRecorder(LogitsProcessor):
    """Records the labels' log-probabilities at temperature `temperature` before any top-p or top-k truncation."""

    def __init__(self, label_ids: Tensor, temperature: float) -> None:
        self.label_ids, self.temperature = label_ids, temperature
        self.steps: list[Tensor] = []  # each (N, L)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        logits = scores.float() / self.temperature
        self.steps.append(logits[:, self.label_ids] - logits.logsumexp(-1, keepdim=True))
        return scores


@contextmanager
def _no_decoding_defaults(model: PreTrainedModel) -> Iterator[None]:
    """
    `generate` fills whatever a generation config leaves open from the model's own, such as an instruction-tuned
    model's repetition penalty. That would change the CoT's policy and the recorded score distribution, so it is put
    aside meanwhile.
    """
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


class TransformersEngine:
    """
    Generates judgments with a Transformers model.

    Args:
        model ([`~transformers.PreTrainedModel`]):
            Causal LM, on the device where it is to run.
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Its tokenizer.
        score_space ([`ScoreSpace`]):
            Scale and marker.
        chat (`bool`, *optional*, defaults to `False`):
            Wrap each prompt in the tokenizer's chat template as one user message.
        temperature (`float`, *optional*, defaults to `1.0`):
            Temperature of the CoT and of the score distribution.
        do_sample (`bool`, *optional*, defaults to `True`):
            Sample the completion; `False` decodes greedily.
        top_p (`float`, *optional*, defaults to `1.0`):
            Nucleus of the sampled CoT. The score distribution is never truncated.
        max_new_tokens (`int`, *optional*, defaults to `1024`):
            Longest completion.
        batch_size (`int`, *optional*, defaults to `8`):
            Prompts per generation batch.
        malformed (`str`, *optional*, defaults to `"force"`):
            `"force"`: append the marker to a completion without a score and read the distribution there. `"drop"`:
            leave the scores empty.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        score_space: ScoreSpace,
        *,
        chat: bool = False,
        temperature: float = 1.0,
        do_sample: bool = True,
        top_p: float = 1.0,
        max_new_tokens: int = 1024,
        batch_size: int = 8,
        malformed: str = "force",
    ) -> None:
        if malformed not in MALFORMED_HANDLING:
            raise ValueError(f"malformed: got {malformed!r}. Set it to one of: {', '.join(MALFORMED_HANDLING)}.")
        self.model, self.tokenizer, self.score_space = model.eval(), tokenizer, score_space
        self.chat, self.temperature, self.batch_size, self.malformed = chat, temperature, batch_size, malformed
        eos = model.generation_config.eos_token_id
        eos = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        self.stop_ids = list(dict.fromkeys([tokenizer.eos_token_id, *eos]))
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.generation_config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=do_sample,
            temperature=temperature if do_sample else None,
            top_p=top_p if do_sample else None,
            top_k=0 if do_sample else None,
            pad_token_id=self.pad_id,
            eos_token_id=self.stop_ids,
        )
        self._label_ids = torch.tensor(score_space.token_ids, device=model.device)
        self._values = torch.tensor(score_space.values, device=model.device, dtype=torch.float32)

    def tokenize(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, in the chat template if the judge uses one."""
        if self.chat:
            messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        return self.tokenizer([plain_prompt(prompt) for prompt in prompts])["input_ids"]

    def judge(self, prompts: Sequence[str]) -> Iterator[tuple[int, Judgment]]:
        """
        Judge `prompts`, in batches of similar length.

        Args:
            prompts (`Sequence[str]`):
                Complete judge prompts.

        Yields:
            `(index, judgment)`: index into `prompts`, longest prompts first.
        """
        prompt_ids = self.tokenize(prompts)
        order = sorted(range(len(prompts)), key=lambda i: -len(prompt_ids[i]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield from zip(batch, self._judge_batch([prompt_ids[i] for i in batch]), strict=True)

    @torch.no_grad()
    def _judge_batch(self, prompt_ids: list[list[int]]) -> list[Judgment]:
        recorder = _LabelRecorder(self._label_ids, self.temperature)
        inputs = self._left_padded(prompt_ids)
        with _no_decoding_defaults(self.model):
            sequences = self.model.generate(
                **inputs, generation_config=self.generation_config, logits_processor=LogitsProcessorList([recorder])
            )
        completions = [self._until_stop(ids) for ids in sequences[:, inputs["input_ids"].size(1) :].tolist()]
        locations = [self.score_space.locate(ids) for ids in completions]
        recorded = torch.stack(recorder.steps, dim=1)  # (N, steps, L)
        score_log_probs = [
            recorded[row, location.position] if location.ok else None for row, location in enumerate(locations)
        ]
        malformed = [row for row, location in enumerate(locations) if not location.ok]
        if malformed and self.malformed == "force":
            forced = self._force([prompt_ids[row] + self._without_stop(completions[row]) for row in malformed])
            for row, log_probs in zip(malformed, forced, strict=True):
                score_log_probs[row] = log_probs
        return [
            self._judgment(ids, location, log_probs)
            for ids, location, log_probs in zip(completions, locations, score_log_probs, strict=True)
        ]

    def _judgment(self, ids: list[int], location: Any, log_probs: Tensor | None) -> Judgment:
        sampled = expected = probabilities = None
        if log_probs is not None:
            label = location.label_index if location.ok else int(log_probs.argmax())
            sampled = self.score_space.values[label]
            expected = expected_score(log_probs, self._values).item()
            probabilities = log_probs.exp().tolist()
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        return Judgment(text, location.status, sampled, expected, probabilities, len(ids))

    def _force(self, sequences: list[list[int]]) -> Tensor:
        """Label log-probabilities `(N, L)` after the marker, appended to each sequence."""
        inputs = self._left_padded([ids + list(self.score_space.marker_ids) for ids in sequences])
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        logits = (
            self.model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, -1].float() / self.temperature
        )
        return logits[:, self._label_ids] - logits.logsumexp(-1, keepdim=True)

    def _left_padded(self, sequences: list[list[int]]) -> dict[str, Tensor]:
        ids = [torch.tensor(sequence) for sequence in sequences]
        return {
            "input_ids": pad(ids, self.pad_id, "left").to(self.model.device),
            "attention_mask": pad([torch.ones_like(x) for x in ids], 0, "left").to(self.model.device),
        }

    def _until_stop(self, ids: list[int]) -> list[int]:
        stop = next((i for i, token in enumerate(ids) if token in self.stop_ids), len(ids))
        return ids[: stop + 1]

    def _without_stop(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self.stop_ids else ids
