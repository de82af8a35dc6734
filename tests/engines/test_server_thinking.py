# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Servers whose models think: with the thoughts in the text, in a field of their own, or in parts of the message."""

import copy

import pytest

from real_trl.engines import Decoding, ServerEngine
from real_trl.engines.server_answer import text_of_choice, thoughts_of
from real_trl.score_space import ScoreSpace
from tests import tokenizers_zoo as zoo
from tests.engines.test_server_engine import in_order
from tests.engines.thinking_judges import with_tags
from tests.helpers.scripted_server import PIECES, SCORE, ScriptedServer, changed, chat_answer, text_answer
from tests.helpers.tiny_server import MODEL_NAME, serve

THOUGHT = "Good? So the overall score is 2"
GOOD = [0.02, 0.05, 0.2, 0.6, 0.1]
OPENING = "{{ messages[0]['content'] }}{% if add_generation_prompt %}<think>\n{% endif %}"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def entry(piece):
    own = {"token": piece, "logprob": -0.1, "bytes": list(piece.encode())}
    return {**own, "top_logprobs": [own]}


def answered(before="", *, content=None, cut=None, **message):
    """
    The scripted judge, which says 4, with tokens `before` it; its message's content, if not all of that, and further fields. `cut`
    takes what it says away, and is what the completion ends with.
    """

    def change(answer):
        choice = answer["choices"][0]
        choice["logprobs"]["content"][: None if cut is not None else 0] = [entry(p) for p in (before, cut) if p]
        said = f"{before}{cut}" if cut is not None else f"{before}{''.join(PIECES)}"
        choice["message"] = {"role": "assistant", "content": said if content is None else content, **message}
        choice["finish_reason"] = "stop" if cut is None else "length"

    return changed(chat_answer(), change)


def chat_judge(answer, template=None, thinking=None, tags=("<think>", "</think>"), **decoding):
    tokenizer = with_tags(zoo.TOKENIZERS["qwen"](), *tags) if tags else copy.deepcopy(zoo.TOKENIZERS["qwen"]())
    tokenizer.chat_template = template
    space = ScoreSpace.from_labels("1-5", tokenizer, thinking=thinking)
    with serve(ScriptedServer(lambda prompt, number: answer)) as url:
        engine = ServerEngine(url, MODEL_NAME, tokenizer, space, Decoding(chat=True, **decoding), api="chat")
        return in_order(engine.judge(["a prompt"]), 1)[0]


