# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a judge prompt to the tokens that a model reads, within what the model can read."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from real_trl.engines.base import Decoding, PromptError
from real_trl.option_values import FieldError
from real_trl.prompts.answer import AnswerOpening
from real_trl.prompts.context_length import completion_room
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import PromptFormat
from real_trl.score_space import ScoreSpace
from real_trl.text.unicode import well_formed


class PromptEncoder:
    """
    Encodes prompts the way the judge was trained ([`PromptEncoding`]), within what the model can read.

    Args:
        space ([`ScoreSpace`]):
            Scale and marker, which a malformed completion has to have room for.
        decoding ([`Decoding`]):
            The format of the prompts, `max_new_tokens` and `truncate_prompts` are used.
        context_length (`int`, *optional*):
            Tokens that the model can read, completion included; `None` where it has no limit.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, space: ScoreSpace, decoding: Decoding, context_length: int | None
    ) -> None:
        self.tokenizer, self.decoding, self.context_length = tokenizer, decoding, context_length
        self._answer = completion_room(space, 0, forced=True)  # without a rationale
        self._completion = completion_room(space, decoding.max_new_tokens, decoding.malformed == "force")
        self.encoding = PromptEncoding(tokenizer, PromptFormat.of(decoding))
        self._label = max(space.tree.depths, default=0)
        self.opening = AnswerOpening(self.encoding, space)

    def __call__(self, prompts: Sequence[str]) -> list[list[int]]:
        """
        Token ids of each prompt, in the chat template if the judge uses one.

        Raises:
            `ValueError`: if a prompt and the longest completion do not fit the model, unless `truncate_prompts` is set.
        """
        return self._fitted(prompts, self._kept)[1]

    def with_openings(
        self, prompts: Sequence[str], rationales: Sequence[str] | None = None
    ) -> list[tuple[list[int], list[int]]]:
        """
        Token ids of each prompt, and of its answer up to the label ([`AnswerOpening`]), with `rationales` or by default without.

        Raises:
            `ValueError`: as above; [`PromptError`] if prompt and answer do not fit the model.
        """
        prompts, encoded = self._fitted(prompts, self._answer)
        rationales = [""] * len(prompts) if rationales is None else rationales
        openings = [self.opening(*pair) for pair in zip(prompts, rationales, strict=True)]
        for index, (ids, opening) in enumerate(zip(encoded, openings, strict=True)):
            size = len(ids) + len(opening) + self._label
            if self.context_length is not None and size > self.context_length:
                said = f" has {size} tokens with its rationale and a label, and the model reads {self.context_length}. Shorten them."
                raise PromptError(index, said)
        return list(zip(encoded, openings, strict=True))

    def texts(self, prompts: Sequence[str]) -> list[str]:
        """Each prompt as text for a server that makes tokens of it itself, see [`PromptEncoding.texts`]; errors as above."""
        return self.encoding.texts(self._fitted(prompts, self._kept)[0])

    @property
    def _kept(self) -> int:
        return self._completion if self.decoding.rationale else self._answer

    def _fitted(self, prompts: Sequence[str], kept: int) -> tuple[list[str], list[list[int]]]:
        """The prompts, cut where they are too long with `kept` tokens behind them, and may be, and their token ids."""
        prompts, encoded = list(prompts), self.encoding(prompts)
        if self.context_length is None:
            return prompts, encoded
        room = self.context_length - kept
        long = [index for index, ids in enumerate(encoded) if len(ids) > room]
        if long and (room < 1 or not self.decoding.truncate_prompts):
            raise self._too_long(encoded, long, room, kept)
        for index in long:
            prompts[index], encoded[index] = self._cut(prompts[index], len(encoded[index]) - room, room)
        return prompts, encoded

    def _cut(self, prompt: str, excess: int, room: int) -> tuple[str, list[int]]:
        """The prompt without its beginning; the chat template around it stays whole."""
        prompt = well_formed(prompt)
        while prompt:
            inner = self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            prompt = prompt[inner[max(excess, 1)][0] :] if len(inner) > max(excess, 1) else ""
            ids = self.encoding([prompt])[0]
            if len(ids) <= room:
                return prompt, ids
            excess = len(ids) - room
        said = f": the chat template alone has more than the {room} tokens that are left beside the completion"
        raise FieldError("truncate_prompts", True, "Lower max_new_tokens.", said)

    def _too_long(self, encoded: Sequence[list[int]], long: Sequence[int], room: int, kept: int) -> ValueError:
        first = long[0]
        what = "completion" if kept == self._completion else "score"
        limit = f"The model reads {self.context_length} tokens, of which {kept} are kept for the {what}"
        if room < 1:
            said = f": {limit}, and none is left for a prompt"
            return FieldError("max_new_tokens", self.decoding.max_new_tokens, "Lower max_new_tokens.", said)
        size = len(encoded[first])
        more = f", and {len(long) - 1} more prompts" if len(long) > 1 else ""
        lower = "lower max_new_tokens, " if kept == self._completion else ""
        return PromptError(
            first,
            f" has {size} tokens, {size - room} too many{more}. {limit}. Shorten the prompt, {lower}or set truncate_prompts to true, which cuts "
            "a prompt's beginning.",
        )
