# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""The server engine against a small real server, and that server's answers against the Transformers engine."""

import gc
import logging
import math
import re
import socket

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from real_trl.engines import Decoding, TransformersEngine
from real_trl.engines.score_requests import request_seed
from real_trl.engines.server_client import ServerClient
from real_trl.engines.server_engine import ServerEngine
from real_trl.engines.top_tokens import TopTokens, byte_tokenizer, named_log_probs
from real_trl.score_space import ScoreSpace
from tests import tokenizers_zoo as zoo
from tests.forward.test_tree_after_generation import PROMPTS as ALL_PROMPTS
from tests.forward.test_tree_after_generation import SCALES, scale_space, warm_judge
from tests.helpers.tiny_server import MODEL_NAME, TinyServer, serve

PROMPTS = ALL_PROMPTS[:3]
CHAT = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
SECRET = "sk-do-not-show-me-0123456789"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def tiny_server(scale="1-10", **options):
    return TinyServer(warm_judge(scale), scale_space(scale).tokenizer, **options)


def make_engine(url, scale="1-10", model=MODEL_NAME, decoding=None, **options):
    space = scale_space(scale)
    decoding = Decoding(**{"max_new_tokens": 32, "do_sample": False, **(decoding or {})})
    return ServerEngine(url, model, space.tokenizer, space, decoding, **options)


def in_order(pairs, number=3):
    pairs = list(pairs)
    assert sorted(index for index, _ in pairs) == list(range(number))
    return [judgment for _, judgment in sorted(pairs, key=lambda pair: pair[0])]


def exact(scale="1-10", **decoding):
    space = scale_space(scale)
    decoding = Decoding(**{"max_new_tokens": 32, "do_sample": False, **decoding})
    return in_order(TransformersEngine(warm_judge(scale), space.tokenizer, space, decoding).judge(PROMPTS))


def check_known_labels(judgment, expected, tolerance=1e-6):
    """Known labels are right, and the others have no more than the missing mass; returns how many are known."""
    hidden, known = 0.0, 0
    for probability, right in zip(judgment.probabilities.values(), expected.probabilities.values(), strict=True):
        if math.isnan(probability):
            hidden += right
        else:
            known += 1
            assert probability == pytest.approx(right, abs=tolerance)
    assert hidden <= judgment.missing_mass + tolerance
    assert judgment.mass == pytest.approx(expected.mass - hidden, abs=tolerance)
    return known


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("new_tokens", [32, 3])  # 3: the marker does not fit and is forced
def test_token_ids_give_what_the_transformers_engine_gives(scale, new_tokens):
    expected = exact(scale, max_new_tokens=new_tokens)
    assert {j.status for j in expected} == ({"ok"} if new_tokens == 32 else {"missing"})
    with serve(tiny_server(scale, extensions=True)) as url:
        engine = make_engine(url, scale, decoding={"max_new_tokens": new_tokens})
        assert engine.extensions
        for judgment, right in zip(in_order(engine.judge(PROMPTS)), expected, strict=True):
            assert judgment.probabilities == pytest.approx(right.probabilities, abs=1e-6)
            for field in ("completion", "rationale", "status", "sampled_score", "num_tokens", "prompt_tokens"):
                assert getattr(judgment, field) == getattr(right, field)
            assert judgment.expected_score == pytest.approx(right.expected_score, abs=1e-4)
            assert judgment.missing_mass == 0


@pytest.mark.parametrize("scale", ["1-10", "0-100", "words"])
@pytest.mark.parametrize("top_logprobs, new_tokens", [(40, 32), (3, 32), (40, 3)])
def test_text_gives_the_labels_among_the_top_tokens(scale, top_logprobs, new_tokens):
    expected = exact(scale, max_new_tokens=new_tokens)
    with serve(tiny_server(scale, most_logprobs=40)) as url:
        engine = make_engine(url, scale, decoding={"max_new_tokens": new_tokens}, top_logprobs=top_logprobs)
        assert not engine.extensions
        judgments = in_order(engine.judge(PROMPTS))
    for judgment, right in zip(judgments, expected, strict=True):
        for field in ("completion", "rationale", "status", "num_tokens", "prompt_tokens"):
            assert getattr(judgment, field) == getattr(right, field)
        known = check_known_labels(judgment, right)
        if new_tokens == 32:
            assert judgment.sampled_score == right.sampled_score
        if known == len(right.probabilities):
            assert judgment.missing_mass == 0
            assert judgment.expected_score == pytest.approx(right.expected_score, abs=1e-4)
    assert any(math.isnan(p) for j in judgments for p in j.probabilities.values()) == (
        top_logprobs == 3 or scale == "0-100"
    )


