# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Where a model's thinking ends and its answer begins.

Models that think write it between two tags, `<think> … </think>`, and then answer. What stands between them is part of the
chain of thought, but no answer: a judge that thinks "so the overall score is 5?" has not said so. One rule holds everywhere
([`ThinkingTags.answer_start`]): the answer begins after the last closing tag, and a block that is not closed has none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from real_trl.text.tokens import raw_ids, raw_text

THINKING_HELP = "Tags around the judge's thinking, as '<think> </think>', or none. Default: the judge's own, else as its tokenizer has them."
_QUOTES = "\"'`“‘«("
_TAIL = 48  # tokens of a prompt that may hold the tag it ends with, and blanks


@dataclass(frozen=True)
class ThinkingTags:
    """
    What stands around a block of thinking.

    Attributes:
        opening, closing (`str`): The tags. The prompt may end with the opening one, so that a completion has the closing one only.
        lead, tail (`str`): What models write before and after the closing tag, where one has to be written for them.
    """

    opening: str
    closing: str
    lead: str = "\n"
    tail: str = "\n\n"

    def answer_start(self, text: str, opened: bool = False) -> int | None:
        """
        Where the answer begins in `text`: after the last closing tag, at 0 if nothing was thought, `None` if the thinking does
        not end. With `opened`, the prompt has opened a block.
        """
        closed = text.rfind(self.closing)
        if text.rfind(self.opening) > closed or (closed < 0 and opened):
            return None
        return 0 if closed < 0 else closed + len(self.closing)

    @property
    def close(self) -> str:
        """What ends a block so that an answer can follow."""
        return self.lead + self.closing + self.tail

    def begins(self, text: str) -> bool:
        """
        Whether `text` is that of a model which thinks between these tags, as far as it shows: the first of them begins a line, or
        closes what the prompt has opened. Within a line an opening tag is a quote.
        """
        if self.ends_what_a_prompt_opened(text):
            return True
        opening = text.find(self.opening)
        return opening >= 0 and not text[:opening].rpartition("\n")[2].strip()

    def ends_what_a_prompt_opened(self, text: str) -> bool:
        """Whether a block ends in `text` that has not begun there."""
        opening, closing = text.find(self.opening), text.find(self.closing)
        return closing >= 0 and (opening < 0 or closing < opening)

    def shows_an_opened_prompt(self, text: str) -> bool:
        """
        Whether `text` is evidence that prompts open a block: it ends one that has not begun there, and the tag is no quote within a
        sentence, as in "write `</think>` and then the answer".
        """
        if not self.ends_what_a_prompt_opened(text):
            return False
        before, _, after = text.partition(self.closing)
        line = before.rpartition("\n")[2]
        return not line.strip() or (line[-1] not in _QUOTES and re.match(r"[^\S\n]+\S", after) is None)

    def without(self, block: str) -> str:
        """The text of a block of thinking, without its first and its last tag."""
        return block.strip().removeprefix(self.opening).removesuffix(self.closing).strip()

    def is_written_by(self, tokenizer: PreTrainedTokenizerBase) -> bool:
        """Whether both tags survive the tokenizer."""
        return all(text in raw_text(tokenizer, raw_ids(tokenizer, text)) for text in (self.opening, self.closing))


# Tags that are words: any model may be told to write them
WORDS = tuple(ThinkingTags(f"<{word}>", f"</{word}>") for word in ("think", "thinking", "thought"))
# Tags that are tokens of their own in the models that have them
KNOWN = (
    *WORDS,
    ThinkingTags("<seed:think>", "</seed:think>"),  # Seed-OSS
    ThinkingTags("[THINK]", "[/THINK]", lead="", tail=""),  # Magistral
    ThinkingTags("◁think▷", "◁/think▷"),  # Kimi
    # gpt-oss: the answer is another channel
    ThinkingTags(
        "<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>", lead="", tail=""
    ),
)


