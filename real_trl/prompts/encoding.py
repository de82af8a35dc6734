# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The one way from prompts to tokens: training, all engines, serving and evaluation read what this makes."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from real_trl.prompts.allowed_controls import Parts
from real_trl.prompts.format import Messages, PromptFormat, answer_message
from real_trl.prompts.template import plain_prompt
from real_trl.templates.day import day_in_templates
from real_trl.templates.limited import TEMPLATE_ERRORS
from real_trl.text.control_tokens import TextEncoder
from real_trl.text.hidden import HiddenText, break_common_controls, break_up
from real_trl.text.json_text import to_json
from real_trl.text.unicode import well_formed

logger = logging.getLogger(__name__)

_TEXT_ARGUMENTS = ("tools", "documents")  # arguments of chat templates that are text, as messages are
_OPENED = re.compile(r"[<\[](\w*(?:think|thought|reason)\w*)[>\]](?!.*[<\[]/\1[>\]])", re.DOTALL | re.IGNORECASE)


class PromptEncoding:
    """
    Prompts as tokens. No text in them becomes a control token ([`TextEncoder`]), and lone surrogates are replaced
    ([`well_formed`]).

    Args:
        prompt_format ([`PromptFormat`]):
            What stands around its prompts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_format: PromptFormat) -> None:
        self.tokenizer, self.format = tokenizer, prompt_format
        self.text = TextEncoder(tokenizer)
        self._told = False

    def __call__(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt, with what the format puts around it; `ValueError` if that is a chat template that is not there."""
        hidden, rendered = self._render(prompts)
        encoded = self.text.encode(rendered, hidden)
        if self.format.chat:
            return encoded
        return [self.text.prefix + ids + self.text.suffix for ids in encoded]

    def with_completion(
        self, prompt: str, completion: str | Messages, words: Callable[[str], Parts] | None = None
    ) -> tuple[list[int], list[int]]:
        """
        Token ids of a prompt, as [`PromptEncoding.__call__`] has them, and of a completion of it, its end included: the
        template's own, or else the tokenizer's end of text.

        Args:
            completion (`str` or `list[dict]`):
                The completion, or the assistant's one message, which may have its reasoning apart (`reasoning_content`). An
                end of text that it closes with is taken for the one that is added.
            words (`Callable`, *optional*):
                Tells which parts of a completion are the judge's own words and may be control tokens, see
                [`~real_trl.prompts.allowed_controls.own_words`]. By default none.

        Raises:
            ValueError: if the chat template leaves something open, such as a reasoning block, that the completion would be in,
                or writes something else than the completion behind the prompt.
        """
        prompt = well_formed(prompt)
        message = {name: well_formed(text) for name, text in answer_message(completion).items()}
        content = message.pop("content").removesuffix(self.tokenizer.eos_token or "")
        parts = words(content) if words else [(content, False)]
        hidden = self._hidden([prompt, content, *message.values()])
        written = [text if own else hidden.hide(text) for text, own in parts]
        if self.format.chat:
            reasoning = {name: hidden.hide(text) for name, text in message.items()}
            closed = max((i for i, (_, own) in enumerate(parts[:-1]) if own), default=None)
            first, second = self._chat_pair(prompt, written, closed, reasoning, hidden)
        elif message:
            raise ValueError(
                f"column 'completion' has {next(iter(message))!r}, but prompts do not go through a chat template."
            )
        elif not self.tokenizer.eos_token:
            raise ValueError("eos_token: the tokenizer has none, so that no completion would end. Set its eos_token.")
        else:
            plain = plain_prompt(prompt)  # blanks at its end are the completion's then
            first, second = hidden.hide(plain), prompt[len(plain) :] + "".join(written) + self.tokenizer.eos_token
        self._tell(hidden)
        prompt_ids, completion_ids = self.text.encode_parts(first, second, hidden)
        if not self.format.chat:
            prompt_ids = self.text.prefix + prompt_ids + self.text.suffix
        return prompt_ids, completion_ids

    def texts(self, prompts: Sequence[str]) -> list[str]:
        """
        Each prompt as text for a server that makes tokens of it itself: as [`PromptEncoding.__call__`] has it, but without the
        beginning of text, which servers add, and with a word joiner (U+2060, no width) in what would be a control token.
        """
        hidden, rendered = self._render(prompts)
        bos = self.tokenizer.bos_token or ""
        return [hidden.show(text.removeprefix(bos), broken=True) for text in rendered]

    def chat_messages(self, prompt: str) -> Messages:
        """
        A prompt as messages for a server that applies its own chat template: with a word joiner (U+2060, no width) in what is a
        control token of this tokenizer, or of common models.
        """
        return self._harmless(self.format.messages(well_formed(prompt)))

    def chat_arguments(self) -> dict[str, Any]:
        """The `chat_template_kwargs` for such a server, with the same in their texts."""
        arguments = dict(self.format.chat_template_kwargs)
        return arguments | {name: self._harmless(arguments[name]) for name in _TEXT_ARGUMENTS if name in arguments}

    def going_on(self, completion: str, own: Iterable[str]) -> str:
        """
        A completion as text that a server is to go on with: with a word joiner in what would be a control token, but for the
        judge's `own` words.
        """
        kept = frozenset(own)
        return self.text.pattern.sub(lambda m: m[0] if m[0] in kept else break_up(m[0], self.text.pattern), completion)

    def _harmless(self, value: Any) -> Any:
        if isinstance(value, str):
            return break_common_controls(value, self.text.pattern)
        if isinstance(value, Mapping):
            return {name: self._harmless(item) for name, item in value.items()}
        return [self._harmless(item) for item in value] if isinstance(value, list | tuple) else value

    @cached_property
    def generation_tail(self) -> str:
        """
        What the chat template writes behind a user's message: the end of its turn, and what opens the judge's. It tells whether
        the prompt itself opens a reasoning block, or an empty one. Empty without a chat template.
        """
        if not self.format.chat:
            return ""
        hidden = self._hidden(["x"])
        mark = hidden.hide("x")
        return self._apply_template([self.format.messages(mark)], hidden)[0].rpartition(mark)[2]

    def _render(self, prompts: Sequence[str]) -> tuple[HiddenText, list[str]]:
        prompts = [well_formed(prompt) for prompt in prompts]
        hidden = self._hidden(prompts)
        if not self.format.chat:
            rendered = [hidden.hide(plain_prompt(prompt)) for prompt in prompts]
        else:
            rendered = self._apply_template([self._hidden_messages(prompt, hidden) for prompt in prompts], hidden)
        self._tell(hidden)
        return hidden, rendered

    def _hidden(self, texts: Sequence[str]) -> HiddenText:
        own = to_json([self.format.system_prompt, dict(self.format.chat_template_kwargs)])
        return self.text.hide([*texts, own])

    def _chat_pair(
        self, prompt: str, written: list[str], closed: int | None, reasoning: dict[str, str], hidden: HiddenText
    ) -> tuple[str, str]:
        """
        The prompt's rendering, and how the template goes on with an answer that is `written` in parts, of which that at `closed`
        ends the judge's thinking.
        """
        messages = self._hidden_messages(prompt, hidden)
        asked = self._apply_template([messages], hidden)[0]
        content = "".join(written)
        answer = {"role": "assistant", "content": content, **reasoning}
        whole = self._apply_template([[*messages, answer]], hidden, add_generation_prompt=False)[0]
        # Templates write thinking in their own way, or leave it out, and what follows it as it is
        parts = [] if closed is None else written[:closed]
        thoughts = [text.strip() for text in (*parts, *reasoning.values()) if text.strip()]
        said = "".join(written[0 if closed is None else closed + 1 :]).strip()
        start = whole.rfind(said)
        if start < 0 or (reasoning and not all(text in whole for text in thoughts)):
            raise ValueError(
                f"the chat template does not write {'the reasoning of ' if start >= 0 else ''}completions as they are, so that no judge "
                "could be trained to write them. Use another template (chat_template_path), or chat: false."
            )
        end, opened = whole[start + len(said) :], asked.rpartition(messages[-1]["content"].strip())[2]
        if whole.startswith(asked) and all(text in whole for text in thoughts):
            rest, opened = whole[len(asked) :], opened + whole[len(asked) : start]
        elif closed is not None:
            rest = content.lstrip() + end
        else:  # what stands at the prompt's end is not written again before an answer
            same = len(os.path.commonprefix([asked, whole]))
            same = next((m.start() for m in self.text.pattern.finditer(whole) if m.start() < same < m.end()), same)
            if whole[same:start].strip():
                raise ValueError(
                    f"the chat template ends a prompt with {asked[same:]!r}, and has {whole[same:start]!r} there before an answer. No "
                    "judge could be trained to go on from its prompt: use another template (chat_template_path), or chat: false."
                )
            rest = said + end
        opening = _OPENED.search(opened)
        if opening and closed is None and not reasoning:
            raise ValueError(
                f"the chat template ends a prompt with {opening[0]!r}, and a completion does not close it, so that all of it would be "
                "thinking. Close it with chat_template_kwargs (often {enable_thinking: false}), or let the completions think, or give "
                "the thinking as 'reasoning_content' of the completion's message."
            )
        return asked, rest

    def _hidden_messages(self, prompt: str, hidden: HiddenText) -> Messages:
        return [{**m, "content": hidden.hide(well_formed(m["content"]))} for m in self.format.messages(prompt)]

    def _apply_template(
        self, conversations: list[Messages], hidden: HiddenText, *, add_generation_prompt: bool = True
    ) -> list[str]:
        if not conversations:
            return []
        if not self.tokenizer.chat_template:  # a server may have one
            raise ValueError(
                "chat: prompts are to go through the chat template, but the tokenizer has none. Set chat to false (give prompts as "
                "text), or use a chat model."
            )
        options: dict[str, Any] = {
            "tokenize": False,
            "add_generation_prompt": add_generation_prompt,
            **self.format.chat_template_kwargs,
        }
        options |= {name: hidden.hide_controls(options[name]) for name in _TEXT_ARGUMENTS if name in options}
        try:
            with day_in_templates(self.format.day):
                return self.tokenizer.apply_chat_template(conversations, **options)
        except TEMPLATE_ERRORS as error:  # as of templates that take no system message
            raise ValueError(
                f"the tokenizer's chat template refuses a conversation of {', '.join(m['role'] for m in conversations[0])}: {error}. "
                "Change system_prompt or chat_template_kwargs, or set chat to false."
            ) from error

    def _tell(self, hidden: HiddenText) -> None:
        if hidden.found and not self._told:
            self._told = True
            logger.warning(
                "Texts hold strings that are control tokens of the tokenizer (%d, such as %r). They are read as text: only the chat "
                "template writes control tokens.",
                hidden.found,
                hidden.example,
            )
