# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The score space K of a judge: its labels, their values and token ids, and where a score stands in a completion.

A judge closes its completion with a marker and a label, `"… So the overall score is 4"`. The tokens before the label
(marker included) are the chain of thought `c`; the distribution over the labels at that one position is the judge's
prediction. Where a judge thinks first, only what follows the thinking can hold the label. Everything here is resolved from
the tokenizer in the context of the marker, never from a table of ids.

What is located and what the distribution says are one reading of the tokens after the marker: the longest spelling of a label
that they begin with. A label has the tokens that the tokenizer gives it, and whatever else spells it and begins with another
label's tokens: where "10" is one token, "1" and then "0" is 10 as well, not 1, in both. Text that makes the label something that
is not on the scale ("4" and then ".5") leaves the completion without a score; the distribution, which is that of the paper,
does not look that far.

White space and bold between marker and label (`"Score: **4**"`, `"<score>\\n4"`) make no other score: it is read where the label
begins. Where the tokens of a label are others without the blank before it (`"ĠA"` and `"A"`), that is another space, `tight`.
"""

import os.path
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from transformers import PreTrainedTokenizerBase

from real_trl.label_tree import LabelTree
from real_trl.option_values import FieldError, shown
from real_trl.scale import Scale, parse_labels
from real_trl.text.label_spellings import other_spellings
from real_trl.text.score_location import MALFORMED_STATUSES, ScoreLocation, goes_on, set_off_label
from real_trl.text.thinking import Thinking, ThinkingTags
from real_trl.text.tokens import decoded, raw_ids, raw_text
from real_trl.text.unicode import well_formed

__all__ = ["DEFAULT_MARKER", "MALFORMED_STATUSES", "ScoreLocation", "ScoreSpace", "parse_labels"]

DEFAULT_MARKER = "So the overall score is "


@dataclass(frozen=True)
class ScoreSpace:
    """
    The labels of a scale as one tokenizer writes them after the marker. Build it with [`ScoreSpace.from_labels`].

    Attributes:
        scale ([`Scale`]): The labels as text and the number each stands for.
        token_ids (`tuple[tuple[int, ...], ...]`): The tokens of each label, right after `marker_ids`.
        marker (`str`): The text before the label, its trailing space included.
        marker_ids (`tuple[int, ...]`): What follows a rationale, its first space included, so that a label is next.
        prefix (`str`): The part of `marker` that `marker_ids` spell. The last space is no part of it if it comes with
            the label's token (`"Ġ5"`) or from the decoder (words joined with spaces).
        thinking ([`Thinking`]): How the judge thinks, if it does.
    """

    scale: Scale
    token_ids: tuple[tuple[int, ...], ...]
    marker: str
    marker_ids: tuple[int, ...]
    prefix: str
    tokenizer: PreTrainedTokenizerBase = field(repr=False, compare=False)
    thinking: Thinking = field(default=Thinking(), compare=False)

    @classmethod
    def from_labels(
        cls,
        labels: str | Sequence[str | int | float],
        tokenizer: PreTrainedTokenizerBase,
        marker: str = DEFAULT_MARKER,
        values: Sequence[float] | None = None,
        thinking: Thinking | str | Sequence[str] | None = None,
    ) -> "ScoreSpace":
        """
        Resolve the labels against a tokenizer, in the context of the marker.

        Args:
            labels (`str` or `Sequence[str | int | float]`): The scale, see [`Scale.parse`].
            tokenizer ([`~transformers.PreTrainedTokenizerBase`]): The judge's tokenizer.
            marker (`str`, *optional*, defaults to `"So the overall score is "`): The text right before the label.
            values (`Sequence[float]`, *optional*): The number of each label. Defaults to the label read as a number.
            thinking (*optional*): Tags of the judge's thinking, see [`Thinking.of`]. Default: as the tokenizer has them.

        Raises:
            `ValueError`: If labels and values make no scale, if the marker is empty or does not survive the tokenizer,
                or if a label has no tokens of its own after the marker; it names the label and its ids.
        """
        scale = Scale.parse(labels, values)
        labels = scale.labels
        bare = marker.rstrip()
        if not bare or marker[0].isspace():
            raise ValueError(f"score_marker={marker!r} must be text that does not begin with white space.")
        for name, text in (("score_marker", marker), *(("score_labels", label) for label in labels)):
            if well_formed(text) != text:
                raise ValueError(f"{name}: {shown(text)} holds half a character (a lone surrogate). Correct it.")

        # In use the marker follows a rationale and a space, which changes its first token ("So" or "ĠSo"); the marker
        # itself plays the rationale here because its words are the ones that every usable tokenizer knows.
        lead = raw_ids(tokenizer, bare)
        rows = [raw_ids(tokenizer, f"{bare} {marker}{label}") for label in labels]
        rows = [row[len(lead) :] for row in rows if row[: len(lead)] == lead]
        if len(rows) < len(labels):  # the lead has merged with the marker
            rows = [raw_ids(tokenizer, f"{marker}{label}") for label in labels]
        marker_ids = list(os.path.commonprefix(rows))
        # Labels may begin alike ("10", "11"): what they share beyond the marker is part of the label.
        heads = tuple(marker[:end] for end in range(len(marker), len(bare) - 1, -1))
        while marker_ids and not raw_text(tokenizer, marker_ids).endswith(heads):
            marker_ids.pop()
        if not marker_ids:
            said = f"={marker!r} does not survive the tokenizer: with the label {labels[0]!r} it becomes {rows[0]} and reads back as {raw_text(tokenizer, rows[0])!r}"
            raise FieldError("score_marker", marker, "Use a marker that reads back unchanged.", said)
        prefix = next(head for head in heads if raw_text(tokenizer, marker_ids).endswith(head))

        rests = [row[len(marker_ids) :] for row in rows]
        thinking = Thinking.of(thinking, tokenizer)
        space = cls(scale, tuple(map(tuple, rests)), marker, tuple(marker_ids), prefix, tokenizer, thinking)

        def check(index: int, fault: str | None) -> None:
            if fault:
                raise ValueError(
                    f"score_labels: after the marker {marker!r} the label {labels[index]!r} {fault}; its ids are {rests[index]} "
                    f"({tokenizer.convert_ids_to_tokens(rests[index])}). Choose labels that the tokenizer keeps apart, such as "
                    "'1-5'."
                )

        for index, ids in enumerate(rests):
            check(index, None if ids else "has no token")
            check(index, "cannot be told apart from another label" if rests.count(ids) > 1 else None)
        for index, ids in enumerate(rests):
            if space.locate([*marker_ids, *ids]) != ScoreLocation("ok", len(marker_ids), index):
                check(index, f"reads back as part of {raw_text(tokenizer, [*marker_ids, *ids])!r}")
        return space

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels as text."""
        return self.scale.labels

    @property
    def values(self) -> tuple[float, ...]:
        """The number each label stands for."""
        return self.scale.values

    @property
    def low(self) -> float:
        """The lowest value of the scale."""
        return self.scale.low

    @property
    def high(self) -> float:
        """The highest value of the scale."""
        return self.scale.high

    def label_of(self, score: float) -> str:
        """The label whose value is exactly `score`; `ValueError` if there is none."""
        return self.scale.label_of(score)

    @cached_property
    def tree(self) -> LabelTree:
        """The labels as a tree of tokens, with everything that spells them and might be taken for another label."""
        return LabelTree.from_paths(
            self.token_ids, other_spellings(self.tokenizer, self.labels, self.token_ids, self.marker_ids)
        )

    @cached_property
    def tight(self) -> "ScoreSpace | None":
        """The labels as their tokens are right after bold or a line break, if those are others than after the marker."""
        before = f"{self.marker.rstrip()}**"
        lead = raw_ids(self.tokenizer, before)
        rows = [raw_ids(self.tokenizer, before + label) for label in self.labels]
        paths = tuple(tuple(row[len(lead) :]) for row in rows)
        are_apart = all(paths) and len(set(paths)) == len(paths) and all(row[: len(lead)] == lead for row in rows)
        if paths == self.token_ids or not are_apart:
            return None
        return replace(self, token_ids=paths, marker_ids=tuple(lead), prefix=self.marker)

    @cached_property
    def _end_ids(self) -> frozenset[int]:
        """Special tokens that may trail a completion; an unknown word does not count, unless it doubles as one."""
        tokenizer = self.tokenizer
        ids = {*tokenizer.all_special_ids, *(i for i, t in tokenizer.added_tokens_decoder.items() if t.special)}
        if tokenizer.unk_token_id not in {tokenizer.eos_token_id, tokenizer.pad_token_id}:
            ids.discard(tokenizer.unk_token_id)
        tags = {raw_ids(tokenizer, tag)[-1] for tag in self.thinking.stated or ()}
        return frozenset(ids - {token for _, token in self.tree.edges} - set(self.marker_ids) - tags)

    def opened_by(self, prompt_ids: Sequence[int]) -> ThinkingTags | None:
        """The tags of the block of thinking that a prompt opens for its completion, if it does."""
        return self.thinking.opened_by_ids(self.tokenizer, prompt_ids)

    def rationale_of(self, answer: str) -> str:
        """What precedes the last marker in the text of an answer; all of it if there is none."""
        end = answer.rfind(self._plain_marker) if self._plain_marker else -1
        return (answer if end < 0 else answer[:end]).strip()

    @cached_property
    def _plain_marker(self) -> str:
        """The marker as it is left in a completion whose special tokens are gone."""
        return decoded(self.tokenizer, self.marker_ids, skip_special_tokens=True).strip()

    def forced_ids(
        self, completion_ids: Sequence[int], location: ScoreLocation, opened: ThinkingTags | None = None
    ) -> list[int]:
        """
        What has to follow a malformed completion, without its end of text, so that a label is next: the marker, or where its
        thinking does not end, what closes the thinking and the marker.

        Args:
            location ([`ScoreLocation`]):
                What [`locate`][ScoreSpace.locate] found.
            opened ([`ThinkingTags`], *optional*):
                As there.
        """
        if location.status != "unclosed":
            return list(self.marker_ids)
        return list(self._closing_ids[self.thinking.tags_in(raw_text(self.tokenizer, completion_ids), opened)])

    @property
    def most_forced(self) -> int:
        """The most tokens that [`forced_ids`][ScoreSpace.forced_ids] gives."""
        return max([len(self.marker_ids), *map(len, self._closing_ids.values())])

    @cached_property
    def _closing_ids(self) -> dict[ThinkingTags, tuple[int, ...]]:
        """Of all tags between which the judge may think: what closes a block, and the marker as an answer begins with it."""
        written = (tags for tags in self.thinking.possible if tags.is_written_by(self.tokenizer))
        return {tags: self._closing(tags.close) for tags in written}

    def _closing(self, closing: str) -> tuple[int, ...]:
        bare = self.marker.rstrip()  # plays the thinking
        before = raw_ids(self.tokenizer, bare)
        heads = set()
        for label, path in {(self.labels[i], self.token_ids[i]) for i in (0, -1)}:
            ids = raw_ids(self.tokenizer, f"{bare}{closing}{self.marker}{label}")
            if ids[: len(before)] == before and tuple(ids[-len(path) :]) == path:
                heads.add(tuple(ids[len(before) : -len(path)]))
            else:
                heads.add(())
        head = heads.pop()
        return head if head and not heads else (*raw_ids(self.tokenizer, closing), *self.marker_ids)

    def locate(
        self,
        completion_ids: Sequence[int],
        stop_ids: Collection[int] | None = None,
        opened: ThinkingTags | None = None,
    ) -> ScoreLocation:
        """
        Find the score in a completion.

        The last occurrence of the marker decides: a rationale may quote the phrase, the verdict closes the completion. White space
        and bold may stand in place of the blank at its end, if a label follows them. It must stand behind the judge's thinking (see [`~real_trl.text.thinking.ThinkingTags.answer_start`]).
        The marker is found in the text, since a model may tokenize it in its own way; the label must be one of the
        spellings in `tree`, right after the marker, the longest one counts, and the text after it must not make another
        score of it.

        `completion_ids` are those of the completion alone, without the prompt; end-of-text and padding may follow it.
        Where `stop_ids` are given, a completion that does not end with one of them was cut by its length limit, and a
        label that might have gone on ("1" of "10") is `"truncated"`, with its position.
        `opened` are the tags of a block of thinking that the prompt opens, see [`opened_by`][ScoreSpace.opened_by].
        """
        ids = completion_ids.tolist() if hasattr(completion_ids, "tolist") else list(completion_ids)
        location = self._locate(list(ids), opened)
        was_cut = stop_ids is not None and location.position is not None and ids[-1] not in stop_ids
        if was_cut and self.tree.may_go_on(ids[location.position :]):
            return ScoreLocation("truncated", location.position)
        return location

    def _locate(self, ids: list[int], opened: ThinkingTags | None) -> ScoreLocation:
        while ids and ids[-1] in self._end_ids:
            ids.pop()
        text = raw_text(self.tokenizer, ids)
        begin = self.thinking.answer_start(text, opened)
        if begin is None:
            return ScoreLocation("unclosed")
        bare = self.marker.rstrip()
        start = text.rfind(self.marker, begin)
        if text[begin:].rstrip().endswith(bare):
            return ScoreLocation("truncated")
        location = ScoreLocation("missing") if start < 0 else self._label_at(ids, text, start + len(self.marker))
        set_off = set_off_label(text, max(begin, start), bare, self.labels)
        if set_off is None or (location.ok and set_off[0] == start):
            return location
        found = self._label_at(ids, text, set_off[1])
        return found if found.ok or set_off[0] > start else location

    def _label_at(self, ids: list[int], text: str, start: int) -> ScoreLocation:
        """Whether a label stands at the character `start` of `text`, which `ids` are the tokens of."""
        blank = self.marker[len(self.prefix) :]
        if not text[:start].endswith(blank):  # which the tokens of the labels begin with
            return ScoreLocation("outside")
        # Prefix decodes agree with the text up to the end of the marker from the marker's last token on, and not
        # before. Their lengths would not do for the bisection: an incomplete character decodes to more than itself.
        end = start - len(blank)
        head = text[:end]
        prefixes = range(len(ids))
        position = bisect_left(prefixes, True, key=lambda stop: raw_text(self.tokenizer, ids[:stop]).startswith(head))
        if raw_text(self.tokenizer, ids[:position]) != head:
            return ScoreLocation("outside")
        index = self.tree.longest_label(ids[position:])
        if index is not None:
            written = blank + self.labels[index]
            if text.startswith(written, end) and not goes_on(self.labels[index], text[end + len(written) :]):
                return ScoreLocation("ok", position, index)
        return ScoreLocation("outside", position)

    def place(
        self,
        completion_ids: Sequence[int],
        stop_ids: Collection[int] | None = None,
        opened: ThinkingTags | None = None,
    ) -> tuple["ScoreSpace", ScoreLocation]:
        """[`locate`][ScoreSpace.locate], and the space whose tokens the score is written in: this one, or `tight`."""
        location = self.locate(completion_ids, stop_ids, opened)
        if location.status == "outside" and self.tight is not None:
            found = self.tight.locate(completion_ids, stop_ids, opened)
            if found.ok or (found.status == "truncated" and found.position is not None):
                return self.tight, found
        return self, location