def test_missing_mass_of_labels_of_one_token_is_what_the_top_tokens_leave():
    space = ScoreSpace.from_labels("1-5", zoo.TOKENIZERS["smollm"]())
    model = warm_judge("half points")
    with serve(TinyServer(model, space.tokenizer)) as url:
        engine = ServerEngine(
            url, MODEL_NAME, space.tokenizer, space, Decoding(do_sample=False, max_new_tokens=3), top_logprobs=2
        )
        for prompt, judgment in zip(PROMPTS, in_order(engine.judge(PROMPTS)), strict=True):
            ids = space.tokenizer(prompt)["input_ids"] + zoo.encode(space.tokenizer, judgment.completion)
            with torch.no_grad():
                probabilities = model(torch.tensor([[*ids, *space.marker_ids]])).logits[0, -1].softmax(-1)
            top = probabilities.topk(2)
            if not {path[0] for path in space.token_ids} & set(
                top.indices.tolist()
            ):  # then nothing is known: no score, not 0
                assert (judgment.status, judgment.expected_score, judgment.probabilities) == ("unscored", None, None)
                assert "no label is among the most likely tokens" in judgment.error
                continue
            assert judgment.status == "missing"
            assert judgment.missing_mass == pytest.approx(1 - top.values.sum().item(), abs=1e-6)
            for path, probability in zip(space.token_ids, judgment.probabilities.values(), strict=True):
                if path[0] in top.indices.tolist():
                    assert probability == pytest.approx(probabilities[path[0]].item(), abs=1e-6)
                else:
                    assert math.isnan(probability)


@pytest.mark.parametrize("scale", ["1-10", "words"])
def test_chat_reads_what_the_completion_shows(scale, caplog):
    with serve(tiny_server(scale)) as url:
        options = {"api": "chat", "decoding": {"chat": True}}
        for judgment, right in zip(
            in_order(make_engine(url, scale, **options).judge(PROMPTS)), exact(scale), strict=True
        ):
            assert (judgment.completion, judgment.sampled_score) == (right.completion, right.sampled_score)
            assert check_known_labels(judgment, right) >= 1
            # the label that was written is never among the unknown ones, unless a longer one could have come of it
            best = right.probabilities[scale_space(scale).scale.label_of(judgment.sampled_score)]
            assert best <= max(p for p in [*judgment.probabilities.values(), judgment.missing_mass] if p == p) + 1e-6
        engine = make_engine(url, scale, api="chat", decoding={"chat": True, "max_new_tokens": 3})
        with caplog.at_level(logging.WARNING):
            judgments = in_order(engine.judge(PROMPTS))
    assert {(j.status, j.expected_score, j.probabilities) for j in judgments} == {("missing", None, None)}
    assert [record.levelname for record in caplog.records if "stays without one" in record.message] == ["WARNING"]


def test_a_stand_in_tokenizer_spells_digits_in_chat():
    """A chat API's own tokenizer may not be known; bytes spell the digits as its tokens do."""
    with serve(tiny_server("1-10")) as url:
        space = ScoreSpace.from_labels("1-10", byte_tokenizer())
        decoding = Decoding(chat=True, do_sample=False, max_new_tokens=32)
        engine = ServerEngine(url, MODEL_NAME, space.tokenizer, space, decoding, api="chat")
        for judgment, right in zip(in_order(engine.judge(PROMPTS)), exact(), strict=True):
            assert check_known_labels(judgment, right) >= 8
            assert judgment.prompt_tokens == right.prompt_tokens


def test_dropped_completions_have_no_scores_and_cost_no_request():
    server = tiny_server(extensions=True)
    with serve(server) as url:
        engine = make_engine(url, decoding={"max_new_tokens": 3, "malformed": "drop"})
        before = len(server.requests)
        judgments = in_order(engine.judge(PROMPTS))
    assert {(j.status, j.expected_score) for j in judgments} == {("missing", None)}
    assert len(server.requests) - before == len(PROMPTS)


@pytest.mark.parametrize("extensions", [True, False])
def test_a_seed_decides_everything_and_other_prompts_nothing(extensions):
    decoding = {"do_sample": True, "max_new_tokens": 24}
    with serve(tiny_server(extensions=extensions)) as url:
        engine = make_engine(url, decoding=decoding)
        first, again, other = (in_order(engine.judge(PROMPTS, seed=seed)) for seed in (1, 1, 2))
        alone = in_order(engine.judge(PROMPTS[:1], seed=1), 1)
    assert first == again and alone == first[:1]
    assert [j.completion for j in first] != [j.completion for j in other]
    assert len({request_seed(seed, index) for seed in range(20) for index in range(20)}) == 400
    assert request_seed(None, 0) is None and 0 <= request_seed(-1, 0) < 2**31


