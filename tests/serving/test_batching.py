# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Requests that share batches: each gets its own answer, and none fails for another."""

import threading

import pytest

from real_trl import Judge, TransformersEngine
from real_trl.engines import Decoding
from real_trl.serving.batching import Batcher, Busy, JudgingFailed, PromptTooLong
from tests.helpers.served_judges import save_judge
from tests.tiny import LINES, PROMPT, TOKENIZER, prompt_dataset

SETTINGS = {"do_sample": False, "max_new_tokens": 20}
PROMPTS = ["\n".join([PROMPT, *(LINES[(start + i) % 3] for i in range(n))]) for n in (1, 2, 3) for start in range(3)]


class GatedJudge(Judge):
    """A judge that can be held up, and remembers what it was given."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.batches = []

    def judge(self, prompts, **options):
        self.batches.append(list(prompts))
        self.entered.set()
        assert self.gate.wait(60)
        return super().judge(prompts, **options)

    def hold(self):
        self.gate.clear()
        self.entered.clear()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture
def judge(folder):
    return GatedJudge.from_pretrained(folder, **SETTINGS)


@pytest.fixture
def batcher(judge):
    batcher = Batcher(judge, batch_size=4, max_waiting=12)
    yield batcher
    judge.gate.set()
    batcher.refuse_waiting()
    batcher.join(60)


def go_on(batcher, judge):
    """Let the engine go on when all that has arrived is checked, and so in line for its batch."""
    with batcher._changed:
        assert batcher._changed.wait_for(lambda: not batcher._arrived, 60)
    judge.gate.set()


def occupy(batcher, judge):
    """A request that the engine is held up on."""
    judge.hold()
    first = batcher.submit(PROMPTS[:1])
    assert judge.entered.wait(60)
    return first


def assert_same(judgment, expected):
    assert (judgment.completion, judgment.status) == (expected.completion, expected.status)
    assert judgment.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


def test_what_waits_is_judged_together_and_as_alone(batcher, judge, folder):
    direct = Judge.from_pretrained(folder, **SETTINGS)
    first = occupy(batcher, judge)
    others = [batcher.submit([prompt]) for prompt in PROMPTS[1:]]
    assert batcher.waiting == 8
    go_on(batcher, judge)
    for prompt, future in zip(PROMPTS, [first, *others], strict=True):
        (judgment,) = future.result(60)
        assert_same(judgment, direct.judge([prompt])[0])
    assert judge.batches == [PROMPTS[:1], PROMPTS[1:5], PROMPTS[5:9]]
    assert batcher.waiting == 0


def test_a_request_larger_than_a_batch_comes_back_in_its_order(batcher, folder):
    expected = Judge.from_pretrained(folder, **SETTINGS).judge(PROMPTS)
    for judgment, each in zip(batcher.submit(PROMPTS).result(60), expected, strict=True):
        assert_same(judgment, each)


def test_a_prompt_that_is_too_long_fails_alone(batcher, judge):
    first = occupy(batcher, judge)
    bad = batcher.submit([PROMPTS[1], f"{PROMPT} right" * 200])
    good = batcher.submit([PROMPTS[2]])
    go_on(batcher, judge)
    with pytest.raises(PromptTooLong, match=r"prompt 1 \(counted from 0\) has .* too many"):
        bad.result(60)
    assert first.result(60) and good.result(60)
    assert judge.batches == [[PROMPTS[0]], [PROMPTS[2]]]


class FailingEngine(TransformersEngine):
    """An engine that a certain prompt breaks."""

    def judge(self, prompts, seed=None):
        if PROMPTS[2] in prompts:
            raise RuntimeError("out of memory")
        return super().judge(prompts, seed)


def test_a_prompt_that_breaks_the_engine_fails_alone(judge, caplog):
    engine = judge.engine
    judge.engine = FailingEngine(engine.model, TOKENIZER, engine.score_space, Decoding(**SETTINGS))
    batcher = Batcher(judge, batch_size=4, max_waiting=12)
    first = occupy(batcher, judge)
    futures = [batcher.submit([prompt]) for prompt in PROMPTS[1:4]]
    go_on(batcher, judge)
    assert first.result(60) and futures[0].result(60) and futures[2].result(60)
    with pytest.raises(JudgingFailed, match=r"\(RuntimeError\); the server's log says why"):
        futures[1].result(60)
    assert "out of memory" in caplog.text
    assert batcher.submit([PROMPTS[4]]).result(60)  # it goes on
    batcher.drain()
    batcher.join(60)


def test_an_engine_that_cannot_be_reached_is_not_asked_for_every_row(judge):
    def unreachable(prompts, seed=None):
        raise ConnectionError("base_url: no server answers")

    judge.engine.judge = unreachable
    batcher = Batcher(judge, batch_size=4, max_waiting=12)
    first = occupy(batcher, judge)
    futures = [first, *(batcher.submit([prompt]) for prompt in PROMPTS[1:4])]
    go_on(batcher, judge)
    for future in futures:
        with pytest.raises(JudgingFailed, match="ConnectionError"):
            future.result(60)
    assert len(judge.batches) == 2
    batcher.drain()
    batcher.join(60)


def test_a_row_that_takes_too_long_fails_alone(judge):
    judge_all = judge.engine.judge

    def slow(prompts, seed=None):
        if PROMPTS[2] in prompts:
            raise TimeoutError("the answer took longer than 60 s")
        return judge_all(prompts, seed)

    judge.engine.judge = slow
    batcher = Batcher(judge, batch_size=8, max_waiting=12)
    first = occupy(batcher, judge)
    futures = [batcher.submit(PROMPTS[1:2]), batcher.submit(PROMPTS[2:5]), batcher.submit(PROMPTS[5:6])]
    go_on(batcher, judge)
    assert first.result(60) and futures[0].result(60) and futures[2].result(60)
    with pytest.raises(JudgingFailed, match="TimeoutError"):
        futures[1].result(60)
    # Its other rows are of no use any more
    assert judge.batches[2:] == [PROMPTS[1:2], PROMPTS[2:3], PROMPTS[5:6]]
    batcher.drain()
    batcher.join(60)


def test_too_many_are_refused_and_let_in_again(batcher, judge):
    first = occupy(batcher, judge)
    waiting = [batcher.submit(PROMPTS[:6]), batcher.submit(PROMPTS[:6])]
    with pytest.raises(Busy, match="12 prompts are waiting, of at most 12") as refused:
        batcher.submit(PROMPTS[:1])
    assert refused.value.retry_after >= 1
    go_on(batcher, judge)
    assert all(future.result(60) for future in [first, *waiting])
    assert batcher.submit(PROMPTS[:1]).result(60)


def test_what_nobody_waits_for_is_not_judged(batcher, judge):
    first = occupy(batcher, judge)
    gone, kept = batcher.submit(PROMPTS[:8]), batcher.submit(PROMPTS[8:])
    assert gone.cancel() and batcher.waiting == 1  # its place is free at once
    go_on(batcher, judge)
    assert first.result(60) and kept.result(60)
    assert judge.batches == [PROMPTS[:1], PROMPTS[8:]]


def test_drained_it_finishes_everything(batcher, judge):
    first, waiting = occupy(batcher, judge), batcher.submit(PROMPTS)
    batcher.drain()
    with pytest.raises(Busy, match="shutting down"):
        batcher.submit(PROMPTS[:1])
    go_on(batcher, judge)
    batcher.join(60)
    assert len(first.result(0)) == 1 and len(waiting.result(0)) == 9 and not batcher.ready


def test_what_waits_is_refused_and_the_batch_under_way_finished(batcher, judge):
    first, waiting = occupy(batcher, judge), batcher.submit(PROMPTS)
    batcher.refuse_waiting()
    with pytest.raises(Busy, match="shutting down"):
        waiting.result(60)
    go_on(batcher, judge)
    batcher.join(60)
    assert len(first.result(0)) == 1 and judge.batches == [PROMPTS[:1]]


def test_sampled_batches_have_seeds_of_their_own(folder):
    prompts = prompt_dataset([1.0])["prompt"][:]

    def answers():
        batcher = Batcher(Judge.from_pretrained(folder, max_new_tokens=20), batch_size=4, max_waiting=12, seed=3)
        judged = [batcher.submit(prompts).result(60)[0].completion for _ in range(6)]
        batcher.drain()
        batcher.join(60)
        return judged

    once = answers()
    assert len(set(once)) > 1 and once == answers()
