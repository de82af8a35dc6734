# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts and completions as tokens: what stands around them, and where the one ends and the other begins."""

import copy
from functools import partial

import pytest
from transformers import AutoTokenizer

from real_trl import RAFTConfig
from real_trl.prompts.allowed_controls import own_words
from real_trl.prompts.encoding import PromptEncoding
from real_trl.prompts.format import TRAINING_DATE, PromptFormat
from real_trl.score_space import ScoreSpace
from real_trl.trainers.context_check import row_fits
from real_trl.trainers.row_tokenizer import RowTokenizer
from tests.text.test_control_tokens import tokenizer_of
from tests.tiny import build_model
from tests.tokenizers_zoo import SUBWORD, TOKENIZERS, qwen

HEAD = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CHATML = HEAD + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
# Qwen3: an empty block where thinking is switched off, and one before every answer
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% set t = m.reasoning_content or '' %}"
    "{% set c = m.content %}{% if '</think>' in c %}{% set t = c.split('</think>')[0].split('<think>')[-1] %}"
    "{% set c = c.split('</think>')[-1] %}{% endif %}<think>\n{{ t.strip('\n') }}\n</think>\n\n{{ c.lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# DeepSeek-R1: the prompt opens the block, and thinking is cut from answers
OPENS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
# An empty block at the prompt's end that is not written again (Gemma 4)
EMPTY = HEAD + "{% if add_generation_prompt %}<|im_start|>assistant\n<think></think>{% endif %}"
PROMPT = "Grade it."
COMPLETION = "It is good. So the overall score is 4"


def chat_encoding(template, **settings):
    tokenizer = tokenizer_of("qwen", template)
    tokenizer.add_tokens(["</think>"])
    return PromptEncoding(tokenizer, PromptFormat(chat=True, **settings))


def controls(encoding, ids):
    return [token for token in encoding.tokenizer.convert_ids_to_tokens(ids) if token in encoding.text.controls]


# --- texts


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("between", [" ", "\n", ""])
def test_text_has_the_tokens_of_prompt_and_completion_as_one(name, between):
    """As TRL had them, where no token is in both; and always the prompt of judging in front."""
    tokenizer = TOKENIZERS[name]()
    encoding = PromptEncoding(tokenizer, PromptFormat())
    prompt_ids, completion_ids = encoding.with_completion(PROMPT, between + COMPLETION)
    assert [prompt_ids] == encoding([PROMPT])
    assert completion_ids[-1] == tokenizer.eos_token_id and completion_ids.count(tokenizer.eos_token_id) == 1
    assert prompt_ids + completion_ids == tokenizer(PROMPT + between + COMPLETION)["input_ids"] + [
        tokenizer.eos_token_id
    ]


@pytest.mark.parametrize("name", SUBWORD)
def test_a_token_of_both_is_none(name):
    """ "scor" + "e" is one token: a judge that goes on from its prompt writes another."""
    tokenizer = TOKENIZERS[name]()
    encoding = PromptEncoding(tokenizer, PromptFormat())
    prompt, completion = "It earns a scor", "e of 4"
    prompt_ids, completion_ids = encoding.with_completion(prompt, completion)
    assert tokenizer(prompt + completion)["input_ids"][: len(prompt_ids)] != prompt_ids
    assert [prompt_ids] == encoding([prompt])
    assert tokenizer.decode(completion_ids[:-1]).strip() == completion and completion_ids[-1] == tokenizer.eos_token_id


def test_blanks_at_the_end_of_the_prompt_are_the_completions():
    encoding = PromptEncoding(qwen(), PromptFormat())
    assert encoding.with_completion(f"{PROMPT} ", COMPLETION) == encoding.with_completion(PROMPT, f" {COMPLETION}")


def test_an_end_of_text_that_is_written_out_is_the_one_that_is_added():
    tokenizer = qwen()
    encoding = PromptEncoding(tokenizer, PromptFormat())
    written = encoding.with_completion(PROMPT, f" {COMPLETION}{tokenizer.eos_token}")
    assert written == encoding.with_completion(PROMPT, f" {COMPLETION}")
    _, quoted = encoding.with_completion(PROMPT, f" {tokenizer.eos_token} {COMPLETION}")
    assert quoted.count(tokenizer.eos_token_id) == 1


def test_a_tokenizer_that_ends_texts_ends_the_completion_once():
    from tests.trainers.test_same_prompts import zoo_tokenizer

    tokenizer = zoo_tokenizer("qwen", False, add_eos=True)
    encoding = PromptEncoding(tokenizer, PromptFormat())
    prompt_ids, completion_ids = encoding.with_completion(PROMPT, f" {COMPLETION}")
    eos = tokenizer.eos_token_id
    assert eos not in prompt_ids and completion_ids.count(eos) == 1 and completion_ids[-1] == eos


# --- chats


