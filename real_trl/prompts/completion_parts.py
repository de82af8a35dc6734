# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a completion says beside its score: what was thought, and the rationale of the answer."""

from collections.abc import Sequence
from typing import NamedTuple

from real_trl.score_space import ScoreSpace
from real_trl.text.thinking import ThinkingTags
from real_trl.text.tokens import decoded, raw_text


class Spoken(NamedTuple):
    """
    Both without control tokens.

    Attributes:
        thinking (`str`): What stands in the block of thinking, without its tags; empty if there is none.
        rationale (`str`): What stands between that and the last marker; without a marker, all that follows it.
    """

    thinking: str
    rationale: str


NOTHING = Spoken("", "")


def spoken(space: ScoreSpace, completion_ids: Sequence[int], opened: ThinkingTags | None = None) -> Spoken:
    """What a completion says beside its score; `opened` as in [`ScoreSpace.locate`]."""
    text = raw_text(space.tokenizer, completion_ids)
    if space.thinking.answer_start(text, opened) != 0:
        return spoken_text(space, text, opened)
    return Spoken("", space.rationale_of(decoded(space.tokenizer, completion_ids, skip_special_tokens=True)))


def spoken_text(space: ScoreSpace, completion: str, opened: ThinkingTags | None = None) -> Spoken:
    """[`spoken`] of a completion as text, in which control tokens may stand."""
    start = space.thinking.answer_start(completion, opened)
    if start == 0:
        return Spoken("", space.rationale_of(_plain(space, completion)))
    block, answer = (completion, "") if start is None else (completion[:start], completion[start:])
    tags = space.thinking.tags_in(completion, opened)
    thinking = _plain(space, tags.without(_plain(space, block, tags)))
    return Spoken(thinking.strip(), space.rationale_of(_plain(space, answer)))


def _plain(space: ScoreSpace, text: str, kept: ThinkingTags | None = None) -> str:
    """`text` without special tokens, but for those that the tags `kept` are made of."""
    for token in space.tokenizer.all_special_tokens:
        if kept is None or token not in kept.opening + kept.closing:
            text = text.replace(token, "")
    return text
