# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""From completions to the rows of a training set: which rationales are kept, with the true scores, and why the others are not."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

from real_trl.data.rows import strip_score_sentence
from real_trl.engines import Engine, Judgment
from real_trl.engines.base import PromptError
from real_trl.evaluation.unscored import UNSCORED
from real_trl.prompts.answer import answer_text
from real_trl.prompts.completion_parts import spoken_text
from real_trl.prompts.shown_score import lets_on, with_score
from real_trl.report.rationale_yield import rationale_yield
from real_trl.score_space import ScoreSpace
from real_trl.text.rationales import is_rationale

CUT = "cut"  # status of a completion that has as many tokens as it may have, and no marker
_DISTRIBUTION = ("most_likely_score", "expected_score", "probabilities", "spread", "mass")

Unit = tuple[int, int]  # row, sample
Found = tuple[dict[str, Any], str | None]  # the row of a training set, and why it is none


def find_rationale(
    completion: str, status: str, space: ScoreSpace, malformed: str, rationale: str | None = None
) -> str | None:
    """
    The rationale of a completion, without the judge's score, or `None` if the completion has no marker and `malformed` is "drop", or
    if its thinking does not end. `rationale` is what the engine took for it, by default what the completion's text shows.
    """
    if status == "unclosed" or (status == "missing" and malformed == "drop"):
        return None
    if rationale is None:
        rationale = spoken_text(space, completion).rationale
    return strip_score_sentence(rationale, space.marker)