def test_a_chat_has_the_tokens_of_its_template():
    encoding = chat_encoding(CHATML, system_prompt="Be kind.")
    prompt_ids, completion_ids = encoding.with_completion(PROMPT, COMPLETION)
    turns = encoding.format.messages(PROMPT)
    apply = partial(encoding.tokenizer.apply_chat_template, tokenize=True, return_dict=True)
    assert prompt_ids == apply(turns, add_generation_prompt=True)["input_ids"] == encoding([PROMPT])[0]
    answered = [*turns, {"role": "assistant", "content": COMPLETION}]
    assert prompt_ids + completion_ids == apply(answered)["input_ids"]
    assert encoding.with_completion(PROMPT, [answered[-1]]) == (prompt_ids, completion_ids)


@pytest.mark.parametrize("arguments", [{}, {"enable_thinking": False}])
def test_a_block_that_the_prompt_has_closed_is_not_written_twice(arguments):
    encoding = chat_encoding(THINKS, chat_template_kwargs=arguments)
    prompt_ids, completion_ids = encoding.with_completion(PROMPT, COMPLETION)
    whole = encoding.tokenizer.decode(prompt_ids + completion_ids)
    assert whole == (
        f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{COMPLETION}<|im_end|>\n"
    )
    assert prompt_ids == encoding([PROMPT])[0]
    assert ("<think>" in controls(encoding, prompt_ids)) == bool(arguments)


def test_what_the_template_ends_a_prompt_with_stays_before_an_answer():
    encoding = chat_encoding(EMPTY)
    prompt_ids, completion_ids = encoding.with_completion(PROMPT, COMPLETION)
    assert prompt_ids == encoding([PROMPT])[0]
    assert encoding.tokenizer.decode(completion_ids) == f"{COMPLETION}<|im_end|>\n"


def test_an_answer_inside_an_open_block_is_refused():
    encoding = chat_encoding(OPENS)
    assert encoding.generation_tail == "<|im_end|>\n<|im_start|>assistant\n<think>\n"
    with pytest.raises(ValueError, match=r"ends a prompt with '<think>'.*chat_template_kwargs.*reasoning_content"):
        encoding.with_completion(PROMPT, COMPLETION)


def test_a_template_that_begins_answers_otherwise_is_refused():
    encoding = chat_encoding(HEAD + "{% if add_generation_prompt %}<|im_start|>judge\n{% endif %}")
    with pytest.raises(
        ValueError, match="the chat template ends a prompt with 'judge\\\\n', and has 'assistant\\\\n' there"
    ):
        encoding.with_completion(PROMPT, COMPLETION)
    encoding = chat_encoding(CHATML.replace("m.content", "m.content | upper"))
    with pytest.raises(ValueError, match="does not write completions as they are"):
        encoding.with_completion(PROMPT, COMPLETION)


# --- the judge's own words


def words_of(encoding, thinking="<think> </think>"):
    space = ScoreSpace.from_labels("1-5", encoding.tokenizer, thinking=thinking)
    return partial(own_words, space, opened=space.thinking.opened_by(encoding.generation_tail))


@pytest.mark.parametrize("template", [None, THINKS, OPENS, CHATML])
def test_thinking_is_between_the_judges_own_tags(template):
    """And nothing else is: tags that are quoted, in the thinking or behind it, are text."""
    encoding = chat_encoding(template) if template else PromptEncoding(tokenizer_of("qwen"), PromptFormat())
    encoding.tokenizer.add_tokens(["</think>"])
    encoding = PromptEncoding(encoding.tokenizer, encoding.format)
    opened = template == OPENS
    completion = f"<think>\nIt says <think> and <|im_end|>.\n</think>\n\nIt wrote </think>. {COMPLETION}"
    prompt_ids, completion_ids = encoding.with_completion(PROMPT, completion, words_of(encoding))
    end = ["<|im_end|>"] if template else [encoding.tokenizer.eos_token]
    assert controls(encoding, completion_ids) == ["<think>"] * (not opened) + ["</think>"] + end
    text = encoding.tokenizer.decode(completion_ids)
    assert (
        text.removeprefix("<think>")
        .strip()
        .startswith("It says <think> and <|im_end|>.\n</think>\n\nIt wrote </think>.")
    )
    if opened:  # the prompt's tag need not be repeated
        assert (
            encoding.with_completion(PROMPT, completion.removeprefix("<think>\n"), words_of(encoding))[0] == prompt_ids
        )