def test_more_first_tokens_than_one_request_may_ask_for():
    """150 labels of one token each: vLLM returns 128 at most, the rest is read by a second request."""
    words = ["<eos>", "Grade", "So", "the", "overall", "score", "is", *map(str, range(150))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="Grade"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>")
    space = ScoreSpace.from_labels("0-149", tokenizer)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **shape, initializer_range=0.5, eos_token_id=0))
    decoding = Decoding(do_sample=False, max_new_tokens=4)
    expected = in_order(TransformersEngine(model.eval(), tokenizer, space, decoding).judge(["Grade the score"]), 1)
    with serve(TinyServer(model, tokenizer, extensions=True)) as url:
        engine = ServerEngine(url, MODEL_NAME, tokenizer, space, decoding)
        assert engine.extensions
        (judgment,) = in_order(engine.judge(["Grade the score"]), 1)
    assert judgment.probabilities == pytest.approx(expected[0].probabilities, abs=1e-6)


def test_the_models_own_decoding_defaults_are_overruled():
    server = tiny_server(extensions=True)
    with serve(server) as url:
        list(make_engine(url, extra_body={"priority": 1}).judge(PROMPTS[:1]))
    body = next(body for body in server.bodies if body and body["max_tokens"] == 32)
    assert (body["repetition_penalty"], body["top_k"], body["min_p"], body["priority"]) == (1.0, 0, 0, 1)


def test_requests_run_side_by_side_but_not_too_many():
    server = tiny_server(extensions=True)
    with serve(server) as url:
        list(make_engine(url, max_concurrency=3).judge(ALL_PROMPTS[:8]))
        assert 1 < server.busiest <= 3
        server.busiest = 0
        list(make_engine(url, max_concurrency=1).judge(PROMPTS))
        assert server.busiest == 1


def test_passing_failures_are_retried():
    server = tiny_server()
    with serve(server) as url:
        engine = make_engine(url, max_concurrency=1, max_retries=2)
        calm = in_order(engine.judge(PROMPTS[:1]), 1)
        server.failures += [503, "drop"]
        before = len(server.requests)
        assert in_order(engine.judge(PROMPTS[:1]), 1) == calm
        assert len(server.requests) - before >= 2 + 1 and not server.failures


def test_a_server_that_stays_busy_is_given_up():
    server = tiny_server()
    with serve(server) as url:
        engine = make_engine(url, max_concurrency=1, max_retries=1)
        server.failures += [429] * 9
        with pytest.raises(ConnectionError, match="refused 2 times with status 429: not now. Lower max_concurrency"):
            list(engine.judge(PROMPTS[:1]))
        assert len(server.failures) == 7


def test_no_server_at_all():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ConnectionError, match=rf"no server answers at {url}.*`vllm serve {MODEL_NAME} --port 8000`"):
        make_engine(url, max_retries=0)


def test_a_server_that_is_too_slow():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TimeoutError, match="within the timeout of 0.2 s. Raise timeout"):
            make_engine(f"http://127.0.0.1:{silent.getsockname()[1]}/v1", timeout=0.2)


def test_unknown_models_are_answered_with_the_known_ones():
    with (
        serve(tiny_server()) as url,
        pytest.raises(ValueError, match=f"does not serve 'gpt'. Set it to one of: other, {MODEL_NAME}"),
    ):
        make_engine(url, model="gpt")


def test_the_key_is_sent_and_never_shown(caplog, monkeypatch, capfd):
    caplog.set_level(logging.DEBUG)
    with serve(tiny_server(key=SECRET)) as url:
        with pytest.raises(PermissionError, match="API key is missing.*environment variable OPENAI_API_KEY"):
            make_engine(url)
        with pytest.raises(PermissionError, match="API key was not accepted") as wrong:
            make_engine(url, api_key=f"{SECRET}-wrong")
        monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
        engine = make_engine(url)
        assert in_order(engine.judge(PROMPTS))[0].status == "ok"
    # a server that repeats the key in a refusal of another kind
    server = tiny_server()
    server.answer = lambda path, authorization, body: (418, {"error": {"message": f"I got {authorization}"}})
    with (
        serve(server) as url,
        pytest.raises(ValueError, match=r"status 418. It says: I got Bearer \[redacted\]") as refused,
    ):
        list(make_engine(url, extensions=False).judge(PROMPTS))
    with pytest.raises(ValueError, match="characters that a key cannot have") as broken:
        make_engine(url, api_key=f"{SECRET}\n{SECRET}")
    with pytest.raises(ConnectionError) as unreachable:
        make_engine(url.replace("//", f"//user:{SECRET}@"), max_retries=0)
    shown = [caplog.text, *capfd.readouterr(), repr(engine), str(vars(engine)), str(vars(engine.client._client))]
    for error in (wrong, refused, broken, unreachable):
        shown += [str(error.value), repr(error.value), str(error.value.__cause__)]
    assert SECRET not in "".join(shown)


