# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""
What columns are called, for all that look for one by its name: names that are read without being asked (`OWN`), and those that people
usually give (`NAMES`), which are offered, or asked about.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

# What recipes and commands read where nothing is said: the names of this library, and those of the Feedback-Collection, in order
OWN = {
    "instruction": ("orig_instruction", "instruction"),
    "response": ("orig_response", "response"),
    "reference": ("orig_reference_answer", "reference"),
    "criteria": ("orig_criteria", "criteria"),
    "score": ("score", "orig_score", "gpt4_score"),  # the last of Prometheus' benchmark files
    "feedback": ("feedback", "orig_feedback"),
}
DESCRIPTION = re.compile(r"score(\d+)_description")
"""The column that describes a score of the Feedback-Collection's rubrics."""

# Usual names of each role, the likeliest first. They are compared in lower case, without punctuation.
NAMES = {
    "prompt": ("prompt", "judgeprompt", "fullprompt"),
    "instruction": ("instruction", "originstruction", "question", "query", "task", "input", "userprompt", "request"),
    "response": (
        *("response", "origresponse", "answer", "output", "completion", "reply", "modelresponse", "modelanswer"),
        *("modeloutput", "generation", "candidate", "essay", "studentanswer", "studentresponse", "submission"),
    ),
    "rubric": ("rubric", "criteria", "origcriteria", "criterion", "guideline", "guidelines"),
    "reference": (
        *(
            "reference",
            "origreferenceanswer",
            "referenceanswer",
            "referenceresponse",
            "gold",
            "goldanswer",
            "idealanswer",
        ),
        *("expectedanswer", "solution"),
    ),
    "score": (
        *(
            "score",
            "rating",
            "grade",
            "overall",
            "overallscore",
            "overallrating",
            "humanscore",
            "humanrating",
            "meanscore",
        ),
        *("averagescore", "label", "origscore", "gpt4score", "quality", "stars", "points", "mark"),
    ),
    "feedback": (
        *("feedback", "origfeedback", "rationale", "comment", "comments", "explanation", "justification", "reason"),
        *("critique", "review"),
    ),
    "group": (
        *(
            "questionid",
            "promptid",
            "instructionid",
            "qid",
            "taskid",
            "itemid",
            "conversationid",
            "topicid",
            "groupid",
        ),
        *("group", "idx"),
    ),
    "split": ("split", "fold", "partition", "subset"),
    "rater": (
        *(
            "rater",
            "raterid",
            "annotator",
            "annotatorid",
            "worker",
            "workerid",
            "grader",
            "graderid",
            "judge",
            "judgeid",
        ),
        *(
            "completedby",
            "evaluator",
            "evaluatorid",
            "coder",
            "coderid",
            "reviewer",
            "reviewerid",
            "expert",
            "expertid",
        ),
        *("user", "userid", "participant", "participantid", "turker", "labeler", "person"),
    ),
}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "heldout"), "test"),
}

RATER = re.compile(r"(.*?)[ _.-]?(\d{1,2}|[a-e])$")
RATERS = re.compile(
    r"(rater|annotator|rating|score|judge|expert|human|grader|label|grade|worker|evaluator|person|coder|reviewer)s?$"
)
"""A column of one of several raters: what it is called, and the number or letter at its end."""


def own_names(role: str) -> tuple[str, ...]:
    """The names of a role's column that are read without being asked, the first that there is; by default its own name."""
    return OWN.get(role, (f"orig_{role}", role) if DESCRIPTION.fullmatch(role) else (role,))


def usual_column(role: str, columns: Iterable[str]) -> str | None:
    """The column that people would most likely mean by a role, to be offered; `None` if none has a usual name."""
    named = {key(column): column for column in columns}
    return next((named[name] for name in NAMES.get(role, ()) if name in named), None)


def key(name: str) -> str:
    """A name as those of `NAMES` are written."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def split_of(value: Any) -> str:
    """`"train"`, `"validation"` or `"test"`, of any usual way to write it."""
    return SPLITS[str(value).strip().lower()]


def are_like_raters(columns: Sequence[str]) -> bool:
    """Whether columns differ in a number or letter at the end only, and are called like raters or ratings."""
    matches = [RATER.fullmatch(column.lower()) for column in columns]
    return all(matches) and len({match[1] for match in matches}) == 1 and bool(RATERS.search(matches[0][1]))