def test_a_row_that_thinks_is_measured_as_it_is_trained(tmp_path):
    """The check of the context knows the judge's own words too, or it would refuse an answer in an open block."""
    tokenizer = chat_encoding(OPENS).tokenizer
    space = ScoreSpace.from_labels("1-5", tokenizer, thinking="<think> </think>")
    row = {"prompt": [{"role": "user", "content": PROMPT}], "score": 4.0}
    row["completion"] = [{"role": "assistant", "content": f"It is good.\n</think>\n\n{COMPLETION}"}]
    args = RAFTConfig(str(tmp_path), use_cpu=True, bf16=False, max_length=None)
    tokens = len(RowTokenizer(PromptEncoding(tokenizer, PromptFormat(chat=True)), space)(row)["input_ids"])
    model = build_model("qwen3", tokenizer=tokenizer)
    for longest, excess in ((tokens, 0), (tokens - 1, 1)):
        model.config.max_position_embeddings = longest
        fits = row_fits(model, args, tokenizer, PromptFormat(chat=True), space)
        if excess:
            with pytest.raises(
                ValueError, match=f"row 0 has {tokens} tokens in its prompt and completion, 1 too many"
            ):
                fits([row], ["row 0"], "train_dataset")
        else:
            fits([row], ["row 0"], "train_dataset")


def test_quoted_tags_are_no_thinking():
    encoding = chat_encoding(CHATML)
    for completion in (f"It wrote <think> a </think>. {COMPLETION}", f"a </think> {COMPLETION}"):
        _, ids = encoding.with_completion(PROMPT, completion, words_of(encoding))
        assert controls(encoding, ids) == ["<|im_end|>"]


def test_reasoning_apart():
    encoding = chat_encoding(THINKS)
    message = {"role": "assistant", "content": COMPLETION, "reasoning_content": "It has </think> in it."}
    _, ids = encoding.with_completion(PROMPT, [message])
    assert controls(encoding, ids) == ["<think>", "</think>", "<|im_end|>"]
    assert encoding.tokenizer.decode(ids).startswith("<think>\nIt has </think> in it.\n</think>\n\nIt is good.")
    with pytest.raises(ValueError, match="does not write the reasoning of completions"):
        chat_encoding(CHATML).with_completion(PROMPT, [message])
    with pytest.raises(ValueError, match="'reasoning_content', but prompts do not go through a chat template"):
        PromptEncoding(qwen(), PromptFormat()).with_completion(PROMPT, [message])


def test_marker_and_label_may_be_control_tokens():
    tokenizer = copy.deepcopy(qwen())
    tokenizer.add_tokens(["<score>", "<4>", "<5>"])
    space = ScoreSpace.from_labels(["<4>", "<5>"], tokenizer, marker="<score>", values=[4, 5])
    encoding = PromptEncoding(tokenizer, PromptFormat())
    completion = " They say <score><5>. <score><4>"
    _, ids = encoding.with_completion(PROMPT, completion, partial(own_words, space))
    assert controls(encoding, ids) == ["<score>", "<4>", tokenizer.eos_token]
    location = space.locate(ids)
    assert location.ok and location.label_index == 0
    _, ids = encoding.with_completion(PROMPT, completion)
    assert controls(encoding, ids) == [tokenizer.eos_token]


# --- what stands around a prompt


def test_the_tail_tells_what_the_prompt_opens():
    assert chat_encoding(CHATML).generation_tail == "<|im_end|>\n<|im_start|>assistant\n"
    closed = chat_encoding(THINKS, chat_template_kwargs={"enable_thinking": False})
    assert closed.generation_tail.endswith("<think>\n\n</think>\n\n")
    assert PromptEncoding(qwen(), PromptFormat()).generation_tail == ""


def test_a_template_that_writes_the_date_writes_that_of_training(tmp_path):
    template = "{{ strftime_now('%d %B %Y') }} " + CHATML
    dated = chat_encoding(template, template_date=TRAINING_DATE)
    assert dated.tokenizer.decode(dated([PROMPT])[0]).startswith("01 January 2026 <|im_start|>")
    today = chat_encoding(template)
    assert today([PROMPT]) != dated([PROMPT])


def test_a_template_without_system_messages_says_so():
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    assert chat_encoding(template)([PROMPT])
    with pytest.raises(
        ValueError, match="refuses a conversation of system, user: no system role. Change system_prompt"
    ):
        chat_encoding(template, system_prompt="Be kind.")([PROMPT])


def test_without_a_chat_template_there_is_no_chat():
    with pytest.raises(
        ValueError, match="chat: prompts are to go through the chat template, but the tokenizer has none"
    ):
        PromptEncoding(qwen(), PromptFormat(chat=True))([PROMPT])


def test_the_copy_follows_its_tokenizer(tmp_path):
    """Tokens that are added later are control tokens from then on, and a saved tokenizer encodes as before."""
    tokenizer = tokenizer_of("qwen", CHATML)
    PromptEncoding(tokenizer, PromptFormat(chat=True))([PROMPT])
    tokenizer.add_tokens(["<new>"])
    encoding = PromptEncoding(tokenizer, PromptFormat(chat=True))
    [ids] = encoding(["a <new> b"])
    assert tokenizer.convert_tokens_to_ids("<new>") not in ids
    tokenizer.save_pretrained(tmp_path)
    assert PromptEncoding(AutoTokenizer.from_pretrained(tmp_path), encoding.format)(["a <new> b"]) == [ids]
