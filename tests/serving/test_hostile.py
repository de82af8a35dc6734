# Copyright 2026 The real_trl authors
# SPDX-License-Identifier: Apache-2.0
"""Clients that say nothing, too little or far too much: they get their share and no more, and nobody else notices."""

import gc
import json
import re
import resource
import socket
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import httpx
import pytest

from benchmarks import serve as benchmark
from real_trl.serving import connections
from real_trl.serving.app import Limits
from real_trl.serving.batching import Batcher, PromptTooLong
from tests.helpers.served_judges import save_judge
from tests.serving.test_batching import PROMPTS, SETTINGS, GatedJudge, occupy
from tests.serving.test_serve import ROWS, service

HALF = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Ty"
BODY = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture
def judge(folder):
    return GatedJudge.from_pretrained(folder, **SETTINGS)


def connect(client, sent=b""):
    opened = socket.create_connection((client.base_url.host, client.base_url.port))
    opened.settimeout(30)
    if sent:
        opened.sendall(sent)
    return opened


def received(opened):
    """Everything that comes until the other side closes; a connection that is cut has sent nothing."""
    try:
        return b"".join(iter(lambda: opened.recv(4096), b""))
    except ConnectionResetError:
        return b""


def test_who_says_nothing_or_half_a_head_is_closed(folder):
    with service(folder, head_timeout=0.5) as (_, client):
        silent, half, after = connect(client), connect(client, HALF), connect(client)
        after.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in after.recv(4096)
        after.sendall(HALF)  # uvicorn's own timeout ends with the first byte
        assert received(silent) == b""
        for opened in (half, after):
            answer = received(opened)
            assert b" 408 " in answer and b"the head of a request did not arrive within 0.5 s" in answer
        # Nobody is cut off whose answer takes longer than that
        assert client.post("/score", json=ROWS[0]).status_code == 200


def test_a_kept_connection_outlives_the_pools_of_clients(folder):
    """httpx keeps a connection for 5 s: closed by the service at the same moment, the request that comes then is lost."""
    with service(folder, head_timeout=0.5) as (_, client):
        kept = HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
        for _ in range(2):
            kept.request("GET", "/health")
            assert kept.getresponse().read()
            time.sleep(5.3)
        opened = kept.sock
        kept.request("GET", "/health")
        assert kept.getresponse().status == 200 and kept.sock is opened
        kept.close()


def test_a_full_garbage_collection_does_not_look_at_what_was_loaded(folder):
    """With a judge and its libraries that takes a second, in which nobody is answered."""
    gc.unfreeze()  # what earlier services left alone
    loaded = len(gc.get_objects())
    with service(folder):
        assert len(gc.get_objects()) < loaded / 10 < gc.get_freeze_count()
    gc.unfreeze()


def test_many_that_owe_a_request_are_closed_for_one_that_sends_it(folder):
    with service(folder, Limits(), max_connections=8) as (_, client):
        assert client.get("/health").status_code == 200  # this connection is kept
        crowd = [connect(client, sent) for sent in (b"", HALF, BODY % 500 + b"{") for _ in range(10)]
        time.sleep(0.5)  # what has only just come is not closed
        for _ in range(5):
            started = time.monotonic()
            assert httpx.get(f"{client.base_url}/health", timeout=20).status_code == 200
            assert time.monotonic() - started < 5
        with ThreadPoolExecutor(6) as pool:
            url = f"{client.base_url}/score"
            futures = [pool.submit(httpx.post, url, json=row, timeout=60) for row in ROWS * 2]
            assert [future.result().status_code for future in futures] == [200] * 6
        assert received(crowd[0]) == b""  # the first that came has gone
        for opened in crowd:
            opened.close()


def test_where_all_are_being_worked_on_a_new_connection_gets_503(folder):
    with service(folder, Limits(), max_connections=2) as (judge, client), ThreadPoolExecutor(2) as pool:
        judge.hold()
        came, check = threading.Semaphore(0), judge.engine.check
        judge.engine.check = lambda prompts: (came.release(), check(prompts))
        futures = [pool.submit(httpx.post, f"{client.base_url}/score", json=row, timeout=60) for row in ROWS[:2]]
        assert judge.entered.wait(60) and came.acquire(timeout=60) and came.acquire(timeout=60)
        with connect(client) as opened:
            answer = received(opened)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"Retry-After: 1" in head
        assert "2 connections have requests that are being worked on" in json.loads(body)["error"]["message"]
        judge.gate.set()
        assert [future.result().status_code for future in futures] == [200, 200]


def test_no_more_connections_than_open_files(monkeypatch, caplog):
    set_to = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_to.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 200))
    possible = connections.possible_connections(512)
    assert 1 <= possible < 200 - connections.ACCEPTED_AT_ONCE and set_to == [(200, 200)]
    assert f"max_connections: got 512, but only {possible} are possible with the 200 open files" in caplog.text
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200, 100_000))
    assert connections.possible_connections(512) == 512 and set_to[-1][0] > 512