def test_connections_are_closed_with_their_client():
    client = ServerClient("http://127.0.0.1:9/v1", MODEL_NAME)
    connections = client._client
    assert not connections.is_closed
    del client
    gc.collect()
    assert connections.is_closed


def test_prompts_that_are_too_long():
    long = "Grade it. " * 60
    with serve(tiny_server(context_length=64)) as url:
        engine = make_engine(url)
        with pytest.raises(ValueError, match=r"prompt 1 \(counted from 0\) has \d+ tokens, \d+ too many"):
            engine.check([PROMPTS[0], long])
        chat = make_engine(url, api="chat", decoding={"chat": True})
        chat.check([long])  # what the server adds to it is not known
        fits, refused = in_order(chat.judge([PROMPTS[0], long]), 2)
        assert fits.status == "ok"
        assert (refused.status, refused.expected_score) == ("unscored", None)
        assert re.search(r"too long for the server.*maximum context length is 64.*lower", refused.error)
        cut = make_engine(url, decoding={"truncate_prompts": True, "max_new_tokens": 16})
        (judgment,) = in_order(cut.judge([long]), 1)
        assert judgment.prompt_tokens <= 64 - 16


def test_what_a_server_cannot_do_is_said():
    with (
        serve(tiny_server(with_logprobs=False)) as url,
        pytest.raises(ValueError, match="prompt 0 .*without the log-probabilities"),
    ):
        list(make_engine(url).judge(PROMPTS[:1]))
    with serve(tiny_server(most_logprobs=5)) as url:
        with pytest.raises(ValueError, match="status 400. It says: logprobs: at most 5"):
            list(make_engine(url).judge(PROMPTS[:1]))
        assert in_order(make_engine(url, top_logprobs=5).judge(PROMPTS))
        with pytest.raises(ValueError, match="extensions: .* Set it to false"):
            make_engine(url, extensions=True)
    with (
        serve(tiny_server(extensions=True, processed=True)) as url,
        pytest.raises(ValueError, match="what top-p leaves over. Start it without --logprobs-mode"),
    ):
        make_engine(url)


@pytest.mark.parametrize(
    "message, options",
    [
        ("temperature: got 0.7, but servers", {"decoding": {"temperature": 0.7}}),
        ("api: got 'responses'. Set it to one of: completions, chat", {"api": "responses"}),
        ("chat: a judge without a chat template", {"api": "chat"}),
        ("truncate_prompts: ", {"api": "chat", "decoding": {"chat": True, "truncate_prompts": True}}),
        ("extensions: they need", {"api": "chat", "decoding": {"chat": True}, "extensions": True}),
        ("max_concurrency=0", {"max_concurrency": 0}),
        ("base_url: not an address", {"url": "localhost:8000"}),
    ],
)
def test_impossible_options_are_refused_before_the_server_is_asked(message, options):
    with pytest.raises(ValueError, match=message):
        make_engine(options.pop("url", "http://127.0.0.1:9/v1"), **options)


def test_score_after_a_character_that_spans_tokens():
    """An emoji in two tokens, neither of them valid UTF-8: positions are counted in bytes."""
    face = "😀".encode()
    pieces = [b"Fine", face[:2], face[2:], b". So the overall", b" score is", b" ", b"4"]
    top = [[("4", -0.5), ("3", -1.0), ("4 ", -3.0)] if piece == b"4" else [("x", -1.0)] for piece in pieces]
    content = [
        {
            "token": piece.decode(errors="replace"),
            "bytes": list(piece),
            "logprob": dict(best).get("4", -1.0),
            "top_logprobs": [{"token": name, "logprob": log_prob} for name, log_prob in best],
        }
        for piece, best in zip(pieces, top, strict=True)
    ]
    text = b"".join(pieces).decode()
    choice = {"message": {"content": text}, "logprobs": {"content": content}, "finish_reason": "stop"}
    completion = TopTokens.from_answer({"choices": [choice]})
    location = completion.locate(ScoreSpace.from_labels("1-5", byte_tokenizer()))
    assert location.ok and location.label_index == 3
    assert completion.token_at(location.position) == (6, "")
    assert named_log_probs(completion.top[6], {13: "3", 14: "4", 15: "5"}) == {13: -1.0, 14: -0.5}


def test_tokens_that_look_alike_are_not_told_apart():
    assert named_log_probs([("5", -1.0), ("5", -2.0)], {7: "5"}) == {}
    assert named_log_probs([(" 5", -1.0), ("4", -2.0)], {7: "5", 8: "4"}) == {7: -1.0, 8: -2.0}
