# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Completions as the plain OpenAI API describes them: text, and the most likely tokens at every position as text.

The score is located in the bytes of the completion, by the rules of [`ScoreSpace`], so that nothing depends on how the
server's tokenizer cuts them.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from real_trl.engines.base import Decoding
from real_trl.engines.distribution_checks import IMPOSSIBLE, NoDistribution, checked_log_probs
from real_trl.engines.score_requests import ScoreReading, root_tokens
from real_trl.engines.server_answer import is_finished, text_of_choice, thoughts_of
from real_trl.engines.token_alignment import spelled
from real_trl.prompts.completion_parts import Spoken, spoken_text
from real_trl.score_space import ScoreLocation, ScoreSpace
from real_trl.text.thinking import ThinkingTags
from real_trl.text.tokens import decoded, raw_text

_END = 256


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the bytes of a text, each with its value as id, and an end of text."""
    vocabulary = {f"<0x{byte:02X}>": byte for byte in range(256)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", clean_up_tokenization_spaces=False)


@dataclass(frozen=True)
class TopTokens:
    """A completion."""

    text: str
    tokens: list[bytes]  # a closing end of text is none of them
    # The most likely tokens at each position and their log-probabilities, the generated token among them. One entry more than `tokens`
    # if the end of text was generated.
    top: list[list[tuple[str, float]]]
    finished: bool  # whether the model ended it, not the length limit
    prompt_tokens: int | None  # if the server counts them
    num_tokens: int  # generated
    thoughts: str = ""  # what the server has taken out of the text; its tokens are not among these

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> "TopTokens":
        """
        Out of a server's answer, of either API, that passed [`~real_trl.engines.server_answer.check_answer`].

        Raises:
            [`NoDistribution`]: if it holds no log-probabilities, or if they are not those of its text.
        """
        choice = answer["choices"][0]
        text, finished, thoughts = text_of_choice(choice), is_finished(choice), thoughts_of(choice)
        tokens, top = _entries(choice)
        if text and (not tokens or len(top) < len(tokens)):
            raise NoDistribution(
                "The server returned a completion without the log-probabilities of its most likely tokens. A score "
                "distribution cannot be read from it: use a server or a model that returns them (vllm serve does)."
            )
        counts = answer.get("usage")
        usage: Mapping[str, Any] = counts if isinstance(counts, Mapping) else {}
        num_tokens = _count(usage.get("completion_tokens")) or len(tokens)
        skipped, tokens = spelled(tokens, text, finished=finished, after_thoughts=bool(thoughts))
        prompt_tokens = _count(usage.get("prompt_tokens"))
        return cls(text, tokens, top[skipped:], finished, prompt_tokens, num_tokens, thoughts)

    def locate(self, byte_space: ScoreSpace, opened: ThinkingTags | None = None) -> ScoreLocation:
        """
        Where the score stands; `position` counts bytes. `byte_space` is a score space of [`byte_tokenizer`], `opened` as in
        [`ScoreSpace.locate`].
        """
        if self.thoughts and not self.text.strip() and not self.finished:
            return ScoreLocation("unclosed")
        opened = None if self.thoughts else opened  # where the server parses thoughts, the text is what follows them
        return byte_space.locate([*b"".join(self.tokens), *([_END] if self.finished else [])], {_END}, opened)

    def said(self, space: ScoreSpace, opened: ThinkingTags | None = None) -> Spoken:
        """Thinking and rationale."""
        if self.thoughts:
            return Spoken(self.thoughts.strip(), spoken_text(space, self.text).rationale)
        return spoken_text(space, self.text, opened)

    def token_at(self, position: int) -> tuple[int, str]:
        """Index of the token that holds byte `position`, and the part of it that precedes that byte."""
        starts = [0, *accumulate(map(len, self.tokens))]
        index = bisect_right(starts, position, hi=len(self.tokens)) - 1
        return index, self.tokens[index][: position - starts[index]].decode(errors="replace")


def first_top(answer: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The most likely tokens at the first position of an answer, none if it has none; errors as [`TopTokens.from_answer`]."""
    return next(iter(_entries(answer["choices"][0])[1]), [])


