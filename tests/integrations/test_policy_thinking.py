# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The judge of a policy that thinks is shown the policy's answers."""

import pytest

from real_trl import Judge
from real_trl.integrations import JudgeReward
from real_trl.integrations.policy_answers import policy_answers
from real_trl.integrations.prompt_fields import answer_of, text_of
from real_trl.text.thinking import KNOWN, without_thinking
from tests.integrations.judges import RUBRIC, save_judge

PROMPT = "1) 7+4 = 12"
ANSWER = "right close"
THOUGHT = "wrong wrong wrong"


def said(content, **fields):
    return [{"role": "assistant", "content": content, **fields}]


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = save_judge(tmp_path_factory.mktemp("judge"))
    return Judge.from_pretrained(folder, do_sample=False, max_new_tokens=24)


@pytest.mark.parametrize("tags", KNOWN, ids=lambda tags: tags.opening)
def test_the_answer_of_a_text(tags):
    block = f"{tags.opening}\nNot sure, maybe 8.\n{tags.closing}\n\n"
    for text, answer in (
        (f"{block}3+4 = 7", "3+4 = 7"),
        (f"\n {block}3+4 = 7", "3+4 = 7"),
        (f"Not sure.\n{tags.closing}\n\n3+4 = 7", "3+4 = 7"),  # opened by the prompt
        (f"Well.\n{block}3+4 = 7", "3+4 = 7"),
        (f"{block}{block}3+4 = 7", "3+4 = 7"),
        (f"{tags.opening}\nNot sure, maybe 8.", None),
        (block.strip(), ""),
        ("3+4 = 7", "3+4 = 7"),
        (" 3+4 = 7\n", " 3+4 = 7\n"),
        (f"Write {tags.opening} and {tags.closing}.", f"Write {tags.opening} and {tags.closing}."),  # about tags
    ):
        assert without_thinking(text) == answer, text
        assert answer_of(said(text)) == answer_of(text) == answer, text
        assert answer_of(said(text), ()) == text


def test_thinking_that_stands_apart():
    for name in ("reasoning_content", "reasoning"):
        assert answer_of(said("3+4 = 7", **{name: "Not sure."})) == "3+4 = 7"
        assert answer_of(said("", **{name: "Not sure."})) is None
    parts = [{"type": "thinking", "thinking": "Not sure."}, {"type": "text", "text": "3+4 = 7"}]
    assert answer_of(said(parts)) == "3+4 = 7"
    assert answer_of(said([{"type": "reasoning", "text": "Not sure."}, parts[1]])) == "3+4 = 7"


def test_an_instruction_does_not_hold_an_assistants_thinking():
    turns = [
        {"role": "user", "content": "1+1? <think> of it"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n2"},
        {"role": "user", "content": "And 3+4?"},
    ]
    assert text_of(turns) == "User: 1+1? <think> of it\n\nAssistant: 2\n\nUser: And 3+4?"
    begun = {"role": "assistant", "content": "<think>\n"}
    assert text_of([turns[2], begun]) == "And 3+4?"
    assert "hm" in text_of(turns, ())


def test_one_completion_that_closes_a_block_shows_that_the_prompts_open_it():
    """A completion of the same batch without tags is still thinking; in a batch without any, it is an answer."""
    closed, unclosed = f"{THOUGHT}</think>{ANSWER}", THOUGHT
    assert policy_answers(["a"] * 2, [closed, unclosed], KNOWN) == [ANSWER, None]
    assert policy_answers(["a"] * 2, [said(unclosed), said(closed)], KNOWN) == [None, ANSWER]
    assert policy_answers(["a"] * 2, [unclosed, unclosed], KNOWN) == [THOUGHT, THOUGHT]
    assert policy_answers(["a"] * 2, [f"<think>{closed}", unclosed], KNOWN) == [ANSWER, THOUGHT]
    assert policy_answers(["a"] * 2, [closed, unclosed], ()) == [closed, unclosed]


@pytest.mark.parametrize(
    "quote", ["Write </think> and then the answer.", "Use `</think>`.", "“</think>” ends it.", 'By "</think>"!']
)
def test_a_quoted_tag_shows_nothing_about_the_other_completions(quote):
    assert policy_answers(["a"] * 3, [quote, ANSWER, THOUGHT], KNOWN)[1:] == [ANSWER, THOUGHT]
    for closed in (f"{THOUGHT}</think>{ANSWER}", f"{THOUGHT}\n</think> {ANSWER}", f"{THOUGHT} </think>\n{ANSWER}"):
        assert policy_answers(["a"] * 3, [quote, closed, THOUGHT], KNOWN)[1:] == [ANSWER, None]


def test_a_prompt_that_opens_the_block_itself():
    begun = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\n"}]
    assert policy_answers(["a\n<think>\n", "a"], [THOUGHT, THOUGHT], KNOWN) == [None, THOUGHT]
    assert policy_answers([begun], [said(THOUGHT)], KNOWN) == [None]
    assert policy_answers([[{"role": "user", "content": "What is <think>"}]], [said(ANSWER)], KNOWN) == [ANSWER]


def test_rewards_are_those_of_the_answers(judge):
    texts = [f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}", f"{THOUGHT}</think>{ANSWER}", ANSWER, f"<think>{THOUGHT}"]
    reward = JudgeReward(judge, rubric=RUBRIC, malformed="force")
    expected = reward([PROMPT], [ANSWER])[0]
    assert expected is not None and expected != pytest.approx(reward([PROMPT], [THOUGHT])[0], abs=1e-3)
    logged = {}
    options = {"log_extra": logged.__setitem__, "log_metric": logged.__setitem__}
    for completions in (texts, [said(text) for text in texts]):
        # The third has no tag in a batch whose second shows that the prompts open the block
        rewards = reward([PROMPT] * 4, completions, **options)
        assert rewards[:2] == pytest.approx([expected] * 2, abs=1e-5) and rewards[2:] == [None, None]
        assert logged["judge/unanswered"] == 0.5 and logged["judge_rationale"][2:] == [None, None]
    assert reward([PROMPT] * 2, texts[3:] * 2, **options) == [None, None] and logged["judge/unanswered"] == 1
    reward([PROMPT], [ANSWER], **options)
    assert logged["judge/unanswered"] == 0


def test_stripping_is_a_choice(judge):
    text = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    shown = JudgeReward(judge, rubric=RUBRIC, malformed="force", strip_thinking=False)
    plain = JudgeReward(judge, rubric=RUBRIC, malformed="force")
    assert shown([PROMPT], [text])[0] != pytest.approx(plain([PROMPT], [text])[0], abs=1e-4)
    own = JudgeReward(judge, rubric=RUBRIC, malformed="force", strip_thinking=("right", "wrong"))
    assert own([PROMPT], [f"right close wrong {ANSWER}"]) == [None]  # an answer that begins to think again
    assert own([PROMPT], ["right close wrong close"]) == plain([PROMPT], ["close"])
    for wrong in ("<think>", ("<a>",), ("<a>", ""), ("a", "b", "c")):
        with pytest.raises(ValueError, match="strip_thinking: got .* Set it to true, to false, or to the two tags"):
            JudgeReward(judge, rubric=RUBRIC, strip_thinking=wrong)


def test_a_wrong_completion_is_still_named(judge):
    with pytest.raises(ValueError, match="JudgeReward 'judge', row 1: completion: no message of the assistant"):
        JudgeReward(judge, rubric=RUBRIC)([PROMPT] * 2, [said(ANSWER), [{"role": "user", "content": "x"}]])
