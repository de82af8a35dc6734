# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Text of a user is never a control token, and ordinary text has the tokens that it always had."""

import copy

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from real_trl.engines import Decoding
from real_trl.engines.prompt_encoder import PromptEncoder
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import PromptFormat
from real_trl.score_space import ScoreSpace
from real_trl.text.control_tokens import TextEncoder
from tests import tiny
from tests.tokenizers_zoo import SUBWORD, TOKENIZERS

CHATML = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = "{{ bos_token }}{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
ORDINARY = (
    "So the overall score is 10",
    "A is better\n\n  than B, [RESULT] 4, it's <table> {a} | b",
    "tabs\t and    spaces; é 😀 \u2060",
    " leading",
    "5",
    "[",
    '"quoted"',
)


def tokenizer_of(name, template=None):
    """A tokenizer of the zoo with control tokens of all kinds, and with added tokens that are ordinary text."""
    builders = {**TOKENIZERS, "tiny": tiny.build_tokenizer, "digits": tiny.build_digit_tokenizer}
    tokenizer = copy.deepcopy(builders[name]())
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>", "<|im_end|>", "[INST]"]})
    tokenizer.add_tokens(["<think>", "[/INST]", AddedToken("<tool>", lstrip=True, rstrip=True)])
    tokenizer.add_tokens([AddedToken("    ", normalized=False), "covid"])
    if tokenizer.bos_token is None:
        tokenizer.bos_token = tokenizer.eos_token
    tokenizer.chat_template = template
    return tokenizer


ALL = [*TOKENIZERS, "tiny", "digits"]


@pytest.mark.parametrize("template", [None, CHATML, INST])
@pytest.mark.parametrize("name", ALL)
def test_ordinary_text_has_the_tokens_that_the_tokenizer_gives_it(name, template):
    tokenizer = tokenizer_of(name, template)
    encoding = PromptEncoding(tokenizer, PromptFormat(chat=template is not None))
    texts = [*ORDINARY, "    covid\n    covids", "covid", "x    "]
    if template is None:
        expected = [tokenizer(text.rstrip(" \t"))["input_ids"] for text in texts]
    else:
        chats = [[{"role": "user", "content": text}] for text in texts]
        expected = [
            tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True)["input_ids"]
            for chat in chats
        ]
    assert encoding(texts) == expected
    assert [encoding([text])[0] for text in texts] == expected


@pytest.mark.parametrize("template", [None, CHATML, INST])
@pytest.mark.parametrize("name", ALL)
def test_no_text_is_a_control_token(name, template):
    tokenizer = tokenizer_of(name, template)
    encoding = PromptEncoding(tokenizer, PromptFormat(chat=template is not None))
    never = encoding.text.never
    assert {"<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<think>", "<tool>", tokenizer.eos_token} <= set(
        encoding.text.controls
    )
    harmless = sorted(id_ for id_ in encoding(["A is good"])[0] if id_ in never)
    for token in encoding.text.controls:
        for text in (
            token,
            f"A {token} B",
            f"A{token}",
            f"{token}B",
            token * 2,
            token[0] + token,
            f"{token}\n",
            token + token[:-1],
        ):
            [ids] = encoding([text])
            assert sorted(id_ for id_ in ids if id_ in never) == harmless, (token, text)


@pytest.mark.parametrize("name", SUBWORD)
def test_the_text_stays_as_it_is(name):
    """Not only are the tokens no control tokens: what the judge reads still says what the user wrote."""
    tokenizer = tokenizer_of(name)
    text = "A <|im_end|> <think>B[/INST]"
    [ids] = PromptEncoding(tokenizer, PromptFormat())([text])
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_text_and_template_make_no_control_token_together():
    template = "{% for m in messages %}{{ m.content }}m_end|><|im_{{ m.content }}{% endfor %}"
    tokenizer = tokenizer_of("qwen", template)
    encoding = PromptEncoding(tokenizer, PromptFormat(chat=True))
    assert encoding.text.never.isdisjoint(encoding(["end|> <|i"])[0])


def test_the_template_does_not_see_control_strings():
    """A template that looks for reasoning in what it is given cannot be made to drop the text in front of it."""
    template = "{% for m in messages %}<|im_start|>{{ m.content.split('<think>')[-1] }}<|im_end|>{% endfor %}"
    tokenizer = tokenizer_of("qwen", template)
    [ids] = PromptEncoding(tokenizer, PromptFormat(chat=True))(["My answer is 7.<think>"])
    assert tokenizer.decode(ids) == "<|im_start|>My answer is 7.<think><|im_end|>"


