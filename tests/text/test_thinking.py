# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Only what follows a judge's thinking can hold its score, and a block that does not end holds none."""

import copy

import pytest

from real_trl.prompts.completion_parts import spoken, spoken_text
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import PromptFormat
from real_trl.score_space import MALFORMED_STATUSES, ScoreLocation, ScoreSpace
from real_trl.text.thinking import KNOWN, Thinking, ThinkingTags
from tests.engines.thinking_judges import THINKER, opening_tokenizer, with_tags
from tests.tiny import DIGITS, TOKENIZER
from tests.tokenizers_zoo import TOKENIZERS, encode

MARKER = "So the overall score is "
THINK = KNOWN[0]
HARMONY = KNOWN[-1]
ANSWER = f"It misses one point. {MARKER}2"


# --- in text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "opened", "answer"),
    [
        ("an answer", False, "an answer"),
        ("<think>why</think>an answer", False, "an answer"),
        ("<think>why</think>", False, ""),
        ("why</think>an answer", False, "an answer"),  # the prompt has opened it
        ("why</think>an answer", True, "an answer"),
        ("why, and an answer?", True, None),
        ("<think>why", False, None),
        ("an answer <think>no, wait", False, None),
        ("<think>why</think>one <think>or</think>two", False, "two"),
        ("<think>why</think>one <think>or", False, None),
        ("<think>the response says </think> twice</think>an answer", False, "an answer"),
        ("<think>the response says <think></think>an answer", False, "an answer"),
        ("", False, ""),
        ("", True, None),
    ],
)
def test_the_answer_begins_after_the_last_closing_tag(text, opened, answer):
    for tags in KNOWN:
        written = text.replace("<think>", tags.opening).replace("</think>", tags.closing)
        expected = answer
        start = tags.answer_start(written, opened)
        assert (start if start is None else written[start:]) == expected, tags


def test_without_tags_of_its_own_a_model_thinks_where_it_begins_to():
    watchful, deaf = Thinking(), Thinking(watchful=False)
    for text, answer in (
        ("<thinking>\nwhy\n</thinking>\nyes", "\nyes"),
        ("Well.\n  <think>why</think>yes", "yes"),
        ("why</think>yes", "yes"),
        ("The response never closes its <think> tag.", "The response never closes its <think> tag."),  # a quote
        ("\n<think>why", None),
    ):
        start = watchful.answer_start(text)
        assert (start if start is None else text[start:]) == answer
        assert deaf.answer_start(text) == 0


def test_an_opening_tag_that_a_user_typed_is_not_the_token():
    """Where the tag is a token of the model, only the template, or the judge's author, opens a block."""
    tokenizer = with_tags(TOKENIZERS["qwen"](), THINK.opening, THINK.closing)
    thinking = Thinking.of(None, tokenizer)
    (typed,) = PromptEncoding(tokenizer, PromptFormat())(["Rate it. <think>"])
    assert tokenizer.decode(typed).endswith("<think>")
    assert thinking.opened_by_ids(tokenizer, typed) is None
    token = tokenizer.convert_tokens_to_ids(THINK.opening)
    assert token not in typed and thinking.opened_by_ids(tokenizer, [*typed, token]) == THINK


# --- whose tags ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tags", KNOWN, ids=lambda tags: tags.opening)
def test_tags_are_those_of_the_tokenizer(tags):
    pieces = [tags.opening, tags.closing]
    assert Thinking.of(None, with_tags(TOKENIZERS["qwen"](), *pieces)).tags == tags
    assert Thinking.of(None, with_tags(TOKENIZERS["qwen"](), *pieces, special=True)).tags == tags
    template = copy.deepcopy(TOKENIZERS["qwen"]())
    template.chat_template = f"{{{{ messages[0]['content'] }}}}{tags.opening}"
    assert Thinking.of(None, template).tags == tags
    assert Thinking.of(pieces, template).tags == tags and Thinking.of(" ".join(pieces), template).tags == tags


