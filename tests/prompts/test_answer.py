# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""How an answer is written, and goes on from its prompt."""

import pytest

from real_trl.prompts.answer import AnswerOpening, answer_text, answer_to
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import PromptFormat
from real_trl.score_space import ScoreSpace
from tests.tiny import TOKENIZER


def test_an_answer_is_rationale_marker_and_label():
    assert answer_text("It is right.", "4", "So the score is ") == "It is right. So the score is 4"
    assert answer_text("", "4", "So the score is ") == "So the score is 4"


@pytest.mark.parametrize(
    ("prompt", "text"), [("Grade it.", " So 4"), ("Grade it. \t", " So 4"), ("Grade it:\n", "So 4"), ("a\n ", "So 4")]
)
def test_a_blank_stands_before_it_unless_the_prompt_ends_a_line(prompt, text):
    assert answer_to(prompt, "So 4", chat=False) == text
    assert answer_to(prompt, "So 4", chat=True) == [{"role": "assistant", "content": "So 4"}]


def test_an_opening_ends_where_the_label_begins():
    space = ScoreSpace.from_labels("1-5", TOKENIZER)
    opening = AnswerOpening(PromptEncoding(TOKENIZER, PromptFormat()), space)
    marker = TOKENIZER("So the overall score is")["input_ids"]
    assert opening("Grade it.") == marker
    assert opening("Grade it.", "right , wrong .") == [*TOKENIZER("right , wrong .")["input_ids"], *marker]
