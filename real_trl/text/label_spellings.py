# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What else spells a label than the tokens that its tokenizer gives it."""

from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from real_trl.text.tokens import raw_ids, raw_text

_EVERY_SPLIT = 4  # characters up to which all ways to cut them into tokens are tried


def other_spellings(
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    token_ids: Sequence[Sequence[int]],
    marker_ids: Sequence[int],
) -> list[tuple[int, tuple[int, ...]]]:
    """
    Tokens that spell a label and begin with those of another: after "1", where "10" is a token of its own, "0".

    Nothing else needs to be told apart. What begins with no label's tokens is no score, and has no probability in the distribution.
    What a label goes on with is cut in every way as far as it has four characters, a longer one as the tokenizer does.

    Args:
        tokenizer, labels, token_ids, marker_ids:
            Those of a [`~real_trl.score_space.ScoreSpace`].

    Returns:
        `(label, tokens)` of each, every one once.
    """
    found = {}
    for first, start in enumerate(labels):
        for label, text in enumerate(labels):
            if label == first or not text.startswith(start):
                continue
            wanted = raw_text(tokenizer, [*marker_ids, *token_ids[label]])
            for tokens in _cuts(tokenizer, text[len(start) :]):
                path = (*token_ids[first], *tokens)
                # Not all tokens join without a space
                if path not in token_ids and raw_text(tokenizer, [*marker_ids, *path]) == wanted:
                    found[path] = label
    return [(label, path) for path, label in found.items()]


def _cuts(tokenizer: PreTrainedTokenizerBase, text: str) -> Iterator[tuple[int, ...]]:
    """Token sequences that may spell `text`."""
    if not text:
        yield ()
    elif len(text) > _EVERY_SPLIT:
        yield tuple(raw_ids(tokenizer, text))
    else:
        for end in range(1, len(text) + 1):
            for token in _tokens(tokenizer, text[:end]):
                yield from ((token, *rest) for rest in _cuts(tokenizer, text[end:]))


def _tokens(tokenizer: PreTrainedTokenizerBase, piece: str) -> list[int]:
    """The tokens that may stand for `piece` within a word: plain, of WordPiece, of a byte, or what the tokenizer says."""
    names = [piece, f"##{piece}", *([f"<0x{piece.encode()[0]:02X}>"] if len(piece.encode()) == 1 else [])]
    ids = [(tokenizer.convert_tokens_to_ids(name), name) for name in names]
    tokens = [token for token, name in ids if token is not None and tokenizer.convert_ids_to_tokens(token) == name]
    encoded = raw_ids(tokenizer, piece)
    return list(dict.fromkeys([*tokens, *(encoded if len(encoded) == 1 else [])]))
