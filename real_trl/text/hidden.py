# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Text whose control strings are not there: hidden while a chat template is rendered, or broken for tokenizers that others run."""

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

WORD_JOINER = "\u2060"
"""Has no width and breaks no line: between the characters of a control string it leaves the text as it looks."""

NAME = "\U0010fffd"
"""Opens and closes the names that control tokens have where text is read, see `control_tokens.py`."""

_JSON_ESCAPES = '"\\'  # which templates may escape
_HIDING = range(0xF0000, 0xFFFFE)  # private characters, of which those are taken that the text does not have
# What chat templates of common models have, for a server whose tokenizer is not known
_COMMON = re.compile(
    r"<\|[^<>|\s]{1,40}\|>|<｜[^<>｜]{1,40}｜>|</?s>|<(?:bos|eos|pad|unk)>|<<?/?SYS>>?"
    r"|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|THINK|IMG)\]"
    r"|</?(?:think|thinking|tool_call|tool_response|start_of_turn|end_of_turn|start_of_image|extra_id_\d+)>",
)


class HiddenText:
    """
    Texts whose control strings and ends are private characters, to be put into a chat template.

    Args:
        texts (`Iterable[str]`):
            All texts that [`hide`][HiddenText.hide] will be asked for.

    Attributes:
        found (`int`), example (`str`): How many control strings were hidden, and the last one.
    """

    def __init__(self, controls: re.Pattern[str], texts: Iterable[str]) -> None:
        self._controls = controls
        taken = frozenset(chain.from_iterable(texts))
        self._free = (chr(code) for code in _HIDING if chr(code) not in taken)
        self._hidden: dict[str, str] = {}  # text -> private character
        self._used: set[str] = set()
        self.found, self.example = 0, ""

    def hide(self, text: str) -> str:
        """`text` with private characters for its control strings, and for its first and last character that is no white space."""
        text = self.hide_controls(text)
        core = text.strip()
        if not core:
            return text
        start = text.index(core)
        end = start + len(core)
        first, last = (c if c in _JSON_ESCAPES else self._private(c) for c in (core[0], core[-1]))
        return text[:start] + first + (core[1:-1] + last if len(core) > 1 else "") + text[end:]

    def hide_controls(self, value: Any) -> Any:
        """`value`, text or what JSON can hold, with private characters for the control strings of all its texts."""
        if isinstance(value, str):
            # A name of a control token, as nobody writes it, would be one
            return self._controls.sub(self._found, value.replace(NAME, NAME + WORD_JOINER))
        if isinstance(value, Mapping):
            return {self.hide_controls(name): self.hide_controls(item) for name, item in value.items()}
        return [self.hide_controls(item) for item in value] if isinstance(value, list | tuple) else value

    def _found(self, match: re.Match[str]) -> str:
        self.found, self.example = self.found + 1, match[0]
        return self._private(match[0])

    def _private(self, text: str) -> str:
        if text in self._used:  # an end that is hidden already
            return text
        if text not in self._hidden:
            self._hidden[text] = next(self._free)
            self._used.add(self._hidden[text])
        return self._hidden[text]

    def show(self, text: str, broken: bool = False) -> str:
        """`text` with everything hidden shown again; `broken`: with control strings that no tokenizer takes for such."""
        shown = {
            ord(private): break_up(own, self._controls) if broken and self._controls.search(own) else own
            for own, private in self._hidden.items()
        }
        return text.translate(shown)


def break_up(text: str, controls: re.Pattern[str]) -> str:
    """
    `text` with a word joiner in every match of `controls`, behind its first character.

    Raises:
        ValueError: if a control token has one character, which cannot be broken.
    """
    while match := controls.search(text):
        if len(match[0]) == 1:
            raise ValueError(
                f"a text holds {match[0]!r}, which is a control token of the tokenizer and has one character. Take it out of the text."
            )
        text = controls.sub(lambda match: match[0][0] + WORD_JOINER + match[0][1:], text)
    return text


def break_common_controls(text: str, controls: re.Pattern[str]) -> str:
    """`text` with a word joiner in every string of `controls`, and in every one that is a control token of common models."""
    return break_up(break_up(text, controls), _COMMON)