@dataclass(frozen=True)
class Rationales:
    """
    The rationales of a data set. All are kept, whatever score the judge gave (TRACT); or with a `max_distance`, of each row the one
    after which the expected score ŷ is nearest the true score y*: the smallest |ŷ - y*|, of equal ones the first, if it is within
    that distance.

    |ŷ - y*| is the error of the prediction that judges are used and measured by (RAIL), and RAFT's loss and REAL's reward square
    it. It is in score units, and can be 0 where y* is a mean of raters, between two labels. It does not look at the spread: after a
    rationale that says nothing, a flat distribution is near the middle of the scale.

    Args:
        dataset ([`~datasets.Dataset`]):
            With `prompt` and `score`.
        malformed (`str`):
            What becomes of completions without the marker, see [`find_rationale`].
        max_distance (`float`, *optional*):
            In score units.
        show_score (`bool`, *optional*, defaults to `False`):
            Whether the true score is in the prompt while a rationale is written ([`with_score`]). The distribution is read without it.
    """

    dataset: Dataset
    space: ScoreSpace
    malformed: str
    max_distance: float | None = None
    show_score: bool = False

    def asked(self) -> list[str]:
        """The prompt that the rationales of each row are written for."""
        prompts, scores = self.dataset["prompt"][:], self.dataset["score"][:]
        if not self.show_score:
            return prompts
        return [with_score(prompt, score, self.space.scale) for prompt, score in zip(prompts, scores, strict=True)]

    def read(
        self, engine: Engine, units: Sequence[Unit], judgments: Iterable[tuple[int, Judgment]]
    ) -> Iterator[tuple[int, Judgment]]:
        """
        The judgments of `units` (index, judgment), each with the score distribution that follows the row's prompt, its rationale
        and the marker. Where the judge wrote just that, the distribution came with the generation; else, as for all that was written
        with the score in sight, `engine` reads it. A judgment without a rationale that could be kept has no distribution.
        """
        waiting: dict[int, tuple[Judgment, str]] = {}
        for index, judgment in judgments:
            if judgment.status == "missing" and judgment.num_tokens >= engine.decoding.max_new_tokens:
                judgment = replace(judgment, status=CUT)
            rationale, reason = self._usable(units[index][0], judgment.status, judgment.completion, judgment.rationale)
            if reason is not None:
                yield index, _unread(judgment)
            elif self._came_along(judgment, rationale):
                yield index, judgment
            else:
                waiting[index] = judgment, rationale
        if not getattr(engine, "can_read", True):
            yield from ((index, _unread(judgment)) for index, (judgment, _) in waiting.items())
            return
        while waiting:
            indices = list(waiting)
            prompts = [self.dataset[units[index][0]]["prompt"] for index in indices]
            try:
                for place, read in engine.read(prompts, [waiting[index][1] for index in indices]):
                    judgment, _ = waiting.pop(indices[place])
                    distribution: dict[str, Any] = {name: getattr(read, name) for name in _DISTRIBUTION}
                    lost: dict[str, Any] = {} if read.error is None else {"status": UNSCORED, "error": read.error}
                    yield indices[place], replace(judgment, **distribution, **lost)
            except PromptError as error:  # other tokens than were generated, too many with the marker
                index = indices[error.index]
                yield index, _unread(waiting.pop(index)[0])

    def _came_along(self, judgment: Judgment, rationale: str) -> bool:
        """Whether a judgment's own distribution is that behind prompt, rationale and marker."""
        if self.show_score or judgment.expected_score is None:
            return False
        written = judgment.completion.strip(" ")
        if judgment.status == "ok":
            return written.startswith(answer_text(rationale, "", self.space.marker).rstrip())
        return judgment.status == "missing" and written == rationale  # the marker was put behind it

    def _usable(self, row: int, status: str, completion: str, rationale: str | None) -> tuple[str, str | None]:
        """The rationale of a completion, and why it cannot be kept, if it cannot."""
        if status in (UNSCORED, CUT):
            return "", UNSCORED if status == UNSCORED else "too long"
        text = find_rationale(completion, status, self.space, self.malformed, rationale)
        if text is None:
            return "", "unclosed" if status == "unclosed" else "unmarked"
        if not text or (self.max_distance is not None and not is_rationale(text, self.space.labels)):
            return "", "empty"
        if self.show_score and lets_on(text, self.dataset[row]["score"], self.space.scale):
            return "", "lets on"
        return text, None

    def as_completion(self, unit: Unit, judgment: Judgment) -> dict[str, Any]:
        """What is stored of the completion of a unit."""
        kept = ["status", "sampled_score", "completion", "rationale"]
        kept += [] if self.max_distance is None else ["expected_score", "mass"]
        kept += [] if judgment.error is None else ["error"]
        return {"row": unit[0], "sample": unit[1], **{name: getattr(judgment, name) for name in kept}}

    def make_rows(self, completions: Iterable[Mapping[str, Any]]) -> tuple[list[dict], list[dict], dict[str, Any]]:
        """
        Pair rationales with the true scores.

        Args:
            completions (`Iterable[Mapping]`):
                As of [`as_completion`][Rationales.as_completion].

        Returns:
            Rows of a training set, dropped completions with the `reason`, and counts.
        """
        completions = sorted(completions, key=lambda each: (each["row"], each["sample"]))
        found = [self._row_of(each) for each in completions]
        selection = {}
        if self.max_distance is not None:
            selection = {"selection": self._selection(completions, found)}
            found = self._nearest(completions, found)
        rows = [row for row, reason in found if reason is None]
        pairs = zip(found, completions, strict=True)
        dropped = [{"reason": reason, **each} for (_, reason), each in pairs if reason is not None]
        malformed = Counter(each["status"] for each in completions if each["status"] not in ("ok", UNSCORED))
        counts = {
            "prompts": len(self.dataset),
            "completions": len(completions),
            "rows": len(rows),
            "malformed": dict(malformed),
            "dropped": dict(Counter(each["reason"] for each in dropped)),
            **selection,
        }
        return rows, dropped, counts

    def _row_of(self, generated: Mapping[str, Any]) -> Found:
        said = generated["status"], generated["completion"], generated.get("rationale")
        rationale, reason = self._usable(generated["row"], *said)
        row = {**self.dataset[generated["row"]], "feedback": rationale, "sampled_score": generated["sampled_score"]}
        if self.max_distance is None or reason is not None:
            return row, reason
        expected = generated["expected_score"]
        if expected is None:
            return row, "not read"
        return {**row, "expected_score": expected, "distance": abs(expected - row["score"])}, None

    def _nearest(self, completions: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> list[Found]:
        """What is left of `found`: of each row the nearest, within the distance."""
        nearest: dict[int, tuple[float, int]] = {}
        for place, (each, (row, reason)) in enumerate(zip(completions, found, strict=True)):
            if reason is None:
                nearest[each["row"]] = min((row["distance"], place), nearest.get(each["row"], (math.inf, place)))
        kept = {place for _, place in nearest.values()}

        def fate(place: int, row: dict[str, Any]) -> str | None:
            if row["distance"] > self.max_distance:
                return "too far"
            return None if place in kept else "not the nearest"

        return [(row, reason or fate(place, row)) for place, (row, reason) in enumerate(found)]

    def _selection(self, completions: Sequence[Mapping[str, Any]], found: Sequence[Found]) -> dict[str, Any]:
        distances: dict[int, list[float]] = {}
        for each, (row, reason) in zip(completions, found, strict=True):
            if reason is None:
                distances.setdefault(each["row"], []).append(row["distance"])
        masses = [each["mass"] for each, (_, reason) in zip(completions, found, strict=True) if reason is None]
        return {
            "max_distance": self.max_distance,
            "mean_mass": sum(masses) / len(masses) if masses else None,
            **rationale_yield(self.dataset["score"][:], distances, self.max_distance, self.space.scale),
        }


def _unread(judgment: Judgment) -> Judgment:
    nothing: dict[str, Any] = dict.fromkeys(_DISTRIBUTION)
    return replace(judgment, **nothing)