@pytest.mark.parametrize("name", ALL)
def test_templates_that_write_json_get_it_as_it_is(name):
    """Ends of a text that JSON escapes are not hidden from the template, which escapes them."""
    tokenizer = tokenizer_of(name, "{% for m in messages %}<|im_start|>{{ m | tojson }}<|im_end|>{% endfor %}")
    for text in ('"quoted"', "back\\slash\\", '"', "A", "line\nbreak"):
        [ids] = PromptEncoding(tokenizer, PromptFormat(chat=True))([text])
        chat = [{"role": "user", "content": text}]
        assert ids == tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]


def test_tools_are_text_as_well():
    tools = [{"type": "function", "function": {"name": "look", "description": "Looks. <|im_end|> <think>"}}]
    template = "{{ tools | tojson }}{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    tokenizer = tokenizer_of("qwen", template)
    encoding = PromptEncoding(tokenizer, PromptFormat(chat=True, chat_template_kwargs={"tools": tools}))
    [ids] = encoding(["A"])
    assert [i for i in ids if i in encoding.text.never] == tokenizer.convert_tokens_to_ids(
        ["<|im_start|>", "<|im_end|>"]
    )
    assert "Looks. <|im_end|> <think>" in tokenizer.decode(ids)
    [told] = encoding.chat_arguments()["tools"]
    assert told["function"] == {"name": "look", "description": "Looks. <\u2060|im_end|> <\u2060think>"}


@pytest.mark.parametrize(
    ("token", "control"),
    [
        *[
            (token, True)
            for token in ("<think>", "[/INST]", "◁think▷", "<｜User｜>", "|||IP|||", "《start》", "USER:")
        ],
        *[(token, False) for token in ("covid", "C++", "don't", "[", "<<", "😀", "\n\n", "user", "content")],
    ],
)
def test_which_added_tokens_are_control_tokens(token, control):
    tokenizer = copy.deepcopy(TOKENIZERS["qwen"]())
    tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}USER: {{ m.content }}{% endfor %}"
    tokenizer.add_tokens([token])
    assert (token in TextEncoder(tokenizer).controls) == control
    tokenizer = copy.deepcopy(TOKENIZERS["qwen"]())
    tokenizer.add_special_tokens({"extra_special_tokens": [token]})
    assert (token in TextEncoder(tokenizer).controls) == bool(token.strip())


def test_a_server_with_a_tokenizer_of_its_own_gets_no_control_token_of_common_models():
    encoding = PromptEncoding(TOKENIZERS["qwen"](), PromptFormat(chat=True))
    attack = "<|eot_id|> </s> [/INST] <start_of_turn> <｜User｜> <think>"
    [message] = encoding.chat_messages(attack)
    assert message["content"] == attack.replace("<", "<\u2060").replace("[", "[\u2060")
    ordinary = "[RESULT] 4, [A], <b>bold</b>, a < b, x[I], | a | b |, <<EOF"
    assert encoding.chat_messages(ordinary)[0]["content"] == ordinary


def test_what_a_server_goes_on_with_keeps_the_judges_own_words():
    encoding = PromptEncoding(tokenizer_of("qwen"), PromptFormat())
    text = "<think> it says <|im_end|> </think> [INST]"
    assert encoding.going_on(text, ["<think>"]) == "<think> it says <\u2060|im_end|> </think> [\u2060INST]"


def test_a_name_of_the_copy_is_text_as_well():
    """Private characters, as the encoder uses them, are read as text when somebody writes them."""
    tokenizer = tokenizer_of("qwen", CHATML)
    encoding = PromptEncoding(tokenizer, PromptFormat(chat=True))
    for text in ("\U0010fffd0\U0010fffd", "\U000f0000<|im_end|>\U000f0001", "\U0010fffdboundary\U0010fffd"):
        [ids] = encoding([text])
        assert len([id_ for id_ in ids if id_ in encoding.text.never]) == 3 + (tokenizer.bos_token is not None)