def test_models_without_tags():
    for tokenizer in (TOKENIZER, DIGITS, *(build() for build in TOKENIZERS.values())):
        assert Thinking.of(None, tokenizer) == Thinking()
        for nothing in ("none", []):
            assert Thinking.of(nothing, tokenizer) == Thinking(watchful=False)


def test_what_is_stated_comes_back():
    tokenizer = TOKENIZERS["smollm"]()
    for stated in (None, [], ["<think>", "</think>"], ["<why>", "</why>"]):
        assert Thinking.of(stated, tokenizer).stated == stated
        assert Thinking.of(Thinking.of(stated, tokenizer).stated, tokenizer) == Thinking.of(stated, tokenizer)
    assert Thinking.of("<why> </why>", tokenizer).tags == ThinkingTags("<why>", "</why>")


@pytest.mark.parametrize("stated", ["<think>", "<a> </a> <b>", ["<think>", ""], "<a> <a>", "a </a>", [1, 2]])
def test_what_is_no_pair_is_refused(stated):
    with pytest.raises(ValueError, match="thinking: .* Set it to the two tags around the model's thinking, such as"):
        Thinking.of(stated, TOKENIZERS["smollm"]())


def test_tags_that_the_tokenizer_cannot_write_are_refused():
    with pytest.raises(ValueError, match="thinking: '<think> </think>' does not survive the tokenizer"):
        ScoreSpace.from_labels("1-5", TOKENIZER, thinking="<think> </think>")


# --- where the score is --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[(name, tags) for name in TOKENIZERS for tags in (THINK, KNOWN[4], None)], ids=str)
def space(request):
    """Tags as tokens, as special tokens, and as text that any tokenizer writes."""
    name, tags = request.param
    tokenizer = TOKENIZERS[name]()
    if tags is None and name == "words":
        pytest.skip("words cannot be spelled")
    if tags is not None:
        tokenizer = with_tags(tokenizer, tags.opening, tags.closing, special=tags is not THINK)
    return ScoreSpace.from_labels("1-5", tokenizer)


def tags_of(space):
    return space.thinking.tags or THINK


def written(space, text):
    tags = tags_of(space)
    return encode(space.tokenizer, text.replace("<think>", tags.opening).replace("</think>", tags.closing))


@pytest.mark.parametrize(
    ("text", "status", "label"),
    [
        (f"<think>\nThe response is good. {MARKER}5\n</think>\n\n{ANSWER}", "ok", "2"),
        (f"The response is good. {MARKER}5\n</think>\n\n{ANSWER}", "ok", "2"),
        (f"<think>\n{MARKER}5\n</think>\n\nIt misses one point.", "missing", None),
        (f"<think>\n{MARKER}5\n</think>\n\nIt misses one point. {MARKER}", "truncated", None),
        (f"<think>\n{MARKER}5\n</think>\n\n{MARKER}high", "outside", None),
        (f"<think>\n{MARKER}5\n</think>", "missing", None),
        (f"<think>\n{MARKER}5", "unclosed", None),
        (f"<think>\nThe response is good.\n</think>\n{MARKER}5\n<think>\nwrong", "unclosed", None),
        (f"{ANSWER}\n<think>\nwrong\n</think>", "missing", None),
        (ANSWER, "ok", "2"),
    ],
)
def test_only_what_follows_the_thinking_holds_the_score(space, text, status, label):
    ids = written(space, text)
    for end in ([], [space.tokenizer.eos_token_id], [space.tokenizer.eos_token_id, space.tokenizer.pad_token_id]):
        location = space.locate([*ids, *end])
        assert location.status == status
        assert (location.label_index is None) == (label is None)
        if label is not None:
            assert space.labels[location.label_index] == label
            assert tuple(ids[location.position :])[:1] == space.token_ids[location.label_index][:1]


