# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From a judge prompt to the tokens that a model reads, within what the model can read."""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from real_trl.context_length import completion_room
from real_trl.engines.base import Decoding
from real_trl.prompts import plain_prompt
from real_trl.score_space import ScoreSpace


class PromptEncoder:
    """
    Encodes prompts the way the judge was trained.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The judge's tokenizer.
        space ([`ScoreSpace`]):
            Scale and marker, which a malformed completion has to have room for.
        decoding ([`Decoding`]):
            `chat`, `max_new_tokens` and `truncate_prompts` are used.
        context_length (`int`, *optional*):
            Tokens that the model can read, completion included; `None` where it has no limit.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, space: ScoreSpace, decoding: Decoding, context_length: int | None
    ) -> None:
        self.tokenizer, self.decoding, self.context_length = tokenizer, decoding, context_length
        self._completion = completion_room(space, decoding.max_new_tokens, decoding.malformed == "force")

    def __call__(self, prompts: Sequence[str]) -> list[list[int]]:
        """
        Token ids of each prompt, in the chat template if the judge uses one.

        Raises:
            `ValueError`: if a prompt and the longest completion do not fit the model, unless `truncate_prompts` is set.
        """
        encoded = self._encode(prompts) if prompts else []
        if self.context_length is None:
            return encoded
        room = self.context_length - self._completion
        long = [index for index, ids in enumerate(encoded) if len(ids) > room]
        if long and (room < 1 or not self.decoding.truncate_prompts):
            raise ValueError(self._too_long(encoded, long, room))
        for index in long:
            encoded[index] = self._truncated(prompts[index], len(encoded[index]) - room, room)
        return encoded

    def _encode(self, prompts: Sequence[str]) -> list[list[int]]:
        if self.decoding.chat:
            messages = [[{"role": "user", "content": prompt}] for prompt in prompts]
            return self.tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        return self.tokenizer([plain_prompt(prompt) for prompt in prompts])["input_ids"]

    def _truncated(self, prompt: str, excess: int, room: int) -> list[int]:
        """The prompt without its beginning; the chat template around it stays whole."""
        while prompt:
            inner = self.tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
            prompt = prompt[inner[max(excess, 1)][0] :] if len(inner) > max(excess, 1) else ""
            ids = self._encode([prompt])[0]
            if len(ids) <= room:
                return ids
            excess = len(ids) - room
        raise ValueError(
            f"truncate_prompts: the chat template alone has more than the {room} tokens that are left beside the completion. "
            "Lower max_new_tokens."
        )

    def _too_long(self, encoded: Sequence[list[int]], long: Sequence[int], room: int) -> str:
        first = long[0]
        limit = (
            f"The model reads {self.context_length} tokens, of which {self._completion} are kept for the completion"
        )
        if room < 1:
            return f"max_new_tokens: {limit}, and none is left for a prompt. Lower max_new_tokens."
        size = len(encoded[first])
        more = f", and {len(long) - 1} more prompts" if len(long) > 1 else ""
        return (
            f"prompt {first} (counted from 0) has {size} tokens, {size - room} too many{more}. {limit}. Shorten the "
            "prompt, lower max_new_tokens, or set truncate_prompts to true, which cuts a prompt's beginning."
        )
