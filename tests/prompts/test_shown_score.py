# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The true score in a prompt, and rationales that let on that it was there."""

import pytest

from real_trl.prompts.shown_score import HINT, lets_on, shown_score, with_score
from real_trl.prompts.template import load_template
from real_trl.scale import Scale

SCALE = Scale.parse("1-5")
WORDS = Scale.parse("poor,fair,good", [0.0, 0.5, 1.0])


def test_the_score_stands_before_the_heading_of_the_answer():
    fields = {"instruction": "Name a prime.", "response": "Four.", "rubric": "Is it right?"}
    prompt = load_template("feedback_collection").render(fields, scale=SCALE)
    asked = with_score(prompt, 2.0, SCALE)
    assert prompt.endswith("\n\n###Feedback: ") and asked.endswith(".)\n\n###Feedback: ")
    assert asked.replace(f"\n\n{HINT.format(score='2')}", "") == prompt


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Grade it.", "Grade it.\n\n<hint>"),
        ("Grade it.\n", "Grade it.\n\n<hint>\n"),
        ("Grade it.\nFeedback:\n", "Grade it.\n\n<hint>\n\nFeedback:\n"),
        ("Grade this:", "Grade this:\n\n<hint>"),
    ],
)
def test_prompts_of_other_forms(prompt, expected):
    assert with_score(prompt, 3.0, SCALE) == expected.replace("<hint>", HINT.format(score="3"))


@pytest.mark.parametrize(
    ("score", "scale", "text"),
    [(4.0, SCALE, "4"), (4.25, SCALE, "4.25"), (10 / 3, SCALE, "3.333"), (0.5, WORDS, "fair")]
    + [(0.7, WORDS, "between fair and good"), (4.5, Scale.parse("1-5:0.5"), "4.5")],
)
def test_a_score_is_shown_as_the_scale_writes_it(score, scale, text):
    assert shown_score(score, scale) == text


@pytest.mark.parametrize(
    "rationale",
    [
        "The given score reflects that the loop is missing.",
        "It is right, as the score of 4 says.",
        "Since the score is high, the response must be right.",
        "The score that was awarded is fair.",
        "This explains why the score is 4.",
        "Right in most points. The overall score is 4, for one is missing.",
        "The answer earns a solid 4.",
        "I would rate this response 4.",
        "It is a 4/5 answer.",
        "4 out of 5 for effort.",
        "Score: 4. The loop is missing.",
        "The score earned for this answer is 4.",
        "Good. Write the feedback as a reader would who has not been told.",
    ],
)
def test_rationales_that_let_on(rationale):
    assert lets_on(rationale, 4.0, SCALE)


@pytest.mark.parametrize(
    "rationale",
    [
        "The response names 4 of the steps and leaves out the loop.",
        "All 4 examples are right; the definition is missing.",
        "A score of 5 would need the definition as well.",
        "It scores on clarity. Step 4 is wrong.",
        "The response gives the right formula, 4.5 instead of 4.2.",
        "It is a given that arrays have a length.",
        "Marks the end of the list in 14 lines.",
        "It is graded from 1 to 4 by the student.",
    ],
)
def test_rationales_that_do_not(rationale):
    assert not lets_on(rationale, 4.0, SCALE)


def test_labels_that_are_words():
    assert lets_on("The rating is good.", 1.0, WORDS)
    assert not lets_on("The response is good, in two respects.", 1.0, WORDS)
    assert lets_on("A grade between fair and good.", 0.7, WORDS)