@dataclass(frozen=True)
class Thinking:
    """
    How a model thinks. Get it with [`Thinking.of`].

    Attributes:
        tags ([`ThinkingTags`], *optional*): Its own tags: stated, or those of its tokenizer or chat template.
        watchful (`bool`): Without tags of its own, whether a completion that [`begins`][ThinkingTags.begins] to think between known
            ones is believed to. `False` takes all of every completion for the answer.
    """

    tags: ThinkingTags | None = None
    watchful: bool = True

    @classmethod
    def of(cls, stated: "Thinking | str | Sequence[str] | None", tokenizer: PreTrainedTokenizerBase) -> "Thinking":
        """
        How the model of `tokenizer` thinks.

        Args:
            stated ([`Thinking`], `str` or `Sequence[str]`, *optional*):
                Both tags, in a list or in one text with a blank between them; `"none"` or an empty list for a model that does not
                think. By default the known tags that the tokenizer has as tokens, or that its chat template writes.

        Raises:
            `ValueError`: if these are not two different tags, or the tokenizer cannot write them.
        """
        if isinstance(stated, Thinking):
            return stated
        if stated is None:
            return cls(_tags_of(tokenizer))
        texts = tag_list(stated)
        if not texts:
            return cls(watchful=False)
        fault = None
        if len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            fault = "is no pair of tags"
        elif texts[0] in texts[1] or texts[1] in texts[0]:
            fault = "has one tag in the other, which cannot be told apart then"
        else:
            known = (tags for tags in KNOWN if [tags.opening, tags.closing] == texts)
            tags = next(known, ThinkingTags(*texts))
            if not tags.is_written_by(tokenizer):
                fault = "does not survive the tokenizer"
        if fault:
            raise ValueError(
                f"thinking: {stated!r} {fault}. Set it to the two tags around the model's thinking, such as '<think> </think>', or "
                "to none if it does not think."
            )
        return cls(tags)

    @property
    def stated(self) -> list[str] | None:
        """What [`Thinking.of`] makes this of: both tags, an empty list, or `None` where nothing is known."""
        if self.tags is None:
            return None if self.watchful else []
        return [self.tags.opening, self.tags.closing]

    def opened_by(self, prompt: str) -> ThinkingTags | None:
        """The tags of the block that a prompt opens, that is, ends with the opening tag of, if it does."""
        prompt = prompt.rstrip()
        return next((tags for tags in self.possible if prompt.endswith(tags.opening)), None)

    def opened_by_ids(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> ThinkingTags | None:
        """[`opened_by`][Thinking.opened_by] of a prompt in tokens."""
        tail = prompt_ids[-_TAIL:]
        opened = self.opened_by(raw_text(tokenizer, tail)) if self.possible else None
        if opened is None:
            return None
        token = tokenizer.get_added_vocab().get(opened.opening)
        # The same characters in the text of a user are not that token, and open nothing
        return opened if token is None or token in tail else None

    def tags_in(self, completion: str, opened: ThinkingTags | None = None) -> ThinkingTags | None:
        """The tags between which a completion thinks, if it can: those that the prompt has opened, the model's own, or known ones."""
        if opened is not None or self.tags is not None:
            return opened or self.tags
        return next((tags for tags in self.possible if tags.begins(completion)), None)

    def answer_start(self, completion: str, opened: ThinkingTags | None = None) -> int | None:
        """
        Where the answer begins in the text of a completion, control tokens included: 0 without thinking, `None` if the thinking does
        not end. `opened` are the tags of the block that the prompt has opened.
        """
        tags = self.tags_in(completion, opened)
        return 0 if tags is None else tags.answer_start(completion, opened is not None)

    @property
    def possible(self) -> tuple[ThinkingTags, ...]:
        """All tags between which the model may think: its own, or else those that are words."""
        return (self.tags,) if self.tags is not None else WORDS if self.watchful else ()


def tags_to_strip(stated: bool | str | Sequence[str]) -> tuple[ThinkingTags, ...]:
    """
    Tags that [`without_thinking`] looks for in texts of models that are not known: all known ones with `True`, none with `False`, or
    the two that are given; `ValueError` if they are no pair.
    """
    if isinstance(stated, bool):
        return KNOWN if stated else ()
    texts = tag_list(stated)
    if not texts or len(texts) != 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(
            f"strip_thinking: got {stated!r}. Set it to true, to false, or to the two tags, such as ['<think>', '</think>']."
        )
    return (ThinkingTags(*texts),)


def without_thinking(
    text: str, tags: Sequence[ThinkingTags] = KNOWN, opened: ThinkingTags | None = None
) -> str | None:
    """
    The answer in a text of any model: what follows its thinking, all of it if it does not begin to think (see
    [`ThinkingTags.begins`]), `None` if the thinking does not end. `opened` are the tags of a block that its prompt has opened.
    """
    found = opened or next((each for each in tags if each.begins(text)), None)
    start = 0 if found is None else found.answer_start(text, opened is not None)
    if start is None:
        return None
    return text[start:].lstrip() if start else text


def tag_list(stated: str | Sequence[str] | None) -> list[str] | None:
    """What is stated about a model's thinking (see [`Thinking.of`]), as a list of tags; `None` if nothing is."""
    if stated is None:
        return None
    texts = stated.split() if isinstance(stated, str) else list(stated)
    return [] if texts == ["none"] else texts


def _tags_of(tokenizer: PreTrainedTokenizerBase) -> ThinkingTags | None:
    vocabulary = tokenizer.get_vocab()
    template = tokenizer.chat_template or ""
    template = " ".join(template.values()) if isinstance(template, dict) else template
    for tags in KNOWN:
        if tags.opening in vocabulary and tags.closing in vocabulary:
            return tags
    written = (tags for tags in KNOWN if tags.opening in template or tags.closing in template)
    return next((tags for tags in written if tags.is_written_by(tokenizer)), None)