PLAIN = "".join(PIECES)
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
    {"type": "text", "text": PLAIN},
]
WAYS = {
    "in the text": answered(f"<think>{THOUGHT}</think>\n\n"),
    "opened by the prompt": answered(f"{THOUGHT}</think>\n\n"),
    "reasoning_content": answered(f"<think>{THOUGHT}</think>", content=PLAIN, reasoning_content=THOUGHT),
    "reasoning": answered(f"<think>{THOUGHT}</think>", content=PLAIN, reasoning=THOUGHT),
    "of which no tokens are shown": answered(content=PLAIN, reasoning=THOUGHT),
    "parts of the message": answered(f"[THINK]{THOUGHT}[/THINK]", content=PARTS),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("template", [None, OPENING], ids=["", "the template opens"])
def test_the_verdict_is_behind_the_thoughts(way, template):
    judgment = chat_judge(WAYS[way], template)
    assert (judgment.status, judgment.sampled_score, judgment.error) == ("ok", 4.0, None)
    assert judgment.thinking == THOUGHT and judgment.rationale == "Fine."
    assert list(judgment.probabilities.values()) == pytest.approx(GOOD)


UNCLOSED = {
    "in the text": answered("<think>", cut=THOUGHT),
    "opened by the prompt": answered(cut=THOUGHT),
    "reasoning_content": answered("<think>", cut=THOUGHT, content="", reasoning_content=THOUGHT),
    "reasoning, and null": changed(
        answered(cut=THOUGHT, reasoning=THOUGHT), lambda answer: answer["choices"][0]["message"].update(content=None)
    ),
    "parts of the message": answered("[THINK]", cut=THOUGHT, content=PARTS[:1]),
}


@pytest.mark.parametrize("way", UNCLOSED)
@pytest.mark.parametrize("malformed", ["force", "drop"])
def test_thoughts_that_do_not_end_are_no_answer(way, malformed):
    """A chat API cannot go on with them: they stay without scores."""
    judgment = chat_judge(UNCLOSED[way], OPENING, malformed=malformed)
    assert (judgment.status, judgment.error) == ("unclosed", None)
    assert judgment.expected_score is judgment.sampled_score is judgment.probabilities is None
    assert judgment.thinking == THOUGHT and judgment.rationale == ""


def test_thoughts_and_then_nothing_is_an_answer_without_a_score():
    ended = changed(UNCLOSED["reasoning_content"], lambda answer: answer["choices"][0].update(finish_reason="stop"))
    assert chat_judge(ended).status == "missing"


@pytest.mark.parametrize(
    ("thinking", "tags", "status"),
    [
        (None, ("<think>", "</think>"), "unclosed"),
        (None, (), "unclosed"),
        ("none", (), "ok"),
        ("<why> </why>", (), "ok"),
    ],
)
def test_whose_tags_they_are(thinking, tags, status):
    """A tokenizer that only spells the labels may not know how the served model thinks; what begins a line is believed."""
    judgment = chat_judge(answered("<think>"), thinking=thinking, tags=tags)
    assert judgment.status == status


def test_a_quoted_tag_of_a_model_that_has_none_is_text():
    assert chat_judge(answered("The response has a <think> tag. "), tags=()).status == "ok"


@pytest.mark.parametrize(("enabled", "status"), [(True, "unclosed"), (False, "ok")])
def test_what_the_template_opens_goes_by_its_arguments(enabled, status):
    template = (
        "{{ messages[0]['content'] }}{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}"
    )
    judgment = chat_judge(answered(), template, chat_template_kwargs={"enable_thinking": enabled})
    assert judgment.status == status


@pytest.mark.parametrize("opened", [False, True])
def test_the_completions_api_closes_the_block_before_the_marker(opened):
    tokenizer = with_tags(zoo.TOKENIZERS["qwen"](), "<think>", "</think>")
    tokenizer.chat_template = OPENING if opened else "{{ messages[0]['content'] }}"
    space = ScoreSpace.from_labels("1-5", tokenizer)
    text = THOUGHT if opened else f"<think>{THOUGHT}"

    def behaviour(prompt, number):
        if number == 1:
            first = changed(
                text_answer(), lambda answer: answer["choices"][0].update(finish_reason="length", text=text)
            )
            top = {"tokens": [text], "token_logprobs": [-0.1], "top_logprobs": [{text: -0.1}]}
            return changed(first, lambda answer: answer["choices"][0].update(logprobs=top))
        answer = text_answer()
        numbers = answer["choices"][0]["logprobs"]
        answer["choices"][0] |= {"text": PIECES[SCORE], "logprobs": {k: v[SCORE:] for k, v in numbers.items()}}
        return answer

    server = ScriptedServer(behaviour)
    with serve(server) as url:
        engine = ServerEngine(url, MODEL_NAME, tokenizer, space, Decoding(chat=True), extensions=False)
        judgment = in_order(engine.judge(["a prompt"]), 1)[0]
    assert judgment.status == "unclosed" and judgment.thinking == THOUGHT
    assert list(judgment.probabilities.values()) == pytest.approx(GOOD)
    asked = "a prompt<think>\n" if opened else "a prompt"
    assert server.bodies[-1]["prompt"] == f"{asked}{text}\n</think>\n\nSo the overall score is "


def test_thoughts_in_an_answer():
    for message, thoughts, text in (
        ({"content": "4", "reasoning_content": "why"}, "why", "4"),
        ({"content": None, "reasoning": "why"}, "why", ""),
        ({"content": [{"type": "reasoning", "text": "why"}, {"type": "text", "text": "4"}]}, "why", "4"),
        ({"content": [{"type": "thinking", "thinking": "why"}, {"type": "text", "text": "4"}]}, "why", "4"),
        ({"content": [{"type": "thinking", "thinking": "why"}]}, "why", ""),
        ({"content": "4", "reasoning_content": {"odd": 1}}, "", "4"),
        ({"content": "4"}, "", "4"),
    ):
        choice = {"message": message}
        assert (thoughts_of(choice), text_of_choice(choice)) == (thoughts, text)
