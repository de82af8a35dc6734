# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Text in which nobody can write a control token.

A tokenizer looks for its added tokens (`<|im_end|>`, `[INST]`, `</s>`, `<think>`) in whatever text it is given, so that a
judged response could end its own turn and answer in the judge's place. Here a chat template's own tokens are the only
ones. Text is hidden from the template and from the search: every control string in it, and its first and last character
(so that it makes no control string together with the template's words), is a private character while the template is
rendered, which may trim it or leave it out as it likes. Then the template's control strings, the only ones left, become
names that no text holds, the text becomes itself again, and a copy of the tokenizer that knows the tokens by these names
only reads the whole in one go: normalisation, words and merges are those of the tokenizer itself.
"""

import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from unicodedata import category
from weakref import WeakKeyDictionary

from tokenizers import AddedToken, Encoding, Tokenizer
from transformers import PreTrainedTokenizerBase

from real_trl.text.hidden import NAME, WORD_JOINER, HiddenText

_BARS = frozenset("<>|｜◁▷＜＞")
_PUNCTUATION = frozenset(string.punctuation)
_ATTEMPTS = 5
_NAMES = re.compile(f"{NAME}[^{NAME}]*{NAME}")
_COPIES: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[tuple, _RenamedTokenizer]]" = WeakKeyDictionary()


def is_control(token: AddedToken, chat_template: object = None) -> bool:
    """
    Whether an added token is a control token: one that is flagged special, that is a word with a bracket or a bar in it, or that
    stands in the chat template and is no mere word. White space, and words that somebody added to the vocabulary, are ordinary
    text.
    """
    content = token.content
    if not content.strip():
        return False
    if token.special:
        return True
    tagged = len(content) > 2 and any(c in _BARS or category(c) in ("Ps", "Pe") for c in content)
    in_template = chat_template is not None and content in str(chat_template)
    return tagged or (in_template and not _PUNCTUATION.isdisjoint(content))


class TextEncoder:
    """
    Token ids of text that holds no control tokens but a chat template's own.

    Args:
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            The tokenizer, as it is now: tokens that are added to it later are not known.

    Attributes:
        controls (`dict[str, int]`): The control tokens and their ids.
        pattern (`re.Pattern`): Matches any of them.
        prefix, suffix (`list[int]`): What the tokenizer puts before and after a text that has no template: a beginning of
            text, say. An end of text is no part of `suffix`, since a judge's completion follows.
        ends_texts (`bool`): Whether the tokenizer puts an end of text behind every text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        self.controls = {
            token.content: id_ for id_, token in added.items() if is_control(token, tokenizer.chat_template)
        }
        longest_first = sorted(self.controls, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        # What text never is; an unknown word is `<unk>` by right
        self.never = frozenset(self.controls.values()) - {tokenizer.unk_token_id}
        self.prefix, self.suffix, self.ends_texts = _surroundings(tokenizer)

    def hide(self, texts: Iterable[str]) -> HiddenText:
        """Private characters for what is to be hidden of `texts`."""
        return HiddenText(self.pattern, texts)

    def encode(self, rendered: Sequence[str], hidden: HiddenText) -> list[list[int]]:
        """
        Token ids of texts that a chat template was rendered with, or that stand for themselves, without `prefix` and `suffix`.

        Args:
            rendered (`Sequence[str]`):
                Texts in which everything that is no template's is hidden.

        Raises:
            ValueError: if a text turns into a control token in spite of all.
        """
        copy = _renamed(self)
        if copy is None:
            shown = [hidden.show(text, broken=True) for text in rendered]
            return [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in shown]
        return copy.encode([hidden.show(copy.rename(text, self.pattern)) for text in rendered])

    def encode_parts(self, first: str, second: str, hidden: HiddenText) -> tuple[list[int], list[int]]:
        """Token ids of a rendered text in two parts: the first as it is alone, and the second as it goes on from there."""
        alone, whole = self.encode([first, first + second], hidden)
        if whole[: len(alone)] == alone:
            return alone, whole[len(alone) :]
        if (copy := _renamed(self)) is None:
            return alone, self.encode([second], hidden)[0]
        # A token would be in both parts: they are kept from each other
        apart = self.encode([first + copy.boundary + second], hidden)[0]
        return alone, apart[apart.index(copy.BOUNDARY) + 1 :]


class _RenamedTokenizer:
    """
    A copy of a tokenizer, in which control tokens have names that no text holds.

    Args:
        controls (`Mapping[str, int]`):
            Its control tokens and their ids.
        never (`frozenset[int]`):
            Ids that stand for a name only.
    """

    BOUNDARY = -1  # stands for the boundary of two parts, which is a token of the copy only

    def __init__(self, backend: Tokenizer, controls: Mapping[str, int], never: frozenset[int]) -> None:
        state = json.loads(backend.to_str())
        names = {content: f"{NAME}{index:x}{NAME}" for index, content in enumerate(controls)}
        self._names, self._contents, self._never = names, {name: content for content, name in names.items()}, never
        self.boundary = f"{NAME}boundary{NAME}"
        added, own_ids = [AddedToken(self.boundary, normalized=False, special=True)], {self.boundary: self.BOUNDARY}
        for token in state["added_tokens"]:
            id_, content = token.pop("id"), token.pop("content")
            if (name := names.get(content, content)) != content and backend.normalizer is not None:
                token["normalized"] = token["normalized"] and name in backend.normalizer.normalize_str(name)
            added.append(AddedToken(name, **token))
            own_ids[name] = id_
        self._copy = Tokenizer.from_str(json.dumps({**state, "added_tokens": [], "truncation": None, "padding": None}))
        # The copy counts its added tokens on from the number of words, which are no ids of words where there are no gaps
        gaps = max(self._copy.get_vocab().values(), default=-1) + 1 - self._copy.get_vocab_size()
        self._copy.add_tokens([f"{NAME}gap {index}{NAME}" for index in range(gaps)])
        self._copy.add_special_tokens([token for token in added if token.special])
        self._copy.add_tokens([token for token in added if not token.special])
        self._own_ids = {self._copy.token_to_id(name): id_ for name, id_ in own_ids.items()}
        self._ids_of_names = frozenset(self._copy.token_to_id(name) for name in (*names.values(), self.boundary))

    def rename(self, text: str, pattern: re.Pattern[str]) -> str:
        """`text` with the names of its control strings."""
        return pattern.sub(lambda match: self._names[match[0]], text)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of the tokenizer itself; errors as of [`TextEncoder.encode`]."""
        encoded = self._copy.encode_batch(list(texts), add_special_tokens=False)
        for index, text in enumerate(texts):
            if NAME in text and (known := self._without_lone_names(text, encoded[index])) != text:
                text, encoded[index] = known, self._copy.encode(known, add_special_tokens=False)
            if not self._never.isdisjoint(encoded[index].ids):
                encoded[index] = self._without_control_words(text, encoded[index])
        return [[self._own_ids.get(id_, id_) for id_ in encoding.ids] for encoding in encoded]

    def _without_control_words(self, text: str, encoding: Encoding) -> Encoding:
        """The text with a word joiner in what the vocabulary itself has for a control string, as a word like others."""
        for _ in range(_ATTEMPTS):
            pairs = zip(encoding.offsets, encoding.ids, strict=True)
            found = [span for span, id_ in pairs if id_ in self._never and id_ not in self._own_ids]
            if not found:
                return encoding
            for start, end in reversed(found):
                middle = min(start + 1 + len(text[start:end]) - len(text[start:end].lstrip()), end)
                text = text[:middle] + WORD_JOINER + text[middle:]
            encoding = self._copy.encode(text, add_special_tokens=False)
        raise ValueError(
            f"text turns into control tokens of the tokenizer, such as {text[slice(*found[0])]!r}. Take them out of it."
        )

    def _without_lone_names(self, text: str, encoding: Encoding) -> str:
        """`text` with the control strings themselves where the tokenizer does not take them for tokens (within a word, say)."""
        taken = [span for span, id_ in zip(encoding.offsets, encoding.ids, strict=True) if id_ in self._ids_of_names]

        def lone(match: re.Match[str]) -> str:
            is_token = any(start <= match.start() < end for start, end in taken)
            return match[0] if is_token else self._contents.get(match[0], match[0])

        return _NAMES.sub(lone, text) if text.count(NAME) > 2 * len(taken) else text


def _renamed(encoder: TextEncoder) -> _RenamedTokenizer | None:
    """The copy of an encoder's tokenizer, made once; `None` for a tokenizer in Python, which cannot be copied with other names."""
    backend = getattr(encoder.tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        return None
    made_of = (tuple(encoder.controls.items()), encoder.never, len(encoder.tokenizer))
    if (known := _COPIES.get(encoder.tokenizer)) is None or known[0] != made_of:
        known = made_of, _RenamedTokenizer(backend, encoder.controls, encoder.never)
        _COPIES[encoder.tokenizer] = known
    return known[1]


def _surroundings(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int], bool]:
    """What the tokenizer puts before and after a text, an end of text excepted, and whether it puts one there."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    start = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), 0)
    suffix = whole[start + len(bare) :]
    ends = {tokenizer.eos_token_id, tokenizer.sep_token_id} - {None}
    size = len(suffix)
    while suffix and suffix[-1] in ends:
        suffix.pop()
    return whole[:start], suffix, len(suffix) < size