def _entries(choice: Mapping[str, Any]) -> tuple[list[bytes], list[list[tuple[str, float]]]]:
    """
    The tokens of a choice, and the most likely ones at each position, the generated one among them. It is told by what it is, not
    by its number, which a server may round in one of two places, or give after top-p.
    """
    try:
        log_probs = choice.get("logprobs") or {}
        if "message" in choice:
            entries = log_probs.get("content") or []
            generated = [_entry(entry) for entry in entries]
            tops = [[_entry(each) for each in entry.get("top_logprobs") or []] for entry in entries]
        else:
            names = log_probs.get("tokens") or []
            pairs = zip(names, log_probs.get("token_logprobs") or [], strict=True)
            generated = [(name.encode(), name, log_prob) for name, log_prob in pairs]
            tops = [
                [(name.encode(), name, log_prob) for name, log_prob in (entry or {}).items()]
                for entry in log_probs.get("top_logprobs") or []
            ]
        tops = [list(dict.fromkeys(top)) for top in tops]  # some list a token twice
        tops = [
            top + [own] * (bool(top) and own[0] not in {token for token, *_ in top})
            for top, own in zip(tops, generated, strict=True)
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NoDistribution(
            f"the server's log-probabilities have not the form of the OpenAI API ({type(error).__name__}: {error})"
        ) from error
    return [token for token, *_ in generated], [[(name, log_prob) for _, name, log_prob in top] for top in tops]


def _entry(entry: Mapping[str, Any]) -> tuple[bytes, str, Any]:
    """Bytes, name and log-probability of a token."""
    name = entry["token"]
    return (bytes(entry["bytes"]) if entry.get("bytes") is not None else name.encode()), name, entry["logprob"]


def _count(number: Any) -> int | None:
    """A number of tokens, `None` if it is none."""
    return number if isinstance(number, int) and number > 0 else None


def piece_texts(space: ScoreSpace) -> dict[int, str]:
    """Text of every token of the labels, with the blank before it if the token has one."""
    return {token: _piece(space.tokenizer, token) for _, token in space.tree.edges}


def forced_text(
    space: ScoreSpace, completion: str, location: ScoreLocation, opened: ThinkingTags | None = None
) -> str:
    """[`ScoreSpace.forced_ids`] as text: the marker as it follows a malformed completion, with what is before it."""
    marker = decoded(space.tokenizer, space.marker_ids, clean_up_tokenization_spaces=False)
    if location.status == "unclosed" and (tags := space.thinking.tags_in(completion, opened)):
        return tags.close + marker.lstrip()
    return marker if marker[:1].isspace() else f" {marker}"


def opening_text(space: ScoreSpace, ids: Sequence[int]) -> str:
    """The text of an answer up to its label, of which `ids` are the tokens, with the blank before it if they have one."""
    text = raw_text(space.tokenizer, ids)
    return f" {text}" if _brings_blank(space.tokenizer, ids[0]) and text[:1] != " " else text


def _piece(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    text = decoded(tokenizer, [token], clean_up_tokenization_spaces=False)
    return f" {text}" if _brings_blank(tokenizer, token) and text[:1] != " " else text


def _brings_blank(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a blank belongs to the token, which SentencePiece's decoders drop if it is the first."""
    return tokenizer.convert_ids_to_tokens([token])[0].startswith("▁")


def named_log_probs(top: Sequence[tuple[str, float]], names: Mapping[int, str]) -> dict[int, float]:
    """
    Log-probabilities by token of those among `top` that have one of `names`, blanks around them apart if none has it
    exactly. A name that several of `top` have is left out: it cannot be told which is which. Of tokens with the same name, the
    first is the one that is meant.
    """
    found: dict[int, float] = {}
    first: dict[str, int] = {}
    for token, name in names.items():
        if first.setdefault(name, token) != token:  # a byte, which no model writes where it has a token for the text
            continue
        same = [log_prob for text, log_prob in top if text == name]
        same = same or [log_prob for text, log_prob in top if text.strip() == name.strip()]
        if len(same) == 1:
            found[token] = same[0]
    return found


def read_top(top: Sequence[tuple[str, Any]], names: Mapping[int, str]) -> tuple[dict[int, float], float]:
    """
    What the most likely tokens at one position say of those that have `names`.

    Returns:
        Log-probabilities by token of [`named_log_probs`], and the probability of all that is not told: tokens that the server
        did not return, and those that cannot be told apart.

    Raises:
        [`NoDistribution`]: if there are none, or if they are what the sampling left over rather than a distribution.
    """
    top = checked_log_probs(top)
    if not top:
        raise NoDistribution("the server returned no likely tokens at the place of the score")
    possible = [log_prob for _, log_prob in top if log_prob > IMPOSSIBLE]
    if possible == [0.0]:
        raise NoDistribution(
            f"of {len(top)} tokens at the place of the score one has the log-probability 0 and no other has any: that is what the "
            "sampling left over (speculative decoding, temperature 0, top-p), not a distribution. Ask the server for log-probabilities "
            "before sampling, or for more of them (top_logprobs)"
        )
    found = named_log_probs(top, names)
    alike = {name.strip() for token, name in names.items() if token not in found}
    told = sum(math.exp(log_prob) for text, log_prob in top if text.strip() not in alike)
    return found, max(0.0, 1 - told)


def read_text_completion(
    space: ScoreSpace,
    decoding: Decoding,
    completion: TopTokens,
    location: ScoreLocation,
    can_continue: bool,
    opened: ThinkingTags | None = None,
) -> ScoreReading[str] | None:
    """
    Start to read the score of a completion that is known as text.

    Args:
        decoding ([`Decoding`]):
            How malformed completions are treated.
        location ([`ScoreLocation`]):
            Where its score stands, in bytes.
        can_continue (`bool`):
            Whether the server can go on with a text, so that a marker may be appended.
        opened ([`ThinkingTags`], *optional*):
            Tags of the block of thinking that the prompt opens.

    Returns:
        [`ScoreReading`], or `None` for a malformed completion that is dropped, or that cannot be continued.
    """
    pieces = piece_texts(space)
    if not location.ok and decoding.malformed == "drop":
        return None
    if location.position is None or location.status == "outside":
        if not can_continue:
            return None
        context = completion.text + forced_text(space, completion.text, location, opened)
        return ScoreReading(space, context, pieces, all_tokens=False)
    # Where the labels' first tokens begin, which may have the blank of the marker in them, unless something else precedes the label
    written, blank = b"".join(completion.tokens)[: location.position], space.marker[len(space.prefix) :].encode()
    if not written.endswith(blank):
        pieces, blank = {token: text.lstrip() for token, text in pieces.items()}, b""
    index, lead = completion.token_at(location.position - len(blank))
    context = written.removesuffix(blank).decode(errors="replace")
    reading = ScoreReading(space, context, pieces, all_tokens=False)
    names, node = {token: lead + pieces[token] for token in root_tokens(space)}, 0
    nodes = {edge: i for i, edge in enumerate(zip(space.tree.parents, space.tree.context_tokens, strict=True), 1)}
    # From the root down as far as the completion itself goes along the tree
    for generated, top in zip([*completion.tokens[index:], b""], completion.top[index:], strict=False):
        reading.record(node, *read_top(top, names))
        node = next((nodes.get((node, t), 0) for t, name in names.items() if name.encode() == generated), 0)
        if not node:
            break
        names = pieces
    return reading