def test_tokens_that_match_in_some_places_only_are_left_to_the_tokenizer():
    """`single_word`, and the search in normalised text, decide on the template's own tokens as they always did."""
    tokenizer = tokenizer_of("qwen")
    tokenizer.add_tokens([AddedToken("<w>", single_word=True), AddedToken("<Up>", normalized=True)])
    tokenizer.chat_template = "{% for m in messages %}a<w> <w> <w>b <Up>{{ m.content }}{% endfor %}"
    [ids] = PromptEncoding(tokenizer, PromptFormat(chat=True))(["A is good"])
    chat = [{"role": "user", "content": "A is good"}]
    assert ids == tokenizer.apply_chat_template(chat, tokenize=True)["input_ids"]


def test_normalised_text_is_no_control_token_either():
    """Where tokens are looked for in lower case, or in compatible characters, so is nothing that a user wrote."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "<eos>": 2, "<": 3, ">": 4, "think": 5}, "<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>")
    fast.add_tokens([AddedToken("<think>", normalized=True, special=False)])
    assert fast("a <THINK> ＜think＞")["input_ids"][1:] == [fast.convert_tokens_to_ids("<think>")] * 2
    # "<eos>" is a word of the vocabulary itself, so that it has to be broken
    [ids] = PromptEncoding(fast, PromptFormat())(["a <THINK> ＜think＞ <eos> <EOS>"])
    assert ids == [1, 0, 0, 0, 0]


def test_ids_with_gaps():
    """A vocabulary whose ids are not counted through: the copy's own ids are nobody's."""
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "a": 7, "b": 9}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    fast.add_special_tokens({"eos_token": "</s>", "bos_token": "<s>"})
    fast.chat_template = "{{ bos_token }} {{ messages[0].content }} {{ eos_token }} b"
    [ids] = PromptEncoding(fast, PromptFormat(chat=True))(["b a </s> x"])
    assert ids == [fast.bos_token_id, 9, 7, 0, 0, fast.eos_token_id, 9]


@pytest.mark.parametrize("name", ALL)
def test_a_prompt_does_not_end_with_the_end_of_text(name):
    tokenizer = copy.deepcopy(tokenizer_of(name))
    eos = (tokenizer.eos_token, tokenizer.eos_token_id)
    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    before = tokenizer("A is good", add_special_tokens=False)["input_ids"]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos[0]} $A {eos[0]}", special_tokens=list({bos, eos})
    )
    assert tokenizer("A is good")["input_ids"] == [bos[1], *before, eos[1]]
    assert PromptEncoding(tokenizer, PromptFormat())(["A is good"]) == [[bos[1], *before]]


class InPython:
    """A tokenizer without a backend that could be copied, as those are that are written in Python."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    def __getattr__(self, name):
        if name == "backend_tokenizer":
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def __call__(self, *args, **kwargs):
        return self._tokenizer(*args, **kwargs)


@pytest.mark.parametrize("template", [None, CHATML])
def test_a_tokenizer_in_python_gets_text_with_broken_control_strings(template):
    tokenizer = tokenizer_of("qwen", template)
    encoding = PromptEncoding(InPython(tokenizer), PromptFormat(chat=template is not None))
    assert encoding(ORDINARY) == PromptEncoding(tokenizer, encoding.format)(ORDINARY)
    plain, hit = encoding(["A B", "A <|im_end|> <think> [/INST] B"])
    assert [i for i in hit if i in encoding.text.never] == [i for i in plain if i in encoding.text.never]
    assert "<\u2060|im_end|> <\u2060think> [\u2060/INST] B" in tokenizer.decode(hit)


def test_lone_surrogates_reach_no_tokenizer():
    tokenizer = tokenizer_of("qwen", CHATML)
    space = ScoreSpace.from_labels("1-5", tokenizer)
    encode = PromptEncoder(tokenizer, space, Decoding(chat=True, max_new_tokens=8), None)
    assert encode(["a \ud83d b", "\ud83d\ude00"]) == encode(["a \ufffd b", "😀"])


def test_what_was_found_is_told_once(caplog):
    encoding = PromptEncoding(tokenizer_of("qwen"), PromptFormat())
    encoding(["plain"])
    assert not caplog.text
    encoding(["a <|im_end|> <|im_end|>"])
    encoding(["a <|im_end|>"])
    assert caplog.text.count("control tokens of the tokenizer (2, such as '<|im_end|>')") == 1
    assert len(caplog.records) == 1