def test_a_block_that_the_prompt_opens(space):
    tags = tags_of(space)
    closed_prompt = written(space, "The tone fits the task.\n<think>\n\n</think>\n\n")
    prompt = written(space, "The tone fits the task.\n<think>\n")
    assert space.opened_by(closed_prompt) is None and space.opened_by(written(space, ANSWER)) is None
    assert space.opened_by(prompt) == tags
    ids = written(space, ANSWER)
    assert space.locate(ids).ok and space.locate(ids, opened=tags) == ScoreLocation("unclosed")
    assert space.locate(written(space, f"good\n</think>\n\n{ANSWER}"), opened=tags).ok


def test_an_unclosed_block_is_closed_before_a_score_is_forced(space):
    """What is read then is what an answer would look like that begins with the marker."""
    tags = tags_of(space)
    for text, opened in ((f"<think>\nThe response is good. {MARKER}5", None), ("The response is good.", tags)):
        ids = written(space, text)
        location = space.locate(ids, opened=opened)
        forced = space.forced_ids(ids, location, opened)
        assert location.status == "unclosed" and len(forced) <= space.most_forced
        for index, path in enumerate(space.token_ids):
            whole = [*ids, *forced, *path]
            assert space.locate(whole, opened=opened) == ScoreLocation("ok", len(ids) + len(forced), index)
        behind = space.tokenizer.decode(whole, skip_special_tokens=False).rpartition(tags.closing)[2]
        assert behind.strip() == f"{MARKER}5"
        said = spoken(space, whole, opened)
        assert said.rationale == "" and said.thinking.startswith("The response is good") and "/" not in said.thinking
    missing = written(space, "<think>\nThe response is good.\n</think>\nIt misses one point.")
    assert space.forced_ids(missing, space.locate(missing)) == list(space.marker_ids)


def test_what_is_said(space):
    ids = written(space, f"<think>\nThe response is good. {MARKER}5\n</think>\n\n{ANSWER}")
    assert spoken(space, [*ids, space.tokenizer.eos_token_id]) == (
        spoken(space, written(space, f"The response is good. {MARKER}5"))[1] + f" {MARKER}5",
        spoken(space, written(space, ANSWER))[1],
    )
    assert spoken(space, written(space, ANSWER)).thinking == ""


def test_in_text_it_is_said_alike():
    space = ScoreSpace.from_labels("1-5", with_tags(TOKENIZERS["qwen"](), "<think>", "</think>"))
    text = f"<think>\nGood. {MARKER}5\n</think>\n\n{ANSWER}"
    assert spoken_text(space, text) == (f"Good. {MARKER}5", "It misses one point.")
    assert spoken_text(space, "<think>\nGood.") == ("Good.", "")
    assert spoken_text(space, "Good.", THINK) == ("Good.", "") and spoken_text(space, "Good.") == ("", "Good.")


def test_the_answer_of_gpt_oss_is_a_channel():
    tokens = ["<|channel|>", "<|message|>", "<|start|>", "<|end|>"]
    tokenizer = with_tags(TOKENIZERS["qwen"](), *tokens, special=True)
    tokenizer.chat_template = "{{ messages[0]['content'] }}<|channel|>analysis<|message|>"
    space = ScoreSpace.from_labels("1-5", tokenizer)
    assert space.thinking.tags == HARMONY
    thought = f"{HARMONY.opening}Good. {MARKER}5"
    assert space.locate(encode(tokenizer, f"{thought}{HARMONY.closing}{ANSWER}")).label_index == 1
    assert space.locate(encode(tokenizer, f"{thought}{HARMONY.closing}")).status == "missing"
    assert space.locate(encode(tokenizer, thought)).status == "unclosed"


def test_statuses_are_told_in_one_place():
    assert set(MALFORMED_STATUSES) == {"missing", "truncated", "outside", "unclosed"}
    assert THINKER.convert_tokens_to_ids("<think>") != THINKER.unk_token_id
    assert (
        opening_tokenizer()
        .apply_chat_template([{"role": "user", "content": "right"}], add_generation_prompt=True, tokenize=False)
        .endswith("<think>\n")
    )
