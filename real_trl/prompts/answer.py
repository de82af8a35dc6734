# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The answer that a judge is trained to give, and how it goes on from the prompt: the same in training and where it is read."""

from functools import partial

from real_trl.option_values import FieldError
from real_trl.prompts.allowed_controls import own_words
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import Messages
from real_trl.prompts.template import plain_prompt
from real_trl.score_space import ScoreSpace


def answer_text(rationale: str, label: str, marker: str) -> str:
    """Rationale, marker and label; marker and label alone for an empty rationale."""
    return f"{rationale} {marker}{label}".lstrip()


def answer_to(prompt: str, answer: str, chat: bool) -> str | Messages:
    """`answer` as it goes on from `prompt`: a message of a chat, or text, behind a blank unless the prompt ends a line."""
    if chat:
        return [{"role": "assistant", "content": answer}]
    return answer if plain_prompt(prompt).endswith("\n") else " " + answer


class AnswerOpening:
    """
    Tokens of an answer up to its label, as training has them: rationale and marker, so that a label is next.

    Args:
        encoding ([`PromptEncoding`]):
            Of the prompts.
        space ([`ScoreSpace`]):
            Marker and labels.
    """

    def __init__(self, encoding: PromptEncoding, space: ScoreSpace) -> None:
        self.encoding, self.space = encoding, space
        self._without_rationale: dict[bool, list[int]] = {}

    def __call__(self, prompt: str, rationale: str = "") -> list[int]:
        """
        Tokens that follow `prompt`.

        Raises:
            ValueError: if the chat template leaves a block of thinking open, or label and rationale cannot be told apart.
        """
        if rationale:
            return self._tokens(prompt, rationale)
        # Whatever else the prompt says does not change how an answer begins
        ends_line = not self.encoding.format.chat and plain_prompt(prompt).endswith("\n")
        if ends_line not in self._without_rationale:
            self._without_rationale[ends_line] = self._tokens("x\n" if ends_line else "x", "")
        return self._without_rationale[ends_line]

    def _tokens(self, prompt: str, rationale: str) -> list[int]:
        space, prompt = self.space, plain_prompt(prompt)
        opened = space.thinking.opened_by(self.encoding.generation_tail)
        answer = answer_to(prompt, answer_text(rationale, space.labels[0], space.marker), self.encoding.format.chat)
        words = partial(own_words, space, opened=opened)
        _, ids = self.encoding.with_completion(prompt, answer, words)
        location = space.locate(ids, opened=opened)
        if not location.ok or location.label_index != 0:
            said = (
                f"={space.marker!r}: no label is found behind {space.tokenizer.decode(ids)!r:.200} ({location.status})"
            )
            raise FieldError("score_marker", space.marker, "Use a marker that is text of its own.", said)
        return ids[: location.position]
