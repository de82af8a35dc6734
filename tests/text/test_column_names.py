# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a column is, by its name: read without being asked, or offered."""

import pytest

from real_trl.prompts.template import load_template
from real_trl.scale import Scale
from real_trl.text.column_names import NAMES, OWN, key, own_names, usual_column


def test_names_that_are_read_without_being_asked():
    assert own_names("instruction") == (
        "orig_instruction",
        "instruction",
    )  # that of the Feedback-Collection is a whole prompt
    assert own_names("score") == ("score", "orig_score", "gpt4_score")
    assert own_names("score3_description") == ("orig_score3_description", "score3_description")
    assert own_names("topic") == ("topic",)


def test_they_are_among_the_usual_ones():
    for role in ("instruction", "response", "reference", "score", "feedback"):
        assert {key(name) for name in OWN[role]} <= set(NAMES[role])


def test_the_likeliest_usual_name_is_offered():
    assert usual_column("response", ["id", "Model Output", "answer"]) == "answer"
    assert usual_column("response", ["id", "Model Output"]) == "Model Output"
    assert usual_column("instruction", ["Question", "Answer"]) == "Question"
    assert usual_column("response", ["id"]) is None and usual_column("topic", ["topic"]) is None


def test_an_error_offers_it():
    row = {"question": "What does a stack do?", "student_answer": "Last in, first out.", "rubric": "Is it right?"}
    template = load_template("direct")
    with pytest.raises(ValueError, match=r"Map it with `columns: \{instruction: question\}`"):
        template.render(row, {"response": "student_answer"}, scale=Scale.parse("1-5"))
    with pytest.raises(ValueError, match=r"Map it with `columns: \{response: student_answer\}`"):
        template.render(row, {"instruction": "question"}, scale=Scale.parse("1-5"))
