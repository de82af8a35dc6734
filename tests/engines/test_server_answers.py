# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""What a server sends that is no answer, or numbers that are no distribution, is never a score, and keeps no other row from one."""

import math

import pytest

from real_trl.engines import Decoding, ServerEngine
from real_trl.engines.distribution_checks import NoDistribution
from real_trl.engines.server_answer import NoAnswer, StaysBusy, check_answer, kind_of
from real_trl.engines.token_alignment import spelled
from real_trl.engines.token_id_api import completion_ids, log_probs_by_id
from real_trl.engines.top_tokens import TopTokens, read_top
from real_trl.score_space import ScoreSpace
from tests import tokenizers_zoo as zoo
from tests.engines.test_server_engine import in_order
from tests.helpers.scripted_server import (
    PIECES,
    PROBABILITIES,
    SCORE,
    ScriptedServer,
    changed,
    chat_answer,
    text_answer,
)
from tests.helpers.tiny_server import MODEL_NAME, serve

BAD = "the bad one"
GOOD = [0.02, 0.05, 0.2, 0.6, 0.1]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("real_trl.engines.server_client.time.sleep", lambda seconds: None)


def judge(behaviour, prompts, api="chat", max_retries=1, **options):
    """Judgments of `prompts` in order, and the server."""
    server = ScriptedServer(behaviour)
    tokenizer = zoo.TOKENIZERS["qwen"]()
    space = ScoreSpace.from_labels("1-5", tokenizer)
    options |= {"extensions": False} if api == "completions" else {}
    with serve(server) as url:
        engine = ServerEngine(
            url,
            MODEL_NAME,
            tokenizer,
            space,
            Decoding(chat=api == "chat"),
            api=api,
            max_retries=max_retries,
            **options,
        )
        return in_order(engine.judge(prompts, seed=0), len(prompts)), server


def beside_good_ones(bad, **options):
    """The judgment of a prompt that is answered with `bad`, among others that are answered well; and the server."""
    prompts = ["a", "b", BAD, "c"]
    judgments, server = judge(lambda prompt, number: bad if prompt == BAD else chat_answer(), prompts, **options)
    for judgment in judgments[:2] + judgments[3:]:
        assert (judgment.status, judgment.error) == ("ok", None)
        assert list(judgment.probabilities.values()) == pytest.approx(
            GOOD
        ) and judgment.expected_score == pytest.approx(3.62)
    return judgments[2], server


def choice(**fields):
    return changed(chat_answer(), lambda answer: answer["choices"][0].update(fields))


def message(**fields):
    return changed(chat_answer(), lambda answer: answer["choices"][0]["message"].update(fields))