def test_a_prompt_of_too_many_bytes_never_meets_the_tokenizer(folder):
    with service(folder, Limits(max_prompt_bytes=2000)) as (judge, client):
        asked, check = [], judge.engine.check
        judge.engine.check = lambda prompts: asked.append(prompts) or check(prompts)
        error = client.post("/score", json={"rows": [ROWS[0], {**ROWS[0], "response": "é" * 1000}]})
        assert error.status_code == 413 and error.json()["error"]["field"] == "rows[1].prompt"
        assert "bytes, and at most 2000 are read (max_prompt_bytes; the model reads " in error.text
        assert not asked
    with service(folder, Limits()) as (judge, client):
        limit = 32 * judge.engine.context_length
        error = client.post("/score", json={**ROWS[0], "response": "right " * (limit // 6)})
        assert error.status_code == 413 and f"at most {limit} are read" in error.text


def test_a_prompt_that_takes_long_to_be_checked_keeps_nobody_waiting(judge):
    """Neither short ones, nor longer ones that come later, nor the batch under way."""
    batcher = Batcher(judge, batch_size=4, max_waiting=30)
    check, entered, gate, order = judge.engine.check, threading.Event(), threading.Event(), []

    def slow(prompts):
        if len(prompts[0]) > 50_000:
            order.append(len(prompts[0]))
            entered.set()
            assert gate.wait(60)
        check(prompts)

    judge.engine.check = slow
    huge = batcher.submit(["right " * 100_000] * 3)
    assert entered.wait(60)
    large = batcher.submit(["right " * 20_000])
    assert len(batcher.submit(PROMPTS).result(60)) == len(PROMPTS)
    assert not huge.done() and not large.done()
    gate.set()
    for future in (huge, large):
        with pytest.raises(PromptTooLong):
            future.result(60)
    assert order == [600_000, 120_000]  # one that is refused is not looked at any further
    batcher.drain()
    batcher.join(60)


def test_what_was_given_up_holds_no_memory_while_the_engine_is_busy(judge):
    batcher = Batcher(judge, batch_size=4, max_waiting=12)
    check = judge.engine.check
    judge.engine.check = lambda prompts: None if len(prompts[0]) > 10_000 else check(prompts)
    first = occupy(batcher, judge)
    tracemalloc.start()
    for number in range(100):
        assert batcher.submit([f"{number}" + "x" * 1_000_000]).cancel()
    assert batcher.waiting == 0 and tracemalloc.get_traced_memory()[0] < 10_000_000
    tracemalloc.stop()
    judge.gate.set()
    assert first.result(60)
    batcher.drain()
    batcher.join(60)


def test_bodies_that_wait_are_bounded_in_bytes(folder):
    limits = Limits(max_body_bytes=200_000, max_held_bytes=250_000, body_timeout=60)
    with service(folder, limits) as (_, client):
        slow = connect(client, BODY % 200_000 + b" " * 199_999)
        end = time.monotonic() + 30
        while (answer := client.post("/score", content=b" " * 150_000)).status_code != 503:
            assert time.monotonic() < end
        assert answer.headers["Retry-After"] == "1" and answer.json()["error"]["field"] == "body"
        assert re.search(r"take \d+ bytes, of at most 250000", answer.json()["error"]["message"])
        assert client.post("/score", json=ROWS[0]).status_code == 200
        slow.sendall(b" ")
        assert b" 400 " in slow.recv(4096)  # answered, it makes room
        slow.close()
        assert client.post("/score", content=b" " * 150_000).status_code == 415


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b'{"rows":[' + b",".join([b"1"] * 100_000) + b"]}", 413, "got 100000, the limit is 64"),
        (b'{"rows":[' + b",".join([b"{}"] * 100_000) + b"]}", 413, "got 100000, the limit is 64"),
        (b"{" + b",".join(b'"k%d":1' % i for i in range(50_000)) + b"}", 422, "the request has 50000 fields"),
        (b'{"rows":[{' + b",".join(b'"k%d":1' % i for i in range(50_000)) + b"}]}", 422, "rows[0] has 50000 fields"),
        (b'{"' + b"k" * 500_000 + b'":"1"}', 422, "this judge's prompt reads"),
        (b"[" * 500_000, 400, "recursion limit exceeded"),
        (b"1" * 500_000, 400, "not valid JSON"),
    ],
)
def test_what_has_too_many_parts_is_refused_before_they_are_looked_at(open_service, body, status, message):
    answer = open_service.post("/score", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status and message in answer.json()["error"]["message"]
    assert len(answer.content) < 2000


@pytest.fixture(scope="module")
def open_service(folder):
    with service(folder, Limits()) as (_, client):
        yield client


def test_no_health_check_waits_for_a_body(folder):
    with service(folder, Limits(max_body_bytes=2000), key="a-key") as (_, client), connect(client) as opened:
        opened.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b" 200 " in opened.recv(4096)


@pytest.mark.slow
def test_clients_beside_hostile_ones(folder, tmp_path, capsys):
    """The benchmark, shortly: no wrong answer, none that is lost, and `/health` goes on."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    options = "--hostile --clients 16 --seconds 5 --warm_seconds 0.5 --health_seconds 10 --json"
    benchmark.main(["--judge", str(folder), "--rows", str(rows), *options.split()])
    (run,) = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert run["answers"] > 0 and not run["errors"] and not run["wrong"]
    assert {"one prompt: 413", "many rows: 413"} <= run["hostile"]["large"].keys()
