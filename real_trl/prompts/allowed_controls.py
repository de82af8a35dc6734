# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
Which parts of a training completion are the judge's own words, and may be control tokens: the tags of its thinking, and the
marker with the label that it closes with. All else of it is text.
"""

from real_trl.score_space import ScoreSpace
from real_trl.text.thinking import ThinkingTags

Parts = list[tuple[str, bool]]
"""Parts of a text in order, each with whether it is the judge's own word."""


def own_words(space: ScoreSpace, completion: str, opened: ThinkingTags | None = None) -> Parts:
    """
    The parts of a completion.

    Args:
        space ([`ScoreSpace`]):
            Labels, marker and tags of thinking.
        completion (`str`):
            The completion. It thinks if it begins with an opening tag, or if the prompt has opened a block; what thinking it is
            ends with the first closing tag. Tags elsewhere are quoted.
        opened ([`ThinkingTags`], *optional*):
            Tags of the block that the prompt has opened. An opening tag at the beginning repeats it then, and is left out.
    """
    parts: Parts = []
    tags, rest = opened or space.thinking.tags, completion
    if tags is not None:
        blank, text = rest[: len(rest) - len(rest.lstrip())], rest.lstrip()
        begins = text.startswith(tags.opening)
        if begins:
            rest = text.removeprefix(tags.opening)
            parts = [] if opened else [(blank, False), (tags.opening, True)]
        if (begins or opened) and tags.closing in rest:
            thought, _, rest = rest.partition(tags.closing)
            parts += [(thought, False), (tags.closing, True)]
    verdicts = sorted((space.marker + label for label in space.labels), key=len, reverse=True)
    verdict = next((verdict for verdict in verdicts if rest.endswith(verdict)), "")
    return [*parts, (rest.removesuffix(verdict), False), (verdict, True)]


def own_controls(space: ScoreSpace, opened: ThinkingTags | None = None) -> list[str]:
    """The words of a judge that may be control tokens: the tags of its thinking, and what its marker and labels are made of."""
    tags = opened or space.thinking.tags
    words = space.tokenizer.added_tokens_decoder.values()
    verdicts = [space.marker + label for label in space.labels]
    own = [word.content for word in words if any(word.content in verdict for verdict in verdicts)]
    return own if tags is None else [tags.opening, tags.closing, *own]
