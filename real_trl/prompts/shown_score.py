# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
A prompt that shows the true score while a rationale for it is written (rationalisation, STaR, arXiv 2203.14465), and whether a
rationale lets on that it was shown. Such a rationale gives the score away instead of finding it in the response: whoever reads it
gives that score, so that no reading of the score afterwards would tell it from a good one.
"""

import re

from real_trl.scale import Scale

# It uses the word "awarded", which feedback rarely has, so that a rationale which repeats it is noticed
HINT = (
    "(The score awarded to this response is {score}. Write the feedback as a reader would who has not been told the score: say what in the "
    "response earns it, in what is right and in what is missing. Do not mention that a score was awarded.)"
)
_RUN = 5  # words of the hint in a row that no rationale has by chance
_SCORE = r"(?:scores?|ratings?|grades?|marks?)"
_GIVEN = r"(?:given|provided|assigned|awarded|stated|shown|known|told|predetermined|reference|human|actual|true)"
_WAS_SHOWN = re.compile(
    rf"\b{_GIVEN}\s+(?:\w+\s+){{0,2}}?{_SCORE}\b"  # the given score, the true overall score
    rf"|\b{_SCORE}\s+(?:\w+\s+){{0,3}}?{_GIVEN}\b"  # the score that was given
    rf"|\b(?:since|because|as|given|considering|why)\s+(?:that\s+)?(?:the|its|this|my|your)\s+(?:\w+\s+){{0,2}}?{_SCORE}\s+(?:is|was|of)\b",
    re.IGNORECASE,
)
_VERDICTS = r"(?:deserves?|earns?|gets?|merits?|receives?|rated?|graded?|scored?)"


def with_score(prompt: str, score: float, scale: Scale) -> str:
    """
    `prompt` with the true score in it ([`HINT`]): at its end, or before the heading that it ends with (`"###Feedback:"`), which
    stays where the answer begins.
    """
    body = prompt.rstrip()
    end = prompt[len(body) :]
    head, _, last = body.rpartition("\n")
    hint = HINT.format(score=shown_score(score, scale))
    if head.strip() and last.endswith(":"):
        return f"{head.rstrip()}\n\n{hint}\n\n{last}{end}"
    return f"{body}\n\n{hint}{end}"


def shown_score(score: float, scale: Scale) -> str:
    """The label of a score; between labels the number, or where labels are words, the two that it is between."""
    if score in scale.values:
        return scale.label_of(score)
    if all(label.replace(".", "", 1).isdigit() for label in scale.labels):
        return f"{score:.4g}"
    below = max((value for value in scale.values if value < score), default=scale.low)
    above = min((value for value in scale.values if value > score), default=scale.high)
    return f"between {scale.label_of(below)} and {scale.label_of(above)}"


def lets_on(rationale: str, score: float, scale: Scale) -> bool:
    """
    Whether a rationale that was written with the true score in sight shows that it was: it speaks of a score that was given,
    repeats the hint, or states the score that was shown as the score ("a score of 4", "4 out of 5", "deserves a 4"). It is a rule
    about words: what is said in others is not found.
    """
    if _WAS_SHOWN.search(rationale):
        return True
    words = re.findall(r"\w+", rationale.lower())
    hint = re.findall(r"\w+", HINT.format(score="").lower())
    runs = {tuple(hint[start : start + _RUN]) for start in range(len(hint) - _RUN + 1)}
    if any(tuple(words[start : start + _RUN]) in runs for start in range(len(words) - _RUN + 1)):
        return True
    shown = shown_score(score, scale)
    stated = rf"(?<![\w.]){re.escape(shown)}(?!\w|[.,]\d)"
    if re.search(rf"\b{_SCORE}\b[^.!?\n\d]{{0,40}}?{stated}", rationale, re.IGNORECASE):
        return True
    if not shown[0].isdigit():  # "good" is said of responses too
        return False
    as_score = rf"{stated}(?:\.0)?\s*(?:/|out\s+of|-?\s*(?:points?|stars?|marks?)\b)|\b{_VERDICTS}\s+(?:[^\W\d]+\s+){{0,3}}?{stated}"
    return re.search(as_score, rationale, re.IGNORECASE) is not None