FILTERED = {"error": {"message": "The response was filtered: content management policy.", "code": "content_filter"}}
NO_ANSWERS = {
    "an error in 200": ({"error": {"message": "no such adapter", "code": 400}}, "no such adapter"),
    "an error as text": ({"error": "no such adapter"}, "no such adapter"),
    "an old vLLM's error": ({"object": "error", "message": "no such adapter", "code": 40303}, "no such adapter"),
    "an error in the choice": (choice(error={"message": "provider said no"}), "provider said no"),
    "no choices": ({"id": "1", "detail": "gone away"}, "without choices: gone away"),
    "choices are none": ({"choices": None}, "without choices"),
    "a choice that is none": ({"choices": ["x"]}, "'x' in place of a choice"),
    "content filter": (choice(finish_reason="content_filter"), "ended with 'content_filter'"),
    "another provider's filter": (choice(finish_reason="SAFETY"), "ended with 'SAFETY'"),
    "ended in an error": (choice(finish_reason="error"), "ended with 'error'"),
    "ended in a call of a tool": (choice(finish_reason="tool_calls"), "ended with 'tool_calls'"),
    "a refusal": (message(refusal="I cannot rate this.", content=None), "refused to answer: I cannot rate this."),
    "a refusal beside text": (message(refusal="I cannot rate this."), "I cannot rate this."),
    "null content": (message(content=None), "holds no text"),
    "no message": ({"choices": [{"finish_reason": "stop"}]}, "holds no text"),
    "a page": ("<html>502 Bad Gateway</html>", "does not speak the OpenAI API. It says: <html>502"),
    "no object": ([1], "does not speak the OpenAI API"),
    "another model": (
        chat_answer() | {"model": "tiny-judge-mini"},
        "'tiny-judge-mini' wrote the answer, not 'tiny-judge'",
    ),
    "filtered": ((400, FILTERED), "status 400. It says: The response was filtered"),
    "forbidden": (
        (403, {"error": {"message": "Your input was flagged"}}),
        "status 403. It says: Your input was flagged",
    ),
    "unprocessable": ((422, {"detail": [{"loc": "body", "msg": "odd character"}]}), "odd character"),
    "not found": ((404, {"error": {"message": "no route"}}), "status 404. It says: no route"),
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_what_is_no_answer_leaves_its_row_unscored_in_the_servers_words(kind):
    bad, words = NO_ANSWERS[kind]
    judgment, _ = beside_good_ones(bad)
    assert (judgment.status, judgment.expected_score, judgment.probabilities) == ("unscored", None, None)
    assert words in judgment.error


TRANSIENT = {
    "status": (503, {"error": {"message": "overloaded"}}),
    "an error that will pass": {"error": {"message": "The engine is currently overloaded"}},
    "an error with a status": {"error": {"message": "upstream", "code": 502}},
    "a timeout": {"error": {"type": "timeout", "message": "x"}},
    "no choices": {"choices": []},
    "aborted": choice(finish_reason="abort"),
    "another provider's": choice(finish_reason="insufficient_system_resource"),
    "ended in an error": choice(finish_reason="error"),
    "the choice's error": choice(error={"message": "Provider returned error", "code": "429"}),
}


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_may_pass_is_asked_again(kind):
    seen = []

    def behaviour(prompt, number):
        seen.append(prompt)
        return TRANSIENT[kind] if prompt == BAD and seen.count(BAD) < 3 else chat_answer()

    (judgment,), _ = judge(behaviour, [BAD], max_retries=2)
    assert list(judgment.probabilities.values()) == pytest.approx(GOOD) and seen.count(BAD) == 3
    judgment, server = beside_good_ones(TRANSIENT[kind], max_retries=2, max_concurrency=1)
    assert judgment.status == "unscored" and server.asked == 3 + 3


def test_a_refusal_of_the_row_is_not_asked_again():
    _, server = beside_good_ones((400, FILTERED), max_retries=3)
    assert server.asked == 4


def test_a_server_that_refuses_everything_ends_the_run_with_its_words():
    asked = []

    def behaviour(prompt, number):
        asked.append(prompt)
        return 403, {"error": {"message": "You are not allowed to request logprobs from this model."}}

    with pytest.raises(ValueError, match="prompt 0 .*status 403. It says: You are not allowed to request logprobs"):
        judge(behaviour, ["a", "b", "c"], max_concurrency=1)
    asked.clear()
    with pytest.raises(ValueError, match="You are not allowed"):
        judge(behaviour, ["a"] * 500, max_concurrency=2)
    assert len(asked) < 60  # not all of them, but as many as make it clear


def test_a_server_that_breaks_down_half_way_ends_the_run():
    def behaviour(prompt, number):
        return chat_answer() if number < 10 else (503, "down")

    with pytest.raises(ConnectionError, match="refused 1 times with status 503: down"):
        judge(behaviour, ["a"] * 200, max_concurrency=1, max_retries=0)


def test_prompts_that_are_filtered_never_end_the_run():
    judgments, _ = judge(lambda prompt, number: (400, FILTERED), ["a"] * 40)
    assert {(judgment.status, judgment.expected_score) for judgment in judgments} == {("unscored", None)}


@pytest.mark.parametrize(
    "answer, error, words",
    [
        ((401, {"error": {"message": "who are you"}}), PermissionError, "the API key is missing.*who are you"),
        ((403, {"error": {"message": "Invalid API key"}}), PermissionError, "the API key is missing.*Invalid API key"),
        ((403, ""), PermissionError, "the API key is missing"),
        ({"error": {"message": "No auth credentials found", "code": 401}}, PermissionError, "the API key is missing"),
        ((404, {"error": {"message": "The model does not exist"}}), ValueError, "does not know 'tiny-judge'"),
        ({"error": {"message": "gone", "code": "model_not_found"}}, ValueError, "does not know 'tiny-judge'"),
    ],
)
def test_a_wrong_key_and_an_unknown_model_end_the_run_at_once(answer, error, words):
    with pytest.raises(error, match=words):
        judge(lambda prompt, number: answer if number == 5 else chat_answer(), ["a"] * 50, max_concurrency=1)


@pytest.mark.parametrize(
    "asked, named, same",
    [
        ("judge", "judge", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4-1106-preview", True),
        ("Qwen/Qwen3-8B", "qwen3-8b", True),
        ("Qwen/Qwen3-8B:fireworks-ai", "Qwen/Qwen3-8B", True),
        ("llama3", "llama3:latest", True),
        ("llama3:70b", "llama3:8b", False),
        ("a/judge", "b/judge", False),
        ("llama-3", "llama-3.1", False),
        ("claude-3", "claude-3-5", False),
        ("claude-3-5-sonnet", "claude-3-5-sonnet-20241022", True),
        ("gpt-4-turbo", "gpt-4-turbo-preview-2024-04-09", True),
        ("mistral-large", "mistral-large-2407", True),
        ("gemini-2.0-flash", "gemini-2.0-flash-001", True),
        ("kimi-k2", "kimi-k2-0905-preview", True),
        ("judge", "judge-500", False),
        ("judge", "judge-v2", False),
        ("judge", "judge-1332", False),
        ("judge", "judge-2024-13", False),
        ("judge", "judge-70000000", False),
    ],
)
def test_names_of_one_model(asked, named, same):
    answer = chat_answer() | {"model": named}
    if same:
        check_answer(answer, asked)
    else:
        with pytest.raises(NoAnswer, match="wrote the answer"):
            check_answer(answer, asked)


def test_an_alias_is_declared():
    (judgment,), _ = judge(
        lambda prompt, number: chat_answer() | {"model": "its-own-name"}, ["a"], answers_as="its-own-name"
    )
    assert judgment.status == "ok"
    with pytest.raises(ValueError, match="set answers_as to 'its-own-name'"):
        judge(lambda prompt, number: chat_answer() | {"model": "its-own-name"}, ["a"])


# --- numbers


def entries(answer):
    return answer["choices"][0]["logprobs"]["content"]


def numbers(change):
    return changed(chat_answer(), lambda answer: change(entries(answer)))


def with_top(top):
    def change(content):
        content[SCORE]["top_logprobs"] = [
            {"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in top
        ]

    return numbers(change)


def speculative(content):
    for entry in content:
        entry["logprob"], entry["top_logprobs"] = 0.0, []


def all_zero(content):
    for entry in content:
        entry["logprob"] = 0.0
        for each in entry["top_logprobs"]:
            each["logprob"] = 0.0


NO_DISTRIBUTIONS = {
    "speculative decoding": (numbers(speculative), "returned no likely tokens at the place of the score"),
    "all exactly 0": (numbers(all_zero), "5 tokens at one position sum to 5, more than 1"),
    "probabilities called log-probabilities": (
        with_top(PROBABILITIES.items()),
        "token '4' is 0.6, and none is above 0",
    ),
    "a sum above 1": (with_top([("4", math.log(0.7)), ("3", math.log(0.7))]), "sum to 1.4, more than 1"),
    "what greedy decoding leaves over": (with_top([("4", 0.0), ("3", -9999.0), ("5", -9999.0)]), "sampling left over"),
    "itself alone": (with_top([("4", 0.0)]), "sampling left over"),
    "NaN": (with_top([("4", math.nan), ("3", -1.0)]), "token '4' is nan, which is no number"),
    "infinity": (with_top([("4", math.inf)]), "none is above 0"),
    "text": (with_top([("4", "-0.5")]), "token '4' is '-0.5', which is no number"),
    "null": (with_top([("4", None), ("3", -1.0)]), "which is no number"),
    "true": (with_top([("4", True), ("3", -1.0)]), "which is no number"),
    "no top tokens there": (with_top([]), "returned no likely tokens at the place of the score"),
    "no log-probabilities": (choice(logprobs=None), "without the log-probabilities"),
    "of another form": (choice(logprobs={"content": ["So", "the"]}), "have not the form of the OpenAI API"),
    "fewer than tokens": (numbers(lambda content: content.pop()), "do not spell its text"),
    "of another text": (message(content="Fine. So the overall score is 2"), "do not spell its text"),
    "of another tokenizer": (
        numbers(lambda content: content[2].update(token="ĠSo", bytes=None)),
        "do not spell its text",
    ),
    "without blanks": (
        numbers(lambda content: [e.update(bytes=None, token=e["token"].strip()) for e in content]),
        "do not spell its text",
    ),
}


@pytest.mark.parametrize("kind", NO_DISTRIBUTIONS)
def test_numbers_that_are_no_distribution_leave_their_row_unscored(kind):
    bad, words = NO_DISTRIBUTIONS[kind]
    judgment, _ = beside_good_ones(bad)
    assert (judgment.status, judgment.expected_score, judgment.probabilities) == ("unscored", None, None)
    assert words in judgment.error
    with pytest.raises(ValueError, match="prompt 0"):  # a server that gives nothing else
        judge(lambda prompt, number: bad, [BAD])


def test_the_generated_token_is_told_by_what_it_is():
    """Its own number may be rounded, or what top-p leaves over: its place among the top tokens has its probability."""
    for own in (-0.5108, -0.5, -0.2, -0.5108256237):
        judgment, _ = beside_good_ones(numbers(lambda content, own=own: content[SCORE].update(logprob=own)))
        assert list(judgment.probabilities.values()) == pytest.approx(GOOD)
    # of the completions API as well
    rounded = changed(
        text_answer(), lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].__setitem__(SCORE, -0.51)
    )
    (judgment,), _ = judge(lambda prompt, number: rounded, ["a"], api="completions")
    assert list(judgment.probabilities.values()) == pytest.approx(GOOD)
    # one that is not among the top tokens has its own
    outside = with_top([("3", math.log(0.5)), ("5", math.log(0.3))])
    entries(outside)[SCORE]["logprob"] = math.log(0.1)
    judgment, _ = beside_good_ones(outside)
    assert list(judgment.probabilities.values())[2:] == pytest.approx(
        [0.5, 0.1, 0.3]
    ) and judgment.missing_mass == pytest.approx(0.1)


def test_a_token_that_is_listed_twice_counts_once_and_tokens_that_look_alike_are_missing_mass():
    twice = with_top([*((name, math.log(p)) for name, p in PROBABILITIES.items()), ("4", math.log(0.6))])
    judgment, _ = beside_good_ones(twice)
    assert list(judgment.probabilities.values()) == pytest.approx(GOOD)
    found, untold = read_top([("5", math.log(0.4)), ("5", math.log(0.3)), ("4", math.log(0.2))], {7: "5", 8: "4"})
    assert found == {8: pytest.approx(math.log(0.2))}
    assert untold == pytest.approx(0.8)  # 0.1 that is not listed, and 0.7 of which it is not known whose


def test_rounding_is_taken_off():
    judgment, _ = beside_good_ones(with_top([("5", 0.00003), ("4", -11.0)]))
    assert judgment.status == "ok" and judgment.expected_score <= 5
    assert judgment.expected_score == pytest.approx(5, abs=1e-3) and judgment.mass <= 1


def test_the_completions_api_gets_the_same_checks():
    def change(answer):
        answer["choices"][0]["logprobs"]["top_logprobs"][SCORE] = dict(PROBABILITIES)

    bad = changed(text_answer(), change)
    prompts = ["a", BAD]
    answers = {"a": text_answer(), BAD: bad}
    judgments, _ = judge(lambda prompt, number: answers[prompt], prompts, api="completions", max_concurrency=1)
    assert list(judgments[0].probabilities.values()) == pytest.approx(GOOD)
    assert judgments[1].status == "unscored" and "none is above 0" in judgments[1].error
    longer = changed(text_answer(), lambda answer: answer["choices"][0]["logprobs"]["token_logprobs"].append(-1.0))
    answers[BAD] = longer
    judgments, _ = judge(lambda prompt, number: answers[prompt], prompts, api="completions", max_concurrency=1)
    assert judgments[1].status == "unscored" and "not the form" in judgments[1].error


# --- spelling


@pytest.mark.parametrize(
    "tokens, text, kept",
    [
        (["So", " it", " is"], "So it is", 3),
        ([" So", " it"], "So it", 2),  # a server that strips
        (["So", " it", "</s>"], "So it", 2),
        (["So", " it", "<|im_end|>", "\n"], "So it", 2),
        (["So", " it", "\n\n###"], "So it", 2),  # a stop sequence
        (["So", " it", " ."], "So it.", 3),  # a decoder that cleans up
        (["<s>", "<think>", "Hm", "</think>", " it"], "Hm it", 5),  # special tokens that it skips
        (["�", "�", " fine"], "😀 fine", 3),  # parts of a character, without their bytes
        (["", "", "😀", " é"], "😀 é", 4),
        ([], "", 0),
    ],
)
def test_tokens_that_spell_a_text(tokens, text, kept):
    skipped, spelling = spelled([token.encode() for token in tokens], text, finished=True)
    assert (skipped, spelling) == (0, [token.encode() for token in tokens[:kept]])


def test_a_stop_sequence_within_a_token_is_cut_off():
    assert spelled([b"is ", b"4."], "is 4", finished=True) == (0, [b"is ", b"4"])
    with pytest.raises(NoDistribution, match="do not spell"):  # the completion went on, the text does not
        spelled([b"is ", b"4", b" or 5"], "is 4", finished=False)
    assert spelled([b"is ", b"4", b"</s>"], "is 4", finished=False) == (0, [b"is ", b"4"])


def test_what_stands_before_the_text_is_allowed_after_thoughts_only():
    tokens = [b"<think>", b" is 2", b"</think>", b" is", b" 4"]
    assert spelled(tokens, "is 4", finished=True, after_thoughts=True) == (3, [b" is", b" 4"])
    with pytest.raises(NoDistribution):
        spelled(tokens, "is 4", finished=True)
    assert spelled(tokens, "", finished=False, after_thoughts=True) == (5, [])


@pytest.mark.parametrize(
    "tokens", [["So", "it"], ["So"], ["So", " it", " was"], ["ĠSo", "Ġit"], ["token_id:1", "token_id:2"]]
)
def test_tokens_that_spell_another_text(tokens):
    with pytest.raises(NoDistribution, match="do not spell"):
        spelled([token.encode() for token in tokens], "So it is", finished=False)


# --- vLLM's token ids


def by_id(top=None, **fields):
    top = [{"token_id:5": -0.5, "token_id:6": -1.5}] if top is None else top
    return {"text": "a", "token_ids": [5], "finish_reason": "length", "logprobs": {"top_logprobs": top}, **fields}


@pytest.mark.parametrize(
    "top, words",
    [
        ({"token_id:5": 0.5}, "none is above 0"),
        ({"token_id:5": 0.0, "token_id:6": 0.0}, "sum to 2"),
        ({"token_id:5": math.nan}, "no number"),
        ({"five": -1.0}, "not the form that was asked for"),
        (None, "not the form that was asked for"),
    ],
)
def test_numbers_by_token_id_get_the_same_checks(top, words):
    with pytest.raises(NoDistribution, match=words):
        log_probs_by_id(by_id([top]), 0)
    with pytest.raises(NoDistribution, match="not the form"):
        log_probs_by_id(by_id([]), 0)
    assert log_probs_by_id(by_id(), 0) == {5: -0.5, 6: -1.5}


def test_token_ids_have_to_be_those_of_the_text():
    tokenizer = zoo.TOKENIZERS["qwen"]()
    ids = tokenizer("So the overall score is 4")["input_ids"]
    full = by_id([{}] * len(ids), token_ids=ids, text="So the overall score is 4")
    assert completion_ids(full, tokenizer) == ids
    for fields, words in (
        ({"token_ids": None}, "in place of the tokens"),
        ({"token_ids": ["5"]}, "in place of the tokens"),
        ({"token_ids": ids[:-1]}, f"{len(ids)} positions of {len(ids) - 1} tokens"),
        ({"text": "So the overall score is 2"}, "do not spell"),
        ({"text": ""}, "do not spell"),
        ({"text": " \n"}, "do not spell"),
    ):
        with pytest.raises(NoDistribution, match=words):
            completion_ids(full | fields, tokenizer)


def test_an_empty_text_is_that_of_what_ended_it():
    tokenizer = zoo.TOKENIZERS["qwen"]()
    for ids, finish_reason in (
        ([], "stop"),
        ([tokenizer.eos_token_id], "stop"),
        (tokenizer(".")["input_ids"], "stop"),
    ):
        answer = by_id([{}] * len(ids), token_ids=ids, text="", finish_reason=finish_reason)
        assert completion_ids(answer, tokenizer) == ids
    with pytest.raises(NoDistribution, match="do not spell"):
        completion_ids(answer | {"finish_reason": "length"}, tokenizer)


def test_a_server_whose_numbers_cannot_be_is_refused_at_the_start():
    """vLLM with speculative decoding that returns 0 for every token."""

    def behaviour(prompt, number):
        return {"choices": [by_id([{f"token_id:{token}": 0.0 for token in range(4000)}])]}

    space = ScoreSpace.from_labels("1-5", zoo.TOKENIZERS["qwen"]())
    with (
        serve(ScriptedServer(behaviour)) as url,
        pytest.raises(ValueError, match="log-probabilities that cannot be: .* sum to"),
    ):
        ServerEngine(url, MODEL_NAME, space.tokenizer, space, Decoding())


def test_thoughts_that_a_server_took_out_are_no_part_of_the_completion():
    def change(answer):
        answer["choices"][0]["message"]["reasoning_content"] = "So the overall score is 2"
        content = answer["choices"][0]["logprobs"]["content"]
        content[:0] = [dict(content[0], token="<think>So the overall score is 2</think>", bytes=None)]

    completion = TopTokens.from_answer(changed(chat_answer(), change))
    assert b"".join(completion.tokens).decode() == "".join(PIECES) and len(completion.top) == len(completion.tokens)
    cut = changed(chat_answer(), change)
    cut["choices"][0]["message"]["content"], cut["choices"][0]["finish_reason"] = None, "length"
    assert TopTokens.from_answer(cut).tokens == []


def test_a_broken_connection_is_of_the_row_unless_it_stays():
    def behaviour(prompt, number):
        return chat_answer()

    server = ScriptedServer(behaviour)
    space = ScoreSpace.from_labels("1-5", zoo.TOKENIZERS["qwen"]())
    with serve(server) as url:
        engine = ServerEngine(
            url, MODEL_NAME, space.tokenizer, space, Decoding(chat=True), api="chat", max_retries=0, max_concurrency=1
        )
        server.failures += ["drop"]
        judgments = in_order(engine.judge(["a", "b"]), 2)
        assert [judgment.status for judgment in judgments] == ["unscored", "ok"]
        assert "a broken connection" in judgments[0].error
        server.failures += ["drop"]
        with pytest.raises(StaysBusy, match="a broken connection"):
            list(engine.judge(["a"]))


@pytest.mark.parametrize(
    "error",
    [
        {"message": "The request took too long, please try again", "code": 504},
        {"message": "Rate limit reached: too many tokens per minute", "code": 429},
        {"message": "Moderation service temporarily unavailable", "code": 503},
    ],
)
def test_what_may_pass_is_no_fault_of_the_prompt(error):
    assert kind_of(error) == "busy"


def test_a_newline_in_the_name_of_a_model():
    choice = {"text": "a", "finish_reason": "max_output_tokens"}
    assert check_answer({"model": "m\n", "choices": [choice]}, "m") == choice
